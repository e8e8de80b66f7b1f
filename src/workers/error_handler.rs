//! The error handler: counts the failed attempts that come as messages (docs/architecture.md, row 8): of
//! submitters in other processes, of other ERP services, and what the ledger could not store at once.
//!
//! It also reads messages that no consumer could settle or that matched no queue, and stores each
//! as a dead letter, so that no person has to fetch messages from a queue by hand. Orders among those that matched no
//! queue are taken in: somebody had deleted the queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::crash::{CrashPoint, reach};
use crate::domain::message::{MAX_FOREIGN_ATTEMPT, ORIGIN, OrderFailed};
use crate::domain::order::document::Order;
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::topology::ORDER_PLACED;
use crate::domain::trace::Trace;
use crate::ports::broker::{Delivery, Settle};
use crate::ports::orders::{OrderIntake, OrderSource, Placed};
use crate::workers::consume::Handler;
use crate::workers::context::WorkerContext;
use crate::workers::failure_counter::{Failed, FailureCounter, NotCounted};

/// Pause before the redelivery of a message that could not even be stored as a dead letter.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Reads `orders.failed`.
pub struct ErrorHandler {
    context: Arc<WorkerContext>,
    counter: Arc<FailureCounter>,
    queue: String,
}

impl ErrorHandler {
    /// A worker over `context`.
    pub fn new(context: Arc<WorkerContext>, counter: Arc<FailureCounter>) -> Self {
        let queue = context.broker.topology().names.failed();
        Self { context, counter, queue }
    }

    async fn process(&self, delivery: &Delivery) -> Result<(), Fault> {
        let (event, order) = OrderFailed::parse(&delivery.body, &self.context.intake)?;
        let claim = delivery.headers.get(ORIGIN).cloned();
        if event.attempt > MAX_FOREIGN_ATTEMPT && claim.is_none() {
            let expected =
                format!("attempt is {}, expected 1 to {MAX_FOREIGN_ATTEMPT}", event.attempt);
            return Err(Fault::at(Reason::Schema, "/attempt", expected));
        }
        let trace = Trace::of(&delivery.headers);
        let order = order.map(|order| Placed {
            order: Arc::new(order),
            source: OrderSource::OrderFailed,
            trace: trace.clone(),
        });
        let failed = Failed { event: &event, claim, order, trace: &trace };
        self.counter.count(failed).await.map_err(|why| match why {
            NotCounted::Invalid(invalid) => Fault::whole(Reason::InvalidState, invalid),
            NotCounted::Unknown => {
                let detail = format!(
                    "the ledger has no order {}, and the message contains none",
                    event.key()
                );
                Fault::at(Reason::UnknownOrder, "/order", detail)
            }
            NotCounted::Ledger(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let detail = format!("{error}: {}", cause.unwrap_or_default());
                Fault::whole(Reason::Refused, detail)
            }
        })
    }
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
    /// Of the messages that matched no queue: where those go that are orders.
    orders: Option<Arc<dyn OrderIntake>>,
}

impl DeadLetterCollector {
    /// For messages that no consumer could settle.
    pub fn of_dead(context: Arc<WorkerContext>) -> Self {
        let queue = context.broker.topology().names.dead();
        Self { context, queue, orders: None }
    }

    /// For messages that matched no queue. An order that checkout published as it should is no dead letter: its queue
    /// or binding was missing for a while.
    pub fn of_unrouted(context: Arc<WorkerContext>, orders: Arc<dyn OrderIntake>) -> Self {
        let queue = context.broker.topology().names.unrouted();
        Self { context, queue, orders: Some(orders) }
    }

    /// Takes an order in that was published as it should be; whether it was one.
    async fn take_order(&self, delivery: &Delivery) -> bool {
        let Some(orders) = &self.orders else { return false };
        let is_placed = delivery.routing_key == ORDER_PLACED
            && delivery.exchange == self.context.broker.topology().names.orders();
        let Ok(order) = Order::parse(&delivery.body, &self.context.intake) else { return false };
        if !is_placed {
            return false;
        }
        let key = order.key.clone();
        let (source, trace) = (OrderSource::Broker, Trace::of(&delivery.headers));
        let placed = Placed { order: Arc::new(order), source, trace };
        let accept = || orders.accept(placed.clone(), self.context.now());
        let taken = self.context.availability.retry_until_available(accept).await;
        if taken.is_ok() {
            let (shop, order_id) = (key.shop.as_str(), key.order_id.as_str());
            tracing::warn!(shop, order_id, "order.taken_from_unrouted");
        }
        taken.is_ok()
    }

    fn fault(&self, delivery: &Delivery) -> Fault {
        let (exchange, key) = (&delivery.exchange, &delivery.routing_key);
        if self.orders.is_some() {
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
        if self.take_order(delivery).await {
            return Settle::Ack;
        }
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
