//! Orders that the ERP has twice: what the ledger knows of them, and how a person settles them.
//!
//! The rows are written with the receipt (`postgres.rs`, `sqlite.rs`), their notices in `outcomes.rs`.

use async_trait::async_trait;

use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::ShopFilter;
use crate::ports::audit::Act;
use crate::ports::second_entries::{SecondEntries, SecondEntry, Settlement};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::conditions::shop_condition;
use super::db::{Db, Row, Sql, Tx};
use super::ledger::SqlStore;
use super::rows;

#[async_trait]
impl<D: Db> SecondEntries for SqlStore<D> {
    async fn second_entries(&self, key: &OrderKey) -> Result<Vec<SecondEntry>, StoreError> {
        let sql = "SELECT e.number, e.first_number, e.attempt, e.worker, e.at_ms, s.at_ms, s.actor, s.reason
            FROM second_entries AS e
            LEFT JOIN settled_entries AS s
              ON s.shop = e.shop AND s.order_id = e.order_id AND s.number = e.number
            WHERE e.shop = $1 AND e.order_id = $2
            ORDER BY e.at_ms, e.number";
        let args = sql_args![key.shop.as_str(), key.order_id.as_str()];
        self.db.fetch(&sql.into(), args).await?.into_iter().map(second_entry).collect()
    }

    async fn count_entered_twice(&self, shops: &ShopFilter) -> Result<u64, StoreError> {
        let (shops, args) = shop_condition("e.shop", shops, 1);
        let sql = format!(
            "SELECT COUNT(*)
            FROM (
              SELECT DISTINCT e.shop, e.order_id
              FROM second_entries AS e
              WHERE {OPEN} AND {shops}) AS orders"
        );
        rows::only(self.db.fetch(&Sql::Built(sql), args).await?)?.number("count")
    }

    async fn settle_second_entries(&self, key: &OrderKey, act: &Act) -> Result<u64, StoreError> {
        let sql = format!(
            "INSERT INTO settled_entries (shop, order_id, number, at_ms, actor, reason)
            SELECT e.shop, e.order_id, e.number, $3, $4, $5
            FROM second_entries AS e
            WHERE e.shop = $1 AND e.order_id = $2 AND {OPEN}
            ON CONFLICT DO NOTHING"
        );
        let reason = act.reason.as_deref().unwrap_or_default();
        let (shop, order_id) = (key.shop.as_str(), key.order_id.as_str());
        let args = sql_args![shop, order_id, act.now, &act.actor, reason];
        let mut tx = self.db.begin().await?;
        let settled = tx.execute(&Sql::Built(sql), args).await?;
        if settled > 0 {
            let target = key.to_string();
            insert_audit(&mut tx, act, "order.settle_double", &target, Some(key), None).await?;
            tx.commit().await?;
        }
        Ok(settled)
    }
}

/// Condition on `second_entries AS e`: nobody has settled it.
pub(super) const OPEN: &str = "NOT EXISTS (
    SELECT 1 FROM settled_entries AS s
    WHERE s.shop = e.shop AND s.order_id = e.order_id AND s.number = e.number)";

fn second_entry(mut row: Row) -> Result<SecondEntry, StoreError> {
    row.table = "second_entries";
    let number = row.id("number")?;
    let first_number = row.text("first_number")?;
    let (attempt, worker) = (row.number("attempt")?, row.text("worker")?);
    let found_at = row.time("at_ms")?;
    let settled = match (row.time_or_null("at_ms")?, row.text_or_null("actor")?) {
        (Some(at), Some(actor)) => Some(Settlement { at, actor, reason: row.text("reason")? }),
        _ => None,
    };
    Ok(SecondEntry { number, first_number, attempt, worker, found_at, settled })
}
