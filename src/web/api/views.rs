//! What the API shows: stable names, times as RFC 3339, numbers as exact text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ports::audit::AuditEntry;
use crate::ports::dead_letters::DeadLetter;
use crate::ports::notices::StoredMail;
use crate::ports::order_desk::{Attempt, Conflict, OrderDetail, Revision, StoredExchange};
use crate::views::orders::OrderView;

/// An order with its history.
#[derive(Serialize, JsonSchema)]
pub struct DetailView {
    order: OrderView,
    /// How it was received.
    source: String,
    /// W3C trace context.
    traceparent: Option<String>,
    /// Its original document, byte for byte.
    #[schemars(with = "serde_json::Value")]
    document: Option<Box<RawValue>>,
    /// What would be sent now: the newest revision.
    #[schemars(with = "serde_json::Value")]
    current: Option<Box<RawValue>>,
    revisions: Vec<RevisionView>,
    attempts: Vec<Attempt>,
    /// Exchanges with the ERP.
    exchanges: Vec<StoredExchange>,
    /// Different contents that arrived under its number.
    conflicts: Vec<Conflict>,
    mails: Vec<MailView>,
    /// Actions of people on it.
    audit: Vec<AuditEntry>,
}

impl DetailView {
    /// Everything about an order.
    pub fn of(detail: OrderDetail) -> Self {
        Self {
            order: OrderView::of(&detail.record),
            document: raw(&detail.document),
            current: raw(detail.current()),
            revisions: detail.revisions.iter().map(RevisionView::of).collect(),
            mails: detail.mails.iter().map(MailView::of).collect(),
            source: detail.source,
            traceparent: detail.record.trace.parent,
            attempts: detail.attempts,
            exchanges: detail.exchanges,
            conflicts: detail.conflicts,
            audit: detail.audit,
        }
    }
}

fn raw(document: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(document.to_owned()).ok()
}

/// A revision of an order.
#[derive(Serialize, JsonSchema)]
pub struct RevisionView {
    revision: u32,
    #[schemars(with = "serde_json::Value")]
    document: Option<Box<RawValue>>,
    at: String,
    actor: String,
    reason: Option<String>,
}

impl RevisionView {
    fn of(revision: &Revision) -> Self {
        Self {
            revision: revision.revision,
            document: raw(&revision.document),
            at: revision.at.to_string(),
            actor: revision.actor.clone(),
            reason: revision.reason.clone(),
        }
    }
}

/// A mail.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MailView {
    id: String,
    kind: &'static str,
    /// waiting, sent, kept or failed.
    status: &'static str,
    sender: String,
    receivers: Vec<String>,
    subject: String,
    tries: u32,
    error: Option<String>,
    created_at: String,
    sent_at: Option<String>,
    message_id: String,
    text: String,
}

impl MailView {
    /// A mail as it was or will be sent.
    pub fn of(stored: &StoredMail) -> Self {
        let mail = &stored.mail;
        Self {
            id: stored.id.to_string(),
            kind: mail.kind.as_str(),
            status: stored.status.as_str(),
            sender: mail.sender.clone(),
            receivers: mail.receivers.clone(),
            subject: mail.subject.clone(),
            tries: stored.tries,
            error: stored.error.clone(),
            created_at: stored.created_at.to_string(),
            sent_at: stored.sent_at.map(|at| at.to_string()),
            message_id: mail.message_id.clone(),
            text: mail.text.clone(),
        }
    }
}

/// A message that could not be accepted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LetterView {
    id: String,
    /// open, replayed or discarded.
    status: String,
    source: String,
    reason: String,
    place: Option<String>,
    detail: String,
    /// The message as text; bytes that are no UTF-8 are replaced.
    text: String,
    /// The message in base64, when its bytes are no UTF-8.
    base64: Option<String>,
    bytes: usize,
    seen: u64,
    first_seen_at: String,
    last_seen_at: String,
    exchange: String,
    routing_key: String,
    #[schemars(with = "serde_json::Value")]
    headers: serde_json::Value,
    resolution: Option<String>,
}

impl LetterView {
    /// A dead letter.
    pub fn of(letter: &DeadLetter) -> Self {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let is_text = std::str::from_utf8(&letter.body).is_ok();
        Self {
            id: letter.id.to_string(),
            status: letter.status.clone(),
            source: letter.source.clone(),
            reason: letter.reason.clone(),
            place: letter.place.clone(),
            detail: letter.detail.clone(),
            text: String::from_utf8_lossy(&letter.body).into_owned(),
            base64: (!is_text).then(|| STANDARD.encode(&letter.body)),
            bytes: letter.body.len(),
            seen: letter.seen,
            first_seen_at: letter.first_seen_at.to_string(),
            last_seen_at: letter.last_seen_at.to_string(),
            exchange: letter.exchange.clone(),
            routing_key: letter.routing_key.clone(),
            headers: serde_json::to_value(&letter.headers).unwrap_or_default(),
            resolution: letter.resolution.clone(),
        }
    }
}

/// An order's place in a path. A `/` within the number is written `%2F`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OrderPath {
    /// Its shop.
    pub shop: String,
    /// Its number.
    pub order_id: String,
}

/// Something with an id in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct IdPath {
    /// Its id.
    pub id: String,
}
