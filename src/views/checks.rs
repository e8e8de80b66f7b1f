//! A line of `order-relay check`, on the command line and on the status page.

use serde::Serialize;

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckLine {
    pub what: String,
    /// `ok`, `note` or `FAULT`.
    pub state: &'static str,
    /// What was found, and the fix.
    pub detail: String,
}
