//! The submitter: sends orders to the ERP, one attempt per delivery (docs/architecture.md, rows 3
//! to 7).
//!
//! Admit and claim, pass the gate, ask if the outcome of an earlier attempt is in doubt, send, and
//! make the outcome durable: a receipt in the ledger, a failure as `order_failed` with the broker.
//! It never decides what follows a failure; the error handler does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join;

use crate::crash::{CrashPoint, reach};
use crate::domain::failure::Failure;
use crate::domain::lifecycle::claim::{Admission, Doubt, HandBack, Intent};
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{Phase, Trigger};
use crate::domain::message::{Again, EventKind, OrderEvent, TRIGGER};
use crate::domain::order::document::Order;
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::retry::later;
use crate::domain::trace::Trace;
use crate::ports::broker::{Delivery, Settle};
use crate::ports::circuits::Circuits;
use crate::ports::clock::Stopwatch;
use crate::ports::erp::{Journal, OrderForErp, Receipt};
use crate::ports::orders::{AdmitRequest, Admitted, Incoming, OrderSource, OrderTransfers, Placed};
use crate::ports::store_error::StoreError;
use crate::workers::consume::Handler;
use crate::workers::context::WorkerContext;
use crate::workers::erp_gate::GateState;
use crate::workers::policies::ShopPolicy;

/// How much longer than the longest call a lease is: time to wait at the gate and to write the
/// outcome. If it is not enough, another worker asks the ERP about the order; nothing is sent
/// twice.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(5);

crate::combined_port! {
    /// What the submitter asks of the ledger.
    pub trait SubmitterLedger: OrderTransfers, Circuits
}

/// The worker.
pub struct Submitter {
    pub(super) context: Arc<WorkerContext>,
    pub(super) ledger: Arc<dyn SubmitterLedger>,
    queue: String,
    /// The exchange of retries and nudges; everything else is an order message.
    redrive: String,
}

/// A claimed order that is being transferred.
pub(super) struct Work {
    pub(super) record: Box<OrderRecord>,
    pub(super) order: OrderForErp,
    pub(super) claim: String,
    pub(super) attempt: u32,
    pub(super) doubt: Option<Doubt>,
    pub(super) trigger: Trigger,
    pub(super) trace: Trace,
    pub(super) policy: ShopPolicy,
    pub(super) lease: Duration,
}

/// How an attempt ended.
pub(super) enum AttemptOutcome {
    /// It is in the ERP.
    There(Receipt),
    /// The attempt failed.
    Failed(Failure),
    /// No attempt was made.
    HandedBack(HandBack),
}

impl Submitter {
    /// A worker over `context`.
    pub fn new(context: Arc<WorkerContext>, ledger: Arc<dyn SubmitterLedger>) -> Self {
        let names = &context.broker.topology().names;
        let (queue, redrive) = (names.submit(), names.redrive());
        Self { context, ledger, queue, redrive }
    }

    fn read(&self, delivery: &Delivery) -> Result<Incoming, Fault> {
        if delivery.exchange == self.redrive {
            let again = Again::parse(&delivery.body)?;
            let trigger = delivery.headers.get(TRIGGER).and_then(|name| Trigger::from_name(name));
            return Ok(Incoming::Again {
                key: again.key(),
                attempt: again.attempt,
                trigger: trigger.unwrap_or(Trigger::Retry),
            });
        }
        let order = Order::parse(&delivery.body, self.context.max_bytes)?;
        let trace = Trace::of(&delivery.headers);
        Ok(Incoming::Placed(Placed { order: Arc::new(order), source: OrderSource::Broker, trace }))
    }

    async fn process(&self, delivery: &Delivery) -> Result<(), Unsettled> {
        let incoming = self.read(delivery).map_err(Unsettled::Fault)?;
        let context = &self.context;
        let policy = context.policies.of(&incoming.key().shop).clone();
        let lease = policy.gate.erp().call_budget() * 2 + LEASE_MARGIN;
        let claim = context.claim_name();
        let admitted = context
            .availability
            .retry_until_available(|| {
                let now = context.now();
                let intent = match policy.gate.flow() {
                    GateState::Stopped => Intent::Hold,
                    GateState::Open | GateState::Trial => {
                        Intent::Claim { worker: claim.clone(), until: later(now, lease) }
                    }
                };
                self.ledger.admit(AdmitRequest { incoming: incoming.clone(), intent, now })
            })
            .await?;
        reach(CrashPoint::Admitted);
        let Admitted::Known { admission, record, document, conflict, new } = admitted else {
            let detail = format!("the ledger has no order {}", incoming.key());
            return Err(Unsettled::Fault(Fault::whole(Reason::UnknownOrder, detail)));
        };
        let trigger = incoming.call().trigger;
        self.count(&record, &admission, new, conflict, trigger);
        let (attempt, doubt) = match admission {
            Admission::Send { attempt } => (attempt, None),
            Admission::AskFirst { attempt, doubt } => (attempt, Some(doubt)),
            Admission::Stale if delivery.redelivered => {
                self.tell_again(&record).await;
                return Ok(());
            }
            Admission::Held | Admission::Busy | Admission::Stale => return Ok(()),
        };
        let order = OrderForErp {
            key: record.key.clone(),
            document,
            received_at: record.received_at,
            trace: record.trace.clone(),
            journal: Journal::default(),
        };
        let trace = record.trace.clone();
        let work = Work { record, order, claim, attempt, doubt, trigger, trace, policy, lease };
        self.transfer(work).await.map_err(Unsettled::Refused)
    }

    fn count(
        &self,
        record: &OrderRecord,
        admission: &Admission,
        new: bool,
        conflict: bool,
        trigger: Trigger,
    ) {
        let metrics = &self.context.metrics;
        let (shop, order_id) = (record.key.shop.as_str(), record.key.order_id.as_str());
        if new {
            metrics.orders_received.get_or_create(&metrics.shop(shop)).inc();
        } else if trigger == Trigger::Checkout
            && matches!(admission, Admission::Stale | Admission::Busy)
        {
            metrics.orders_duplicate.inc();
        }
        if conflict {
            tracing::warn!(shop, order_id, "order.conflict");
        }
    }

    /// A redelivered order that is confirmed already: its event may not have gone out.
    async fn tell_again(&self, record: &OrderRecord) {
        if let Phase::Transferred { erp_order_id } = &record.phase {
            let trace = record.trace.clone();
            let mut event = OrderEvent::new(EventKind::Confirmed, &record.key, record.updated_at);
            event.attempt = record.last_attempt;
            event.fail_count = record.fail_count;
            event.erp_order_id.clone_from(erp_order_id);
            self.context.publisher.publish_event(&event, &trace);
        }
    }

    async fn transfer(&self, work: Work) -> Result<(), StoreError> {
        let watch = Stopwatch::start();
        let outcome = self.attempt(&work).await;
        reach(CrashPoint::Answered);
        // Both at once: they mostly share one transaction of the ledger.
        let kept = self.keep_exchanges(&work, matches!(outcome, AttemptOutcome::HandedBack(_)));
        join(kept, self.settle(&work, outcome, watch.elapsed_ms())).await.1
    }

    /// Makes the outcome durable.
    async fn settle(
        &self,
        work: &Work,
        outcome: AttemptOutcome,
        duration_ms: u64,
    ) -> Result<(), StoreError> {
        match outcome {
            AttemptOutcome::There(receipt) => self.confirm(work, receipt, duration_ms).await,
            AttemptOutcome::Failed(failure) => {
                self.report(work, &failure, duration_ms).await;
                Ok(())
            }
            AttemptOutcome::HandedBack(how) => self.hand_back(work, how).await,
        }
    }
}

/// Why a delivery was not dealt with.
enum Unsettled {
    Fault(Fault),
    Refused(StoreError),
}

impl From<StoreError> for Unsettled {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

#[async_trait]
impl Handler for Submitter {
    async fn handle(&self, delivery: &Delivery) -> Settle {
        let fault = match self.process(delivery).await {
            Ok(()) => return Settle::Ack,
            Err(Unsettled::Fault(fault)) => fault,
            Err(Unsettled::Refused(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Fault::whole(Reason::Refused, format!("{error}: {}", cause.unwrap_or_default()))
            }
        };
        match self.context.dead_letters.keep(&self.queue, delivery, &fault).await {
            Ok(()) => {
                reach(CrashPoint::DeadLetterRecorded);
                Settle::Ack
            }
            Err(error) => {
                tracing::error!(%error, "dead_letter.refused");
                Settle::Reject
            }
        }
    }
}
