//! Taking what is old out of the ledger, in small pieces. What was taken is counted in the transaction that takes it,
//! so `ledger check` adds up at every moment.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::order::values::OrderKey;
use crate::domain::retention::OldKind;
use crate::ports::audit::Act;
use crate::ports::retention::{Deleted, GoneOrder, RemovalCount, Retention};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::db::{Db, Sql, Tx, Value};
use super::gone::{
    GONE_ORDER, NOTED, count_removed, delete_noted, finished, keys_as_json, note, of_key, read_gone,
};
use super::ledger::SqlStore;
use super::rows;

#[async_trait]
impl<D: Db> Retention for SqlStore<D> {
    async fn count_old(&self, kind: OldKind, before: Timestamp) -> Result<u64, StoreError> {
        let sql = match kind.phase() {
            Some(phase) => format!(
                "SELECT COUNT(*) FROM order_states AS s WHERE s.updated_at_ms < $1 AND {}",
                finished(&format!("s.phase = '{phase}'"))
            ),
            None => format!("SELECT COUNT(*) FROM {}", old_rows(kind)),
        };
        let rows = self.db.read(&Sql::Built(sql), sql_args![before]).await?;
        rows::only(rows)?.number("count")
    }

    async fn note_old_orders(
        &self,
        kind: OldKind,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let Some(phase) = kind.phase() else { return Ok(0) };
        let sql = format!(
            "SELECT {NOTED}
            FROM order_states AS s
            JOIN orders AS o ON o.shop = s.shop AND o.order_id = s.order_id
            WHERE s.updated_at_ms >= $2 AND s.updated_at_ms < $1 AND {}
              AND NOT EXISTS (
                SELECT 1 FROM gone_orders AS g WHERE g.shop = s.shop AND g.order_id = s.order_id)
            ORDER BY s.updated_at_ms, s.shop, s.order_id
            LIMIT $3",
            finished(&format!("s.phase = '{phase}'"))
        );
        let since = self.looked_through(kind).await?;
        let mut tx = self.db.begin().await?;
        let old = tx.fetch(&Sql::Built(sql), sql_args![before, since, limit]).await?;
        // The next round begins at the beginning: what could not go in this one may go then.
        let (noted, last) = note(&mut tx, old, kind.as_str()).await?;
        let mark = Timestamp::from_millisecond(last).unwrap_or(Timestamp::UNIX_EPOCH);
        set_mark(&mut tx, kind, mark).await?;
        tx.commit().await?;
        Ok(noted)
    }

    async fn delete_noted_orders(&self, limit: u32, now: Timestamp) -> Result<Deleted, StoreError> {
        delete_noted(&self.db, limit, now).await
    }

    async fn delete_old(
        &self,
        kind: OldKind,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let removed = match kind {
            OldKind::Confirmed | OldKind::Removed => 0,
            OldKind::Exchanges => self.delete_exchanges(&mut tx, before, limit).await?,
            OldKind::Mails => {
                let mails = self.empty_mails(&mut tx, before, limit).await?;
                mails + delete_some(&mut tx, MESSAGES, before, limit).await?
            }
            OldKind::Audit => delete_some(&mut tx, AUDIT, before, limit).await?,
            OldKind::DeadLetters => delete_some(&mut tx, DEAD_LETTERS, before, limit).await?,
        };
        if removed > 0 {
            count_removed(&mut tx, kind.as_str(), removed, now).await?;
        }
        tx.commit().await?;
        Ok(removed)
    }

    async fn removals(&self) -> Result<Vec<RemovalCount>, StoreError> {
        let sql = "SELECT kind, removed, last_ms FROM removals ORDER BY kind";
        let rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.into_iter()
            .map(|mut row| {
                row.table = "removals";
                let (kind, removed) = (row.id("kind")?, row.number("removed")?);
                Ok(RemovalCount { kind, removed, last: row.time("last_ms")? })
            })
            .collect()
    }

    async fn note_removal(
        &self,
        act: &Act,
        action: &str,
        became: String,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let change = Some((String::new(), became));
        insert_audit(&mut tx, act, action, "retention", None, change).await?;
        tx.commit().await
    }

    async fn gone_order(&self, key: &OrderKey) -> Result<Option<GoneOrder>, StoreError> {
        let rows = self.db.fetch(&GONE_ORDER.into(), of_key(key)).await?;
        rows.into_iter().map(read_gone).next().transpose()
    }
}

/// A table of which old rows are deleted: its name, its key, and which rows are older than $1.
type OldRows = (&'static str, &'static str);

const MESSAGES: OldRows = ("channel_messages", "status <> 'waiting' AND created_at_ms < $1");
const AUDIT: OldRows = ("audit", "at_ms < $1");
const DEAD_LETTERS: OldRows = ("dead_letters", "status <> 'open' AND last_seen_ms < $1");
/// Mails that everybody has got or will not get, with their content.
const FULL_MAILS: &str =
    "status <> 'waiting' AND created_at_ms < $1 AND text_body <> '(no longer kept)'";

/// What is old of a kind that is not about whole orders.
fn old_rows(kind: OldKind) -> String {
    let all = |(table, condition): OldRows| format!("{table} WHERE {condition}");
    match kind {
        OldKind::Mails => format!(
            "(SELECT id FROM mails WHERE {FULL_MAILS} UNION ALL SELECT id FROM {}) AS old",
            all(MESSAGES)
        ),
        OldKind::Audit => all(AUDIT),
        OldKind::DeadLetters => all(DEAD_LETTERS),
        OldKind::Exchanges | OldKind::Confirmed | OldKind::Removed => "exchanges AS e
            JOIN order_states AS s ON s.shop = e.shop AND s.order_id = e.order_id
            WHERE s.state = 'confirmed' AND s.updated_at_ms < $1"
            .to_owned(),
    }
}

async fn delete_some<T: Tx>(
    tx: &mut T,
    (table, condition): OldRows,
    before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = format!(
        "DELETE FROM {table}
        WHERE id IN (SELECT id FROM {table} WHERE {condition} LIMIT $2)"
    );
    tx.execute(&Sql::Built(sql), sql_args![before, limit]).await
}

fn mark_name(kind: OldKind) -> Value {
    format!("retention.{}", kind.as_str()).into()
}

async fn set_mark<T: Tx>(tx: &mut T, kind: OldKind, until: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE ledger_marks SET at_ms = $2 WHERE name = $1";
    tx.execute(&sql.into(), vec![mark_name(kind), until.into()]).await.map(drop)
}

impl<D: Db> SqlStore<D> {
    /// Up to where that kind was looked through.
    async fn looked_through(&self, kind: OldKind) -> Result<Timestamp, StoreError> {
        let sql = "SELECT at_ms FROM ledger_marks WHERE name = $1";
        let mut rows = self.db.fetch(&sql.into(), vec![mark_name(kind)]).await?;
        let mark = rows.pop().map(|mut row| row.time("at_ms")).transpose()?;
        Ok(mark.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Exchanges of finished orders that did not change since `before`.
    async fn delete_exchanges(
        &self,
        tx: &mut D::Tx,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = "SELECT s.shop, s.order_id, s.updated_at_ms
            FROM order_states AS s
            WHERE s.updated_at_ms >= $2 AND s.updated_at_ms < $1 AND s.state = 'confirmed'
              AND EXISTS (
                SELECT 1 FROM exchanges AS e WHERE e.shop = s.shop AND e.order_id = s.order_id)
            ORDER BY s.updated_at_ms, s.shop, s.order_id
            LIMIT $3";
        let since = self.looked_through(OldKind::Exchanges).await?;
        let mut keys = Vec::new();
        let mut last = before;
        for mut row in tx.fetch(&sql.into(), sql_args![before, since, limit]).await? {
            keys.push(rows::order_key(&mut row)?);
            last = row.time("updated_at_ms")?;
        }
        set_mark(tx, OldKind::Exchanges, last).await?;
        let sql = format!("DELETE FROM exchanges WHERE (shop, order_id) IN ({})", D::KEYS);
        tx.execute(&Sql::Built(sql), sql_args![keys_as_json(keys.iter())?]).await
    }

    /// Empties mails; one without notices is deleted. The others are what `ledger check` holds against the failures of
    /// orders that are still there.
    async fn empty_mails(
        &self,
        tx: &mut D::Tx,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT id FROM mails
            WHERE created_at_ms >= $2 AND {FULL_MAILS}
            ORDER BY created_at_ms
            LIMIT $3"
        );
        let since = self.looked_through(OldKind::Mails).await?;
        let mut ids = Vec::new();
        for mut row in tx.fetch(&Sql::Built(sql), sql_args![before, since, limit]).await? {
            ids.push(row.text("id")?);
        }
        for id in &ids {
            for sql in EMPTY_MAIL {
                tx.execute(&(*sql).into(), sql_args![id]).await?;
            }
        }
        if ids.is_empty() {
            // One that still waits is looked at again.
            let waits = "SELECT MIN(created_at_ms) FROM mails WHERE status = 'waiting'";
            let mut row = rows::only(tx.fetch(&waits.into(), Vec::new()).await?)?;
            let until = row.time_or_null("created_at_ms")?.map_or(before, |at| at.min(before));
            set_mark(tx, OldKind::Mails, until).await?;
        }
        Ok(ids.len() as u64)
    }
}

/// Takes the content out of a mail, and the address of a customer.
pub(super) const EMPTY_MAIL: [&str; 4] = [
    "UPDATE mails
    SET subject = '(no longer kept)', text_body = '(no longer kept)', html_body = '(no longer kept)',
      attachment = NULL,
      receivers = CASE kind WHEN 'customer_confirmation' THEN '[]' ELSE receivers END
    WHERE id = $1",
    "DELETE FROM mail_deliveries
    WHERE mail_id = $1
      AND EXISTS (SELECT 1 FROM mails WHERE id = $1 AND kind = 'customer_confirmation')",
    "DELETE FROM mail_parts WHERE mail_id = $1",
    "DELETE FROM mails WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM notices WHERE mail_id = $1)",
];
