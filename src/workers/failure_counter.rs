//! Counting a failed attempt in the ledger, and what follows it (docs/architecture.md, rows 8 and 9).
//!
//! The submitter counts its own failures at once where its process also handles errors; the error handler
//! counts what comes as a message.

use std::sync::Arc;
use std::time::Duration;

use crate::crash::{CrashPoint, reach};
use crate::domain::lifecycle::transitions::{OrderRecord, Verdict};
use crate::domain::message::{EventKind, OrderEvent, OrderFailed};
use crate::domain::trace::Trace;
use crate::ports::orders::{FailureRequest, OrderFailures, Placed, Recorded};
use crate::ports::store_error::StoreError;
use crate::workers::context::WorkerContext;

/// How long the ledger may take to count a failure before the broker gets it: until one of the two has it, it is
/// only in memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts failures for one process.
pub struct FailureCounter {
    context: Arc<WorkerContext>,
    failures: Arc<dyn OrderFailures>,
}

/// A failed attempt, with what its message says beside it.
pub struct Failed<'a> {
    pub event: &'a OrderFailed,
    /// The claim under which it was made; `None` for attempts of others.
    pub claim: Option<String>,
    /// The order itself, in case the ledger does not have it.
    pub order: Option<Placed>,
    pub trace: &'a Trace,
}

/// Why a failure was not counted.
pub enum NotCounted {
    /// The order is in a state that cannot fail.
    Invalid(String),
    /// The ledger does not have the order, and it did not come with the failure.
    Unknown,
    /// The ledger could not or would not store it.
    Ledger(StoreError),
}

impl FailureCounter {
    /// A counter over these parts.
    pub fn new(context: Arc<WorkerContext>, failures: Arc<dyn OrderFailures>) -> Self {
        Self { context, failures }
    }

    /// Counts a failure, however long the ledger is unavailable.
    pub async fn count(&self, failed: Failed<'_>) -> Result<(), NotCounted> {
        let request = self.request(&failed);
        let recorded = self
            .context
            .availability
            .retry_until_available(|| self.failures.record_failure(request.clone()))
            .await;
        self.follow(&failed, recorded).await
    }

    /// Counts a failure if the ledger answers soon; whether it did. What follows may take longer.
    pub async fn count_now(&self, failed: Failed<'_>) -> bool {
        let recording = self.failures.record_failure(self.request(&failed));
        match tokio::time::timeout(PATIENCE, recording).await {
            Ok(recorded) => self.follow(&failed, recorded).await.is_ok(),
            Err(_) => false,
        }
    }

    fn request(&self, failed: &Failed<'_>) -> FailureRequest {
        let (now, event) = (self.context.now(), failed.event);
        FailureRequest {
            key: event.key(),
            failed: event.failed_attempt(failed.claim.clone(), now),
            trigger: event.trigger,
            duration_ms: event.duration_ms,
            order: failed.order.clone(),
            policy: self.context.policies.of(&event.shop).retry.clone(),
            now,
        }
    }

    /// Publishes what the verdict requires. A failure that is counted twice publishes it twice;
    /// the attempt of the second retry was already made, and it is dropped.
    async fn follow(
        &self,
        failed: &Failed<'_>,
        recorded: Result<Recorded, StoreError>,
    ) -> Result<(), NotCounted> {
        let (verdict, record, new) = match recorded {
            Ok(Recorded::Counted { verdict, record, new, .. }) => (verdict, record, new),
            Ok(Recorded::Invalid(invalid)) => return Err(NotCounted::Invalid(invalid.to_string())),
            Ok(Recorded::Unknown) => return Err(NotCounted::Unknown),
            Err(error) => return Err(NotCounted::Ledger(error)),
        };
        reach(CrashPoint::FailureRecorded);
        let (publisher, event, trace) = (&self.context.publisher, failed.event, failed.trace);
        if new {
            publisher.publish_failed_event(event, trace);
            publisher.notices_wait();
            tell(event, &record, verdict);
        }
        let kind = match verdict {
            Some(Verdict::Retry { attempt, delay }) => {
                publisher.publish_retry(&record.key, attempt, delay, trace).await;
                reach(CrashPoint::RetryPublished);
                return Ok(());
            }
            None | Some(Verdict::Counted) => return Ok(()),
            Some(Verdict::Park) => EventKind::Parked,
            Some(Verdict::Ask { .. }) => EventKind::OutcomeUnknown,
        };
        let mut told = OrderEvent::new(kind, &record.key, record.updated_at);
        told.attempt = event.attempt;
        told.fail_count = record.fail_count;
        told.trigger = Some(event.trigger);
        told.error = Some(event.error.clone());
        publisher.publish_event(&told, trace);
        Ok(())
    }
}

/// The wide line of a failed attempt.
fn tell(event: &OrderFailed, record: &OrderRecord, verdict: Option<Verdict>) {
    let next_attempt_in_s = match verdict {
        Some(Verdict::Retry { delay, .. }) => Some(delay.as_secs_f64()),
        _ => None,
    };
    tracing::info!(
        shop = event.shop.as_str(),
        order_id = event.order_id.as_str(),
        attempt = event.attempt,
        trigger = event.trigger.as_str(),
        class = event.error.class.as_str(),
        code = event.error.code,
        duration_ms = event.duration_ms,
        next_attempt_in_s,
        fail_count = record.fail_count,
        max = event.max_count,
        phase = record.phase.name(),
        "order.failed"
    );
}
