//! Channels and what they were told. Nothing here holds a secret.

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::channel::Channel;
use crate::ports::channels::{ChannelState, MessageContent, StoredMessage};

/// A channel and how it is doing.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChannelView {
    pub name: String,
    /// webhook, slack, teams or pagerduty.
    #[serde(rename = "type")]
    pub channel_type: &'static str,
    pub enabled: bool,
    /// settings, or page.
    pub made_in: &'static str,
    /// The host that it leads to.
    pub place: String,
    /// ok, waiting, refused or disabled.
    pub state: &'static str,
    /// Kinds of notices that it is told.
    pub kinds: Vec<&'static str>,
    /// Shops; empty: all.
    pub shops: Vec<String>,
    pub threshold: Option<String>,
    /// Notices that wait for the end of a quiet time, for a digest or for the threshold.
    pub held: u64,
    /// Messages that wait.
    pub waiting: u64,
    pub delivered: u64,
    pub failed: u64,
    /// Notices that were never sent, because they stayed below the threshold.
    pub below_threshold: u64,
    pub delivered_at: Option<String>,
    pub error: Option<String>,
}

impl ChannelView {
    pub fn of(channel: &Channel, place: &str, state: &ChannelState) -> Self {
        let rule = &channel.rule;
        let kinds = rule.kinds.iter().filter(|kind| kind.is_for_channels());
        Self {
            name: channel.name.clone(),
            channel_type: channel.target.channel_type.as_str(),
            enabled: rule.enabled,
            made_in: if channel.is_stored { "page" } else { "settings" },
            place: place.to_owned(),
            state: match state {
                _ if !rule.enabled => "disabled",
                state if state.is_refused => "refused",
                state if state.waiting > 0 && state.error.is_some() => "waiting",
                _ => "ok",
            },
            kinds: kinds.map(|kind| kind.as_str()).collect(),
            shops: rule.shops.clone(),
            threshold: rule.threshold.as_ref().map(ToString::to_string),
            held: state.held,
            waiting: state.waiting,
            delivered: state.delivered,
            failed: state.failed,
            below_threshold: state.below,
            delivered_at: state.delivered_at.map(|at| at.to_string()),
            error: state.error.clone(),
        }
    }
}

/// A message to a channel.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MessageView {
    pub id: String,
    pub channel: String,
    /// waiting, delivered, failed or split.
    pub status: &'static str,
    pub tries: u32,
    pub error: Option<String>,
    pub created_at: String,
    /// When it is sent next, while it waits.
    pub due_at: Option<String>,
    /// When it was delivered or abandoned.
    pub settled_at: Option<String>,
    pub content: MessageContent,
}

impl MessageView {
    pub fn of(message: &StoredMessage) -> Self {
        let is_waiting = message.settled_at.is_none();
        Self {
            id: message.id.to_string(),
            channel: message.channel.clone(),
            status: message.status.as_str(),
            tries: message.tries,
            error: message.error.clone(),
            created_at: message.created_at.to_string(),
            due_at: is_waiting.then(|| message.due_at.to_string()),
            settled_at: message.settled_at.map(|at| at.to_string()),
            content: message.content.clone(),
        }
    }
}
