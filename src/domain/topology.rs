//! The exchanges, queues and bindings of docs/broker.md, as data.
//!
//! The AMQP adapter declares and checks them, the in-process adapter routes by them, `topology
//! show` prints them. What safety needs is set by arguments here; what operators tune belongs in
//! policies.

use std::time::Duration;

use super::message::EventKind;

/// Routing key of an order from checkout.
pub const ORDER_PLACED: &str = "order.placed";
/// Routing key of a failed attempt.
pub const ORDER_FAILED: &str = "order.failed";
/// Routing key from the redrive exchange to the submit queue.
pub const SUBMIT: &str = "submit";
/// Routing key from the exchange of failures to the notifier's queue.
pub const NOTICE: &str = "notice.waiting";

/// Names on the broker; everything starts with `amqp.prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names under `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    fn with(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// Exchange that checkout publishes to.
    pub fn orders(&self) -> String {
        self.prefix.clone()
    }
    /// Queue of the submitter.
    pub fn submit(&self) -> String {
        self.with("submit")
    }
    /// Exchange of failures and of nudges to the notifier: only we bind to it, so that no stranger's full queue
    /// refuses what we depend on.
    pub fn failures(&self) -> String {
        self.with("failures")
    }
    /// Exchange of events for others.
    pub fn events(&self) -> String {
        self.with("events")
    }
    /// Exchange without queues: an event without a consumer ends here instead of counting as
    /// unrouted (an exchange-to-exchange binding keeps the alternate exchange out of it).
    pub fn unheard(&self) -> String {
        self.with("events.unheard")
    }
    /// Queue of the error handler.
    pub fn failed(&self) -> String {
        self.with("failed")
    }
    /// Queue of the notifier.
    pub fn notify(&self) -> String {
        self.with("notify")
    }
    /// Exchange of retries, by delay.
    pub fn retry(&self) -> String {
        self.with("retry")
    }
    /// Queue in which a retry waits for `delay`.
    pub fn retry_queue(&self, delay: Duration) -> String {
        self.with(&format!("retry.{}", delay.as_millis()))
    }
    /// Exchange that routes retries back to the submit queue.
    pub fn redrive(&self) -> String {
        self.with("redrive")
    }
    /// Exchange and queue of messages that no consumer could settle.
    pub fn dead(&self) -> String {
        self.with("dead")
    }
    /// Exchange and queue of messages that matched no queue.
    pub fn unrouted(&self) -> String {
        self.with("unrouted")
    }
}

/// Everything that must exist on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub names: Names,
    /// In an order in which they can be declared.
    pub exchanges: Vec<ExchangeSpec>,
    /// All durable quorum queues with `x-overflow=reject-publish`.
    pub queues: Vec<Queue>,
    /// From exchanges to queues and to exchanges.
    pub bindings: Vec<Binding>,
    /// Bindings of earlier releases. `topology declare` removes them; a starting worker leaves them, because
    /// one of the earlier release may still publish through them.
    pub retired: Vec<Binding>,
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeSpec {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ExchangeKind,
    /// Where messages go that match no queue.
    pub alternate: Option<String>,
}

/// Types of exchanges in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By pattern of the routing key.
    Topic,
    /// By equal routing key.
    Direct,
    /// To everything bound.
    Fanout,
}

crate::names!(ExchangeKind {
    Topic = "topic",
    Direct = "direct",
    Fanout = "fanout",
});

/// A durable quorum queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    /// How long a message waits in it before it is dead-lettered.
    pub ttl: Option<Duration>,
    /// Where rejected or expired messages go, at least once.
    pub dead_letter: Option<DeadLetterRoute>,
}

/// Where a queue sends its dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRoute {
    pub exchange: String,
    /// The key, when it is not the message's own.
    pub routing_key: Option<String>,
}

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// From this exchange,
    pub exchange: String,
    /// by this key,
    pub routing_key: String,
    /// to this.
    pub target: Target,
}

/// The destination of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Queue(String),
    /// Another exchange.
    Exchange(String),
}

impl Topology {
    /// The topology for these names and all delays that any shop's schedule uses.
    pub fn new(names: Names, delays: &[Duration]) -> Self {
        let mut delays = delays.to_vec();
        delays.sort_unstable();
        delays.dedup();
        let unrouted = Some(names.unrouted());
        let exchange = |name, kind, alternate| ExchangeSpec { name, kind, alternate };
        let exchanges = vec![
            exchange(names.unrouted(), ExchangeKind::Fanout, None),
            exchange(names.dead(), ExchangeKind::Fanout, None),
            exchange(names.unheard(), ExchangeKind::Fanout, None),
            exchange(names.orders(), ExchangeKind::Topic, unrouted.clone()),
            exchange(names.events(), ExchangeKind::Topic, unrouted.clone()),
            exchange(names.failures(), ExchangeKind::Direct, unrouted),
            exchange(names.retry(), ExchangeKind::Direct, None),
            exchange(names.redrive(), ExchangeKind::Direct, None),
        ];
        let mut queues = vec![
            Queue { name: names.unrouted(), ttl: None, dead_letter: None },
            Queue { name: names.dead(), ttl: None, dead_letter: None },
        ];
        for name in [names.submit(), names.failed(), names.notify()] {
            let route = DeadLetterRoute { exchange: names.dead(), routing_key: None };
            queues.push(Queue { name, ttl: None, dead_letter: Some(route) });
        }
        for delay in &delays {
            let route =
                DeadLetterRoute { exchange: names.redrive(), routing_key: Some(SUBMIT.into()) };
            let name = names.retry_queue(*delay);
            queues.push(Queue { name, ttl: Some(*delay), dead_letter: Some(route) });
        }
        let bindings = bindings(&names, &delays);
        let retired = retired(&names);
        Self { names, exchanges, queues, bindings, retired }
    }

    /// The shortest delay queue that waits at least `delay`; `None` when it exceeds them all, and
    /// the sweeper has to publish the order instead.
    pub fn delay_step(&self, delay: Duration) -> Option<Duration> {
        self.queues.iter().filter_map(|queue| queue.ttl).filter(|ttl| *ttl >= delay).min()
    }
}

fn to_queue(exchange: String, key: &str, queue: String) -> Binding {
    Binding { exchange, routing_key: key.to_owned(), target: Target::Queue(queue) }
}

/// Failures and nudges came through the exchange of events, where everybody may bind.
fn retired(names: &Names) -> Vec<Binding> {
    vec![
        to_queue(names.events(), ORDER_FAILED, names.failed()),
        to_queue(names.events(), NOTICE, names.notify()),
    ]
}

fn bindings(names: &Names, delays: &[Duration]) -> Vec<Binding> {
    let mut bindings = vec![
        to_queue(names.unrouted(), "", names.unrouted()),
        to_queue(names.dead(), "", names.dead()),
        to_queue(names.orders(), ORDER_PLACED, names.submit()),
        to_queue(names.redrive(), SUBMIT, names.submit()),
        to_queue(names.failures(), ORDER_FAILED, names.failed()),
        to_queue(names.failures(), NOTICE, names.notify()),
    ];
    let event_keys = EventKind::ALL.map(EventKind::routing_key).into_iter().chain([ORDER_FAILED]);
    bindings.extend(event_keys.map(|key| Binding {
        exchange: names.events(),
        routing_key: key.to_owned(),
        target: Target::Exchange(names.unheard()),
    }));
    for delay in delays {
        let key = delay.as_millis().to_string();
        bindings.push(to_queue(names.retry(), &key, names.retry_queue(*delay)));
    }
    bindings
}
