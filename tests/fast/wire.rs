//! The in-process broker behind a wire that fails: it can be away, full, lose a message that it confirmed, or
//! deliver one twice. Everything that was published is remembered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use order_relay::adapters::in_process::{InProcess, InProcessBroker};
use order_relay::domain::outbound_messages::Outgoing;
use order_relay::domain::topology::Topology;
use order_relay::ports::broker::{Broker, BrokerError, PublishError, QueueStatus, Subscription};

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accident {
    /// It is confirmed and gone.
    Lost,
    /// It is delivered twice.
    Twice,
    /// Its queue is full.
    Full,
    /// No queue accepts it.
    Unroutable,
    /// It is delivered, and the confirm is lost.
    Unconfirmed,
}

/// The broker as the workers see it.
#[derive(Clone)]
pub struct Wire {
    topology: Topology,
    broker: Arc<Mutex<InProcess>>,
    is_away: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Beginnings of message identifiers, what happens to such messages, and how many of them are left.
    accidents: Vec<(String, Accident, u32)>,
    published: Vec<Outgoing>,
}

fn fresh(topology: &Topology) -> InProcess {
    InProcess(InProcessBroker::new(topology.clone()))
}

impl Wire {
    /// An empty broker.
    pub fn new(topology: Topology) -> Self {
        let broker = Arc::new(Mutex::new(fresh(&topology)));
        Self { topology, broker, is_away: Arc::default(), state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker at the other end.
    pub fn broker(&self) -> InProcess {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every message is gone. Who reads has to subscribe anew.
    pub fn forget(&self) {
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = fresh(&self.topology);
    }

    /// What happens to the next `count` messages whose identifier begins with `prefix` (`failed:`, `retry:`, …).
    pub fn befalls(&self, prefix: &str, accident: Accident, count: u32) {
        self.state().accidents.push((prefix.to_owned(), accident, count));
    }

    /// From now on the broker cannot be reached, or can again. Who reads already goes on reading.
    pub fn is_away(&self, away: bool) {
        self.is_away.store(away, Ordering::Relaxed);
    }

    /// The messages that were published and whose identifier begins so.
    pub fn published(&self, prefix: &str) -> Vec<Outgoing> {
        let state = self.state();
        let found = state.published.iter().filter(|message| message.message_id.starts_with(prefix));
        found.cloned().collect()
    }

    /// The identifiers of all messages on the exchange of events that are about an order.
    pub fn events(&self) -> Vec<String> {
        let (state, events) = (self.state(), self.topology.names.events());
        let about_orders = state.published.iter().filter(|message| {
            message.exchange == events && message.routing_key.starts_with("order.")
        });
        about_orders.map(|message| message.message_id.clone()).collect()
    }

    fn accident(&self, message: &Outgoing) -> Option<Accident> {
        let mut state = self.state();
        let (_, accident, left) = state.accidents.iter_mut().find(|(prefix, _, left)| {
            *left > 0 && message.message_id.starts_with(prefix.as_str())
        })?;
        *left -= 1;
        Some(*accident)
    }

    fn reach(&self) -> Result<InProcess, String> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err("connection refused".to_owned()),
            false => Ok(self.broker()),
        }
    }
}

#[async_trait]
impl Broker for Wire {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    async fn publish(&self, message: Outgoing, patience: Duration) -> Result<(), PublishError> {
        let broker = self.reach().map_err(PublishError::Unavailable)?;
        self.state().published.push(message.clone());
        match self.accident(&message) {
            None => broker.publish(message, patience).await,
            Some(Accident::Lost) => Ok(()),
            Some(Accident::Full) => Err(PublishError::Refused),
            Some(Accident::Unroutable) => {
                let Outgoing { exchange, routing_key, .. } = message;
                Err(PublishError::Unroutable { exchange, routing_key })
            }
            Some(Accident::Twice) => {
                broker.publish(message.clone(), patience).await?;
                broker.publish(message, patience).await
            }
            Some(Accident::Unconfirmed) => {
                broker.publish(message, patience).await?;
                Err(PublishError::Unavailable("no confirm".to_owned()))
            }
        }
    }

    async fn subscribe(
        &self,
        queue: &str,
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BrokerError> {
        self.reach().map_err(BrokerError)?.subscribe(queue, prefetch).await
    }

    async fn queue_status(&self, queue: &str) -> Result<QueueStatus, BrokerError> {
        self.reach().map_err(BrokerError)?.queue_status(queue).await
    }

    fn obstacle(&self) -> Option<String> {
        self.reach().err()
    }

    fn is_durable(&self) -> bool {
        false
    }
}
