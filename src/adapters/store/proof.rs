//! The check that nothing is lost (`ledger check`): counts, and promises that rows can break.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::order_filter::ShopFilter;
use crate::ports::ledger::{LedgerProof, LedgerReport, OpenCount, Violation};
use crate::ports::statistics::Statistics;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::{Db, Sql};
use super::ledger::SqlStore;
use super::rows;

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
        let rows = self.db.read(&sql.into(), Vec::new()).await?;
        rows::only(rows)?.number("received")
    }

    async fn count_difference(&self) -> Result<i64, StoreError> {
        let sql = "SELECT (SELECT CAST(COALESCE(SUM(received), 0) AS BIGINT) FROM tallies)
              - (SELECT COUNT(*) FROM orders)
              - (SELECT CAST(COALESCE(SUM(removed), 0) AS BIGINT) FROM removals
                WHERE kind IN ('confirmed', 'removed', 'erased'))";
        let rows = self.db.read(&sql.into(), Vec::new()).await?;
        rows::only(rows)?.int("difference")
    }

    async fn check_ledger(&self, since: Option<Timestamp>) -> Result<LedgerReport, StoreError> {
        let since_ms = since.unwrap_or(Timestamp::UNIX_EPOCH);
        let counted = "SELECT
              CAST(COALESCE(SUM(CASE WHEN state = 'confirmed' THEN 1 ELSE 0 END), 0) AS BIGINT),
              CAST(COALESCE(SUM(CASE WHEN state = 'ordered_failed' THEN 1 ELSE 0 END), 0) AS BIGINT),
              CAST(COALESCE(SUM(CASE WHEN phase = 'queued' THEN 1 ELSE 0 END), 0) AS BIGINT),
              CAST(COALESCE(SUM(CASE WHEN phase = 'held' THEN 1 ELSE 0 END), 0) AS BIGINT),
              COUNT(*),
              (SELECT CAST(COALESCE(SUM(received), 0) AS BIGINT) FROM tallies),
              (SELECT CAST(COALESCE(SUM(removed), 0) AS BIGINT) FROM removals
                WHERE kind IN ('confirmed', 'removed', 'erased'))
            FROM order_rows
            WHERE received_at_ms >= $1";
        let rows = self.db.read(&counted.into(), sql_args![since_ms]).await?;
        let mut row = rows::only(rows)?;
        let (confirmed, lost): (u64, u64) = (row.number("confirmed")?, row.number("lost")?);
        let (queued, held): (u64, u64) = (row.number("queued")?, row.number("held")?);
        let (rows, tally): (u64, u64) = (row.number("count")?, row.number("received")?);
        let gone: u64 = row.number("gone")?;
        // The tally and what is gone have no dates: for a part of the ledger only the rows can be counted. It is read
        // by the same statement as the rows, otherwise orders that arrive in between would look
        // lost.
        let (received, gone) = if since.is_some() { (rows, 0) } else { (tally, gone) };
        let accounted = [confirmed, lost, queued, held, gone].map(i128::from).iter().sum::<i128>();
        let difference = i64::try_from(i128::from(received) - accounted).unwrap_or(i64::MAX);
        let settled = "SELECT COUNT(*) FROM settled_entries";
        let settled = self.db.read(&settled.into(), Vec::new()).await?;
        let settled_second_entries = rows::only(settled)?.number("count")?;
        let mut violations = Vec::new();
        for (promise, condition) in PROMISES {
            violations.extend(self.violation(promise, condition, since_ms).await?);
        }
        if since.is_none() {
            violations.extend(self.miscounted().await?);
            violations.extend(self.miscounted_gone().await?);
        }
        Ok(LedgerReport {
            received,
            confirmed,
            lost,
            queued,
            held,
            gone,
            difference,
            settled_second_entries,
            violations,
        })
    }
}

/// Promises that rows can break; `||` keeps SQLite from searching by shop, which all share. Each
/// with the condition on `order_rows AS o` that does.
const PROMISES: [(&str, &str); 6] = [
    (
        "a transferred order has exactly one successful attempt",
        "o.phase = 'transferred' AND 1 <> (
          SELECT COUNT(*) FROM order_attempts AS a
          WHERE a.shop = o.shop AND a.order_id = o.order_id AND a.outcome = 'succeeded'
            AND NOT EXISTS (
              SELECT 1 FROM second_entries AS e
              WHERE e.shop = a.shop AND e.order_id = a.order_id AND e.number = a.erp_order_id))",
    ),
    (
        "no order is in the ERP under two numbers, unless a person has settled it",
        "EXISTS (
          SELECT 1 FROM second_entries AS e
          WHERE e.shop = o.shop AND e.order_id = o.order_id AND NOT EXISTS (
            SELECT 1 FROM settled_entries AS s
            WHERE s.shop = e.shop AND s.order_id = e.order_id AND s.number = e.number))",
    ),
    (
        "an order that is not transferred has no successful attempt",
        "o.phase <> 'transferred' AND EXISTS (
          SELECT 1 FROM order_attempts AS a
          WHERE a.shop = o.shop AND a.order_id = o.order_id AND a.outcome = 'succeeded')",
    ),
    (
        "fail_count equals the failed attempts",
        "o.fail_count <> (
          SELECT COUNT(*) FROM order_attempts AS a
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
          SELECT 1 FROM order_states AS p
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
        let wrong = self.db.read(&sql.into(), Vec::new()).await?;
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

    /// Kinds of orders that are gone whose count differs from what is left of them. One statement, as above.
    async fn miscounted_gone(&self) -> Result<Option<Violation>, StoreError> {
        let sql = "SELECT kind, CAST(SUM(removed) AS BIGINT)
            FROM (
              SELECT kind, removed FROM removals WHERE kind IN ('confirmed', 'removed', 'erased')
              UNION ALL
              SELECT kind, -1 FROM gone_orders WHERE gone_at_ms IS NOT NULL) AS sides
            GROUP BY kind
            HAVING SUM(removed) <> 0
            ORDER BY kind";
        let (mut rows, mut examples) = (0, Vec::new());
        for mut row in self.db.read(&sql.into(), Vec::new()).await? {
            let (kind, missing) = (row.text("kind")?, row.int("removed")?);
            rows += missing.unsigned_abs();
            examples.push(format!("{kind} {missing}"));
        }
        let promise = "of every order that is gone its number and its end are left";
        Ok((rows > 0).then_some(Violation { promise, rows, examples }))
    }

    async fn violation(
        &self,
        promise: &'static str,
        condition: &str,
        since: Timestamp,
    ) -> Result<Option<Violation>, StoreError> {
        let count = format!(
            "SELECT COUNT(*) FROM order_rows AS o WHERE o.received_at_ms >= $1 AND {condition}"
        );
        let rows = self.db.read(&Sql::Built(count), sql_args![since]).await?;
        let rows: u64 = rows::only(rows)?.number("count")?;
        if rows == 0 {
            return Ok(None);
        }
        let some = format!(
            "SELECT shop, order_id
            FROM order_rows AS o
            WHERE o.received_at_ms >= $1 AND {condition}
            ORDER BY shop, order_id
            LIMIT 5"
        );
        let mut examples = Vec::new();
        for mut row in self.db.read(&Sql::Built(some), sql_args![since]).await? {
            examples.push(rows::order_key(&mut row)?.to_string());
        }
        Ok(Some(Violation { promise, rows, examples }))
    }
}
