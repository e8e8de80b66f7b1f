//! How many calls to one ERP may be in progress: between 1 and `erp.max_in_flight`, adapted to its
//! answers.
//!
//! Additive increase, multiplicative decrease, as TCP does it (RFC 5681): every answer in normal
//! time raises the limit a little, an outage or an answer much slower than usual halves it. After
//! the circuit closes it starts at 1 and doubles with success (slow start).

use std::time::Duration;

/// An answer slower than this many times the usual latency counts as congestion.
const SLOW_FACTOR: u32 = 4;
/// Latency below this is never congestion: on a fast ERP the factor would react to noise.
const NEVER_SLOW: Duration = Duration::from_millis(100);
/// Weight of a new sample in the usual latency, 1/16 as in TCP's smoothed round-trip time.
const SAMPLE_WEIGHT: u32 = 16;

/// The adaptive limit of one ERP in one process.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    max: u32,
    limit: f64,
    slow_start: bool,
    usual: Option<Duration>,
    since_decrease: u32,
}

impl ConcurrencyLimit {
    /// Starts at the maximum: the ERP is assumed to work until it shows otherwise.
    pub fn new(max_in_flight: u32) -> Self {
        let max = max_in_flight.max(1);
        Self { max, limit: f64::from(max), slow_start: false, usual: None, since_decrease: 0 }
    }

    /// Calls that may be in progress now, 1 to the maximum.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the limit is between 1 and a u32"
    )]
    pub fn limit(&self) -> u32 {
        (self.limit as u32).clamp(1, self.max)
    }

    /// Starts again at one call at a time, doubling with success.
    pub fn restart(&mut self) {
        self.limit = 1.0;
        self.slow_start = true;
        self.since_decrease = 0;
    }

    /// The ERP answered after `latency`.
    pub fn record_answer(&mut self, latency: Duration) {
        self.since_decrease = self.since_decrease.saturating_add(1);
        let usual = *self.usual.get_or_insert(latency);
        let is_slow = latency > NEVER_SLOW && latency > usual.saturating_mul(SLOW_FACTOR);
        self.usual = Some((usual * (SAMPLE_WEIGHT - 1) + latency) / SAMPLE_WEIGHT);
        if is_slow {
            self.decrease();
        } else if self.slow_start {
            self.limit = (self.limit + 1.0).min(f64::from(self.max));
            self.slow_start = self.limit < f64::from(self.max);
        } else {
            self.limit = (self.limit + 1.0 / self.limit).min(f64::from(self.max));
        }
    }

    /// The ERP was unavailable, or did not answer in time.
    pub fn record_outage(&mut self) {
        self.since_decrease = self.since_decrease.saturating_add(1);
        self.decrease();
    }

    /// Halves the limit, once per batch of calls: those in progress saw the same congestion.
    fn decrease(&mut self) {
        if self.since_decrease < self.limit() && self.limit() < self.max {
            return;
        }
        self.slow_start = false;
        self.since_decrease = 0;
        self.limit = (self.limit / 2.0).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_halves_once_per_round_on_an_outage_and_recovers_step_by_step() {
        let mut pace = ConcurrencyLimit::new(64);
        for _ in 0..32 {
            pace.record_outage();
        }
        assert_eq!(pace.limit(), 32);
        pace.record_outage();
        assert_eq!(pace.limit(), 16);
        for _ in 0..2_000 {
            pace.record_answer(Duration::from_millis(20));
        }
        assert_eq!(pace.limit(), 64);
    }

    #[test]
    fn slow_start_doubles_per_round() {
        let mut pace = ConcurrencyLimit::new(64);
        pace.restart();
        assert_eq!(pace.limit(), 1);
        for _ in 0..63 {
            pace.record_answer(Duration::from_millis(20));
        }
        assert_eq!(pace.limit(), 64);
    }

    #[test]
    fn answers_much_slower_than_usual_are_congestion() {
        let mut pace = ConcurrencyLimit::new(64);
        for _ in 0..50 {
            pace.record_answer(Duration::from_millis(50));
        }
        pace.record_answer(Duration::from_secs(2));
        assert_eq!(pace.limit(), 32);
    }

    proptest! {
        #[test]
        fn the_limit_stays_between_one_and_the_maximum(
            max in 1u32..200, steps in proptest::collection::vec(0u64..4_000, 0..400),
        ) {
            let mut pace = ConcurrencyLimit::new(max);
            for step in steps {
                match step {
                    0..200 => pace.record_outage(),
                    200..210 => pace.restart(),
                    latency => pace.record_answer(Duration::from_millis(latency)),
                }
                prop_assert!((1..=max).contains(&pace.limit()));
            }
        }
    }
}
