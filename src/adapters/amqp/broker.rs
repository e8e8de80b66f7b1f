//! RabbitMQ as the transport: two connections per process, one to publish and one to read.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::outbound_messages::Outgoing;
use crate::domain::topology::Topology;
use crate::ports::broker::{Broker, BrokerError, PublishError, QueueStatus, Subscription};

use super::connection::Address;
use super::consumer::Consumers;
use super::publisher::{Link, Publisher};

pub struct AmqpBroker {
    topology: Topology,
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
        (Self { topology, publisher, consumers: Consumers::new(address) }, task)
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    async fn publish(&self, message: Outgoing, patience: Duration) -> Result<(), PublishError> {
        self.publisher.publish(message, patience).await
    }

    async fn subscribe(
        &self,
        queue: &str,
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BrokerError> {
        Ok(Box::new(self.consumers.subscribe(queue, prefetch).await?))
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
