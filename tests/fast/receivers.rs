//! Receivers of channels that take, refuse, hang or are away, and keep what they took.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use order_relay::domain::channel::{Channel, ChannelRule, ChannelTarget, ChannelType};
use order_relay::domain::notice::{DigestRule, NoticeKind};
use order_relay::domain::quiet_times::QuietTimes;
use order_relay::ports::channels::{
    ChannelError, ChannelReader, ChannelSender, MessageContent, StoredChannel,
};
use order_relay::ports::clock::Clock;
use secrecy::SecretString;
use uuid::Uuid;

use crate::clock::VirtualClock;

/// What a receiver does with everything from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mood {
    Takes,
    Away,
    /// Answers 500.
    Broken,
    /// Answers 429 and wants that pause.
    Busy(Duration),
    /// Answers 410.
    Gone,
    /// Takes it, and nothing is heard of that.
    LosesAnswers,
    /// Never answers.
    Hangs,
    /// Takes messages of at most so many orders.
    TakesFew(usize),
}

/// A message that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    pub channel: String,
    pub id: Uuid,
    pub content: MessageContent,
}

pub struct FakeReceivers {
    clock: Arc<VirtualClock>,
    moods: Mutex<BTreeMap<String, Mood>>,
    taken: Mutex<Vec<Taken>>,
    attempts: Mutex<Vec<(String, Uuid, Timestamp)>>,
}

fn open<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeReceivers {
    pub fn new(clock: Arc<VirtualClock>) -> Arc<Self> {
        let (moods, taken, attempts) = Default::default();
        Arc::new(Self { clock, moods, taken, attempts })
    }

    pub fn are(&self, channel: &str, mood: Mood) {
        open(&self.moods).insert(channel.to_owned(), mood);
    }

    /// Messages that a channel took, oldest first.
    pub fn taken(&self, channel: &str) -> Vec<Taken> {
        open(&self.taken).iter().filter(|taken| taken.channel == channel).cloned().collect()
    }

    /// When it was tried to send to a channel, and which message.
    pub fn attempts(&self, channel: &str) -> Vec<(Uuid, Timestamp)> {
        let all = open(&self.attempts);
        let own = all.iter().filter(|(name, ..)| name == channel);
        own.map(|(_, id, at)| (*id, *at)).collect()
    }

    /// The orders that a channel was told, in all its messages, each by its message.
    pub fn orders(&self, channel: &str) -> Vec<String> {
        let taken = self.taken(channel);
        let digests = taken.iter().filter_map(|taken| taken.content.failures.as_ref());
        digests.flat_map(|digest| digest.orders.iter().map(|one| one.order_id.clone())).collect()
    }
}

#[async_trait]
impl ChannelSender for FakeReceivers {
    async fn send(
        &self,
        channel: &Channel,
        id: Uuid,
        content: &MessageContent,
    ) -> Result<(), ChannelError> {
        let name = channel.name.clone();
        let at = self.clock.now();
        open(&self.attempts).push((name.clone(), id, at));
        let mood = open(&self.moods).get(&name).copied().unwrap_or(Mood::Takes);
        let take = || {
            let content = content.clone();
            open(&self.taken).push(Taken { channel: name.clone(), id, content });
        };
        let away = |error: &str, retry_after| {
            Err(ChannelError::Away { error: error.to_owned(), retry_after })
        };
        let orders = content.failures.as_ref().map_or(0, |failures| failures.count);
        match mood {
            Mood::Away => return away("connection refused", None),
            Mood::Broken => return Err(ChannelError::Later("it answers 500".to_owned())),
            Mood::Busy(pause) => return away("it answers 429", Some(pause)),
            Mood::Gone => return Err(ChannelError::Never("it answers 410".to_owned())),
            Mood::Hangs => {
                tokio::time::sleep(channel.target.patience).await;
                return away("no answer", None);
            }
            Mood::TakesFew(most) if orders > most => {
                return Err(ChannelError::TooLarge("it answers 413".to_owned()));
            }
            Mood::LosesAnswers => {
                take();
                return away("no answer", None);
            }
            Mood::Takes | Mood::TakesFew(_) => {}
        }
        take();
        Ok(())
    }

    fn check(&self, _: &Channel) -> Result<(), String> {
        Ok(())
    }

    fn place(&self, channel: &Channel) -> String {
        channel.name.clone()
    }
}

/// Whatever is stored is such a channel.
pub struct AnyStored;

impl ChannelReader for AnyStored {
    fn read(&self, stored: &StoredChannel) -> Result<Channel, String> {
        Ok(Channel { is_stored: true, ..channel(&stored.name) })
    }
}

/// A webhook that is told about failed orders.
pub fn channel(name: &str) -> Channel {
    Channel {
        name: name.to_owned(),
        target: ChannelTarget {
            channel_type: ChannelType::Webhook,
            url: SecretString::from("https://hooks.example.com/s3cret".to_owned()),
            secrets: Vec::new(),
            key: None,
            authorization: None,
            body: None,
            allow_private: false,
            patience: Duration::from_secs(10),
            max_bytes: 256 * 1024,
        },
        rule: ChannelRule {
            enabled: true,
            kinds: vec![NoticeKind::OrderFailed],
            shops: Vec::new(),
            threshold: None,
            digest: DigestRule { after: 3, every: Duration::from_mins(5) },
            quiet: QuietTimes::default(),
        },
        is_stored: false,
    }
}
