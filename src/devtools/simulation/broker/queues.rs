//! What the broker holds: queues, the messages in them, and who has which message in hand.
//!
//! The promises are those of docs/facts/rabbitmq.md and none more: at least once, in no order that
//! anybody may rely on, and back to the queue with a higher count when a session ends.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::devtools::simulation::dice::Dice;
use crate::domain::outbound_messages::Outgoing;
use crate::domain::topology::{ExchangeKind, Queue, Target, Topology};
use crate::domain::trace::Headers;
use crate::ports::broker::Death;

/// Messages one queue holds at most.
const QUEUE_LIMIT: usize = 10_000;
/// How often a message is returned before it is dead-lettered, as in RabbitMQ 4.
const DELIVERY_LIMIT: u32 = 20;

/// A message in a queue.
#[derive(Debug, Clone)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub id: String,
    /// How often it was returned.
    pub returned: u32,
    pub died: Option<Death>,
}

impl Message {
    /// As it was published.
    pub fn new(published: &Outgoing) -> Self {
        Self {
            exchange: published.exchange.clone(),
            routing_key: published.routing_key.clone(),
            headers: published.headers.clone(),
            body: published.body.clone(),
            id: published.message_id.clone(),
            returned: 0,
            died: None,
        }
    }
}

/// Who has a message in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The connection.
    pub connection: u32,
    /// The session of that connection.
    pub epoch: u64,
    /// The consumer.
    pub consumer: u64,
}

/// A message that was delivered and not settled.
#[derive(Debug)]
struct InHand {
    message: Message,
    holder: Holder,
}

/// Somebody who reads a queue.
#[derive(Debug)]
struct Consumer {
    prefetch: usize,
    /// Delivered to it, and not looked at yet.
    delivered: VecDeque<u64>,
}

/// One queue.
#[derive(Debug)]
struct HeldQueue {
    spec: Queue,
    ready: VecDeque<Message>,
    /// By due time; all of one queue wait equally long.
    waiting: VecDeque<(Duration, Message)>,
    in_hand: BTreeMap<u64, InHand>,
    consumers: BTreeMap<Holder, Consumer>,
    full_until: Duration,
}

impl HeldQueue {
    fn is_full(&self, now: Duration) -> bool {
        let held = self.ready.len() + self.waiting.len() + self.in_hand.len();
        now < self.full_until || held >= QUEUE_LIMIT
    }

    /// Consumers that may get another message.
    fn with_room(&self) -> Vec<Holder> {
        let in_hand =
            |holder: &Holder| self.in_hand.values().filter(|held| held.holder == *holder).count();
        let has_room =
            |(holder, consumer): &(&Holder, &Consumer)| in_hand(holder) < consumer.prefetch;
        self.consumers.iter().filter(has_room).map(|(holder, _)| *holder).collect()
    }
}

/// Where a message would go.
#[derive(Debug, Default)]
pub struct Route {
    /// Queues that take it.
    pub taking: Vec<String>,
    /// Whether a queue refuses it: the publisher gets a nack, and the others keep it all the same.
    pub is_refused: bool,
}

impl Route {
    /// Whether no queue is bound.
    pub fn is_nowhere(&self) -> bool {
        self.taking.is_empty() && !self.is_refused
    }
}

/// All queues.
#[derive(Debug)]
pub struct Queues {
    topology: Topology,
    queues: BTreeMap<String, HeldQueue>,
    /// Somebody else's queue, bound to all events, refuses until then.
    stranger_full_until: Duration,
    tags: u64,
    /// Most copies of one message that waited in one queue at the same time.
    most_copies: BTreeMap<(String, String), usize>,
    most_nudges: usize,
}

/// Whether the sweeper has published it.
fn is_nudge(id: &str) -> bool {
    id.starts_with("sweeper:")
}

impl Queues {
    /// The queues of `topology`, empty.
    pub fn new(topology: Topology) -> Self {
        let held = |queue: &Queue| HeldQueue {
            spec: queue.clone(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            in_hand: BTreeMap::new(),
            consumers: BTreeMap::new(),
            full_until: Duration::ZERO,
        };
        let queues = topology.queues.iter().map(|queue| (queue.name.clone(), held(queue)));
        Self {
            queues: queues.collect(),
            topology,
            stranger_full_until: Duration::ZERO,
            tags: 0,
            most_copies: BTreeMap::new(),
            most_nudges: 0,
        }
    }

    /// Names of all queues.
    pub fn names(&self) -> Vec<String> {
        self.queues.keys().cloned().collect()
    }

    /// A queue refuses messages until then.
    pub fn fill(&mut self, queue: &str, until: Duration) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.full_until = until;
        }
    }

    /// A stranger's queue refuses events until then.
    pub fn fill_stranger(&mut self, until: Duration) {
        self.stranger_full_until = until;
    }

    /// Nothing is full any more.
    pub fn drain(&mut self) {
        self.stranger_full_until = Duration::ZERO;
        self.queues.values_mut().for_each(|queue| queue.full_until = Duration::ZERO);
    }

    /// Where a message to `exchange` would go now.
    pub fn route(&self, exchange: &str, key: &str, now: Duration) -> Route {
        let mut route = Route::default();
        for name in self.bound(exchange, key) {
            match self.queues.get(&name) {
                Some(queue) if queue.is_full(now) => route.is_refused = true,
                Some(_) => route.taking.push(name),
                None => {}
            }
        }
        let is_event = exchange == self.topology.names.events();
        route.is_refused |= is_event && now < self.stranger_full_until;
        route
    }

    fn bound(&self, exchange: &str, key: &str) -> Vec<String> {
        let Some(from) = self.topology.exchanges.iter().find(|e| e.name == exchange) else {
            return Vec::new();
        };
        let (mut heard, mut names) = (false, Vec::new());
        for binding in self.topology.bindings.iter().filter(|b| b.exchange == exchange) {
            if from.kind != ExchangeKind::Fanout && binding.routing_key != key {
                continue;
            }
            heard = true;
            match &binding.target {
                Target::Queue(name) => names.push(name.clone()),
                Target::Exchange(name) => names.extend(self.bound(name, key)),
            }
        }
        match &from.alternate {
            Some(alternate) if !heard => self.bound(alternate, key),
            _ => names,
        }
    }

    /// Stores a message in those queues.
    pub fn store(&mut self, queues: &[String], message: &Message, now: Duration) {
        for name in queues {
            let Some(queue) = self.queues.get_mut(name) else { continue };
            match queue.spec.ttl {
                Some(ttl) => queue.waiting.push_back((now + ttl, message.clone())),
                None => queue.ready.push_back(message.clone()),
            }
            let copies = queue.ready.iter().chain(queue.waiting.iter().map(|(_, m)| m));
            let copies = copies.filter(|other| other.id == message.id).count();
            let most = self.most_copies.entry((name.clone(), message.id.clone())).or_default();
            *most = (*most).max(copies);
            let nudges = queue.ready.iter().filter(|other| is_nudge(&other.id)).count();
            self.most_nudges = self.most_nudges.max(nudges);
        }
    }

    /// Most nudges of the sweeper that waited in one queue at the same time.
    pub fn most_nudges(&self) -> usize {
        self.most_nudges
    }

    /// Messages that waited more than `limit` times in one queue at the same time.
    pub fn floods(&self, limit: usize) -> Vec<(&(String, String), &usize)> {
        self.most_copies.iter().filter(|(_, copies)| **copies > limit).collect()
    }

    /// Somebody reads a queue; `false` when there is none of this name.
    pub fn add_consumer(&mut self, queue: &str, holder: Holder, prefetch: usize) -> bool {
        let Some(held) = self.queues.get_mut(queue) else { return false };
        held.consumers.insert(holder, Consumer { prefetch, delivered: VecDeque::new() });
        true
    }

    /// Nothing new is delivered to this consumer.
    pub fn cancel(&mut self, queue: &str, holder: Holder) {
        let held = self.queues.get_mut(queue);
        if let Some(consumer) = held.and_then(|held| held.consumers.get_mut(&holder)) {
            consumer.prefetch = 0;
        }
    }

    /// A consumer is gone. What it has not looked at goes back; what it has in hand it still settles.
    pub fn remove_consumer(&mut self, queue: &str, holder: Holder, now: Duration) {
        let Some(held) = self.queues.get_mut(queue) else { return };
        let Some(consumer) = held.consumers.remove(&holder) else { return };
        for tag in consumer.delivered.into_iter().rev() {
            if let Some(message) = self.settle(queue, tag) {
                self.put_back(queue, message, now);
            }
        }
    }

    /// Whether a consumer is still served.
    pub fn has_consumer(&self, queue: &str, holder: Holder) -> bool {
        self.queues.get(queue).is_some_and(|held| held.consumers.contains_key(&holder))
    }

    /// The consumer of a connection.
    pub fn consumer(&self, queue: &str, connection: u32) -> Option<Holder> {
        let mut holders = self.queues.get(queue)?.consumers.keys();
        holders.find(|holder| holder.connection == connection).copied()
    }

    /// Messages ready in a queue, and its consumers.
    pub fn status(&self, queue: &str) -> Option<(usize, usize)> {
        let held = self.queues.get(queue)?;
        Some((held.ready.len(), held.consumers.len()))
    }

    /// Delivers what is ready to consumers that have room, to any of them; whether there was any.
    pub fn dispatch(&mut self, queue: &str, dice: &mut Dice) -> bool {
        let Some(held) = self.queues.get_mut(queue) else { return false };
        let mut any = false;
        while !held.ready.is_empty() {
            let with_room = held.with_room();
            if with_room.is_empty() {
                break;
            }
            let holder = dice.pick(&with_room);
            let Some(message) = held.ready.pop_front() else { break };
            any = true;
            self.tags += 1;
            held.in_hand.insert(self.tags, InHand { message, holder });
            if let Some(consumer) = held.consumers.get_mut(&holder) {
                consumer.delivered.push_back(self.tags);
            }
        }
        any
    }

    /// The next message that was delivered to a consumer; its tag.
    pub fn take(&mut self, queue: &str, holder: Holder) -> Option<(u64, Message)> {
        let held = self.queues.get_mut(queue)?;
        let tag = held.consumers.get_mut(&holder)?.delivered.pop_front()?;
        Some((tag, held.in_hand.get(&tag)?.message.clone()))
    }

    /// Takes a delivered message out of its consumer's hand, if it still is there.
    pub fn settle(&mut self, queue: &str, tag: u64) -> Option<Message> {
        Some(self.queues.get_mut(queue)?.in_hand.remove(&tag)?.message)
    }

    /// Puts a message back that its consumer could not settle.
    pub fn put_back(&mut self, queue: &str, mut message: Message, now: Duration) {
        message.returned += 1;
        let Some(held) = self.queues.get_mut(queue) else { return };
        // Without a dead-letter route it would be lost.
        if message.returned > DELIVERY_LIMIT && held.spec.dead_letter.is_some() {
            self.dead_letter(queue, message, "delivery_limit", now);
        } else {
            held.ready.push_front(message);
        }
    }

    /// The session of these holders has ended: what they had in hand goes back.
    pub fn end(&mut self, is_over: impl Fn(&Holder) -> bool, now: Duration) {
        let mut back = Vec::new();
        for (name, queue) in &mut self.queues {
            let over = queue.in_hand.iter().filter(|(_, in_hand)| is_over(&in_hand.holder));
            let tags: Vec<u64> = over.map(|(tag, _)| *tag).collect();
            for tag in tags.into_iter().rev() {
                let in_hand = queue.in_hand.remove(&tag).expect("it was found there");
                back.push((name.clone(), in_hand.message));
            }
            queue.consumers.retain(|holder, _| !is_over(holder));
        }
        for (name, message) in back {
            self.put_back(&name, message, now);
        }
    }

    /// A dead letter is stored even in a full queue: it was accepted, and the broker repeats until it
    /// is taken.
    pub fn dead_letter(&mut self, from: &str, mut message: Message, why: &str, now: Duration) {
        let Some(queue) = self.queues.get(from) else { return };
        let Some(route) = queue.spec.dead_letter.clone() else { return };
        message.died = Some(Death { queue: from.to_owned(), reason: why.to_owned() });
        message.exchange.clone_from(&route.exchange);
        if let Some(key) = &route.routing_key {
            message.routing_key.clone_from(key);
        }
        message.returned = 0;
        let targets = self.bound(&message.exchange, &message.routing_key);
        self.store(&targets, &message, now);
    }

    /// Moves what has waited long enough; whether there was something.
    pub fn expire(&mut self, now: Duration) -> bool {
        let mut due = Vec::new();
        for (name, queue) in &mut self.queues {
            while queue.waiting.front().is_some_and(|(at, _)| *at <= now) {
                due.extend(queue.waiting.pop_front().map(|(_, message)| (name.clone(), message)));
            }
        }
        let any = !due.is_empty();
        for (name, message) in due {
            self.dead_letter(&name, message, "expired", now);
        }
        any
    }

    /// When the next message has waited long enough.
    pub fn next_due(&self) -> Option<Duration> {
        self.queues.values().filter_map(|queue| queue.waiting.front()).map(|(at, _)| *at).min()
    }

    /// Every message that is held somewhere, by queue: for the story.
    pub fn held(&self) -> Vec<(String, String)> {
        let mut held = Vec::new();
        for (name, queue) in &self.queues {
            let in_hand = queue.in_hand.values().map(|in_hand| &in_hand.message);
            let all = queue.ready.iter().chain(queue.waiting.iter().map(|(_, m)| m)).chain(in_hand);
            held.extend(all.map(|message| (name.clone(), message.id.clone())));
        }
        held
    }
}
