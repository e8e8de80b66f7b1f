//! From the types of the ledger to arguments of statements; `rows.rs` goes the other way.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::ports::store_error::{SharedError, StoreError};

/// A value as JSON text.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(refused)
}

/// `span` before `now`. Times outside the range are not clamped: the clock is broken then.
pub(super) fn before(now: Timestamp, span: Duration) -> Result<Timestamp, StoreError> {
    now.checked_sub(span).map_err(refused)
}

/// `span` after `now`.
pub(super) fn after(now: Timestamp, span: Duration) -> Result<Timestamp, StoreError> {
    now.checked_add(span).map_err(refused)
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Refused(SharedError(Arc::new(error)))
}
