//! Orders that the ERP has with another sum: what the ledger knows of them, and how a person accepts it.

use async_trait::async_trait;

use crate::domain::order::values::OrderKey;
use crate::domain::total::{Amount, TotalDifference};
use crate::ports::audit::Act;
use crate::ports::orders::FailureRequest;
use crate::ports::store_error::StoreError;
use crate::ports::total_differences::{
    Acceptance, AcceptedTotals, FoundTotal, TotalDifferences, newest_accepted,
};
use crate::sql_args;

use super::audit::insert_audit;
use super::db::{Db, Row, Tx};
use super::encode::json;
use super::ledger::SqlStore;

/// Keeps the difference that a failed attempt found, if it found one.
pub(super) async fn keep_difference(
    tx: &mut impl Tx,
    request: &FailureRequest,
) -> Result<(), StoreError> {
    let failed = &request.failed;
    let Some(difference) = &failed.failure.total else { return Ok(()) };
    let sql = "INSERT INTO total_differences (shop, order_id, attempt, at_ms, difference)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT DO NOTHING";
    let (shop, order_id) = (request.key.shop.as_str(), request.key.order_id.as_str());
    let difference = json(difference)?;
    let args = sql_args![shop, order_id, failed.attempt, failed.occurred_at, difference];
    tx.execute(&sql.into(), args).await.map(drop)
}

#[async_trait]
impl<D: Db> TotalDifferences for SqlStore<D> {
    async fn total_differences(&self, key: &OrderKey) -> Result<Vec<FoundTotal>, StoreError> {
        let sql = "SELECT d.attempt, d.at_ms, d.difference, a.at_ms, a.actor, a.reason
            FROM total_differences AS d
            LEFT JOIN accepted_totals AS a
              ON a.shop = d.shop AND a.order_id = d.order_id AND a.attempt = d.attempt
            WHERE d.shop = $1 AND d.order_id = $2
            ORDER BY d.attempt";
        let args = sql_args![key.shop.as_str(), key.order_id.as_str()];
        self.db.fetch(&sql.into(), args).await?.into_iter().map(found_total).collect()
    }

    async fn accept_total(
        &self,
        key: &OrderKey,
        attempt: u32,
        act: &Act,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO accepted_totals (shop, order_id, attempt, at_ms, actor, reason)
            SELECT d.shop, d.order_id, d.attempt, $4, $5, $6
            FROM total_differences AS d
            WHERE d.shop = $1 AND d.order_id = $2 AND d.attempt = $3
            ON CONFLICT DO NOTHING";
        let reason = act.reason.as_deref().unwrap_or_default();
        let (shop, order_id) = (key.shop.as_str(), key.order_id.as_str());
        let args = sql_args![shop, order_id, attempt, act.now, &act.actor, reason];
        let mut tx = self.db.begin().await?;
        let is_new = tx.execute(&sql.into(), args).await? > 0;
        if is_new {
            let target = key.to_string();
            insert_audit(&mut tx, act, "order.accept_total", &target, Some(key), None).await?;
            tx.commit().await?;
        }
        Ok(is_new)
    }
}

#[async_trait]
impl<D: Db> AcceptedTotals for SqlStore<D> {
    async fn accepted_total(&self, key: &OrderKey) -> Result<Option<Amount>, StoreError> {
        Ok(newest_accepted(self.total_differences(key).await?))
    }
}

fn found_total(mut row: Row) -> Result<FoundTotal, StoreError> {
    row.table = "total_differences";
    let (attempt, found_at) = (row.number("attempt")?, row.time("at_ms")?);
    let difference: TotalDifference = serde_json::from_str(&row.text("difference")?)
        .map_err(|error| row.corrupt("difference", &error.to_string()))?;
    let accepted = match (row.time_or_null("at_ms")?, row.text_or_null("actor")?) {
        (Some(at), Some(actor)) => Some(Acceptance { at, actor, reason: row.text("reason")? }),
        _ => None,
    };
    Ok(FoundTotal { attempt, found_at, difference, accepted })
}
