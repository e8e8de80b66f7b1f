//! Shared by all workers: the ports, the policies, and calls that are repeated until they succeed.
//!
//! Calls to the ledger and publishes to the broker are repeated until they succeed: both may be
//! unavailable for hours. A worker then keeps the messages in progress, logs the outage once, and
//! continues when they are back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::lifecycle::vocabulary::Trigger;
use crate::domain::message::{OrderEvent, OrderFailed};
use crate::domain::notice::CustomerConfirmation;
use crate::domain::order::fault::Fault;
use crate::domain::order::values::{OrderKey, Shop};
use crate::domain::outbound_messages::{OutboundMessages, Outgoing};
use crate::domain::retry::RetryPolicy;
use crate::domain::trace::Trace;
use crate::ports::broker::{Broker, Delivery, PublishError};
use crate::ports::clock::Clock;
use crate::ports::dead_letters::{DeadLetterIntake, NewDeadLetter};
use crate::ports::store_error::StoreError;
use crate::telemetry::{Metrics, ReasonLabel};
use crate::workers::erp_gate::Gate;

/// How long to wait for the confirm of one publish before it is repeated.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Nudges to the notifier are at most this frequent: one nudge handles everything that waits.
const NUDGE_EVERY: Duration = Duration::from_millis(100);

/// What a worker needs.
pub struct WorkerContext {
    pub dead_letters: Arc<dyn DeadLetterIntake>,
    pub broker: Arc<dyn Broker>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What applies to which shop.
    pub policies: Policies,
    /// The name of this process in claims and leases.
    pub worker: String,
    /// `intake.max_bytes`.
    pub max_bytes: usize,
    notices_waiting: Notify,
    outage: Outage,
    deliveries: AtomicU64,
}

/// What applies to a shop.
#[derive(Clone)]
pub struct ShopPolicy {
    /// The ERP it sends to, and the gate in front of it.
    pub gate: Arc<Gate>,
    /// Failed attempts after which an order is parked; `None`: never.
    pub max_count: Option<u32>,
    /// When it is retried.
    pub retry: RetryPolicy,
    /// When a customer gets a confirmation.
    pub customer: CustomerConfirmation,
}

/// Policies by shop.
pub struct Policies {
    /// For every shop that has none of its own.
    pub default: ShopPolicy,
    /// For shops with settings of their own.
    pub shops: HashMap<String, ShopPolicy>,
}

impl Policies {
    /// What applies to `shop`.
    pub fn of(&self, shop: &Shop) -> &ShopPolicy {
        self.shops.get(shop.as_str()).unwrap_or(&self.default)
    }

    /// Every gate once.
    pub fn gates(&self) -> Vec<Arc<Gate>> {
        let mut gates = vec![self.default.gate.clone()];
        for policy in self.shops.values() {
            if gates.iter().all(|gate| gate.erp_name() != policy.gate.erp_name()) {
                gates.push(policy.gate.clone());
            }
        }
        gates
    }
}

/// Logs once that the ledger is unavailable, and once that it is back.
#[derive(Default)]
struct Outage {
    away: AtomicBool,
}

impl Outage {
    fn begins(&self, error: &StoreError) {
        if !self.away.swap(true, Ordering::AcqRel) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, cause, "store.unavailable");
        }
    }

    fn ends(&self) {
        if self.away.load(Ordering::Acquire) && self.away.swap(false, Ordering::AcqRel) {
            tracing::info!("store.available");
        }
    }
}

impl WorkerContext {
    /// A context over these ports.
    pub fn new(
        dead_letters: Arc<dyn DeadLetterIntake>,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        policies: Policies,
        worker: String,
        max_bytes: usize,
    ) -> Self {
        Self {
            dead_letters,
            broker,
            clock,
            metrics,
            policies,
            worker,
            max_bytes,
            notices_waiting: Notify::new(),
            outage: Outage::default(),
            deliveries: AtomicU64::new(0),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A unique name for the claim of one delivery.
    pub fn claim_name(&self) -> String {
        format!("{}.{}", self.worker, self.deliveries.fetch_add(1, Ordering::Relaxed))
    }

    /// Calls the ledger until it answers; only what it refuses for good comes back as an error.
    pub async fn retry_until_available<T, F>(
        &self,
        mut call: impl FnMut() -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match call().await {
                Err(error) if error.is_unavailable() => {
                    self.outage.begins(&error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                result => {
                    self.outage.ends();
                    return result;
                }
            }
        }
    }

    /// Publishes until the broker confirms it. A message that no queue accepts is dropped: its
    /// content is in the ledger, and the sweeper publishes it again.
    async fn publish_until_confirmed(&self, message: Outgoing) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.broker.publish(message.clone(), PUBLISH_PATIENCE).await {
                Ok(()) => return,
                Err(error @ PublishError::Unroutable { .. }) => {
                    tracing::error!(%error, "broker.unroutable");
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "broker.publish_again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Publishes `order_failed` and returns when the broker has confirmed it.
    pub async fn publish_failed(&self, event: &OrderFailed, claim: &str, trace: &Trace) {
        self.publish_until_confirmed(self.outbound(trace).failed(event, claim)).await;
    }

    /// Publishes a retry to the delay queue that fits; without one the sweeper publishes it when
    /// due.
    pub async fn publish_retry(
        &self,
        key: &OrderKey,
        attempt: u32,
        delay: Duration,
        trace: &Trace,
    ) {
        let Some(message) = self.outbound(trace).retry(key, attempt, delay) else { return };
        // A full queue may stay full for as long as its delay: the ledger knows when the retry is
        // due, and the sweeper publishes it.
        match self.broker.publish(message.clone(), PUBLISH_PATIENCE).await {
            Err(error @ PublishError::Refused) => tracing::warn!(%error, "retry.left_to_sweeper"),
            Err(_) => self.publish_until_confirmed(message).await,
            Ok(()) => {}
        }
    }

    /// Nudges the submitter to look at an order now. It is not repeated: the sweeper nudges again.
    pub async fn nudge(
        &self,
        key: &OrderKey,
        attempt: u32,
        trigger: Trigger,
        trace: &Trace,
    ) -> Result<(), PublishError> {
        let message = self.outbound(trace).nudge(key, attempt, trigger);
        self.broker.publish(message, PUBLISH_PATIENCE).await
    }

    /// The same on behalf of a redrive, which nudges again.
    pub async fn nudge_for_redrive(
        &self,
        key: &OrderKey,
        attempt: u32,
        redrive: Uuid,
        trace: &Trace,
    ) -> Result<(), PublishError> {
        let message = self.outbound(trace).nudge_for_redrive(key, attempt, redrive);
        self.broker.publish(message, PUBLISH_PATIENCE).await
    }

    /// Publishes an event.
    pub async fn publish_event(&self, event: &OrderEvent, trace: &Trace) {
        self.publish_until_confirmed(self.outbound(trace).event(event)).await;
    }

    fn outbound<'a>(&'a self, trace: &'a Trace) -> OutboundMessages<'a> {
        OutboundMessages { topology: self.broker.topology(), origin: &self.worker, trace }
    }

    /// Signals that the notifier has something to do.
    pub fn notices_wait(&self) {
        self.notices_waiting.notify_one();
    }

    /// Forwards these signals, many as one; runs as long as the process.
    pub async fn run_nudges(&self) {
        loop {
            self.notices_waiting.notified().await;
            let trace = Trace::default();
            let message = self.outbound(&trace).notices_wait();
            if let Err(error) = self.broker.publish(message, PUBLISH_PATIENCE).await {
                tracing::debug!(%error, "notifier.not_nudged");
            }
            tokio::time::sleep(NUDGE_EVERY).await;
        }
    }

    /// Stores a message that cannot be accepted, with its fault; `source` is the queue it came
    /// from.
    pub async fn bury(
        &self,
        source: &str,
        delivery: &Delivery,
        fault: &Fault,
    ) -> Result<(), StoreError> {
        let id = self.clock.unique_id();
        self.retry_until_available(|| {
            self.dead_letters.record_dead_letter(NewDeadLetter {
                id,
                source: source.to_owned(),
                fault: fault.clone(),
                body: delivery.body.clone(),
                headers: delivery.headers.clone(),
                exchange: delivery.exchange.clone(),
                routing_key: delivery.routing_key.clone(),
                now: self.now(),
            })
        })
        .await?;
        self.metrics.dead_letters.get_or_create(&ReasonLabel::new(fault.reason.as_str())).inc();
        let (reason, place) = (fault.reason.as_str(), fault.place.as_deref());
        tracing::warn!(source, reason, place, bytes = delivery.body.len(), "dead_letter.kept");
        Ok(())
    }
}
