//! RabbitMQ as the transport: two connections per process, one to publish and one to read.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::domain::outbound_messages::Outgoing;
use crate::domain::topology::Topology;
use crate::ports::broker::{Broker, BrokerError, PublishError, QueueStatus, Subscription};
use crate::ports::clock::Stopwatch;

use super::connection::Address;
use super::consumer::Consumers;
use super::publisher::{Link, Publisher};
use super::topology::ensure;

/// What is missing on the broker is made again at most once in this time.
const BETWEEN: Duration = Duration::from_secs(2);

pub struct AmqpBroker {
    address: Address,
    topology: Topology,
    /// Since the topology was last made again.
    made: Mutex<Option<Stopwatch>>,
    publisher: Publisher,
    consumers: Consumers,
}

impl AmqpBroker {
    /// The broker at `address`, and the publishing task, which the caller lets run under a
    /// supervisor. Connects and reconnects automatically.
    pub fn new(
        address: Address,
        topology: Topology,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (publisher, task) = Publisher::new(address.apart());
        let consumers = Consumers::new(address.apart());
        (Self { address, topology, made: Mutex::default(), publisher, consumers }, task)
    }

    /// Somebody deleted an exchange or a queue: it is made again, or the error says who can.
    async fn make_again(&self, missing: &str) -> Result<(), BrokerError> {
        let mut made = self.made.lock().await;
        if made.as_ref().is_some_and(|made| made.elapsed() < BETWEEN) {
            return Ok(());
        }
        *made = Some(Stopwatch::start());
        ensure(&self.address, &self.topology).await?;
        tracing::warn!(missing, "broker.topology_made_again");
        Ok(())
    }
}

fn is_missing(error: &str) -> bool {
    error.contains("NOT_FOUND") || error.contains("NOT-FOUND")
}

#[async_trait]
impl Broker for AmqpBroker {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    async fn publish(&self, message: Outgoing, patience: Duration) -> Result<(), PublishError> {
        let published = self.publisher.publish(message, patience).await;
        if let Err(error) = &published
            && (matches!(error, PublishError::Unroutable { .. }) || is_missing(&error.to_string()))
            && let Err(error) = self.make_again(&error.to_string()).await
        {
            tracing::error!(%error, "broker.topology_missing");
        }
        published
    }

    async fn subscribe(
        &self,
        queue: &str,
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BrokerError> {
        let subscription = match self.consumers.subscribe(queue, prefetch).await {
            Err(error) if is_missing(&error.0) => {
                self.make_again(&error.0).await?;
                self.consumers.subscribe(queue, prefetch).await?
            }
            subscribed => subscribed?,
        };
        Ok(Box::new(subscription))
    }

    async fn queue_status(&self, queue: &str) -> Result<QueueStatus, BrokerError> {
        self.consumers.queue_status(queue).await
    }

    async fn offer(&self, message: Outgoing) {
        self.publisher.offer(message).await;
    }

    fn obstacle(&self) -> Option<String> {
        let text = match self.publisher.link() {
            Link::Ready | Link::Blocked if self.consumers.is_connected() => return None,
            Link::Silent => {
                "the broker confirms no messages: has a queue lost its majority? \
                 `rabbitmqctl cluster_status` and `rabbitmq-queues check_if_node_is_quorum_critical` tell"
            }
            Link::Away | Link::Ready | Link::Blocked => "the broker cannot be reached",
        };
        Some(text.to_owned())
    }

    fn is_durable(&self) -> bool {
        true
    }
}
