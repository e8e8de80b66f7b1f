//! The states of an order and every transition between them; docs/state-machine.md has the diagram.
//!
//! An [`OrderRecord`] is a row of the ledger. Store adapters load it, call exactly one method here
//! per transition and write the result back guarded by `version`; nothing else decides which
//! transitions are allowed. Confirming is the exception: a receipt is valid in every state, so the
//! store writes it without loading the row; a test holds it to [`OrderRecord::confirm`].

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::failure::{ErrorClass, Failure};
use crate::domain::failure_summary::FailureSummary;
use crate::domain::lifecycle::claim::{Admission, Call, Claim, Doubt, HandBack, Intent};
use crate::domain::lifecycle::vocabulary::{OrderState, Phase, Trigger};
use crate::domain::order::document::{Order, OrderFacts};
use crate::domain::order::values::OrderKey;
use crate::domain::retry::{MAX_RETRY_AFTER, RetryPolicy, is_exhausted, later};
use crate::domain::trace::Trace;

/// The last failure of an order, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    pub summary: FailureSummary,
    /// When it happened.
    pub at: Timestamp,
    /// Whether the ERP may have accepted the order nevertheless.
    pub in_doubt: bool,
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRecord {
    pub key: OrderKey,
    /// The fields that people see.
    pub facts: OrderFacts,
    pub phase: Phase,
    /// Failed attempts.
    pub fail_count: u32,
    /// The maximum from the last failure; `None`: no maximum.
    pub max_count: Option<u32>,
    /// Highest number of an attempt that was recorded, 0 before the first.
    pub last_attempt: u32,
    /// The attempt in progress.
    pub claim: Option<Claim>,
    /// Something may have been sent whose outcome was not seen; nothing was sent after this time.
    pub unclear_since: Option<Timestamp>,
    pub last_failure: Option<LastFailure>,
    /// The trace context that checkout sent.
    pub trace: Trace,
    /// When it came.
    pub received_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Rises with every change; guards every write.
    pub version: i64,
    /// Number of edits by people; 0: the original.
    pub revision: u32,
}

/// A failed attempt, as `order_failed` reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The maximum that applies; `None` ignores it.
    pub max_count: Option<u32>,
    /// What went wrong.
    pub failure: Failure,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Our submitter that reports it; `None` for another service.
    pub worker: Option<String>,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Repeat after `delay`.
    Retry {
        /// Number of the next attempt.
        attempt: u32,
        /// How long to wait.
        delay: Duration,
    },
    /// No automatic retry.
    Park,
    /// The ERP is asked at that time.
    Ask { at: Timestamp },
    /// It was counted, but a later attempt has already decided.
    Counted,
}

/// Why a change was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransition {
    /// The state of the order does not allow this.
    #[error("invalid_state: the order is {}/{phase}", .state.as_str())]
    InvalidState { state: OrderState, phase: &'static str },
    /// An attempt is in progress.
    #[error("the order is being transferred right now")]
    Busy,
    /// Its last transfer may have reached the ERP.
    #[error("the outcome of its last transfer is unknown: the ERP has to be asked first")]
    Unclear,
}

/// What a receipt of the ERP means for an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptEffect {
    /// It confirms the order.
    First,
    /// The order was confirmed before, by this number.
    Known,
    /// The order was confirmed before, by this other number or without one.
    EnteredTwice(Option<String>),
}

impl ReceiptEffect {
    /// What a receipt with `number` means for an order that was transferred before or not, then under
    /// `known`.
    pub fn of(was_transferred: bool, known: Option<&str>, number: Option<&str>) -> Self {
        match was_transferred {
            false => Self::First,
            true if known == number => Self::Known,
            true => Self::EnteredTwice(known.map(str::to_owned)),
        }
    }
}

impl OrderRecord {
    /// An order that was just received.
    pub fn received(order: &Order, now: Timestamp) -> Self {
        Self {
            key: order.key.clone(),
            facts: order.facts.clone(),
            phase: Phase::Queued,
            fail_count: 0,
            max_count: None,
            last_attempt: 0,
            claim: None,
            unclear_since: None,
            last_failure: None,
            trace: Trace::default(),
            received_at: now,
            updated_at: now,
            version: 0,
            revision: 0,
        }
    }

    /// The number of the next attempt.
    pub fn next_attempt(&self) -> u32 {
        self.last_attempt.saturating_add(1)
    }

    /// Answers a request for an attempt; on [`Admission::Send`] and [`Admission::AskFirst`] the
    /// claim has been taken.
    pub fn admit(&mut self, call: Call, intent: &Intent, now: Timestamp) -> Admission {
        if !self.wants(call) {
            // Of a person's attempt that never began nothing is left to resolve.
            self.claim.take_if(|claim| self.phase == Phase::Parked && claim.has_ended_unbegun(now));
            return Admission::Stale;
        }
        let died_at = match (&self.claim, intent) {
            (Some(claim), Intent::Claim { worker, .. }) if claim.worker == *worker => None,
            (Some(claim), _) if claim.until > now => return Admission::Busy,
            (Some(claim), _) => claim.begun.then_some(claim.until),
            (None, _) => None,
        };
        match intent {
            Intent::Hold => {
                if self.phase == Phase::Queued && died_at.is_none() {
                    self.claim = None;
                    self.phase = Phase::Held;
                }
                Admission::Held
            }
            Intent::Wait => Admission::Waits,
            Intent::Claim { worker, until, begins } => {
                let attempt = self.next_attempt();
                self.unclear_since = self.unclear_since.max(died_at);
                let doubt = self.doubt();
                let begun = *begins && doubt.is_none();
                self.claim = Some(Claim { worker: worker.clone(), attempt, until: *until, begun });
                match doubt {
                    Some(doubt) => Admission::AskFirst { attempt, doubt },
                    None => Admission::Send { attempt },
                }
            }
        }
    }

    /// The process of the claim is gone: the claim ends now. What never began is free again. Else the order may
    /// be in the ERP, and the call may be in progress until the lease would have ended: the ERP can be asked at
    /// once, and "not there" counts from then.
    pub fn abandon(&mut self, now: Timestamp) {
        let Some(claim) = self.claim.as_mut().filter(|claim| claim.until > now) else { return };
        if claim.begun {
            self.unclear_since = self.unclear_since.max(Some(claim.until));
        }
        claim.until = now;
    }

    fn doubt(&self) -> Option<Doubt> {
        let answered = self.last_failure.as_ref().filter(|failure| failure.in_doubt);
        match self.unclear_since {
            Some(since) => Some(Doubt::Unclear { since }),
            None => answered.map(|failure| Doubt::Answered { at: failure.at }),
        }
    }

    fn wants(&self, call: Call) -> bool {
        let is_next = call.attempt.is_none_or(|attempt| attempt == self.next_attempt());
        is_next
            && match self.phase {
                Phase::Queued | Phase::Held => true,
                Phase::Retrying { .. } | Phase::OutcomeUnknown { .. } => {
                    call.trigger != Trigger::Checkout
                }
                // A person's attempt whose worker died has to be resolved by the sweeper if it had begun.
                Phase::Parked => {
                    let had_begun = self.claim.as_ref().is_some_and(|claim| claim.begun);
                    call.trigger.is_by_person() || had_begun || self.unclear_since.is_some()
                }
                Phase::Transferred { .. } | Phase::Removed => false,
            }
    }

    /// Counts a failed attempt that was not counted before, and says what follows.
    ///
    /// A failure reported by the worker of the claim ends that claim; one reported by another
    /// service never ends a claim and never makes an unclear order clear.
    pub fn fail(
        &mut self,
        failed: &FailedAttempt,
        policy: &RetryPolicy,
        now: Timestamp,
    ) -> Result<Verdict, InvalidTransition> {
        if self.phase.state() == OrderState::Confirmed {
            return Err(self.invalid_state());
        }
        self.fail_count = self.fail_count.saturating_add(1);
        let is_own = self.release(failed);
        if failed.attempt < self.last_attempt {
            return Ok(self.note_unclear(failed, policy, now).unwrap_or(Verdict::Counted));
        }
        self.last_attempt = failed.attempt;
        self.max_count = failed.max_count;
        self.last_failure = Some(LastFailure {
            summary: FailureSummary::of(&failed.failure),
            at: failed.occurred_at,
            in_doubt: failed.failure.is_in_doubt(),
        });
        if is_own && failed.failure.class != ErrorClass::UnknownOutcome {
            self.unclear_since = None;
        }
        Ok(match self.note_unclear(failed, policy, now) {
            Some(verdict) => verdict,
            None => self.follow(failed, policy, now),
        })
    }

    /// If an order may be in the ERP, the ERP is asked, whatever else is known.
    fn note_unclear(
        &mut self,
        failed: &FailedAttempt,
        policy: &RetryPolicy,
        now: Timestamp,
    ) -> Option<Verdict> {
        if failed.failure.class == ErrorClass::UnknownOutcome {
            self.unclear_since = self.unclear_since.max(Some(failed.occurred_at.min(now)));
        }
        let at = policy.next_ask(self.unclear_since?, now);
        self.phase = Phase::OutcomeUnknown { ask_at: at };
        Some(Verdict::Ask { at })
    }

    fn follow(&mut self, failed: &FailedAttempt, policy: &RetryPolicy, now: Timestamp) -> Verdict {
        let gives_up = policy.gives_up_on(failed.failure.class)
            || failed.failure.total.is_some()
            || is_exhausted(self.fail_count, self.max_count)
            || self.phase == Phase::Parked;
        if gives_up {
            self.phase = Phase::Parked;
            return Verdict::Park;
        }
        let asked = failed.failure.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        // A gateway that timed out says nothing about the ERP behind it, which may still be
        // working: the next attempt asks first, and "not there" has to count by then.
        let settled = if failed.failure.is_in_doubt() { policy.settle } else { Duration::ZERO };
        let delay = policy.delay(self.fail_count).max(asked).max(settled);
        self.phase = Phase::Retrying { next_attempt_at: later(now, delay) };
        Verdict::Retry { attempt: self.next_attempt(), delay }
    }

    /// The verdict that a failure got when it was counted, for a message that is delivered twice;
    /// `None` when a later attempt has decided since. If another service reported the same attempt
    /// before its own worker did, the report of the worker still applies.
    pub fn verdict_again(
        &mut self,
        failed: &FailedAttempt,
        policy: &RetryPolicy,
        now: Timestamp,
    ) -> Option<Verdict> {
        if self.release(failed) && self.phase.state() == OrderState::OrderedFailed {
            self.note_unclear(failed, policy, now);
        }
        if failed.attempt != self.last_attempt {
            return None;
        }
        match self.phase {
            Phase::Retrying { next_attempt_at } => Some(Verdict::Retry {
                attempt: self.next_attempt(),
                delay: Duration::try_from(next_attempt_at.duration_since(now)).unwrap_or_default(),
            }),
            Phase::Parked => Some(Verdict::Park),
            Phase::OutcomeUnknown { ask_at } => Some(Verdict::Ask { at: ask_at }),
            _ => None,
        }
    }

    /// Ends the claim of the attempt `failed`; returns whether it existed.
    fn release(&mut self, failed: &FailedAttempt) -> bool {
        let is_own = self.claim.as_ref().is_some_and(|claim| {
            claim.attempt == failed.attempt && Some(&claim.worker) == failed.worker.as_ref()
        });
        if is_own {
            self.claim = None;
        }
        is_own
    }

    /// Hands the claim of `worker` back without an attempt. Does nothing when it is not its claim.
    pub fn hand_back(&mut self, worker: &str, how: HandBack) -> bool {
        let Some(claim) = self.claim.as_mut().filter(|claim| claim.worker == worker) else {
            return false;
        };
        if let HandBack::LookAt(at) = how {
            (claim.until, claim.begun) = (at, false);
            return true;
        }
        self.claim = None;
        match (how, &self.phase) {
            (HandBack::Hold, Phase::Queued) => self.phase = Phase::Held,
            (HandBack::AskAt(at), Phase::OutcomeUnknown { .. }) => {
                self.phase = Phase::OutcomeUnknown { ask_at: at };
            }
            (HandBack::Park, Phase::OutcomeUnknown { .. }) => {
                self.unclear_since = None;
                self.phase = Phase::Parked;
            }
            _ => {}
        }
        true
    }

    /// A person states that the ERP does not have the order: it is sent again.
    pub fn declare_absent(&mut self, now: Timestamp) -> Result<(), InvalidTransition> {
        // A call of a process that is gone counts as running until its lease would have ended.
        if self.is_being_sent(now) || self.unclear_since.is_some_and(|since| since > now) {
            return Err(InvalidTransition::Busy);
        }
        if self.phase.state() != OrderState::OrderedFailed || !self.may_be_there() {
            return Err(self.invalid_state());
        }
        self.claim = None;
        self.unclear_since = None;
        if let Some(failure) = &mut self.last_failure {
            failure.in_doubt = false;
        }
        self.phase = Phase::Retrying { next_attempt_at: now };
        Ok(())
    }

    /// Whether the ERP may have the order although no receipt was seen.
    pub fn may_be_there(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.begun) || self.doubt().is_some()
    }

    /// Whether a live claim holds it.
    fn is_being_sent(&self, now: Timestamp) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.until > now)
    }

    /// The ERP has the order: the truth from every state, also of one that a person had removed. A later
    /// receipt changes nothing; one with another number says that the ERP has the order twice.
    pub fn confirm(&mut self, attempt: u32, erp_order_id: Option<&str>) -> ReceiptEffect {
        if let Phase::Transferred { erp_order_id: known } = &self.phase {
            return ReceiptEffect::of(true, known.as_deref(), erp_order_id);
        }
        self.phase = Phase::Transferred { erp_order_id: erp_order_id.map(str::to_owned) };
        self.last_attempt = self.last_attempt.max(attempt);
        self.claim = None;
        self.unclear_since = None;
        ReceiptEffect::First
    }

    /// Removes an order from the list; nothing is deleted.
    pub fn remove(&mut self, now: Timestamp) -> Result<(), InvalidTransition> {
        if self.phase.state() == OrderState::Confirmed {
            return Err(self.invalid_state());
        }
        if self.is_being_sent(now) {
            return Err(InvalidTransition::Busy);
        }
        if let Some(claim) = self.claim.take().filter(|claim| claim.begun) {
            self.unclear_since = self.unclear_since.max(Some(claim.until));
        }
        self.phase = Phase::Removed;
        Ok(())
    }

    /// Restores a removed order: the ERP is asked about an unclear one, a lost one waits for a
    /// person, one that never failed is queued.
    pub fn restore(&mut self, now: Timestamp) -> Result<(), InvalidTransition> {
        if self.phase != Phase::Removed {
            return Err(self.invalid_state());
        }
        self.phase = match (self.unclear_since, self.fail_count) {
            (Some(_), 1..) => Phase::OutcomeUnknown { ask_at: now },
            (_, 0) => Phase::Queued,
            (None, _) => Phase::Parked,
        };
        Ok(())
    }

    /// A person has changed what is sent; the original and the time of the next attempt stay. Only
    /// for lost orders, and never while one may be in transit.
    pub fn edit(&mut self, facts: OrderFacts, now: Timestamp) -> Result<(), InvalidTransition> {
        if self.is_being_sent(now) {
            return Err(InvalidTransition::Busy);
        }
        if self.phase.state() != OrderState::OrderedFailed {
            return Err(self.invalid_state());
        }
        if self.unclear_since.is_some() || self.claim.as_ref().is_some_and(|claim| claim.begun) {
            return Err(InvalidTransition::Unclear);
        }
        self.facts = facts;
        self.revision = self.revision.saturating_add(1);
        Ok(())
    }

    fn invalid_state(&self) -> InvalidTransition {
        InvalidTransition::InvalidState { state: self.phase.state(), phase: self.phase.name() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::order::intake_rules::IntakeRules;

    const ORDER: &str = r#"{"order_id": "1", "currency": "EUR", "total": "1", "customer": {"email": "a@b.example"},
        "lines": [{"sku": "1", "quantity": 1, "unit_price": 1}]}"#;

    fn record(phase: Phase) -> OrderRecord {
        let order = Order::parse(ORDER.as_bytes(), &IntakeRules::of_bytes(1 << 20)).unwrap();
        let until = Timestamp::MAX;
        let claim = Claim { worker: "w".to_owned(), attempt: 3, until, begun: true };
        let received = OrderRecord::received(&order, Timestamp::UNIX_EPOCH);
        OrderRecord { phase, claim: Some(claim), unclear_since: Some(Timestamp::MIN), ..received }
    }

    #[test]
    fn a_receipt_confirms_from_every_phase_and_ends_claim_and_doubt() {
        let at = Timestamp::UNIX_EPOCH;
        for phase in [
            Phase::Queued,
            Phase::Held,
            Phase::Retrying { next_attempt_at: at },
            Phase::Parked,
            Phase::OutcomeUnknown { ask_at: at },
            Phase::Removed,
        ] {
            let mut order = record(phase);
            assert_eq!(order.confirm(3, Some("ERP-1")), ReceiptEffect::First);
            assert_eq!(order.phase, Phase::Transferred { erp_order_id: Some("ERP-1".to_owned()) });
            assert_eq!((order.claim, order.unclear_since, order.last_attempt), (None, None, 3));
        }
    }

    #[test]
    fn a_second_receipt_changes_nothing_and_tells_another_number() {
        let mut order = record(Phase::Transferred { erp_order_id: Some("ERP-1".to_owned()) });
        let before = order.clone();
        assert_eq!(order.confirm(4, Some("ERP-1")), ReceiptEffect::Known);
        let twice = ReceiptEffect::EnteredTwice(Some("ERP-1".to_owned()));
        assert_eq!(order.confirm(4, Some("ERP-2")), twice);
        assert_eq!(order, before);
    }
}
