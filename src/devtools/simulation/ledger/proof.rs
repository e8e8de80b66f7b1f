//! The check that nothing is lost: counts, and promises that rows can break.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::Timestamp;

use super::memory::MemoryLedger;
use super::order_rows::erp_order_id;
use super::tables::{OrderRow, Outcome, Tables};
use super::values::stored_time;
use crate::domain::lifecycle::vocabulary::{OrderState, Phase};
use crate::domain::notice::NoticeKind;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::ShopFilter;
use crate::ports::ledger::{LedgerHealth, LedgerProof, LedgerReport, OpenCount, Violation};
use crate::ports::order_desk::Attempt;
use crate::ports::store_error::StoreError;

#[async_trait]
impl LedgerProof for MemoryLedger {
    async fn count_open(&self) -> Result<Vec<OpenCount>, StoreError> {
        self.read(|tables| {
            let standing = tables.tally(&ShopFilter::default()).standing.into_iter();
            let open = standing.filter(|s| s.state != OrderState::Confirmed);
            open.map(|s| OpenCount {
                state: s.state,
                phase: s.phase,
                orders: s.orders,
                oldest: s.oldest,
            })
            .collect()
        })
        .await
    }

    async fn count_received(&self) -> Result<u64, StoreError> {
        self.read(Tables::count_received).await
    }

    async fn count_difference(&self) -> Result<i64, StoreError> {
        self.read(|tables| {
            let accounted = tables.orders.len() as u64 + tables.count_gone();
            difference(tables.count_received(), accounted)
        })
        .await
    }

    async fn check_ledger(&self, since: Option<Timestamp>) -> Result<LedgerReport, StoreError> {
        self.read(|tables| tables.check(since)).await
    }
}

/// Its tables are always those of this release.
impl LedgerHealth for MemoryLedger {
    fn fault(&self) -> Option<StoreError> {
        None
    }
}

impl Tables {
    fn count_received(&self) -> u64 {
        self.received.values().sum()
    }

    fn check(&self, since: Option<Timestamp>) -> LedgerReport {
        let begin = stored_time(since.unwrap_or(Timestamp::UNIX_EPOCH));
        let rows: Vec<&OrderRow> =
            self.orders.values().filter(|row| row.record.received_at >= begin).collect();
        let count = |holds: &dyn Fn(&Phase) -> bool| {
            rows.iter().filter(|row| holds(&row.record.phase)).count() as u64
        };
        let confirmed = count(&|phase| phase.state() == OrderState::Confirmed);
        let lost = count(&|phase| phase.state() == OrderState::OrderedFailed);
        let queued = count(&|phase| *phase == Phase::Queued);
        let held = count(&|phase| *phase == Phase::Held);
        // The tally and what is gone have no dates: for a part of the ledger only the rows can be counted.
        let (received, gone) = match since {
            Some(_) => (rows.len() as u64, 0),
            None => (self.count_received(), self.count_gone()),
        };
        let difference = difference(received, confirmed + lost + queued + held + gone);
        let settled = self.second_entries.values().filter(|entry| entry.settled.is_some());
        LedgerReport {
            received,
            confirmed,
            lost,
            queued,
            held,
            gone,
            difference,
            settled_second_entries: settled.count() as u64,
            violations: self.violations(&rows),
        }
    }

    /// Each promise with the orders that break it.
    fn violations(&self, rows: &[&OrderRow]) -> Vec<Violation> {
        let told = self.told_failures();
        let breaks = |promise, is_broken: &dyn Fn(&OrderRow) -> bool| {
            violation(promise, rows.iter().copied().filter(|row| is_broken(row)))
        };
        let all = [
            breaks("a transferred order has exactly one successful attempt", &|row| {
                is_transferred(row) && self.count_first_successes(row) != 1
            }),
            breaks(
                "no order is in the ERP under two numbers, unless a person has settled it",
                &|row| {
                    let entries = self.second_entries_of(&row.record.key);
                    entries.iter().any(|entry| entry.settled.is_none())
                },
            ),
            breaks("an order that is not transferred has no successful attempt", &|row| {
                !is_transferred(row) && self.count_attempts(row, Outcome::Succeeded) > 0
            }),
            breaks("fail_count equals the failed attempts", &|row| {
                row.record.fail_count != self.count_attempts(row, Outcome::Failed)
            }),
            breaks("every failed attempt has its notice to the administrators", &|row| {
                row.record.fail_count != told.get(&row.record.key).copied().unwrap_or(0)
            }),
            breaks("no two orders of a shop have the same number in the ERP", &|row| {
                self.shares_number(row)
            }),
        ];
        all.into_iter().flatten().collect()
    }

    /// Successful attempts without those of second entries, which are told on their own.
    fn count_first_successes(&self, row: &OrderRow) -> usize {
        let second = self.second_entries_of(&row.record.key);
        let is_second = |attempt: &Attempt| {
            second.iter().any(|entry| Some(&entry.number) == attempt.erp_order_id.as_ref())
        };
        let attempts = self.attempts_of(&row.record.key);
        let succeeded = attempts.filter(|a| a.outcome == Outcome::Succeeded.as_str());
        succeeded.filter(|attempt| !is_second(attempt)).count()
    }

    fn count_attempts(&self, row: &OrderRow, outcome: Outcome) -> u32 {
        let of_outcome =
            self.attempts_of(&row.record.key).filter(|attempt| attempt.outcome == outcome.as_str());
        of_outcome.fold(0, |count, _| count + 1)
    }

    /// How many failures of each order the administrators are told.
    fn told_failures(&self) -> BTreeMap<OrderKey, u32> {
        let mut told = BTreeMap::new();
        for notice in self.notices.values().map(|row| &row.notice) {
            let order_id = notice.detail.order_id.as_deref();
            let key = order_id.and_then(|id| OrderKey::new(&notice.detail.shop, id).ok());
            if let Some(key) = key.filter(|_| notice.kind == NoticeKind::OrderFailed) {
                *told.entry(key).or_default() += 1;
            }
        }
        told
    }

    fn shares_number(&self, row: &OrderRow) -> bool {
        let key = &row.record.key;
        let under: Option<&BTreeSet<OrderKey>> =
            erp_order_id(&row.record).and_then(|number| self.in_erp.get(number));
        under.into_iter().flatten().any(|other| other.shop == key.shop && other != key)
    }
}

fn is_transferred(row: &OrderRow) -> bool {
    matches!(row.record.phase, Phase::Transferred { .. })
}

fn difference(received: u64, accounted: u64) -> i64 {
    i64::try_from(i128::from(received) - i128::from(accounted)).unwrap_or(i64::MAX)
}

fn violation<'a>(
    promise: &'static str,
    broken: impl Iterator<Item = &'a OrderRow>,
) -> Option<Violation> {
    let keys: Vec<&OrderKey> = broken.map(|row| &row.record.key).collect();
    let examples = keys.iter().take(5).map(ToString::to_string).collect();
    (!keys.is_empty()).then_some(Violation { promise, rows: keys.len() as u64, examples })
}
