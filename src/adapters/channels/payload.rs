//! The body of a webhook: `type`, `timestamp` and `data`, as Standard Webhooks recommend (docs/channels.md).

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ports::channels::MessageContent;

/// The payload of a webhook.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WebhookPayload<'a> {
    /// What it reports: a kind of notice, `digest` for several kinds, or `test`.
    #[serde(rename = "type")]
    pub message_type: &'a str,
    /// When the newest of it happened.
    #[schemars(with = "String")]
    pub timestamp: Timestamp,
    pub data: &'a MessageContent,
}

impl<'a> WebhookPayload<'a> {
    pub fn of(content: &'a MessageContent) -> Self {
        Self { message_type: &content.kind, timestamp: content.occurred_at, data: content }
    }

    /// As it is sent.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
