//! The result of the check that nothing is lost.

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::lifecycle::vocabulary::OrderState;
use crate::ports::store_error::StoreError;

/// Counts that prove that nothing is lost.
#[async_trait]
pub trait LedgerProof: Send + Sync {
    /// Open orders by state and phase.
    async fn count_open(&self) -> Result<Vec<OpenCount>, StoreError>;
    /// Orders received, counted when they arrived.
    async fn count_received(&self) -> Result<u64, StoreError>;
    /// Orders received, counted when they arrived, minus the existing rows; anything but 0 is a
    /// loss. Counts every row.
    async fn count_difference(&self) -> Result<i64, StoreError>;
    /// Verifies that nothing is lost; reads every row.
    async fn check_ledger(&self, since: Option<Timestamp>) -> Result<LedgerReport, StoreError>;
}

/// What is wrong with the ledger itself.
pub trait LedgerHealth: Send + Sync {
    /// A fault of ours, such as a missing migration, because of which the hot path stands still now.
    fn fault(&self) -> Option<StoreError>;
}

/// Open orders of one state and phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenCount {
    /// The state.
    pub state: OrderState,
    /// The phase.
    pub phase: String,
    /// How many.
    pub orders: u64,
    /// When the oldest of them was received.
    pub oldest: Option<Timestamp>,
}

/// The result of the check that nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LedgerReport {
    /// Orders received, counted when they arrived.
    pub received: u64,
    /// Orders in `confirmed`.
    pub confirmed: u64,
    /// Orders in `ordered_failed`.
    pub lost: u64,
    /// Orders in `payed`/`queued`.
    pub queued: u64,
    /// Orders in `payed`/`held`.
    pub held: u64,
    /// Finished orders that were taken out by retention, or erased.
    pub gone: u64,
    /// received - (confirmed + lost + queued + held + gone).
    pub difference: i64,
    /// Further numbers in the ERP that people have dealt with.
    pub settled_second_entries: u64,
    /// Rows that break a promise, with examples.
    pub violations: Vec<Violation>,
}

/// A promise that rows break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Violation {
    /// The promise.
    pub promise: &'static str,
    /// How many rows break it.
    pub rows: u64,
    /// Up to five of them.
    pub examples: Vec<String>,
}
