//! One attempt of the submitter, to an outcome: ask if the outcome of an earlier
//! attempt is in doubt, send, finish the remaining steps.
//!
//! Nothing is made durable here (`settle.rs`); what a failure means for the ERP as a whole is
//! evaluated in `evidence.rs`.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::lifecycle::claim::{Doubt, HandBack};
use crate::domain::lifecycle::vocabulary::Phase;
use crate::domain::order::values::OrderKey;
use crate::domain::retry::{is_exhausted, later};
use crate::ports::clock::Stopwatch;
use crate::ports::erp::{NOT_SETTLED, ProbeAnswer, Receipt};
use crate::telemetry::{ErpLabel, RequestLabels};
use crate::workers::erp_gate::{Gate, GateState, Pass};
use crate::workers::submitter::admit::{AttemptOutcome, Submitter, Work};

/// How much longer than its own limit a call may take before it counts as hanging.
const CALL_MARGIN: Duration = Duration::from_secs(2);

impl Submitter {
    /// One attempt, to an outcome; holds the pass no longer than the call takes.
    pub(super) async fn attempt(&self, work: &Work, pass: Pass) -> AttemptOutcome {
        // The circuit may have opened since the turn was given, or another worker has taken it over because we
        // waited too long.
        if work.policy.gate.flow() == GateState::Stopped || !work.lease.holds().await {
            return AttemptOutcome::HandedBack(HandBack::Hold);
        }
        self.show_load(&work.policy.gate);
        let outcome = match (&work.doubt, pass.is_trial()) {
            (Some(doubt), _) => self.ask_then_send(work, *doubt, &pass).await,
            (None, is_trial)
                if (is_trial || work.policy.asks_first) && work.policy.gate.erp().can_ask() =>
            {
                self.try_then_send(work, &pass).await
            }
            (None, _) => self.send(work, &pass).await,
        };
        drop(pass);
        outcome
    }

    /// An earlier attempt may have entered it: nothing is sent before the ERP has answered that it
    /// is not there, and it cannot arrive any more. Only an ERP that recognises repeated orders is
    /// not asked.
    pub(super) async fn ask_then_send(
        &self,
        work: &Work,
        doubt: Doubt,
        pass: &Pass,
    ) -> AttemptOutcome {
        let erp = work.policy.gate.erp();
        let now = self.context.now();
        // Its process is gone, but the call may be in progress.
        let may_run = matches!(doubt, Doubt::Unclear { since } if since > now);
        let is_sent_unasked = erp.is_idempotent() && !work.policy.asks_first;
        if is_sent_unasked && !may_run && !self.has_no_try_left(work) {
            return match self.send(work, pass).await {
                // It was not asked, so only what it says about the order itself ends the doubt.
                AttemptOutcome::Failed(failure) if failure.class != ErrorClass::Rejected => {
                    AttemptOutcome::Failed(unclear(failure))
                }
                outcome => outcome,
            };
        }
        if !erp.can_ask() {
            return match doubt {
                Doubt::Unclear { since } if may_run => wait_until_it_ended(work, since, now),
                doubt => self.wait_for_person(work, doubt, now),
            };
        }
        match (self.ask(work).await, doubt) {
            (ProbeAnswer::Found(receipt), _) => self.finish(work, receipt, pass).await,
            (ProbeAnswer::Absent, Doubt::Answered { at }) => {
                let counts_from = later(at, work.policy.retry.settle);
                if now < counts_from {
                    self.heard_from(work, pass).await;
                    return AttemptOutcome::HandedBack(HandBack::AskAt(counts_from));
                }
                self.send_after_asking(work, pass).await
            }
            (ProbeAnswer::Absent, Doubt::Unclear { since }) if may_run => {
                self.heard_from(work, pass).await;
                wait_until_it_ended(work, since, now)
            }
            (ProbeAnswer::Absent, Doubt::Unclear { since }) => {
                if now < later(since, work.policy.retry.settle) {
                    self.heard_from(work, pass).await;
                    return self.ask_later(work, since, now, "the ERP does not have it yet");
                }
                if self.has_no_try_left(work) {
                    self.heard_from(work, pass).await;
                    return AttemptOutcome::HandedBack(HandBack::Park);
                }
                self.send_after_asking(work, pass).await
            }
            (ProbeAnswer::Unclear(failure), Doubt::Answered { .. }) => {
                self.suspect(work, &failure, Duration::ZERO, pass).await;
                // Nothing was sent, so no attempt is used up; the order is overdue, and the ERP is
                // asked again.
                AttemptOutcome::HandedBack(HandBack::Hold)
            }
            (ProbeAnswer::Unclear(failure), Doubt::Unclear { since }) => {
                self.suspect(work, &failure, Duration::ZERO, pass).await;
                self.ask_later(work, since, now, &failure.message)
            }
        }
    }

    /// Only a person can decide whether it is there.
    pub(super) fn wait_for_person(
        &self,
        work: &Work,
        doubt: Doubt,
        now: Timestamp,
    ) -> AttemptOutcome {
        let why = "the ERP cannot be asked about it; a person has to decide";
        match doubt {
            Doubt::Unclear { since } => self.ask_later(work, since, now, why),
            Doubt::Answered { .. } => {
                let class = ErrorClass::UnknownOutcome;
                AttemptOutcome::Failed(Failure::new(class, "no_probe", why, Stage::At))
            }
        }
    }

    /// It is there: run the remaining steps, and it is done.
    pub(super) async fn finish(
        &self,
        work: &Work,
        receipt: Receipt,
        pass: &Pass,
    ) -> AttemptOutcome {
        let erp = work.policy.gate.erp();
        let watch = Stopwatch::start();
        let finished = fenced(erp.finish(&work.order, receipt), erp.call_budget()).await;
        let finished = finished
            .unwrap_or_else(|why| Err(Failure::new(ErrorClass::Unavailable, why, why, Stage::At)));
        match finished {
            Ok(receipt) => {
                self.context.metrics.duplicates_prevented.inc();
                self.heard_from(work, pass).await;
                AttemptOutcome::There(receipt)
            }
            Err(failure) if failure.code == NOT_SETTLED => {
                self.heard_from(work, pass).await;
                self.finish_later(work, failure)
            }
            Err(failure) => {
                self.count_request(work, "finish", failure.class.as_str());
                self.suspect(work, &failure, watch.elapsed(), pass).await;
                AttemptOutcome::Failed(Failure { stage: Some(Stage::At), ..failure })
            }
        }
    }

    /// It is there, and what an earlier attempt sent may still be executed: nothing was sent, so no attempt is used
    /// up.
    fn finish_later(&self, work: &Work, failure: Failure) -> AttemptOutcome {
        match work.doubt {
            Some(Doubt::Unclear { since }) => {
                self.ask_later(work, since, self.context.now(), &failure.message)
            }
            Some(Doubt::Answered { at }) => {
                let settled = later(at, work.policy.retry.settle);
                AttemptOutcome::HandedBack(HandBack::AskAt(settled))
            }
            None => AttemptOutcome::Failed(failure),
        }
    }

    pub(super) fn has_no_try_left(&self, work: &Work) -> bool {
        matches!(work.record.phase, Phase::OutcomeUnknown { .. })
            && !work.trigger.is_by_person()
            && is_exhausted(work.record.fail_count, work.record.max_count)
    }

    /// The outcome stays unknown. If that was not reported yet (a worker died), it is reported now.
    pub(super) fn ask_later(
        &self,
        work: &Work,
        since: Timestamp,
        now: Timestamp,
        why: &str,
    ) -> AttemptOutcome {
        if matches!(work.record.phase, Phase::OutcomeUnknown { .. }) {
            let at = work.policy.retry.next_ask(since, now);
            return AttemptOutcome::HandedBack(HandBack::AskAt(at));
        }
        let message = format!("a transfer was interrupted and its outcome is unknown: {why}");
        let class = ErrorClass::UnknownOutcome;
        AttemptOutcome::Failed(Failure::new(class, "interrupted", &message, Stage::At))
    }

    /// The circuit is half-open: a question uses up no attempt, so it comes first. Or the ledger may have lost an attempt
    /// (`erp.ask_before_first_send`): then nothing is sent without a clear answer.
    pub(super) async fn try_then_send(&self, work: &Work, pass: &Pass) -> AttemptOutcome {
        match self.ask(work).await {
            ProbeAnswer::Found(receipt) => self.finish(work, receipt, pass).await,
            ProbeAnswer::Absent => self.send_after_asking(work, pass).await,
            // It is certainly not this order, which was never sent.
            ProbeAnswer::Unclear(failure)
                if failure.class == ErrorClass::Rejected && !work.policy.asks_first =>
            {
                self.send_after_asking(work, pass).await
            }
            ProbeAnswer::Unclear(failure) if pass.is_trial() => {
                self.fail_trial(work, &failure).await;
                AttemptOutcome::HandedBack(HandBack::Hold)
            }
            ProbeAnswer::Unclear(failure) => {
                self.suspect(work, &failure, Duration::ZERO, pass).await;
                let why = &failure.message;
                let message = format!("whether the ERP has the order already is unknown: {why}");
                let class = ErrorClass::UnknownOutcome;
                AttemptOutcome::Failed(Failure::new(class, "not_answered", &message, Stage::At))
            }
        }
    }

    pub(super) async fn ask(&self, work: &Work) -> ProbeAnswer {
        let erp = work.policy.gate.erp();
        let asked = fenced(erp.ask(&work.order), erp.call_budget()).await;
        let answer = asked.unwrap_or_else(|why| {
            ProbeAnswer::Unclear(Failure::new(ErrorClass::Unavailable, why, why, Stage::At))
        });
        let outcome = match &answer {
            ProbeAnswer::Found(_) => "found",
            ProbeAnswer::Absent => "absent",
            ProbeAnswer::Unclear(_) => "unclear",
        };
        self.count_request(work, "ask", outcome);
        match answer {
            ProbeAnswer::Found(receipt) if !erp.tells_shops_apart() => {
                self.doubt_what_is_taken(work, receipt).await
            }
            answer => answer,
        }
    }

    /// An ERP that is asked by number alone may show another shop's order of the same number: a
    /// number that already belongs to another order cannot be this one's.
    pub(super) async fn doubt_what_is_taken(&self, work: &Work, receipt: Receipt) -> ProbeAnswer {
        let Some(number) = receipt.erp_order_id.as_deref() else {
            return ProbeAnswer::Found(receipt);
        };
        let (context, key) = (&self.context, &work.record.key);
        let others = context
            .availability
            .retry_until_available(|| self.ledger.orders_under(number, key))
            .await;
        let erp = work.policy.gate.erp_name();
        let same_erp = |other: &OrderKey| context.policies.of(&other.shop).gate.erp_name() == erp;
        match others.unwrap_or_default().into_iter().find(same_erp) {
            None => ProbeAnswer::Found(receipt),
            Some(other) => {
                let message = format!(
                    "the ERP shows its order {number} for this one, and that is {other} already: it has to distinguish shops by the Idempotency-Key"
                );
                tracing::warn!(
                    shop = key.shop.as_str(),
                    order_id = key.order_id.as_str(),
                    "erp.mixed_up"
                );
                let class = ErrorClass::Rejected;
                ProbeAnswer::Unclear(Failure::new(class, "another_order", &message, Stage::After))
            }
        }
    }

    /// Sends after a question. Asking took time: somebody else may have taken the order over.
    async fn send_after_asking(&self, work: &Work, pass: &Pass) -> AttemptOutcome {
        match work.lease.holds().await {
            true => self.send(work, pass).await,
            false => AttemptOutcome::HandedBack(HandBack::Hold),
        }
    }

    pub(super) async fn send(&self, work: &Work, pass: &Pass) -> AttemptOutcome {
        let erp = work.policy.gate.erp();
        let watch = Stopwatch::start();
        let sent = fenced(erp.submit(&work.order), erp.call_budget()).await;
        let latency = watch.elapsed();
        self.context.metrics.erp_request_duration_seconds.observe(latency.as_secs_f64());
        if work.lease.is_lost() {
            return AttemptOutcome::HandedBack(HandBack::Hold);
        }
        let result = sent.unwrap_or_else(|why| {
            Err(match work.lease.has_begun() {
                true => Failure::new(ErrorClass::UnknownOutcome, why, why, Stage::At),
                false => Failure::new(ErrorClass::Unavailable, why, why, Stage::Before),
            })
        });
        let result = match result {
            Ok(receipt) if receipt.found => self.believe_found(work, receipt).await,
            Err(refusal)
                if refusal.class == ErrorClass::Rejected
                    && refusal.total.is_none()
                    && work.doubt.is_some() =>
            {
                match self.believe_refusal(work, refusal).await {
                    Ok(receipt) => return self.finish(work, receipt, pass).await,
                    Err(failure) => match self.stays_unclear(work) {
                        Some(at) => {
                            self.count_request(work, "submit", failure.class.as_str());
                            self.heard_from(work, pass).await;
                            return AttemptOutcome::HandedBack(HandBack::AskAt(at));
                        }
                        None => Err(failure),
                    },
                }
            }
            result => result,
        };
        match result {
            Ok(receipt) => {
                self.count_request(work, "submit", "accepted");
                work.policy.gate.record_success(latency);
                self.heard_from(work, pass).await;
                if receipt.found {
                    self.context.metrics.duplicates_prevented.inc();
                }
                AttemptOutcome::There(receipt)
            }
            Err(failure) if failure.code == NOT_SETTLED => {
                self.heard_from(work, pass).await;
                self.finish_later(work, failure)
            }
            Err(failure) => {
                self.count_request(work, "submit", failure.class.as_str());
                self.suspect(work, &failure, latency, pass).await;
                AttemptOutcome::Failed(failure)
            }
        }
    }

    /// An order that was found instead of made may be another shop's.
    async fn believe_found(&self, work: &Work, receipt: Receipt) -> Result<Receipt, Failure> {
        if work.policy.gate.erp().tells_shops_apart() {
            return Ok(receipt);
        }
        match self.doubt_what_is_taken(work, receipt).await {
            ProbeAnswer::Found(receipt) => Ok(receipt),
            ProbeAnswer::Unclear(failure) => Err(unclear(failure)),
            ProbeAnswer::Absent => Err(unclear(Failure::new(
                ErrorClass::UnknownOutcome,
                "absent",
                "the ERP found it and does not have it",
                Stage::At,
            ))),
        }
    }

    /// After an unclear attempt a refusal may mean "exists already", also while the ERP still works on
    /// the first request: it is asked about until it is clear.
    async fn believe_refusal(&self, work: &Work, refusal: Failure) -> Result<Receipt, Failure> {
        if !work.policy.gate.erp().can_ask() {
            return Err(unclear(refusal));
        }
        let says_exists = refusal.status == Some(409) || refusal.code.starts_with("duplicate");
        match self.ask(work).await {
            ProbeAnswer::Found(receipt) => Ok(receipt),
            ProbeAnswer::Absent if !says_exists => Err(refusal),
            ProbeAnswer::Absent | ProbeAnswer::Unclear(_) => Err(unclear(refusal)),
        }
    }

    /// When to send again an order in doubt that an ERP refused which cannot be asked: it may have the order, so
    /// this is no new failure. The intervals grow.
    fn stays_unclear(&self, work: &Work) -> Option<Timestamp> {
        let Some(Doubt::Unclear { since }) = work.doubt else { return None };
        let is_known = matches!(work.record.phase, Phase::OutcomeUnknown { .. });
        let can_ask = work.policy.gate.erp().can_ask();
        (is_known && !can_ask).then(|| work.policy.retry.next_ask(since, self.context.now()))
    }

    pub(super) fn count_request(&self, work: &Work, step: &str, outcome: &str) {
        let labels = RequestLabels::new(work.policy.gate.erp_name(), step, outcome);
        self.context.metrics.erp_requests.get_or_create(&labels).inc();
    }

    pub(super) fn show_load(&self, gate: &Gate) {
        let (in_flight, limit) = gate.load();
        let erp = ErpLabel::new(gate.erp_name());
        self.context.metrics.erp_in_flight.get_or_create(&erp).set(in_flight.into());
        self.context.metrics.erp_in_flight_limit.get_or_create(&erp).set(limit.into());
    }
}

/// Looks again when the call of a process that is gone must have ended.
fn wait_until_it_ended(work: &Work, since: Timestamp, now: Timestamp) -> AttemptOutcome {
    AttemptOutcome::HandedBack(match work.record.phase {
        Phase::OutcomeUnknown { .. } => HandBack::AskAt(work.policy.retry.next_ask(since, now)),
        _ => HandBack::LookAt(since),
    })
}

/// The same failure, but whether the ERP has the order is not known.
fn unclear(failure: Failure) -> Failure {
    Failure { class: ErrorClass::UnknownOutcome, stage: Some(Stage::At), ..failure }
}

/// Limits the time of a call to the ERP, and survives its panic; both leave the outcome open.
async fn fenced<T>(call: impl Future<Output = T>, budget: Duration) -> Result<T, &'static str> {
    let call = AssertUnwindSafe(tokio::time::timeout(budget + CALL_MARGIN, call)).catch_unwind();
    match call.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err("timeout"),
        Err(_) => Err("panicked"),
    }
}
