//! The life of an order in the ledger: what is hot goes through the queue of `ledger.rs`.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::order::values::OrderKey;
use crate::ports::orders::{
    Accepted, AdmitRequest, Admitted, ConfirmRequest, Confirmed, FailureRequest, HandBackRequest,
    KeepRequest, OrderFailures, OrderIntake, OrderTransfers, Placed, Recorded, RenewRequest,
};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::Db;
use super::ledger::SqlStore;
use super::rows;
use super::work::{AcceptRequest, Work};

#[async_trait]
impl<D: Db> OrderTransfers for SqlStore<D> {
    async fn admit(&self, request: AdmitRequest) -> Result<Admitted, StoreError> {
        self.run(request, Work::Admit).await
    }

    async fn confirm(&self, request: ConfirmRequest) -> Result<Confirmed, StoreError> {
        self.run(request, |pending| Work::Confirm(Box::new(pending))).await
    }

    async fn hand_back(&self, request: HandBackRequest) -> Result<(), StoreError> {
        self.run(request, Work::HandBack).await
    }

    async fn keep_exchanges(&self, request: KeepRequest) -> Result<(), StoreError> {
        self.run(request, |pending| Work::Keep(Box::new(pending))).await
    }

    async fn renew_claim(&self, request: RenewRequest) -> Result<bool, StoreError> {
        let RenewRequest { key, worker, until, begins, now } = &request;
        let renewed = "UPDATE order_states
            SET claimed_until_ms = $4, version = version + 1,
              claim_preparing = CASE WHEN $6 = 0 THEN claim_preparing END
            WHERE shop = $1 AND order_id = $2 AND claim_worker = $3 AND claimed_until_ms > $5";
        // The claim under which an order came: from now on the order has a state.
        let first = "INSERT INTO order_states (shop, order_id, state, phase, received_at_ms, updated_at_ms,
              claim_worker, claim_attempt, claimed_until_ms, claim_preparing)
            SELECT shop, order_id, 'payed', 'queued', received_at_ms, received_at_ms, claim_worker, 1,
              CAST($4 AS BIGINT), CASE WHEN $6 = 0 THEN claim_preparing END
            FROM orders
            WHERE shop = $1 AND order_id = $2 AND claim_worker = $3 AND claimed_until_ms > $5
            ON CONFLICT DO NOTHING";
        let (shop, order_id) = (key.shop.as_str(), key.order_id.as_str());
        let args = sql_args![shop, order_id, worker, *until, *now, i64::from(*begins)];
        // The third looks once more, because somebody may have written the first state in between.
        for sql in [renewed, first, renewed] {
            if self.db.execute(&sql.into(), args.clone()).await? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn orders_under(
        &self,
        erp_order_id: &str,
        except: &OrderKey,
    ) -> Result<Vec<OrderKey>, StoreError> {
        let sql = "SELECT shop, order_id
            FROM order_states
            WHERE erp_order_id = $1 AND NOT (shop = $2 AND order_id = $3)
            ORDER BY shop, order_id
            LIMIT 20";
        let args = sql_args![erp_order_id, except.shop.as_str(), except.order_id.as_str()];
        let rows = self.db.fetch(&sql.into(), args).await?;
        rows.into_iter().map(|mut row| rows::order_key(&mut row)).collect()
    }
}

#[async_trait]
impl<D: Db> OrderIntake for SqlStore<D> {
    async fn accept(&self, placed: Placed, now: Timestamp) -> Result<Accepted, StoreError> {
        self.run(AcceptRequest { placed, now }, Work::Accept).await
    }
}

#[async_trait]
impl<D: Db> OrderFailures for SqlStore<D> {
    async fn record_failure(&self, request: FailureRequest) -> Result<Recorded, StoreError> {
        self.run(request, |pending| Work::Fail(Box::new(pending))).await
    }
}
