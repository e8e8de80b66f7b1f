//! One process's connection to the broker, behind the port that the workers use.
//!
//! It behaves as `adapters/amqp` does: a publish is repeated over all sessions until it is confirmed
//! or its caller gives up; a subscription ends with an error when its session does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::devtools::simulation::broker::model::{BrokerModel, Stored};
use crate::devtools::simulation::broker::queues::Holder;
use crate::devtools::simulation::traps::{Point, Traps};
use crate::domain::outbound_messages::Outgoing;
use crate::domain::topology::Topology;
use crate::ports::broker::{
    Broker, BrokerError, Delivery, PublishError, QueueStatus, Settle, Settler, Subscription,
};

/// Pause before a session is opened again.
const RECONNECT: Duration = Duration::from_millis(500);
/// Longest time on the wire, one way, in milliseconds.
const WIRE_MS: u64 = 15;

/// A connection.
#[derive(Clone)]
pub struct BrokerClient {
    model: Arc<BrokerModel>,
    /// Who is told in the story.
    name: String,
    connection: u32,
    /// The traps of the process, and its number.
    traps: Option<(Arc<Traps>, usize)>,
}

impl BrokerClient {
    /// The connection of `name`.
    pub fn new(model: Arc<BrokerModel>, name: &str, connection: u32) -> Self {
        Self { model, name: name.to_owned(), connection, traps: None }
    }

    /// The same with the traps of a process.
    #[must_use]
    pub fn with_traps(self, traps: Arc<Traps>, process: usize) -> Self {
        Self { traps: Some((traps, process)), ..self }
    }

    /// Until then, looking again whenever somebody healed it.
    async fn wait_until(&self, until: impl Fn() -> Duration) {
        loop {
            let change = self.model.change();
            let left = until().saturating_sub(self.model.story.now());
            if left.is_zero() {
                return;
            }
            tokio::select! { biased; () = tokio::time::sleep(left) => {}, () = change => {} }
        }
    }

    async fn wire(&self) {
        let takes = self.model.latency(WIRE_MS);
        tokio::time::sleep(takes).await;
    }

    /// Publishes until there is an answer.
    async fn publish_until_answered(&self, message: &Outgoing) -> Result<(), PublishError> {
        loop {
            self.wait_until(|| self.model.blocked_until()).await;
            let session = self.model.epoch(self.connection);
            self.wire().await;
            if self.model.epoch(self.connection) != session {
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
            let stored = self.model.accept(&self.name, message);
            if stored == Stored::Nowhere {
                let (exchange, routing_key) =
                    (message.exchange.clone(), message.routing_key.clone());
                return Err(PublishError::Unroutable { exchange, routing_key });
            }
            if let Some((traps, process)) = &self.traps {
                traps.step_on(*process, Point::Published).await;
            }
            self.wait_until(|| self.model.undecided_until()).await;
            self.wire().await;
            if self.model.epoch(self.connection) != session || stored == Stored::Unconfirmed {
                // The confirm is lost with its session: published again, so that it is there twice.
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
            return match stored {
                Stored::Refused => Err(PublishError::Refused),
                _ => Ok(()),
            };
        }
    }
}

#[async_trait]
impl Broker for BrokerClient {
    fn topology(&self) -> &Topology {
        &self.model.topology
    }

    async fn publish(&self, message: Outgoing, patience: Duration) -> Result<(), PublishError> {
        let answer = self.publish_until_answered(&message);
        tokio::time::timeout(patience, answer)
            .await
            .unwrap_or_else(|_| Err(PublishError::Unavailable("no confirm in time".to_owned())))
    }

    async fn subscribe(
        &self,
        queue: &str,
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BrokerError> {
        self.wire().await;
        if self.model.story.now() < self.model.away_until() {
            return Err(BrokerError("connection refused".to_owned()));
        }
        let holder = self.model.subscribe(self.connection, queue, usize::from(prefetch.max(1)));
        let holder = holder.ok_or_else(|| BrokerError(format!("there is no queue {queue}")))?;
        Ok(Box::new(ModelSubscription {
            client: self.clone(),
            queue: queue.to_owned(),
            holder,
            is_cancelled: false,
        }))
    }

    async fn queue_status(&self, queue: &str) -> Result<QueueStatus, BrokerError> {
        self.wire().await;
        if self.model.story.now() < self.model.away_until() {
            return Err(BrokerError("connection refused".to_owned()));
        }
        let status = self.model.status(queue);
        let (ready, consumers) =
            status.ok_or_else(|| BrokerError(format!("there is no queue {queue}")))?;
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(QueueStatus { ready: number(ready), consumers: number(consumers) })
    }

    fn obstacle(&self) -> Option<String> {
        let is_away = self.model.story.now() < self.model.away_until();
        is_away.then(|| "connection refused".to_owned())
    }

    fn is_durable(&self) -> bool {
        true
    }
}

struct ModelSubscription {
    client: BrokerClient,
    queue: String,
    holder: Holder,
    is_cancelled: bool,
}

#[async_trait]
impl Subscription for ModelSubscription {
    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        let model = &self.client.model;
        loop {
            let change = model.change();
            if !model.is_served(&self.queue, self.holder) {
                return Err(BrokerError("the session has ended".to_owned()));
            }
            if let Some((tag, message)) = model.take(&self.queue, self.holder) {
                let settler = ModelSettler {
                    client: self.client.clone(),
                    queue: self.queue.clone(),
                    holder: self.holder,
                    tag,
                };
                return Ok(Some(Delivery {
                    exchange: message.exchange,
                    routing_key: message.routing_key,
                    headers: message.headers,
                    body: message.body,
                    redelivered: message.returned > 0,
                    died: message.died,
                    settler: Arc::new(settler),
                }));
            }
            if self.is_cancelled {
                return Ok(None);
            }
            let undecided = model.undecided_until().saturating_sub(model.story.now());
            if undecided.is_zero() {
                change.await;
            } else {
                tokio::select! { biased; () = tokio::time::sleep(undecided) => {}, () = change => {} }
            }
        }
    }

    async fn cancel(&mut self) -> Result<(), BrokerError> {
        self.is_cancelled = true;
        self.client.model.cancel(&self.queue, self.holder);
        Ok(())
    }
}

impl Drop for ModelSubscription {
    fn drop(&mut self) {
        self.client.model.unsubscribe(&self.queue, self.holder);
    }
}

struct ModelSettler {
    client: BrokerClient,
    queue: String,
    holder: Holder,
    tag: u64,
}

#[async_trait]
impl Settler for ModelSettler {
    async fn settle(&self, how: Settle) {
        let (model, queue) = (&self.client.model, &self.queue);
        self.client.wait_until(|| model.undecided_until()).await;
        self.client.wire().await;
        if model.epoch(self.holder.connection) != self.holder.epoch {
            return;
        }
        model.settle(|queues, now| {
            // Gone when its consumer was cancelled: the message went back then.
            let Some(message) = queues.settle(queue, self.tag) else { return };
            match how {
                Settle::Ack => {}
                Settle::Requeue => queues.put_back(queue, message, now),
                Settle::Reject => queues.dead_letter(queue, message, "rejected", now),
            }
        });
    }
}
