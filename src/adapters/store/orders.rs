//! The life of an order in the ledger: the hot path goes through `ledger.rs`, the queries of the
//! sweeper and of `ledger check` are here.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::ShopFilter;
use crate::ports::ledger::{LedgerProof, LedgerReport, OpenCount, Violation};
use crate::ports::orders::{
    Accepted, AdmitRequest, Admitted, ConfirmRequest, Confirmed, FailureRequest, HandBackRequest,
    KeepRequest, OrderFailures, OrderIntake, OrderTransfers, Overdue, OverdueOrders, Placed,
    Recorded, Sweep,
};
use crate::ports::statistics::Statistics;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::{Db, Sql, Tx};
use super::ledger::{Done, SqlStore, Work};
use super::rows;
use crate::adapters::store::conditions::shop_condition;

/// Takes the expected answer of an item; a batch answers each with its own kind.
macro_rules! done {
    ($answer:expr, $kind:ident) => {
        match $answer? {
            Done::$kind(done) => Ok(done),
            _ => Err(wrong_answer()),
        }
    };
}

#[async_trait]
impl<D: Db> OrderTransfers for SqlStore<D> {
    async fn admit(&self, request: AdmitRequest) -> Result<Admitted, StoreError> {
        done!(self.run(Work::Admit(request)).await, Admitted)
    }

    async fn confirm(&self, request: ConfirmRequest) -> Result<Confirmed, StoreError> {
        done!(self.run(Work::Confirm(Box::new(request))).await, Confirmed)
    }

    async fn hand_back(&self, request: HandBackRequest) -> Result<(), StoreError> {
        self.run(Work::HandBack(request)).await.map(|_| ())
    }

    async fn keep_exchanges(&self, request: KeepRequest) -> Result<(), StoreError> {
        self.run(Work::Keep(Box::new(request))).await.map(|_| ())
    }

    async fn renew_claim(
        &self,
        key: &OrderKey,
        worker: &str,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE orders
            SET claimed_until_ms = $4, version = version + 1
            WHERE shop = $1 AND order_id = $2 AND claim_worker = $3";
        let args = sql_args![key.shop.as_str(), key.order_id.as_str(), worker, until];
        Ok(self.db.execute(&sql.into(), args).await? > 0)
    }

    async fn orders_under(
        &self,
        erp_order_id: &str,
        except: &OrderKey,
    ) -> Result<Vec<OrderKey>, StoreError> {
        let sql = "SELECT shop, order_id
            FROM orders
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
        done!(self.run(Work::Accept(placed, now)).await, Accepted)
    }
}

#[async_trait]
impl<D: Db> OrderFailures for SqlStore<D> {
    async fn record_failure(&self, request: FailureRequest) -> Result<Recorded, StoreError> {
        done!(self.run(Work::Fail(Box::new(request))).await, Recorded)
    }
}

#[async_trait]
impl<D: Db> OverdueOrders for SqlStore<D> {
    async fn take_overdue(&self, sweep: Sweep) -> Result<Vec<Overdue>, StoreError> {
        let (shops, mut shop_args) = shop_condition("shop", &sweep.shops, 5);
        let sql = format!(
            "UPDATE orders
            SET swept_at_ms = $1
            WHERE (shop, order_id) IN (
              SELECT shop, order_id
              FROM orders
              WHERE state <> 'confirmed'
                AND (swept_at_ms IS NULL OR swept_at_ms <= $3)
                AND (claim_worker IS NOT NULL AND claimed_until_ms <= $2
                  OR claim_worker IS NULL AND (
                       phase = 'queued' AND received_at_ms <= $2
                    OR phase = 'held'
                    OR phase = 'retrying' AND due_at_ms <= $2
                    OR phase = 'outcome_unknown' AND due_at_ms <= $1))
                AND {shops}
              ORDER BY received_at_ms
              LIMIT $4)
            RETURNING shop, order_id, last_attempt, phase, traceparent, tracestate, received_at_ms"
        );
        let before = |time| sweep.now.checked_sub(time).unwrap_or(Timestamp::MIN);
        let mut args =
            sql_args![sweep.now, before(sweep.grace), before(sweep.again_after), sweep.limit];
        args.append(&mut shop_args);
        let mut tx = self.db.begin().await?;
        let rows = tx.fetch(&Sql::Built(sql), args).await?;
        tx.commit().await?;
        let mut overdue = Vec::with_capacity(rows.len());
        for mut row in rows {
            let key = rows::order_key(&mut row)?;
            let last_attempt: u32 = row.number("last_attempt")?;
            let order = Overdue {
                key,
                attempt: last_attempt.saturating_add(1),
                phase: row.text("phase")?,
                trace: rows::trace(&mut row)?,
            };
            overdue.push((row.int("received_at_ms")?, order));
        }
        // RETURNING guarantees no order.
        overdue.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
        Ok(overdue.into_iter().map(|(_, order)| order).collect())
    }
}

#[async_trait]
impl<D: Db> LedgerProof for SqlStore<D> {
    async fn count_open(&self) -> Result<Vec<OpenCount>, StoreError> {
        let tally = self.tally(&ShopFilter::default()).await?;
        let open = tally.standing.into_iter().filter(|s| s.state != OrderState::Confirmed);
        Ok(open
            .map(|s| OpenCount {
                state: s.state,
                phase: s.phase,
                orders: s.orders,
                oldest: s.oldest,
            })
            .collect())
    }

    async fn count_received(&self) -> Result<u64, StoreError> {
        let sql = "SELECT CAST(COALESCE(SUM(received), 0) AS BIGINT)
            FROM tallies";
        let mut rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.pop().ok_or_else(wrong_answer)?.number("received")
    }

    async fn count_difference(&self) -> Result<i64, StoreError> {
        let sql = "SELECT (SELECT CAST(COALESCE(SUM(received), 0) AS BIGINT) FROM tallies)
              - (SELECT COUNT(*) FROM orders)";
        let mut rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.pop().ok_or_else(wrong_answer)?.int("difference")
    }

    async fn check_ledger(&self, since: Option<Timestamp>) -> Result<LedgerReport, StoreError> {
        let since_ms = since.unwrap_or(Timestamp::UNIX_EPOCH);
        let counted = "SELECT
              CAST(COALESCE(SUM(CASE WHEN state = 'confirmed' THEN 1 ELSE 0 END), 0) AS BIGINT),
              CAST(COALESCE(SUM(CASE WHEN state = 'ordered_failed' THEN 1 ELSE 0 END), 0) AS BIGINT),
              CAST(COALESCE(SUM(CASE WHEN phase = 'queued' THEN 1 ELSE 0 END), 0) AS BIGINT),
              CAST(COALESCE(SUM(CASE WHEN phase = 'held' THEN 1 ELSE 0 END), 0) AS BIGINT),
              COUNT(*),
              (SELECT CAST(COALESCE(SUM(received), 0) AS BIGINT) FROM tallies)
            FROM orders
            WHERE received_at_ms >= $1";
        let mut rows = self.db.fetch(&counted.into(), sql_args![since_ms]).await?;
        let Some(mut row) = rows.pop() else { return Err(wrong_answer()) };
        let (confirmed, lost) = (row.number("confirmed")?, row.number("lost")?);
        let (queued, held) = (row.number("queued")?, row.number("held")?);
        let (rows, tally) = (row.number("count")?, row.number("received")?);
        // The tally has no dates: for a part of the ledger only the rows can be counted. It is read
        // by the same statement as the rows, otherwise orders that arrive in between would look
        // lost.
        let received: u64 = if since.is_some() { rows } else { tally };
        let accounted =
            i128::from(confirmed) + i128::from(lost) + i128::from(queued) + i128::from(held);
        let difference = i64::try_from(i128::from(received) - accounted).unwrap_or(i64::MAX);
        let mut violations = Vec::new();
        for (promise, condition) in PROMISES {
            violations.extend(self.violation(promise, condition, since_ms).await?);
        }
        if since.is_none() {
            violations.extend(self.miscounted().await?);
        }
        Ok(LedgerReport { received, confirmed, lost, queued, held, difference, violations })
    }
}

/// Promises that rows can break; `||` keeps SQLite from searching by shop, which all share. Each
/// with the condition on `orders AS o` that does.
const PROMISES: [(&str, &str); 5] = [
    (
        "a transferred order has exactly one successful attempt",
        "o.phase = 'transferred' AND 1 <> (
          SELECT COUNT(*) FROM attempts AS a
          WHERE a.shop = o.shop AND a.order_id = o.order_id AND a.outcome = 'succeeded')",
    ),
    (
        "an order that is not transferred has no successful attempt",
        "o.phase <> 'transferred' AND EXISTS (
          SELECT 1 FROM attempts AS a
          WHERE a.shop = o.shop AND a.order_id = o.order_id AND a.outcome = 'succeeded')",
    ),
    (
        "fail_count equals the failed attempts",
        "o.fail_count <> (
          SELECT COUNT(*) FROM attempts AS a
          WHERE a.shop = o.shop AND a.order_id = o.order_id AND a.outcome = 'failed')",
    ),
    (
        "every failed attempt has its notice to the administrators",
        "o.fail_count <> (
          SELECT COUNT(*) FROM notices AS n
          WHERE n.shop = o.shop AND n.order_id = o.order_id AND n.kind = 'order_failed')",
    ),
    (
        "no two orders of a shop have the same number in the ERP",
        "o.erp_order_id IS NOT NULL AND EXISTS (
          SELECT 1 FROM orders AS p
          WHERE p.shop || '' = o.shop AND p.erp_order_id = o.erp_order_id AND p.order_id <> o.order_id)",
    ),
];

impl<D: Db> SqlStore<D> {
    /// Places where the counters differ from the rows. One statement, so that orders which change
    /// in between are on both sides or on none.
    async fn miscounted(&self) -> Result<Option<Violation>, StoreError> {
        let sql = "SELECT shop, state, phase, currency, fingerprint
            FROM (
              SELECT shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed
              FROM order_counts
              UNION ALL
              SELECT shop, state, phase, currency, fingerprint, -1, -units, -nanos, -unsummed
              FROM order_figures) AS sides
            GROUP BY shop, state, phase, currency, fingerprint
            HAVING SUM(orders) <> 0 OR SUM(units) <> 0 OR SUM(nanos) <> 0 OR SUM(unsummed) <> 0
            ORDER BY shop, state, phase, currency, fingerprint";
        let wrong = self.db.fetch(&sql.into(), Vec::new()).await?;
        let mut examples = Vec::new();
        let rows = wrong.len() as u64;
        for mut row in wrong.into_iter().take(5) {
            let parts = ["shop", "state", "phase", "currency", "fingerprint"];
            let parts: Result<Vec<String>, _> = parts.into_iter().map(|c| row.text(c)).collect();
            examples.push(parts?.join(" "));
        }
        let promise = "the counters of orders and money equal the rows";
        Ok((rows > 0).then_some(Violation { promise, rows, examples }))
    }

    async fn violation(
        &self,
        promise: &'static str,
        condition: &str,
        since: Timestamp,
    ) -> Result<Option<Violation>, StoreError> {
        let count = format!(
            "SELECT COUNT(*) FROM orders AS o WHERE o.received_at_ms >= $1 AND {condition}"
        );
        let mut rows = self.db.fetch(&Sql::Built(count), sql_args![since]).await?;
        let rows: u64 = rows.pop().ok_or_else(wrong_answer)?.number("count")?;
        if rows == 0 {
            return Ok(None);
        }
        let some = format!(
            "SELECT shop, order_id
            FROM orders AS o
            WHERE o.received_at_ms >= $1 AND {condition}
            ORDER BY shop, order_id
            LIMIT 5"
        );
        let mut examples = Vec::new();
        for mut row in self.db.fetch(&Sql::Built(some), sql_args![since]).await? {
            examples.push(rows::order_key(&mut row)?.to_string());
        }
        Ok(Some(Violation { promise, rows, examples }))
    }
}

pub(super) fn wrong_answer() -> StoreError {
    StoreError::Corrupt {
        table: "(query)",
        column: "(answer)",
        row: String::new(),
        detail: "the answer does not fit the question".to_owned(),
    }
}
