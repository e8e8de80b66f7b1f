//! Orders that the ERP has with another sum: what is known of them, and that a person accepted the sum.

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::order::values::OrderKey;
use crate::domain::total::{Amount, TotalDifference};
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// Differences that failed attempts reported (`OrderFailures::record_failure` adds them).
#[async_trait]
pub trait TotalDifferences: Send + Sync {
    /// Those of one order, oldest first.
    async fn total_differences(&self, key: &OrderKey) -> Result<Vec<FoundTotal>, StoreError>;
    /// A person accepts the ERP's sum as `attempt` found it; whether that is new.
    async fn accept_total(
        &self,
        key: &OrderKey,
        attempt: u32,
        act: &Act,
    ) -> Result<bool, StoreError>;
}

/// What the submitter asks.
#[async_trait]
pub trait AcceptedTotals: Send + Sync {
    /// The sum in the ERP that a person accepted last for this order.
    async fn accepted_total(&self, key: &OrderKey) -> Result<Option<Amount>, StoreError>;
}

/// A difference that an attempt found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FoundTotal {
    /// The attempt.
    pub attempt: u32,
    /// When.
    #[schemars(with = "String")]
    pub found_at: Timestamp,
    #[serde(flatten)]
    pub difference: TotalDifference,
    /// Who accepted the ERP's sum.
    pub accepted: Option<Acceptance>,
}

/// That a person has accepted the ERP's sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Acceptance {
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// The sum that a person accepted last, out of the differences of one order, oldest first.
pub fn newest_accepted(found: Vec<FoundTotal>) -> Option<Amount> {
    let accepted = found.into_iter().rev().find(|total| total.accepted.is_some());
    accepted.map(|total| total.difference.found)
}
