//! One order with everything that happened to it.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::ports::audit::AuditEntry;
use crate::ports::order_desk::{Attempt, Conflict, OrderDetail, Revision, StoredExchange};
use crate::ports::second_entries::SecondEntry;
use crate::ports::total_differences::FoundTotal;
use crate::views::mails::MailView;
use crate::views::orders::OrderView;

/// An order with its history.
#[derive(Serialize, JsonSchema)]
pub struct DetailView {
    pub order: OrderView,
    /// How it was received.
    pub source: String,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Its original document, byte for byte.
    #[schemars(with = "serde_json::Value")]
    pub document: Option<Box<RawValue>>,
    /// What would be sent now: the newest revision.
    #[schemars(with = "serde_json::Value")]
    pub current: Option<Box<RawValue>>,
    pub revisions: Vec<RevisionView>,
    pub attempts: Vec<Attempt>,
    /// Further numbers that the ERP gave it: it is there twice.
    pub second_entries: Vec<SecondEntry>,
    /// Sums in the ERP that differ from what was paid.
    pub total_differences: Vec<FoundTotal>,
    /// Exchanges with the ERP.
    pub exchanges: Vec<StoredExchange>,
    /// Different contents that arrived under its number.
    pub conflicts: Vec<Conflict>,
    pub mails: Vec<MailView>,
    /// Actions of people on it.
    pub audit: Vec<AuditEntry>,
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
            second_entries: detail.second_entries,
            total_differences: detail.total_differences,
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
    pub revision: u32,
    #[schemars(with = "serde_json::Value")]
    pub document: Option<Box<RawValue>>,
    pub at: String,
    pub actor: String,
    pub reason: Option<String>,
}

impl RevisionView {
    pub fn of(revision: &Revision) -> Self {
        Self {
            revision: revision.revision,
            document: raw(&revision.document),
            at: revision.at.to_string(),
            actor: revision.actor.clone(),
            reason: revision.reason.clone(),
        }
    }
}
