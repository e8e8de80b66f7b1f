//! When the ERP as a whole counts as unavailable: the evidence of the circuit breaker, and the
//! states of the circuit.
//!
//! Failures of single orders must not stop everything, and an outage must not use up attempts. So a
//! few failures in a row only lead to a harmless question (is this order there?); without an answer
//! the circuit opens, an answer resets the count. Failures of many different orders in a row open
//! the circuit whatever the ERP answers.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::{ErrorClass, Failure, Stage};
use super::retry::MAX_RETRY_AFTER;
use crate::domain::order::values::OrderKey;

/// States of a circuit; the number is the value of `circuit_state{erp}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Orders flow.
    Closed = 0,
    /// One order at a time is let through as a trial.
    HalfOpen = 1,
    /// Nothing is sent.
    Open = 2,
}

crate::names!(CircuitState {
    Closed = "closed",
    HalfOpen = "half_open",
    Open = "open",
});

/// The circuit of one ERP, shared by all workers through the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circuit {
    pub erp: String,
    pub state: CircuitState,
    /// Why it is not closed, for people.
    pub reason: Option<String>,
    /// Since when it has not been closed.
    pub opened_at: Option<Timestamp>,
    /// When the next trial is due; `None` while a person holds it.
    pub trial_at: Option<Timestamp>,
    /// Trials that failed since it opened.
    pub trials: u32,
}

impl Circuit {
    /// A circuit that was never opened.
    pub fn closed(erp: &str) -> Self {
        Self {
            erp: erp.to_owned(),
            state: CircuitState::Closed,
            reason: None,
            opened_at: None,
            trial_at: None,
            trials: 0,
        }
    }
}

/// `circuit.*` of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitRule {
    /// Failures in a row after which the ERP is asked whether it is there.
    pub suspect_after: u32,
    /// Different orders failing in a row after which the circuit opens in any case.
    pub open_after: u32,
    /// Pause before the first trial; doubles with each failed one.
    pub pause: Duration,
    /// Longest pause between trials.
    pub longest_pause: Duration,
}

impl CircuitRule {
    /// How long to wait before the next trial, after `trials` failed ones.
    pub fn pause_after(&self, trials: u32) -> Duration {
        self.pause
            .saturating_mul(1u32.checked_shl(trials.min(20)).unwrap_or(u32::MAX))
            .min(self.longest_pause)
    }
}

/// Start of the reason of a circuit that a refused login opened.
pub const LOGIN_REFUSED: &str = "login refused";

impl CircuitRule {
    /// How long to wait after this failure before the next trial. A refused login is never repeated
    /// quickly: ERPs count wrong passwords (Tryton refuses the correct one, too, after five).
    pub fn pause_for(&self, failure: &Failure, trials: u32) -> Duration {
        let pause = match failure.class {
            ErrorClass::Unauthorized => self.longest_pause,
            _ => self.pause_after(trials),
        };
        pause.max(failure.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
    }
}

/// Why this failure opens a circuit, for people.
pub fn reason_of(failure: &Failure) -> String {
    match failure.class {
        ErrorClass::Unauthorized => {
            format!("{LOGIN_REFUSED} ({}): {}", failure.code, failure.message)
        }
        _ => format!("{}: {}", failure.code, failure.message),
    }
}

impl Circuit {
    /// Whether it was opened because the ERP refuses our login, and not because it is unavailable.
    pub fn is_login_refused(&self) -> bool {
        self.reason.as_deref().is_some_and(|reason| reason.starts_with(LOGIN_REFUSED))
    }
}

/// What the evidence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing unusual.
    CarryOn,
    /// Ask the ERP a harmless question, and report the answer.
    AskTheErp,
    /// Stop sending.
    Open,
}

/// A failed attempt as evidence about the ERP.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub key: &'a OrderKey,
    pub failure: &'a Failure,
    /// How often this order failed before, in any process: then the reason may lie in the order, and it weighs
    /// less.
    pub failures_before: u32,
    /// Failures after which the order is parked. The ERP is asked before a lone order has used them up.
    pub max_count: Option<u32>,
}

impl Evidence<'_> {
    /// Whether the next failure parks the order.
    fn leaves_one_attempt(&self) -> bool {
        self.max_count == self.failures_before.checked_add(2)
    }
}

/// An order that failed before weighs as much as one part in this many of a fresh one.
const RETRIES_PER_FRESH: usize = 4;
/// Results that are weighed, in multiples of `open_after`.
const WINDOW: usize = 2;
/// The circuit stays closed while more than one result in this many is a success.
const SUCCESSES_IN: usize = 5;

/// Collects evidence about one ERP in one process, over the last results.
#[derive(Debug, Default)]
pub struct Breaker {
    in_a_row: u32,
    /// The last results, oldest first; `None`: the ERP processed an order.
    window: VecDeque<Option<Failed>>,
}

#[derive(Debug)]
struct Failed {
    key: OrderKey,
    before: bool,
}

impl Breaker {
    /// The ERP processed an order: it accepted it, or refused it for a reason of its own.
    pub fn record_alive(&mut self, rule: &CircuitRule) {
        self.in_a_row = 0;
        self.remember(None, rule);
    }

    /// Nothing is known: the circuit closed just now.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The ERP answered a harmless question: it is reachable, though orders may still fail.
    pub fn record_answered(&mut self) {
        self.in_a_row = 0;
    }

    /// An attempt failed. `can_ask`: whether this ERP has a harmless question to be asked.
    pub fn record_failure(
        &mut self,
        evidence: Evidence<'_>,
        rule: &CircuitRule,
        can_ask: bool,
    ) -> Advice {
        let failure = evidence.failure;
        match failure.class {
            ErrorClass::Unauthorized => return Advice::Open,
            ErrorClass::Internal => return Advice::CarryOn,
            ErrorClass::Rejected => {
                self.record_alive(rule);
                return Advice::CarryOn;
            }
            ErrorClass::Unavailable | ErrorClass::UnknownOutcome => {}
        }
        self.in_a_row += 1;
        let failed = Failed { key: evidence.key.clone(), before: evidence.failures_before > 0 };
        self.remember(Some(failed), rule);
        if self.says_open(rule) {
            return Advice::Open;
        }
        // A lone order would be parked before it has failed often enough, and other processes may have made its
        // attempts before.
        if self.in_a_row < rule.suspect_after && !evidence.leaves_one_attempt() {
            return Advice::CarryOn;
        }
        match failure.stage {
            _ if can_ask => Advice::AskTheErp,
            Some(Stage::Before) => Advice::Open,
            Some(Stage::At | Stage::After) | None => Advice::CarryOn,
        }
    }

    fn remember(&mut self, result: Option<Failed>, rule: &CircuitRule) {
        self.window.push_back(result);
        let size = usize::try_from(rule.open_after).unwrap_or(usize::MAX).saturating_mul(WINDOW);
        while self.window.len() > size {
            self.window.pop_front();
        }
    }

    /// Whether enough different orders failed, and hardly any succeeded beside them.
    fn says_open(&self, rule: &CircuitRule) -> bool {
        let failures = || self.window.iter().flatten();
        let different = |before: bool| {
            let of_kind = failures().filter(|failed| failed.before == before);
            of_kind.map(|failed| &failed.key).collect::<HashSet<_>>().len()
        };
        let weight = different(false) + different(true) / RETRIES_PER_FRESH;
        let successes = self.window.len() - failures().count();
        weight >= usize::try_from(rule.open_after).unwrap_or(usize::MAX)
            && successes * SUCCESSES_IN <= self.window.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: CircuitRule = CircuitRule {
        suspect_after: 3,
        open_after: 20,
        pause: Duration::from_secs(5),
        longest_pause: Duration::from_secs(300),
    };

    fn key(n: u32) -> OrderKey {
        OrderKey::new("default", &n.to_string()).unwrap()
    }

    fn failure(class: ErrorClass) -> Failure {
        Failure::new(class, "x", "x", Stage::After)
    }

    fn told(breaker: &mut Breaker, n: u32, class: ErrorClass, failed_before: bool) -> Advice {
        let (key, failure) = (key(n), failure(class));
        let failures_before = u32::from(failed_before);
        let evidence =
            Evidence { key: &key, failure: &failure, failures_before, max_count: Some(10) };
        breaker.record_failure(evidence, &RULE, true)
    }

    #[test]
    fn one_order_that_always_fails_only_raises_the_question() {
        let mut breaker = Breaker::default();
        for n in 1..100 {
            let advice = told(&mut breaker, 1, ErrorClass::Unavailable, n > 1);
            if n % 3 == 0 {
                assert_eq!(advice, Advice::AskTheErp);
                breaker.record_answered();
            } else {
                assert_eq!(advice, Advice::CarryOn);
            }
        }
    }

    #[test]
    fn a_lone_order_is_asked_about_before_it_has_no_attempt_left() {
        for (max_count, asked_at) in [(Some(3), 2), (Some(2), 1), (Some(1), 3), (None, 3)] {
            let mut breaker = Breaker::default();
            let failure = failure(ErrorClass::Unavailable);
            let first = (1..10).find(|n| {
                let key = key(1);
                let failures_before = n - 1;
                let evidence =
                    Evidence { key: &key, failure: &failure, failures_before, max_count };
                breaker.record_failure(evidence, &RULE, true) == Advice::AskTheErp
            });
            assert_eq!(first, Some(asked_at), "{max_count:?}");
        }
    }

    #[test]
    fn a_lone_order_is_asked_about_whichever_process_made_its_attempts() {
        let (key, failure) = (key(1), failure(ErrorClass::Unavailable));
        let advice = |failures_before| {
            let evidence =
                Evidence { key: &key, failure: &failure, failures_before, max_count: Some(3) };
            Breaker::default().record_failure(evidence, &RULE, true)
        };
        assert_eq!([0, 1].map(advice), [Advice::CarryOn, Advice::AskTheErp]);
    }

    #[test]
    fn many_different_fresh_orders_open_it_even_when_the_erp_answers_questions() {
        let mut breaker = Breaker::default();
        let mut advice = Advice::CarryOn;
        for n in 0..20 {
            advice = told(&mut breaker, n, ErrorClass::UnknownOutcome, false);
            breaker.record_answered();
        }
        assert_eq!(advice, Advice::Open);
    }

    #[test]
    fn orders_that_failed_before_weigh_less() {
        let mut breaker = Breaker::default();
        for n in 0..20 {
            assert_ne!(told(&mut breaker, n, ErrorClass::Unavailable, true), Advice::Open, "{n}");
            breaker.record_answered();
        }
    }

    #[test]
    fn some_successes_do_not_hide_an_outage_and_many_do() {
        for (every, opens) in [(12, true), (3, false)] {
            let mut breaker = Breaker::default();
            let opened = (0..200).any(|n| {
                if n % every == 0 {
                    breaker.record_alive(&RULE);
                }
                breaker.record_answered();
                told(&mut breaker, n, ErrorClass::Unavailable, false) == Advice::Open
            });
            assert_eq!(opened, opens, "a success in {every}");
        }
    }

    #[test]
    fn a_refused_login_opens_at_once_and_a_refused_order_clears_the_suspicion() {
        let mut breaker = Breaker::default();
        let of = |b: &mut Breaker, n, class| told(b, n, class, false);
        assert_eq!(of(&mut breaker, 1, ErrorClass::Unauthorized), Advice::Open);
        of(&mut breaker, 1, ErrorClass::Unavailable);
        of(&mut breaker, 2, ErrorClass::Unavailable);
        assert_eq!(of(&mut breaker, 3, ErrorClass::Rejected), Advice::CarryOn);
        assert_eq!(of(&mut breaker, 4, ErrorClass::Unavailable), Advice::CarryOn);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(RULE.pause_after(0).as_secs(), 5);
        assert_eq!(RULE.pause_after(2).as_secs(), 20);
        assert_eq!(RULE.pause_after(u32::MAX).as_secs(), 300);
    }
}
