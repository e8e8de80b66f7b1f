//! One order as people see it and change it; every change writes an audit row in the same transaction.

use async_trait::async_trait;

use crate::domain::lifecycle::transitions::{InvalidTransition, OrderRecord};
use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::order::values::OrderKey;
use crate::ports::audit::Act;
use crate::ports::notices::StoredMail;
use crate::ports::order_desk::{Attempt, OrderDesk, OrderDetail, OrderRecords, Revisions};
use crate::ports::second_entries::SecondEntries;
use crate::ports::store_error::StoreError;
use crate::ports::total_differences::TotalDifferences;
use crate::sql_args;

use super::audit::insert_audit;
use super::batch::Batch;
use super::db::{Db, Sql, Tx, Value};
use super::ledger::SqlStore;
use super::rows::{self, ATTEMPT_COLUMNS, MAIL_COLUMNS, ORDER_COLUMNS, ROWS_AT_ONCE, these_orders};

#[async_trait]
impl<D: Db> OrderDesk for SqlStore<D> {
    async fn order(&self, key: &OrderKey) -> Result<Option<OrderDetail>, StoreError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS}, source, document
            FROM order_rows
            WHERE shop = $1 AND order_id = $2"
        );
        let Some(mut row) = self.db.fetch(&Sql::Built(sql), of(key)).await?.pop() else {
            return Ok(None);
        };
        let record = rows::order_record(&mut row)?;
        let source = row.text("source")?;
        let document = row.text("document")?.into();
        let attempts = format!(
            "SELECT {ATTEMPT_COLUMNS}
            FROM order_attempts
            WHERE shop = $1 AND order_id = $2
            ORDER BY attempt, outcome"
        );
        let exchanges = "SELECT attempt, at_ms, step, question, method, url, request_headers,
              request_body, http_status, stage, meaning, message, reply, duration_ms
            FROM exchanges
            WHERE shop = $1 AND order_id = $2
            ORDER BY attempt, at_ms, worker, seq
            LIMIT 1000";
        let conflicts = "SELECT document, received_at_ms, source
            FROM conflicts
            WHERE shop = $1 AND order_id = $2
            ORDER BY received_at_ms";
        let audit = "SELECT at_ms, actor, came_from, action, target, reason, was, became
            FROM audit
            WHERE shop = $1 AND order_id = $2
            ORDER BY at_ms, id";
        let mails = format!(
            "SELECT {MAIL_COLUMNS}
            FROM mail_rows
            WHERE id IN (
              SELECT mail_id FROM notices WHERE shop = $1 AND order_id = $2
              UNION ALL
              SELECT p.mail_id
              FROM notices AS n
              JOIN mail_parts AS p ON p.notice_id = n.id
              WHERE n.shop = $1 AND n.order_id = $2)
            ORDER BY created_at_ms, id"
        );
        let attempts = self.db.fetch(&Sql::Built(attempts), of(key)).await?;
        let exchanges = self.db.fetch(&exchanges.into(), of(key)).await?;
        let conflicts = self.db.fetch(&conflicts.into(), of(key)).await?;
        let audit = self.db.fetch(&audit.into(), of(key)).await?;
        let mails = self.db.fetch(&Sql::Built(mails), of(key)).await?;
        let mails: Result<Vec<StoredMail>, _> = mails.into_iter().map(rows::stored_mail).collect();
        let mut mails = mails?;
        mails.retain(|mail| !mail.is_only_in_parts());
        let revisions = self.revisions(key).await?;
        let second_entries = self.second_entries(key).await?;
        let total_differences = self.total_differences(key).await?;
        Ok(Some(OrderDetail {
            record,
            document,
            revisions,
            source,
            second_entries,
            total_differences,
            attempts: attempts.into_iter().map(rows::attempt).collect::<Result<_, _>>()?,
            exchanges: exchanges.into_iter().map(rows::exchange).collect::<Result<_, _>>()?,
            conflicts: conflicts.into_iter().map(rows::conflict).collect::<Result<_, _>>()?,
            mails,
            audit: audit.into_iter().map(rows::audit_entry).collect::<Result<_, _>>()?,
        }))
    }

    async fn find_orders(&self, order_id: &str) -> Result<Vec<OrderKey>, StoreError> {
        // By the primary key, shop by shop: there are few of those, and no index on the number alone.
        let sql = "SELECT o.shop, o.order_id
            FROM (SELECT DISTINCT shop FROM tallies) AS s
            JOIN orders AS o ON o.shop = s.shop AND o.order_id = $1
            ORDER BY o.shop
            LIMIT 20";
        let mut rows = self.db.fetch(&sql.into(), sql_args![order_id]).await?;
        rows.iter_mut().map(rows::order_key).collect()
    }

    async fn remove_order(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError> {
        self.change(key, act, "order.remove", |record| record.remove(act.now)).await
    }

    async fn restore_order(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError> {
        self.change(key, act, "order.restore", |record| record.restore(act.now)).await
    }

    async fn declare_absent(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError> {
        self.change(key, act, "order.declare_absent", |record| record.declare_absent(act.now)).await
    }

    async fn audit_order(&self, act: &Act, action: &str, key: &OrderKey) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        insert_audit(&mut tx, act, action, &key.to_string(), Some(key), None).await?;
        tx.commit().await
    }
}

#[async_trait]
impl<D: Db> OrderRecords for SqlStore<D> {
    async fn records(&self, keys: &[OrderKey]) -> Result<Vec<OrderRecord>, StoreError> {
        let mut records = Vec::with_capacity(keys.len());
        for some in keys.chunks(ROWS_AT_ONCE) {
            let (these, args) = these_orders(some);
            let sql = format!("SELECT {ORDER_COLUMNS} FROM order_rows WHERE {these}");
            for mut row in self.db.fetch(&Sql::Built(sql), args).await? {
                records.push(rows::order_record(&mut row)?);
            }
        }
        Ok(records)
    }

    async fn attempt(&self, key: &OrderKey, number: u32) -> Result<Option<Attempt>, StoreError> {
        let sql = format!(
            "SELECT {ATTEMPT_COLUMNS}
            FROM order_attempts
            WHERE shop = $1 AND order_id = $2 AND attempt = $3
            ORDER BY outcome DESC
            LIMIT 1"
        );
        let (shop, order_id) = (key.shop.as_str(), key.order_id.as_str());
        let found = self.db.fetch(&Sql::Built(sql), sql_args![shop, order_id, number]).await?.pop();
        found.map(rows::attempt).transpose()
    }
}

impl<D: Db> SqlStore<D> {
    /// Loads an order, lets `transition` change it, and writes it back with its audit row.
    async fn change(
        &self,
        key: &OrderKey,
        act: &Act,
        action: &str,
        transition: impl FnOnce(&mut OrderRecord) -> Result<(), InvalidTransition> + Send,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError> {
        let mut batch = Batch::new(self.db.begin().await?);
        let mut loaded = batch.load(std::iter::once(key)).await?;
        let Some((record, _)) = loaded.records.get_mut(key) else {
            let state = OrderState::Confirmed;
            return Ok(Err(InvalidTransition::InvalidState { state, phase: "unknown" }));
        };
        let before = standing(record);
        if let Err(invalid) = transition(record) {
            return Ok(Err(invalid));
        }
        record.updated_at = act.now;
        let record = record.clone();
        loaded.changed.insert(key.clone());
        batch.save(&loaded).await?;
        let change = Some((before, standing(&record)));
        insert_audit(&mut batch.tx, act, action, &key.to_string(), Some(key), change).await?;
        batch.commit().await?;
        Ok(Ok(record))
    }
}

fn standing(record: &OrderRecord) -> String {
    format!("{}/{}", record.phase.state().as_str(), record.phase.name())
}

fn of(key: &OrderKey) -> Vec<Value> {
    sql_args![key.shop.as_str(), key.order_id.as_str()]
}
