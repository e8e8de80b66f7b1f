//! The submitter: takes orders to the ERP, one try per delivery (docs/architecture.md, rows 3 to 7).
//!
//! Admit and claim, pass the gate, ask where the outcome of an earlier try is in doubt, send, and
//! make the outcome durable: a receipt in the ledger, a failure as `order_failed` with the broker.
//! It never decides what follows a failure; the error handler does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join;
use jiff::Timestamp;

use crate::crash::{CrashPoint, reach};
use crate::domain::circuit::{Advice, reason_of};
use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::message::{Again, EventKind, OrderEvent, OrderFailed, TRIGGER};
use crate::domain::notice::{NoticeKind, circuit_notice_id, order_notice_id};
use crate::domain::order::{Fault, Order, OrderKey, Reason};
use crate::domain::retry::{is_exhausted, later};
use crate::domain::state::{Admission, Doubt, HandBack, Intent, OrderRecord, Phase, Trigger};
use crate::ports::broker::{Delivery, Settle};
use crate::ports::clock::Stopwatch;
use crate::ports::erp::{Answer, Journal, OrderForErp, Receipt};
use crate::ports::mail::NoticeDetail;
use crate::ports::store::{
    AdmitRequest, Admitted, ConfirmRequest, HandBackRequest, Incoming, KeepRequest, Notice, Placed,
    Source, StoreError,
};
use crate::telemetry::{ClassLabel, ErpLabel, RequestLabels};

use super::consume::Handler;
use super::gate::{Flow, Pass, Priority};
use super::relay::{Relay, ShopPolicy};
use crate::ports::letters::Trace;

/// What a lease is longer than the longest call: time to wait at the gate and to write the outcome.
/// Should it not be enough, another worker asks the ERP about the order; nothing is sent twice.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// What a call may take longer than its own limit says before it counts as hanging.
const CALL_MARGIN: Duration = Duration::from_secs(2);

/// The role.
pub struct Submitter {
    relay: Arc<Relay>,
    queue: String,
    /// The exchange through which retries and nudges come; everything else is an order message.
    redrive: String,
}

/// An order that is claimed, on its way.
struct Work {
    record: Box<OrderRecord>,
    order: OrderForErp,
    claim: String,
    attempt: u32,
    doubt: Option<Doubt>,
    trigger: Trigger,
    trace: Trace,
    policy: ShopPolicy,
    lease: Duration,
}

/// How a try ended.
enum Outcome {
    /// It is in the ERP.
    There(Receipt),
    /// The try failed.
    Failed(Failure),
    /// No try was made.
    HandedBack(HandBack),
}

impl Submitter {
    /// The role over `relay`.
    pub fn new(relay: Arc<Relay>) -> Self {
        let names = &relay.broker.topology().names;
        let (queue, redrive) = (names.submit(), names.redrive());
        Self { relay, queue, redrive }
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
        let order = Order::parse(&delivery.body, self.relay.max_bytes)?;
        let trace = Trace::of(&delivery.headers);
        Ok(Incoming::Placed(Placed {
            order: Arc::new(order),
            source: Source::Broker,
            traceparent: trace.parent,
            tracestate: trace.state,
        }))
    }

    async fn process(&self, delivery: &Delivery) -> Result<(), Unsettled> {
        let incoming = self.read(delivery).map_err(Unsettled::Fault)?;
        let relay = &self.relay;
        let policy = relay.policies.of(&incoming.key().shop).clone();
        let lease = policy.gate.erp().call_budget() * 2 + LEASE_MARGIN;
        let claim = relay.claim_name();
        let admitted = relay
            .insist(|| {
                let now = relay.now();
                let intent = match policy.gate.flow() {
                    Flow::Stopped => Intent::Hold,
                    Flow::Open | Flow::Trial => {
                        Intent::Claim { worker: claim.clone(), until: later(now, lease) }
                    }
                };
                relay.store.admit(AdmitRequest { incoming: incoming.clone(), intent, now })
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
            traceparent: record.traceparent.clone(),
            tracestate: record.tracestate.clone(),
            journal: Journal::default(),
        };
        let trace = Trace { parent: record.traceparent.clone(), state: record.tracestate.clone() };
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
        let metrics = &self.relay.metrics;
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
            let trace =
                Trace { parent: record.traceparent.clone(), state: record.tracestate.clone() };
            let mut event = OrderEvent::new(EventKind::Confirmed, &record.key, record.updated_at);
            event.attempt = record.last_attempt;
            event.fail_count = record.fail_count;
            event.erp_order_id.clone_from(erp_order_id);
            self.relay.publish_event(&event, &trace).await;
        }
    }

    async fn transfer(&self, work: Work) -> Result<(), StoreError> {
        let watch = Stopwatch::start();
        let outcome = self.attempt(&work).await;
        reach(CrashPoint::Answered);
        // Both at once: they mostly share one transaction of the ledger.
        let kept = self.keep_exchanges(&work, matches!(outcome, Outcome::HandedBack(_)));
        join(kept, self.settle(&work, outcome, watch.elapsed_ms())).await.1
    }

    /// Makes the outcome durable.
    async fn settle(
        &self,
        work: &Work,
        outcome: Outcome,
        duration_ms: u64,
    ) -> Result<(), StoreError> {
        match outcome {
            Outcome::There(receipt) => self.confirm(work, receipt, duration_ms).await,
            Outcome::Failed(failure) => {
                self.report(work, &failure, duration_ms).await;
                Ok(())
            }
            Outcome::HandedBack(how) => self.hand_back(work, how).await,
        }
    }

    /// What was said to the ERP and back is kept for people; the order does not depend on it.
    async fn keep_exchanges(&self, work: &Work, only_asked: bool) {
        let exchanges = work.order.journal.take();
        if exchanges.is_empty() {
            return;
        }
        let relay = &self.relay;
        let request = KeepRequest {
            key: work.record.key.clone(),
            attempt: work.attempt,
            worker: work.claim.clone(),
            exchanges,
            only_asked,
            now: relay.now(),
        };
        let kept = relay.insist(|| relay.store.keep_exchanges(request.clone())).await;
        if let Err(error) = kept {
            tracing::error!(%error, "exchanges.not_kept");
        }
    }

    async fn hand_back(&self, work: &Work, how: HandBack) -> Result<(), StoreError> {
        let relay = &self.relay;
        let request = || HandBackRequest {
            key: work.record.key.clone(),
            worker: work.claim.clone(),
            how,
            now: relay.now(),
        };
        relay.insist(|| relay.store.hand_back(request())).await?;
        if how == HandBack::Park {
            let mut event = OrderEvent::new(EventKind::Parked, &work.record.key, relay.now());
            event.attempt = work.record.last_attempt;
            event.fail_count = work.record.fail_count;
            event.trigger = Some(work.trigger);
            relay.publish_event(&event, &work.trace).await;
        }
        Ok(())
    }

    /// One try, from the gate to an outcome; holds the pass no longer than the call takes.
    async fn attempt(&self, work: &Work) -> Outcome {
        let priority = match work.trigger {
            Trigger::Checkout | Trigger::Operator => Priority::Live,
            Trigger::Retry | Trigger::Redrive | Trigger::Sweeper => Priority::Later,
        };
        let Some(pass) = work.policy.gate.enter(priority).await else {
            return Outcome::HandedBack(HandBack::Hold);
        };
        if !self.claim_is_good(work).await {
            // Somebody else has taken it over because we waited too long.
            return Outcome::HandedBack(HandBack::Hold);
        }
        self.show_load(work);
        let outcome = match (&work.doubt, pass.is_trial()) {
            (Some(doubt), _) => self.ask_then_send(work, *doubt, &pass).await,
            (None, true) if work.policy.gate.erp().can_ask() => {
                self.try_then_send(work, &pass).await
            }
            (None, _) => self.send(work, &pass).await,
        };
        drop(pass);
        self.show_load(work);
        outcome
    }

    /// Whether the lease outlives a call that begins now; made longer when it does not.
    async fn claim_is_good(&self, work: &Work) -> bool {
        let Some(claim) = &work.record.claim else { return false };
        let now = self.relay.now();
        let budget = work.lease - LEASE_MARGIN;
        if later(now, budget) <= claim.until {
            return true;
        }
        let (key, until) = (&work.record.key, later(now, work.lease));
        let renewed =
            self.relay.insist(|| self.relay.store.renew_claim(key, &work.claim, until)).await;
        renewed.unwrap_or(false)
    }

    /// An earlier try may have brought it in: nothing is sent before the ERP has said that it is
    /// not there, and could not still come. Only an ERP that takes a repeat for the same order is
    /// not asked.
    async fn ask_then_send(&self, work: &Work, doubt: Doubt, pass: &Pass) -> Outcome {
        let erp = work.policy.gate.erp();
        if erp.is_idempotent() && !self.has_no_try_left(work) {
            return self.send(work, pass).await;
        }
        let now = self.relay.now();
        if !erp.can_ask() {
            return self.wait_for_person(work, doubt, now);
        }
        match (self.ask(work).await, doubt) {
            (Answer::Found(receipt), _) => self.finish(work, receipt, pass).await,
            (Answer::Absent, Doubt::Answered { at }) => {
                let counts_from = later(at, work.policy.retry.settle);
                if now < counts_from {
                    self.heard_from(work, pass).await;
                    return Outcome::HandedBack(HandBack::AskAt(counts_from));
                }
                self.send(work, pass).await
            }
            (Answer::Absent, Doubt::Unclear { since }) => {
                if now < later(since, work.policy.retry.settle) {
                    self.heard_from(work, pass).await;
                    return self.ask_later(work, since, now, "the ERP does not have it yet");
                }
                if self.has_no_try_left(work) {
                    self.heard_from(work, pass).await;
                    return Outcome::HandedBack(HandBack::Park);
                }
                self.send(work, pass).await
            }
            (Answer::Unclear(failure), Doubt::Answered { .. }) => {
                self.suspect(work, &failure, Duration::ZERO, pass).await;
                // Nothing was sent, so no try is used up; it is overdue, and asked about again.
                Outcome::HandedBack(HandBack::Hold)
            }
            (Answer::Unclear(failure), Doubt::Unclear { since }) => {
                self.suspect(work, &failure, Duration::ZERO, pass).await;
                self.ask_later(work, since, now, &failure.message)
            }
        }
    }

    /// Nobody but a person can say whether it is there.
    fn wait_for_person(&self, work: &Work, doubt: Doubt, now: Timestamp) -> Outcome {
        let why = "the ERP cannot be asked about it; a person has to decide";
        match doubt {
            Doubt::Unclear { since } => self.ask_later(work, since, now, why),
            Doubt::Answered { .. } => {
                let class = ErrorClass::UnknownOutcome;
                Outcome::Failed(Failure::new(class, "no_probe", why, Stage::At))
            }
        }
    }

    /// It is there: what has to follow, and then it is done.
    async fn finish(&self, work: &Work, receipt: Receipt, pass: &Pass) -> Outcome {
        let erp = work.policy.gate.erp();
        let watch = Stopwatch::start();
        let finished = fenced(erp.finish(&work.order, receipt), erp.call_budget()).await;
        let finished = finished
            .unwrap_or_else(|why| Err(Failure::new(ErrorClass::Unavailable, why, why, Stage::At)));
        match finished {
            Ok(receipt) => {
                self.relay.metrics.duplicates_prevented.inc();
                self.heard_from(work, pass).await;
                Outcome::There(receipt)
            }
            Err(failure) => {
                self.count_request(work, "finish", failure.class.as_str());
                self.suspect(work, &failure, watch.elapsed(), pass).await;
                Outcome::Failed(Failure { stage: Stage::At, ..failure })
            }
        }
    }

    fn has_no_try_left(&self, work: &Work) -> bool {
        matches!(work.record.phase, Phase::OutcomeUnknown { .. })
            && !work.trigger.is_by_person()
            && is_exhausted(work.record.fail_count, work.record.max_count)
    }

    /// The outcome stays unknown. If that was not told yet (a worker died in the middle), it is now.
    fn ask_later(&self, work: &Work, since: Timestamp, now: Timestamp, why: &str) -> Outcome {
        if matches!(work.record.phase, Phase::OutcomeUnknown { .. }) {
            let at = work.policy.retry.next_ask(since, now);
            return Outcome::HandedBack(HandBack::AskAt(at));
        }
        let message = format!("a transfer was interrupted and its outcome is unknown: {why}");
        let class = ErrorClass::UnknownOutcome;
        Outcome::Failed(Failure::new(class, "interrupted", &message, Stage::At))
    }

    /// The circuit is half-open: a question costs no try, so it comes first.
    async fn try_then_send(&self, work: &Work, pass: &Pass) -> Outcome {
        match self.ask(work).await {
            Answer::Found(receipt) => self.finish(work, receipt, pass).await,
            Answer::Absent => self.send(work, pass).await,
            // Certainly not this order, which was never sent.
            Answer::Unclear(failure) if failure.class == ErrorClass::Rejected => {
                self.send(work, pass).await
            }
            Answer::Unclear(failure) => {
                self.fail_trial(work, &failure).await;
                Outcome::HandedBack(HandBack::Hold)
            }
        }
    }

    async fn ask(&self, work: &Work) -> Answer {
        let erp = work.policy.gate.erp();
        let asked = fenced(erp.ask(&work.order), erp.call_budget()).await;
        let answer = asked.unwrap_or_else(|why| {
            Answer::Unclear(Failure::new(ErrorClass::Unavailable, why, why, Stage::At))
        });
        let outcome = match &answer {
            Answer::Found(_) => "found",
            Answer::Absent => "absent",
            Answer::Unclear(_) => "unclear",
        };
        self.count_request(work, "ask", outcome);
        match answer {
            Answer::Found(receipt) if !erp.tells_shops_apart() => {
                self.doubt_what_is_taken(work, receipt).await
            }
            answer => answer,
        }
    }

    /// An ERP that is asked by number alone may show another shop's order of the same number: what
    /// is another order's already cannot be this one's.
    async fn doubt_what_is_taken(&self, work: &Work, receipt: Receipt) -> Answer {
        let Some(number) = receipt.erp_order_id.as_deref() else { return Answer::Found(receipt) };
        let (relay, key) = (&self.relay, &work.record.key);
        let others = relay.insist(|| relay.store.orders_under(number, key)).await;
        let erp = work.policy.gate.erp_name();
        let same_erp = |other: &OrderKey| relay.policies.of(&other.shop).gate.erp_name() == erp;
        match others.unwrap_or_default().into_iter().find(same_erp) {
            None => Answer::Found(receipt),
            Some(other) => {
                let message = format!(
                    "the ERP shows its order {number} for this one, and that is {other} already: it \
                     has to tell shops apart by the Idempotency-Key"
                );
                tracing::warn!(
                    shop = key.shop.as_str(),
                    order_id = key.order_id.as_str(),
                    "erp.mixed_up"
                );
                let class = ErrorClass::Rejected;
                Answer::Unclear(Failure::new(class, "another_order", &message, Stage::After))
            }
        }
    }

    async fn send(&self, work: &Work, pass: &Pass) -> Outcome {
        let erp = work.policy.gate.erp();
        let watch = Stopwatch::start();
        let sent = fenced(erp.submit(&work.order), erp.call_budget()).await;
        let latency = watch.elapsed();
        self.relay.metrics.erp_request_duration_seconds.observe(latency.as_secs_f64());
        let result = sent.unwrap_or_else(|why| {
            Err(Failure::new(ErrorClass::UnknownOutcome, why, why, Stage::At))
        });
        match result {
            Ok(receipt) => {
                self.count_request(work, "submit", "accepted");
                work.policy.gate.record_success(latency);
                self.heard_from(work, pass).await;
                if receipt.found {
                    self.relay.metrics.duplicates_prevented.inc();
                }
                Outcome::There(receipt)
            }
            Err(failure) => {
                self.count_request(work, "submit", failure.class.as_str());
                self.suspect(work, &failure, latency, pass).await;
                Outcome::Failed(failure)
            }
        }
    }

    /// The ERP is there: if this was the trial of an open circuit, it closes.
    async fn heard_from(&self, work: &Work, pass: &Pass) {
        if !pass.is_trial() {
            return;
        }
        let (relay, gate) = (&self.relay, &work.policy.gate);
        let closed = relay.insist(|| relay.store.close_circuit(gate.erp_name())).await;
        if let Err(error) = closed {
            tracing::error!(%error, erp = gate.erp_name(), "circuit.not_closed");
            return;
        }
        gate.set_flow(Flow::Open);
        tracing::info!(erp = gate.erp_name(), "circuit.closed");
    }

    /// Weighs a failure as evidence about the ERP as a whole.
    async fn suspect(&self, work: &Work, failure: &Failure, latency: Duration, pass: &Pass) {
        let gate = &work.policy.gate;
        if pass.is_trial() {
            match failure.class {
                ErrorClass::Rejected | ErrorClass::Internal => self.heard_from(work, pass).await,
                _ => self.fail_trial(work, failure).await,
            }
            return;
        }
        match gate.record_failure(&work.record.key, failure, latency) {
            Advice::CarryOn => {}
            Advice::Open => self.open_circuit(work, failure).await,
            Advice::AskTheErp => match self.ask(work).await {
                Answer::Found(_) | Answer::Absent => gate.record_answered(),
                Answer::Unclear(answer) if answer.class == ErrorClass::Rejected => {
                    gate.record_answered();
                }
                Answer::Unclear(answer) => self.open_circuit(work, &answer).await,
            },
        }
    }

    async fn open_circuit(&self, work: &Work, failure: &Failure) {
        let (relay, gate) = (&self.relay, &work.policy.gate);
        gate.set_flow(Flow::Stopped);
        let now = relay.now();
        let pause = gate.rule().pause_for(failure, 0);
        let reason = reason_of(failure);
        let (erp, shop) = (gate.erp_name(), work.record.key.shop.as_str());
        let opened = relay
            .insist(|| {
                let notice = Notice {
                    id: circuit_notice_id(erp, now),
                    kind: NoticeKind::CircuitOpened,
                    detail: NoticeDetail::of_erp(erp, shop, &reason, now),
                    created_at: now,
                };
                relay.store.open_circuit(erp, &reason, later(now, pause), Some(notice), now)
            })
            .await;
        match opened {
            Ok(true) => {
                // The ERP's own words may name people: they stand in the mail and in `erp circuits`.
                tracing::warn!(erp, code = failure.code, "circuit.opened");
                relay.notices_wait();
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, erp, "circuit.not_opened"),
        }
    }

    async fn fail_trial(&self, work: &Work, failure: &Failure) {
        let (relay, gate) = (&self.relay, &work.policy.gate);
        gate.set_flow(Flow::Stopped);
        let (erp, reason) = (gate.erp_name(), reason_of(failure));
        let failed = relay
            .insist(|| async {
                let circuits = relay.store.circuits().await?;
                let trials = circuits.iter().find(|c| c.erp == erp).map_or(0, |c| c.trials);
                let at = later(relay.now(), gate.rule().pause_for(failure, trials + 1));
                relay.store.fail_trial(erp, &relay.worker, &reason, at).await
            })
            .await;
        match failed {
            Ok(()) => tracing::info!(erp, code = failure.code, "circuit.trial_failed"),
            Err(error) => tracing::error!(%error, erp, "circuit.trial_not_ended"),
        }
    }

    async fn confirm(
        &self,
        work: &Work,
        receipt: Receipt,
        duration_ms: u64,
    ) -> Result<(), StoreError> {
        let relay = &self.relay;
        let now = relay.now();
        let (record, key) = (&work.record, &work.record.key);
        let notice = work.policy.customer.applies(record.fail_count).then(|| Notice {
            id: order_notice_id(NoticeKind::CustomerConfirmation, key, work.attempt),
            kind: NoticeKind::CustomerConfirmation,
            detail: NoticeDetail {
                erp_order_id: receipt.erp_order_id.clone(),
                ..NoticeDetail::of_order(record, work.attempt, now)
            },
            created_at: now,
        });
        let has_notice = notice.is_some();
        let request = ConfirmRequest {
            key: key.clone(),
            attempt: work.attempt,
            trigger: work.trigger,
            worker: work.claim.clone(),
            erp_order_id: receipt.erp_order_id.clone(),
            request: receipt.request,
            status: receipt.status,
            duration_ms,
            found: receipt.found,
            notice,
            now,
        };
        let confirmed = relay.insist(|| relay.store.confirm(request.clone())).await?;
        reach(CrashPoint::Confirmed);
        let (shop, order_id) = (key.shop.as_str(), key.order_id.as_str());
        if let Some(other) = confirmed.other_erp_order_id {
            tracing::error!(
                shop,
                order_id,
                first = other,
                second = receipt.erp_order_id,
                "order.entered_twice"
            );
        }
        if confirmed.first {
            let (metrics, trigger) = (&relay.metrics, work.trigger.as_str());
            metrics.orders_confirmed.get_or_create(&metrics.shop(shop)).inc();
            let age =
                Duration::try_from(now.duration_since(record.received_at)).unwrap_or_default();
            metrics.settle_duration_seconds.observe(age.as_secs_f64());
            tracing::info!(
                shop,
                order_id,
                attempt = work.attempt,
                trigger,
                found = receipt.found,
                duration_ms,
                fail_count = confirmed.fail_count,
                max = record.max_count,
                "order.submitted"
            );
        }
        if has_notice {
            relay.notices_wait();
        }
        let mut event = OrderEvent::new(EventKind::Confirmed, key, now);
        event.attempt = work.attempt;
        event.fail_count = confirmed.fail_count;
        event.trigger = Some(work.trigger);
        event.erp_order_id = receipt.erp_order_id;
        relay.publish_event(&event, &work.trace).await;
        Ok(())
    }

    async fn report(&self, work: &Work, failure: &Failure, duration_ms: u64) {
        let relay = &self.relay;
        let mut event =
            OrderFailed::of(&work.record.key, work.attempt, work.policy.max_count, failure);
        event.trigger = work.trigger;
        event.duration_ms = duration_ms;
        // An interrupted try ended when its lease did, not when we noticed.
        event.occurred_at = Some(match (failure.class, work.doubt) {
            (ErrorClass::UnknownOutcome, Some(Doubt::Unclear { since }))
                if failure.code == "interrupted" =>
            {
                since
            }
            _ => relay.now(),
        });
        relay.publish_failed(&event, &work.claim, &work.trace).await;
        reach(CrashPoint::FailurePublished);
        relay.metrics.orders_failed.get_or_create(&ClassLabel::new(failure.class.as_str())).inc();
        if failure.class == ErrorClass::UnknownOutcome {
            relay.metrics.outcome_unknown.inc();
        }
    }

    fn count_request(&self, work: &Work, step: &str, outcome: &str) {
        let labels = RequestLabels::new(work.policy.gate.erp_name(), step, outcome);
        self.relay.metrics.erp_requests.get_or_create(&labels).inc();
    }

    fn show_load(&self, work: &Work) {
        let (in_flight, limit) = work.policy.gate.load();
        let erp = ErpLabel::new(work.policy.gate.erp_name());
        self.relay.metrics.erp_in_flight.get_or_create(&erp).set(in_flight.into());
        self.relay.metrics.erp_in_flight_limit.get_or_create(&erp).set(limit.into());
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
        match self.relay.bury(&self.queue, delivery, &fault).await {
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

/// Lets a call to the ERP take its time and no longer, and survives its panic; either leaves the
/// outcome open.
async fn fenced<T>(call: impl Future<Output = T>, budget: Duration) -> Result<T, &'static str> {
    let call = AssertUnwindSafe(tokio::time::timeout(budget + CALL_MARGIN, call)).catch_unwind();
    match call.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err("timeout"),
        Err(_) => Err("panicked"),
    }
}
