//! Notices and the mails that they become (docs/architecture.md, row 11).

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::notice::{DigestWindow, NoticeKind, second_entry_notice_id};
use crate::ports::audit::Act;
use crate::ports::mail::{Mail, NoticeDetail};
use crate::ports::store_error::StoreError;

/// What the notifier does (docs/architecture.md, row 11).
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Writes a notice that belongs to no order; nothing when it is there already.
    async fn add_notice(&self, notice: Notice) -> Result<(), StoreError>;
    /// Notices that are due and in no mail yet, oldest first.
    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError>;
    /// Defers notices until then.
    async fn postpone_notices(&self, ids: &[String], until: Timestamp) -> Result<(), StoreError>;
    /// What was mailed recently to an audience.
    async fn digest_window(&self, audience: &str) -> Result<Option<DigestWindow>, StoreError>;
    /// Writes mails and puts each one's notices into it, all or nothing; `false` when one of the
    /// notices is in a mail already.
    async fn compose_mails(
        &self,
        mails: Vec<NewMail>,
        window: Option<(String, DigestWindow)>,
    ) -> Result<bool, StoreError>;
    /// Takes deliveries that are due, under a lease.
    async fn claim_deliveries(
        &self,
        worker: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<ClaimedDelivery>, StoreError>;
    /// The notices in a mail, oldest first.
    async fn notices_of(&self, mail_id: Uuid) -> Result<Vec<Notice>, StoreError>;
    /// The outcome of a claimed delivery; returns the status of its mail after it.
    async fn settle_delivery(
        &self,
        mail_id: Uuid,
        receiver: &str,
        fate: MailFate,
    ) -> Result<MailStatus, StoreError>;
}

/// How many mails wait, and whether one is due.
#[async_trait]
pub trait MailLevels: Send + Sync {
    /// Mails and notices that wait or failed for good.
    async fn count_mails(&self) -> Result<MailCounts, StoreError>;
    /// Administrators whose last mail was refused for good, at `since` or later.
    async fn refused_receivers(&self, since: Timestamp)
    -> Result<Vec<RefusedReceiver>, StoreError>;
    /// Whether a notice or a mail is due at `now`.
    async fn has_due_mail(&self, now: Timestamp) -> Result<bool, StoreError>;
}

/// Mails for people.
#[async_trait]
pub trait MailArchive: Send + Sync {
    /// Mails that have this status, for all or for one of their receivers; newest first.
    async fn list_mails(
        &self,
        status: Option<MailStatus>,
        limit: u32,
    ) -> Result<Vec<StoredMail>, StoreError>;
    async fn mail(&self, id: Uuid) -> Result<Option<StoredMail>, StoreError>;
}

/// What people do with mails.
#[async_trait]
pub trait MailDesk: Send + Sync {
    /// Queues a mail for those of `receivers` that have not got it and to whom it is not under way; how many.
    async fn resend_mail(
        &self,
        id: Uuid,
        receivers: &[String],
        act: &Act,
    ) -> Result<u32, StoreError>;
    /// An alert that no administrator got is known; `false` when it is no such alert any more.
    async fn acknowledge_mail(&self, id: Uuid, act: &Act) -> Result<bool, StoreError>;
}

/// A notification to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Deterministic (domain::notice).
    pub id: String,
    /// The event that it reports.
    pub kind: NoticeKind,
    /// What its mail needs.
    pub detail: NoticeDetail,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Notice {
    /// The ERP gave `record`, which has the number `first` there, another one: told once for each number.
    pub fn of_second_entry(
        record: &OrderRecord,
        attempt: u32,
        number: &str,
        first: Option<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            id: second_entry_notice_id(&record.key, number),
            kind: NoticeKind::EnteredTwice,
            detail: NoticeDetail {
                erp_order_id: Some(number.to_owned()),
                first_erp_order_id: first,
                ..NoticeDetail::of_order(record, attempt, now)
            },
            created_at: now,
        }
    }
}

/// A mail to be written.
#[derive(Debug, Clone)]
pub struct NewMail {
    pub id: Uuid,
    /// Who sends and receives it.
    pub audience: String,
    /// The mail.
    pub mail: Mail,
    /// The notices in it.
    pub notices: Vec<String>,
    /// Whether it is only stored.
    pub keep_only: bool,
    pub now: Timestamp,
}

/// A mail in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMail {
    pub id: Uuid,
    /// Who sends and receives it.
    pub audience: String,
    /// The mail.
    pub mail: Mail,
    /// Of all receivers together: see [`MailStatus::of_all`].
    pub status: MailStatus,
    /// Each receiver on its own account, in the order of the mail.
    pub deliveries: Vec<MailDelivery>,
    /// When it was written.
    pub created_at: Timestamp,
    /// When a person said that it is known, although no administrator got it.
    pub acknowledged_at: Option<Timestamp>,
}

impl StoredMail {
    /// How often it was sent, to the receiver with the most attempts.
    pub fn tries(&self) -> u32 {
        self.deliveries.iter().map(|delivery| delivery.tries).max().unwrap_or(0)
    }

    /// The error of the first receiver that has one.
    pub fn error(&self) -> Option<&str> {
        self.deliveries.iter().find_map(|delivery| delivery.error.as_deref())
    }

    /// When the server accepted it for the last receiver so far.
    pub fn sent_at(&self) -> Option<Timestamp> {
        self.deliveries.iter().filter_map(|delivery| delivery.sent_at).max()
    }

    /// Whether every receiver got parts of it in its place.
    pub fn is_only_in_parts(&self) -> bool {
        let is_split = |delivery: &MailDelivery| delivery.status == MailStatus::Split;
        !self.deliveries.is_empty() && self.deliveries.iter().all(is_split)
    }

    /// Whether the administrators are to act on it, and none of them got it.
    pub fn is_unheard(&self) -> bool {
        self.mail.kind.is_alert()
            && self.status == MailStatus::Failed
            && self.acknowledged_at.is_none()
    }
}

/// One receiver of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailDelivery {
    /// `Name <address>` or an address.
    pub receiver: String,
    pub status: MailStatus,
    /// How often it was sent to this receiver.
    pub tries: u32,
    /// The last error.
    pub error: Option<String>,
    /// When the server accepted it.
    pub sent_at: Option<Timestamp>,
}

/// A mail that is to be sent to one receiver now.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedDelivery {
    pub mail_id: Uuid,
    pub audience: String,
    pub mail: Mail,
    pub receiver: String,
    /// This attempt included.
    pub tries: u32,
    /// Since when it is to be sent.
    pub queued_at: Timestamp,
}

/// A refusal is shown for so long: whoever is told nothing any more is not in the settings any more.
pub const REFUSED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// An administrator whose last mail was refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedReceiver {
    pub audience: String,
    pub receiver: String,
    pub error: String,
}

/// The status of a mail, or of one of its deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MailStatus {
    /// Not sent yet.
    Waiting,
    /// Accepted by the mail server.
    Sent,
    /// No mail server is set: only stored.
    Kept,
    /// Will never be taken as it is.
    Failed,
    /// Of a delivery: too large for this receiver, and sent in parts, each of which is a mail.
    Split,
}

crate::names!(MailStatus {
    Waiting = "waiting",
    Sent = "sent",
    Kept = "kept",
    Failed = "failed",
    Split = "split",
});

impl MailStatus {
    /// The status of a mail out of those of its receivers, at least one: `waiting` while it is to be sent to one
    /// of them, `failed` when none got it. What is sent in parts is sent: each part has a status of its own.
    pub fn of_all(deliveries: &[MailDelivery]) -> Self {
        let any = |status| deliveries.iter().any(|delivery| delivery.status == status);
        if any(Self::Waiting) {
            Self::Waiting
        } else if any(Self::Sent) || any(Self::Split) {
            Self::Sent
        } else if any(Self::Kept) {
            Self::Kept
        } else {
            Self::Failed
        }
    }
}

/// The outcome of a delivery.
#[derive(Debug, Clone)]
pub enum MailFate {
    /// The server accepted it.
    Sent(Timestamp),
    /// Send it again then.
    Later { at: Timestamp, error: String },
    /// Abandoned; it stays visible.
    Failed { at: Timestamp, error: String },
    /// Too large: these mails, each to this receiver alone and with a part of its notices, take its place. One that
    /// another receiver has already caused is used again.
    Split { at: Timestamp, error: String, parts: Vec<NewMail> },
    /// There was no time for it: the claim ends, and no attempt is counted.
    Untried,
}

/// Mails and notices by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MailCounts {
    /// Notices that are in no mail yet, and deliveries that wait.
    pub waiting: u64,
    /// Abandoned deliveries.
    pub failed: u64,
    /// Mails to administrators that none of them got.
    pub unheard: u64,
}
