//! A transport of its own for one test: the broker port in process, or over RabbitMQ under a prefix
//! that no other test has.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use lapin::options::{
    BasicGetOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use order_relay::adapters::amqp;
use order_relay::adapters::amqp::broker::AmqpBroker;
use order_relay::adapters::amqp::connection::Address;
use order_relay::adapters::in_process::{InProcess, InProcessBroker};
use order_relay::domain::outbound_messages::{Audience, Outgoing};
use order_relay::domain::topology::{Names, ORDER_PLACED, Topology};
use order_relay::domain::trace::Headers;
use order_relay::ports::broker::{Broker, Delivery, PublishError, Settle, Subscription};
use order_relay::ports::clock::Stopwatch;
use secrecy::SecretString;
use tokio::task::JoinSet;

use crate::world::unique_name;

/// The time limit of every wait.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A delay that never ends within a test.
pub const LONG: Duration = Duration::from_secs(3_600);

/// A transport.
pub struct Transport {
    /// The port.
    pub broker: Arc<dyn Broker>,
    /// Its names.
    pub names: Names,
    /// RabbitMQ for the test itself, past any line that may be cut; `None`: in the process.
    url: Option<String>,
    _tasks: JoinSet<()>,
}

/// A RabbitMQ, and how the transport comes there.
#[derive(Debug, Clone)]
pub struct Way {
    /// Begin of all names.
    pub prefix: String,
    /// Where the transport connects to; several nodes with a blank between them.
    pub line: String,
    /// Where the test connects to: declares, looks, deletes.
    pub url: String,
}

impl Way {
    /// Straight, under a fresh prefix.
    pub fn to(url: &str) -> Self {
        Self { prefix: unique_name(), line: url.to_owned(), url: url.to_owned() }
    }

    /// The address, named after the prefix.
    pub fn address(&self) -> Address {
        let nodes: Vec<SecretString> = self.line.split(' ').map(SecretString::from).collect();
        Address::parse(&nodes, self.prefix.clone()).expect("good addresses")
    }
}

impl Transport {
    /// In this process.
    pub fn in_process(delays: &[Duration]) -> Self {
        let names = Names::new(&unique_name());
        let broker = InProcessBroker::new(Topology::new(names.clone(), delays));
        let mut tasks = JoinSet::new();
        tasks.spawn(broker.clone().run_delays());
        Self { broker: Arc::new(InProcess(broker)), names, url: None, _tasks: tasks }
    }

    /// Over RabbitMQ, with everything declared.
    pub async fn amqp(way: &Way, delays: &[Duration]) -> Self {
        let names = Names::new(&way.prefix);
        let topology = Topology::new(names.clone(), delays);
        let straight = Way { line: way.url.clone(), ..way.clone() };
        let declared = amqp::topology::declare(&straight.address(), &topology).await;
        declared.expect("the topology can be declared");
        let (broker, publisher) = AmqpBroker::new(way.address(), topology);
        let mut tasks = JoinSet::new();
        tasks.spawn(publisher);
        Self { broker: Arc::new(broker), names, url: Some(way.url.clone()), _tasks: tasks }
    }

    /// Publishes an order message whose body is `id`.
    pub async fn place(&self, id: &str) -> Result<(), PublishError> {
        self.publish(message(&self.names.orders(), ORDER_PLACED, id)).await
    }

    /// Publishes.
    pub async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        self.broker.publish(message, PATIENCE).await
    }

    /// Publishes all at once; those that were taken, and those that were not.
    pub async fn publish_all(&self, messages: Vec<Outgoing>) -> (Vec<String>, Vec<PublishError>) {
        let publish = async |message: Outgoing| {
            let id = message.message_id.clone();
            self.publish(message).await.map(|()| id)
        };
        let results = join_all(messages.into_iter().map(publish)).await;
        let (taken, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        (
            taken.into_iter().filter_map(Result::ok).collect(),
            refused.into_iter().filter_map(Result::err).collect(),
        )
    }

    /// Places all of `ids` and insists that each is taken.
    pub async fn place_all(&self, ids: &[String]) {
        let orders = self.names.orders();
        let all = ids.iter().map(|id| message(&orders, ORDER_PLACED, id)).collect();
        let (_, refused) = self.publish_all(all).await;
        assert!(refused.is_empty(), "{} were not taken: {:?}", refused.len(), refused.first());
    }

    /// Lets `id` wait for `delay`.
    pub async fn retry(&self, delay: Duration, id: &str) -> Result<(), PublishError> {
        let key = delay.as_millis().to_string();
        self.publish(message(&self.names.retry(), &key, id)).await
    }

    /// Begins to read.
    pub async fn read(&self, queue: &str, prefetch: u16) -> Box<dyn Subscription> {
        self.broker.subscribe(queue, prefetch).await.expect("the queue can be read")
    }

    /// Begins to read, however often it takes.
    pub async fn read_again(&self, queue: &str, prefetch: u16) -> Box<dyn Subscription> {
        let watch = Stopwatch::start();
        loop {
            match self.broker.subscribe(queue, prefetch).await {
                Ok(subscription) => return subscription,
                Err(error) => assert!(watch.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `count` messages stand ready in a queue.
    pub async fn until_ready(&self, queue: &str, count: u32) {
        until(&format!("{count} messages stand in {queue}"), async || {
            let status =
                self.broker.queue_status(queue).await.map_err(|error| error.to_string())?;
            if status.ready == count { Ok(()) } else { Err(format!("{} do", status.ready)) }
        })
        .await;
    }

    /// Takes out everything that stands ready in a queue now: bodies, sorted.
    pub async fn take_out(&self, queue: &str) -> Vec<String> {
        let mut bodies = match &self.url {
            Some(url) => take_out_of_rabbitmq(url, queue).await,
            None => self.take_out_of_process(queue).await,
        };
        bodies.sort();
        bodies
    }

    async fn take_out_of_process(&self, queue: &str) -> Vec<String> {
        let mut subscription = self.read(queue, u16::MAX).await;
        let mut bodies = Vec::new();
        while let Some(next) = subscription.next().now_or_never() {
            let delivery = next.expect("it goes on").expect("it goes on");
            delivery.settler.settle(Settle::Ack).await;
            bodies.push(body(&delivery));
        }
        bodies
    }

    /// Waits until `count` messages stand ready in a queue of RabbitMQ, without using the transport.
    pub async fn until_stored(&self, queue: &str, count: u32) {
        let connection = self.connection().await;
        let channel = connection.create_channel().await.expect("a channel");
        until(&format!("{count} messages stand in {queue}"), async || {
            match ready(&channel, queue).await {
                ready if ready == count => Ok(()),
                ready => Err(format!("{ready} do")),
            }
        })
        .await;
        drop(connection.close(200, "OK".into()).await);
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> Connection {
        connection(self.url.as_deref().expect("a transport over RabbitMQ")).await
    }

    /// Insists that working queues are empty, and clears up.
    pub async fn end(self) {
        for queue in [self.names.submit(), self.names.failed(), self.names.unrouted()] {
            let left = self.take_out(&queue).await;
            assert!(left.is_empty(), "left in {queue}: {left:?}");
        }
        self.leave().await;
    }

    /// Clears up.
    pub async fn leave(mut self) {
        if let Some(url) = self.url.take() {
            clear_up(&url, self.broker.topology()).await;
        }
    }
}

impl Drop for Transport {
    /// A test that failed leaves nothing behind either: brokers have room for some hundred queues.
    fn drop(&mut self) {
        let Some(url) = self.url.take() else { return };
        assert!(std::thread::panicking(), "the test did not end its transport");
        let topology = self.broker.topology().clone();
        let clearing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let all = async { tokio::time::timeout(PATIENCE, clear_up(&url, &topology)).await };
            drop(runtime.expect("a runtime").block_on(all));
        });
        drop(clearing.join());
    }
}

async fn clear_up(url: &str, topology: &Topology) {
    let connection = connection(url).await;
    let channel = connection.create_channel().await.expect("a channel");
    for queue in &topology.queues {
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.name.as_str().into(), options).await.expect("it goes");
    }
    for exchange in &topology.exchanges {
        let options = ExchangeDeleteOptions::default();
        channel.exchange_delete(exchange.name.as_str().into(), options).await.expect("it goes");
    }
    drop(connection.close(200, "OK".into()).await);
}

/// A connection to RabbitMQ.
pub async fn connection(url: &str) -> Connection {
    let connected = Connection::connect(url, ConnectionProperties::default()).await;
    connected.expect("RabbitMQ is there (`scripts/test` starts one)")
}

async fn take_out_of_rabbitmq(url: &str, queue: &str) -> Vec<String> {
    let connection = connection(url).await;
    let channel = connection.create_channel().await.expect("a channel");
    let mut bodies = Vec::new();
    for _ in 0..ready(&channel, queue).await {
        let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await;
        let Some(message) = got.expect("it can be read") else { break };
        bodies.push(String::from_utf8_lossy(&message.delivery.data).into_owned());
    }
    drop(connection.close(200, "OK".into()).await);
    bodies
}

/// Messages that stand ready in a queue.
async fn ready(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
    declared.await.expect("the queue is there").message_count()
}

/// A message that must find a queue; its body and its message id are `id`.
pub fn message(exchange: &str, key: &str, id: &str) -> Outgoing {
    Outgoing {
        exchange: exchange.to_owned(),
        routing_key: key.to_owned(),
        headers: Headers::from([("relay-origin".to_owned(), "test".to_owned())]),
        body: id.as_bytes().to_vec(),
        message_id: id.to_owned(),
        audience: Audience::Required,
    }
}

/// `count` names that begin with `prefix`, in order.
pub fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:05}")).collect()
}

/// The body as text.
pub fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.body).into_owned()
}

/// The next delivery, which must come.
pub async fn next(subscription: &mut Box<dyn Subscription>) -> Delivery {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    let next = next.expect("a delivery comes in time").expect("the subscription goes on");
    next.expect("the subscription has not ended")
}

/// The next `count` deliveries.
pub async fn next_many(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(count);
    for _ in 0..count {
        deliveries.push(next(subscription).await);
    }
    deliveries
}

/// Insists that no delivery comes for a moment: proves little when all is well, and fails when not.
pub async fn nothing_comes(subscription: &mut Box<dyn Subscription>) {
    let moment = Duration::from_millis(300);
    let next = tokio::time::timeout(moment, subscription.next()).await;
    assert!(next.is_err(), "something came: {next:?}");
}

/// Waits until `look` succeeds; until then it returns what is missing.
pub async fn until(what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let watch = Stopwatch::start();
    while let Err(now) = look().await {
        assert!(watch.elapsed() < PATIENCE, "waited in vain until {what}: {now}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
