//! Channels as people look at them, test them and change them. Messages may name orders of every shop: only who may see
//! all shops sees them. Channels are the administrators' to test and to change.

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::channel::Channel;
use crate::domain::permission::Permission;
use crate::domain::retry::later;
use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::channel_book::UnusableChannel;
use crate::ports::channels::{
    ChannelState, MessageFate, MessageFilter, MessageStatus, RefusedChannel, StoredChannel,
    StoredMessage,
};
use crate::ports::notices::Notice;

/// One channel with its state.
#[derive(Debug, Clone)]
pub struct ChannelReport {
    pub channel: Channel,
    /// Where it leads, without anything secret.
    pub place: String,
    pub state: ChannelState,
    /// Of a stored one.
    pub version: Option<i64>,
}

/// All channels.
#[derive(Debug, Clone, Default)]
pub struct ChannelReports {
    pub channels: Vec<ChannelReport>,
    /// Stored ones that cannot be used.
    pub unusable: Vec<UnusableChannel>,
    /// Channels that are in no settings any more and still have something that waits or failed.
    pub gone: Vec<ChannelState>,
}

/// What a test found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestReport {
    pub message: Uuid,
    /// Why it was not taken; `None`: it was.
    pub error: Option<String>,
}

impl Ops {
    /// Every channel with its state.
    pub async fn channels(&self, principal: &Principal) -> Result<ChannelReports, Refusal> {
        principal.authorize(Permission::Read, None)?;
        let stored = self.store.stored_channels().await?;
        let mut states = self.store.channel_states().await?;
        let (channels, unusable) = self.channels.book.all(&stored);
        let reports = channels.into_iter().map(|channel| {
            let place = states.iter().position(|state| state.channel == channel.name);
            let state = place.map(|place| states.swap_remove(place)).unwrap_or_default();
            let of_stored = stored.iter().find(|one| channel.is_stored && one.name == channel.name);
            let version = of_stored.map(|one| one.version);
            let place = self.channels.sender.place(&channel);
            ChannelReport { channel, place, state, version }
        });
        let channels = reports.collect();
        states.retain(|state| state.held + state.waiting + state.failed > 0);
        Ok(ChannelReports { channels, unusable, gone: states })
    }

    /// Channels in use whose newest outcome is a refusal for good; none while the ledger does not answer. Names without
    /// order data, for everybody who is logged in.
    pub async fn refused_channels(&self) -> Vec<RefusedChannel> {
        let Ok(mut refused) = self.store.refused_channels().await else { return Vec::new() };
        if refused.is_empty() {
            return refused;
        }
        let Ok(stored) = self.store.stored_channels().await else { return Vec::new() };
        let (channels, _) = self.channels.book.all(&stored);
        let in_use = |name: &str| {
            channels.iter().any(|channel| channel.rule.enabled && channel.name == name)
        };
        refused.retain(|refused| in_use(&refused.channel));
        refused
    }

    /// Messages, newest first.
    pub async fn channel_messages(
        &self,
        principal: &Principal,
        filter: &MessageFilter,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, Refusal> {
        principal.authorize(Permission::Read, None)?;
        Ok(self.store.list_channel_messages(filter, limit).await?)
    }

    /// One message with the notices in it.
    pub async fn channel_message(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<(StoredMessage, Vec<Notice>), Refusal> {
        principal.authorize(Permission::Read, None)?;
        let message = self.find_message(id).await?;
        let notices = self.store.notices_in_message(message.id).await?;
        Ok((message, notices))
    }

    async fn find_message(&self, id: &str) -> Result<StoredMessage, Refusal> {
        let missing = || Refusal::not_found("message", id);
        let id: Uuid = id.parse().map_err(|_| missing())?;
        self.store.channel_message(id).await?.ok_or_else(missing)
    }

    /// Sends a message again that its channel did not take.
    pub async fn resend_channel_message(&self, id: &str, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Read, None)?;
        authorize(act, Permission::Process, None)?;
        let message = self.find_message(id).await?;
        let channel = self.find_channel(&message.channel).await?;
        if !channel.rule.enabled {
            let name = &channel.name;
            return Err(Refusal::Unacceptable(format!("channel {name} is disabled")));
        }
        if self.store.resend_channel_message(message.id, act).await? {
            return Ok(());
        }
        let status = match message.status {
            MessageStatus::Failed => "on its way",
            status => status.as_str(),
        };
        Err(Refusal::Settled { what: "message", name: id.to_owned(), status: status.to_owned() })
    }

    async fn find_channel(&self, name: &str) -> Result<Channel, Refusal> {
        let stored = self.store.stored_channels().await?;
        let (channels, unusable) = self.channels.book.all(&stored);
        if let Some(one) = unusable.into_iter().find(|one| one.name == name) {
            let why = one.why;
            return Err(Refusal::Unacceptable(format!("channel {name} cannot be used: {why}")));
        }
        let known = channels.iter().map(|channel| channel.name.clone()).collect();
        let found = channels.into_iter().find(|channel| channel.name == name);
        found.ok_or(Refusal::NotFound { what: "channel", name: name.to_owned(), known })
    }

    /// Sends a test to a channel now, also to a disabled one, and says what became of it.
    pub async fn test_channel(&self, name: &str, act: &Act) -> Result<TestReport, Refusal> {
        authorize(act, Permission::Admin, None)?;
        let channel = self.find_channel(name).await?;
        let id = self.unique_id();
        let message = self.channels.composer.test(&channel, id, act.now);
        // Should this process die, the notifier sends it when the claim has ended.
        let until = later(act.now, channel.target.patience * 3);
        self.store.add_test_message(name, &message, until, act).await?;
        let sent = self.channels.sender.send(&channel, id, &message.content).await;
        let at: Timestamp = self.clock.now();
        let error = sent.err().map(|error| error.to_string());
        let fate = match error.clone() {
            None => MessageFate::Delivered(at),
            Some(error) => MessageFate::Failed { at, error },
        };
        self.store.settle_channel_message(id, fate).await?;
        Ok(TestReport { message: id, error })
    }

    /// Writes a channel; `expected` is the version that was changed, 0 for a new one.
    pub async fn save_channel(
        &self,
        name: &str,
        definition: String,
        expected: i64,
        act: &Act,
    ) -> Result<(), Refusal> {
        authorize(act, Permission::Admin, None)?;
        if self.channels.book.has_own(name) {
            return Err(Refusal::Unacceptable(format!(
                "channel {name} is in the settings: change it there"
            )));
        }
        let stored = StoredChannel { name: name.to_owned(), definition, version: expected + 1 };
        self.channels.book.read(&stored).map_err(Refusal::Unacceptable)?;
        if self.store.save_channel(&stored, expected, act).await? {
            return Ok(());
        }
        Err(Refusal::Unacceptable(match expected {
            0 => format!("there is a channel {name} already"),
            _ => format!("channel {name} was changed meanwhile: load the page again"),
        }))
    }

    /// The definition of a stored channel and its version, for a form. It holds secrets: only for administrators, and
    /// never to be shown as it is.
    pub async fn channel_definition(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<StoredChannel, Refusal> {
        principal.authorize(Permission::Admin, None)?;
        let stored = self.store.stored_channels().await?.into_iter();
        let found = stored.into_iter().find(|one| one.name == name);
        found.ok_or_else(|| Refusal::not_found("channel", name))
    }

    /// Deletes a channel that was made on the page. What it was told stays readable.
    pub async fn delete_channel(&self, name: &str, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Admin, None)?;
        if self.store.delete_channel(name, act).await? {
            return Ok(());
        }
        match self.channels.book.has_own(name) {
            true => Err(Refusal::Unacceptable(format!(
                "channel {name} is in the settings: remove it there"
            ))),
            false => Err(Refusal::not_found("channel", name)),
        }
    }
}
