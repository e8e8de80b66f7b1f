//! Revisions of orders: written beside the original, with their audit row, in one transaction.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::{Email, OrderKey};
use crate::ports::order_desk::{EditRequest, NotEdited, Revision, Revisions};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::db::{Db, Sql, Tx};
use super::ledger::SqlStore;
use super::rows::{self, ORDER_COLUMNS, ROWS_AT_ONCE, these_orders};
use super::schema::skus;

#[async_trait]
impl<D: Db> Revisions for SqlStore<D> {
    async fn edit_order(
        &self,
        edit: EditRequest,
    ) -> Result<Result<OrderRecord, NotEdited>, StoreError> {
        let mut tx = self.db.begin().await?;
        let Some(mut row) = tx.load(std::slice::from_ref(&edit.key)).await?.pop() else {
            return Ok(Err(NotEdited::Unknown));
        };
        let mut record = rows::order_record(&mut row)?;
        if record.revision != edit.base_revision {
            let newest = newest(&mut tx, &record).await?;
            return Ok(Err(NotEdited::Newer(newest)));
        }
        if let Err(invalid) = record.edit(edit.edited.facts.clone(), edit.act.now) {
            return Ok(Err(NotEdited::Invalid(invalid)));
        }
        record.updated_at = edit.act.now;
        insert_revision(&mut tx, &record, &edit).await?;
        update_order(&mut tx, &record, &edit).await?;
        record.version += 1;
        let change = (
            format!("revision {}", edit.base_revision),
            format!("revision {}: {}", record.revision, edit.places),
        );
        let target = edit.key.to_string();
        insert_audit(&mut tx, &edit.act, "order.edit", &target, Some(&edit.key), Some(change))
            .await?;
        tx.commit().await?;
        Ok(Ok(record))
    }

    async fn current(&self, keys: &[OrderKey]) -> Result<Vec<(OrderRecord, Arc<str>)>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(ROWS_AT_ONCE) {
            let (these, args) = these_orders(some);
            let sql = format!(
                "SELECT {ORDER_COLUMNS}, COALESCE(edited, document)
                FROM orders
                WHERE {these}"
            );
            for mut row in self.db.fetch(&Sql::Built(sql), args).await? {
                let record = rows::order_record(&mut row)?;
                found.push((record, row.text("document")?.into()));
            }
        }
        Ok(found)
    }

    async fn revisions(&self, key: &OrderKey) -> Result<Vec<Revision>, StoreError> {
        let sql = "SELECT revision, document, at_ms, actor, reason
            FROM revisions
            WHERE shop = $1 AND order_id = $2
            ORDER BY revision";
        let args = sql_args![key.shop.as_str(), key.order_id.as_str()];
        let rows = self.db.fetch(&sql.into(), args).await?;
        rows.into_iter().map(rows::revision).collect()
    }
}

/// The first editor; the original if the edit names a revision that does not exist.
async fn newest<T: Tx>(tx: &mut T, record: &OrderRecord) -> Result<Revision, StoreError> {
    let sql = "SELECT revision, document, at_ms, actor, reason
        FROM revisions
        WHERE shop = $1 AND order_id = $2 AND revision = $3";
    let key = &record.key;
    let args = sql_args![key.shop.as_str(), key.order_id.as_str(), record.revision];
    match tx.fetch(&sql.into(), args).await?.pop() {
        Some(row) => rows::revision(row),
        None => Ok(Revision {
            revision: record.revision,
            document: "".into(),
            at: record.received_at,
            actor: "checkout".to_owned(),
            reason: None,
        }),
    }
}

async fn insert_revision<T: Tx>(
    tx: &mut T,
    record: &OrderRecord,
    edit: &EditRequest,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO revisions (shop, order_id, revision, document, at_ms, actor, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let args = sql_args![
        record.key.shop.as_str(),
        record.key.order_id.as_str(),
        record.revision,
        &*edit.edited.document,
        edit.act.now,
        &edit.act.actor,
        edit.act.reason.as_deref(),
    ];
    tx.execute(&sql.into(), args).await.map(|_| ())
}

/// The columns that people see follow the newest revision.
async fn update_order<T: Tx>(
    tx: &mut T,
    record: &OrderRecord,
    edit: &EditRequest,
) -> Result<(), StoreError> {
    let sql = "UPDATE orders
        SET revision = $4, edited = $5, placed_at_ms = $6, currency = $7, total = $8,
          customer_number = $9, customer_name = $10, customer_email = $11, customer_locale = $12,
          payment = $13, skus = $14, updated_at_ms = $15, version = version + 1
        WHERE shop = $1 AND order_id = $2 AND version = $3";
    let facts = &record.facts;
    let args = sql_args![
        record.key.shop.as_str(),
        record.key.order_id.as_str(),
        record.version,
        record.revision,
        &*edit.edited.document,
        facts.placed_at,
        facts.currency.as_str(),
        facts.total.as_str(),
        facts.customer.number.as_deref(),
        facts.customer.name.as_deref(),
        facts.customer.email.as_ref().map_or("", Email::as_str),
        facts.customer.locale.as_deref(),
        facts.payment.as_deref(),
        skus(&edit.edited),
        edit.act.now,
    ];
    tx.execute(&sql.into(), args).await.map(|_| ())
}
