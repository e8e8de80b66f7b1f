//! Orders that the ERP has twice: the rows that receipts add, and that a person settles them.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::Tables;
use super::values::{stored_text, stored_time};
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::ShopFilter;
use crate::ports::audit::Act;
use crate::ports::notices::Notice;
use crate::ports::orders::ConfirmRequest;
use crate::ports::second_entries::{SecondEntries, SecondEntry, Settlement};
use crate::ports::store_error::StoreError;

#[async_trait]
impl SecondEntries for MemoryLedger {
    async fn second_entries(&self, key: &OrderKey) -> Result<Vec<SecondEntry>, StoreError> {
        self.read(|tables| tables.second_entries_of(key)).await
    }

    async fn count_entered_twice(&self, shops: &ShopFilter) -> Result<u64, StoreError> {
        self.read(|tables| {
            let open = tables.second_entries.iter().filter(|(_, entry)| entry.settled.is_none());
            let orders: BTreeSet<&OrderKey> = open.map(|((key, _), _)| key).collect();
            orders.into_iter().filter(|key| shops.contains(key.shop.as_str())).count() as u64
        })
        .await
    }

    async fn settle_second_entries(&self, key: &OrderKey, act: &Act) -> Result<u64, StoreError> {
        self.write(|tables| tables.settle_second_entries(key, act)).await
    }
}

impl Tables {
    /// The further numbers of an order, oldest first.
    pub(super) fn second_entries_of(&self, key: &OrderKey) -> Vec<SecondEntry> {
        let first = (key.clone(), String::new());
        let of_order =
            self.second_entries.range(first..).take_while(|((other, _), _)| other == key);
        let mut entries: Vec<SecondEntry> = of_order.map(|(_, entry)| entry.clone()).collect();
        entries.sort_by_key(|entry| entry.found_at);
        entries
    }

    /// Another number than the first is a row of its own, with one notice; whether it is new.
    pub(super) fn add_second_entry(
        &mut self,
        request: &ConfirmRequest,
        first: Option<&str>,
    ) -> bool {
        let (Some(first), Some(number)) = (first, request.erp_order_id.as_deref()) else {
            return false;
        };
        let entry = SecondEntry {
            number: stored_text(number),
            first_number: stored_text(first),
            attempt: request.attempt,
            worker: stored_text(&request.worker),
            found_at: stored_time(request.now),
            settled: None,
        };
        let place = (request.key.clone(), entry.number.clone());
        if !self.second_entries.insert_new(place, entry) {
            return false;
        }
        if let Some(row) = self.orders.get(&request.key) {
            let first = Some(first.to_owned());
            let notice =
                Notice::of_second_entry(&row.record, request.attempt, number, first, request.now);
            self.insert_notice(&notice);
        }
        true
    }

    fn settle_second_entries(&mut self, key: &OrderKey, act: &Act) -> Result<u64, StoreError> {
        let entries = self.second_entries_of(key).into_iter();
        let open: Vec<SecondEntry> = entries.filter(|entry| entry.settled.is_none()).collect();
        if open.is_empty() {
            return Ok(0);
        }
        let settlement = Settlement {
            at: stored_time(act.now),
            actor: stored_text(&act.actor),
            reason: stored_text(act.reason.as_deref().unwrap_or_default()),
        };
        for entry in &open {
            let place = (key.clone(), entry.number.clone());
            self.second_entries.update(&place, |entry| entry.settled = Some(settlement.clone()));
        }
        self.write_audit(act, Deed::on("order.settle_double", key))?;
        Ok(open.len() as u64)
    }
}
