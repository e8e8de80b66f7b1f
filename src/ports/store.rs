//! The ledger: every order that was taken in is a row, every effect is keyed by (order, attempt).
//!
//! Two adapters keep these promises (tests/it/store_contract.rs). Calls on the hot path take one
//! item each and are grouped inside into one transaction per round, so that a commit costs the same
//! for one and for two hundred. Whatever is done twice is the same as done once.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::erp::Exchange;
pub use super::listing::{OrderFilter, ShopFilter};
use super::mail::{Mail, NoticeDetail};
use super::people::PeopleStore;
use super::redrives::RedriveStore;
use super::revisions::{Revision, RevisionStore};
use crate::domain::circuit::Circuit;
use crate::domain::message::Headers;
use crate::domain::notice::{DigestWindow, NoticeKind};
use crate::domain::order::{Fault, Order, OrderKey};
use crate::domain::permission::Grants;
use crate::domain::retry::RetryPolicy;
use crate::domain::state::{
    Admission, Call, FailedAttempt, HandBack, Intent, InvalidTransition, OrderRecord, OrderState,
    Trigger, Verdict,
};
use crate::ports::statistics::StatisticsStore;

/// Everything the ledger can do.
pub trait Store:
    OrderStore
    + NoticeStore
    + CircuitStore
    + DeadLetterStore
    + BackOffice
    + StatisticsStore
    + RevisionStore
    + RedriveStore
    + PeopleStore
{
}
impl<T> Store for T where
    T: OrderStore
        + NoticeStore
        + CircuitStore
        + DeadLetterStore
        + BackOffice
        + StatisticsStore
        + RevisionStore
        + RedriveStore
        + PeopleStore
{
}

/// Why the ledger did not do what was asked. Nothing was changed, or it is unknown and asking again
/// is safe.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or is busy: try again.
    #[error("the database cannot be reached")]
    Unavailable(#[source] SharedError),
    /// The database refuses these values; trying again is no use.
    #[error("the database refused the values")]
    Refused(#[source] SharedError),
    /// Our own tables hold something that cannot be.
    #[error("table {table}, column {column}, row {row}: {detail}")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// Where.
        column: &'static str,
        /// Which row, by its key.
        row: String,
        /// What is wrong.
        detail: String,
    },
}

impl StoreError {
    /// Whether trying again can help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A driver's error, shared by everyone whose work was in the same transaction.
#[derive(Debug, Clone)]
pub struct SharedError(pub Arc<dyn Error + Send + Sync>);

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The life of an order (docs/architecture.md, rows 4 to 9).
#[async_trait]
pub trait OrderStore: Send + Sync {
    /// Inserts the order if it is new, checks its state and takes the claim of its next attempt.
    async fn admit(&self, request: AdmitRequest) -> Result<Admitted, StoreError>;
    /// Takes an order in without trying it yet: what `POST /api/v1/orders` answers 202 for.
    async fn accept(&self, placed: Placed, now: Timestamp) -> Result<Accepted, StoreError>;
    /// A receipt of the ERP: the order is `confirmed`, from whatever state.
    async fn confirm(&self, request: ConfirmRequest) -> Result<Confirmed, StoreError>;
    /// A failed attempt: counted once, with its verdict and its notice, in one transaction.
    async fn record_failure(&self, request: FailureRequest) -> Result<Recorded, StoreError>;
    /// A claim given back without an attempt.
    async fn hand_back(&self, request: HandBackRequest) -> Result<(), StoreError>;
    /// Keeps the exchanges of an attempt. Kept once, however often it is asked for.
    async fn keep_exchanges(&self, request: KeepRequest) -> Result<(), StoreError>;
    /// Makes a claim live longer; `false` when it is not this worker's any more.
    async fn renew_claim(
        &self,
        key: &OrderKey,
        worker: &str,
        until: Timestamp,
    ) -> Result<bool, StoreError>;
    /// Orders that lie about though something is due, oldest first; marked as swept at `now`, and
    /// not returned again before `again_after` has passed.
    async fn take_overdue(&self, sweep: Sweep) -> Result<Vec<Overdue>, StoreError>;
    /// Other orders that are in an ERP under this number; at most 20.
    async fn orders_under(
        &self,
        erp_order_id: &str,
        except: &OrderKey,
    ) -> Result<Vec<OrderKey>, StoreError>;
    /// Open orders by state and phase.
    async fn count_open(&self) -> Result<Vec<OpenCount>, StoreError>;
    /// Orders taken in, counted when they came.
    async fn count_received(&self) -> Result<u64, StoreError>;
    /// Orders taken in, counted when they came, less the orders that are there; anything but 0 is a
    /// loss. Counts every row.
    async fn count_difference(&self) -> Result<i64, StoreError>;
    /// Proves that nothing is lost; reads every row.
    async fn check_ledger(&self, since: Option<Timestamp>) -> Result<LedgerReport, StoreError>;
}

/// An order that somebody placed.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The order.
    pub order: Arc<Order>,
    /// How it came.
    pub source: OrderSource,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Its vendor part.
    pub tracestate: Option<String>,
}

/// How an order came in.
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

impl OrderSource {
    /// The name used in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Api => "api",
            Self::CommandLine => "command_line",
            Self::OrderFailed => "order_failed",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// What is asked to be admitted.
#[derive(Debug, Clone)]
pub enum Incoming {
    /// An order message.
    Placed(Placed),
    /// A retry or a nudge for an order that the ledger has.
    Again {
        /// The order.
        key: OrderKey,
        /// The attempt that is meant.
        attempt: u32,
        /// Who asks.
        trigger: Trigger,
    },
}

impl Incoming {
    /// The order that is meant.
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

/// A wish to try an order.
#[derive(Debug, Clone)]
pub struct AdmitRequest {
    /// The order.
    pub incoming: Incoming,
    /// Whether it can be sent now.
    pub intent: Intent,
    /// When.
    pub now: Timestamp,
}

/// What became of it.
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
        /// Whether an order message with another payload came, and was kept beside.
        conflict: bool,
        /// Whether this call made the row.
        new: bool,
    },
    /// A retry for an order that the ledger does not have.
    Unknown,
}

/// What became of an order that was only taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is new.
    New,
    /// It was known with the same content.
    Duplicate,
    /// It was known with another content, which stays; this one is kept beside it.
    Conflict,
}

/// A receipt to be written.
#[derive(Debug, Clone)]
pub struct ConfirmRequest {
    /// The order.
    pub key: OrderKey,
    /// The attempt that brought it in.
    pub attempt: u32,
    /// Who had asked for it.
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
    /// What the customer is told, if anything.
    pub notice: Option<Notice>,
    /// When.
    pub now: Timestamp,
}

/// What became of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Whether this receipt confirmed the order, or it was confirmed before.
    pub first: bool,
    /// Failed attempts before.
    pub fail_count: u32,
    /// The ERP's number that was written before, when it differs: the order is in the ERP twice.
    pub other_erp_order_id: Option<String>,
}

/// A failed try to be counted.
#[derive(Debug, Clone)]
pub struct FailureRequest {
    /// The order.
    pub key: OrderKey,
    /// The failure.
    pub failed: FailedAttempt,
    /// What had asked for the attempt.
    pub trigger: Trigger,
    /// How long it took.
    pub duration_ms: u64,
    /// Method and address that were called.
    pub request: Option<String>,
    /// Status of the answer.
    pub status: Option<u16>,
    /// The order itself, should the ledger not have it.
    pub order: Option<Placed>,
    /// What follows a failure in this shop.
    pub policy: RetryPolicy,
    /// When.
    pub now: Timestamp,
}

/// What became of a failed attempt.
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

/// A claim to be given back.
#[derive(Debug, Clone)]
pub struct HandBackRequest {
    /// The order.
    pub key: OrderKey,
    /// Whose claim.
    pub worker: String,
    /// How.
    pub how: HandBack,
    /// When.
    pub now: Timestamp,
}

/// Exchanges of a try to be kept.
#[derive(Debug, Clone)]
pub struct KeepRequest {
    /// The order.
    pub key: OrderKey,
    /// The attempt.
    pub attempt: u32,
    /// The claim under which they were made.
    pub worker: String,
    /// What was exchanged, in order.
    pub exchanges: Vec<Exchange>,
    /// Whether no attempt was made, only a question: the last one of an attempt replaces earlier ones, so
    /// that an order that is asked about for weeks does not grow.
    pub only_asked: bool,
    /// When.
    pub now: Timestamp,
}

/// What to look for when sweeping.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Now.
    pub now: Timestamp,
    /// How long something may be overdue before it counts as left lying.
    pub grace: Duration,
    /// How long an order that was swept is left alone.
    pub again_after: Duration,
    /// Which shops to look at: those whose circuit is closed.
    pub shops: ShopFilter,
    /// Most orders to take.
    pub limit: u32,
}

/// An order that lies about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    /// The order.
    pub key: OrderKey,
    /// Its next attempt.
    pub attempt: u32,
    /// Its phase.
    pub phase: String,
    /// Its trace context.
    pub traceparent: Option<String>,
}

/// Open orders of one state and phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenCount {
    /// The state.
    pub state: OrderState,
    /// The phase.
    pub phase: String,
    /// How many.
    pub orders: u64,
    /// When the oldest of them came.
    pub oldest: Option<Timestamp>,
}

/// The proof that nothing is lost, or what contradicts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LedgerReport {
    /// Orders taken in, counted when they came.
    pub received: u64,
    /// Orders in `confirmed`.
    pub confirmed: u64,
    /// Orders in `ordered_failed`.
    pub lost: u64,
    /// Orders in `payed`/`queued`.
    pub queued: u64,
    /// Orders in `payed`/`held`.
    pub held: u64,
    /// received - (confirmed + lost + queued + held).
    pub difference: i64,
    /// What contradicts the promises, with examples.
    pub violations: Vec<Violation>,
}

/// A promise that rows contradict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Violation {
    /// The promise.
    pub promise: &'static str,
    /// How many rows contradict it.
    pub rows: u64,
    /// Up to five of them.
    pub examples: Vec<String>,
}

/// Notices and mails (docs/architecture.md, row 11).
#[async_trait]
pub trait NoticeStore: Send + Sync {
    /// Writes a notice that belongs to no order; nothing when it is there already.
    async fn add_notice(&self, notice: Notice) -> Result<(), StoreError>;
    /// Notices that are due and in no mail yet, oldest first.
    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError>;
    /// Lets notices wait until then.
    async fn postpone_notices(&self, ids: &[String], until: Timestamp) -> Result<(), StoreError>;
    /// What was mailed lately to an audience.
    async fn digest_window(&self, audience: &str) -> Result<Option<DigestWindow>, StoreError>;
    /// Writes mails and puts each one's notices into it, all or nothing; `false` when one of the
    /// notices is in a mail already.
    async fn compose_mails(
        &self,
        mails: Vec<NewMail>,
        window: Option<(String, DigestWindow)>,
    ) -> Result<bool, StoreError>;
    /// Takes mails that are due, under a lease.
    async fn claim_mails(
        &self,
        worker: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<StoredMail>, StoreError>;
    /// What became of a mail that was claimed.
    async fn settle_mail(&self, id: Uuid, fate: MailFate) -> Result<(), StoreError>;
    /// Mails and notices that wait, and mails that failed for good.
    async fn count_mails(&self) -> Result<MailCounts, StoreError>;
    /// Whether a notice or a mail is due at `now`.
    async fn has_due_mail(&self, now: Timestamp) -> Result<bool, StoreError>;
    /// Mails, newest first.
    async fn list_mails(
        &self,
        status: Option<MailStatus>,
        limit: u32,
    ) -> Result<Vec<StoredMail>, StoreError>;
    /// One mail.
    async fn mail(&self, id: Uuid) -> Result<Option<StoredMail>, StoreError>;
}

/// Something that has to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Deterministic (domain::notice).
    pub id: String,
    /// What it tells.
    pub kind: NoticeKind,
    /// What its mail needs.
    pub detail: NoticeDetail,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A mail to be written.
#[derive(Debug, Clone)]
pub struct NewMail {
    /// Its id.
    pub id: Uuid,
    /// Who sends and receives it.
    pub audience: String,
    /// The mail.
    pub mail: Mail,
    /// The notices in it.
    pub notices: Vec<String>,
    /// Whether it is only kept.
    pub keep_only: bool,
    /// When.
    pub now: Timestamp,
}

/// A mail in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMail {
    /// Its id.
    pub id: Uuid,
    /// Who sends and receives it.
    pub audience: String,
    /// The mail.
    pub mail: Mail,
    /// Where it stands.
    pub status: MailStatus,
    /// How often sending it was tried.
    pub tries: u32,
    /// The last error.
    pub error: Option<String>,
    /// When it was written.
    pub created_at: Timestamp,
    /// When the server took it.
    pub sent_at: Option<Timestamp>,
}

/// Where a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MailStatus {
    /// Not sent yet.
    Waiting,
    /// Taken by the mail server.
    Sent,
    /// No mail server is set: only kept.
    Kept,
    /// Will never be taken as it is.
    Failed,
}

impl MailStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Sent, Self::Kept, Self::Failed];

    /// The name used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Kept => "kept",
            Self::Failed => "failed",
        }
    }

    /// The status with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// What became of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailFate {
    /// The server took it.
    Sent(Timestamp),
    /// Try again then.
    Later {
        /// When.
        at: Timestamp,
        /// Why.
        error: String,
    },
    /// Give up, visibly.
    Failed(String),
}

/// Mails and notices by where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MailCounts {
    /// Notices that are in no mail yet, and mails that were not sent.
    pub waiting: u64,
    /// Mails given up.
    pub failed: u64,
}

/// Circuits and leases, shared by all workers.
#[async_trait]
pub trait CircuitStore: Send + Sync {
    /// Every circuit that was ever opened.
    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError>;
    /// Opens a closed circuit, with its notice; `false` when it was not closed.
    async fn open_circuit(
        &self,
        erp: &str,
        reason: &str,
        trial_at: Timestamp,
        notice: Option<Notice>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
    /// Makes the trial of an open circuit this worker's, until then; `false` when another has it,
    /// it is not due or nothing is open.
    async fn begin_trial(
        &self,
        erp: &str,
        worker: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
    /// The trial failed: open again until then.
    async fn fail_trial(
        &self,
        erp: &str,
        worker: &str,
        reason: &str,
        trial_at: Timestamp,
    ) -> Result<(), StoreError>;
    /// Makes the next trial of an open circuit due at `at`, if it would be later.
    async fn hasten_trial(&self, erp: &str, at: Timestamp) -> Result<(), StoreError>;
    /// The trial went well: closed, unless a person holds it meanwhile.
    async fn close_circuit(&self, erp: &str) -> Result<(), StoreError>;
    /// A person stops the transfer to an ERP until it is released.
    async fn hold_circuit(&self, erp: &str, reason: &str, act: &Act) -> Result<(), StoreError>;
    /// The next trial of an open circuit is due now; `false` when it is not open.
    async fn release_circuit(&self, erp: &str, act: &Act) -> Result<bool, StoreError>;
    /// Makes this worker the only one that does `task` until then; `false` when another does.
    async fn acquire_lease(
        &self,
        task: &str,
        worker: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// Messages that could not be accepted.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// Keeps a message. One that came before and is still open is only counted again.
    async fn record_dead_letter(&self, letter: NewDeadLetter) -> Result<(), StoreError>;
    /// Dead letters, newest first.
    async fn list_dead_letters(
        &self,
        open_only: bool,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError>;
    /// One of them.
    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>, StoreError>;
    /// Marks an open one as replayed or discarded, with who and why; `false` when it is not open.
    async fn resolve_dead_letter(
        &self,
        id: Uuid,
        resolution: Resolution,
        by: &Act,
    ) -> Result<bool, StoreError>;
}

/// A message to be kept.
#[derive(Debug, Clone)]
pub struct NewDeadLetter {
    /// Its id.
    pub id: Uuid,
    /// The queue or face it came from.
    pub source: String,
    /// Why it was not accepted.
    pub fault: Fault,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Its headers.
    pub headers: Headers,
    /// The exchange it came through.
    pub exchange: String,
    /// The key it came by.
    pub routing_key: String,
    /// When.
    pub now: Timestamp,
}

/// A message that could not be accepted.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its id.
    pub id: Uuid,
    /// The queue or face it came from.
    pub source: String,
    /// The name of the reason.
    pub reason: String,
    /// The place in the document.
    pub place: Option<String>,
    /// What is wrong.
    pub detail: String,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Its headers.
    pub headers: Headers,
    /// The exchange it came through.
    pub exchange: String,
    /// The key it came by.
    pub routing_key: String,
    /// `open`, `replayed` or `discarded`.
    pub status: String,
    /// How often it came.
    pub seen: u64,
    /// When it came first.
    pub first_seen_at: Timestamp,
    /// When it came last.
    pub last_seen_at: Timestamp,
    /// Who settled it and why.
    pub resolution: Option<String>,
}

/// How a dead letter ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It was accepted at last.
    Replayed,
    /// A person decided that it is not needed.
    Discarded,
}

impl Resolution {
    /// The name used in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// Who does something by hand, why and when; every such change leaves an audit row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The audit row's id.
    pub id: Uuid,
    /// Who.
    pub actor: String,
    /// From which address, where that is known.
    pub from: Option<String>,
    /// What they may do; `ops` looks at it before anything is done.
    pub grants: Grants,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub now: Timestamp,
}

/// What people look at and do by hand.
#[async_trait]
pub trait BackOffice: Send + Sync {
    /// One order with everything that happened to it.
    async fn order(&self, key: &OrderKey) -> Result<Option<OrderDetail>, StoreError>;
    /// Orders with this number, in whatever shop; at most 20.
    async fn find_orders(&self, order_id: &str) -> Result<Vec<OrderKey>, StoreError>;
    /// Takes an order off the list.
    async fn remove_order(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError>;
    /// Puts it back.
    async fn restore_order(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError>;
    /// A person says that the ERP does not have an order whose outcome is unclear.
    async fn declare_absent(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError>;
    /// Leaves an audit row about something that a person asks for and a role will do.
    async fn audit_order(&self, act: &Act, action: &str, key: &OrderKey) -> Result<(), StoreError>;
    /// Whether the tables are those of this release.
    async fn schema_status(&self) -> Result<SchemaStatus, StoreError>;
    /// Brings them there.
    async fn migrate(&self) -> Result<Vec<String>, StoreError>;
}

/// An order with everything that happened to it.
#[derive(Debug, Clone)]
pub struct OrderDetail {
    /// The order.
    pub record: OrderRecord,
    /// Its document as it came.
    pub document: Arc<str>,
    /// What people made of it, oldest first.
    pub revisions: Vec<Revision>,
    /// How it came.
    pub source: String,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// What was said to the ERP and back, oldest first.
    pub exchanges: Vec<StoredExchange>,
    /// Other payloads under its number.
    pub conflicts: Vec<Conflict>,
    /// Its mails.
    pub mails: Vec<StoredMail>,
    /// What people did to it.
    pub audit: Vec<AuditEntry>,
}

impl OrderDetail {
    /// The document that would be sent now: the newest revision, else what came.
    pub fn current(&self) -> &Arc<str> {
        self.revisions.last().map_or(&self.document, |newest| &newest.document)
    }
}

/// One attempt, as it is kept.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Attempt {
    /// Its number.
    pub attempt: u32,
    /// `failed` or `succeeded`.
    pub outcome: String,
    /// What had asked for it.
    pub trigger: String,
    /// The process that made it.
    pub worker: Option<String>,
    /// Error class.
    pub class: Option<String>,
    /// Error code.
    pub code: Option<String>,
    /// The ERP's text.
    pub message: Option<String>,
    /// How far it got.
    pub stage: Option<String>,
    /// Method and address that were called.
    pub request: Option<String>,
    /// HTTP status.
    pub status: Option<u16>,
    /// When it ended.
    #[schemars(with = "String")]
    pub occurred_at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// The ERP's number.
    pub erp_order_id: Option<String>,
    /// Whether the order was found by asking, not sent by this attempt.
    pub found: bool,
}

/// An exchange, as it is kept.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StoredExchange {
    /// The attempt it belongs to.
    pub attempt: u32,
    /// When that ended.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The exchange.
    #[serde(flatten)]
    pub exchange: Exchange,
}

/// Another payload that came under the number of a known order.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Conflict {
    /// The document.
    pub document: String,
    /// When it came.
    #[schemars(with = "String")]
    pub received_at: Timestamp,
    /// How it came.
    pub source: String,
}

/// Something a person did.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// From which address, where that was known.
    pub from: Option<String>,
    /// What.
    pub action: String,
    /// To what: an order's key, or the kind and name of something else.
    pub target: String,
    /// Why.
    pub reason: Option<String>,
    /// What it was before: an order's state and phase.
    pub before: Option<String>,
    /// What it was after.
    pub after: Option<String>,
}

/// Whether the tables are those of this release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaStatus {
    /// Migrations not applied yet, by name.
    pub pending: Vec<String>,
    /// Whether a newer release has changed the tables already.
    pub is_newer: bool,
    /// Whether opening the database migrates it (SQLite).
    pub migrates_itself: bool,
}
