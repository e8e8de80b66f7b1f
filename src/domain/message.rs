//! The envelopes on the wire (docs/broker.md): what we read from others and what we publish.
//!
//! The order itself is in `order.rs`. Everything here is version 1: an envelope may say
//! `"version": 1`; one that says more comes from a newer release and becomes a dead letter.

use crate::domain::order::intake_rules::IntakeRules;
use crate::domain::order::strict_json::{object, read_json, read_text};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::failure::Failure;
use crate::domain::lifecycle::transitions::FailedAttempt;
use crate::domain::lifecycle::vocabulary::Trigger;
use crate::domain::order::document::{MAX_TEXT_CHARS, Order};
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::order::values::{OrderId, OrderKey, Shop};
use crate::domain::text::cut;

/// The version of every envelope here.
pub const VERSION: u32 = 1;
/// Highest attempt number that is accepted from another service; our own attempts continue from
/// there.
pub const MAX_FOREIGN_ATTEMPT: u32 = 1_000_000;
/// Highest number of any attempt.
pub const MAX_ATTEMPT: u32 = 2_000_000;

/// Header: number of the attempt that a message asks for.
pub const ATTEMPT: &str = "relay-attempt";
/// Header: who asked for it.
pub const TRIGGER: &str = "relay-trigger";
/// Header: the redrive plan it belongs to.
pub const REDRIVE_ID: &str = "relay-redrive-id";
/// Header: the process that published it.
pub const ORIGIN: &str = "relay-origin";

/// `order.failed`: an attempt that failed, from our submitter or from any other ERP service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "order_failed", description = "Published to `orders.failures` / `order.failed`")]
pub struct OrderFailed {
    /// Version of this envelope, 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The order.
    pub order_id: OrderId,
    /// Its shop.
    #[serde(default)]
    pub shop: Shop,
    /// Number of the attempt, from 1; (`shop`, `order_id`, `attempt`) identifies the failure.
    #[schemars(range(min = 1, max = MAX_ATTEMPT))]
    pub attempt: u32,
    /// Failed attempts after which the order is parked; null ignores the maximum.
    #[serde(default)]
    pub max_count: Option<u32>,
    /// What triggered the attempt.
    #[serde(default = "checkout")]
    pub trigger: Trigger,
    /// When it failed.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub occurred_at: Option<Timestamp>,
    /// How long the attempt took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// What went wrong.
    #[serde(deserialize_with = "object")]
    pub error: Failure,
    /// The order message, needed only for an order that was never seen before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub order: Option<Box<RawValue>>,
}

fn checkout() -> Trigger {
    Trigger::Checkout
}

impl OrderFailed {
    /// The envelope for an attempt of ours that failed.
    pub fn of(key: &OrderKey, attempt: u32, max_count: Option<u32>, failure: &Failure) -> Self {
        Self {
            version: Some(VERSION),
            order_id: key.order_id.clone(),
            shop: key.shop.clone(),
            attempt,
            max_count,
            trigger: Trigger::Checkout,
            occurred_at: None,
            duration_ms: 0,
            error: failure.clone(),
            order: None,
        }
    }

    /// Reads one `order_failed`, and the order in it if there is one.
    pub fn parse(bytes: &[u8], rules: &IntakeRules) -> Result<(Self, Option<Order>), Fault> {
        // The envelope may hold a whole order besides its own fields.
        let text = read_text(bytes, rules.max_bytes.saturating_add(64 * 1024))?;
        let event: Self = read_json(text)?;
        check_version(event.version)?;
        if !(1..=MAX_ATTEMPT).contains(&event.attempt) {
            let detail = format!("attempt is {}, expected 1 to {MAX_ATTEMPT}", event.attempt);
            return Err(Fault::at(Reason::Schema, "/attempt", detail));
        }
        let order = match event.order.as_deref().map(RawValue::get) {
            None | Some("null") => None,
            Some(text) if text[1..].trim_start().starts_with('}') => None,
            Some(text) => {
                let order = Order::parse(text.as_bytes(), rules).map_err(|f| f.below("/order"))?;
                if order.key != event.key() {
                    let detail = format!("this is order {}, not {}", order.key, event.key());
                    return Err(Fault::at(Reason::Schema, "/order", detail));
                }
                Some(order)
            }
        };
        Ok((event, order))
    }

    /// The order that failed.
    pub fn key(&self) -> OrderKey {
        OrderKey { shop: self.shop.clone(), order_id: self.order_id.clone() }
    }

    /// What the ledger needs of it; `worker` is the submitter of ours that sent it, if one did.
    pub fn failed_attempt(&self, worker: Option<String>, now: Timestamp) -> FailedAttempt {
        FailedAttempt {
            attempt: self.attempt,
            max_count: self.max_count,
            failure: self.error.cleaned(),
            occurred_at: self.occurred_at.unwrap_or(now).min(now),
            // A header, which anybody may set.
            worker: worker.map(|worker| cut(&worker, MAX_TEXT_CHARS)),
        }
    }
}

/// A retry or a nudge: which order to transfer next. The payload is read from the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Again {
    /// Version of this envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The shop.
    pub shop: Shop,
    /// The order.
    pub order_id: OrderId,
    /// The requested attempt; stale when another one was made since.
    pub attempt: u32,
}

impl Again {
    /// The message for that attempt of that order.
    pub fn new(key: &OrderKey, attempt: u32) -> Self {
        Self {
            version: Some(VERSION),
            shop: key.shop.clone(),
            order_id: key.order_id.clone(),
            attempt,
        }
    }

    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let again: Self = read_json(read_text(bytes, 64 * 1024)?)?;
        check_version(again.version)?;
        Ok(again)
    }

    /// The requested order.
    pub fn key(&self) -> OrderKey {
        OrderKey { shop: self.shop.clone(), order_id: self.order_id.clone() }
    }
}

/// A nudge for the notifier that a notice waits; the notice itself is a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NoticeWaiting {
    /// Version of this envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The notice, or the kind of notices if there are several.
    pub notice: String,
}

impl NoticeWaiting {
    /// The nudge for one notice.
    pub fn new(notice: &str) -> Self {
        Self { version: Some(VERSION), notice: notice.to_owned() }
    }

    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let waiting: Self = read_json(read_text(bytes, 64 * 1024)?)?;
        check_version(waiting.version)?;
        Ok(waiting)
    }
}

fn check_version(version: Option<u32>) -> Result<(), Fault> {
    match version {
        Some(newer) if newer != VERSION => Err(Fault::at(
            Reason::Schema,
            "/version",
            format!("version {newer} is not known here, only {VERSION}"),
        )),
        _ => Ok(()),
    }
}

/// What happened to an order, for every consumer of `orders.events`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "order_event", description = "Published to `orders.events`")]
pub struct OrderEvent {
    /// Version of this envelope.
    pub version: u32,
    /// What happened.
    #[serde(skip)]
    pub kind: EventKind,
    /// The order.
    pub order_id: OrderId,
    /// Its shop.
    pub shop: Shop,
    /// Number of the attempt that caused it, 0 if none did.
    pub attempt: u32,
    /// Failed attempts so far.
    pub fail_count: u32,
    /// What triggered the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// When it happened.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub occurred_at: Timestamp,
    /// The ERP's number (`order.confirmed`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erp_order_id: Option<String>,
    /// Who did it (`order.removed`, `order.restored`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why (`order.removed`, `order.restored`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What went wrong (`order.parked`, `order.outcome_unknown`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl OrderEvent {
    /// An event with only its required fields.
    pub fn new(kind: EventKind, key: &OrderKey, occurred_at: Timestamp) -> Self {
        Self {
            version: VERSION,
            kind,
            order_id: key.order_id.clone(),
            shop: key.shop.clone(),
            attempt: 0,
            fail_count: 0,
            trigger: None,
            occurred_at,
            erp_order_id: None,
            actor: None,
            reason: None,
            error: None,
        }
    }
}

/// The further events of docs/broker.md; each is its routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It is in the ERP.
    Confirmed,
    /// No automatic retry is left.
    Parked,
    /// A person removed it from the list.
    Removed,
    /// A person restored it.
    Restored,
    /// Sent, answer never seen.
    OutcomeUnknown,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Confirmed, Self::Parked, Self::Removed, Self::Restored, Self::OutcomeUnknown];

    /// The routing key.
    pub fn routing_key(self) -> &'static str {
        match self {
            Self::Confirmed => "order.confirmed",
            Self::Parked => "order.parked",
            Self::Removed => "order.removed",
            Self::Restored => "order.restored",
            Self::OutcomeUnknown => "order.outcome_unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::{ErrorClass, Stage};

    fn failure() -> Failure {
        Failure {
            retry_after: Some(std::time::Duration::from_millis(90_500)),
            request: Some("POST https://erp.example/orders".to_owned()),
            status: Some(503),
            ..Failure::new(ErrorClass::Unavailable, "http_503", "maintenance", Stage::After)
        }
    }

    fn key() -> OrderKey {
        OrderKey::new("default", "4711").unwrap()
    }

    #[test]
    fn the_name_of_a_stranger_is_cut_to_what_is_stored() {
        let event = OrderFailed::of(&key(), 1, None, &failure());
        let worker = |name: String| event.failed_attempt(Some(name), Timestamp::UNIX_EPOCH).worker;
        assert_eq!(worker("relay-1".to_owned()).as_deref(), Some("relay-1"));
        let cut = worker("x".repeat(100_000)).unwrap();
        assert!(cut.chars().count() == MAX_TEXT_CHARS && cut.ends_with('…'));
    }

    #[test]
    fn a_failure_has_these_bytes_on_the_wire() {
        let full = OrderFailed::of(&key(), 2, Some(3), &failure());
        let failed = Failure::new(ErrorClass::Internal, "no_sku", "no SKU", Stage::Before);
        let least = OrderFailed::of(&key(), 1, None, &failed);
        let of = |event: &OrderFailed| serde_json::to_string(event).unwrap();
        assert_eq!(
            of(&full),
            r#"{"version":1,"order_id":"4711","shop":"default","attempt":2,"max_count":3,"trigger":"checkout","occurred_at":null,"duration_ms":0,"error":{"class":"unavailable","code":"http_503","message":"maintenance","retry_after_s":90,"request":"POST https://erp.example/orders","status":503,"stage":"after"}}"#
        );
        assert_eq!(
            of(&least),
            r#"{"version":1,"order_id":"4711","shop":"default","attempt":1,"max_count":null,"trigger":"checkout","occurred_at":null,"duration_ms":0,"error":{"class":"internal","code":"no_sku","message":"no SKU","retry_after_s":null,"stage":"before"}}"#
        );
    }

    #[test]
    fn an_event_repeats_the_error_of_another_service_as_it_came() {
        let body = r#"{"order_id": "4711", "attempt": 1, "error": {"class": "rejected", "message": "no\nline"}}"#;
        let (failed, _) =
            OrderFailed::parse(body.as_bytes(), &IntakeRules::of_bytes(1 << 20)).unwrap();
        let mut event = OrderEvent::new(EventKind::Parked, &key(), Timestamp::UNIX_EPOCH);
        event.error = Some(failed.error.clone());
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"version":1,"order_id":"4711","shop":"default","attempt":0,"fail_count":0,"occurred_at":"1970-01-01T00:00:00Z","error":{"class":"rejected","code":"","message":"no\nline","retry_after_s":null}}"#
        );
    }
}
