//! The words: states, phases, and who asked for an attempt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The three states that users know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Received, not in the ERP yet.
    Payed,
    /// At least one attempt failed: a lost order.
    OrderedFailed,
    /// Done.
    Confirmed,
}

crate::names!(OrderState {
    Payed = "payed",
    OrderedFailed = "ordered_failed",
    Confirmed = "confirmed",
});

/// The exact position of an order in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// `payed`: waits for its first attempt, or the attempt is in progress.
    Queued,
    /// `payed`: waits because the circuit is open.
    Held,
    /// `ordered_failed`: a retry is due at that time.
    Retrying {
        /// When the retry is due.
        next_attempt_at: Timestamp,
    },
    /// `ordered_failed`: no automatic retry.
    Parked,
    /// `ordered_failed`: sent, the answer was not seen; the ERP is asked at that time.
    OutcomeUnknown {
        /// When the ERP is asked next.
        ask_at: Timestamp,
    },
    /// `confirmed`: in the ERP.
    Transferred {
        /// The ERP's number of it, if it gave one.
        erp_order_id: Option<String>,
    },
    /// `confirmed`: removed from the list by a person.
    Removed,
}

/// The names of all phases with their states, in the order in which they occur.
pub const PHASES: [(OrderState, &str); 7] = [
    (OrderState::Payed, "queued"),
    (OrderState::Payed, "held"),
    (OrderState::OrderedFailed, "retrying"),
    (OrderState::OrderedFailed, "parked"),
    (OrderState::OrderedFailed, "outcome_unknown"),
    (OrderState::Confirmed, "transferred"),
    (OrderState::Confirmed, "removed"),
];

impl Phase {
    /// The state that this phase refines.
    pub fn state(&self) -> OrderState {
        match self {
            Self::Queued | Self::Held => OrderState::Payed,
            Self::Retrying { .. } | Self::Parked | Self::OutcomeUnknown { .. } => {
                OrderState::OrderedFailed
            }
            Self::Transferred { .. } | Self::Removed => OrderState::Confirmed,
        }
    }

    /// The name used everywhere.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Held => "held",
            Self::Retrying { .. } => "retrying",
            Self::Parked => "parked",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::Transferred { .. } => "transferred",
            Self::Removed => "removed",
        }
    }

    /// When something is due automatically: the next attempt or the next question.
    pub fn due_at(&self) -> Option<Timestamp> {
        match self {
            Self::Retrying { next_attempt_at } => Some(*next_attempt_at),
            Self::OutcomeUnknown { ask_at } => Some(*ask_at),
            _ => None,
        }
    }
}

/// What triggered an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The order is from checkout.
    Checkout,
    /// A retry is due.
    Retry,
    /// A redrive plan.
    Redrive,
    /// A person.
    Operator,
    /// The sweeper found it overdue.
    Sweeper,
}

crate::names!(Trigger {
    Checkout = "checkout",
    Retry = "retry",
    Redrive = "redrive",
    Operator = "operator",
    Sweeper = "sweeper",
});

impl Trigger {
    /// Whether a person requested it: then the maximum does not apply.
    pub fn is_by_person(self) -> bool {
        matches!(self, Self::Operator | Self::Redrive)
    }
}
