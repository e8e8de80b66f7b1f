//! What is old, as the API and the command line show it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::retention::OldKind;

/// What is old of one kind, and what was taken out of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OldView {
    /// The kind, as in `retention.*`.
    pub kind: &'static str,
    /// What did not change since is old.
    #[schemars(with = "String")]
    pub before: Timestamp,
    /// How many are old.
    pub old: u64,
    /// How many were taken out now.
    pub removed: u64,
}

impl OldView {
    pub fn new(kind: OldKind, before: Timestamp, old: u64, removed: u64) -> Self {
        Self { kind: kind.as_str(), before, old, removed }
    }
}
