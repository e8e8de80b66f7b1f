//! What the sweeper and the trial of a circuit look for: orders that are due for something.

use async_trait::async_trait;

use super::memory::MemoryLedger;
use super::tables::{OrderRow, Tables, Waits};
use super::values::{long_before, rows, stored_time};
use crate::domain::order::values::OrderKey;
use crate::ports::orders::{Overdue, OverdueOrders, Sweep};
use crate::ports::store_error::StoreError;

#[async_trait]
impl OverdueOrders for MemoryLedger {
    async fn take_overdue(&self, sweep: Sweep) -> Result<Vec<Overdue>, StoreError> {
        self.write(|tables| Ok(tables.take_overdue(&sweep))).await
    }
}

impl Tables {
    fn take_overdue(&mut self, sweep: &Sweep) -> Vec<Overdue> {
        let mut found: Vec<&OrderRow> = self.overdue(sweep).collect();
        found.sort_by(|a, b| {
            let place = |row: &OrderRow| {
                let is_later = sweep.fresh_first && row.record.last_attempt > 0;
                (is_later, row.record.received_at)
            };
            (place(a), &a.record.key).cmp(&(place(b), &b.record.key))
        });
        found.truncate(rows(sweep.limit));
        let taken: Vec<OrderRow> = found.into_iter().cloned().collect();
        let swept_at = Some(stored_time(sweep.now));
        let told = taken.iter().map(overdue).collect();
        taken.into_iter().for_each(|row| self.put_order(OrderRow { swept_at, ..row }));
        told
    }

    /// Orders that are overdue and were not swept lately.
    fn overdue<'a>(&'a self, sweep: &'a Sweep) -> impl Iterator<Item = &'a OrderRow> {
        let now = sweep.now.as_millisecond();
        let past_grace = long_before(sweep.now, sweep.grace).as_millisecond();
        let again = long_before(sweep.now, sweep.again_after).as_millisecond();
        let limits = [
            (Waits::Claimed, past_grace),
            (Waits::Abandoned, now),
            (Waits::Queued, past_grace),
            (Waits::Held, i64::MAX),
            (Waits::Retrying, past_grace),
            (Waits::Unclear, now),
        ];
        let keys = limits.into_iter().flat_map(|(waits, until)| self.waiting_until(waits, until));
        keys.filter(|key| sweep.shops.contains(key.shop.as_str()))
            .filter_map(|key| self.orders.get(key))
            // What had not begun waits as if it were not claimed, once the claim has ended.
            .filter(move |row| {
                let claim = row.record.claim.as_ref();
                claim.is_none_or(|claim| claim.begun || claim.until.as_millisecond() <= now)
            })
            .filter(move |row| row.swept_at.is_none_or(|at| at.as_millisecond() <= again))
    }

    fn waiting_until(&self, waits: Waits, until: i64) -> impl Iterator<Item = &OrderKey> {
        self.waiting.range((waits, i64::MIN)..=(waits, until)).flat_map(|(_, keys)| keys)
    }
}

fn overdue(row: &OrderRow) -> Overdue {
    Overdue {
        key: row.record.key.clone(),
        attempt: row.record.next_attempt(),
        phase: row.record.phase.name().to_owned(),
        trace: row.record.trace.clone(),
    }
}
