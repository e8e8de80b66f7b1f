//! Messages that could not be accepted.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::order::fault::Fault;
use crate::domain::text::cut;
use crate::domain::trace::Headers;
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// Stores messages that could not be accepted.
#[async_trait]
pub trait DeadLetterIntake: Send + Sync {
    /// Stores a message, [`NewDeadLetter::bounded`]. One that is already stored and still open is only counted
    /// again.
    async fn record_dead_letter(&self, letter: NewDeadLetter) -> Result<(), StoreError>;
}

/// Dead letters for people.
#[async_trait]
pub trait DeadLetterDesk: Send + Sync {
    /// Dead letters, newest first.
    async fn list_dead_letters(
        &self,
        open_only: bool,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError>;
    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>, StoreError>;
    /// Marks an open one as replayed or discarded, with who and why; `false` when it is not open.
    async fn resolve_dead_letter(
        &self,
        id: Uuid,
        resolution: Resolution,
        by: &Act,
    ) -> Result<bool, StoreError>;
    /// Dead letters that wait for a person.
    async fn count_dead_letters(&self) -> Result<u64, StoreError>;
}

/// A message to be stored.
#[derive(Debug, Clone)]
pub struct NewDeadLetter {
    pub id: Uuid,
    /// The queue, or `api` or the command line, from which it was received.
    pub source: String,
    /// Why it was not accepted.
    pub fault: Fault,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Its headers.
    pub headers: Headers,
    /// Its exchange.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    pub now: Timestamp,
}

/// Bytes of each message in a list: a list of large ones must not take all memory.
pub const LISTED_BYTES: usize = 4096;
/// Most characters of a queue's, an exchange's or a header's name, and of a routing key.
const MAX_NAME_CHARS: usize = 255;
/// Most characters of the place of the fault; keys of the document are in it.
const MAX_PLACE_CHARS: usize = 500;
/// Most characters of the detail and of one header.
const MAX_DETAIL_CHARS: usize = 2_000;
/// Most headers that are stored.
const MAX_HEADERS: usize = 100;

impl NewDeadLetter {
    /// As it is stored: what surrounds the message is cut with a mark, its bytes stay whole.
    pub fn bounded(self) -> Self {
        let name = |text: &str| cut(text, MAX_NAME_CHARS);
        let headers = self.headers.iter().take(MAX_HEADERS);
        Self {
            source: name(&self.source),
            fault: Fault {
                place: self.fault.place.as_deref().map(|place| cut(place, MAX_PLACE_CHARS)),
                detail: cut(&self.fault.detail, MAX_DETAIL_CHARS),
                ..self.fault
            },
            headers: headers.map(|(n, value)| (name(n), cut(value, MAX_DETAIL_CHARS))).collect(),
            exchange: name(&self.exchange),
            routing_key: name(&self.routing_key),
            ..self
        }
    }
}

/// A message that could not be accepted.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub id: Uuid,
    /// The queue, or `api` or the command line, from which it was received.
    pub source: String,
    /// The name of the reason.
    pub reason: String,
    /// The place in the document.
    pub place: Option<String>,
    /// What is wrong.
    pub detail: String,
    /// Its bytes; in a list their begin.
    pub body: Vec<u8>,
    /// The number of all its bytes.
    pub size: usize,
    /// Its headers.
    pub headers: Headers,
    /// Its exchange.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// `open`, `replayed` or `discarded`.
    pub status: String,
    /// How often it was received.
    pub seen: u64,
    /// When it was first received.
    pub first_seen_at: Timestamp,
    /// When it was last received.
    pub last_seen_at: Timestamp,
    /// Who settled it and why.
    pub resolution: Option<String>,
}

/// How a dead letter ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It was accepted.
    Replayed,
    /// A person discarded it.
    Discarded,
}

crate::names!(Resolution {
    Replayed = "replayed",
    Discarded = "discarded",
});
