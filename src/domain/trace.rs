//! The W3C trace context of an order.

use std::collections::BTreeMap;

/// The W3C trace context that checkout sent; it is part of every later message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`.
    pub parent: Option<String>,
    /// `tracestate`.
    pub state: Option<String>,
}

impl Trace {
    /// The context in message headers, as far as it may go into an HTTP header.
    pub fn of(headers: &Headers) -> Self {
        let of = |name| headers.get(name).cloned().filter(|value| Self::is_good(value));
        Self { parent: of(TRACEPARENT), state: of(TRACESTATE) }
    }

    /// Whether `value` is short printable ASCII.
    pub fn is_good(value: &str) -> bool {
        (1..=512).contains(&value.len()) && value.bytes().all(|b| (b' '..=b'~').contains(&b))
    }
}

/// Header: W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Header: W3C trace context, vendor part.
pub const TRACESTATE: &str = "tracestate";

/// Text headers of a message; created anew for every publish, never copied (docs/facts/rabbitmq.md
/// 1.4).
pub type Headers = BTreeMap<String, String>;
