//! Why something that a person asked for was not done.

use crate::domain::lifecycle::transitions::{InvalidTransition, OrderRecord};
use crate::domain::order::fault::Fault;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::ValueFault;
use crate::domain::permission::Permission;
use crate::ports::store_error::StoreError;

/// Why an operation was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The caller lacks the permission.
    #[error(
        "this needs the permission {}{}",
        .permission.as_str(),
        .shop.as_deref().map(|shop| format!(" for shop {shop}")).unwrap_or_default()
    )]
    Forbidden {
        /// What is missing.
        permission: Permission,
        /// Where.
        shop: Option<String>,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It was changed by somebody else, or exists already; nothing was changed.
    #[error("{0}")]
    Conflict(String),
    /// The content cannot be accepted.
    #[error("{0}")]
    Unacceptable(String),
    /// Its state does not allow it; nothing was changed.
    #[error("{key}: {invalid}")]
    Invalid { key: OrderKey, invalid: InvalidTransition },
    /// The circuit is open: nothing is sent now.
    #[error(
        "ERP {erp} is not usable ({reason}); the order waits for it. Repeat it when the ERP is back"
    )]
    CircuitOpen { erp: String, reason: String },
    /// No process is running that can do it.
    #[error("{0}")]
    NobodyThere(String),
    /// A value cannot be used; nothing was changed.
    #[error(transparent)]
    Value(#[from] ValueFault),
    /// The content cannot be accepted; each fault at its place.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unprocessable(Vec<Fault>),
    /// The ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub fn invalid(record: &OrderRecord) -> Refusal {
    let (state, phase) = (record.phase.state(), record.phase.name());
    let invalid = InvalidTransition::InvalidState { state, phase };
    Refusal::Invalid { key: record.key.clone(), invalid }
}
