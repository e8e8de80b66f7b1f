//! Who is informed about what, and when mails become a digest.
//!
//! A notice is a row written in the same transaction as the event that it reports. The notifier
//! turns notices into mails, each notice into exactly one, by [`plan`]: an outage of 4,000 orders
//! leads to a few mails that name every order, not to 4,000 mails.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::retry::later;
use crate::domain::order::values::OrderKey;

/// The event that a notice reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// To the administrators: an attempt failed.
    OrderFailed,
    /// To the customer: the order is in the ERP.
    CustomerConfirmation,
    /// To the administrators: the ERP is unavailable, the work pauses.
    CircuitOpened,
    /// To the administrators: the ERP is usable again.
    CircuitClosed,
    /// To the administrators: the ERP becomes unavailable again and again.
    CircuitUnstable,
    /// To the administrators: the ERP has an order under two numbers.
    EnteredTwice,
    /// To the administrators: orders fail in a way that was not seen before.
    FailureTypeNew,
    /// To the administrators: a type of failures that had ended occurs again.
    FailureTypeBack,
    /// To the administrators: a type of failures comes and goes.
    FailureTypeUnstable,
    /// To the administrators: a type of failures has ended.
    FailureTypeEnded,
}

crate::names!(NoticeKind {
    OrderFailed = "order_failed",
    CustomerConfirmation = "customer_confirmation",
    CircuitOpened = "circuit_opened",
    CircuitClosed = "circuit_closed",
    CircuitUnstable = "circuit_unstable",
    EnteredTwice = "entered_twice",
    FailureTypeNew = "failure_type_new",
    FailureTypeBack = "failure_type_back",
    FailureTypeUnstable = "failure_type_unstable",
    FailureTypeEnded = "failure_type_ended",
});

impl NoticeKind {
    /// Whether many of them may share one mail.
    pub fn is_digestible(self) -> bool {
        self == Self::OrderFailed
    }

    /// Whether channels beside mail may be told: what is written to a customer concerns the customer alone.
    pub fn is_for_channels(self) -> bool {
        self != Self::CustomerConfirmation
    }

    /// Whether it tells the administrators of trouble, or of its end: somebody has to get it.
    pub fn is_alert(self) -> bool {
        self != Self::CustomerConfirmation
    }

    /// Whether it is about a type of failures: those of a while arrive together.
    pub fn is_of_failure_type(self) -> bool {
        matches!(
            self,
            Self::FailureTypeNew
                | Self::FailureTypeBack
                | Self::FailureTypeUnstable
                | Self::FailureTypeEnded
        )
    }
}

/// Identity of the notice about one attempt, so that reporting twice is the same as reporting once.
pub fn order_notice_id(kind: NoticeKind, key: &OrderKey, attempt: u32) -> String {
    format!("{}:{key}#{attempt}", kind.as_str())
}

/// Identity of the notice that the ERP has an order under this number, too: one for each number.
pub fn second_entry_notice_id(key: &OrderKey, number: &str) -> String {
    format!("{}:{key}#{number}", NoticeKind::EnteredTwice.as_str())
}

/// Identity of the notice about a change of a circuit's alarm, whose spell began at that time.
pub fn circuit_alarm_id(kind: NoticeKind, erp: &str, began_at: Timestamp) -> String {
    format!("{}:{erp}@{}", kind.as_str(), began_at.as_millisecond())
}

/// Identity of the notice about a change of a type of failures, for one group of receivers.
pub fn failure_type_notice_id(
    kind: NoticeKind,
    audience: &str,
    fingerprint: &str,
    began_at: Timestamp,
) -> String {
    format!("{}:{audience}/{fingerprint}@{}", kind.as_str(), began_at.as_millisecond())
}

/// `mail.customer_confirmation`: when a customer gets a confirmation that the order is in the ERP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CustomerConfirmation {
    /// Never.
    Never,
    /// Only when the order had failed before.
    AfterFailure,
    /// For every order.
    Always,
}

impl CustomerConfirmation {
    /// Whether the customer of an order that failed `fail_count` times gets a confirmation.
    pub fn applies(self, fail_count: u32) -> bool {
        match self {
            Self::Never => false,
            Self::AfterFailure => fail_count > 0,
            Self::Always => true,
        }
    }
}

/// `mail.digest_after` and `mail.digest_every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestRule {
    /// Most mails about single failures in one window.
    pub after: u32,
    /// Length of a window.
    pub every: Duration,
}

impl DigestRule {
    /// The rule for failures of a redrive: the first is reported at once, all further ones in the
    /// window arrive as one mail.
    pub fn for_redrives(self) -> Self {
        Self { after: 0, ..self }
    }
}

/// What was mailed recently to one group of receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestWindow {
    /// When the window began.
    pub started_at: Timestamp,
    /// Single mails sent in it; a digest fills it at once.
    pub sent: u32,
}

/// What to do with the notices that wait for one group of receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// One mail each; `window` is the new state.
    Each {
        /// The window after sending them.
        window: DigestWindow,
    },
    /// One mail that lists all of them; `window` is the new state.
    Digest {
        /// The window after sending it.
        window: DigestWindow,
    },
    /// Nothing before that time.
    Wait {
        /// When the window ends.
        until: Timestamp,
    },
}

/// Decides about `waiting` notices (at least 1). Within a window up to `rule.after` failures are
/// mailed one by one; the rest waits until it ends and arrives as one digest. After a digest the
/// next window counts as full, so that a long outage is one mail per window.
pub fn plan(window: Option<DigestWindow>, waiting: u32, rule: DigestRule, now: Timestamp) -> Plan {
    let running = window.filter(|window| now < later(window.started_at, rule.every));
    match running {
        Some(window) if window.sent.saturating_add(waiting) <= rule.after => {
            Plan::Each { window: DigestWindow { sent: window.sent + waiting, ..window } }
        }
        Some(window) => Plan::Wait { until: later(window.started_at, rule.every) },
        None if waiting <= rule.after => {
            Plan::Each { window: DigestWindow { started_at: now, sent: waiting } }
        }
        None => Plan::Digest { window: DigestWindow { started_at: now, sent: rule.after } },
    }
}

/// What to do with news about types of failures that wait for one group of receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gathering {
    /// They wait for others until then; `window` is the new state.
    Begin {
        /// A window without a mail yet.
        window: DigestWindow,
        /// When it ends.
        until: Timestamp,
    },
    /// Nothing before that time.
    Wait {
        /// When the window ends.
        until: Timestamp,
    },
    /// All of them now; `window` is the new state.
    Now {
        /// The window, which is over.
        window: DigestWindow,
    },
}

/// Gathers news about types of failures for `every`, so that many at the same time are one mail.
pub fn gather(window: Option<DigestWindow>, every: Duration, now: Timestamp) -> Gathering {
    match window.filter(|window| window.sent == 0) {
        Some(window) if now < later(window.started_at, every) => {
            Gathering::Wait { until: later(window.started_at, every) }
        }
        Some(window) => Gathering::Now { window: DigestWindow { sent: 1, ..window } },
        None => Gathering::Begin {
            window: DigestWindow { started_at: now, sent: 0 },
            until: later(now, every),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    const RULE: DigestRule = DigestRule { after: 10, every: Duration::from_secs(300) };

    #[test]
    fn few_failures_are_mailed_one_by_one_and_many_as_one() {
        assert!(matches!(plan(None, 10, RULE, at(0)), Plan::Each { .. }));
        assert!(matches!(plan(None, 11, RULE, at(0)), Plan::Digest { .. }));
        let window = Some(DigestWindow { started_at: at(0), sent: 9 });
        assert!(matches!(plan(window, 1, RULE, at(1)), Plan::Each { .. }));
        assert_eq!(plan(window, 2, RULE, at(1)), Plan::Wait { until: at(300) });
        assert!(matches!(plan(window, 500, RULE, at(300)), Plan::Digest { .. }));
    }

    proptest! {
        /// However failures arrive: each is reported exactly once, and no window sees more than
        /// `after` single mails or more than one digest.
        #[test]
        fn every_failure_is_told_once_and_windows_stay_calm(
            arrivals in proptest::collection::vec((0i64..60, 0u32..40), 1..60),
            after in 1u32..12,
        ) {
            let rule = DigestRule { after, every: Duration::from_secs(300) };
            let (mut now, mut window, mut waiting, mut told) = (0, None, 0u32, 0u32);
            let mut mails: Vec<i64> = Vec::new();
            let total: u32 = arrivals.iter().map(|(_, n)| n).sum();
            let steps = arrivals.into_iter().chain(std::iter::repeat_n((300, 0), 2));
            for (pause, arrived) in steps {
                now += pause;
                waiting += arrived;
                if waiting == 0 { continue; }
                match plan(window, waiting, rule, at(now)) {
                    Plan::Each { window: w } => {
                        mails.extend(std::iter::repeat_n(now, waiting as usize));
                        told += waiting; waiting = 0; window = Some(w);
                    }
                    Plan::Digest { window: w } => {
                        mails.push(now); told += waiting; waiting = 0; window = Some(w);
                    }
                    Plan::Wait { until } => prop_assert!(until > at(now)),
                }
            }
            prop_assert_eq!((told, waiting), (total, 0));
            for start in &mails {
                let near = mails.iter().filter(|m| (*start..start + 300).contains(*m)).count();
                prop_assert!(near <= 2 * after as usize);
            }
        }

        /// However news about types of failures comes: none waits longer than `every`, and two mails are at least
        /// that far apart.
        #[test]
        fn news_of_a_while_are_one_mail(pauses in proptest::collection::vec(0i64..400, 1..60)) {
            let every = Duration::from_secs(300);
            let mut arrivals: Vec<i64> =
                pauses.iter().scan(0, |now, pause| { *now += pause; Some(*now) }).collect();
            let (mut window, mut waiting, mut mails) = (None, Vec::<i64>::new(), Vec::<i64>::new());
            for now in 0..=arrivals.last().unwrap() + 301 {
                let here = arrivals.partition_point(|arrival| *arrival <= now);
                waiting.extend(arrivals.drain(..here));
                if waiting.is_empty() { continue; }
                match gather(window, every, at(now)) {
                    Gathering::Begin { window: w, until } => {
                        prop_assert_eq!(until, at(now + 300));
                        window = Some(w);
                    }
                    Gathering::Wait { until } => prop_assert!(until > at(now)),
                    Gathering::Now { window: w } => {
                        prop_assert!(waiting.drain(..).all(|since| now - since <= 300));
                        mails.push(now);
                        window = Some(w);
                    }
                }
            }
            prop_assert!(waiting.is_empty());
            prop_assert!(mails.windows(2).all(|two| two[1] - two[0] >= 300), "{:?}", mails);
        }
    }
}
