//! Messages that could not be accepted.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::order::fault::Fault;
use crate::domain::trace::Headers;
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// Stores messages that could not be accepted.
#[async_trait]
pub trait DeadLetterIntake: Send + Sync {
    /// Stores a message. One that is already stored and still open is only counted again.
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
    /// Its bytes.
    pub body: Vec<u8>,
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
