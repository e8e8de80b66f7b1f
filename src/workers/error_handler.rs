//! The error handler: counts failed attempts and decides what follows (docs/architecture.md, rows 8 and 9).
//!
//! It also reads messages that no consumer could settle or that matched no queue, and stores each
//! as a dead letter, so that no person has to fetch messages from a queue by hand.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::crash::{CrashPoint, reach};
use crate::domain::lifecycle::transitions::{OrderRecord, Verdict};
use crate::domain::message::{EventKind, MAX_FOREIGN_ATTEMPT, ORIGIN, OrderEvent, OrderFailed};
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::trace::Trace;
use crate::ports::broker::{Delivery, Settle};
use crate::ports::orders::{FailureRequest, OrderFailures, OrderSource, Placed, Recorded};
use crate::workers::consume::Handler;
use crate::workers::context::WorkerContext;

/// Pause before the redelivery of a message that could not even be stored as a dead letter.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Reads `orders.failed`.
pub struct ErrorHandler {
    context: Arc<WorkerContext>,
    failures: Arc<dyn OrderFailures>,
    queue: String,
}

impl ErrorHandler {
    /// A worker over `context`.
    pub fn new(context: Arc<WorkerContext>, failures: Arc<dyn OrderFailures>) -> Self {
        let queue = context.broker.topology().names.failed();
        Self { context, failures, queue }
    }

    async fn process(&self, delivery: &Delivery) -> Result<(), Fault> {
        let context = &self.context;
        let (event, order) = OrderFailed::parse(&delivery.body, &context.intake)?;
        if event.attempt > MAX_FOREIGN_ATTEMPT && !delivery.headers.contains_key(ORIGIN) {
            let expected =
                format!("attempt is {}, expected 1 to {MAX_FOREIGN_ATTEMPT}", event.attempt);
            return Err(Fault::at(Reason::Schema, "/attempt", expected));
        }
        let trace = Trace::of(&delivery.headers);
        let request = self.request(delivery, &event, order, &trace);
        let recorded = context
            .availability
            .retry_until_available(|| self.failures.record_failure(request.clone()))
            .await;
        reach(CrashPoint::FailureRecorded);
        let (verdict, record, new) = match recorded {
            Ok(Recorded::Counted { verdict, record, new, .. }) => (verdict, record, new),
            Ok(Recorded::Invalid(invalid)) => {
                return Err(Fault::whole(Reason::InvalidState, invalid.to_string()));
            }
            Ok(Recorded::Unknown) => {
                let detail = format!(
                    "the ledger has no order {}, and the message contains none",
                    event.key()
                );
                return Err(Fault::at(Reason::UnknownOrder, "/order", detail));
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let detail = format!("{error}: {}", cause.unwrap_or_default());
                return Err(Fault::whole(Reason::Refused, detail));
            }
        };
        if new {
            context.publisher.publish_failed_event(&event, &trace);
        }
        if let Some(verdict) = verdict {
            self.follow(&event, &record, verdict, &trace).await;
        }
        if new {
            context.publisher.notices_wait();
            tell(&event, &record, verdict);
        }
        Ok(())
    }

    fn request(
        &self,
        delivery: &Delivery,
        event: &OrderFailed,
        order: Option<crate::domain::order::document::Order>,
        trace: &Trace,
    ) -> FailureRequest {
        let now = self.context.now();
        FailureRequest {
            key: event.key(),
            failed: event.failed_attempt(delivery.headers.get(ORIGIN).cloned(), now),
            trigger: event.trigger,
            duration_ms: event.duration_ms,
            order: order.map(|order| Placed {
                order: Arc::new(order),
                source: OrderSource::OrderFailed,
                trace: trace.clone(),
            }),
            policy: self.context.policies.of(&event.shop).retry.clone(),
            now,
        }
    }

    /// Publishes what the verdict requires. A failure that is delivered twice publishes it twice;
    /// the attempt of the second retry was already made, and it is dropped.
    async fn follow(
        &self,
        event: &OrderFailed,
        record: &OrderRecord,
        verdict: Verdict,
        trace: &Trace,
    ) {
        let kind = match verdict {
            Verdict::Retry { attempt, delay } => {
                self.context.publisher.publish_retry(&record.key, attempt, delay, trace).await;
                reach(CrashPoint::RetryPublished);
                return;
            }
            Verdict::Counted => return,
            Verdict::Park => EventKind::Parked,
            Verdict::Ask { .. } => EventKind::OutcomeUnknown,
        };
        let mut told = OrderEvent::new(kind, &record.key, record.updated_at);
        told.attempt = event.attempt;
        told.fail_count = record.fail_count;
        told.trigger = Some(event.trigger);
        told.error = Some(event.error.clone());
        self.context.publisher.publish_event(&told, trace);
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

#[async_trait]
impl Handler for ErrorHandler {
    async fn handle(&self, delivery: &Delivery) -> Settle {
        match self.process(delivery).await {
            Ok(()) => Settle::Ack,
            Err(fault) => keep(&self.context, &self.queue, delivery, &fault).await,
        }
    }
}

/// Reads `orders.dead` and `orders.unrouted`.
pub struct DeadLetterCollector {
    context: Arc<WorkerContext>,
    queue: String,
    is_unrouted: bool,
}

impl DeadLetterCollector {
    /// For messages that no consumer could settle.
    pub fn of_dead(context: Arc<WorkerContext>) -> Self {
        let queue = context.broker.topology().names.dead();
        Self { context, queue, is_unrouted: false }
    }

    /// For messages that matched no queue.
    pub fn of_unrouted(context: Arc<WorkerContext>) -> Self {
        let queue = context.broker.topology().names.unrouted();
        Self { context, queue, is_unrouted: true }
    }

    fn fault(&self, delivery: &Delivery) -> Fault {
        let (exchange, key) = (&delivery.exchange, &delivery.routing_key);
        if self.is_unrouted {
            let detail =
                format!("published to {exchange} with key `{key}`, which matches no queue");
            return Fault::whole(Reason::Unrouted, crate::domain::text::one_line(&detail, 300));
        }
        let (queue, reason) = match &delivery.died {
            Some(death) => (death.queue.as_str(), death.reason.as_str()),
            None => ("?", "unknown"),
        };
        let detail = format!("the broker dead-lettered it in {queue}: {reason}");
        Fault::whole(Reason::DeliveryLimit, detail)
    }
}

#[async_trait]
impl Handler for DeadLetterCollector {
    async fn handle(&self, delivery: &Delivery) -> Settle {
        keep(&self.context, &self.queue, delivery, &self.fault(delivery)).await
    }
}

/// Stores a message as a dead letter; only then it is acknowledged.
async fn keep(context: &WorkerContext, queue: &str, delivery: &Delivery, fault: &Fault) -> Settle {
    match context.dead_letters.keep(queue, delivery, fault).await {
        Ok(()) => {
            reach(CrashPoint::DeadLetterRecorded);
            Settle::Ack
        }
        Err(error) => {
            // A message that the database refuses even as bytes stays on the broker.
            tracing::error!(%error, queue, "dead_letter.refused");
            tokio::time::sleep(REFUSED_PAUSE).await;
            Settle::Requeue
        }
    }
}
