//! When an attempt is repeated, when an order is parked, and when the ERP is asked about an unclear
//! one.
//!
//! Pure arithmetic over `retry.schedule`, `max_failed_order` and `erp.settle`. Counting a failure
//! applies it through [`crate::domain::lifecycle::transitions::OrderRecord::fail`], the submitter through
//! [`RetryPolicy::next_ask`].

use std::time::Duration;

use jiff::Timestamp;

use super::failure::ErrorClass;

/// Longest wait that an ERP's `Retry-After` can impose.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);
/// Shortest pause between two questions unless a recipe says otherwise.
pub const FIRST_ASK: Duration = Duration::from_secs(2);
const LONGEST_ASK_PAUSE: Duration = Duration::from_mins(15);

/// How failed attempts of one shop are repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Delay before retry 1, 2, …; the last one repeats. Never empty.
    pub schedule: Vec<Duration>,
    /// What follows when the ERP refuses an order.
    pub on_rejected: OnRejected,
    /// How long after an unclear send "not there" does not count (`erp.settle`).
    pub settle: Duration,
    /// Shortest pause between two questions about an unclear order.
    pub ask_every: Duration,
}

/// `erp.rejected`: what follows when the ERP refuses an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRejected {
    /// A person has to look: parked at once.
    Park,
    /// Retried like an outage, within the maximum.
    Retry,
}

impl RetryPolicy {
    /// Delay before the retry that follows failure number `fail_count` (from 1).
    pub fn delay(&self, fail_count: u32) -> Duration {
        let step = usize::try_from(fail_count.saturating_sub(1)).unwrap_or(usize::MAX);
        self.schedule.get(step).or(self.schedule.last()).copied().unwrap_or(FIRST_ASK)
    }

    /// Whether a failure of `class` ends the automatic attempts, regardless of the count.
    pub fn gives_up_on(&self, class: ErrorClass) -> bool {
        match class {
            ErrorClass::Internal => true,
            ErrorClass::Rejected => self.on_rejected == OnRejected::Park,
            ErrorClass::Unavailable | ErrorClass::Unauthorized | ErrorClass::UnknownOutcome => {
                false
            }
        }
    }

    /// When to ask the ERP again about an order that has been unclear `since` then: intervals grow
    /// with the time that has passed, and one question is asked at the moment from which "not
    /// there" counts.
    pub fn next_ask(&self, since: Timestamp, now: Timestamp) -> Timestamp {
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let shortest = self.ask_every.min(LONGEST_ASK_PAUSE);
        let next = later(now, passed.clamp(shortest, LONGEST_ASK_PAUSE));
        let settled = later(since, self.settle);
        if now < settled { next.min(settled) } else { next }
    }

    /// Time from the first failed attempt to the last, if every attempt fails at once; `None`
    /// without a maximum. It is logged at start, because it says how soon orders are parked.
    pub fn worst_case_window(&self, max_count: Option<u32>) -> Option<Duration> {
        let max = max_count?;
        let steps = u32::try_from(self.schedule.len()).unwrap_or(u32::MAX);
        let listed = max.saturating_sub(1).min(steps);
        let repeated = max.saturating_sub(1).saturating_sub(steps);
        let sum = (1..=listed).map(|n| self.delay(n)).sum::<Duration>();
        Some(sum.saturating_add(self.delay(u32::MAX).saturating_mul(repeated)))
    }
}

/// Whether `fail_count` has reached the maximum; without one it never has.
pub fn is_exhausted(fail_count: u32, max_count: Option<u32>) -> bool {
    max_count.is_some_and(|max| fail_count >= max)
}

/// `at` plus `delay`, limited to the latest timestamp.
pub fn later(at: Timestamp, delay: Duration) -> Timestamp {
    at.checked_add(delay).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(seconds: &[u64]) -> RetryPolicy {
        RetryPolicy {
            schedule: seconds.iter().map(|s| Duration::from_secs(*s)).collect(),
            on_rejected: OnRejected::Park,
            settle: Duration::from_secs(60),
            ask_every: FIRST_ASK,
        }
    }

    #[test]
    fn the_last_delay_repeats() {
        let policy = policy(&[30, 120]);
        assert_eq!(policy.delay(1).as_secs(), 30);
        assert_eq!(policy.delay(2).as_secs(), 120);
        assert_eq!(policy.delay(99).as_secs(), 120);
    }

    #[test]
    fn the_worst_case_window_is_the_sum_of_the_waits() {
        let policy = policy(&[30, 120, 600]);
        assert_eq!(policy.worst_case_window(Some(3)), Some(Duration::from_secs(150)));
        assert_eq!(policy.worst_case_window(Some(6)), Some(Duration::from_secs(30 + 120 + 1800)));
        assert_eq!(policy.worst_case_window(Some(1)), Some(Duration::ZERO));
        assert_eq!(policy.worst_case_window(None), None);
        assert!(policy.worst_case_window(Some(u32::MAX)).is_some());
    }

    #[test]
    fn without_a_maximum_nothing_is_ever_exhausted() {
        assert!(!is_exhausted(u32::MAX, None));
        assert!(is_exhausted(3, Some(3)));
        assert!(is_exhausted(0, Some(0)));
        assert!(!is_exhausted(2, Some(3)));
    }

    proptest! {
        #[test]
        fn asking_moves_forward_and_never_skips_the_settle_moment(
            passed in 0i64..100_000, settle in 1u64..2_000,
        ) {
            let since = Timestamp::from_second(1_000_000).unwrap();
            let now = Timestamp::from_second(1_000_000 + passed).unwrap();
            let settle = Duration::from_secs(settle);
            let next = RetryPolicy { settle, ..policy(&[1]) }.next_ask(since, now);
            prop_assert!(next > now);
            prop_assert!(next <= later(now, LONGEST_ASK_PAUSE));
            prop_assert!(now >= later(since, settle) || next <= later(since, settle));
        }
    }
}
