//! The consume loop: permits, isolation of panics, settling, pausing and draining.
//!
//! A handler is a function from a delivery to a verdict; this loop owns the acknowledgement and
//! sends it only after the handler has returned, when every effect is durable. Nothing is batched
//! here: the ledger and the publisher group the work of many handlers.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::crash::{CrashPoint, reach};
use crate::domain::order::fault::{Fault, Reason};
use crate::ports::broker::{Broker, Delivery, Settle, Subscription};
use crate::workers::context::WorkerContext;

/// Pause before a failed subscription is repeated.
const PAUSE: Duration = Duration::from_secs(2);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Handles one delivery for a worker.
#[async_trait]
pub trait Handler: Send + Sync {
    /// The verdict; returns only when every effect is durable.
    async fn handle(&self, delivery: &Delivery) -> Settle;
}

/// How much a loop may read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// As many as it has permits.
    Full,
    /// One at a time.
    One,
    /// Nothing.
    None,
}

/// One queue and how it is read.
pub struct Reading {
    pub queue: String,
    /// Most deliveries in progress.
    pub permits: u16,
    /// How much may be read now.
    pub read_mode: watch::Receiver<ReadMode>,
    /// Stops reading; deliveries in progress are finished.
    pub stop: CancellationToken,
}

/// Reads a queue until `stop`, and returns when every delivery is settled.
pub async fn consume(context: &WorkerContext, handler: &impl Handler, reading: Reading) {
    let (queue, permits) = (reading.queue.clone(), usize::from(reading.permits));
    deliveries(&*context.broker, reading)
        .for_each_concurrent(permits, |delivery| {
            let queue = &queue;
            async move {
                reach(CrashPoint::Received);
                let settle = fenced(context, handler, queue, &delivery).await;
                delivery.settler.settle(settle).await;
            }
        })
        .await;
}

/// Returns when nothing waits in `queue` any more; at once if that cannot be determined.
pub async fn until_drained(broker: &dyn Broker, queue: &str) {
    while broker.queue_status(queue).await.is_ok_and(|status| status.ready > 0) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A handler that panics affects only its own delivery, which becomes a dead letter: it would panic
/// again.
async fn fenced(
    context: &WorkerContext,
    handler: &impl Handler,
    queue: &str,
    delivery: &Delivery,
) -> Settle {
    match AssertUnwindSafe(handler.handle(delivery)).catch_unwind().await {
        Ok(settle) => settle,
        Err(_) => {
            tracing::error!(queue, "handler.panicked");
            let fault = Fault::whole(
                Reason::HandlerPanicked,
                "our code panicked while handling this message",
            );
            match context.dead_letters.keep(queue, delivery, &fault).await {
                Ok(()) => Settle::Ack,
                Err(error) => {
                    tracing::error!(%error, queue, "dead_letter.refused");
                    Settle::Reject
                }
            }
        }
    }
}

/// The state of the stream of deliveries.
enum Reader {
    Ended,
    Open { subscription: Box<dyn Subscription>, read_mode: ReadMode, cancelled: bool },
}

/// The deliveries of a queue over all sessions and pauses, until the loop is stopped.
fn deliveries(broker: &dyn Broker, reading: Reading) -> impl Stream<Item = Delivery> {
    stream::unfold((Reader::Ended, reading), async move |(mut source, mut reading)| {
        let stop = reading.stop.clone();
        loop {
            if stop.is_cancelled() {
                return None;
            }
            source = match source {
                Reader::Ended => tokio::select! {
                    biased;
                    () = stop.cancelled() => return None,
                    opened = open(broker, &mut reading) => opened,
                },
                Reader::Open { mut subscription, read_mode, cancelled } => {
                    let next = tokio::select! {
                        biased;
                        () = stop.cancelled() => return None,
                        next = subscription.next() => Some(next),
                        () = change(&mut reading.read_mode, read_mode), if !cancelled => None,
                    };
                    match next {
                        Some(Ok(Some(delivery))) => {
                            let source = Reader::Open { subscription, read_mode, cancelled };
                            return Some((delivery, (source, reading)));
                        }
                        Some(Ok(None)) => Reader::Ended,
                        Some(Err(error)) => {
                            tracing::info!(queue = reading.queue, %error, "consumer.ended");
                            Reader::Ended
                        }
                        None => cancel(subscription, read_mode).await,
                    }
                }
            };
        }
    })
}

/// Returns when the read mode changes; never, if nothing can change it.
async fn change(read_mode: &mut watch::Receiver<ReadMode>, from: ReadMode) {
    if read_mode.wait_for(|now| *now != from).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until reading is allowed, and subscribes.
async fn open(broker: &dyn Broker, reading: &mut Reading) -> Reader {
    let allowed = reading.read_mode.wait_for(|read_mode| *read_mode != ReadMode::None).await;
    let Some(read_mode) = allowed.ok().map(|read_mode| *read_mode) else {
        // The sender is gone: the process is ending.
        return std::future::pending().await;
    };
    let prefetch = if read_mode == ReadMode::One { 1 } else { reading.permits };
    match broker.subscribe(&reading.queue, prefetch).await {
        Ok(subscription) => {
            tracing::debug!(queue = reading.queue, prefetch, "consumer.started");
            Reader::Open { subscription, read_mode, cancelled: false }
        }
        Err(error) => {
            tracing::warn!(queue = reading.queue, %error, "consumer.refused");
            tokio::time::sleep(PAUSE).await;
            Reader::Ended
        }
    }
}

/// Requests no more deliveries. Those that were already delivered are still handled: returning them
/// would count as a failed delivery of untouched orders.
async fn cancel(mut subscription: Box<dyn Subscription>, read_mode: ReadMode) -> Reader {
    match subscription.cancel().await {
        Ok(()) => Reader::Open { subscription, read_mode, cancelled: true },
        Err(error) => {
            tracing::info!(%error, "consumer.ended");
            Reader::Ended
        }
    }
}
