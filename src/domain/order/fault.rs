//! Why a message cannot be accepted, and where in the document.

use serde::{Deserialize, Serialize};

use super::values::OrderKey;

/// Why a message cannot be accepted. `Display` is the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{detail}", .place.as_deref().map(|p| format!("at {p}: ")).unwrap_or_default())]
pub struct Fault {
    /// What kind of fault, for counting and filtering.
    pub reason: Reason,
    /// JSON pointer, or line and column, of the fault.
    pub place: Option<String>,
    /// What is wrong and what is expected; printable, one line.
    pub detail: String,
}

impl Fault {
    /// A fault of the whole message.
    pub fn whole(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, place: None, detail: detail.into() }
    }

    /// A fault at `place`.
    pub fn at(reason: Reason, place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason, place: Some(place.into()), detail: detail.into() }
    }

    /// The fault of an order whose number belongs to a finished one that is gone.
    pub fn number_taken(key: &OrderKey) -> Self {
        let detail = format!(
            "the number of {key} belongs to a finished order with different content that is no longer in the ledger; it \
             was not entered again: give it another number"
        );
        Self::at(Reason::NumberTaken, "/order_id", detail)
    }

    /// The same fault of a document that is at `prefix` in a larger one.
    pub fn below(mut self, prefix: &str) -> Self {
        self.place = Some(match self.place {
            Some(place) if place == "/" => prefix.to_owned(),
            Some(place) if place.starts_with('/') => format!("{prefix}{place}"),
            Some(place) => format!("{prefix} ({place})"),
            None => prefix.to_owned(),
        });
        self
    }
}

/// Kinds of dead letters; the label of `dead_letters_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// More bytes than `intake.max_bytes`.
    TooLarge,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// Text that is not JSON, or is nested deeper than 128 levels.
    NotJson,
    /// One object names a key twice.
    DuplicateKey,
    /// JSON that breaks the schema.
    Schema,
    /// A state other than `payed` and `ordered_failed`, in the message or in the ledger.
    InvalidState,
    /// `order_failed` or a retry for an order that the ledger does not know.
    UnknownOrder,
    /// Its number belongs to an order with different content that is finished and no longer in the ledger.
    NumberTaken,
    /// The broker stopped redelivering it.
    DeliveryLimit,
    /// It matched no queue.
    Unrouted,
    /// Handling it made our own code panic.
    HandlerPanicked,
    /// The database refused its values.
    Refused,
}

crate::names!(Reason {
    TooLarge = "too_large",
    NotUtf8 = "not_utf8",
    NotJson = "not_json",
    DuplicateKey = "duplicate_key",
    Schema = "schema",
    InvalidState = "invalid_state",
    UnknownOrder = "unknown_order",
    NumberTaken = "number_taken",
    DeliveryLimit = "delivery_limit",
    Unrouted = "unrouted",
    HandlerPanicked = "handler_panicked",
    Refused = "refused",
});
