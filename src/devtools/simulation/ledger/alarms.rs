//! Alarms: what people were told of ERPs and of types of failures.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::Timestamp;

use super::memory::MemoryLedger;
use super::tables::{SeenRow, Tables};
use super::values::{rows, stored_text, stored_time};
use crate::domain::lifecycle::vocabulary::Phase;
use crate::domain::order_filter::ShopFilter;
use crate::ports::alarms::{
    Alarms, SeenFailureType, StoredAlarm, Subject, SubjectKind, UnfinishedOrders,
};
use crate::ports::circuits::CircuitTelling;
use crate::ports::notices::Notice;
use crate::ports::store_error::StoreError;

#[async_trait]
impl Alarms for MemoryLedger {
    async fn alarm(&self, subject: &Subject) -> Result<Option<StoredAlarm>, StoreError> {
        self.read(|tables| tables.alarms.get(&place(subject)).cloned()).await
    }

    async fn due_alarms(
        &self,
        kind: SubjectKind,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<StoredAlarm>, StoreError> {
        self.read(|tables| {
            let is_due = |alarm: &&StoredAlarm| {
                alarm.subject.kind() == kind
                    && !alarm.alarm.is_over
                    && alarm.look_at <= stored_time(now)
            };
            let mut due: Vec<StoredAlarm> =
                tables.alarms.values().filter(is_due).cloned().collect();
            due.sort_by_key(|alarm| (alarm.look_at, alarm.subject.name()));
            due.truncate(rows(limit));
            due
        })
        .await
    }

    async fn write_alarm(
        &self,
        alarm: StoredAlarm,
        notice: Option<Notice>,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let written = tables.put_alarm(alarm);
            if let Some(notice) = notice.filter(|_| written) {
                tables.insert_notice(&notice);
            }
            Ok(written)
        })
        .await
    }

    async fn seen_failure_types(&self, limit: u32) -> Result<Vec<SeenFailureType>, StoreError> {
        self.read(|tables| {
            let is_news = |row: &SeenRow| row.noted.is_none_or(|noted| noted < row.last);
            let news = tables.failure_types.iter().filter(|(_, row)| is_news(row));
            let seen = news.map(|((shop, fingerprint), row)| {
                let group = tables.failure_groups.get(fingerprint);
                SeenFailureType {
                    shop: shop.clone(),
                    fingerprint: fingerprint.clone(),
                    class: group.map(|group| group.class.clone()).unwrap_or_default(),
                    code: group.map(|group| group.code.clone()).unwrap_or_default(),
                    first_seen: row.first,
                    last_seen: row.last,
                    is_known: row.noted.is_some(),
                }
            });
            let mut seen: Vec<SeenFailureType> = seen.collect();
            seen.sort_by(|a, b| {
                (a.last_seen, &a.shop, &a.fingerprint).cmp(&(b.last_seen, &b.shop, &b.fingerprint))
            });
            seen.truncate(rows(limit));
            seen
        })
        .await
    }

    async fn note_failure_type(
        &self,
        shop: &str,
        fingerprint: &str,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|tables| {
            let place = (stored_text(shop), stored_text(fingerprint));
            let until = Some(stored_time(until));
            tables.failure_types.update(&place, |row| row.noted = row.noted.max(until));
            Ok(())
        })
        .await
    }

    async fn unfinished_orders(
        &self,
        shops: &ShopFilter,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<UnfinishedOrders, StoreError> {
        self.read(|tables| tables.unfinished(shops, since, until)).await
    }
}

impl MemoryLedger {
    /// How often each circuit was opened.
    pub async fn openings(&self) -> Result<BTreeMap<String, u32>, StoreError> {
        self.read(|tables| (*tables.openings).clone()).await
    }

    /// Every type of failures that was seen.
    pub async fn failure_types(&self) -> Result<BTreeSet<String>, StoreError> {
        self.read(|tables| tables.failure_types.keys().map(|(_, name)| name.clone()).collect())
            .await
    }
}

impl Tables {
    pub(super) fn open_alarm(
        &mut self,
        erp: &str,
        telling: &CircuitTelling,
        reason: &str,
        now: Timestamp,
    ) {
        let opened = self.openings.get(erp).copied().unwrap_or_default();
        self.openings.put(erp.to_owned(), opened + 1);
        let subject = Subject::Circuit { erp: erp.to_owned() };
        let before = self.alarms.get(&place(&subject)).cloned();
        let (alarm, notice) = StoredAlarm::opens(before, erp, telling, reason, now);
        self.put_alarm(alarm);
        notice.iter().for_each(|notice| self.insert_notice(notice));
    }

    pub(super) fn close_alarm(&mut self, erp: &str, shops: &ShopFilter, now: Timestamp) {
        let subject = Subject::Circuit { erp: erp.to_owned() };
        let Some(mut alarm) = self.alarms.get(&place(&subject)).cloned() else { return };
        alarm.closes(self.unfinished(shops, Timestamp::MAX, now).waiting, now);
        self.put_alarm(alarm);
    }

    /// Writes an alarm over the version that was read.
    fn put_alarm(&mut self, alarm: StoredAlarm) -> bool {
        let place = place(&alarm.subject);
        let version = self.alarms.get(&place).map_or(0, |stored| stored.version);
        let is_current = version == alarm.version;
        if is_current {
            let look_at = stored_time(alarm.look_at);
            self.alarms.put(place, StoredAlarm { look_at, version: version + 1, ..alarm });
        }
        is_current
    }

    fn unfinished(
        &self,
        shops: &ShopFilter,
        since: Timestamp,
        until: Timestamp,
    ) -> UnfinishedOrders {
        let (since, until) = (since.as_millisecond(), until.as_millisecond());
        let mut orders = UnfinishedOrders::default();
        for record in self.orders_of(shops).map(|row| &row.record) {
            if record.received_at.as_millisecond() > until {
                continue;
            }
            let failed = record.last_failure.as_ref().map(|failure| failure.at);
            let has_failed = failed.is_some_and(|at| at.as_millisecond() >= since);
            match record.phase {
                Phase::Queued | Phase::Held | Phase::Retrying { .. } => orders.waiting += 1,
                Phase::OutcomeUnknown { .. } if has_failed => orders.unclear += 1,
                Phase::Parked if has_failed => orders.parked += 1,
                _ => {}
            }
        }
        orders
    }
}

fn place(subject: &Subject) -> (&'static str, String) {
    (subject.kind().as_str(), stored_text(&subject.name()))
}
