//! Numbers of orders, and what happened when. Orders are counted from their rows when somebody asks; what
//! happened is written when a row changes (`order_rows.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::memory::MemoryLedger;
use super::tables::{Happening, OrderRow, Tables};
use super::values::stored_time;
use crate::domain::lifecycle::vocabulary::{OrderState, PHASES};
use crate::domain::money::{Purse, Sum};
use crate::domain::order_filter::ShopFilter;
use crate::ports::statistics::{Flow, Standing, Statistics, StatisticsFolding, Tally};
use crate::ports::store_error::StoreError;

const MINUTE_MS: i64 = 60_000;
/// Which buckets become wider when: minutes hours, and those days. What was just written has the width 0.
const FOLDS: [(i64, i64, SignedDuration); 3] = [
    (0, 1, SignedDuration::ZERO),
    (1, 60, SignedDuration::from_hours(48)),
    (60, 1440, SignedDuration::from_hours(60 * 24)),
];

#[async_trait]
impl Statistics for MemoryLedger {
    async fn tally(&self, shops: &ShopFilter) -> Result<Tally, StoreError> {
        self.read(|tables| tables.tally(shops)).await
    }

    async fn flow(
        &self,
        shops: &ShopFilter,
        since: Timestamp,
        bucket: Duration,
    ) -> Result<Vec<Flow>, StoreError> {
        self.read(|tables| tables.flow(shops, since, bucket)).await
    }
}

#[async_trait]
impl StatisticsFolding for MemoryLedger {
    async fn fold_statistics(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(|tables| {
            for (narrow, wide, kept) in FOLDS {
                let until = now.checked_sub(kept).unwrap_or(Timestamp::MIN);
                tables.fold(narrow, wide, until.as_millisecond());
            }
            Ok(())
        })
        .await
    }
}

impl Tables {
    pub(super) fn tally(&self, shops: &ShopFilter) -> Tally {
        let received = self.received.iter().filter(|(shop, _)| shops.contains(shop));
        let mut standing = BTreeMap::<&str, (Purse, Timestamp)>::new();
        for row in self.orders_of(shops) {
            let record = &row.record;
            let first = || (Purse::default(), record.received_at);
            let (purse, oldest) = standing.entry(record.phase.name()).or_insert_with(first);
            let facts = &record.facts;
            purse.add(facts.currency.as_str(), Sum::of_total(facts.total.as_str()));
            *oldest = record.received_at.min(*oldest);
        }
        let in_their_order = PHASES.into_iter().filter_map(|(state, phase)| {
            let (purse, oldest) = standing.remove(phase)?;
            let oldest = Some(oldest).filter(|_| state != OrderState::Confirmed);
            let (phase, orders) = (phase.to_owned(), purse.orders());
            Some(Standing { state, phase, orders, money: purse.into_money(), oldest })
        });
        let standing = in_their_order.collect();
        Tally { received: received.map(|(_, orders)| orders).sum(), standing }
    }

    /// The orders of these shops.
    pub(super) fn orders_of<'a>(
        &'a self,
        shops: &'a ShopFilter,
    ) -> impl Iterator<Item = &'a OrderRow> {
        self.orders.values().filter(|row| shops.contains(row.record.key.shop.as_str()))
    }

    fn flow(&self, shops: &ShopFilter, since: Timestamp, bucket: Duration) -> Vec<Flow> {
        let width = i64::try_from(bucket.as_millis()).unwrap_or(60 * MINUTE_MS).max(1);
        let since = stored_time(since).as_millisecond();
        let mut flow = BTreeMap::<i64, Flow>::new();
        for ((_, begin, shop, what, _), bucket) in &*self.activity {
            if *begin < since || !shops.contains(shop) {
                continue;
            }
            let begin = begin - begin % width;
            let Ok(at) = Timestamp::from_millisecond(begin) else { continue };
            let empty = Flow { at, received: 0, confirmed: 0, failed: 0 };
            let sum = flow.entry(begin).or_insert(empty);
            match what {
                Happening::Received => sum.received += bucket.orders,
                Happening::Confirmed => sum.confirmed += bucket.orders,
                Happening::Failed => sum.failed += bucket.orders,
            }
        }
        flow.into_values().collect()
    }

    /// Turns buckets that begin before `until` into wider ones.
    fn fold(&mut self, narrow: i64, wide: i64, until: i64) {
        let width = wide * MINUTE_MS;
        let until = until.div_euclid(width) * width;
        let old = self
            .activity
            .iter()
            .filter(|((minutes, begin, ..), _)| *minutes == narrow && *begin < until);
        let old: Vec<_> = old.map(|(place, bucket)| (place.clone(), *bucket)).collect();
        for (place, bucket) in old {
            self.activity.delete(&place);
            let (_, begin, shop, what, fingerprint) = place;
            self.add_bucket((wide, begin - begin % width, shop, what, fingerprint), bucket);
        }
    }
}
