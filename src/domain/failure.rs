//! What can go wrong between us and the ERP, in the five classes of docs/erp.md.
//!
//! The ERP port creates a [`Failure`]; the submitter counts it or publishes it in `order_failed`; what
//! follows is decided by its class. How far a call got ([`Stage`]) is what separates "repeat" from
//! "ask first": only a call that certainly was never sent may be repeated without asking.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::{MAX_ERROR_CHARS, one_line};
use super::total::{TOTAL_DIFFERS, TotalDifference};

/// Most characters of method and address.
const MAX_REQUEST_CHARS: usize = 2_000;
/// Most characters of a code.
const MAX_CODE_CHARS: usize = 80;

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

/// One failed call to the ERP, in our memory and as the `error` of `order_failed` on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "FailedError")]
pub struct Failure {
    /// Decides what follows.
    pub class: ErrorClass,
    /// Short and stable, e.g. `http_503`.
    #[serde(default)]
    pub code: String,
    /// The ERP's own text.
    #[serde(default)]
    pub message: String,
    /// How long the ERP asked to wait, in seconds.
    #[serde(default, rename = "retry_after_s", with = "seconds")]
    #[schemars(with = "Option<u64>")]
    pub retry_after: Option<Duration>,
    /// Method and address that were called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How far the call got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// That the ERP has the order with another sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Box<TotalDifference>>,
}

impl Failure {
    /// A failure without request, status or wait; the text is cleaned and cut.
    pub fn new(class: ErrorClass, code: &str, message: &str, stage: Stage) -> Self {
        Self {
            class,
            code: one_line(code, MAX_CODE_CHARS),
            message: one_line(message, MAX_ERROR_CHARS),
            retry_after: None,
            request: None,
            status: None,
            stage: Some(stage),
            total: None,
        }
    }

    /// The ERP has the order with another sum: a person decides, and the ERP is asked before anything is sent.
    pub fn total_differs(difference: TotalDifference) -> Self {
        let message = difference.sentence();
        Self {
            total: Some(Box::new(difference)),
            ..Self::new(ErrorClass::Rejected, TOTAL_DIFFERS, &message, Stage::At)
        }
    }

    /// The same with its texts cleaned and cut, for one that another service sent.
    pub fn cleaned(&self) -> Self {
        Self {
            code: one_line(&self.code, MAX_CODE_CHARS),
            message: one_line(&self.message, MAX_ERROR_CHARS),
            request: self.request.as_deref().map(|request| one_line(request, MAX_REQUEST_CHARS)),
            total: self.total.as_ref().map(|total| Box::new(total.cleaned())),
            ..self.clone()
        }
    }

    /// Whether the ERP answered that it failed, but may have accepted the order nevertheless.
    pub fn is_in_doubt(&self) -> bool {
        self.stage == Some(Stage::At)
    }

    /// Whether it means that the ERP as a whole is unavailable, and not that one order failed.
    pub fn is_outage(&self) -> bool {
        matches!(self.class, ErrorClass::Unavailable | ErrorClass::UnknownOutcome)
    }
}

/// A wait on the wire: whole seconds, or null.
mod seconds {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        wait: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        wait.map(|wait| wait.as_secs()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_service_sends_is_cut_to_what_is_stored() {
        let long = "x".repeat(3_000);
        let mut failure = Failure::new(ErrorClass::Rejected, "", "", Stage::After);
        failure.code.clone_from(&long);
        failure.message.clone_from(&long);
        failure.request = Some(long);
        let cleaned = failure.cleaned();
        let chars = |text: &str| text.chars().count();
        assert_eq!((chars(&cleaned.code), chars(&cleaned.message)), (80, 500));
        assert_eq!(cleaned.request.map(|request| chars(&request)), Some(2_000));
    }

    #[test]
    fn every_class_is_found_by_its_name() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::from_name(class.as_str()), Some(class));
        }
        assert_eq!(ErrorClass::from_name("gone"), None);
    }
}
