//! Circuits, shared by all workers through the ledger.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::alarm::Damping;
use crate::domain::circuit::Circuit;
use crate::domain::order_filter::ShopFilter;
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// Circuits, shared by all workers.
#[async_trait]
pub trait Circuits: Send + Sync {
    /// Every circuit that was ever opened.
    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError>;
    /// Opens a closed circuit, with its alarm and the notice about it; `false` when it was not closed.
    async fn open_circuit(
        &self,
        erp: &str,
        reason: &str,
        trial_at: Timestamp,
        telling: Option<&CircuitTelling>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
    /// Acquires the trial of an open circuit until then; `false` if another worker has it, it is
    /// not due or nothing is open.
    async fn begin_trial(
        &self,
        erp: &str,
        worker: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
    /// The trial failed: open again until then.
    async fn fail_trial(
        &self,
        erp: &str,
        worker: &str,
        reason: &str,
        trial_at: Timestamp,
    ) -> Result<(), StoreError>;
    /// Makes the next trial of an open circuit due at `at`, if it would be later.
    async fn hasten_trial(&self, erp: &str, at: Timestamp) -> Result<(), StoreError>;
    /// The trial succeeded: closed, and its alarm has stopped; the orders of `shops` that wait are counted. `false`
    /// when it is not half-open any more, because a person holds it.
    async fn close_circuit(
        &self,
        erp: &str,
        shops: &ShopFilter,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// Who is told that a circuit opened, and how often at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitTelling {
    /// Whose administrators are told.
    pub shop: String,
    pub damping: Damping,
}

/// Circuits as people hold and release them.
#[async_trait]
pub trait CircuitDesk: Send + Sync {
    /// A person stops the transfer to an ERP until it is released.
    async fn hold_circuit(&self, erp: &str, reason: &str, act: &Act) -> Result<(), StoreError>;
    /// The next trial of an open circuit is due now; `false` when it is not open.
    async fn release_circuit(&self, erp: &str, act: &Act) -> Result<bool, StoreError>;
}
