//! What is kept of a failure where orders are listed: of the order itself, and of a redrive.

use serde::Serialize;

use crate::domain::failure::{ErrorClass, Failure};
use crate::domain::fingerprint::fingerprint;

/// A failure in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureSummary {
    pub class: ErrorClass,
    /// Short stable code.
    pub code: String,
    /// The ERP's text.
    pub message: String,
    /// Groups equal failures.
    pub fingerprint: String,
}

impl FailureSummary {
    /// The summary of `failure`, with its group.
    pub fn of(failure: &Failure) -> Self {
        Self {
            class: failure.class,
            code: failure.code.clone(),
            message: failure.message.clone(),
            fingerprint: fingerprint(failure.class, &failure.code, &failure.message),
        }
    }
}
