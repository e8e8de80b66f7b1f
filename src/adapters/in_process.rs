//! The transport within one process: for the embedded default, the demo and one-shot commands.
//!
//! Routes by the same [`Topology`] as RabbitMQ and keeps the same promises while the process runs.
//! Every queue is bounded: a full one refuses. It is not durable and need not be: after a restart
//! the sweeper publishes everything again from the ledger.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::domain::outbound_messages::{Audience, Outgoing};
use crate::domain::topology::{ExchangeKind, Queue, Target, Topology};
use crate::ports::broker::{
    Broker, BrokerError, Death, Delivery, PublishError, QueueStatus, Settle, Settler, Subscription,
};
use crate::ports::clock::Stopwatch;

/// Messages one queue holds at most.
pub const QUEUE_LIMIT: usize = 10_000;
/// Number of deliveries before a message is dead-lettered, as in RabbitMQ 4.
const DELIVERY_LIMIT: u32 = 20;

/// The in-process transport.
pub struct InProcessBroker {
    topology: Topology,
    started: Stopwatch,
    queues: HashMap<String, Arc<LocalQueue>>,
}

struct LocalQueue {
    queue: Queue,
    state: Mutex<QueueState>,
    arrived: Notify,
}

#[derive(Default)]
struct QueueState {
    ready: VecDeque<Message>,
    /// By due time, measured since the start of the broker.
    delayed: BTreeMap<(Duration, u64), Message>,
    sequence: u64,
    unsettled: usize,
    consumers: u32,
}

#[derive(Clone)]
struct Message {
    exchange: String,
    routing_key: String,
    headers: crate::domain::trace::Headers,
    body: Vec<u8>,
    deliveries: u32,
    died: Option<Death>,
}

impl LocalQueue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn is_full(&self) -> bool {
        self.ready.len() + self.delayed.len() + self.unsettled >= QUEUE_LIMIT
    }
}

impl InProcessBroker {
    /// Queues and routes of `topology`, empty.
    pub fn new(topology: Topology) -> Arc<Self> {
        let queues = topology.queues.iter().map(|queue| {
            let local = LocalQueue {
                queue: queue.clone(),
                state: Mutex::default(),
                arrived: Notify::new(),
            };
            (queue.name.clone(), Arc::new(local))
        });
        Arc::new(Self { queues: queues.collect(), started: Stopwatch::start(), topology })
    }

    /// Moves expired retries back to the submit queue; runs as long as the process.
    pub async fn run_delays(self: Arc<Self>) {
        loop {
            let now = self.started.elapsed();
            let mut next = Duration::from_millis(100);
            for local in self.queues.values().filter(|local| local.queue.ttl.is_some()) {
                for message in take_due(local, now) {
                    self.dead_letter(local, message, "expired");
                }
                if let Some(((due, _), _)) = local.state().delayed.first_key_value() {
                    next = next.min(due.saturating_sub(now));
                }
            }
            tokio::time::sleep(next.max(Duration::from_millis(1))).await;
        }
    }

    /// The queues that a message goes to.
    fn route(&self, exchange: &str, key: &str) -> Vec<Arc<LocalQueue>> {
        let Some(from) = self.topology.exchanges.iter().find(|e| e.name == exchange) else {
            return Vec::new();
        };
        let mut heard = false;
        let mut queues = Vec::new();
        for binding in self.topology.bindings.iter().filter(|b| b.exchange == exchange) {
            if from.kind != ExchangeKind::Fanout && binding.routing_key != key {
                continue;
            }
            heard = true;
            match &binding.target {
                Target::Queue(name) => queues.extend(self.queues.get(name).cloned()),
                Target::Exchange(name) => queues.extend(self.route(name, key)),
            }
        }
        match &from.alternate {
            Some(alternate) if !heard => self.route(alternate, key),
            _ => queues,
        }
    }

    /// A dead letter is stored even in a full queue: it was accepted and must not get lost.
    fn dead_letter(&self, from: &LocalQueue, mut message: Message, reason: &str) {
        let Some(route) = &from.queue.dead_letter else { return };
        message.died = Some(Death { queue: from.queue.name.clone(), reason: reason.to_owned() });
        message.exchange.clone_from(&route.exchange);
        if let Some(key) = &route.routing_key {
            message.routing_key.clone_from(key);
        }
        message.deliveries = 0;
        for queue in self.route(&message.exchange, &message.routing_key) {
            queue.state().ready.push_back(message.clone());
            queue.arrived.notify_one();
        }
    }
}

fn take_due(local: &LocalQueue, now: Duration) -> Vec<Message> {
    let mut state = local.state();
    let later = state.delayed.split_off(&(now, u64::MAX));
    std::mem::replace(&mut state.delayed, later).into_values().collect()
}

/// The shared handle under which the broker is used.
#[derive(Clone)]
pub struct InProcess(pub Arc<InProcessBroker>);

#[async_trait]
impl Broker for InProcess {
    fn topology(&self) -> &Topology {
        &self.0.topology
    }

    async fn publish(&self, message: Outgoing, _patience: Duration) -> Result<(), PublishError> {
        let queues = self.0.route(&message.exchange, &message.routing_key);
        if queues.is_empty() && message.audience == Audience::Required {
            let Outgoing { exchange, routing_key, .. } = message;
            return Err(PublishError::Unroutable { exchange, routing_key });
        }
        if queues.iter().any(|queue| queue.state().is_full()) {
            return Err(PublishError::Refused);
        }
        let message = Message {
            exchange: message.exchange,
            routing_key: message.routing_key,
            headers: message.headers,
            body: message.body,
            deliveries: 0,
            died: None,
        };
        for local in queues {
            let mut state = local.state();
            match local.queue.ttl {
                Some(ttl) => {
                    state.sequence += 1;
                    let due = (self.0.started.elapsed() + ttl, state.sequence);
                    state.delayed.insert(due, message.clone());
                }
                None => state.ready.push_back(message.clone()),
            }
            drop(state);
            local.arrived.notify_one();
        }
        Ok(())
    }

    async fn subscribe(
        &self,
        queue: &str,
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BrokerError> {
        let missing = || BrokerError(format!("there is no queue {queue}"));
        let local = self.0.queues.get(queue).ok_or_else(missing)?.clone();
        local.state().consumers += 1;
        let hand = Arc::new(Hand { unsettled: Mutex::default(), settled: Notify::new() });
        Ok(Box::new(LocalSubscription {
            broker: self.0.clone(),
            local,
            hand,
            prefetch: usize::from(prefetch.max(1)),
            cancelled: false,
        }))
    }

    async fn queue_status(&self, queue: &str) -> Result<QueueStatus, BrokerError> {
        let missing = || BrokerError(format!("there is no queue {queue}"));
        let state = self.0.queues.get(queue).ok_or_else(missing)?.state();
        let ready = u32::try_from(state.ready.len()).unwrap_or(u32::MAX);
        Ok(QueueStatus { ready, consumers: state.consumers })
    }

    fn obstacle(&self) -> Option<String> {
        None
    }

    fn is_durable(&self) -> bool {
        false
    }
}

struct LocalSubscription {
    broker: Arc<InProcessBroker>,
    local: Arc<LocalQueue>,
    hand: Arc<Hand>,
    prefetch: usize,
    cancelled: bool,
}

/// What a subscription has handed out and was not settled.
struct Hand {
    unsettled: Mutex<HashMap<u64, Message>>,
    settled: Notify,
}

impl Hand {
    fn unsettled(&self) -> MutexGuard<'_, HashMap<u64, Message>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        loop {
            if self.cancelled {
                return Ok(None);
            }
            let arrived = self.local.arrived.notified();
            let settled = self.hand.settled.notified();
            let has_room = self.hand.unsettled().len() < self.prefetch;
            if has_room && let Some(delivery) = self.take() {
                return Ok(Some(delivery));
            }
            // An arrival wakes one consumer: one without room leaves it to the others.
            tokio::select! { () = arrived, if has_room => {}, () = settled => {} }
        }
    }

    async fn cancel(&mut self) -> Result<(), BrokerError> {
        self.cancelled = true;
        Ok(())
    }
}

impl LocalSubscription {
    fn take(&self) -> Option<Delivery> {
        let mut state = self.local.state();
        let mut message = state.ready.pop_front()?;
        state.unsettled += 1;
        state.sequence += 1;
        let tag = state.sequence;
        let more = !state.ready.is_empty();
        drop(state);
        if more {
            // A permit of `notify_one` wakes one reader only; the next one has work too.
            self.local.arrived.notify_one();
        }
        message.deliveries += 1;
        let delivery = Delivery {
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            headers: message.headers.clone(),
            body: message.body.clone(),
            redelivered: message.deliveries > 1,
            died: message.died.clone(),
            settler: Arc::new(LocalSettler {
                broker: self.broker.clone(),
                local: self.local.clone(),
                hand: self.hand.clone(),
                tag,
            }),
        };
        self.hand.unsettled().insert(tag, message);
        Some(delivery)
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        self.local.state().consumers -= 1;
    }
}

/// Settles one delivery; dropped unsettled, the message goes back.
struct LocalSettler {
    broker: Arc<InProcessBroker>,
    local: Arc<LocalQueue>,
    hand: Arc<Hand>,
    tag: u64,
}

impl LocalSettler {
    fn settle_now(&self, how: Settle) {
        let Some(message) = self.hand.unsettled().remove(&self.tag) else { return };
        self.local.state().unsettled -= 1;
        match how {
            Settle::Ack => {}
            Settle::Reject => self.broker.dead_letter(&self.local, message, "rejected"),
            // Without a dead-letter route it would be lost.
            Settle::Requeue
                if message.deliveries >= DELIVERY_LIMIT
                    && self.local.queue.dead_letter.is_some() =>
            {
                self.broker.dead_letter(&self.local, message, "delivery_limit");
            }
            Settle::Requeue => {
                self.local.state().ready.push_front(message);
                self.local.arrived.notify_one();
            }
        }
        self.hand.settled.notify_one();
    }
}

#[async_trait]
impl Settler for LocalSettler {
    async fn settle(&self, how: Settle) {
        self.settle_now(how);
    }
}

impl Drop for LocalSettler {
    fn drop(&mut self) {
        self.settle_now(Settle::Requeue);
    }
}
