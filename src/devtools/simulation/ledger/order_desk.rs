//! One order as people see it and change it; every change writes an audit row in the same transaction.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{OrderRow, Outcome, Tables};
use super::values::rows;
use crate::domain::lifecycle::transitions::{InvalidTransition, OrderRecord};
use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::order::values::OrderKey;
use crate::ports::audit::Act;
use crate::ports::notices::StoredMail;
use crate::ports::order_desk::{
    Attempt, Conflict, OrderDesk, OrderDetail, OrderRecords, StoredExchange,
};
use crate::ports::store_error::StoreError;

/// Most shops in which a number is looked up.
const MANY_SHOPS: u32 = 20;
/// Most exchanges of one order that are shown.
const MANY_EXCHANGES: u32 = 1_000;

#[async_trait]
impl OrderDesk for MemoryLedger {
    async fn order(&self, key: &OrderKey) -> Result<Option<OrderDetail>, StoreError> {
        self.read(|tables| tables.orders.get(key).map(|row| tables.detail(row))).await
    }

    async fn find_orders(&self, order_id: &str) -> Result<Vec<OrderKey>, StoreError> {
        self.read(|tables| {
            let keys = tables.received.keys().filter_map(|shop| OrderKey::new(shop, order_id).ok());
            keys.filter(|key| tables.orders.contains_key(key)).take(rows(MANY_SHOPS)).collect()
        })
        .await
    }

    async fn remove_order(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError> {
        let remove = |record: &mut OrderRecord| record.remove(act.now);
        self.write(|tables| tables.change(Deed::on("order.remove", key), key, act, remove)).await
    }

    async fn restore_order(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError> {
        let restore = |record: &mut OrderRecord| record.restore(act.now);
        self.write(|tables| tables.change(Deed::on("order.restore", key), key, act, restore)).await
    }

    async fn declare_absent(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError> {
        let declare = |record: &mut OrderRecord| record.declare_absent(act.now);
        let deed = Deed::on("order.declare_absent", key);
        self.write(|tables| tables.change(deed, key, act, declare)).await
    }

    async fn audit_order(&self, act: &Act, action: &str, key: &OrderKey) -> Result<(), StoreError> {
        self.write(|tables| tables.write_audit(act, Deed::on(action, key))).await
    }
}

#[async_trait]
impl OrderRecords for MemoryLedger {
    async fn records(&self, keys: &[OrderKey]) -> Result<Vec<OrderRecord>, StoreError> {
        self.read(|tables| tables.rows_of(keys).map(|row| row.record.clone()).collect()).await
    }

    async fn attempt(&self, key: &OrderKey, number: u32) -> Result<Option<Attempt>, StoreError> {
        self.read(|tables| {
            // What succeeded is the truth about an attempt that was first reported as failed.
            let outcomes = [Outcome::Succeeded, Outcome::Failed];
            let mut found = outcomes.into_iter().filter_map(|outcome| {
                tables.attempts.get(&(key.clone(), number, outcome)).cloned()
            });
            found.next()
        })
        .await
    }
}

impl Tables {
    /// The rows of those of these orders that are there, each once.
    pub(super) fn rows_of<'a>(
        &'a self,
        keys: &'a [OrderKey],
    ) -> impl Iterator<Item = &'a OrderRow> {
        let keys: BTreeSet<&OrderKey> = keys.iter().collect();
        keys.into_iter().filter_map(|key| self.orders.get(key))
    }

    /// Lets a transition change an order, and writes it back with its audit row.
    fn change(
        &mut self,
        deed: Deed<'_>,
        key: &OrderKey,
        act: &Act,
        transition: impl FnOnce(&mut OrderRecord) -> Result<(), InvalidTransition>,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError> {
        let Some(row) = self.orders.get(key) else {
            let state = OrderState::Confirmed;
            return Ok(Err(InvalidTransition::InvalidState { state, phase: "unknown" }));
        };
        let mut record = row.record.clone();
        let before = standing(&record);
        if let Err(invalid) = transition(&mut record) {
            return Ok(Err(invalid));
        }
        record.updated_at = act.now;
        self.save_order(record.clone());
        self.write_audit(act, deed.changing(before, standing(&record)))?;
        Ok(Ok(record))
    }

    fn detail(&self, row: &OrderRow) -> OrderDetail {
        let key = &row.record.key;
        OrderDetail {
            record: row.record.clone(),
            document: row.document.clone(),
            revisions: self.revisions_of(key),
            source: row.source.as_str().to_owned(),
            attempts: self.attempts_of(key).cloned().collect(),
            second_entries: self.second_entries_of(key),
            total_differences: self.total_differences_of(key),
            exchanges: self.exchanges_of(key),
            conflicts: self.conflicts_of(key),
            mails: self.mails_of(key),
            audit: self.audit_of(key),
        }
    }

    /// The attempts of an order, oldest first.
    pub(super) fn attempts_of(&self, key: &OrderKey) -> impl Iterator<Item = &Attempt> {
        let place = |number, outcome| (key.clone(), number, outcome);
        let all = place(0, Outcome::Failed)..=place(u32::MAX, Outcome::Succeeded);
        self.attempts.range(all).map(|(_, attempt)| attempt)
    }

    fn exchanges_of(&self, key: &OrderKey) -> Vec<StoredExchange> {
        let first = (key.clone(), String::new(), 0);
        let of_order = self.exchanges.range(first..).take_while(|((other, ..), _)| other == key);
        let mut found: Vec<_> = of_order.collect();
        // Those of one attempt and time stay in the order of their worker and place.
        found.sort_by_key(|(_, kept)| (kept.attempt, kept.at));
        found.into_iter().take(rows(MANY_EXCHANGES)).map(|(_, kept)| kept.clone()).collect()
    }

    fn conflicts_of(&self, key: &OrderKey) -> Vec<Conflict> {
        let all = (key.clone(), [0; 32])..=(key.clone(), [u8::MAX; 32]);
        let mut found: Vec<Conflict> =
            self.conflicts.range(all).map(|(_, conflict)| conflict.clone()).collect();
        found.sort_by_key(|conflict| conflict.received_at);
        found
    }

    fn mails_of(&self, key: &OrderKey) -> Vec<StoredMail> {
        let notices = self.notices.values().filter(|row| {
            let detail = &row.notice.detail;
            detail.shop == key.shop.as_str()
                && detail.order_id.as_deref() == Some(key.order_id.as_str())
        });
        let mut ids = BTreeSet::new();
        for row in notices {
            ids.extend(row.mail);
            let parts = self.mail_parts.keys().filter(|(_, notice)| *notice == row.notice.id);
            ids.extend(parts.map(|(part, _)| *part));
        }
        let mut mails: Vec<StoredMail> =
            ids.iter().filter_map(|id| self.mails.get(id)).map(|row| row.mail.clone()).collect();
        mails.retain(|mail| !mail.is_only_in_parts());
        mails.sort_by_key(|mail| (mail.created_at, mail.id));
        mails
    }
}

fn standing(record: &OrderRecord) -> String {
    format!("{}/{}", record.phase.state().as_str(), record.phase.name())
}
