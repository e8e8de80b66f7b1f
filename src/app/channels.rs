//! The channels of the settings, and reading those that were made on the page.

use std::sync::Arc;

use anyhow::anyhow;

use crate::adapters::channels::compose::MessageComposer;
use crate::adapters::channels::http::HttpChannels;
use crate::config::channels::ChannelDefaults;
use crate::config::settings::Settings;
use crate::domain::channel::Channel;
use crate::ports::channel_book::{ChannelAccess, ChannelBook};
use crate::ports::channels::{ChannelReader, ChannelSender, StoredChannel};
use crate::ports::clock::Clock;

/// Reads stored channels as the settings are read, and checks where they lead.
struct StoredReader {
    defaults: ChannelDefaults,
    sender: Arc<HttpChannels>,
}

impl ChannelReader for StoredReader {
    fn read(&self, stored: &StoredChannel) -> Result<Channel, String> {
        let read = self.defaults.read(&stored.name, &stored.definition);
        let channel = read.map_err(|faults| {
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        })?;
        self.sender.check(&channel)?;
        Ok(channel)
    }
}

/// Channels as the settings say; an address that can never be used is a fault.
pub fn channels(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<ChannelAccess> {
    let access = open(settings, clock)?;
    for channel in &settings.channels {
        let name = &channel.name;
        access.sender.check(channel).map_err(|error| anyhow!("channels.{name}.{error}"))?;
    }
    Ok(access)
}

/// The same without a check, for those who only look.
pub fn open(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<ChannelAccess> {
    let sender = Arc::new(HttpChannels::new(clock).map_err(|error| anyhow!(error))?);
    let defaults = settings.channel_defaults.clone();
    let reader = Arc::new(StoredReader { defaults, sender: sender.clone() });
    Ok(ChannelAccess {
        composer: Arc::new(MessageComposer::new(&settings.web.public_url)),
        book: ChannelBook::new(settings.channels.clone(), reader),
        sender,
    })
}
