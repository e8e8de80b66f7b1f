//! Taking what is old out of the ledger, and what stays of it.
//!
//! An order goes in two steps: first it is noted as gone, then its rows are deleted. Between the two every message of
//! it that was on its way comes to its end, so none can put it in again.

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::order::values::OrderKey;
use crate::domain::retention::OldKind;
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// Orders, mails or other rows that are taken out in one transaction.
pub const RETAINED_AT_ONCE: u32 = 200;

/// What the ledger does about what is old.
#[async_trait]
pub trait Retention: Send + Sync {
    /// How many of that kind are older than `before`.
    async fn count_old(&self, kind: OldKind, before: Timestamp) -> Result<u64, StoreError>;
    /// Notes up to `limit` finished orders that did not change since `before`; how many.
    async fn note_old_orders(
        &self,
        kind: OldKind,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError>;
    /// Deletes the rows of up to `limit` noted orders, and counts them. An order that changed since it was noted stays.
    async fn delete_noted_orders(&self, limit: u32, now: Timestamp) -> Result<Deleted, StoreError>;
    /// Deletes up to `limit` other rows of that kind, and counts them.
    async fn delete_old(
        &self,
        kind: OldKind,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, StoreError>;
    /// What was taken out up to now, by kind.
    async fn removals(&self) -> Result<Vec<RemovalCount>, StoreError>;
    /// Writes down that a person had something taken out.
    async fn note_removal(&self, act: &Act, action: &str, became: String)
    -> Result<(), StoreError>;
    /// What is left of an order that is gone.
    async fn gone_order(&self, key: &OrderKey) -> Result<Option<GoneOrder>, StoreError>;
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Noted orders that were looked at.
    pub seen: u64,
    /// Those whose rows were deleted.
    pub gone: u64,
}

/// How many of one kind were taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RemovalCount {
    /// A kind of `retention.*`, or `erased`.
    pub kind: String,
    /// How many.
    pub removed: u64,
    /// When the last ones were.
    #[schemars(with = "String")]
    pub last: Timestamp,
}

/// What is left of an order that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneOrder {
    /// SHA-256 of its content.
    pub content: Vec<u8>,
    /// The phase in which it ended.
    pub phase: String,
    /// Its number in the ERP.
    pub erp_order_id: Option<String>,
    /// Why it is gone: `confirmed`, `removed` or `erased`.
    pub kind: String,
    /// When; `None`: its rows are still there.
    pub gone_at: Option<Timestamp>,
}
