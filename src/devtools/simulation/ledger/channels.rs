//! Channels: each notice is given to every channel that takes it, and ends in one message there.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{ChannelNoticeRow, MessageRow, Tables};
use super::values::{rows, stored_text, stored_time};
use crate::domain::channel::{ChannelRule, ChannelWindow};
use crate::domain::notice::{DigestWindow, NoticeKind};
use crate::ports::audit::Act;
use crate::ports::channels::{
    ChannelArchive, ChannelDecision, ChannelDesk, ChannelLevels, ChannelOutbox, ChannelState,
    ClaimedMessage, MessageClaim, MessageFate, MessageFilter, MessageStatus, NewMessage,
    RefusedChannel, StoredChannel, StoredMessage,
};
use crate::ports::notices::Notice;
use crate::ports::store_error::StoreError;

#[async_trait]
impl ChannelOutbox for MemoryLedger {
    async fn give_to_channels(
        &self,
        channels: &[(String, ChannelRule)],
        now: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError> {
        self.write(|tables| Ok(tables.give_to_channels(channels, now, rows(limit)))).await
    }

    async fn waiting_for_channel(
        &self,
        channel: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError> {
        self.read(|tables| {
            let waiting: Vec<(&String, &ChannelNoticeRow)> =
                tables.waiting_notices(channel).collect();
            let now = stored_time(now);
            if waiting.iter().all(|(_, row)| row.due_at > now) {
                return Vec::new();
            }
            let ids = waiting.into_iter().map(|(id, _)| id);
            tables.notices_by_age(ids).into_iter().take(rows(limit)).collect()
        })
        .await
    }

    async fn channel_window(&self, channel: &str) -> Result<ChannelWindow, StoreError> {
        self.read(|tables| tables.channel_states.get(channel).map(|row| row.window))
            .await
            .map(Option::unwrap_or_default)
    }

    async fn decide_for_channel(
        &self,
        channel: &str,
        decided: &ChannelDecision,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let done = tables.decide_for_channel(channel, decided);
            if !done {
                tables.roll_back();
            }
            Ok(done)
        })
        .await
    }

    async fn claim_channel_message(
        &self,
        channel: &str,
        claim: &MessageClaim,
    ) -> Result<Option<ClaimedMessage>, StoreError> {
        self.write(|tables| Ok(tables.claim_message(channel, claim))).await
    }

    async fn notices_in_message(&self, id: Uuid) -> Result<Vec<Notice>, StoreError> {
        self.read(|tables| {
            let of_message =
                tables.channel_notices.iter().filter(|(_, row)| row.message == Some(id));
            tables.notices_by_age(of_message.map(|((_, notice), _)| notice))
        })
        .await
    }

    async fn settle_channel_message(&self, id: Uuid, fate: MessageFate) -> Result<(), StoreError> {
        self.write(|tables| {
            tables.settle_message(id, fate);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl ChannelLevels for MemoryLedger {
    async fn channel_states(&self) -> Result<Vec<ChannelState>, StoreError> {
        self.read(|tables| {
            let is_waiting = |row: &&ChannelNoticeRow| row.message.is_none() && !row.is_below;
            let waits = |message: &&MessageRow| message.message.status == MessageStatus::Waiting;
            let mut names: BTreeSet<&String> = tables.channel_states.keys().collect();
            let held = tables.channel_notices.iter().filter(|(_, row)| is_waiting(row));
            names.extend(held.map(|((channel, _), _)| channel));
            let messages = tables.channel_messages.values();
            names.extend(messages.filter(waits).map(|row| &row.message.channel));
            names.into_iter().map(|name| tables.channel_state(name)).collect()
        })
        .await
    }

    async fn refused_channels(&self) -> Result<Vec<RefusedChannel>, StoreError> {
        self.read(|tables| {
            let refused = tables.channel_states.iter();
            refused
                .filter_map(|(channel, row)| {
                    let error = row.error.clone().unwrap_or_default();
                    let at = row.refused_at?;
                    Some(RefusedChannel { channel: channel.clone(), error, at })
                })
                .collect()
        })
        .await
    }
}

#[async_trait]
impl ChannelArchive for MemoryLedger {
    async fn list_channel_messages(
        &self,
        filter: &MessageFilter,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.read(|tables| {
            let all = tables.channel_messages.values().map(|row| &row.message);
            let is_asked = |message: &&StoredMessage| {
                filter.channel.as_ref().is_none_or(|channel| *channel == message.channel)
                    && filter.status.is_none_or(|status| status == message.status)
            };
            let mut some: Vec<&StoredMessage> = all.filter(is_asked).collect();
            some.sort_by_key(|message| Reverse((message.created_at, message.id)));
            some.into_iter().take(rows(limit)).cloned().collect()
        })
        .await
    }

    async fn channel_message(&self, id: Uuid) -> Result<Option<StoredMessage>, StoreError> {
        self.read(|tables| tables.channel_messages.get(&id).map(|row| row.message.clone())).await
    }

    async fn stored_channels(&self) -> Result<Vec<StoredChannel>, StoreError> {
        self.read(|tables| tables.channels.values().cloned().collect()).await
    }
}

#[async_trait]
impl ChannelDesk for MemoryLedger {
    async fn resend_channel_message(&self, id: Uuid, act: &Act) -> Result<bool, StoreError> {
        self.write(|tables| {
            let now = stored_time(act.now);
            let has_failed = |row: &MessageRow| row.message.status == MessageStatus::Failed;
            let done = tables.channel_messages.update_if(&id, has_failed, |row| {
                row.message.status = MessageStatus::Waiting;
                row.message.tries = 0;
                row.message.settled_at = None;
                row.message.due_at = now;
                row.queued_at = now;
            });
            if done {
                tables.write_audit(act, Deed::new("channel.resend", &format!("message {id}")))?;
            }
            Ok(done)
        })
        .await
    }

    async fn add_test_message(
        &self,
        channel: &str,
        message: &NewMessage,
        until: Timestamp,
        act: &Act,
    ) -> Result<(), StoreError> {
        self.write(|tables| {
            tables.add_message(channel, message);
            tables.channel_messages.update(&message.id, |row| {
                row.claimed_until = Some(stored_time(until));
                row.message.tries = 1;
            });
            tables.write_audit(act, Deed::new("channel.test", &format!("channel {channel}")))
        })
        .await
    }

    async fn save_channel(
        &self,
        channel: &StoredChannel,
        expected: i64,
        act: &Act,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let known = tables.channels.get(&channel.name).map_or(0, |known| known.version);
            if known != expected {
                return Ok(false);
            }
            tables.channels.put(channel.name.clone(), channel.clone());
            let action = if expected == 0 { "channel.create" } else { "channel.change" };
            tables.write_audit(act, Deed::new(action, &format!("channel {}", channel.name)))?;
            Ok(true)
        })
        .await
    }

    async fn delete_channel(&self, name: &str, act: &Act) -> Result<bool, StoreError> {
        self.write(|tables| {
            let done = tables.channels.delete(&name.to_owned());
            if done {
                tables.write_audit(act, Deed::new("channel.delete", &format!("channel {name}")))?;
            }
            Ok(done)
        })
        .await
    }
}

impl Tables {
    fn give_to_channels(
        &mut self,
        channels: &[(String, ChannelRule)],
        now: Timestamp,
        limit: usize,
    ) -> u32 {
        let places: Vec<(i64, String)> =
            self.notices_for_channels.keys().take(limit).cloned().collect();
        let mut given = 0;
        for place in places {
            self.notices_for_channels.delete(&place);
            let Some(row) = self.notices.get(&place.1) else { continue };
            let (kind, shop) = (row.notice.kind, row.notice.detail.shop.clone());
            given += 1;
            for (channel, _) in channels.iter().filter(|(_, rule)| rule.takes(kind, &shop)) {
                let row =
                    ChannelNoticeRow { due_at: stored_time(now), message: None, is_below: false };
                self.channel_notices.insert_new((channel.clone(), place.1.clone()), row);
            }
        }
        given
    }

    /// A notice that the channels do not know yet, unless it is a customer's.
    pub(super) fn offer_to_channels(&mut self, notice: &Notice) {
        if notice.kind != NoticeKind::CustomerConfirmation {
            let place = (notice.created_at.as_millisecond(), notice.id.clone());
            self.notices_for_channels.put(place, ());
        }
    }

    fn waiting_notices(&self, channel: &str) -> impl Iterator<Item = (&String, &ChannelNoticeRow)> {
        let of_channel = self
            .channel_notices
            .range((channel.to_owned(), String::new())..)
            .take_while(move |((of, _), _)| of == channel);
        of_channel
            .filter(|(_, row)| row.message.is_none() && !row.is_below)
            .map(|((_, notice), row)| (notice, row))
    }

    fn notices_by_age<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Vec<Notice> {
        let mut notices: Vec<Notice> =
            ids.filter_map(|id| self.notices.get(id)).map(|row| row.notice.clone()).collect();
        notices.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        notices
    }

    /// `false` when one of the notices does not wait any more.
    fn decide_for_channel(&mut self, channel: &str, decided: &ChannelDecision) -> bool {
        for message in &decided.messages {
            self.add_message(channel, message);
            if !message.notices.iter().all(|notice| {
                self.update_waiting(channel, notice, |row| row.message = Some(message.id))
            }) {
                return false;
            }
        }
        if !decided
            .below
            .iter()
            .all(|notice| self.update_waiting(channel, notice, |row| row.is_below = true))
        {
            return false;
        }
        for (notice, until) in &decided.later {
            self.update_waiting(channel, notice, |row| row.due_at = stored_time(*until));
        }
        let mut state = self.channel_states.get(channel).cloned().unwrap_or_default();
        state.window = stored_window(decided.window);
        state.below += decided.below.len() as u64;
        self.channel_states.put(channel.to_owned(), state);
        true
    }

    fn update_waiting(
        &mut self,
        channel: &str,
        notice: &str,
        change: impl FnOnce(&mut ChannelNoticeRow),
    ) -> bool {
        let key = (channel.to_owned(), notice.to_owned());
        let waits = |row: &ChannelNoticeRow| row.message.is_none() && !row.is_below;
        self.channel_notices.update_if(&key, waits, change)
    }

    fn add_message(&mut self, channel: &str, new: &NewMessage) {
        let now = stored_time(new.now);
        let message = StoredMessage {
            id: new.id,
            channel: channel.to_owned(),
            content: new.content.clone(),
            status: MessageStatus::Waiting,
            tries: 0,
            error: None,
            created_at: now,
            due_at: now,
            settled_at: None,
        };
        let row = MessageRow { message, queued_at: now, claimed_until: None };
        self.channel_messages.put(new.id, row);
    }

    fn claim_message(&mut self, channel: &str, claim: &MessageClaim) -> Option<ClaimedMessage> {
        let now = stored_time(claim.now);
        let waiting: Vec<&MessageRow> = self
            .channel_messages
            .values()
            .filter(|row| row.message.channel == channel)
            .filter(|row| row.message.status == MessageStatus::Waiting)
            .collect();
        let age = |row: &MessageRow| (row.message.created_at, row.message.id);
        let key = |row: &MessageRow| row.message.content.incident.as_ref().map(|i| i.key.clone());
        let comes_first = |row: &&&MessageRow| {
            let Some(incident) = key(row) else { return true };
            waiting
                .iter()
                .all(|other| key(other).as_ref() != Some(&incident) || age(other) >= age(row))
        };
        let is_free = |row: &&&MessageRow| {
            row.message.due_at <= now && row.claimed_until.is_none_or(|until| until <= now)
        };
        let due = waiting.iter().filter(is_free).filter(comes_first);
        let id = due.min_by_key(|row| (row.message.due_at, age(row)))?.message.id;
        self.channel_messages.update(&id, |row| {
            row.claimed_until = Some(stored_time(claim.until));
            row.message.tries += 1;
        });
        let row = self.channel_messages.get(&id)?;
        Some(ClaimedMessage {
            id,
            content: row.message.content.clone(),
            tries: row.message.tries,
            queued_at: row.queued_at,
        })
    }

    /// What was delivered stays delivered, whatever is told later.
    fn settle_message(&mut self, id: Uuid, fate: MessageFate) {
        let Some(row) = self.channel_messages.get(&id) else { return };
        let mut row = row.clone();
        let is_open = match fate {
            MessageFate::Delivered(_) => row.message.status != MessageStatus::Delivered,
            _ => row.message.status == MessageStatus::Waiting,
        };
        if !is_open {
            return;
        }
        row.claimed_until = None;
        let message = &mut row.message;
        let mut settle = |status, at, error: Option<&String>| {
            message.status = status;
            message.settled_at = Some(stored_time(at));
            message.error = error.map(|error| stored_text(error));
        };
        match &fate {
            MessageFate::Delivered(at) => settle(MessageStatus::Delivered, *at, None),
            MessageFate::Failed { at, error } => settle(MessageStatus::Failed, *at, Some(error)),
            MessageFate::Split { at, error, .. } => settle(MessageStatus::Split, *at, Some(error)),
            MessageFate::Later { at, error } | MessageFate::ChannelAway { at, error } => {
                message.due_at = stored_time(*at);
                message.error = Some(stored_text(error));
            }
            MessageFate::Untried => message.tries -= 1,
        }
        let channel = message.channel.clone();
        self.channel_messages.put(id, row);
        match &fate {
            MessageFate::ChannelAway { at, .. } => self.put_off(&channel, stored_time(*at)),
            MessageFate::Split { parts, .. } => {
                for part in parts {
                    self.add_message(&channel, part);
                    for notice in &part.notices {
                        let key = (channel.clone(), notice.clone());
                        self.channel_notices.update(&key, |row| row.message = Some(part.id));
                    }
                }
            }
            _ => {}
        }
        self.note_outcome(&channel, fate);
    }

    fn put_off(&mut self, channel: &str, until: Timestamp) {
        let waits = |row: &MessageRow| {
            let message = &row.message;
            let is_its = message.channel == channel && message.status == MessageStatus::Waiting;
            is_its && message.due_at < until && row.claimed_until.is_none()
        };
        let all = self.channel_messages.iter().filter(|(_, row)| waits(row));
        let ids: Vec<Uuid> = all.map(|(id, _)| *id).collect();
        for id in ids {
            self.channel_messages.update(&id, |row| row.message.due_at = until);
        }
    }

    fn note_outcome(&mut self, channel: &str, fate: MessageFate) {
        let mut state = self.channel_states.get(channel).cloned().unwrap_or_default();
        match fate {
            MessageFate::Delivered(at) => {
                state.delivered += 1;
                state.delivered_at = Some(stored_time(at));
                (state.refused_at, state.error) = (None, None);
            }
            MessageFate::Later { error, .. } | MessageFate::ChannelAway { error, .. } => {
                state.error = Some(stored_text(&error));
            }
            MessageFate::Failed { at, error } => {
                state.refused_at = Some(stored_time(at));
                state.error = Some(stored_text(&error));
            }
            MessageFate::Split { .. } | MessageFate::Untried => return,
        }
        self.channel_states.put(channel.to_owned(), state);
    }

    fn channel_state(&self, channel: &str) -> ChannelState {
        let state = self.channel_states.get(channel).cloned().unwrap_or_default();
        let messages = |status| {
            let all = self.channel_messages.values().map(|row| &row.message);
            all.filter(|message| message.channel == channel && message.status == status).count()
        };
        ChannelState {
            channel: channel.to_owned(),
            held: self.waiting_notices(channel).count() as u64,
            waiting: messages(MessageStatus::Waiting) as u64,
            failed: messages(MessageStatus::Failed) as u64,
            delivered: state.delivered,
            below: state.below,
            delivered_at: state.delivered_at,
            is_refused: state.refused_at.is_some(),
            error: state.error,
        }
    }
}

fn stored_window(window: ChannelWindow) -> ChannelWindow {
    let digest = window
        .digest
        .map(|digest| DigestWindow { started_at: stored_time(digest.started_at), ..digest });
    ChannelWindow { digest, above_until: window.above_until.map(stored_time) }
}
