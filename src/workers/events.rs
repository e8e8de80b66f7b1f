//! Events for others on `orders.events`: published after the ledger has what they tell, best effort.
//!
//! Nobody waits for them: a stranger's full queue refuses them and holds nothing up. What does not fit in the
//! buffer while the broker is away, or what it refuses, is dropped and counted; the ledger has the facts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, watch};

use crate::domain::outbound_messages::Outgoing;
use crate::ports::broker::{Broker, PublishError};
use crate::telemetry::Metrics;
use crate::workers::availability::{FIRST_PAUSE, LONGEST_PAUSE};

/// Events that wait to be published at most.
const BUFFER: usize = 10_000;
/// Publishes in progress at the same time.
const AT_ONCE: usize = 100;
/// How long the confirm of one event is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The events of one process on their way out.
pub struct Events {
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    sender: mpsc::Sender<Outgoing>,
    /// Taken by the task that publishes.
    receiver: Mutex<Option<mpsc::Receiver<Outgoing>>>,
    /// Events that were not published or dropped yet.
    waiting: watch::Sender<usize>,
    is_dropping: AtomicBool,
}

impl Events {
    /// No events yet.
    pub fn new(broker: Arc<dyn Broker>, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = mpsc::channel(BUFFER);
        Self {
            broker,
            metrics,
            sender,
            receiver: Mutex::new(Some(receiver)),
            waiting: watch::channel(0).0,
            is_dropping: AtomicBool::new(false),
        }
    }

    /// Hands an event over; never waits.
    pub fn publish(&self, event: Outgoing) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        if self.sender.try_send(event).is_err() {
            self.dropped("the buffer is full");
            self.done();
        }
    }

    /// Publishes what is handed over; runs as long as the process, once.
    pub async fn run(&self) {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(receiver) = receiver else { return };
        let events = stream::unfold(receiver, async |mut receiver| {
            let event = receiver.recv().await?;
            Some((event, receiver))
        });
        events
            .for_each_concurrent(AT_ONCE, async |event| {
                match self.publish_when_reachable(event).await {
                    Ok(()) => self.is_dropping.store(false, Ordering::Relaxed),
                    Err(error) => self.dropped(&error.to_string()),
                }
                self.done();
            })
            .await;
    }

    /// Repeats only what the broker could not hear.
    async fn publish_when_reachable(&self, event: Outgoing) -> Result<(), PublishError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.broker.publish(event.clone(), PATIENCE).await {
                Err(PublishError::Unavailable(_)) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                published => return published,
            }
        }
    }

    /// Returns when none waits any more, after `patience` in any case.
    pub async fn flush(&self, patience: Duration) {
        let mut waiting = self.waiting.subscribe();
        let flushed = tokio::time::timeout(patience, waiting.wait_for(|waiting| *waiting == 0));
        if flushed.await.is_err() {
            tracing::warn!("events.not_all_published");
        }
    }

    fn done(&self) {
        self.waiting.send_modify(|waiting| *waiting -= 1);
    }

    /// Logged once for each time in a row.
    fn dropped(&self, why: &str) {
        self.metrics.events_dropped.inc();
        if !self.is_dropping.swap(true, Ordering::Relaxed) {
            tracing::warn!(why, "events.dropped: others on the event exchange miss some");
        }
    }
}
