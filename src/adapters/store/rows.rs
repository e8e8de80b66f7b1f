//! From result rows to the types of the ledger, the same for both databases.

use crate::adapters::store::db::Value;
use crate::sql_args;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::failure::{ErrorClass, Stage};
use crate::domain::failure_summary::FailureSummary;
use crate::domain::lifecycle::claim::Claim;
use crate::domain::lifecycle::transitions::{LastFailure, OrderRecord};
use crate::domain::lifecycle::vocabulary::Phase;
use crate::domain::money::Sum;
use crate::domain::notice::NoticeKind;
use crate::domain::order::document::{Customer, OrderFacts};
use crate::domain::order::values::{Currency, Decimal, Email, OrderKey};
use crate::domain::trace::Trace;
use crate::ports::audit::AuditEntry;
use crate::ports::dead_letters::DeadLetter;
use crate::ports::erp::Exchange;
use crate::ports::mail::Mail;
use crate::ports::notices::{MailDelivery, MailStatus, Notice, StoredMail};
use crate::ports::order_desk::{Attempt, Conflict, Revision, StoredExchange};
use crate::ports::store_error::StoreError;

use super::db::Row;

/// Columns of an order record in the order that [`order_record`] reads them.
pub const ORDER_COLUMNS: &str = "shop, order_id, phase, due_at_ms, erp_order_id, fail_count, \
    max_count, last_attempt, claim_worker, claim_attempt, claimed_until_ms, claim_preparing, \
    unclear_since_ms, \
    error_class, error_code, error_message, error_fingerprint, failed_at_ms, in_doubt, placed_at_ms, \
    currency, total, customer_number, customer_name, customer_email, customer_locale, \
    payment, traceparent, tracestate, received_at_ms, updated_at_ms, version, revision";

/// The newest revision of an order out of `order_rows AS o`; NULL: as it came.
pub const EDITED: &str = "(SELECT r.document FROM revisions AS r
    WHERE r.shop = o.shop AND r.order_id = o.order_id AND r.revision = o.revision)";

/// Columns of `mail_rows` in the order that [`stored_mail`] reads them.
pub const MAIL_COLUMNS: &str = "id, audience, kind, sender, receivers, subject, text_body, \
    html_body, attachment, message_id, in_reply_to, list_id, status, tries, error, created_at_ms, sent_at_ms, acknowledged_at_ms, deliveries";

/// Columns of a mail as it is sent, in the order that [`mail`] reads them.
pub const CONTENT_COLUMNS: &str = "kind, sender, receivers, subject, text_body, html_body, attachment, message_id, \
    in_reply_to, list_id";

/// Columns of a dead letter in the order that [`dead_letter`] reads them.
pub const DEAD_LETTER_COLUMNS: &str = "id, source, reason, place, detail, CAST(length(body) AS BIGINT), headers, exchange, \
    routing_key, status, seen, first_seen_ms, last_seen_ms, resolution";

/// The row of a query that always has one.
pub fn only(mut rows: Vec<Row>) -> Result<Row, StoreError> {
    rows.pop().ok_or_else(no_answer)
}

pub fn no_answer() -> StoreError {
    StoreError::Corrupt {
        table: "(query)",
        column: "(answer)",
        row: String::new(),
        detail: "the answer does not fit the question".to_owned(),
    }
}

/// The key of an order.
pub fn order_key(row: &mut Row) -> Result<OrderKey, StoreError> {
    let (shop, order_id) = (row.text("shop")?, row.text("order_id")?);
    row.name = format!("{shop}/{order_id}");
    OrderKey::new(&shop, &order_id).map_err(|e| row.corrupt("order_id", &e))
}

/// An order record out of [`ORDER_COLUMNS`].
pub fn order_record(row: &mut Row) -> Result<OrderRecord, StoreError> {
    row.table = "orders";
    let key = order_key(row)?;
    Ok(OrderRecord {
        phase: phase(row)?,
        fail_count: row.number("fail_count")?,
        max_count: row.number_or_null("max_count")?,
        last_attempt: row.number("last_attempt")?,
        claim: claim(row)?,
        unclear_since: row.time_or_null("unclear_since_ms")?,
        last_failure: last_failure(row)?,
        facts: facts(row)?,
        trace: trace(row)?,
        received_at: row.time("received_at_ms")?,
        updated_at: row.time("updated_at_ms")?,
        version: row.int("version")?,
        revision: row.number("revision")?,
        key,
    })
}

fn phase(row: &mut Row) -> Result<Phase, StoreError> {
    let name = row.text("phase")?;
    let due = row.time_or_null("due_at_ms")?;
    let erp_order_id = row.text_or_null("erp_order_id")?;
    Ok(match (name.as_str(), due) {
        ("queued", _) => Phase::Queued,
        ("held", _) => Phase::Held,
        ("retrying", Some(next_attempt_at)) => Phase::Retrying { next_attempt_at },
        ("parked", _) => Phase::Parked,
        ("outcome_unknown", Some(ask_at)) => Phase::OutcomeUnknown { ask_at },
        ("transferred", _) => Phase::Transferred { erp_order_id },
        ("removed", _) => Phase::Removed,
        _ => return Err(row.corrupt("phase", &format!("`{name}`, due {due:?}"))),
    })
}

fn claim(row: &mut Row) -> Result<Option<Claim>, StoreError> {
    let worker = row.text_or_null("claim_worker")?;
    let attempt = row.number_or_null("claim_attempt")?;
    let until = row.time_or_null("claimed_until_ms")?;
    let preparing = row.text_or_null("claim_preparing")?;
    Ok(match (worker, attempt, until) {
        (Some(worker), Some(attempt), Some(until)) => {
            let begun = preparing.as_ref() != Some(&worker);
            Some(Claim { worker, attempt, until, begun })
        }
        _ => None,
    })
}

fn last_failure(row: &mut Row) -> Result<Option<LastFailure>, StoreError> {
    let summary = failure_summary(row)?;
    let at = row.time_or_null("failed_at_ms")?;
    let in_doubt = row.int("in_doubt")? != 0;
    Ok(summary.zip(at).map(|(summary, at)| LastFailure { summary, at, in_doubt }))
}

/// error_class, error_code, error_message and the fingerprint; none without a class.
pub fn failure_summary(row: &mut Row) -> Result<Option<FailureSummary>, StoreError> {
    let class = row.text_or_null("error_class")?;
    let code = row.text_or_null("error_code")?.unwrap_or_default();
    let message = row.text_or_null("error_message")?.unwrap_or_default();
    let fingerprint = row.text_or_null("error_fingerprint")?.unwrap_or_default();
    let Some(class) = class else { return Ok(None) };
    let class = ErrorClass::from_name(&class)
        .ok_or_else(|| row.corrupt("error_class", &format!("`{class}`")))?;
    Ok(Some(FailureSummary { class, code, message, fingerprint }))
}

/// traceparent, tracestate.
pub fn trace(row: &mut Row) -> Result<Trace, StoreError> {
    Ok(Trace { parent: row.text_or_null("traceparent")?, state: row.text_or_null("tracestate")? })
}

fn facts(row: &mut Row) -> Result<OrderFacts, StoreError> {
    Ok(OrderFacts {
        placed_at: row.time_or_null("placed_at_ms")?,
        currency: row.parsed("currency", |text| Currency::try_from(text.to_owned()).ok())?,
        total: row.parsed("total", |text| Decimal::try_from(text.to_owned()).ok())?,
        customer: Customer {
            number: row.text_or_null("customer_number")?,
            name: row.text_or_null("customer_name")?,
            // Nothing stands for an order without one.
            email: row.parsed("customer_email", |text| match text {
                "" => Some(None),
                text => Email::try_from(text.to_owned()).ok().map(Some),
            })?,
            locale: row.text_or_null("customer_locale")?,
        },
        payment: row.text_or_null("payment")?,
    })
}

/// What [`attempt`] reads.
pub const ATTEMPT_COLUMNS: &str = "attempt, outcome, triggered_by, worker, error_class, error_code, \
    error_message, stage, request, http_status, occurred_at_ms, duration_ms, erp_order_id, found";

/// An attempt: attempt, outcome, triggered_by, worker, error_class, error_code, error_message, stage,
/// request, http_status, occurred_at_ms, duration_ms, erp_order_id, found.
pub fn attempt(mut row: Row) -> Result<Attempt, StoreError> {
    row.table = "attempts";
    Ok(Attempt {
        attempt: row.number("attempt")?,
        outcome: row.text("outcome")?,
        trigger: row.text("triggered_by")?,
        worker: row.text_or_null("worker")?,
        class: row.text_or_null("error_class")?,
        code: row.text_or_null("error_code")?,
        message: row.text_or_null("error_message")?,
        stage: row.text_or_null("stage")?,
        request: row.text_or_null("request")?,
        status: row.number_or_null("http_status")?,
        occurred_at: row.time("occurred_at_ms")?,
        duration_ms: row.number("duration_ms")?,
        erp_order_id: row.text_or_null("erp_order_id")?,
        found: row.int("found")? != 0,
    })
}

/// An exchange: attempt, at_ms, step, question, method, url, request_headers, request_body,
/// http_status, stage, meaning, message, reply, duration_ms.
pub fn exchange(mut row: Row) -> Result<StoredExchange, StoreError> {
    row.table = "exchanges";
    Ok(StoredExchange {
        attempt: row.number("attempt")?,
        at: row.time("at_ms")?,
        exchange: Exchange {
            step: row.text("step")?,
            question: row.int("question")? != 0,
            method: row.text("method")?,
            url: row.text("url")?,
            request_headers: row.text("request_headers")?,
            request_body: row.text("request_body")?,
            status: row.number_or_null("http_status")?,
            stage: row.parsed("stage", Stage::from_name)?,
            meaning: row.text("meaning")?,
            message: row.text_or_null("message")?,
            reply: row.text("reply")?,
            duration_ms: row.number("duration_ms")?,
        },
    })
}

/// A conflict: document, received_at_ms, source.
pub fn conflict(mut row: Row) -> Result<Conflict, StoreError> {
    row.table = "conflicts";
    Ok(Conflict {
        document: row.text("document")?,
        received_at: row.time("received_at_ms")?,
        source: row.text("source")?,
    })
}

/// An audit entry: at_ms, actor, came_from, action, target, reason, was, became.
pub fn audit_entry(mut row: Row) -> Result<AuditEntry, StoreError> {
    row.table = "audit";
    Ok(AuditEntry {
        at: row.time("at_ms")?,
        actor: row.text("actor")?,
        from: row.text_or_null("came_from")?,
        action: row.text("action")?,
        target: row.text("target")?,
        reason: row.text_or_null("reason")?,
        before: row.text_or_null("was")?,
        after: row.text_or_null("became")?,
    })
}

/// A notice: id, kind, detail, created_at_ms.
pub fn notice(mut row: Row) -> Result<Notice, StoreError> {
    row.table = "notices";
    let id = row.id("id")?;
    Ok(Notice {
        id,
        kind: row.parsed("kind", NoticeKind::from_name)?,
        detail: row.parsed("detail", |text| serde_json::from_str(text).ok())?,
        created_at: row.time("created_at_ms")?,
    })
}

fn uuid(row: &mut Row) -> Result<uuid::Uuid, StoreError> {
    uuid_of(row, "id")
}

/// The next column as a UUID that names this row in error messages.
pub fn uuid_of(row: &mut Row, column: &'static str) -> Result<uuid::Uuid, StoreError> {
    let id = row.id(column)?;
    id.parse().map_err(|_| row.corrupt(column, "not a UUID"))
}

/// A mail out of [`CONTENT_COLUMNS`].
pub fn mail(row: &mut Row) -> Result<Mail, StoreError> {
    Ok(Mail {
        kind: row.parsed("kind", NoticeKind::from_name)?,
        sender: row.text("sender")?,
        receivers: row.parsed("receivers", |text| serde_json::from_str(text).ok())?,
        subject: row.text("subject")?,
        text: row.text("text_body")?,
        html: row.text("html_body")?,
        attachment: row.text_or_null("attachment")?,
        message_id: row.text("message_id")?,
        in_reply_to: row.text_or_null("in_reply_to")?,
        list_id: row.text_or_null("list_id")?,
    })
}

/// A mail out of [`MAIL_COLUMNS`].
pub fn stored_mail(mut row: Row) -> Result<StoredMail, StoreError> {
    row.table = "mails";
    let (id, audience) = (uuid(&mut row)?, row.text("audience")?);
    let mail = mail(&mut row)?;
    let status = row.parsed("status", MailStatus::from_name)?;
    let (tries, error) = (row.number("tries")?, row.text_or_null("error")?);
    let (created_at, sent_at) = (row.time("created_at_ms")?, row.time_or_null("sent_at_ms")?);
    let acknowledged_at = row.time_or_null("acknowledged_at_ms")?;
    let mut deliveries = deliveries(&mut row)?;
    if deliveries.is_empty() {
        // A mail from before migration 0011: all its receivers share its columns.
        let of = |receiver: &String| {
            let (receiver, error) = (receiver.clone(), error.clone());
            MailDelivery { receiver, status, tries, error, sent_at }
        };
        deliveries = mail.receivers.iter().map(of).collect();
    }
    Ok(StoredMail { id, audience, mail, status, deliveries, created_at, acknowledged_at })
}

/// A row of `mail_deliveries` as `mail_rows` has it.
#[derive(serde::Deserialize)]
struct DeliveryRow {
    receiver: String,
    place: i64,
    status: String,
    tries: u32,
    error: Option<String>,
    settled_at_ms: Option<i64>,
}

fn deliveries(row: &mut Row) -> Result<Vec<MailDelivery>, StoreError> {
    let Some(text) = row.text_or_null("deliveries")? else { return Ok(Vec::new()) };
    let mut rows: Vec<DeliveryRow> = serde_json::from_str(&text)
        .map_err(|error| row.corrupt("deliveries", &error.to_string()))?;
    rows.sort_by_key(|delivery| delivery.place);
    let read = |d: DeliveryRow| {
        let status = MailStatus::from_name(&d.status)?;
        let at = d.settled_at_ms.filter(|_| status == MailStatus::Sent);
        let sent_at = at.map(Timestamp::from_millisecond).transpose().ok()?;
        let (receiver, tries, error) = (d.receiver, d.tries, d.error);
        Some(MailDelivery { receiver, status, tries, error, sent_at })
    };
    let read: Option<Vec<MailDelivery>> = rows.into_iter().map(read).collect();
    read.ok_or_else(|| row.corrupt("deliveries", "a status or a time that is none"))
}

/// A dead letter out of [`DEAD_LETTER_COLUMNS`] and its body.
pub fn dead_letter(mut row: Row) -> Result<DeadLetter, StoreError> {
    row.table = "dead_letters";
    Ok(DeadLetter {
        id: uuid(&mut row)?,
        source: row.text("source")?,
        reason: row.text("reason")?,
        place: row.text_or_null("place")?,
        detail: row.text("detail")?,
        size: row.number("length")?,
        headers: row.parsed("headers", |text| serde_json::from_str(text).ok())?,
        exchange: row.text("exchange")?,
        routing_key: row.text("routing_key")?,
        status: row.text("status")?,
        seen: row.number("seen")?,
        first_seen_at: row.time("first_seen_ms")?,
        last_seen_at: row.time("last_seen_ms")?,
        resolution: row.text_or_null("resolution")?,
        body: row.bytes("body")?,
    })
}

/// Orders and their money: orders, units, nanos, unsummed.
pub fn sum(row: &mut Row) -> Result<Sum, StoreError> {
    Ok(Sum {
        orders: row.int("orders")?,
        units: row.int("units")?,
        nanos: row.int("nanos")?,
        unsummed: row.int("unsummed")?,
    })
}

/// A document that follows its key.
pub fn document(mut row: Row) -> Result<(OrderKey, Arc<str>), StoreError> {
    row.table = "orders";
    let key = order_key(&mut row)?;
    Ok((key, row.text("document")?.into()))
}

/// The documents of one order.
pub struct Documents {
    /// As it came.
    pub original: Arc<str>,
    /// The newest revision, when it was edited.
    pub edited: Option<Arc<str>>,
}

/// Documents that follow their key: document, edited.
pub fn documents(mut row: Row) -> Result<(OrderKey, Documents), StoreError> {
    row.table = "orders";
    let key = order_key(&mut row)?;
    let original = row.text("document")?.into();
    Ok((key, Documents { original, edited: row.text_or_null("edited")?.map(Into::into) }))
}

/// A revision: revision, document, at_ms, actor, reason.
pub fn revision(mut row: Row) -> Result<Revision, StoreError> {
    row.table = "revisions";
    Ok(Revision {
        revision: row.number("revision")?,
        document: row.text("document")?.into(),
        at: row.time("at_ms")?,
        actor: row.text("actor")?,
        reason: row.text_or_null("reason")?,
    })
}

/// Rows in one statement; each has eight arguments, and SQLite takes 32,766 in all.
pub const ROWS_AT_ONCE: usize = 500;

/// A condition on orders with these keys; there is at least one.
pub fn these_orders(keys: &[OrderKey]) -> (String, Vec<Value>) {
    let args = keys.iter().flat_map(|key| sql_args![key.shop.as_str(), key.order_id.as_str()]);
    (format!("(shop, order_id) IN (VALUES {})", places(keys.len(), 2)), args.collect())
}

/// `rows` times `columns` arguments of `VALUES`.
pub fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let numbers = row * columns + 1..=(row + 1) * columns;
        format!("({})", numbers.map(|number| format!("${number}")).collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}
