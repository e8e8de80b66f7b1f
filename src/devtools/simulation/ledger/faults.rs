//! What can go wrong between a process and its database, as the ports tell it.
//!
//! A [`Disturbance`] decides for every single call, so that a simulator can draw faults from its seed, each
//! process with its own. [`LedgerFaults`] is the simplest one: what stands is what every call meets. A real
//! transaction is never half done, so no fault here is: either the whole effect of a call happens or none of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::values::unavailable;
use crate::ports::store_error::StoreError;

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerFault {
    /// The database cannot be reached: nothing happens.
    Unavailable,
    /// The transaction is committed, but its answer is lost.
    AnswerLost,
    /// A failover left this process on a node that does not write: reads work, writes are refused.
    ReadOnly,
    /// The call begins only after that time.
    Slow(Duration),
    /// The call is done at once, and its answer arrives only after that time.
    LateAnswer(Duration),
    /// The transaction is chosen to end a deadlock: it is rolled back.
    Deadlock,
}

/// Whether a call changes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Decides what the next call of a process meets.
pub trait Disturbance: Send + Sync {
    /// The fault of the next call; `None`: it works.
    fn next(&self, access: Access) -> Option<LedgerFault>;
}

/// One fault for every call, until another one is set.
#[derive(Debug, Default)]
pub struct LedgerFaults {
    standing: Mutex<Option<LedgerFault>>,
}

impl LedgerFaults {
    /// From now on every call meets this; `None`: everything works.
    pub fn set(&self, fault: Option<LedgerFault>) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

impl Disturbance for LedgerFaults {
    fn next(&self, _: Access) -> Option<LedgerFault> {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LedgerFault {
    /// What it does before the transaction begins.
    pub(super) async fn strike(self, access: Access) -> Result<(), StoreError> {
        match (self, access) {
            (Self::Unavailable, _) => Err(unavailable("connection refused")),
            (Self::Deadlock, _) => Err(unavailable("deadlock detected")),
            (Self::ReadOnly, Access::Write) => Err(unavailable("the transaction is read-only")),
            (Self::Slow(wait), _) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            (Self::ReadOnly, Access::Read) | (Self::AnswerLost | Self::LateAnswer(_), _) => Ok(()),
        }
    }

    /// What it does to the answer of a transaction that has ended.
    pub(super) async fn carry<T>(self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match self {
            Self::AnswerLost => Err(unavailable("the connection was closed before the answer")),
            Self::LateAnswer(wait) => {
                tokio::time::sleep(wait).await;
                answer
            }
            _ => answer,
        }
    }
}
