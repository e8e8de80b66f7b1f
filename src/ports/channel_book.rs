//! All channels: those of the settings, and those that were made on the page; and how they are reached.

use std::sync::Arc;

use crate::domain::channel::Channel;
use crate::ports::channels::{ChannelComposer, ChannelReader, ChannelSender, StoredChannel};

/// What is needed to tell channels anything.
#[derive(Clone)]
pub struct ChannelAccess {
    pub book: ChannelBook,
    pub composer: Arc<dyn ChannelComposer>,
    pub sender: Arc<dyn ChannelSender>,
}

/// The channels of the settings, and how stored ones are read.
#[derive(Clone)]
pub struct ChannelBook {
    own: Vec<Channel>,
    reader: Arc<dyn ChannelReader>,
}

/// A stored channel that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableChannel {
    pub name: String,
    pub why: String,
}

impl ChannelBook {
    /// Channels of the settings, and a reader of stored ones.
    pub fn new(own: Vec<Channel>, reader: Arc<dyn ChannelReader>) -> Self {
        Self { own, reader }
    }

    /// Whether the settings have a channel of this name: it comes before a stored one.
    pub fn has_own(&self, name: &str) -> bool {
        self.own.iter().any(|channel| channel.name == name)
    }

    /// All channels by name, and the stored ones that cannot be used.
    pub fn all(&self, stored: &[StoredChannel]) -> (Vec<Channel>, Vec<UnusableChannel>) {
        let (mut channels, mut unusable) = (self.own.clone(), Vec::new());
        for one in stored {
            let read = match self.has_own(&one.name) {
                true => Err("the settings have a channel of this name".to_owned()),
                false => self.reader.read(one),
            };
            match read {
                Ok(channel) => channels.push(channel),
                Err(why) => unusable.push(UnusableChannel { name: one.name.clone(), why }),
            }
        }
        channels.sort_by(|a, b| a.name.cmp(&b.name));
        (channels, unusable)
    }

    /// A channel that is about to be stored, or what is wrong with it.
    pub fn read(&self, stored: &StoredChannel) -> Result<Channel, String> {
        self.reader.read(stored)
    }
}
