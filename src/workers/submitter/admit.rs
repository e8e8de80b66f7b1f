//! The submitter: sends orders to the ERP, one attempt per delivery (docs/architecture.md, rows 3
//! to 7).
//!
//! Admit, wait for a turn at the gate, claim, ask if the outcome of an earlier attempt is in doubt, send, and
//! make the outcome durable: a receipt or a failure in the ledger, or the failure as `order_failed` with the
//! broker. What follows a failure is decided where it is counted (`workers/failure_counter.rs`).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join;

use crate::crash::{CrashPoint, reach};
use crate::domain::failure::{Failure, Stage};
use crate::domain::failure_summary::FailureSummary;
use crate::domain::lifecycle::claim::{Admission, Doubt, HandBack, Intent};
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{Phase, Trigger};
use crate::domain::message::{Again, EventKind, OrderEvent, TRIGGER};
use crate::domain::order::document::Order;
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::order::values::{Email, OrderKey};
use crate::domain::retry::later;
use crate::domain::trace::Trace;
use crate::ports::broker::{Delivery, Settle};
use crate::ports::circuits::Circuits;
use crate::ports::clock::Stopwatch;
use crate::ports::erp::{CommitPermit, Journal, OrderForErp, Receipt};
use crate::ports::orders::{
    AdmitRequest, Admitted, Incoming, OrderSource, OrderTransfers, Overdue, Placed,
};
use crate::ports::store_error::StoreError;
use crate::ports::total_differences::AcceptedTotals;
use crate::workers::consume::Handler;
use crate::workers::context::WorkerContext;
use crate::workers::erp_gate::{GateState, Pass, Priority};
use crate::workers::failure_counter::FailureCounter;
use crate::workers::policies::ShopPolicy;
use crate::workers::submitter::lease::{self, Lease};

/// How long a message may wait for a turn: RabbitMQ takes it back after 30 minutes (`consumer_timeout`). The
/// order is in the ledger by then, and the sweeper finds it.
const LONGEST_IN_HAND: Duration = Duration::from_mins(15);

/// How long an order message waits for its turn before it is stored without a claim.
const SOON: Duration = Duration::from_millis(250);

crate::combined_port! {
    /// What the submitter asks of the ledger.
    pub trait SubmitterLedger: OrderTransfers, AcceptedTotals, Circuits
}

/// The worker.
pub struct Submitter {
    pub(super) context: Arc<WorkerContext>,
    pub(super) ledger: Arc<dyn SubmitterLedger>,
    /// Where this process also handles errors.
    pub(super) counter: Option<Arc<FailureCounter>>,
    queue: String,
    /// The exchange of retries and nudges; everything else is an order message.
    redrive: String,
    waiting: Waiting,
}

/// The orders that wait for their turn in this process.
#[derive(Default)]
struct Waiting(Mutex<HashSet<OrderKey>>);

impl Waiting {
    /// `None` when it waits already; the first one leaves when its place is dropped.
    fn enter(&self, key: &OrderKey) -> Option<Place<'_>> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.clone()).then(|| Place { waiting: self, key: key.clone() })
    }
}

struct Place<'a> {
    waiting: &'a Waiting,
    key: OrderKey,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// An order as the ledger answered for it.
struct Candidate {
    admission: Admission,
    record: Box<OrderRecord>,
    document: Arc<str>,
    conflict: bool,
    new: bool,
}

fn priority_of(trigger: Trigger) -> Priority {
    match trigger {
        Trigger::Checkout | Trigger::Operator => Priority::Live,
        Trigger::Retry | Trigger::Sweeper => Priority::Later,
        Trigger::Redrive => Priority::Redriven,
    }
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
    pub(super) lease: Arc<Lease>,
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
    /// A worker over `context`; without a counter, failures are published for error handlers elsewhere.
    pub fn new(
        context: Arc<WorkerContext>,
        ledger: Arc<dyn SubmitterLedger>,
        counter: Option<Arc<FailureCounter>>,
    ) -> Self {
        let names = &context.broker.topology().names;
        let (queue, redrive) = (names.submit(), names.redrive());
        Self { context, ledger, counter, queue, redrive, waiting: Waiting::default() }
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
        let order = Order::parse(&delivery.body, &self.context.intake)?;
        let trace = Trace::of(&delivery.headers);
        Ok(Incoming::Placed(Placed { order: Arc::new(order), source: OrderSource::Broker, trace }))
    }

    async fn process(&self, delivery: &Delivery) -> Result<(), Unsettled> {
        let incoming = self.read(delivery).map_err(Unsettled::Fault)?;
        self.take(&incoming, delivery.redelivered).await
    }

    /// Attempts an order for the trial of a circuit, without a message.
    pub async fn attempt_overdue(&self, order: Overdue) {
        let Overdue { key, attempt, .. } = order;
        let (shop, order_id) = (key.shop.to_string(), key.order_id.to_string());
        let incoming = Incoming::Again { key, attempt, trigger: Trigger::Sweeper };
        match self.take(&incoming, false).await {
            Ok(()) | Err(Unsettled::Gone) => {}
            Err(Unsettled::Refused(error)) => {
                tracing::error!(%error, shop, order_id, "circuit.trial_refused");
            }
            Err(Unsettled::Fault(fault)) => {
                tracing::error!(%fault, shop, order_id, "circuit.trial_refused");
            }
        }
    }

    async fn take(&self, incoming: &Incoming, redelivered: bool) -> Result<(), Unsettled> {
        let policy = self.context.policies.of(&incoming.key().shop);
        let taken = self.take_its_turn(incoming, policy, redelivered).await;
        self.show_load(&policy.gate);
        taken
    }

    async fn take_its_turn(
        &self,
        incoming: &Incoming,
        policy: &ShopPolicy,
        redelivered: bool,
    ) -> Result<(), Unsettled> {
        let trigger = incoming.call().trigger;
        // An order is claimed only when its turn has come. Mostly that is now or soon, and one transaction is enough.
        // A message that waits longer is stored without a claim, so that people see the order.
        let mut pass = policy.gate.try_enter();
        if pass.is_none() && matches!(incoming, Incoming::Placed(_)) && !policy.gate.is_paced() {
            let turn = policy.gate.enter(priority_of(trigger));
            pass = tokio::time::timeout(SOON, turn).await.ok().flatten();
        }
        let mut admitted = self.admit(incoming, policy, pass.as_ref()).await?;
        reach(CrashPoint::Admitted);
        self.count(&admitted, trigger);
        // The circuit may open and close while it waits: then it waits for another turn.
        while admitted.admission == Admission::Waits {
            let place = self.waiting.enter(&admitted.record.key);
            if place.is_none() && trigger == Trigger::Sweeper {
                // It waits here already, and the sweeper has nothing to add to that. A person has.
                return Ok(());
            }
            let turn = policy.gate.enter(priority_of(trigger));
            let Ok(turn) = tokio::time::timeout(LONGEST_IN_HAND, turn).await else {
                return Ok(());
            };
            pass = turn;
            admitted = self.admit(incoming, policy, pass.as_ref()).await?;
        }
        self.follow(admitted, pass, trigger, policy, redelivered).await
    }

    /// Inserts the order if it is new, and claims it if it has its turn.
    async fn admit(
        &self,
        incoming: &Incoming,
        policy: &ShopPolicy,
        turn: Option<&Pass>,
    ) -> Result<Candidate, Unsettled> {
        let context = &self.context;
        let claim = context.claim_name();
        let erp = policy.gate.erp();
        let length = lease::length_for(erp.call_budget());
        let admitted = context
            .availability
            .retry_until_available(|| {
                let now = context.now();
                let intent = match policy.gate.flow() {
                    GateState::Stopped => Intent::Hold,
                    GateState::Open | GateState::Trial => match turn {
                        None => Intent::Wait,
                        Some(turn) => Intent::Claim {
                            worker: claim.clone(),
                            until: later(now, length),
                            begins: !turn.is_trial()
                                && !policy.asks_first
                                && !erp.has_steps_before(),
                        },
                    },
                };
                self.ledger.admit(AdmitRequest { incoming: incoming.clone(), intent, now })
            })
            .await?;
        match admitted {
            Admitted::Known { admission, record, document, conflict, new } => {
                Ok(Candidate { admission, record, document, conflict, new })
            }
            Admitted::Unknown => {
                let detail = format!("the ledger has no order {}", incoming.key());
                Err(Unsettled::Fault(Fault::whole(Reason::UnknownOrder, detail)))
            }
            Admitted::Gone { same: true } => {
                context.metrics.orders_duplicate.inc();
                Err(Unsettled::Gone)
            }
            Admitted::Gone { same: false } => {
                Err(Unsettled::Fault(Fault::number_taken(incoming.key())))
            }
        }
    }

    /// Attempts what was claimed.
    async fn follow(
        &self,
        candidate: Candidate,
        pass: Option<Pass>,
        trigger: Trigger,
        policy: &ShopPolicy,
        redelivered: bool,
    ) -> Result<(), Unsettled> {
        let Candidate { admission, record, document, .. } = candidate;
        let (attempt, doubt) = match admission {
            Admission::Send { attempt } => (attempt, None),
            Admission::AskFirst { attempt, doubt } => (attempt, Some(doubt)),
            Admission::Stale if redelivered => {
                self.tell_again(&record);
                return Ok(());
            }
            Admission::Held | Admission::Waits | Admission::Busy | Admission::Stale => {
                return Ok(());
            }
        };
        let (Some(pass), Some(claim)) = (pass, &record.claim) else { return Ok(()) };
        // Only an order that the ERP has already can be there with another sum.
        let accepted = match doubt {
            Some(_) => {
                let asked = || self.ledger.accepted_total(&record.key);
                self.context.availability.retry_until_available(asked).await?
            }
            None => None,
        };
        let (context, budget) = (self.context.clone(), policy.gate.erp().call_budget());
        let lease = Lease::of(context, self.ledger.clone(), record.key.clone(), claim, budget);
        let (lease, claim) = (Arc::new(lease), claim.worker.clone());
        let sent = doubt.map(|doubt| match doubt {
            Doubt::Unclear { since } => since,
            Doubt::Answered { at } => at,
        });
        let order = OrderForErp {
            key: record.key.clone(),
            document,
            received_at: record.received_at,
            trace: record.trace.clone(),
            journal: Journal::default(),
            permit: CommitPermit::of(lease.clone()),
            accepted,
            settled_from: sent.map(|sent| later(sent, policy.retry.settle)),
        };
        let (trace, policy) = (record.trace.clone(), policy.clone());
        let work = Work { record, order, claim, attempt, doubt, trigger, trace, policy, lease };
        self.transfer(work, pass).await.map_err(Unsettled::Refused)
    }

    fn count(&self, candidate: &Candidate, trigger: Trigger) {
        let Candidate { record, admission, new, conflict, .. } = candidate;
        let metrics = &self.context.metrics;
        let (shop, order_id) = (record.key.shop.as_str(), record.key.order_id.as_str());
        if *new {
            metrics.orders_received.get_or_create(&metrics.shop(shop)).inc();
            if let Some(unseen) = record.facts.customer.email.as_ref().and_then(Email::unseen) {
                let unseen = format!("U+{:04X}", u32::from(unseen));
                tracing::warn!(shop, order_id, unseen, "order.address_unusable");
            }
        } else if trigger == Trigger::Checkout
            && matches!(admission, Admission::Stale | Admission::Busy)
        {
            metrics.orders_duplicate.inc();
        }
        if *conflict {
            tracing::warn!(shop, order_id, "order.conflict");
        }
    }

    /// A redelivered order whose attempt has ended already: the event that says so may not have gone out.
    fn tell_again(&self, record: &OrderRecord) {
        let (kind, erp_order_id) = match &record.phase {
            Phase::Transferred { erp_order_id } => (EventKind::Confirmed, erp_order_id.clone()),
            Phase::Parked => (EventKind::Parked, None),
            Phase::OutcomeUnknown { .. } => (EventKind::OutcomeUnknown, None),
            _ => return,
        };
        let mut event = OrderEvent::new(kind, &record.key, record.updated_at);
        event.attempt = record.last_attempt;
        event.fail_count = record.fail_count;
        event.erp_order_id = erp_order_id;
        if kind != EventKind::Confirmed {
            event.error = record.last_failure.as_ref().map(|last| {
                let FailureSummary { class, code, message, .. } = &last.summary;
                Failure { stage: None, ..Failure::new(*class, code, message, Stage::At) }
            });
        }
        self.context.publisher.publish_event(&event, &record.trace);
    }

    async fn transfer(&self, work: Work, pass: Pass) -> Result<(), StoreError> {
        let watch = Stopwatch::start();
        let outcome = self.attempt(&work, pass).await;
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
    /// The order is finished, and its rows are gone: there is nothing to do.
    Gone,
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
            Ok(()) | Err(Unsettled::Gone) => return Settle::Ack,
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
