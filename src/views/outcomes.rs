//! What became of orders that a person transferred or changed.

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::order::values::OrderKey;
use crate::ports::order_desk::Attempt;

/// The outcome of a transfer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OutcomeView {
    /// transferred, failed, unclear, absent, held or waiting.
    pub outcome: &'static str,
    /// One sentence about it.
    pub detail: String,
    /// The ERP's number.
    pub erp_order_id: Option<String>,
    /// The attempt that failed.
    pub attempt: Option<Attempt>,
}

impl OutcomeView {
    /// An outcome without a number and an attempt.
    pub fn new(outcome: &'static str, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into(), erp_order_id: None, attempt: None }
    }
}

/// What became of one of several orders.
#[derive(Debug, Serialize)]
pub struct OrderOutcome {
    /// Shop and number.
    pub order: String,
    #[serde(flatten)]
    pub outcome: OutcomeView,
}

impl OrderOutcome {
    pub fn new(key: &OrderKey, outcome: &'static str, detail: impl Into<String>) -> Self {
        Self::of(key, OutcomeView::new(outcome, detail))
    }

    pub fn of(key: &OrderKey, outcome: OutcomeView) -> Self {
        Self { order: key.to_string(), outcome }
    }
}
