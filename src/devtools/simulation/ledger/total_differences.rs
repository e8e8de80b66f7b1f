//! Orders that the ERP has with another sum: the rows that failed attempts add, and that a person accepts the sum.

use async_trait::async_trait;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::Tables;
use super::values::{stored_text, stored_time};
use crate::domain::order::values::OrderKey;
use crate::domain::total::Amount;
use crate::ports::audit::Act;
use crate::ports::orders::FailureRequest;
use crate::ports::store_error::StoreError;
use crate::ports::total_differences::{
    Acceptance, AcceptedTotals, FoundTotal, TotalDifferences, newest_accepted,
};

#[async_trait]
impl TotalDifferences for MemoryLedger {
    async fn total_differences(&self, key: &OrderKey) -> Result<Vec<FoundTotal>, StoreError> {
        self.read(|tables| tables.total_differences_of(key)).await
    }

    async fn accept_total(
        &self,
        key: &OrderKey,
        attempt: u32,
        act: &Act,
    ) -> Result<bool, StoreError> {
        self.write(|tables| tables.accept_total(key, attempt, act)).await
    }
}

#[async_trait]
impl AcceptedTotals for MemoryLedger {
    async fn accepted_total(&self, key: &OrderKey) -> Result<Option<Amount>, StoreError> {
        Ok(newest_accepted(self.total_differences(key).await?))
    }
}

impl Tables {
    /// Those of an order, oldest first.
    pub(super) fn total_differences_of(&self, key: &OrderKey) -> Vec<FoundTotal> {
        let of_order = self
            .total_differences
            .range((key.clone(), 0)..)
            .take_while(|((other, _), _)| other == key);
        of_order.map(|(_, found)| found.clone()).collect()
    }

    /// Keeps the difference that a failed attempt found, if it found one.
    pub(super) fn keep_difference(&mut self, request: &FailureRequest) {
        let failed = &request.failed;
        let Some(difference) = &failed.failure.total else { return };
        let found = FoundTotal {
            attempt: failed.attempt,
            found_at: stored_time(failed.occurred_at),
            difference: (**difference).clone(),
            accepted: None,
        };
        // It is there already when the same failure comes twice.
        let _: bool =
            self.total_differences.insert_new((request.key.clone(), failed.attempt), found);
    }

    fn accept_total(
        &mut self,
        key: &OrderKey,
        attempt: u32,
        act: &Act,
    ) -> Result<bool, StoreError> {
        let place = (key.clone(), attempt);
        let is_open =
            self.total_differences.get(&place).is_some_and(|found| found.accepted.is_none());
        if is_open {
            let acceptance = Acceptance {
                at: stored_time(act.now),
                actor: stored_text(&act.actor),
                reason: stored_text(act.reason.as_deref().unwrap_or_default()),
            };
            self.total_differences.update(&place, |found| found.accepted = Some(acceptance));
            self.write_audit(act, Deed::on("order.accept_total", key))?;
        }
        Ok(is_open)
    }
}
