//! A piece of work on the hot path: what is asked, and where its own kind of answer goes.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::domain::order::values::OrderKey;
use crate::ports::orders::{
    Accepted, AdmitRequest, Admitted, ConfirmRequest, Confirmed, FailureRequest, HandBackRequest,
    Incoming, KeepRequest, Placed, Recorded,
};
use crate::ports::store_error::{SharedError, StoreError};

use super::fault_watch::KINDS;

/// A request that waits until its transaction is durable.
pub(super) struct Pending<R, A> {
    pub(super) request: R,
    answer: Mutex<Option<A>>,
    reply: oneshot::Sender<Result<A, StoreError>>,
}

impl<R, A> Pending<R, A> {
    /// `request`, and where its answer will arrive.
    pub(super) fn new(request: R) -> (Self, oneshot::Receiver<Result<A, StoreError>>) {
        let (reply, receiver) = oneshot::channel();
        (Self { request, answer: Mutex::default(), reply }, receiver)
    }

    /// Keeps the answer until the transaction is durable; a transaction that is repeated answers
    /// again.
    pub(super) fn answer(&self, answer: A) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    fn settle(self, written: Result<(), StoreError>) {
        let answer = self.answer.into_inner().unwrap_or_else(PoisonError::into_inner);
        let answer = written.and_then(|()| answer.ok_or_else(given_up));
        // Nobody waits any more if the calling task was aborted at shutdown.
        drop(self.reply.send(answer));
    }
}

/// An order to be stored without an attempt.
pub(super) struct AcceptRequest {
    pub(super) placed: Placed,
    pub(super) now: Timestamp,
}

/// One piece of work.
pub(super) enum Work {
    Admit(Pending<AdmitRequest, Admitted>),
    Accept(Pending<AcceptRequest, Accepted>),
    Confirm(Box<Pending<ConfirmRequest, Confirmed>>),
    Fail(Box<Pending<FailureRequest, Recorded>>),
    HandBack(Pending<HandBackRequest, ()>),
    Keep(Box<Pending<KeepRequest, ()>>),
}

impl Work {
    /// Its kind as a number below [`KINDS`]: what is wrong for one is wrong for all of a kind.
    pub(super) fn kind(&self) -> usize {
        match self {
            Self::Admit(_) => 0,
            Self::Accept(_) => 1,
            Self::Confirm(_) => 2,
            Self::Fail(_) => 3,
            Self::HandBack(_) => 4,
            Self::Keep(_) => KINDS - 1,
        }
    }

    /// What it is, for those that remember it.
    pub(super) fn piece(&self) -> (usize, OrderKey) {
        (self.kind(), self.key().clone())
    }

    /// The order that it is about.
    pub(super) fn key(&self) -> &OrderKey {
        match self {
            Self::Admit(pending) => pending.request.incoming.key(),
            Self::Accept(pending) => &pending.request.placed.order.key,
            Self::Confirm(pending) => &pending.request.key,
            Self::Fail(pending) => &pending.request.key,
            Self::HandBack(pending) => &pending.request.key,
            Self::Keep(pending) => &pending.request.key,
        }
    }

    /// The order whose row it changes, if that row is there already.
    pub(super) fn locks(&self) -> Option<&OrderKey> {
        match self {
            Self::Admit(pending) if matches!(pending.request.incoming, Incoming::Placed(_)) => None,
            Self::Accept(_) | Self::Keep(_) => None,
            _ => Some(self.key()),
        }
    }

    /// Bytes of its documents.
    pub(super) fn bytes(&self) -> usize {
        let placed = match self {
            Self::Admit(pending) => match &pending.request.incoming {
                Incoming::Placed(placed) => Some(placed),
                Incoming::Again { .. } => None,
            },
            Self::Accept(pending) => Some(&pending.request.placed),
            Self::Fail(pending) => pending.request.order.as_ref(),
            Self::Confirm(_) | Self::HandBack(_) | Self::Keep(_) => None,
        };
        placed.map_or(0, |placed| placed.order.document.len())
    }

    /// Gives the caller the answer if the transaction was written, else the error.
    pub(super) fn settle(self, written: Result<(), StoreError>) {
        match self {
            Self::Admit(pending) => pending.settle(written),
            Self::Accept(pending) => pending.settle(written),
            Self::Confirm(pending) => pending.settle(written),
            Self::Fail(pending) => pending.settle(written),
            Self::HandBack(pending) => pending.settle(written),
            Self::Keep(pending) => pending.settle(written),
        }
    }
}

/// The error of a caller whose transaction was dropped before it answered.
pub(super) fn given_up() -> StoreError {
    StoreError::Unavailable(SharedError(Arc::from(
        Box::<dyn std::error::Error + Send + Sync>::from("the transaction was aborted"),
    )))
}
