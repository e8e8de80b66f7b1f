//! Channels beside mail: gives notices to the channels that are subscribed to them, turns those that wait into messages,
//! and sends these (docs/channels.md).
//!
//! What is due stands in the ledger, so nothing is lost when a process dies. Each channel is worked on by itself: one
//! that hangs holds up no other, and no mail. A message has one receiver and one id, the same for every attempt.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::crash::{CrashPoint, reach};
use crate::domain::channel::{Channel, ChannelRule, WaitingNotice};
use crate::domain::delivery::sent_again_at;
use crate::domain::retry::later;
use crate::ports::channel_book::ChannelAccess;
use crate::ports::channels::{
    ChannelArchive, ChannelDecision, ChannelError, ChannelLevels, ChannelOutbox, ChannelState,
    ClaimedMessage, MessageClaim, MessageFate, NewMessage,
};
use crate::ports::clock::Stopwatch;
use crate::ports::notices::Notice;
use crate::ports::store_error::StoreError;
use crate::telemetry::{ChannelLabel, ChannelLabels};
use crate::workers::context::WorkerContext;

/// Pause between two looks at the ledger.
const EVERY: Duration = Duration::from_secs(2);
/// How often the gauges are read from it.
const SHOW_EVERY: Duration = Duration::from_secs(5);
/// Most notices given to the channels at a time.
const MAX_GIVEN: u32 = 1_000;
/// Most notices of a channel that are decided about at a time, and so the longest digest.
const MAX_NOTICES: u32 = 10_000;
/// The lease on a message beyond the time limit of its channel, which applies to each of its requests.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
const MAX_REQUESTS: u32 = 2;

crate::combined_port! {
    /// What the channels ask of the ledger.
    pub trait ChannelLedger: ChannelOutbox, ChannelArchive, ChannelLevels
}

/// The worker.
pub struct ChannelNotifier {
    context: Arc<WorkerContext>,
    ledger: Arc<dyn ChannelLedger>,
    access: ChannelAccess,
    stop: CancellationToken,
    /// All channels as they were last read, and those that cannot be used.
    known: Mutex<Arc<Vec<Channel>>>,
    unusable: Mutex<HashSet<String>>,
    looked: Notify,
}

impl ChannelNotifier {
    /// A worker over `context`.
    pub fn new(
        context: Arc<WorkerContext>,
        ledger: Arc<dyn ChannelLedger>,
        access: ChannelAccess,
        stop: CancellationToken,
    ) -> Self {
        Self {
            context,
            ledger,
            access,
            stop,
            known: Mutex::default(),
            unusable: Mutex::default(),
            looked: Notify::new(),
        }
    }

    /// Works until it has to stop, and until what is being sent has its outcome.
    pub async fn run(&self) {
        tokio::join!(self.give_again_and_again(), self.work_on_all());
    }

    async fn give_again_and_again(&self) {
        let mut shown: Option<Stopwatch> = None;
        while !self.stop.is_cancelled() {
            match self.give().await {
                Ok(()) => self.looked.notify_one(),
                Err(error) => tell(&error),
            }
            if shown.is_none_or(|since| since.elapsed() >= SHOW_EVERY) {
                match self.show_levels().await {
                    Ok(()) => shown = Some(Stopwatch::start()),
                    Err(error) => tell(&error),
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        self.looked.notify_one();
    }

    /// Gives new notices to the channels, all of them as they are now.
    async fn give(&self) -> Result<(), StoreError> {
        let (context, ledger) = (&self.context, &self.ledger);
        let availability = &context.availability;
        let stored = availability.retry_until_available(|| ledger.stored_channels()).await?;
        let (channels, unusable) = self.access.book.all(&stored);
        let names: HashSet<String> = unusable.iter().map(|one| one.name.clone()).collect();
        let before = std::mem::replace(&mut *lock(&self.unusable), names);
        for one in unusable.iter().filter(|one| !before.contains(&one.name)) {
            tracing::error!(channel = one.name, why = one.why, "channel.unusable");
        }
        let rules: Vec<(String, ChannelRule)> =
            channels.iter().map(|channel| (channel.name.clone(), channel.rule.clone())).collect();
        *lock(&self.known) = Arc::new(channels);
        loop {
            let now = context.now();
            let given = availability
                .retry_until_available(|| ledger.give_to_channels(&rules, now, MAX_GIVEN))
                .await?;
            if given < MAX_GIVEN || self.stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Gauges that are read from the ledger.
    async fn show_levels(&self) -> Result<(), StoreError> {
        let metrics = &self.context.metrics;
        let states = self.ledger.channel_states().await?;
        let known = lock(&self.known).clone();
        let is_known =
            |state: &&ChannelState| known.iter().any(|channel| channel.name == state.channel);
        let mut refused = 0;
        metrics.channel_waiting.clear();
        for state in states.iter().filter(is_known) {
            let waiting = i64::try_from(state.held + state.waiting).unwrap_or(i64::MAX);
            let label = ChannelLabel::new(&state.channel);
            metrics.channel_waiting.get_or_create(&label).set(waiting);
            refused += i64::from(state.is_refused);
        }
        metrics.channels_refused.set(refused);
        Ok(())
    }

    /// Works on each channel by itself, however long one of them takes.
    async fn work_on_all(&self) {
        let (mut lanes, mut busy) = (FuturesUnordered::new(), HashSet::new());
        loop {
            tokio::select! {
                () = self.looked.notified() => {}
                Some(name) = lanes.next(), if !lanes.is_empty() => {
                    busy.remove(&name);
                    continue;
                }
            }
            if self.stop.is_cancelled() {
                break;
            }
            let known = lock(&self.known).clone();
            for channel in known.iter().filter(|channel| channel.rule.enabled) {
                if busy.insert(channel.name.clone()) {
                    lanes.push(self.work_on(channel.clone()));
                }
            }
        }
        while lanes.next().await.is_some() {}
    }

    /// Handles everything that is due for one channel; returns its name.
    async fn work_on(&self, channel: Channel) -> String {
        loop {
            let worked = async {
                let decided = self.decide(&channel).await?;
                Ok::<bool, StoreError>(self.send_next(&channel).await? || decided)
            };
            match worked.await {
                Ok(true) if !self.stop.is_cancelled() => {}
                Ok(_) => return channel.name,
                Err(error) => {
                    tell(&error);
                    return channel.name;
                }
            }
        }
    }

    /// Decides about notices that wait; whether anything became of them.
    async fn decide(&self, channel: &Channel) -> Result<bool, StoreError> {
        let (context, ledger) = (&self.context, &self.ledger);
        let (name, now) = (channel.name.as_str(), context.now());
        let availability = &context.availability;
        let notices = availability
            .retry_until_available(|| ledger.waiting_for_channel(name, now, MAX_NOTICES))
            .await?;
        if notices.is_empty() {
            return Ok(false);
        }
        let window = availability.retry_until_available(|| ledger.channel_window(name)).await?;
        let waiting: Vec<WaitingNotice> = notices.iter().map(waiting_notice).collect();
        let plan = channel.rule.plan(&waiting, window, now);
        let ids = || context.clock.unique_id();
        let group = |places: &Vec<usize>| -> Vec<Notice> {
            places.iter().map(|place| notices[*place].clone()).collect()
        };
        let composer = &self.access.composer;
        let messages: Vec<NewMessage> = plan
            .messages
            .iter()
            .flat_map(|places| composer.compose(channel, &group(places), now, &ids))
            .collect();
        let id = |place: &usize| notices[*place].id.clone();
        let mut later: Vec<_> = plan.later.iter().map(|(place, at)| (id(place), *at)).collect();
        later.sort_by_key(|(_, at)| *at);
        let below = plan.below.iter().map(id).collect();
        let decision = ChannelDecision { messages, below, later, window: plan.window, now };
        let written = availability
            .retry_until_available(|| ledger.decide_for_channel(name, &decision))
            .await?;
        // Otherwise another process decided first; the rest is looked at again.
        for message in decision.messages.iter().filter(|_| written) {
            let (kind, message_id) = (&message.content.kind, message.id);
            let notices = message.notices.len();
            tracing::info!(channel = name, kind, %message_id, notices, "channel.composed");
        }
        Ok(written && !(decision.messages.is_empty() && decision.below.is_empty()))
    }

    /// Sends the message that is due first; whether there may be another one.
    async fn send_next(&self, channel: &Channel) -> Result<bool, StoreError> {
        let (context, ledger) = (&self.context, &self.ledger);
        let now = context.now();
        let lease = channel.target.patience * MAX_REQUESTS + LEASE_MARGIN;
        let (worker, until) = (context.worker.clone(), later(now, lease));
        let claim = MessageClaim { worker, now, until };
        let claimed = context
            .availability
            .retry_until_available(|| ledger.claim_channel_message(&channel.name, &claim))
            .await?;
        let Some(message) = claimed else { return Ok(false) };
        let fate = self.deliver(channel, &message).await?;
        let goes_on = !matches!(fate, MessageFate::ChannelAway { .. } | MessageFate::Untried);
        self.count(channel, &fate);
        context
            .availability
            .retry_until_available(|| ledger.settle_channel_message(message.id, fate.clone()))
            .await?;
        Ok(goes_on)
    }

    async fn deliver(
        &self,
        channel: &Channel,
        message: &ClaimedMessage,
    ) -> Result<MessageFate, StoreError> {
        if self.stop.is_cancelled() {
            return Ok(MessageFate::Untried);
        }
        let (name, message_id, tries) = (channel.name.as_str(), message.id, message.tries);
        let sent = self.access.sender.send(channel, message.id, &message.content).await;
        let now = self.context.now();
        // A test says at once what is wrong.
        let again = |wanted| match message.content.kind == "test" {
            true => None,
            false => sent_again_at(message.queued_at, message.tries, now, wanted),
        };
        // The receiver's text is on the page of the message, not in the log.
        Ok(match sent {
            Ok(()) => {
                reach(CrashPoint::ChannelMessageSent);
                tracing::info!(channel = name, %message_id, tries, "channel.delivered");
                MessageFate::Delivered(now)
            }
            Err(ChannelError::Away { error, retry_after }) => {
                tracing::warn!(channel = name, %message_id, tries, "channel.away");
                match again(retry_after) {
                    Some(at) => MessageFate::ChannelAway { at, error },
                    None => MessageFate::Failed { at: now, error },
                }
            }
            Err(ChannelError::Later(error)) => {
                tracing::warn!(channel = name, %message_id, tries, "channel.delayed");
                match again(None) {
                    Some(at) => MessageFate::Later { at, error },
                    None => MessageFate::Failed { at: now, error },
                }
            }
            Err(ChannelError::TooLarge(error)) => {
                let parts = self.parts_of(channel, message).await?;
                tracing::warn!(channel = name, %message_id, parts = parts.len(), "channel.too_large");
                match parts.is_empty() {
                    true => MessageFate::Failed { at: now, error },
                    false => MessageFate::Split { at: now, error, parts },
                }
            }
            Err(ChannelError::Never(error)) => {
                tracing::error!(
                    channel = name,
                    %message_id,
                    "channel.refused: see `order-relay channels messages --status failed`"
                );
                MessageFate::Failed { at: now, error }
            }
        })
    }

    async fn parts_of(
        &self,
        channel: &Channel,
        message: &ClaimedMessage,
    ) -> Result<Vec<NewMessage>, StoreError> {
        let (context, ledger) = (&self.context, &self.ledger);
        let notices = context
            .availability
            .retry_until_available(|| ledger.notices_in_message(message.id))
            .await?;
        let ids = || context.clock.unique_id();
        Ok(self.access.composer.parts(channel, &notices, context.now(), &ids))
    }

    fn count(&self, channel: &Channel, fate: &MessageFate) {
        let outcome = match fate {
            MessageFate::Delivered(_) => "delivered",
            MessageFate::Failed { .. } => "failed",
            MessageFate::Later { .. } | MessageFate::ChannelAway { .. } => "delayed",
            MessageFate::Split { .. } => "split",
            MessageFate::Untried => return,
        };
        let labels = ChannelLabels::new(&channel.name, outcome);
        self.context.metrics.channel_messages.get_or_create(&labels).inc();
    }
}

fn waiting_notice(notice: &Notice) -> WaitingNotice {
    let detail = &notice.detail;
    let order_id = detail.order_id.as_deref().unwrap_or_default();
    WaitingNotice {
        kind: notice.kind,
        at: notice.created_at,
        order: format!("{}/{order_id}", detail.shop),
        money: detail.currency.clone().zip(detail.total.clone()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(error: &StoreError) {
    // The notices stay in the ledger, and are looked for again.
    if error.is_unavailable() {
        tracing::debug!(%error, "channels.skipped");
        return;
    }
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::error!(%error, cause, "channels.failed");
}
