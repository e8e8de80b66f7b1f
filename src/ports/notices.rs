//! Notices and the mails that they become (docs/architecture.md, row 11).

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::notice::{DigestWindow, NoticeKind, second_entry_notice_id};
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
    /// Takes mails that are due, under a lease.
    async fn claim_mails(
        &self,
        worker: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<StoredMail>, StoreError>;
    /// The outcome of a claimed mail.
    async fn settle_mail(&self, id: Uuid, fate: MailFate) -> Result<(), StoreError>;
}

/// How many mails wait, and whether one is due.
#[async_trait]
pub trait MailLevels: Send + Sync {
    /// Mails and notices that wait, and mails that failed for good.
    async fn count_mails(&self) -> Result<MailCounts, StoreError>;
    /// Whether a notice or a mail is due at `now`.
    async fn has_due_mail(&self, now: Timestamp) -> Result<bool, StoreError>;
}

/// Mails for people.
#[async_trait]
pub trait MailArchive: Send + Sync {
    /// Mails, newest first.
    async fn list_mails(
        &self,
        status: Option<MailStatus>,
        limit: u32,
    ) -> Result<Vec<StoredMail>, StoreError>;
    async fn mail(&self, id: Uuid) -> Result<Option<StoredMail>, StoreError>;
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
    pub status: MailStatus,
    /// How often it was sent.
    pub tries: u32,
    /// The last error.
    pub error: Option<String>,
    /// When it was written.
    pub created_at: Timestamp,
    /// When the server accepted it.
    pub sent_at: Option<Timestamp>,
}

/// The status of a mail.
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
}

crate::names!(MailStatus {
    Waiting = "waiting",
    Sent = "sent",
    Kept = "kept",
    Failed = "failed",
});

/// The outcome of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailFate {
    /// The server accepted it.
    Sent(Timestamp),
    /// Send it again then.
    Later { at: Timestamp, error: String },
    /// Abandoned; it stays visible.
    Failed(String),
}

/// Mails and notices by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MailCounts {
    /// Notices that are in no mail yet, and mails that were not sent.
    pub waiting: u64,
    /// Abandoned mails.
    pub failed: u64,
}
