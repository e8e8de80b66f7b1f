//! What the sweeper and the trial of a circuit look for: orders that are due for something.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ports::orders::{Overdue, OverdueOrders, Sweep};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::conditions::shop_condition;
use super::db::{Db, Sql, Tx};
use super::in_hand;
use super::ledger::SqlStore;
use super::rows::{self, ROWS_AT_ONCE, these_orders};

/// A claim that had begun is overdue `grace` after its end, or at once where its process is gone. What had not begun is
/// as if it were not claimed.
#[async_trait]
impl<D: Db> OverdueOrders for SqlStore<D> {
    async fn take_overdue(&self, sweep: Sweep) -> Result<Vec<Overdue>, StoreError> {
        let order = if sweep.fresh_first {
            "CASE WHEN last_attempt = 0 THEN 0 ELSE 1 END, received_at_ms"
        } else {
            "received_at_ms"
        };
        let (shops, mut shop_args) = shop_condition("shop", &sweep.shops, 5);
        // What somebody has locked is being dealt with; waiting for it could end in a ring.
        let free = D::FOR_UPDATE_OF_FREE;
        let sql = format!(
            "WITH due AS (
              SELECT shop, order_id
              FROM order_states
              WHERE state <> 'confirmed'
                AND (swept_at_ms IS NULL OR swept_at_ms <= $3)
                AND (claim_worker <> coalesce(claim_preparing, '') AND (claimed_until_ms <= $2
                    OR claimed_until_ms <= $1 AND unclear_since_ms > claimed_until_ms)
                  OR (claim_worker IS NULL
                    OR claim_worker = claim_preparing AND claimed_until_ms <= $1) AND (
                       phase = 'queued' AND received_at_ms <= $2
                    OR phase = 'held'
                    OR phase = 'retrying' AND due_at_ms <= $2
                    OR phase = 'outcome_unknown' AND due_at_ms <= $1
                    OR phase = 'parked' AND claim_worker IS NOT NULL))
                AND {shops}
              ORDER BY {order}
              LIMIT $4
              {free})
            UPDATE order_states
            SET swept_at_ms = $1
            WHERE (shop, order_id) IN (SELECT shop, order_id FROM due)
            RETURNING shop, order_id"
        );
        let before = |time| sweep.now.checked_sub(time).unwrap_or(Timestamp::MIN);
        let mut args =
            sql_args![sweep.now, before(sweep.grace), before(sweep.again_after), sweep.limit];
        args.append(&mut shop_args);
        let mut tx = self.db.begin().await?;
        in_hand::give_states_to_overdue(&mut tx, &sweep).await?;
        let mut due = Vec::new();
        for mut row in tx.fetch(&Sql::Built(sql), args).await? {
            due.push(rows::order_key(&mut row)?);
        }
        let mut rows = Vec::with_capacity(due.len());
        for some in due.chunks(ROWS_AT_ONCE) {
            let (these, args) = these_orders(some);
            let sql = format!(
                "SELECT shop, order_id, last_attempt, phase, traceparent, tracestate, received_at_ms
                FROM state_rows
                WHERE {these}"
            );
            rows.append(&mut tx.fetch(&Sql::Built(sql), args).await?);
        }
        tx.commit().await?;
        in_hand::move_mark(&self.db, sweep.now).await?;
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
            let is_later = sweep.fresh_first && last_attempt > 0;
            overdue.push(((is_later, row.int("received_at_ms")?), order));
        }
        overdue.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
        Ok(overdue.into_iter().map(|(_, order)| order).collect())
    }
}
