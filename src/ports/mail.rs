//! Mail: composing what people read, and handing it to a mail server.
//!
//! A mail is rendered once, stored in the ledger as it will be sent, and then sent to each receiver on
//! its own account until the server accepts it, always with the same Message-ID.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::language::Language;
use crate::domain::lifecycle::transitions::{FailedAttempt, OrderRecord};
use crate::domain::money::Money;
use crate::domain::notice::{DigestRule, NoticeKind};

/// A mail as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The event that it reports.
    pub kind: NoticeKind,
    /// From; `Name <address>` or an address.
    pub sender: String,
    /// To; one or more.
    pub receivers: Vec<String>,
    /// One line.
    pub subject: String,
    /// For mail programs without HTML.
    pub text: String,
    /// For all others.
    pub html: String,
    /// The complete list of a digest as CSV.
    pub attachment: Option<String>,
    /// `<…@…>`, the same for the same content.
    pub message_id: String,
    /// The root of its thread, unless the mail is that itself.
    pub in_reply_to: Option<String>,
    /// The list of the administrators who get it.
    pub list_id: Option<String>,
}

/// Headers, boundaries and what a server adds.
const ENVELOPE_BYTES: usize = 4 * 1024;

impl Mail {
    /// At most this many bytes go to the server, in the encodings that make it longest: three bytes become four, with
    /// a line break after every 76.
    pub fn bytes(&self) -> usize {
        let attached = self.attachment.as_ref().map_or(0, String::len);
        let plain = self.text.len() + self.html.len() + attached;
        plain + plain / 3 + plain / 24 + ENVELOPE_BYTES
    }
}

/// The data of a notice for its mail, as it was when the notice was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeDetail {
    /// The shop, for its sender and receivers.
    pub shop: String,
    /// The order, unless it is about an ERP.
    pub order_id: Option<String>,
    /// Currency and total.
    pub currency: Option<String>,
    /// The original total.
    pub total: Option<String>,
    /// Number of the customer.
    pub customer_number: Option<String>,
    /// Name of the customer.
    pub customer_name: Option<String>,
    /// Where a confirmation goes.
    pub customer_email: Option<String>,
    /// Language of a confirmation.
    pub customer_locale: Option<String>,
    /// Number of the attempt.
    pub attempt: u32,
    /// Failed attempts so far.
    pub fail_count: u32,
    /// The maximum.
    pub max_count: Option<u32>,
    /// Phase the order went into.
    pub phase: String,
    /// When the next attempt or question is due.
    pub next_attempt_at: Option<Timestamp>,
    pub class: Option<String>,
    pub code: Option<String>,
    /// The ERP's text.
    pub message: Option<String>,
    /// The ERP's number.
    pub erp_order_id: Option<String>,
    /// The number that the order had in the ERP before, for a notice that it was entered twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_erp_order_id: Option<String>,
    /// The ERP, for a notice about a circuit.
    pub erp: Option<String>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Whether a redrive triggered the attempt: such failures are reported together.
    #[serde(default)]
    pub by_redrive: bool,
    /// The trouble, for a notice about its beginning or end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// What is known of an ERP that was not usable, or of a type of failures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When it began.
    pub began_at: Timestamp,
    /// When it stopped, or was seen last.
    pub until: Option<Timestamp>,
    /// How long it lasted, without the breaks.
    pub lasted_ms: u64,
    /// How often it began in all that time.
    pub times: u32,
    /// How often it began lately, and since when: for one that comes and goes.
    pub recent_times: u32,
    pub recent_since: Option<Timestamp>,
    /// Of an ERP: the most orders that waited when it was usable again.
    pub waited: u64,
    /// Of an ERP: how many of them wait still.
    pub waiting: u64,
    /// Of an ERP: orders that failed meanwhile and that a person has to decide about.
    pub undecided: u64,
    /// Of a type of failures: what groups them.
    pub fingerprint: Option<String>,
    /// Of a type of failures: orders that are lost because of it.
    pub lost: u64,
    /// Their totals.
    pub money: Vec<Money>,
}

impl NoticeDetail {
    /// The data of a notice about `record` as it is now.
    pub fn of_order(record: &OrderRecord, attempt: u32, occurred_at: Timestamp) -> Self {
        let failure = record.last_failure.as_ref();
        let customer = &record.facts.customer;
        Self {
            shop: record.key.shop.to_string(),
            order_id: Some(record.key.order_id.to_string()),
            currency: Some(record.facts.currency.to_string()),
            total: Some(record.facts.total.to_string()),
            customer_number: customer.number.clone(),
            customer_name: customer.name.clone(),
            customer_email: customer.email.as_ref().map(ToString::to_string),
            customer_locale: customer.locale.clone(),
            attempt,
            fail_count: record.fail_count,
            max_count: record.max_count,
            phase: record.phase.name().to_owned(),
            next_attempt_at: record.phase.due_at(),
            class: failure.map(|f| f.summary.class.as_str().to_owned()),
            code: failure.map(|f| f.summary.code.clone()),
            message: failure.map(|f| f.summary.message.clone()),
            erp_order_id: None,
            first_erp_order_id: None,
            erp: None,
            occurred_at,
            by_redrive: false,
            trouble: None,
        }
    }

    /// The data of a notice about an attempt of `record` that failed, which need not be its last.
    pub fn of_failure(record: &OrderRecord, failed: &FailedAttempt) -> Self {
        let FailedAttempt { attempt, failure, occurred_at, .. } = failed;
        Self {
            class: Some(failure.class.as_str().to_owned()),
            code: Some(failure.code.clone()),
            message: Some(failure.message.clone()),
            ..Self::of_order(record, *attempt, *occurred_at)
        }
    }

    /// The data of a notice about an ERP.
    pub fn of_erp(erp: &str, shop: &str, reason: &str, now: Timestamp) -> Self {
        Self {
            shop: shop.to_owned(),
            order_id: None,
            currency: None,
            total: None,
            customer_number: None,
            customer_name: None,
            customer_email: None,
            customer_locale: None,
            attempt: 0,
            fail_count: 0,
            max_count: None,
            phase: "open".to_owned(),
            next_attempt_at: None,
            class: None,
            code: None,
            message: Some(reason.to_owned()),
            erp_order_id: None,
            first_erp_order_id: None,
            erp: Some(erp.to_owned()),
            occurred_at: now,
            by_redrive: false,
            trouble: None,
        }
    }

    /// The data of a notice about a type of failures.
    pub fn of_failure_type(
        shop: &str,
        class: &str,
        code: &str,
        trouble: Trouble,
        now: Timestamp,
    ) -> Self {
        Self {
            class: Some(class.to_owned()),
            code: Some(code.to_owned()),
            erp: None,
            phase: String::new(),
            trouble: Some(trouble),
            ..Self::of_erp("", shop, "", now)
        }
    }
}

/// Turns notices into mails.
pub trait Composer: Send + Sync {
    /// The group of shops that share sender, receivers, server and digests: a name, not an address.
    fn audience(&self, shop: &str) -> String;
    /// One mail about all `notices`, at least one, all of one kind and audience. `seed`
    /// distinguishes this mail from any other. Never fails: if a template of the user fails, the
    /// built-in one is used.
    fn compose(
        &self,
        audience: &str,
        kind: NoticeKind,
        notices: &[NoticeDetail],
        seed: &str,
    ) -> Mail;
    /// Whether a mail is small enough for `mail.max_bytes`; a larger digest is split.
    fn fits(&self, audience: &str, mail: &Mail) -> bool;
    /// When single failures of this audience become a digest.
    fn digest_rule(&self, audience: &str) -> DigestRule;
    /// Whether mails of this audience are only stored, because no mail server is set.
    fn keeps_only(&self, audience: &str) -> bool;
}

/// Each kind of mail with sample data.
pub trait MailPreviews: Send + Sync {
    /// The names of the kinds.
    fn kinds(&self) -> Vec<&'static str>;
    /// The mail of that kind in this language, or in that of the administrators; `None`: there is no such kind.
    fn preview(&self, kind: &str, language: Option<Language>) -> Option<Mail>;
    /// The whole message as it would be sent to the first receiver.
    fn message(&self, mail: &Mail) -> Result<Vec<u8>, String>;
}

/// Why a mail was not accepted for a receiver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The server takes nothing from us now: it cannot be reached, refuses the greeting or the login, or says
    /// 421 (RFC 5321, 3.8).
    #[error("{error}")]
    ServerAway {
        /// What it said.
        error: String,
        /// The same for mails that were not attempted: without the server's text, which may name this receiver.
        of_server: String,
    },
    /// This receiver takes no mail of this size.
    #[error("{0}")]
    TooLarge(String),
    /// This receiver may accept it later.
    #[error("{0}")]
    Later(String),
    /// This receiver will never accept it.
    #[error("{0}")]
    Never(String),
}

/// Sends mails.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Returns when the mail server has taken responsibility for it, for this one receiver.
    async fn send(&self, audience: &str, mail: &Mail, receiver: &str) -> Result<(), MailError>;
    /// Longest time one [`Mailer::send`] can take.
    fn send_budget(&self) -> Duration;
}
