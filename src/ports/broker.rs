//! The transport: confirmed publishing, subscriptions, and settling what was delivered.
//!
//! Two adapters keep these promises (tests/it/broker_contract.rs): what `publish` answered `Ok` for
//! is delivered at least once; a delivery that is not settled is delivered again; a rejected one
//! goes to the queue's dead-letter route; a retry returns after its delay. Messages may arrive
//! twice, late and out of order.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::outbound_messages::Outgoing;
use crate::domain::topology::Topology;
use crate::domain::trace::Headers;

/// A message that was delivered and has to be settled.
#[derive(Clone)]
pub struct Delivery {
    /// The exchange of its last routing.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its text headers.
    pub headers: Headers,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Where and why it was dead-lettered, if it was.
    pub died: Option<Death>,
    /// Settles it.
    pub settler: Arc<dyn Settler>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("bytes", &self.body.len())
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// Why the broker dead-lettered a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The queue it died in.
    pub queue: String,
    /// The broker's reason: `rejected`, `expired`, `delivery_limit`, `maxlen`.
    pub reason: String,
}

/// What to do with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// Every effect is durable: remove it.
    Ack,
    /// Deliver it again.
    Requeue,
    /// Send it to the dead-letter route of its queue.
    Reject,
}

/// Settles one delivery, once. If a settlement is lost with its session, the message is delivered
/// again.
#[async_trait]
pub trait Settler: Send + Sync {
    /// Returns when the settlement was written or can have no effect any more.
    async fn settle(&self, how: Settle);
}

#[async_trait]
pub trait Subscription: Send {
    /// The next delivery; an error ends the subscription, and `Ok(None)` does after a `cancel`.
    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError>;
    /// Requests no more deliveries; `next` still returns those that were already delivered.
    async fn cancel(&mut self) -> Result<(), BrokerError>;
}

#[async_trait]
pub trait Broker: Send + Sync {
    /// Exchanges and queues it works on.
    fn topology(&self) -> &Topology;
    /// Publishes and waits for the confirm, repeating it for at most `patience`.
    async fn publish(&self, message: Outgoing, patience: Duration) -> Result<(), PublishError>;
    /// Starts to consume a queue with at most `prefetch` unsettled deliveries.
    async fn subscribe(
        &self,
        queue: &str,
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BrokerError>;
    /// The contents of a queue now; an error soon if the broker cannot be reached.
    async fn queue_status(&self, queue: &str) -> Result<QueueStatus, BrokerError>;
    /// Publishes what may get lost, and waits for nothing.
    async fn offer(&self, message: Outgoing) {
        // Where publishing takes no time.
        drop(self.publish(message, Duration::from_secs(1)).await);
    }
    /// Why it cannot be used now.
    fn obstacle(&self) -> Option<String>;
    /// Whether messages survive a restart: if not, the sweeper publishes everything again at start.
    fn is_durable(&self) -> bool;
}

/// The contents of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatus {
    /// Messages ready to be delivered.
    pub ready: u32,
    /// Its consumers.
    pub consumers: u32,
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue accepts it: something is missing in the topology.
    #[error("no queue accepts messages for {exchange} / {routing_key}")]
    Unroutable { exchange: String, routing_key: String },
    /// A queue is full, or the broker would not store it.
    #[error("the broker refused the message: a queue is full")]
    Refused,
    /// The broker cannot be reached; it may have the message or not.
    #[error("the broker cannot be reached: {0}")]
    Unavailable(String),
}

/// What went wrong with the broker, in one sentence with the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BrokerError(pub String);
