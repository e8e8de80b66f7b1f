//! From which number or sum of money on a channel is told about failed orders: `>= 10 orders or 5,000 EUR in 15 min`.
//!
//! Failures are counted over a sliding time. When they reach the threshold, those that did so are told, and all others
//! for the same time again; then counting starts anew. What stays below the threshold is never sent to this channel,
//! is marked so, and is counted where people see it. Mails tell it anyway.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::money::Sum;
use super::retry::later;
use super::text::one_line;

const NANOS_PER_UNIT: i128 = 1_000_000_000;
const LONGEST: Duration = Duration::from_hours(24);

/// `channels.NAME.threshold`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    orders: Option<usize>,
    /// By currency, in billionths.
    money: Vec<(String, i128)>,
    within: Duration,
    /// As it was written.
    text: String,
}

/// A failure as the threshold sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedFailure {
    pub at: Timestamp,
    /// Shop and number: an order that fails twice is one order.
    pub order: String,
    /// Currency and total.
    pub money: Option<(String, String)>,
}

/// What becomes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// It is told.
    Told,
    /// There were too few others around it.
    Below,
    /// Not decided before that time.
    Open(Timestamp),
}

impl Threshold {
    /// How long failures are counted together.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// What becomes of `failures`, oldest first, and until when everything is told from now on. `above_until` is that
    /// of the time before.
    pub fn judge(
        &self,
        failures: &[CountedFailure],
        above_until: Option<Timestamp>,
        now: Timestamp,
    ) -> (Vec<Judged>, Option<Timestamp>) {
        let mut above_until = above_until;
        let mut judged = Vec::with_capacity(failures.len());
        let mut tally = Tally::default();
        // `judged.len()` is the first failure that is not decided; the tally holds those from it up to `next`.
        let mut next = 0;
        while let Some(first) = failures.get(judged.len()) {
            if above_until.is_some_and(|until| first.at < until) {
                tally.forget(first, next > judged.len());
                judged.push(Judged::Told);
                next = next.max(judged.len());
                continue;
            }
            let end = later(first.at, self.within);
            let mut reached = None;
            while let Some(failure) = failures.get(next).filter(|failure| failure.at < end) {
                tally.add(failure);
                next += 1;
                if self.is_reached(&tally) {
                    reached = Some(failure.at);
                    break;
                }
            }
            match reached {
                Some(at) => {
                    judged.resize(next, Judged::Told);
                    tally = Tally::default();
                    above_until = Some(later(at, self.within));
                }
                None if now >= end => {
                    tally.forget(first, true);
                    judged.push(Judged::Below);
                }
                // Whatever follows has even fewer around it so far.
                None => judged.resize(failures.len(), Judged::Open(end)),
            }
        }
        (judged, above_until)
    }

    fn is_reached(&self, tally: &Tally) -> bool {
        self.orders.is_some_and(|orders| tally.orders.len() >= orders)
            || self
                .money
                .iter()
                .any(|(currency, nanos)| tally.money.get(currency).is_some_and(|sum| sum >= nanos))
    }
}

/// The orders within the time that is looked at, and their money.
#[derive(Default)]
struct Tally {
    orders: HashMap<String, u32>,
    money: HashMap<String, i128>,
}

impl Tally {
    fn add(&mut self, failure: &CountedFailure) {
        let times = self.orders.entry(failure.order.clone()).or_default();
        *times += 1;
        if *times == 1
            && let Some((currency, total)) = &failure.money
        {
            *self.money.entry(currency.clone()).or_default() += nanos(total).unwrap_or(0);
        }
    }

    fn forget(&mut self, failure: &CountedFailure, is_in: bool) {
        let Some(times) = self.orders.get_mut(&failure.order).filter(|_| is_in) else { return };
        *times -= 1;
        if *times > 0 {
            return;
        }
        self.orders.remove(&failure.order);
        if let Some((currency, total)) = &failure.money {
            *self.money.entry(currency.clone()).or_default() -= nanos(total).unwrap_or(0);
        }
    }
}

/// A total in billionths; `None`: it is not plain (see [`Sum::of_total`]).
fn nanos(total: &str) -> Option<i128> {
    let sum = Sum::of_total(total);
    let nanos = i128::from(sum.units) * NANOS_PER_UNIT + i128::from(sum.nanos);
    (sum.unsummed == 0).then_some(nanos)
}

/// What is expected of the text of a threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}`: expected a threshold such as \">= 10 orders or 5,000 EUR in 15 min\", within 24 hours at most"
)]
pub struct ThresholdError(String);

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        read(text).ok_or_else(|| ThresholdError(one_line(text, 80)))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn read(text: &str) -> Option<Threshold> {
    let (parts, within) = text.rsplit_once(" in ")?;
    let within = Duration::try_from(within.trim().parse::<SignedDuration>().ok()?).ok()?;
    if within.is_zero() || within > LONGEST {
        return None;
    }
    let (mut orders, mut money) = (None, Vec::new());
    for part in parts.split(" or ") {
        let part = part.trim().trim_start_matches(">=").trim();
        let (number, unit) = part.rsplit_once(' ')?;
        let number = number.trim().replace(',', "");
        match unit {
            "order" | "orders" => orders = Some(number.parse().ok().filter(|n| *n > 0)?),
            currency if is_currency(currency) => {
                money.push((currency.to_owned(), nanos(&number).filter(|n| *n > 0)?));
            }
            _ => return None,
        }
    }
    Some(Threshold { orders, money, within, text: text.trim().to_owned() })
}

fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn failure(second: i64, order: &str, total: &str) -> CountedFailure {
        let money = Some(("EUR".to_owned(), total.to_owned()));
        CountedFailure { at: at(second), order: order.to_owned(), money }
    }

    fn failures(seconds: &[i64]) -> Vec<CountedFailure> {
        let each = seconds.iter().enumerate();
        each.map(|(order, second)| failure(*second, &order.to_string(), "10")).collect()
    }

    const RULE: &str = ">= 3 orders or 5,000 EUR in 15 min";

    fn judge(failures: &[CountedFailure], now: i64) -> Vec<Judged> {
        RULE.parse::<Threshold>().unwrap().judge(failures, None, at(now)).0
    }

    #[test]
    fn failures_are_told_when_enough_of_them_come_within_the_time() {
        use Judged::{Below, Open, Told};
        assert_eq!(judge(&failures(&[0, 800]), 801), [Open(at(900)), Open(at(900))]);
        assert_eq!(judge(&failures(&[0, 800]), 900), [Below, Open(at(1_700))]);
        assert_eq!(judge(&failures(&[0, 100, 899]), 899), [Told, Told, Told]);
        assert_eq!(
            judge(&failures(&[0, 100, 900]), 900),
            [Below, Open(at(1_000)), Open(at(1_000))]
        );
        // Nobody looked for an hour: it is decided by when they happened.
        assert_eq!(
            judge(&failures(&[0, 1_000, 1_100, 1_200, 3_000]), 9_000),
            [Below, Told, Told, Told, Below]
        );
    }

    #[test]
    fn after_the_threshold_everything_is_told_for_the_same_time() {
        let rule: Threshold = RULE.parse().unwrap();
        let (judged, until) = rule.judge(&failures(&[0, 1, 2, 900, 902]), None, at(902));
        use Judged::{Open, Told};
        assert_eq!(judged, [Told, Told, Told, Told, Open(at(1_802))]);
        assert_eq!(until, Some(at(902)));
        let (judged, again) = rule.judge(&failures(&[901]), until, at(901));
        assert_eq!((judged, again), (vec![Told], until));
    }

    #[test]
    fn an_order_counts_once_and_its_money_too() {
        let thrice = [failure(0, "a", "1"), failure(1, "a", "1"), failure(2, "a", "1")];
        assert!(judge(&thrice, 3).iter().all(|judged| matches!(judged, Judged::Open(_))));
        let dear = [failure(0, "a", "4999.99"), failure(1, "a", "4999.99")];
        assert!(judge(&dear, 3).iter().all(|judged| matches!(judged, Judged::Open(_))));
        let dearer = [failure(0, "a", "4999.99"), failure(1, "b", "0.01")];
        assert_eq!(judge(&dearer, 3), [Judged::Told, Judged::Told]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_an_example() {
        for good in
            ["1 order in 1m", "5000.50 CHF in 24h", ">= 10 orders or 5,000 EUR or 100 USD in 15m"]
        {
            assert_eq!(good.parse::<Threshold>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "10 orders",
            "0 orders in 1m",
            "-1 EUR in 1m",
            "5 euros in 1m",
            "5 EUR in 25h",
            "5 EUR in 0s",
        ] {
            let told = bad.parse::<Threshold>().unwrap_err().to_string();
            assert!(told.contains("10 orders or 5,000 EUR in 15 min"), "{told}");
        }
    }

    proptest! {
        /// Whoever looks when: what is decided stays the same, all of it is decided once it is old, and a failure is
        /// told if and only if enough others are around it, or it comes soon after such.
        #[test]
        fn looking_more_often_changes_nothing(
            seconds in prop::collection::vec(0i64..8_000, 0..40),
            looks in prop::collection::vec(0i64..8_000, 0..5),
        ) {
            let rule: Threshold = RULE.parse().unwrap();
            let mut seconds = seconds;
            seconds.sort_unstable();
            let all = failures(&seconds);
            let (at_once, _) = rule.judge(&all, None, at(20_000));
            let mut looks = looks;
            looks.sort_unstable();
            looks.push(20_000);
            let mut decided: Vec<(String, bool)> = Vec::new();
            let mut above = None;
            for now in looks {
                let waiting: Vec<CountedFailure> = all.iter()
                    .filter(|f| f.at <= at(now) && !decided.iter().any(|(order, _)| *order == f.order))
                    .cloned().collect();
                let (judged, until) = rule.judge(&waiting, above, at(now));
                prop_assert_eq!(judged.len(), waiting.len());
                above = until;
                for (failure, judged) in waiting.iter().zip(judged) {
                    match judged {
                        Judged::Told => decided.push((failure.order.clone(), true)),
                        Judged::Below => decided.push((failure.order.clone(), false)),
                        Judged::Open(until) => prop_assert!(until > at(now)),
                    }
                }
            }
            decided.sort_by_key(|(order, _)| order.parse::<usize>().unwrap());
            let told: Vec<bool> = decided.into_iter().map(|(_, told)| told).collect();
            let expected: Vec<bool> = at_once.iter().map(|judged| *judged == Judged::Told).collect();
            prop_assert_eq!(told, expected);
        }
    }
}
