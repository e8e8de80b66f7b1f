//! The right to be forgotten. Free texts are searched whole: it happens seldom, and nothing may be left.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::order::values::OrderKey;
use crate::ports::audit::Act;
use crate::ports::erasure::{Erasure, Hindrance};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::db::{Db, Sql, Tx, Value};
use super::gone::{NOTED, finished, gone_order, note, of_key};
use super::ledger::SqlStore;
use super::retention::EMPTY_MAIL;
use super::rows;

/// What stands in place of a text that was erased.
const ERASED: &str = "(erased)";
/// Columns of text in which an ERP, a server or a person may have written who somebody is.
const FREE_TEXTS: [(&str, &[&str]); 9] = [
    ("audit", &["reason", "was", "became"]),
    ("dead_letters", &["detail", "headers", "resolution"]),
    ("failure_groups", &["message", "note"]),
    ("redrive_items", &["why", "error_message"]),
    ("redrives", &["selection", "known", "why", "reason"]),
    ("circuits", &["reason"]),
    ("channel_messages", &["error"]),
    ("channel_states", &["error"]),
    ("mail_deliveries", &["error"]),
];

#[async_trait]
impl<D: Db> Erasure for SqlStore<D> {
    async fn orders_of_customer(&self, customer: &str) -> Result<Vec<OrderKey>, StoreError> {
        let sql = "SELECT shop, order_id FROM orders WHERE customer_number = $1
            UNION
            SELECT shop, order_id FROM orders WHERE customer_email = $1
            ORDER BY 1, 2";
        let rows = self.db.read(&sql.into(), sql_args![customer]).await?;
        rows.into_iter().map(|mut row| rows::order_key(&mut row)).collect()
    }

    async fn hindrance(
        &self,
        order: Option<&OrderKey>,
        spellings: &[String],
    ) -> Result<Option<Hindrance>, StoreError> {
        if let Some(key) = order {
            for (sql, hindrance) in
                [(WAITING, Hindrance::WaitingMail), (TWICE, Hindrance::EnteredTwice)]
            {
                if !self.db.read(&sql.into(), of_key(key)).await?.is_empty() {
                    return Ok(Some(hindrance));
                }
            }
        }
        let sql = format!(
            "SELECT id FROM dead_letters WHERE status = 'open' AND {} LIMIT 1",
            D::BODY_HOLDS
        );
        for text in spellings {
            let mut found = self.db.read(&Sql::Built(sql.clone()), bytes_of(text)).await?;
            if let Some(mut row) = found.pop() {
                return Ok(Some(Hindrance::OpenDeadLetter(row.text("id")?)));
            }
        }
        Ok(None)
    }

    async fn erase_texts(&self, spellings: &[String], _: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let mut rows = 0;
        for text in spellings {
            for table in ["dead_letters", "idempotency_keys"] {
                rows += erase_bodies::<D>(&mut tx, table, text).await?;
            }
            for (table, columns) in FREE_TEXTS {
                rows += erase_texts_in(&mut tx, table, columns, text).await?;
            }
        }
        tx.commit().await?;
        Ok(rows)
    }

    async fn erase_order(&self, order: &OrderKey, act: &Act) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        tx.lock(std::slice::from_ref(order)).await?;
        let sql = format!(
            "SELECT {NOTED}
            FROM order_states AS s
            JOIN orders AS o ON o.shop = s.shop AND o.order_id = s.order_id
            WHERE s.shop = $1 AND s.order_id = $2 AND {}",
            finished("TRUE")
        );
        let found = tx.fetch(&Sql::Built(sql), of_key(order)).await?;
        if found.is_empty() {
            return Ok(gone_order(&mut tx, order)
                .await?
                .is_some_and(|gone| gone.gone_at.is_some()));
        }
        let mails = "SELECT mail_id FROM notices
              WHERE shop = $1 AND order_id = $2 AND mail_id IS NOT NULL
            UNION
            SELECT p.mail_id FROM mail_parts AS p JOIN notices AS n ON n.id = p.notice_id
              WHERE n.shop = $1 AND n.order_id = $2";
        for mut row in tx.fetch(&mails.into(), of_key(order)).await? {
            let mail = row.text("mail_id")?;
            for sql in EMPTY_MAIL {
                tx.execute(&sql.into(), sql_args![&mail]).await?;
            }
        }
        for sql in OF_ONE_ORDER {
            tx.execute(&sql.into(), of_key(order)).await?;
        }
        note(&mut tx, found, "erased").await?;
        insert_audit(&mut tx, act, "order.erase", &order.to_string(), Some(order), None).await?;
        tx.commit().await?;
        Ok(true)
    }
}

const WAITING: &str = "SELECT n.id FROM notices AS n
    LEFT JOIN mails AS m ON m.id = n.mail_id
    WHERE n.shop = $1 AND n.order_id = $2 AND (n.mail_id IS NULL OR m.status = 'waiting')
    UNION ALL
    SELECT c.notice_id FROM channel_notices AS c
    JOIN notices AS n ON n.id = c.notice_id
    LEFT JOIN channel_messages AS m ON m.id = c.message_id
    WHERE n.shop = $1 AND n.order_id = $2
      AND (c.message_id IS NULL AND c.below_at_ms IS NULL OR m.status = 'waiting')
    LIMIT 1";

const TWICE: &str = "SELECT e.number FROM second_entries AS e
    WHERE e.shop = $1 AND e.order_id = $2 AND NOT EXISTS (
      SELECT 1 FROM settled_entries AS t
      WHERE t.shop = e.shop AND t.order_id = e.order_id AND t.number = e.number)
    LIMIT 1";

/// What else is about one order; what was told in a channel goes whole.
const OF_ONE_ORDER: [&str; 3] = [
    "UPDATE audit SET reason = '(erased)', was = NULL, became = NULL
    WHERE shop = $1 AND order_id = $2",
    "DELETE FROM channel_messages
    WHERE id IN (
      SELECT c.message_id FROM channel_notices AS c JOIN notices AS n ON n.id = c.notice_id
      WHERE n.shop = $1 AND n.order_id = $2)",
    "UPDATE redrive_items SET why = NULL, error_message = NULL
    WHERE shop = $1 AND order_id = $2",
];

fn bytes_of(text: &str) -> Vec<Value> {
    vec![text.as_bytes().into()]
}

async fn erase_bodies<D: Db>(tx: &mut D::Tx, table: &str, text: &str) -> Result<u64, StoreError> {
    let sql = match table {
        "dead_letters" => format!(
            "UPDATE dead_letters SET body = $2 WHERE status <> 'open' AND {}",
            D::BODY_HOLDS
        ),
        _ => {
            format!("DELETE FROM {table} WHERE body IS NOT NULL AND $2 = $2 AND {}", D::BODY_HOLDS)
        }
    };
    let mut args = bytes_of(text);
    args.extend(bytes_of(ERASED));
    tx.execute(&Sql::Built(sql), args).await
}

async fn erase_texts_in<T: Tx>(
    tx: &mut T,
    table: &str,
    columns: &[&str],
    text: &str,
) -> Result<u64, StoreError> {
    let set: Vec<_> = columns.iter().map(|c| format!("{c} = REPLACE({c}, $1, $2)")).collect();
    let has: Vec<_> = columns.iter().map(|c| format!("REPLACE({c}, $1, $2) <> {c}")).collect();
    let sql = format!("UPDATE {table} SET {} WHERE {}", set.join(", "), has.join(" OR "));
    tx.execute(&Sql::Built(sql), sql_args![text, ERASED]).await
}
