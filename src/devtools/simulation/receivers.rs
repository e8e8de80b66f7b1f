//! The receivers of channels: they take messages, are away, take them and lose their answer, put them off, or take only
//! small ones. What they were told is read out of the messages that the service composes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use secrecy::SecretString;
use uuid::Uuid;

use crate::devtools::simulation::dice::Dice;
use crate::devtools::simulation::post::attempt_name;
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::story::Story;
use crate::domain::channel::{Channel, ChannelRule, ChannelTarget, ChannelType};
use crate::domain::notice::{DigestRule, NoticeKind};
use crate::domain::quiet_times::QuietTimes;
use crate::ports::channels::{
    ChannelError, ChannelReader, ChannelSender, MessageContent, StoredChannel,
};

/// The channels: one that is told at once, and one that wants quiet for a while.
pub const CHANNELS: [&str; 2] = ["at_once", "later"];
/// When the second one wants quiet: from ten minutes after the beginning of a run.
const QUIET: &str = "2026-11-22T10:10/2026-11-22T10:50";
/// Attempts that a message may name while a receiver takes only small ones.
const FEW: usize = 2;
/// So small that a digest is split.
const MAX_BYTES: usize = 4_000;

/// The channels of a run.
pub fn channels(digest: DigestRule) -> Vec<Channel> {
    let quiet = |name: &str| match name == CHANNELS[1] {
        true => QuietTimes::parse(&[], &[QUIET.to_owned()], TimeZone::UTC).unwrap_or_default(),
        false => QuietTimes::default(),
    };
    let channel = |name: &str| Channel {
        name: name.to_owned(),
        target: ChannelTarget {
            channel_type: ChannelType::Webhook,
            url: SecretString::from("https://hooks.example.com/".to_owned()),
            secrets: Vec::new(),
            key: None,
            authorization: None,
            body: None,
            allow_private: false,
            patience: Duration::from_secs(10),
            max_bytes: MAX_BYTES,
        },
        rule: ChannelRule {
            enabled: true,
            kinds: NoticeKind::ALL.to_vec(),
            shops: Vec::new(),
            threshold: None,
            digest,
            quiet: quiet(name),
        },
        is_stored: false,
    };
    CHANNELS.map(channel).to_vec()
}

/// No channel is made on a page in a run.
pub struct NothingStored;

impl ChannelReader for NothingStored {
    fn read(&self, _: &StoredChannel) -> Result<Channel, String> {
        Err("no channel is stored".to_owned())
    }
}

/// The receivers of all channels.
pub struct ReceiversModel {
    story: Arc<Story>,
    state: Shared<State>,
}

struct State {
    dice: Dice,
    away_until: Duration,
    silent_until: Duration,
    /// The channel whose messages are put off, and until when.
    busy: (usize, Duration),
    narrow_until: Duration,
    /// Ids of messages by channel and what they name.
    named: BTreeMap<(String, String), BTreeSet<Uuid>>,
}

impl ReceiversModel {
    /// Receivers that take everything.
    pub fn new(seed: u64, story: Arc<Story>) -> Self {
        let state = State {
            dice: Dice::new(seed, "receivers"),
            away_until: Duration::ZERO,
            silent_until: Duration::ZERO,
            busy: (0, Duration::ZERO),
            narrow_until: Duration::ZERO,
            named: BTreeMap::new(),
        };
        Self { story, state: Shared::new(state) }
    }

    /// They cannot be reached for that long.
    pub fn are_away(&self, lasts: Duration) {
        self.state.get().away_until = self.story.now() + lasts;
    }

    /// Their answers get lost for that long; the messages do not.
    pub fn are_silent(&self, lasts: Duration) {
        self.state.get().silent_until = self.story.now() + lasts;
    }

    /// One of them puts off every message for that long.
    pub fn one_is_busy(&self, lasts: Duration) {
        let until = self.story.now() + lasts;
        let mut state = self.state.get();
        state.busy = (state.dice.index(CHANNELS.len()), until);
    }

    /// They take only small messages for that long.
    pub fn are_narrow(&self, lasts: Duration) {
        self.state.get().narrow_until = self.story.now() + lasts;
    }

    /// They are well again.
    pub fn heal(&self) {
        let mut state = self.state.get();
        (state.away_until, state.silent_until) = (Duration::ZERO, Duration::ZERO);
        (state.busy.1, state.narrow_until) = (Duration::ZERO, Duration::ZERO);
    }

    /// How many different messages to a channel name it.
    pub fn naming(&self, channel: &str, attempt: &str) -> usize {
        let key = (channel.to_owned(), attempt.to_owned());
        self.state.get().named.get(&key).map_or(0, BTreeSet::len)
    }
}

#[async_trait]
impl ChannelSender for ReceiversModel {
    async fn send(
        &self,
        channel: &Channel,
        id: Uuid,
        content: &MessageContent,
    ) -> Result<(), ChannelError> {
        let takes = self.state.get().dice.millis(1, 400);
        tokio::time::sleep(takes).await;
        let mut state = self.state.get();
        let now = self.story.now();
        if now < state.away_until {
            let error = "connection refused".to_owned();
            return Err(ChannelError::Away { error, retry_after: None });
        }
        let (busy, until) = state.busy;
        if channel.name == CHANNELS[busy] && now < until {
            return Err(ChannelError::Later("it answers 500".to_owned()));
        }
        let orders = content.failures.iter().flat_map(|failures| &failures.orders);
        let names: Vec<String> =
            orders.map(|order| attempt_name(&order.shop, &order.order_id, order.attempt)).collect();
        if now < state.narrow_until && names.len() > FEW {
            return Err(ChannelError::TooLarge("it answers 413".to_owned()));
        }
        for name in &names {
            let key = (channel.name.clone(), name.clone());
            state.named.entry(key).or_default().insert(id);
        }
        let told = names.join(" ");
        self.story.tell(&channel.name, format_args!("takes a message {}: {told}", content.kind));
        if now < state.silent_until && state.dice.chance(50) {
            return Err(ChannelError::Away { error: "no answer".to_owned(), retry_after: None });
        }
        Ok(())
    }

    fn check(&self, _: &Channel) -> Result<(), String> {
        Ok(())
    }

    fn place(&self, channel: &Channel) -> String {
        channel.name.clone()
    }
}
