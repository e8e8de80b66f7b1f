//! A mail as it was or will be sent.

use schemars::JsonSchema;
use serde::Serialize;

use crate::ports::mail::Mail;
use crate::ports::notices::{MailDelivery, StoredMail};

/// A mail.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MailView {
    pub id: String,
    pub kind: &'static str,
    /// waiting while one receiver waits; failed when none got it; else sent or kept.
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
    /// The complete list of a digest, as CSV.
    pub attachment: Option<String>,
    /// Each receiver on its own account.
    pub deliveries: Vec<DeliveryView>,
}

/// One receiver of a mail.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveryView {
    pub receiver: String,
    /// waiting, sent, kept, failed or split.
    pub status: &'static str,
    pub tries: u32,
    pub error: Option<String>,
    pub sent_at: Option<String>,
}

impl DeliveryView {
    fn of(delivery: &MailDelivery) -> Self {
        Self {
            receiver: delivery.receiver.clone(),
            status: delivery.status.as_str(),
            tries: delivery.tries,
            error: delivery.error.clone(),
            sent_at: delivery.sent_at.map(|at| at.to_string()),
        }
    }
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
            tries: stored.tries(),
            error: stored.error().map(str::to_owned),
            created_at: stored.created_at.to_string(),
            sent_at: stored.sent_at().map(|at| at.to_string()),
            message_id: mail.message_id.clone(),
            text: mail.text.clone(),
            attachment: mail.attachment.clone(),
            deliveries: stored.deliveries.iter().map(DeliveryView::of).collect(),
        }
    }
}

/// A mail with sample data.
#[derive(Debug, Serialize)]
pub struct MailPreview {
    pub kind: String,
    pub sender: String,
    pub receivers: Vec<String>,
    pub subject: String,
    pub message_id: String,
    pub in_reply_to: Option<String>,
    pub list_id: Option<String>,
    pub text: String,
    pub html: String,
    /// The complete list of a digest, as CSV.
    pub attachment: Option<String>,
}

impl MailPreview {
    /// The mail of that kind.
    pub fn of(kind: &str, mail: &Mail) -> Self {
        Self {
            kind: kind.to_owned(),
            sender: mail.sender.clone(),
            receivers: mail.receivers.clone(),
            subject: mail.subject.clone(),
            message_id: mail.message_id.clone(),
            in_reply_to: mail.in_reply_to.clone(),
            list_id: mail.list_id.clone(),
            text: mail.text.clone(),
            html: mail.html.clone(),
            attachment: mail.attachment.clone(),
        }
    }
}
