//! Reading queues: one connection per process, one channel per subscription.
//!
//! Any error discards the whole session; every subscription of it ends, and the next `subscribe`
//! builds a new one. A stream that ends without an error is also a loss: the queue was deleted or
//! the broker cancelled the consumer, and nothing else reports that (docs/facts/rabbitmq.md 4).

use crate::adapters::amqp::session::Session;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use tokio_util::sync::CancellationToken;

use crate::domain::trace::Headers;
use crate::ports::broker::{BrokerError, Death, Delivery, QueueStatus, Subscription};

use super::acks::Acks;
use super::connection::{Address, close, in_time, open_channel};

/// How long to wait for a session that somebody else is making, and for one of our own, where the answer is only shown.
const LOOK_PATIENCE: Duration = Duration::from_millis(200);
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// The consuming side of a process.
pub struct Consumers {
    address: Address,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
}

impl Consumers {
    /// Connects when it is used.
    pub fn new(address: Address) -> Self {
        Self { address, session: tokio::sync::Mutex::default() }
    }

    /// The session, built again if necessary, however long that takes.
    async fn session(&self) -> Arc<Session> {
        let mut current = self.session.lock().await;
        if let Some(session) = good(&current).await {
            return session;
        }
        keep(&mut current, self.address.connect_again("consumer").await)
    }

    /// The session, if there is one or can be one soon.
    async fn session_now(&self) -> Result<Arc<Session>, BrokerError> {
        let away = || BrokerError("RabbitMQ cannot be reached now (amqp.url)".to_owned());
        // Whoever holds it for longer is connecting.
        let current = tokio::time::timeout(LOOK_PATIENCE, self.session.lock()).await;
        let mut current = current.map_err(|_| away())?;
        if let Some(session) = good(&current).await {
            return Ok(session);
        }
        let connecting = self.address.connect("consumer");
        let connection = tokio::time::timeout(CONNECT_PATIENCE, connecting).await;
        Ok(keep(&mut current, connection.map_err(|_| away())??))
    }

    /// Whether the consuming connection is open. A process without consumers has none.
    pub fn is_connected(&self) -> bool {
        match self.session.try_lock() {
            Ok(current) => current.as_ref().is_some_and(|session| session.is_good()),
            Err(_) => false,
        }
    }

    /// Begins to read `queue`.
    pub async fn subscribe(
        &self,
        queue: &str,
        prefetch: u16,
    ) -> Result<AmqpSubscription, BrokerError> {
        let session = self.session().await;
        match subscribe(&session, queue, prefetch).await {
            Ok(subscription) => Ok(subscription),
            // Only the channel is gone. Discarding the session would take the messages in progress
            // from all other consumers whenever a missing queue is requested.
            Err(error) if error.0.contains("NOT_FOUND") => Err(error),
            Err(error) => {
                session.lose(&error.0);
                Err(error)
            }
        }
    }

    /// The contents of `queue`.
    pub async fn queue_status(&self, queue: &str) -> Result<QueueStatus, BrokerError> {
        let session = self.session_now().await?;
        // A channel of its own: the broker closes it when the queue does not exist.
        let channel = open_channel(&session.connection).await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let declare = channel.queue_declare(queue.into(), passive, FieldTable::default());
        let state = in_time(&format!("looking at queue {queue}"), declare).await?;
        Ok(QueueStatus { ready: state.message_count(), consumers: state.consumer_count() })
    }
}

/// The session if it can be used; one that cannot is closed.
async fn good(current: &Option<Arc<Session>>) -> Option<Arc<Session>> {
    let session = current.as_ref()?;
    if session.is_good() {
        return Some(session.clone());
    }
    close(&session.connection).await;
    None
}

fn keep(current: &mut Option<Arc<Session>>, connection: Connection) -> Arc<Session> {
    let session = Arc::new(Session { connection, lost: CancellationToken::new() });
    current.insert(session).clone()
}

async fn subscribe(
    session: &Arc<Session>,
    queue: &str,
    prefetch: u16,
) -> Result<AmqpSubscription, BrokerError> {
    let channel = open_channel(&session.connection).await?;
    in_time("setting the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default()))
        .await?;
    let consume = channel.basic_consume(
        queue.into(),
        ShortString::default(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let consumer = in_time(&format!("reading queue {queue}"), consume).await?;
    let acks = Acks::new(session.clone(), channel.clone());
    let queue = queue.to_owned();
    Ok(AmqpSubscription {
        session: session.clone(),
        channel,
        consumer,
        acks,
        queue,
        cancelled: false,
    })
}

pub struct AmqpSubscription {
    session: Arc<Session>,
    channel: Channel,
    consumer: Consumer,
    acks: Arc<Acks>,
    queue: String,
    cancelled: bool,
}

#[async_trait]
impl Subscription for AmqpSubscription {
    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => {
                let settler = self.acks.open(delivery.delivery_tag, delivery.acker);
                let table = delivery.properties.headers().as_ref();
                Ok(Some(Delivery {
                    exchange: delivery.exchange.to_string(),
                    routing_key: delivery.routing_key.to_string(),
                    headers: table.map(text_headers).unwrap_or_default(),
                    body: delivery.data,
                    redelivered: delivery.redelivered,
                    died: table.and_then(newest_death),
                    settler,
                }))
            }
            None if self.cancelled => Ok(None),
            None => Err(self.end("the broker ended the subscription: was the queue deleted?")),
            Some(Err(error)) => Err(self.end(&error.to_string())),
        }
    }

    async fn cancel(&mut self) -> Result<(), BrokerError> {
        self.cancelled = true;
        let tag = self.consumer.tag();
        let cancel = self.channel.basic_cancel(tag, BasicCancelOptions::default());
        in_time(&format!("ending the subscription of {}", self.queue), cancel)
            .await
            .inspect_err(|error| self.session.lose(&error.0))
    }
}

impl AmqpSubscription {
    fn end(&self, why: &str) -> BrokerError {
        self.session.lose(why);
        BrokerError(format!("queue {}: {why}", self.queue))
    }
}

/// The headers that are text or numbers; all else is the broker's own bookkeeping.
fn text_headers(table: &FieldTable) -> Headers {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::Boolean(flag) => Some(flag.to_string()),
        AMQPValue::ShortInt(n) => Some(n.to_string()),
        AMQPValue::LongInt(n) => Some(n.to_string()),
        AMQPValue::LongLongInt(n) => Some(n.to_string()),
        AMQPValue::LongUInt(n) => Some(n.to_string()),
        _ => None,
    };
    table
        .inner()
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), text(value)?)))
        .collect()
}

/// The first entry of `x-death`: the newest (docs/facts/rabbitmq.md 5c). Used for explanation,
/// never for counting.
fn newest_death(table: &FieldTable) -> Option<Death> {
    let AMQPValue::FieldArray(deaths) = table.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(newest) = deaths.as_slice().first()? else { return None };
    let mut fields = text_headers(newest);
    Some(Death { queue: fields.remove("queue")?, reason: fields.remove("reason")? })
}
