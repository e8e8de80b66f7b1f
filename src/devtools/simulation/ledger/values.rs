//! How values change on their way through a database, and its errors.
//!
//! The databases store times in milliseconds, and no U+0000 in a text. Whatever this ledger stores goes through
//! here first, so that it answers with the same digits as they do.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::adapters::store::db::storable;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::Phase;
use crate::domain::order::document::OrderFacts;
use crate::ports::store_error::{SharedError, StoreError};

/// What this ledger refuses to store: a database may refuse a value of a single order for a reason that only it
/// knows.
pub const UNSTORABLE: &str = "no ledger stores this";

/// A time as it is stored.
pub(super) fn stored_time(at: Timestamp) -> Timestamp {
    // Every millisecond of a valid time is within the range.
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// A text as it is stored.
pub(super) fn stored_text(text: &str) -> String {
    storable(text)
}

/// The same for one that may be missing.
pub(super) fn stored_option(text: Option<&str>) -> Option<String> {
    text.map(storable)
}

/// An order as it is stored.
pub(super) fn stored_record(mut record: OrderRecord) -> OrderRecord {
    record.facts = stored_facts(record.facts);
    record.phase = match record.phase {
        Phase::Retrying { next_attempt_at } => {
            Phase::Retrying { next_attempt_at: stored_time(next_attempt_at) }
        }
        Phase::OutcomeUnknown { ask_at } => Phase::OutcomeUnknown { ask_at: stored_time(ask_at) },
        Phase::Transferred { erp_order_id } => {
            Phase::Transferred { erp_order_id: stored_option(erp_order_id.as_deref()) }
        }
        other => other,
    };
    if let Some(claim) = &mut record.claim {
        clean(&mut claim.worker);
        claim.until = stored_time(claim.until);
    }
    if let Some(failure) = &mut record.last_failure {
        clean(&mut failure.summary.code);
        clean(&mut failure.summary.message);
        failure.at = stored_time(failure.at);
    }
    record.unclear_since = record.unclear_since.map(stored_time);
    for text in [&mut record.trace.parent, &mut record.trace.state].into_iter().flatten() {
        clean(text);
    }
    record.received_at = stored_time(record.received_at);
    record.updated_at = stored_time(record.updated_at);
    record
}

fn stored_facts(mut facts: OrderFacts) -> OrderFacts {
    facts.placed_at = facts.placed_at.map(stored_time);
    let customer = &mut facts.customer;
    let texts =
        [&mut customer.number, &mut customer.name, &mut customer.locale, &mut facts.payment];
    texts.into_iter().flatten().for_each(clean);
    facts
}

fn clean(text: &mut String) {
    if text.contains('\0') {
        *text = storable(text);
    }
}

/// `span` before `now`, or the beginning of time.
pub(super) fn long_before(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// `span` before `now`. Times outside the range are not clamped: the clock is broken then.
pub(super) fn before(now: Timestamp, span: Duration) -> Result<Timestamp, StoreError> {
    now.checked_sub(span).map(stored_time).map_err(|error| refused(&error.to_string()))
}

/// `span` after `now`.
pub(super) fn after(now: Timestamp, span: Duration) -> Result<Timestamp, StoreError> {
    now.checked_add(span).map(stored_time).map_err(|error| refused(&error.to_string()))
}

/// At most this many, as a number of rows.
pub(super) fn rows(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The values break a constraint of a table.
pub(super) fn refused(detail: &str) -> StoreError {
    StoreError::Refused(shared(detail))
}

/// The database was not reached, or did not answer.
pub(super) fn unavailable(detail: &str) -> StoreError {
    StoreError::Unavailable(shared(detail))
}

fn shared(detail: &str) -> SharedError {
    SharedError(Arc::from(Box::<dyn Error + Send + Sync>::from(detail)))
}
