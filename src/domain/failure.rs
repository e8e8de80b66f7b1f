//! What can go wrong between us and the ERP, in the five classes of docs/erp.md.
//!
//! The ERP port creates a [`Failure`]; the submitter publishes it in `order_failed`; the error
//! handler decides by its class. How far a call got ([`Stage`]) is what separates "repeat" from
//! "ask first": only a call that certainly was never sent may be repeated without asking.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text::{MAX_ERROR_CHARS, one_line};

/// What follows from a failure (docs/erp.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The ERP is unavailable or busy: automatic retry.
    Unavailable,
    /// The ERP refuses this order: parked at once.
    Rejected,
    /// The ERP refuses us: automatic retry, and the circuit opens.
    Unauthorized,
    /// Sent, answer never seen: the ERP is asked before anything is sent again.
    UnknownOutcome,
    /// The request could not be built from the order: parked at once.
    Internal,
}

crate::names!(ErrorClass {
    Unavailable = "unavailable",
    Rejected = "rejected",
    Unauthorized = "unauthorized",
    UnknownOutcome = "unknown_outcome",
    Internal = "internal",
});

/// How far a call got before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing was written: the ERP cannot have the order.
    Before,
    /// Writing had begun: the ERP may have the order.
    At,
    /// The ERP answered.
    After,
}

crate::names!(Stage {
    Before = "before",
    At = "at",
    After = "after",
});

/// One failed call to the ERP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What follows.
    pub class: ErrorClass,
    /// Short and stable, e.g. `http_503` or `connect`.
    pub code: String,
    /// The ERP's own text where it gave one, else ours; one printable line.
    pub message: String,
    /// How long the ERP asked us to wait.
    pub retry_after: Option<Duration>,
    /// How far the call got.
    pub stage: Stage,
    /// Method and address without secrets, when a request was built.
    pub request: Option<String>,
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
}

impl Failure {
    /// A failure without request, status or wait; the text is cleaned and cut.
    pub fn new(class: ErrorClass, code: &str, message: &str, stage: Stage) -> Self {
        Self {
            class,
            code: one_line(code, 80),
            message: one_line(message, MAX_ERROR_CHARS),
            retry_after: None,
            stage,
            request: None,
            status: None,
        }
    }

    /// Whether it means that the ERP as a whole is unavailable, and not that one order failed.
    pub fn is_outage(&self) -> bool {
        matches!(self.class, ErrorClass::Unavailable | ErrorClass::UnknownOutcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_found_by_its_name() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::from_name(class.as_str()), Some(class));
        }
        assert_eq!(ErrorClass::from_name("gone"), None);
    }
}
