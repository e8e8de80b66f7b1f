//! A message that could not be accepted, and what a replay of it led to.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ports::dead_letters::DeadLetter;

/// A message that could not be accepted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LetterView {
    pub id: String,
    /// open, replayed or discarded.
    pub status: String,
    pub source: String,
    pub reason: String,
    pub place: Option<String>,
    pub detail: String,
    /// The message as text; bytes that are no UTF-8 are replaced. In a list its first 4096 bytes.
    pub text: String,
    /// The message in base64, when its bytes are no UTF-8.
    base64: Option<String>,
    /// Whether `text` and `base64` are only the begin of the message.
    truncated: bool,
    /// The size of the whole message.
    pub bytes: usize,
    pub seen: u64,
    pub first_seen_at: String,
    pub last_seen_at: String,
    pub exchange: String,
    pub routing_key: String,
    #[schemars(with = "serde_json::Value")]
    pub headers: serde_json::Value,
    pub resolution: Option<String>,
}

impl LetterView {
    /// A dead letter.
    pub fn of(letter: &DeadLetter) -> Self {
        let truncated = letter.body.len() < letter.size;
        // The cut may go through a character.
        let is_text = match std::str::from_utf8(&letter.body) {
            Ok(_) => true,
            Err(error) => truncated && error.error_len().is_none(),
        };
        Self {
            id: letter.id.to_string(),
            status: letter.status.clone(),
            source: letter.source.clone(),
            reason: letter.reason.clone(),
            place: letter.place.clone(),
            detail: letter.detail.clone(),
            text: String::from_utf8_lossy(&letter.body).into_owned(),
            base64: (!is_text).then(|| STANDARD.encode(&letter.body)),
            truncated,
            bytes: letter.size,
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

/// The result of a replay.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReplayedView {
    /// Whether it is settled now.
    pub settled: bool,
    /// One sentence about it.
    pub detail: String,
    /// The place that is still wrong.
    pub place: Option<String>,
}
