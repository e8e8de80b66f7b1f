//! A mail as it was or will be sent.

use schemars::JsonSchema;
use serde::Serialize;

use crate::ports::notices::StoredMail;

/// A mail.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MailView {
    pub id: String,
    pub kind: &'static str,
    /// waiting, sent, kept or failed.
    pub status: &'static str,
    pub sender: String,
    pub receivers: Vec<String>,
    pub subject: String,
    pub tries: u32,
    pub error: Option<String>,
    pub created_at: String,
    pub sent_at: Option<String>,
    pub message_id: String,
    pub text: String,
}

impl MailView {
    /// A mail as it was or will be sent.
    pub fn of(stored: &StoredMail) -> Self {
        let mail = &stored.mail;
        Self {
            id: stored.id.to_string(),
            kind: mail.kind.as_str(),
            status: stored.status.as_str(),
            sender: mail.sender.clone(),
            receivers: mail.receivers.clone(),
            subject: mail.subject.clone(),
            tries: stored.tries,
            error: stored.error.clone(),
            created_at: stored.created_at.to_string(),
            sent_at: stored.sent_at.map(|at| at.to_string()),
            message_id: mail.message_id.clone(),
            text: mail.text.clone(),
        }
    }
}
