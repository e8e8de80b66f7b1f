//! The life of an order in the ledger: every effect is keyed by (order, attempt), and whatever is done twice is
//! the same as done once.
//!
//! Calls on the hot path take one item each and are grouped inside into one transaction, so that a commit costs
//! the same for one and for two hundred. The promises: tests/it/store_contract.rs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::lifecycle::claim::{Admission, Call, HandBack, Intent};
use crate::domain::lifecycle::transitions::{
    FailedAttempt, InvalidTransition, OrderRecord, Verdict,
};
use crate::domain::lifecycle::vocabulary::Trigger;
use crate::domain::order::document::Order;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::ShopFilter;
use crate::domain::retry::RetryPolicy;
use crate::domain::trace::Trace;
use crate::ports::erp::Exchange;
use crate::ports::notices::Notice;
use crate::ports::store_error::StoreError;

/// Takes orders in without trying them yet: what `POST /api/v1/orders` answers 202 for.
#[async_trait]
pub trait OrderIntake: Send + Sync {
    /// Takes an order in without an attempt yet: what `POST /api/v1/orders` answers 202 for.
    async fn accept(&self, placed: Placed, now: Timestamp) -> Result<Accepted, StoreError>;
}

/// What the submitter does with an order (docs/architecture.md, rows 4 to 6).
#[async_trait]
pub trait OrderTransfers: Send + Sync {
    /// Inserts the order if it is new, checks its state and takes the claim of its next attempt.
    async fn admit(&self, request: AdmitRequest) -> Result<Admitted, StoreError>;
    /// Extends a claim that still holds; `false` if it has ended or is another's: then somebody else may be
    /// asking the ERP already.
    async fn renew_claim(&self, request: RenewRequest) -> Result<bool, StoreError>;
    /// A claim handed back without an attempt.
    async fn hand_back(&self, request: HandBackRequest) -> Result<(), StoreError>;
    /// A receipt of the ERP: the order becomes `confirmed`, whatever its state.
    async fn confirm(&self, request: ConfirmRequest) -> Result<Confirmed, StoreError>;
    /// Stores the exchanges of an attempt, once, however often it is called.
    async fn keep_exchanges(&self, request: KeepRequest) -> Result<(), StoreError>;
    /// Other orders that are in an ERP under this number; at most 20.
    async fn orders_under(
        &self,
        erp_order_id: &str,
        except: &OrderKey,
    ) -> Result<Vec<OrderKey>, StoreError>;
}

/// What is done with a failed attempt (docs/architecture.md, row 8).
#[async_trait]
pub trait OrderFailures: Send + Sync {
    /// A failed attempt: counted once, with its verdict and its notice, in one transaction.
    async fn record_failure(&self, request: FailureRequest) -> Result<Recorded, StoreError>;
}

/// What the sweeper and the trial of a circuit look for.
#[async_trait]
pub trait OverdueOrders: Send + Sync {
    /// Overdue orders, oldest first; marked as swept at `now`, and not returned again before
    /// `again_after` has passed.
    async fn take_overdue(&self, sweep: Sweep) -> Result<Vec<Overdue>, StoreError>;
}

/// A placed order.
#[derive(Debug, Clone)]
pub struct Placed {
    pub order: Arc<Order>,
    /// How it was received.
    pub source: OrderSource,
    /// The trace context that checkout sent.
    pub trace: Trace,
}

/// How an order was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderSource {
    /// From the broker.
    Broker,
    /// Over the API.
    Api,
    /// From the command line.
    CommandLine,
    /// With an `order_failed` of another ERP service.
    OrderFailed,
    /// By replaying a dead letter.
    DeadLetter,
}

crate::names!(OrderSource {
    Broker = "broker",
    Api = "api",
    CommandLine = "command_line",
    OrderFailed = "order_failed",
    DeadLetter = "dead_letter",
});

/// A message to be admitted.
#[derive(Debug, Clone)]
pub enum Incoming {
    /// An order message.
    Placed(Placed),
    /// A retry or a nudge for an order that the ledger has.
    Again {
        key: OrderKey,
        /// The requested attempt.
        attempt: u32,
        /// Who asks.
        trigger: Trigger,
    },
}

impl Incoming {
    /// The requested order.
    pub fn key(&self) -> &OrderKey {
        match self {
            Self::Placed(placed) => &placed.order.key,
            Self::Again { key, .. } => key,
        }
    }

    /// The attempt that is asked for.
    pub fn call(&self) -> Call {
        match self {
            Self::Placed(_) => Call { attempt: None, trigger: Trigger::Checkout },
            Self::Again { attempt, trigger, .. } => {
                Call { attempt: Some(*attempt), trigger: *trigger }
            }
        }
    }
}

/// A request for an attempt.
#[derive(Debug, Clone)]
pub struct AdmitRequest {
    pub incoming: Incoming,
    /// Whether it can be sent now.
    pub intent: Intent,
    pub now: Timestamp,
}

/// Its result.
#[derive(Debug, Clone)]
pub enum Admitted {
    /// The order is in the ledger.
    Known {
        /// What to do now.
        admission: Admission,
        /// The order as it is now, with the claim if one was taken.
        record: Box<OrderRecord>,
        /// The document to send.
        document: Arc<str>,
        /// Whether an order message with a different payload arrived and was stored beside it.
        conflict: bool,
        /// Whether this call inserted the row.
        new: bool,
    },
    /// A retry for an order that the ledger does not have.
    Unknown,
    /// The order was finished, and its rows are gone: nothing may be sent.
    Gone {
        /// Whether the message says what that order said.
        same: bool,
    },
}

/// The result of storing an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is new.
    New,
    /// It was known with the same content.
    Duplicate,
    /// It was known with different content, which stays; this one is stored beside it.
    Conflict,
    /// Its number belongs to an order with different content that is finished and gone; it is not stored.
    NumberTaken,
}

/// A receipt to be written.
#[derive(Debug, Clone)]
pub struct ConfirmRequest {
    pub key: OrderKey,
    /// The attempt that entered it.
    pub attempt: u32,
    /// What triggered it.
    pub trigger: Trigger,
    /// The process that made the attempt.
    pub worker: String,
    /// The ERP's number.
    pub erp_order_id: Option<String>,
    /// Method and address that were called.
    pub request: String,
    /// Status of the answer.
    pub status: u16,
    /// How long the attempt took.
    pub duration_ms: u64,
    /// Whether it was found by asking and not sent by this attempt.
    pub found: bool,
    /// The notice to the customer, if there is one.
    pub notice: Option<Notice>,
    pub now: Timestamp,
}

/// The result of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Whether this receipt confirmed the order, or it was confirmed before.
    pub first: bool,
    /// Failed attempts before.
    pub fail_count: u32,
    /// The ERP's number that was stored before, if it differs: the order is in the ERP twice.
    pub other_erp_order_id: Option<String>,
    /// Whether this number was stored now as a second entry, with its notice.
    pub is_new_double: bool,
}

/// A failed attempt to be counted.
#[derive(Debug, Clone)]
pub struct FailureRequest {
    pub key: OrderKey,
    /// The failure.
    pub failed: FailedAttempt,
    /// What triggered the attempt.
    pub trigger: Trigger,
    /// How long it took.
    pub duration_ms: u64,
    /// The order itself, in case the ledger does not have it.
    pub order: Option<Placed>,
    /// What follows a failure in this shop.
    pub policy: RetryPolicy,
    pub now: Timestamp,
}

/// The result of a failed attempt.
#[derive(Debug, Clone)]
pub enum Recorded {
    /// It was counted, now or before.
    Counted {
        /// What follows; `None` when a later attempt has decided since.
        verdict: Option<Verdict>,
        /// The order as it is now.
        record: Box<OrderRecord>,
        /// The notice for the administrators.
        notice: String,
        /// Whether it was counted now.
        new: bool,
    },
    /// Refused: the order is not in a state that can fail.
    Invalid(InvalidTransition),
    /// The ledger does not know the order, and it did not come with the failure.
    Unknown,
}

/// A claim to be extended.
#[derive(Debug, Clone)]
pub struct RenewRequest {
    pub key: OrderKey,
    /// Whose claim.
    pub worker: String,
    /// Its new end.
    pub until: Timestamp,
    /// Whether the request that enters the order is sent next.
    pub begins: bool,
    pub now: Timestamp,
}

/// A claim to be handed back.
#[derive(Debug, Clone)]
pub struct HandBackRequest {
    pub key: OrderKey,
    /// Whose claim.
    pub worker: String,
    pub how: HandBack,
    pub now: Timestamp,
}

/// Exchanges of an attempt to be stored.
#[derive(Debug, Clone)]
pub struct KeepRequest {
    pub key: OrderKey,
    pub attempt: u32,
    /// The claim under which they were made.
    pub worker: String,
    /// What was exchanged, in order.
    pub exchanges: Vec<Exchange>,
    /// Whether no attempt was made, only a question: the last one of an attempt replaces earlier
    /// ones, so that an order does not grow while the ERP is asked about it for weeks.
    pub only_asked: bool,
    pub now: Timestamp,
}

/// What to look for when sweeping.
#[derive(Debug, Clone)]
pub struct Sweep {
    pub now: Timestamp,
    /// How long something may be overdue before it is swept.
    pub grace: Duration,
    /// How long a swept order is not returned again.
    pub again_after: Duration,
    /// The shops to sweep: those whose circuit is closed.
    pub shops: ShopFilter,
    /// Orders that were never attempted come first, because one that failed before says less about the ERP.
    pub fresh_first: bool,
    /// Most orders to take.
    pub limit: u32,
}

/// An overdue order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    pub key: OrderKey,
    /// Its next attempt.
    pub attempt: u32,
    pub phase: String,
    /// Its trace context.
    pub trace: Trace,
}
