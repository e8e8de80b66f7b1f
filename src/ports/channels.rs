//! Channels beside mail: what waits for them in the ledger, and handing it to them (docs/channels.md).

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::channel::{Channel, ChannelRule, ChannelWindow};
use crate::domain::money::Money;
use crate::ports::audit::Act;
use crate::ports::notices::Notice;
use crate::ports::store_error::StoreError;

/// What the notifier asks of the ledger for channels.
#[async_trait]
pub trait ChannelOutbox: Send + Sync {
    /// Gives up to `limit` notices that no channel knows of yet, oldest first, to each channel whose rule takes them,
    /// all or nothing; how many notices it were.
    async fn give_to_channels(
        &self,
        channels: &[(String, ChannelRule)],
        now: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError>;
    /// Notices that wait for a channel and are in no message yet, oldest first, those included that are not due; nothing
    /// while none is due.
    async fn waiting_for_channel(
        &self,
        channel: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError>;
    /// What a channel was told recently.
    async fn channel_window(&self, channel: &str) -> Result<ChannelWindow, StoreError>;
    /// Writes what was decided about notices that wait, all or nothing; `false` when another process has decided about
    /// one of them.
    async fn decide_for_channel(
        &self,
        channel: &str,
        decided: &ChannelDecision,
    ) -> Result<bool, StoreError>;
    /// Takes the message of a channel that is due first, under a lease. A message about something whose earlier message
    /// still waits is not due: "it is over" must not come before "it began".
    async fn claim_channel_message(
        &self,
        channel: &str,
        claim: &MessageClaim,
    ) -> Result<Option<ClaimedMessage>, StoreError>;
    /// The notices in a message, oldest first.
    async fn notices_in_message(&self, id: Uuid) -> Result<Vec<Notice>, StoreError>;
    /// The outcome of a claimed message.
    async fn settle_channel_message(&self, id: Uuid, fate: MessageFate) -> Result<(), StoreError>;
}

/// How channels are doing.
#[async_trait]
pub trait ChannelLevels: Send + Sync {
    /// The state of every channel that has had anything to do.
    async fn channel_states(&self) -> Result<Vec<ChannelState>, StoreError>;
    /// Channels whose newest outcome is a refusal for good, by name.
    async fn refused_channels(&self) -> Result<Vec<RefusedChannel>, StoreError>;
}

/// Messages for people.
#[async_trait]
pub trait ChannelArchive: Send + Sync {
    /// Messages, newest first.
    async fn list_channel_messages(
        &self,
        filter: &MessageFilter,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, StoreError>;
    async fn channel_message(&self, id: Uuid) -> Result<Option<StoredMessage>, StoreError>;
    /// Channels that were made on the page, by name.
    async fn stored_channels(&self) -> Result<Vec<StoredChannel>, StoreError>;
}

/// What people do with channels.
#[async_trait]
pub trait ChannelDesk: Send + Sync {
    /// Queues a message that failed; `false` when it is under way or was delivered.
    async fn resend_channel_message(&self, id: Uuid, act: &Act) -> Result<bool, StoreError>;
    /// Writes a message that is being tested, claimed until then.
    async fn add_test_message(
        &self,
        channel: &str,
        message: &NewMessage,
        until: Timestamp,
        act: &Act,
    ) -> Result<(), StoreError>;
    /// Writes a channel over the one of that version (0: there is none yet); `false` when it was changed meanwhile.
    async fn save_channel(
        &self,
        channel: &StoredChannel,
        expected: i64,
        act: &Act,
    ) -> Result<bool, StoreError>;
    /// Deletes a channel; what it was told stays. `false` when there is none.
    async fn delete_channel(&self, name: &str, act: &Act) -> Result<bool, StoreError>;
}

/// What was decided about notices that wait for a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelDecision {
    pub messages: Vec<NewMessage>,
    /// Notices that are never sent: below the threshold.
    pub below: Vec<String>,
    /// Notices that wait until then.
    pub later: Vec<(String, Timestamp)>,
    pub window: ChannelWindow,
    pub now: Timestamp,
}

/// A message to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMessage {
    pub id: Uuid,
    pub content: MessageContent,
    /// The notices in it.
    pub notices: Vec<String>,
    pub now: Timestamp,
}

/// Who takes a message, when, and until when nobody else may.
#[derive(Debug, Clone)]
pub struct MessageClaim {
    pub worker: String,
    pub now: Timestamp,
    pub until: Timestamp,
}

/// A message that is to be sent now.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedMessage {
    pub id: Uuid,
    pub content: MessageContent,
    /// This attempt included.
    pub tries: u32,
    /// Since when it is to be sent.
    pub queued_at: Timestamp,
}

/// What a message says, without the form of any channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageContent {
    /// The kind of notice that it reports, `digest` for several kinds, or `test`.
    pub kind: String,
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// The page that shows more.
    pub link: String,
    /// What it is about, if that begins and ends; the same for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// Everything besides failed orders, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventItem>,
    /// Failed orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<FailureDigest>,
    /// When the newest of it happened.
    #[schemars(with = "String")]
    pub occurred_at: Timestamp,
}

/// How urgent a message is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Error,
    Critical,
}

crate::names!(Severity {
    Info = "info",
    Warning = "warning",
    Error = "error",
    Critical = "critical",
});

/// Something that begins and ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// The same from its beginning to its end, at most 255 bytes.
    pub key: String,
    /// Whether this message says that it is over.
    pub is_over: bool,
}

/// Something that happened besides a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventItem {
    pub kind: String,
    pub shop: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erp: Option<String>,
    /// One line.
    pub text: String,
    pub link: String,
    #[schemars(with = "String")]
    pub occurred_at: Timestamp,
}

/// Failed orders in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureDigest {
    /// Failed attempts in this message.
    pub count: usize,
    /// The totals of their orders, by currency.
    pub money: Vec<Money>,
    #[schemars(with = "String")]
    pub first_at: Timestamp,
    #[schemars(with = "String")]
    pub last_at: Timestamp,
    /// Equal failures, the most frequent first.
    pub types: Vec<FailureType>,
    /// Further types that are not listed.
    pub more_types: usize,
    /// The failed attempts, newest first.
    pub orders: Vec<FailedOrder>,
    /// Further ones that are not listed here; the page behind `link` lists all.
    pub more_orders: usize,
}

/// Equal failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureType {
    pub class: String,
    pub code: String,
    pub message: String,
    pub count: usize,
    pub money: Vec<Money>,
    pub link: String,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedOrder {
    pub shop: String,
    pub order_id: String,
    pub currency: Option<String>,
    pub total: Option<String>,
    pub attempt: u32,
    pub fail_count: u32,
    pub max_count: Option<u32>,
    /// `retrying`, `parked` or `outcome_unknown`.
    pub phase: String,
    pub class: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
    #[schemars(with = "Option<String>")]
    pub next_attempt_at: Option<Timestamp>,
    #[schemars(with = "String")]
    pub occurred_at: Timestamp,
    pub link: String,
}

/// A message in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMessage {
    pub id: Uuid,
    pub channel: String,
    pub content: MessageContent,
    pub status: MessageStatus,
    pub tries: u32,
    /// The last error.
    pub error: Option<String>,
    pub created_at: Timestamp,
    /// When it is sent next, while it waits.
    pub due_at: Timestamp,
    /// When it was delivered or abandoned.
    pub settled_at: Option<Timestamp>,
}

/// The status of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// Not delivered yet.
    Waiting,
    /// Accepted by the receiver.
    Delivered,
    /// Refused for good, or abandoned.
    Failed,
    /// Too large for the receiver: sent in parts, each of which is a message.
    Split,
}

crate::names!(MessageStatus {
    Waiting = "waiting",
    Delivered = "delivered",
    Failed = "failed",
    Split = "split",
});

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum MessageFate {
    Delivered(Timestamp),
    /// Send it again then.
    Later {
        at: Timestamp,
        error: String,
    },
    /// The same, and nothing else to this channel before.
    ChannelAway {
        at: Timestamp,
        error: String,
    },
    /// Abandoned; it stays visible.
    Failed {
        at: Timestamp,
        error: String,
    },
    /// Too large: these take its place and its notices.
    Split {
        at: Timestamp,
        error: String,
        parts: Vec<NewMessage>,
    },
    /// There was no time for it: the claim ends, and no attempt is counted.
    Untried,
}

/// Which messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageFilter {
    pub channel: Option<String>,
    pub status: Option<MessageStatus>,
}

/// How one channel is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChannelState {
    pub channel: String,
    /// Notices that wait for it: for the end of a quiet time, a digest or a threshold.
    pub held: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that failed.
    pub failed: u64,
    /// Messages that were delivered.
    pub delivered: u64,
    /// Notices that were never sent, because they stayed below its threshold.
    pub below: u64,
    /// When it took a message last.
    pub delivered_at: Option<Timestamp>,
    /// The newest error of a message that waits or failed after that.
    pub error: Option<String>,
    /// Whether its newest outcome is a refusal for good.
    pub is_refused: bool,
}

/// A channel whose newest outcome is a refusal for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedChannel {
    pub channel: String,
    pub error: String,
    pub at: Timestamp,
}

/// A channel that was made on the page, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChannel {
    pub name: String,
    /// Its settings as JSON: as below `channels.NAME` in the settings, its secrets included.
    pub definition: String,
    pub version: i64,
}

/// Why a channel did not take a message. The texts hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// It takes nothing from us now: it cannot be reached, does not answer, or wants a pause.
    #[error("{error}")]
    Away { error: String, retry_after: Option<Duration> },
    /// It may take this message later.
    #[error("{0}")]
    Later(String),
    /// It takes no message of this size.
    #[error("{0}")]
    TooLarge(String),
    /// It will never take it.
    #[error("{0}")]
    Never(String),
}

/// Turns notices into messages.
pub trait ChannelComposer: Send + Sync {
    /// Messages about all `notices`, at least one, each notice in exactly one of them: one message, or as many as the
    /// channel needs.
    fn compose(
        &self,
        channel: &Channel,
        notices: &[Notice],
        now: Timestamp,
        ids: &dyn Fn() -> Uuid,
    ) -> Vec<NewMessage>;
    /// What is sent in the place of a message that is too large for the receiver; nothing when it cannot be smaller.
    fn parts(
        &self,
        channel: &Channel,
        notices: &[Notice],
        now: Timestamp,
        ids: &dyn Fn() -> Uuid,
    ) -> Vec<NewMessage>;
    /// What a test says.
    fn test(&self, channel: &Channel, id: Uuid, now: Timestamp) -> NewMessage;
}

/// Sends messages.
#[async_trait]
pub trait ChannelSender: Send + Sync {
    /// Returns when the receiver has taken it.
    async fn send(
        &self,
        channel: &Channel,
        id: Uuid,
        content: &MessageContent,
    ) -> Result<(), ChannelError>;
    /// What is wrong with a channel, as far as that is seen without sending anything.
    fn check(&self, channel: &Channel) -> Result<(), String>;
    /// Where it leads, without anything secret.
    fn place(&self, channel: &Channel) -> String;
}

/// Reads what is stored of a channel.
pub trait ChannelReader: Send + Sync {
    /// The channel, or what is wrong with it.
    fn read(&self, stored: &StoredChannel) -> Result<Channel, String>;
}
