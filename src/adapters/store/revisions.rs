//! Revisions of orders: written beside the original, with their audit row, in one transaction.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::money::Sum;
use crate::domain::order::values::{Email, OrderKey};
use crate::ports::order_desk::{EditRequest, NotEdited, Revision, Revisions};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::batch::Batch;
use super::db::{Db, Sql, Tx};
use super::ledger::SqlStore;
use super::rows::{self, EDITED, ORDER_COLUMNS, ROWS_AT_ONCE, these_orders};
use super::schema::{searched, skus};

#[async_trait]
impl<D: Db> Revisions for SqlStore<D> {
    async fn edit_order(
        &self,
        edit: EditRequest,
    ) -> Result<Result<OrderRecord, NotEdited>, StoreError> {
        let mut batch = Batch::new(self.db.begin().await?);
        let mut loaded = batch.load(std::iter::once(&edit.key)).await?;
        let Some((record, _)) = loaded.records.get_mut(&edit.key) else {
            return Ok(Err(NotEdited::Unknown));
        };
        if record.revision != edit.base_revision {
            let newest = newest(&mut batch.tx, record).await?;
            return Ok(Err(NotEdited::Newer(newest)));
        }
        let before = record.clone();
        if let Err(invalid) = record.edit(edit.edited.facts.clone(), edit.act.now) {
            return Ok(Err(NotEdited::Invalid(invalid)));
        }
        record.updated_at = edit.act.now;
        let mut record = record.clone();
        loaded.changed.insert(edit.key.clone());
        batch.save(&loaded).await?;
        batch.moves.edit(&before, &record);
        insert_revision(&mut batch.tx, &record, &edit).await?;
        update_order(&mut batch.tx, &record, &edit).await?;
        record.version += 1;
        let change = (
            format!("revision {}", edit.base_revision),
            format!("revision {}: {}", record.revision, edit.places),
        );
        let target = edit.key.to_string();
        let (act, key) = (&edit.act, Some(&edit.key));
        insert_audit(&mut batch.tx, act, "order.edit", &target, key, Some(change)).await?;
        batch.commit().await?;
        Ok(Ok(record))
    }

    async fn current(&self, keys: &[OrderKey]) -> Result<Vec<(OrderRecord, Arc<str>)>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(ROWS_AT_ONCE) {
            let (these, args) = these_orders(some);
            let sql = format!(
                "SELECT {ORDER_COLUMNS}, COALESCE({EDITED}, document)
                FROM order_rows AS o
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
        SET placed_at_ms = $3, currency = $4, total = $5, units = $6, nanos = $7, unsummed = $8,
          customer_number = $9, customer_name = $10, customer_email = $11, customer_locale = $12,
          payment = $13, skus = $14, search_text = $15
        WHERE shop = $1 AND order_id = $2";
    let facts = &record.facts;
    let sum = Sum::of_total(facts.total.as_str());
    let args = sql_args![
        record.key.shop.as_str(),
        record.key.order_id.as_str(),
        facts.placed_at,
        facts.currency.as_str(),
        facts.total.as_str(),
        sum.units,
        sum.nanos,
        sum.unsummed,
        facts.customer.number.as_deref(),
        facts.customer.name.as_deref(),
        facts.customer.email.as_ref().map_or("", Email::as_str),
        facts.customer.locale.as_deref(),
        facts.payment.as_deref(),
        skus(&edit.edited),
        searched(record),
    ];
    tx.execute(&sql.into(), args).await.map(|_| ())
}
