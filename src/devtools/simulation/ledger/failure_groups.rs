//! Lost orders by the kind of their failure: how many, worth how much, since when, and what people noted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{GroupRow, Happening, OrderRow, Tables};
use super::values::{rows, stored_option, stored_text, stored_time};
use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::money::{Purse, Sum};
use crate::domain::order_filter::ShopFilter;
use crate::ports::audit::Act;
use crate::ports::failure_groups::{FailureGroups, Group, MAX_GROUPS};
use crate::ports::store_error::StoreError;

const HOUR_MS: i64 = 3_600_000;
/// Hours of which the failures are told one by one.
const HOURS: usize = 24;

#[async_trait]
impl FailureGroups for MemoryLedger {
    async fn failure_groups(
        &self,
        shops: &ShopFilter,
        fingerprint: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Group>, StoreError> {
        let now = stored_time(now);
        self.read(|tables| match fingerprint {
            Some(fingerprint) => {
                let group = tables.group(fingerprint, shops, now).filter(|group| {
                    shops.is_all() || group.orders > 0 || group.failures.iter().any(|n| *n > 0)
                });
                group.into_iter().collect()
            }
            None => tables.lost_groups(shops, now),
        })
        .await
    }

    async fn note_group(
        &self,
        fingerprint: &str,
        note: Option<&str>,
        runbook: Option<&str>,
        act: &Act,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let name = stored_text(fingerprint);
            let Some(before) = tables.failure_groups.get(&name).cloned() else { return Ok(false) };
            let after = GroupRow {
                note: stored_option(note),
                runbook: stored_option(runbook),
                noted_by: Some(stored_text(&act.actor)),
                noted_at: Some(stored_time(act.now)),
                ..before.clone()
            };
            let deed = Deed::new("group.note", &name).changing(told(&before), told(&after));
            tables.failure_groups.put(name, after);
            tables.write_audit(act, deed)?;
            Ok(true)
        })
        .await
    }
}

impl Tables {
    /// The groups with most lost orders.
    fn lost_groups(&self, shops: &ShopFilter, now: Timestamp) -> Vec<Group> {
        let mut orders = BTreeMap::<&str, u64>::new();
        for row in self.lost(shops) {
            *orders.entry(fingerprint(row)).or_default() += 1;
        }
        let mut names: Vec<(Reverse<u64>, &str)> =
            orders.into_iter().map(|(name, orders)| (Reverse(orders), name)).collect();
        names.sort_unstable();
        names.truncate(rows(MAX_GROUPS));
        names.into_iter().filter_map(|(_, name)| self.group(name, shops, now)).collect()
    }

    fn group(&self, name: &str, shops: &ShopFilter, now: Timestamp) -> Option<Group> {
        let known = self.failure_groups.get(name)?;
        let lost: Vec<&OrderRow> =
            self.lost(shops).filter(|row| fingerprint(row) == name).collect();
        let mut purse = Purse::default();
        for row in &lost {
            let facts = &row.record.facts;
            purse.add(facts.currency.as_str(), Sum::of_total(facts.total.as_str()));
        }
        let of_shops: BTreeSet<&str> =
            lost.iter().map(|row| row.record.key.shop.as_str()).collect();
        Some(Group {
            fingerprint: name.to_owned(),
            class: known.class.clone(),
            code: known.code.clone(),
            message: sample(known, shops, &lost),
            orders: purse.orders(),
            money: purse.into_money(),
            shops: of_shops.into_iter().map(str::to_owned).collect(),
            first_seen: known.first_seen,
            last_seen: self.last_seen(name, shops).max(known.first_seen),
            failures: self.failures_by_hour(name, shops, now),
            is_new: now.duration_since(known.first_seen) < SignedDuration::from_hours(24),
            note: known.note.clone(),
            runbook: known.runbook.clone(),
            noted_by: known.noted_by.clone(),
            noted_at: known.noted_at,
        })
    }

    fn lost<'a>(&'a self, shops: &'a ShopFilter) -> impl Iterator<Item = &'a OrderRow> {
        self.orders_of(shops).filter(|row| row.record.phase.state() == OrderState::OrderedFailed)
    }

    fn last_seen(&self, name: &str, shops: &ShopFilter) -> Timestamp {
        let last = self.failures_of(name, shops).map(|(_, _, last)| last).max();
        let last = last.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        last.unwrap_or(Timestamp::MIN)
    }

    /// Failures in each of the last hours, oldest first.
    fn failures_by_hour(&self, name: &str, shops: &ShopFilter, now: Timestamp) -> Vec<u64> {
        let begin = (now.as_millisecond().div_euclid(HOUR_MS) - 23) * HOUR_MS;
        let mut failures = vec![0; HOURS];
        for (at, orders, _) in self.failures_of(name, shops).filter(|(at, ..)| *at >= begin) {
            let hour = usize::try_from((at - begin) / HOUR_MS).unwrap_or(HOURS);
            if let Some(bucket) = failures.get_mut(hour) {
                *bucket += orders;
            }
        }
        failures
    }

    /// Begin, failures and last failure of each bucket of a group.
    fn failures_of<'a>(
        &'a self,
        name: &'a str,
        shops: &'a ShopFilter,
    ) -> impl Iterator<Item = (i64, u64, i64)> {
        let buckets = self.activity.iter().filter(move |((_, _, shop, what, of), _)| {
            *what == Happening::Failed && of == name && shops.contains(shop)
        });
        buckets.map(|((_, begin, ..), bucket)| (*begin, bucket.orders, bucket.last_ms))
    }
}

fn fingerprint(row: &OrderRow) -> &str {
    row.record.last_failure.as_ref().map_or("", |failure| failure.summary.fingerprint.as_str())
}

/// The stored message may be of a shop that the reader must not see: then it is that of an order which may be seen.
fn sample(known: &GroupRow, shops: &ShopFilter, lost: &[&OrderRow]) -> String {
    if shops.is_all() {
        return known.message.clone();
    }
    let failure = lost.first().and_then(|row| row.record.last_failure.as_ref());
    failure.map(|failure| failure.summary.message.clone()).unwrap_or_default()
}

/// A note for the audit.
fn told(group: &GroupRow) -> String {
    let parts = [group.note.as_deref(), group.runbook.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}
