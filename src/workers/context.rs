//! What every worker of a process shares, each part for itself: calls to the ledger, publishing, dead
//! letters, policies, time and metrics. A worker's own ledger port is handed to it beside this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use crate::domain::order::intake_rules::IntakeRules;
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::ports::dead_letters::DeadLetterIntake;
use crate::telemetry::Metrics;
use crate::workers::availability::Availability;
use crate::workers::dead_letter_keeper::DeadLetterKeeper;
use crate::workers::policies::Policies;
use crate::workers::publisher::Publisher;

/// What the workers of a process share.
pub struct WorkerContext {
    pub availability: Arc<Availability>,
    pub publisher: Publisher,
    pub dead_letters: DeadLetterKeeper,
    pub broker: Arc<dyn Broker>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What applies to which shop.
    pub policies: Policies,
    /// The name of this process in claims and leases.
    pub worker: String,
    /// What applies to every order that comes in.
    pub intake: IntakeRules,
    deliveries: AtomicU64,
}

/// What a [`WorkerContext`] stands on.
pub struct ContextParts {
    pub dead_letters: Arc<dyn DeadLetterIntake>,
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub policies: Policies,
    /// The name of this process.
    pub worker: String,
    /// What applies to every order that comes in.
    pub intake: IntakeRules,
    /// `events.confirmed`.
    pub with_confirmed: bool,
}

impl WorkerContext {
    /// A context over these parts.
    pub fn new(parts: ContextParts) -> Self {
        let ContextParts { broker, clock, metrics, worker, .. } = parts;
        let availability = Arc::new(Availability::default());
        Self {
            publisher: Publisher::new(
                broker.clone(),
                metrics.clone(),
                &worker,
                parts.with_confirmed,
            ),
            dead_letters: DeadLetterKeeper {
                intake: parts.dead_letters,
                availability: availability.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
            },
            availability,
            broker,
            clock,
            metrics,
            policies: parts.policies,
            worker,
            intake: parts.intake,
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
}
