//! What can go wrong between us and the ERP, in the five classes of docs/erp.md.
//!
//! The ERP port creates a [`Failure`]; the submitter publishes it in `order_failed`; the error
//! handler decides by its class. How far a call got ([`Stage`]) is what separates "repeat" from
//! "ask first": only a call that certainly was never sent may be repeated without asking.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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

/// What groups equal failures: class, code and the message without everything that varies from
/// order to order (numbers, quoted parts). 16 hexadecimal characters.
pub fn fingerprint(class: ErrorClass, code: &str, message: &str) -> String {
    let mut shape = String::with_capacity(message.len());
    let mut quote = None;
    for c in message.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => {
                quote = Some(c);
                shape.push('*');
            }
            None if c.is_ascii_digit() => {
                if !shape.ends_with('#') {
                    shape.push('#');
                }
            }
            None => shape.extend(c.to_lowercase()),
        }
    }
    let digest = Sha256::digest(format!("{}\n{code}\n{shape}", class.as_str()));
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_differ_in_numbers_and_names_share_a_fingerprint() {
        let of = |text| fingerprint(ErrorClass::Rejected, "http_422", text);
        assert_eq!(of("product 'SKU-1' unknown at 12:30"), of("product 'SKU-99' unknown at 9:05"));
        assert_ne!(of("product unknown"), of("customer unknown"));
        assert_ne!(
            fingerprint(ErrorClass::Rejected, "http_422", "x"),
            fingerprint(ErrorClass::Unavailable, "http_422", "x")
        );
    }

    #[test]
    fn every_class_is_found_by_its_name() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::from_name(class.as_str()), Some(class));
        }
        assert_eq!(ErrorClass::from_name("gone"), None);
    }
}
