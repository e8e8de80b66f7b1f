//! What every worker of a process shares, each part for itself: calls to the ledger, publishing, dead
//! letters, policies, time and metrics. A worker's own ledger port is handed to it beside this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

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
    /// `intake.max_bytes`.
    pub max_bytes: usize,
    deliveries: AtomicU64,
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
        let availability = Arc::new(Availability::default());
        Self {
            publisher: Publisher::new(broker.clone(), &worker),
            dead_letters: DeadLetterKeeper {
                intake: dead_letters,
                availability: availability.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
            },
            availability,
            broker,
            clock,
            metrics,
            policies,
            worker,
            max_bytes,
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
