//! What the workers publish. Failures and retries are repeated until the broker confirms them: it may be
//! unavailable for hours. Nudges are not repeated, and events for others are best effort (`events.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::lifecycle::vocabulary::Trigger;
use crate::domain::message::{EventKind, OrderEvent, OrderFailed};
use crate::domain::order::values::OrderKey;
use crate::domain::outbound_messages::{OutboundMessages, Outgoing};
use crate::domain::trace::Trace;
use crate::ports::broker::{Broker, PublishError};
use crate::telemetry::Metrics;
use crate::workers::availability::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::workers::events::Events;

/// How long to wait for the confirm of one publish before it is repeated.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);
/// Nudges to the notifier are at most this frequent: one nudge handles everything that waits.
const NUDGE_EVERY: Duration = Duration::from_millis(100);

/// Publishes for the workers of one process.
pub struct Publisher {
    broker: Arc<dyn Broker>,
    /// The name of this process.
    origin: String,
    notices_waiting: Notify,
    events: Events,
    /// `events.confirmed`: whether others want to know of every order that is in the ERP.
    with_confirmed: bool,
}

impl Publisher {
    /// For the process `origin`.
    pub fn new(
        broker: Arc<dyn Broker>,
        metrics: Arc<Metrics>,
        origin: &str,
        with_confirmed: bool,
    ) -> Self {
        Self {
            events: Events::new(broker.clone(), metrics),
            broker,
            origin: origin.to_owned(),
            notices_waiting: Notify::new(),
            with_confirmed,
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

    /// Tells others what happened, without waiting.
    pub fn publish_event(&self, event: &OrderEvent, trace: &Trace) {
        if event.kind != EventKind::Confirmed || self.with_confirmed {
            self.events.publish(self.outbound(trace).event(event));
        }
    }

    /// Tells others that an attempt failed, without waiting.
    pub fn publish_failed_event(&self, event: &OrderFailed, trace: &Trace) {
        self.events.publish(self.outbound(trace).failed_event(event));
    }

    /// Publishes the events for others; runs as long as the process.
    pub async fn run_events(&self) {
        self.events.run().await;
    }

    /// Returns when every event is published or dropped, after `patience` in any case.
    pub async fn flush_events(&self, patience: Duration) {
        self.events.flush(patience).await;
    }

    fn outbound<'a>(&'a self, trace: &'a Trace) -> OutboundMessages<'a> {
        OutboundMessages { topology: self.broker.topology(), origin: &self.origin, trace }
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
}
