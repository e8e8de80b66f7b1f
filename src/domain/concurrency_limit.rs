//! How many calls to one ERP may be in progress: between 1 and `erp.max_in_flight`, adapted to its
//! answers.
//!
//! Additive increase, multiplicative decrease, as TCP does it (RFC 5681), decided by shares and not by single
//! answers: results are counted in rounds of as many as the limit, and when half of a round was an outage or much
//! slower than usual, the limit is halved. A share of bad orders therefore does not throttle the good ones. After
//! the circuit closes it starts at 1 and doubles with success (slow start).

use std::time::Duration;

/// An answer slower than this many times the usual latency counts as congestion.
const SLOW_FACTOR: u32 = 4;
/// Latency below this is never congestion: on a fast ERP the factor would react to noise.
const NEVER_SLOW: Duration = Duration::from_millis(100);
/// A round has at least so many results: fewer say nothing about a share.
const SHORTEST_ROUND: u32 = 8;
/// Weight of a new sample in the usual latency, 1/16 as in TCP's smoothed round-trip time.
const SAMPLE_WEIGHT: u32 = 16;

/// The adaptive limit of one ERP in one process.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    max: u32,
    limit: f64,
    slow_start: bool,
    usual: Option<Duration>,
    /// Results of this round.
    results: u32,
    /// Those of them that show congestion.
    congested: u32,
}

impl ConcurrencyLimit {
    /// Starts at the maximum: the ERP is assumed to work until it shows otherwise.
    pub fn new(max_in_flight: u32) -> Self {
        let max = max_in_flight.max(1);
        Self {
            max,
            limit: f64::from(max),
            slow_start: false,
            usual: None,
            results: 0,
            congested: 0,
        }
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

    /// Another maximum; the limit keeps its share of it.
    pub fn set_max(&mut self, max_in_flight: u32) {
        let max = max_in_flight.max(1);
        self.limit = (self.limit * f64::from(max) / f64::from(self.max)).max(1.0);
        self.max = max;
    }

    /// Starts again at one call at a time, doubling with success.
    pub fn restart(&mut self) {
        self.limit = 1.0;
        self.slow_start = true;
        self.begin_round();
    }

    /// The ERP answered after `latency`.
    pub fn record_answer(&mut self, latency: Duration) {
        let usual = *self.usual.get_or_insert(latency);
        let is_slow = latency > NEVER_SLOW && latency > usual.saturating_mul(SLOW_FACTOR);
        self.usual = Some((usual * (SAMPLE_WEIGHT - 1) + latency) / SAMPLE_WEIGHT);
        if is_slow {
            self.record_congestion();
            return;
        }
        if self.slow_start {
            self.limit = (self.limit + 1.0).min(f64::from(self.max));
            self.slow_start = self.limit < f64::from(self.max);
        } else {
            self.limit = (self.limit + 1.0 / self.limit).min(f64::from(self.max));
        }
        self.count(false);
    }

    /// The ERP was unavailable, or did not answer in time.
    pub fn record_outage(&mut self) {
        self.record_congestion();
    }

    fn record_congestion(&mut self) {
        self.count(true);
        if self.congested * 2 >= self.round() {
            self.slow_start = false;
            self.limit = (self.limit / 2.0).max(1.0);
            self.begin_round();
        }
    }

    fn count(&mut self, is_congested: bool) {
        if self.results >= self.round() {
            self.begin_round();
        }
        self.results += 1;
        self.congested += u32::from(is_congested);
    }

    fn round(&self) -> u32 {
        self.limit().max(SHORTEST_ROUND)
    }

    fn begin_round(&mut self) {
        (self.results, self.congested) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_halves_with_each_half_round_of_outages_and_recovers_step_by_step() {
        let mut pace = ConcurrencyLimit::new(64);
        let mut outages_until = |limit| {
            let mut outages = 0;
            while pace.limit() > limit {
                pace.record_outage();
                outages += 1;
            }
            outages
        };
        assert_eq!([32, 16, 8, 4].map(&mut outages_until), [32, 16, 8, 4]);
        for _ in 0..3_000 {
            pace.record_answer(Duration::from_millis(20));
        }
        assert_eq!(pace.limit(), 64);
    }

    #[test]
    fn a_share_of_bad_orders_does_not_throttle_the_good_ones() {
        let mut pace = ConcurrencyLimit::new(64);
        for n in 0..10_000 {
            match n % 4 {
                0 => pace.record_outage(),
                _ => pace.record_answer(Duration::from_millis(20)),
            }
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
    fn answers_much_slower_than_usual_are_congestion_and_a_single_one_is_not() {
        let mut pace = ConcurrencyLimit::new(64);
        for _ in 0..64 {
            pace.record_answer(Duration::from_millis(50));
        }
        pace.record_answer(Duration::from_secs(2));
        assert_eq!(pace.limit(), 64);
        for n in 2..=32 {
            pace.record_answer(Duration::from_secs(1 << n));
        }
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
