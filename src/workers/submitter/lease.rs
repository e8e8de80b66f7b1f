//! The lease of one attempt: what the claim in the ledger still allows, looked at before every step.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::lifecycle::claim::Claim;
use crate::domain::order::values::OrderKey;
use crate::domain::retry::later;
use crate::ports::erp::CommitGuard;
use crate::ports::orders::{OrderTransfers, RenewRequest};
use crate::ports::store_error::StoreError;
use crate::workers::context::WorkerContext;

/// How much longer than the longest call a lease is: time to wait at the gate and to write the
/// outcome. If it is not enough, another worker asks the ERP about the order; nothing is sent
/// twice.
const MARGIN: Duration = Duration::from_secs(5);

/// How long a claim is taken for: the longest call twice, and time to write the outcome.
pub(super) fn length_for(call_budget: Duration) -> Duration {
    call_budget * 2 + MARGIN
}

/// The lease of a claimed order. It is the guard of the ERP's commit, too.
pub(super) struct Lease {
    context: Arc<WorkerContext>,
    ledger: Arc<dyn OrderTransfers>,
    key: OrderKey,
    claim: String,
    length: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    until: Timestamp,
    begun: bool,
    is_lost: bool,
}

impl Lease {
    /// The lease that `claim` on the order `key` gives.
    pub(super) fn of(
        context: Arc<WorkerContext>,
        ledger: Arc<dyn OrderTransfers>,
        key: OrderKey,
        claim: &Claim,
        call_budget: Duration,
    ) -> Self {
        let state = State { until: claim.until, begun: claim.begun, is_lost: false };
        let length = length_for(call_budget);
        let claim = claim.worker.clone();
        Self { context, ledger, key, claim, length, state: Mutex::new(state) }
    }

    /// Whether it outlives a call that starts now; it is extended if it does not. The ledger may have been away
    /// for minutes, so every time is read where it is used, and once more after the answer.
    pub(super) async fn holds(&self) -> bool {
        if self.outlives_a_call() {
            return true;
        }
        let renewed = self.context.availability.retry_until_available(|| self.renew(false)).await;
        matches!(renewed, Ok(true)) && self.outlives_a_call()
    }

    /// Whether the request that enters the order may have been sent.
    pub(super) fn has_begun(&self) -> bool {
        self.state().begun
    }

    /// Whether the order must not be entered any more.
    pub(super) fn is_lost(&self) -> bool {
        self.state().is_lost
    }

    fn outlives_a_call(&self) -> bool {
        later(self.context.now(), self.length - MARGIN) <= self.state().until
    }

    async fn renew(&self, begins: bool) -> Result<bool, StoreError> {
        let now = self.context.now();
        let (key, worker) = (self.key.clone(), self.claim.clone());
        let until = later(now, self.length);
        let request = RenewRequest { key, worker, until, begins, now };
        let renewed = self.ledger.renew_claim(request).await?;
        if renewed {
            self.change(|state| state.until = until);
        }
        Ok(renewed)
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[async_trait]
impl CommitGuard for Lease {
    async fn begin(&self) -> bool {
        let is_known = self.has_begun() && self.outlives_a_call();
        // Without the ledger nothing begins: the order goes back and is sent when the ledger is there.
        let may_begin = is_known || self.renew(true).await.unwrap_or(false);
        match may_begin && self.outlives_a_call() {
            true => self.change(|state| state.begun = true),
            false => self.change(|state| state.is_lost = true),
        }
        !self.is_lost()
    }
}
