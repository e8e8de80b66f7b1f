//! Why something that a person asked for was not done, and the one table of what each reason is on the wire, on
//! a page and to a shell.

use std::fmt;

use crate::domain::lifecycle::transitions::{InvalidTransition, OrderRecord};
use crate::domain::order::fault::Fault;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::ValueFault;
use crate::domain::permission::Permission;
use crate::domain::redrive::{InvalidRedrive, RedriveStatus};
use crate::ops::passwords::Busy;
use crate::ports::broker::{BrokerError, PublishError};
use crate::ports::erps::ErpUnusable;
use crate::ports::identity::IdentityError;
use crate::ports::order_desk::Revision;
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
        /// Where; `None`: in every shop.
        shop: Option<String>,
    },
    /// There is no such thing, or none that the caller may see.
    #[error("there is no {what} {name}{}", there_is(.known))]
    NotFound {
        /// E.g. `order`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that exist, where they are few.
        known: Vec<String>,
    },
    /// Several shops have an order with this number.
    #[error("several shops have an order {order_id}: say which of {}", list(.keys))]
    Ambiguous {
        /// The number.
        order_id: String,
        /// Which orders.
        keys: Vec<OrderKey>,
    },
    /// It was settled before.
    #[error("{what} {name} is {status} already")]
    Settled {
        /// E.g. `dead letter`.
        what: &'static str,
        /// Which one.
        name: String,
        /// How.
        status: String,
    },
    /// The transfer to this ERP is not stopped.
    #[error("transfer to ERP {0} is not stopped")]
    NotStopped(String),
    /// It was edited on the basis of an older revision; nothing was changed.
    #[error(
        "{key} has revision {} by now, made by {} at {}; you edited revision {base}. Nothing was changed: \
         check it and edit again",
        .newest.revision,
        .newest.actor,
        .newest.at
    )]
    Stale {
        /// The order.
        key: OrderKey,
        /// The revision that was edited.
        base: u32,
        /// The revision that it has.
        newest: Box<Revision>,
    },
    /// Something of this name is there; nothing was changed.
    #[error("{what} {name} already exists; choose another name")]
    Exists {
        /// E.g. `token`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Without this user nobody could manage users.
    #[error("{0} is the last administrator; make another user administrator first")]
    LastAdministrator(String),
    /// The status of the redrive does not allow it; nothing was changed.
    #[error(transparent)]
    InvalidRedrive(#[from] InvalidRedrive),
    /// A redrive that is not running any more has no rate.
    #[error("a redrive that is {} has no rate", .0.as_str())]
    NoRate(RedriveStatus),
    /// The name, password, role or scope cannot be accepted: why, in one sentence.
    #[error("{0}")]
    Unacceptable(String),
    /// Its state does not allow it; nothing was changed.
    #[error("{key}: {invalid}")]
    Invalid {
        /// The order.
        key: OrderKey,
        /// Why.
        invalid: InvalidTransition,
    },
    /// The circuit is open: nothing is sent now.
    #[error(
        "ERP {erp} is not usable ({reason}); the order waits for it. Repeat it when the ERP is back"
    )]
    CircuitOpen {
        /// The ERP.
        erp: String,
        /// Why.
        reason: String,
    },
    /// No process transfers orders.
    #[error(
        "no submitter reads {queue}: start one with `order-relay serve --roles submitter,error-handler`"
    )]
    NoSubmitter {
        /// The queue that it would read.
        queue: String,
    },
    /// The broker did not take the message.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The broker does not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The identity provider does not answer.
    #[error(transparent)]
    IdentityProvider(#[from] IdentityError),
    /// Too many logins at once.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The order's ERP cannot be asked as the settings and the recipe are.
    #[error(transparent)]
    ErpUnusable(#[from] ErpUnusable),
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

fn there_is(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; there is: {}", known.join(", ")) }
}

fn list(keys: &[OrderKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a refusal is to those who asked: an HTTP status and a problem type (RFC 9457) for the API, the same
/// status for a page, an exit code for a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalKind {
    /// HTTP status.
    pub status: u16,
    /// Last part of the problem type.
    pub problem: &'static str,
    /// Title of the problem.
    pub title: &'static str,
    /// Exit code (CONTRACT, section 5).
    pub exit: u8,
}

const fn kind(status: u16, problem: &'static str, title: &'static str, exit: u8) -> RefusalKind {
    RefusalKind { status, problem, title, exit }
}

impl Refusal {
    /// There is no such thing.
    pub fn not_found(what: &'static str, name: impl fmt::Display) -> Self {
        Self::NotFound { what, name: format!("{name}"), known: Vec::new() }
    }

    /// The table.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Forbidden { .. } => kind(403, "forbidden", "Not allowed", 1),
            Self::NotFound { .. }
            | Self::Ambiguous { .. }
            | Self::Settled { .. }
            | Self::NotStopped(_) => kind(404, "not-found", "Not found", 1),
            Self::Invalid { .. } => kind(409, "invalid-state", "invalid_state", 1),
            Self::Stale { .. }
            | Self::Exists { .. }
            | Self::LastAdministrator(_)
            | Self::InvalidRedrive(_)
            | Self::NoRate(_) => kind(409, "conflict", "Conflict", 1),
            Self::CircuitOpen { .. } => kind(409, "circuit-open", "The ERP is not usable now", 4),
            Self::Value(_) => kind(422, "invalid-value", "A value cannot be used", 2),
            Self::Unacceptable(_) | Self::Unprocessable(_) => {
                kind(422, "unprocessable", "Not acceptable as it is", 1)
            }
            Self::NoSubmitter { .. }
            | Self::Publish(_)
            | Self::Broker(_)
            | Self::IdentityProvider(_)
            | Self::Busy(_)
            | Self::ErpUnusable(_)
            | Self::Store(StoreError::Unavailable(_)) => {
                kind(503, "unavailable", "Not available now", 1)
            }
            Self::Store(StoreError::Broken(_)) => {
                kind(500, "ledger-broken", "The tables are not those of this release", 1)
            }
            Self::Store(StoreError::Refused(_)) => {
                kind(500, "ledger-refused", "The database refused it", 1)
            }
            Self::Store(StoreError::Corrupt { .. }) => {
                kind(500, "ledger-corrupt", "The ledger holds something that cannot be", 1)
            }
        }
    }
}

/// The order's state does not allow it.
pub fn invalid(record: &OrderRecord) -> Refusal {
    let (state, phase) = (record.phase.state(), record.phase.name());
    let invalid = InvalidTransition::InvalidState { state, phase };
    Refusal::Invalid { key: record.key.clone(), invalid }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::store_error::SharedError;

    #[test]
    fn what_the_ledger_says_is_told_apart() {
        let cause = || SharedError(Arc::new(std::io::Error::other("x")));
        let corrupt = StoreError::Corrupt {
            table: "orders",
            column: "phase",
            row: "de/1".to_owned(),
            detail: "`lost` is not known".to_owned(),
        };
        let (refused, broken) = (StoreError::Refused(cause()), StoreError::Broken(cause()));
        let kinds = [StoreError::Unavailable(cause()), refused, broken, corrupt]
            .map(|error| Refusal::Store(error).kind());
        assert_eq!(kinds.map(|kind| kind.status), [503, 500, 500, 500]);
        assert_eq!(
            kinds.map(|kind| kind.problem),
            ["unavailable", "ledger-refused", "ledger-broken", "ledger-corrupt"]
        );
    }

    #[test]
    fn an_open_circuit_is_one_thing_to_everybody() {
        let open = Refusal::CircuitOpen { erp: "default".to_owned(), reason: "x".to_owned() };
        assert_eq!((open.kind().status, open.kind().exit), (409, 4));
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let known = vec!["default".to_owned(), "at".to_owned()];
        let missing = Refusal::NotFound { what: "ERP", name: "de".to_owned(), known };
        assert_eq!(missing.to_string(), "there is no ERP de; there is: default, at");
    }
}
