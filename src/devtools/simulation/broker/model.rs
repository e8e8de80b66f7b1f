//! The broker as a whole: its health, its sessions, and the time that passes in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::devtools::simulation::broker::queues::{Holder, Message, Queues, Route};
use crate::devtools::simulation::dice::Dice;
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::story::Story;
use crate::domain::outbound_messages::{Audience, Outgoing};
use crate::domain::topology::Topology;

/// The broker of one run.
pub struct BrokerModel {
    pub topology: Topology,
    pub story: Arc<Story>,
    state: Shared<State>,
    /// Something changed for somebody who waits.
    changed: Notify,
}

struct State {
    dice: Dice,
    queues: Queues,
    epochs: BTreeMap<u32, u64>,
    consumers: u64,
    away_until: Duration,
    alarm_until: Duration,
    minority_until: Duration,
    /// So many confirms get lost with their session.
    lost_confirms: u32,
    /// So many messages are stored twice.
    doubled: u32,
    /// Whose messages are counted: every message of ours and how often it was stored.
    stored: BTreeMap<String, Vec<Duration>>,
}

/// What became of a message that was written to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Every queue has it.
    Confirmed,
    /// A queue refused it.
    Refused,
    /// No queue is bound.
    Nowhere,
    /// It is stored, and the confirm is lost.
    Unconfirmed,
}

impl BrokerModel {
    /// An empty broker.
    pub fn new(seed: u64, topology: Topology, story: Arc<Story>) -> Self {
        let state = State {
            dice: Dice::new(seed, "broker"),
            queues: Queues::new(topology.clone()),
            epochs: BTreeMap::new(),
            consumers: 0,
            away_until: Duration::ZERO,
            alarm_until: Duration::ZERO,
            minority_until: Duration::ZERO,
            lost_confirms: 0,
            doubled: 0,
            stored: BTreeMap::new(),
        };
        Self { topology, story, state: Shared::new(state), changed: Notify::new() }
    }

    // What befalls it.

    /// It restarts: every session ends, and nobody can connect for that long.
    pub fn is_away(&self, lasts: Duration) {
        let connections: Vec<u32> = self.state.get().epochs.keys().copied().collect();
        self.state.get().away_until = self.story.now() + lasts;
        connections.into_iter().for_each(|connection| self.end_session(connection));
    }

    /// Publishes hang for that long.
    pub fn is_alarmed(&self, lasts: Duration) {
        self.state.get().alarm_until = self.story.now() + lasts;
    }

    /// It has no majority for that long: nothing is confirmed, delivered or settled.
    pub fn is_minority(&self, lasts: Duration) {
        self.state.get().minority_until = self.story.now() + lasts;
    }

    /// The next `count` confirms get lost.
    pub fn lose_confirms(&self, count: u32) {
        self.state.get().lost_confirms = count;
    }

    /// The next `count` messages are stored twice.
    pub fn double(&self, count: u32) {
        self.state.get().doubled = count;
    }

    /// One of our queues refuses for that long.
    pub fn fill(&self, queue: &str, lasts: Duration) {
        let until = self.story.now() + lasts;
        self.state.get().queues.fill(queue, until);
    }

    /// A stranger's queue refuses events for that long.
    pub fn fill_stranger(&self, lasts: Duration) {
        let until = self.story.now() + lasts;
        self.state.get().queues.fill_stranger(until);
    }

    /// The session of a connection ends: what it has in hand goes back.
    pub fn end_session(&self, connection: u32) {
        let mut state = self.state.get();
        let epoch = state.epochs.entry(connection).or_default();
        *epoch += 1;
        let now = self.story.now();
        state.queues.end(|holder| holder.connection == connection, now);
        drop(state);
        self.changed.notify_waiters();
    }

    /// One consumer of a queue is cancelled, with its channel.
    pub fn cancel_consumer(&self, connection: u32, queue: &str) {
        let mut state = self.state.get();
        let now = self.story.now();
        if let Some(holder) = state.queues.consumer(queue, connection) {
            state.queues.end(|other| *other == holder, now);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Everything is well again.
    pub fn heal(&self) {
        let mut state = self.state.get();
        state.away_until = Duration::ZERO;
        state.alarm_until = Duration::ZERO;
        state.minority_until = Duration::ZERO;
        (state.lost_confirms, state.doubled) = (0, 0);
        state.queues.drain();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Moves messages that have waited long enough, as long as the run lasts.
    pub async fn run_delays(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            let (moved, due) = {
                let mut state = self.state.get();
                (state.queues.expire(self.story.now()), state.queues.next_due())
            };
            if moved {
                self.changed.notify_waiters();
                continue;
            }
            match due {
                Some(at) => {
                    let pause = at.saturating_sub(self.story.now());
                    tokio::select! { biased; () = tokio::time::sleep(pause) => {}, () = changed => {} }
                }
                None => changed.await,
            }
        }
    }

    // What its clients do.

    /// Returns when something may have changed since this was called.
    pub fn change(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// The session of a connection now.
    pub fn epoch(&self, connection: u32) -> u64 {
        *self.state.get().epochs.entry(connection).or_default()
    }

    /// A short time on the wire.
    pub fn latency(&self, longest_ms: u64) -> Duration {
        self.state.get().dice.millis(0, longest_ms)
    }

    /// Until when nobody can connect.
    pub fn away_until(&self) -> Duration {
        self.state.get().away_until
    }

    /// Until when nothing can be published.
    pub fn blocked_until(&self) -> Duration {
        let state = self.state.get();
        state.away_until.max(state.alarm_until)
    }

    /// Until when nothing is confirmed or settled.
    pub fn undecided_until(&self) -> Duration {
        self.state.get().minority_until
    }

    /// Stores what was written; `who` is told in the story.
    pub fn accept(&self, who: &str, outgoing: &Outgoing) -> Stored {
        let mut state = self.state.get();
        let now = self.story.now();
        let Route { taking, is_refused } =
            state.queues.route(&outgoing.exchange, &outgoing.routing_key, now);
        if (Route { taking: taking.clone(), is_refused }).is_nowhere() {
            return match outgoing.audience {
                Audience::Required => Stored::Nowhere,
                Audience::Optional => Stored::Confirmed,
            };
        }
        let message = Message::new(outgoing);
        state.queues.store(&taking, &message, now);
        if state.doubled > 0 {
            state.doubled -= 1;
            state.queues.store(&taking, &message, now);
        }
        if !taking.is_empty() {
            state.stored.entry(outgoing.message_id.clone()).or_default().push(now);
        }
        let stored = if is_refused {
            Stored::Refused
        } else if state.lost_confirms > 0 {
            state.lost_confirms -= 1;
            Stored::Unconfirmed
        } else {
            Stored::Confirmed
        };
        drop(state);
        self.story.tell(who, format_args!("publishes {}: {stored:?}", outgoing.message_id));
        self.changed.notify_waiters();
        stored
    }

    /// A new consumer; `None` when there is no such queue.
    pub fn subscribe(&self, connection: u32, queue: &str, prefetch: usize) -> Option<Holder> {
        let mut state = self.state.get();
        state.consumers += 1;
        let consumer = state.consumers;
        let epoch = *state.epochs.entry(connection).or_default();
        let holder = Holder { connection, epoch, consumer };
        state.queues.add_consumer(queue, holder, prefetch).then_some(holder)
    }

    /// Whether a consumer is still served.
    pub fn is_served(&self, queue: &str, holder: Holder) -> bool {
        self.state.get().queues.has_consumer(queue, holder)
    }

    /// A consumer wants no more.
    pub fn cancel(&self, queue: &str, holder: Holder) {
        self.state.get().queues.cancel(queue, holder);
    }

    /// A consumer is gone.
    pub fn unsubscribe(&self, queue: &str, holder: Holder) {
        let now = self.story.now();
        self.state.get().queues.remove_consumer(queue, holder, now);
        self.changed.notify_waiters();
    }

    /// The next message for a consumer.
    pub fn take(&self, queue: &str, holder: Holder) -> Option<(u64, Message)> {
        let mut state = self.state.get();
        if self.story.now() >= state.minority_until {
            let State { queues, dice, .. } = &mut *state;
            if queues.dispatch(queue, dice) {
                // Others may have got something, too.
                self.changed.notify_waiters();
            }
        }
        state.queues.take(queue, holder)
    }

    /// Runs `change` on the queues.
    pub fn settle(&self, change: impl FnOnce(&mut Queues, Duration)) {
        let now = self.story.now();
        change(&mut self.state.get().queues, now);
        self.changed.notify_waiters();
    }

    /// Messages ready in a queue, and its consumers.
    pub fn status(&self, queue: &str) -> Option<(usize, usize)> {
        self.state.get().queues.status(queue)
    }

    // What the promises look at.

    /// Names of all queues.
    pub fn queue_names(&self) -> Vec<String> {
        self.state.get().queues.names()
    }

    /// Messages of some that waited more than `limit` times in one queue at the same time.
    pub fn floods(&self, limit: usize, of: impl Fn(&str) -> bool) -> Vec<String> {
        let state = self.state.get();
        let tell = |((queue, id), copies): (&(String, String), &usize)| {
            format!("{id} waited {copies} times in {queue}")
        };
        state.queues.floods(limit).into_iter().filter(|((_, id), _)| of(id)).map(tell).collect()
    }

    /// Most nudges of the sweeper that waited in one queue at the same time.
    pub fn most_nudges(&self) -> usize {
        self.state.get().queues.most_nudges()
    }

    /// Messages of some that were stored more than `limit` times within `window`.
    pub fn repeated(
        &self,
        limit: usize,
        window: Duration,
        of: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let state = self.state.get();
        let mut repeated = Vec::new();
        for (id, times) in state.stored.iter().filter(|(id, _)| of(id)) {
            let most = (0..times.len()).map(|first| {
                times[first..].iter().take_while(|at| **at < times[first] + window).count()
            });
            if let Some(most) = most.max().filter(|most| *most > limit) {
                repeated.push(format!("{id} was published {most} times within {window:?}"));
            }
        }
        repeated
    }

    /// What is held now: queue and message.
    pub fn held(&self) -> Vec<(String, String)> {
        self.state.get().queues.held()
    }
}
