//! Rows of orders: every write of one goes through here, and indexes and statistics follow it.
//!
//! What the SQL ledger does by triggers on `orders` (migration `0003_figures`) happens in `follow`.

use jiff::Timestamp;

use super::tables::{Bucket, GroupRow, Happening, OrderRow, SeenRow, Tables, Waits};
use super::values::{stored_record, stored_time};
use crate::adapters::store::schema::skus;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::Phase;
use crate::ports::orders::Placed;

const MINUTE_MS: i64 = 60_000;

impl Tables {
    /// Stores an order that is new; nothing when it is there already.
    pub(super) fn insert_order(&mut self, placed: &Placed, record: OrderRecord) {
        if self.orders.contains_key(&record.key) {
            return;
        }
        let shop = record.key.shop.to_string();
        let received = self.received.get(&shop).copied().unwrap_or(0);
        self.received.put(shop, received + 1);
        self.put_order(OrderRow {
            record,
            swept_at: None,
            source: placed.source,
            digest: placed.order.digest,
            document: placed.order.document.clone(),
            edited: None,
            skus: skus(&placed.order),
        });
    }

    /// Writes back what a transition changed: its version rises, and a sweep before it counts no more.
    pub(super) fn save_order(&mut self, mut record: OrderRecord) {
        let Some(row) = self.orders.get(&record.key) else { return };
        record.version += 1;
        let row = OrderRow { record, swept_at: None, ..row.clone() };
        self.put_order(row);
    }

    /// The same, if it differs from the stored one.
    pub(super) fn save_if_changed(&mut self, mut record: OrderRecord, now: Timestamp) {
        if self.orders.get(&record.key).is_some_and(|row| row.record != record) {
            record.updated_at = now;
            self.save_order(record);
        }
    }

    /// Writes a row as it is.
    pub(super) fn put_order(&mut self, row: OrderRow) {
        let row = OrderRow { record: stored_record(row.record), ..row };
        let key = row.record.key.clone();
        let before = self.orders.get(&key).map(|row| row.record.clone());
        self.index(before.as_ref(), &row.record);
        self.follow(before.as_ref(), &row.record);
        self.orders.put(key, row);
    }

    fn index(&mut self, before: Option<&OrderRecord>, after: &OrderRecord) {
        let key = &after.key;
        let (old, new) = (before.and_then(waits), waits(after));
        if old != new {
            if let Some(place) = old {
                self.waiting.update(&place, |keys| {
                    keys.remove(key);
                });
                if self.waiting.get(&place).is_some_and(|keys| keys.is_empty()) {
                    self.waiting.delete(&place);
                }
            }
            if let Some(place) = new {
                self.waiting.insert_new(place, Default::default());
                self.waiting.update(&place, |keys| {
                    keys.insert(key.clone());
                });
            }
        }
        // An order that is in an ERP stays there under its number.
        if let (None, Some(number)) = (before.and_then(erp_order_id), erp_order_id(after)) {
            let number = number.to_owned();
            self.in_erp.insert_new(number.clone(), Default::default());
            self.in_erp.update(&number, |keys| {
                keys.insert(key.clone());
            });
        }
    }

    /// Statistics of what happened to an order.
    fn follow(&mut self, before: Option<&OrderRecord>, after: &OrderRecord) {
        let Some(before) = before else {
            self.happened(after, after.received_at, Happening::Received, 1);
            return;
        };
        let is_in_erp = |record: &OrderRecord| matches!(record.phase, Phase::Transferred { .. });
        if is_in_erp(after) && !is_in_erp(before) {
            self.happened(after, after.updated_at, Happening::Confirmed, 1);
        }
        if after.fail_count > before.fail_count {
            let failures = u64::from(after.fail_count - before.fail_count);
            self.happened(after, after.updated_at, Happening::Failed, failures);
            self.know_group(after);
            self.see_type(after);
        }
    }

    fn see_type(&mut self, order: &OrderRecord) {
        let Some(failure) = &order.last_failure else { return };
        let place = (order.key.shop.to_string(), failure.summary.fingerprint.clone());
        let now = stored_time(order.updated_at);
        let before = self.failure_types.get(&place).cloned();
        let before = before.unwrap_or(SeenRow { first: now, last: now, noted: None });
        self.failure_types.put(place, SeenRow { last: before.last.max(now), ..before });
    }

    fn happened(&mut self, order: &OrderRecord, at: Timestamp, what: Happening, orders: u64) {
        let ms = at.as_millisecond();
        let failure = order.last_failure.as_ref().filter(|_| what == Happening::Failed);
        let fingerprint = failure.map(|f| f.summary.fingerprint.clone()).unwrap_or_default();
        let bucket = Bucket { orders, last_ms: ms };
        let place = (0, ms - ms % MINUTE_MS, order.key.shop.to_string(), what, fingerprint);
        self.add_bucket(place, bucket);
    }

    /// Adds to what happened in a bucket of time.
    pub(super) fn add_bucket(
        &mut self,
        place: (i64, i64, String, Happening, String),
        more: Bucket,
    ) {
        let before = self.activity.get(&place).copied();
        let before = before.unwrap_or(Bucket { orders: 0, last_ms: i64::MIN });
        let orders = before.orders + more.orders;
        let last_ms = before.last_ms.max(more.last_ms);
        self.activity.put(place, Bucket { orders, last_ms });
    }

    fn know_group(&mut self, order: &OrderRecord) {
        let Some(failure) = &order.last_failure else { return };
        let summary = &failure.summary;
        if self.failure_groups.contains_key(&summary.fingerprint) {
            return;
        }
        let group = GroupRow {
            class: summary.class.as_str().to_owned(),
            code: summary.code.clone(),
            message: summary.message.clone(),
            first_seen: order.updated_at,
            note: None,
            runbook: None,
            noted_by: None,
            noted_at: None,
        };
        self.failure_groups.put(summary.fingerprint.clone(), group);
    }
}

/// What an order waits for that the sweeper looks after.
fn waits(order: &OrderRecord) -> Option<(Waits, i64)> {
    let (waits, at) = match (&order.claim, &order.phase) {
        (_, Phase::Transferred { .. } | Phase::Removed) | (None, Phase::Parked) => return None,
        (Some(claim), _) if claim.begun && order.unclear_since > Some(claim.until) => {
            (Waits::Abandoned, claim.until)
        }
        (Some(claim), _) if claim.begun => (Waits::Claimed, claim.until),
        (Some(claim), Phase::Parked) => (Waits::Abandoned, claim.until),
        (_, Phase::Queued) => (Waits::Queued, order.received_at),
        (_, Phase::Held) => (Waits::Held, order.received_at),
        (_, Phase::Retrying { next_attempt_at }) => (Waits::Retrying, *next_attempt_at),
        (_, Phase::OutcomeUnknown { ask_at }) => (Waits::Unclear, *ask_at),
    };
    Some((waits, at.as_millisecond()))
}

/// The number that the ERP gave to an order.
pub(super) fn erp_order_id(order: &OrderRecord) -> Option<&str> {
    match &order.phase {
        Phase::Transferred { erp_order_id } => erp_order_id.as_deref(),
        _ => None,
    }
}
