//! The messages that we publish: envelopes of the domain, addressed by the topology.
//!
//! Workers and operations of people publish the same messages, so they are created in one place.
//! Headers are created anew for each (docs/facts/rabbitmq.md 1.4).

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::message::{
    ATTEMPT, Again, NoticeWaiting, ORIGIN, OrderEvent, OrderFailed, REDRIVE_ID, TRIGGER,
};
use super::topology::{NOTICE, ORDER_FAILED, ORDER_PLACED, SUBMIT, Topology};
use super::trace::Trace;
use crate::domain::lifecycle::vocabulary::Trigger;
use crate::domain::order::document::Order;
use crate::domain::order::values::OrderKey;
use crate::domain::trace::{Headers, TRACEPARENT, TRACESTATE};

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// To this exchange,
    pub exchange: String,
    /// by this key.
    pub routing_key: String,
    /// Text headers, created anew.
    pub headers: Headers,
    pub body: Vec<u8>,
    /// The same when the same thing is published twice.
    pub message_id: String,
    /// Whether it must match a queue, or may be dropped without a consumer.
    pub audience: Audience,
}

/// Whether a message must match a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Publishing fails if no queue accepts it.
    Required,
    /// An event for any consumer.
    Optional,
}

/// Creates the messages of one process.
pub struct OutboundMessages<'a> {
    /// Where messages go.
    pub topology: &'a Topology,
    /// The process.
    pub origin: &'a str,
    /// What they belong to.
    pub trace: &'a Trace,
}

impl OutboundMessages<'_> {
    /// An order, as checkout publishes it.
    pub fn placed(&self, order: &Order) -> Outgoing {
        Outgoing {
            exchange: self.topology.names.orders(),
            routing_key: ORDER_PLACED.to_owned(),
            headers: self.headers(),
            body: order.document.as_bytes().to_vec(),
            message_id: order.key.to_string(),
            audience: Audience::Required,
        }
    }

    /// A failed attempt; `claim` identifies it for the error handler.
    pub fn failed(&self, event: &OrderFailed, claim: &str) -> Outgoing {
        let mut headers = self.headers_of(event.attempt, Some(event.trigger));
        headers.insert(ORIGIN.to_owned(), claim.to_owned());
        Outgoing {
            exchange: self.topology.names.failures(),
            routing_key: ORDER_FAILED.to_owned(),
            headers,
            body: to_json(event),
            message_id: format!("failed:{}#{}", event.key(), event.attempt),
            audience: Audience::Required,
        }
    }

    /// A failure that was counted, for any consumer.
    pub fn failed_event(&self, event: &OrderFailed) -> Outgoing {
        Outgoing {
            exchange: self.topology.names.events(),
            headers: self.headers_of(event.attempt, Some(event.trigger)),
            message_id: format!("{ORDER_FAILED}:{}#{}", event.key(), event.attempt),
            audience: Audience::Optional,
            ..self.failed(event, self.origin)
        }
    }

    /// A retry that waits in the delay queue that fits; `None` when none does.
    pub fn retry(&self, key: &OrderKey, attempt: u32, delay: Duration) -> Option<Outgoing> {
        let step = self.topology.delay_step(delay)?;
        Some(Outgoing {
            exchange: self.topology.names.retry(),
            routing_key: step.as_millis().to_string(),
            headers: self.headers_of(attempt, Some(Trigger::Retry)),
            body: to_json(&Again::new(key, attempt)),
            message_id: format!("retry:{key}#{attempt}"),
            audience: Audience::Required,
        })
    }

    /// A nudge: the submitter should look at an order now.
    pub fn nudge(&self, key: &OrderKey, attempt: u32, trigger: Trigger) -> Outgoing {
        Outgoing {
            exchange: self.topology.names.redrive(),
            routing_key: SUBMIT.to_owned(),
            headers: self.headers_of(attempt, Some(trigger)),
            body: to_json(&Again::new(key, attempt)),
            message_id: format!("{}:{key}#{attempt}", trigger.as_str()),
            audience: Audience::Required,
        }
    }

    /// The same on behalf of a redrive.
    pub fn nudge_for_redrive(&self, key: &OrderKey, attempt: u32, redrive: Uuid) -> Outgoing {
        let mut nudge = self.nudge(key, attempt, Trigger::Redrive);
        nudge.headers.insert(REDRIVE_ID.to_owned(), redrive.to_string());
        nudge
    }

    /// An event, for any consumer.
    pub fn event(&self, event: &OrderEvent) -> Outgoing {
        let key = event.kind.routing_key();
        let id = format!("{key}:{}/{}#{}", event.shop, event.order_id, event.attempt);
        Outgoing {
            exchange: self.topology.names.events(),
            routing_key: key.to_owned(),
            headers: self.headers_of(event.attempt, event.trigger),
            body: to_json(event),
            message_id: id,
            audience: Audience::Optional,
        }
    }

    /// A nudge for the notifier.
    pub fn notices_wait(&self) -> Outgoing {
        Outgoing {
            exchange: self.topology.names.failures(),
            routing_key: NOTICE.to_owned(),
            headers: self.headers(),
            body: to_json(&NoticeWaiting::new("waiting")),
            message_id: format!("notices:{}", self.origin),
            audience: Audience::Required,
        }
    }

    fn headers_of(&self, attempt: u32, trigger: Option<Trigger>) -> Headers {
        let mut headers = self.headers();
        headers.insert(ATTEMPT.to_owned(), attempt.to_string());
        headers.extend(trigger.map(|t| (TRIGGER.to_owned(), t.as_str().to_owned())));
        headers
    }

    fn headers(&self) -> Headers {
        let mut headers = Headers::from([(ORIGIN.to_owned(), self.origin.to_owned())]);
        headers.extend(self.trace.parent.clone().map(|value| (TRACEPARENT.to_owned(), value)));
        headers.extend(self.trace.state.clone().map(|value| (TRACESTATE.to_owned(), value)));
        headers
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own envelopes are maps with text keys")
}
