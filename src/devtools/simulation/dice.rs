//! Chance, all of it from one seed: the same seed gives the same run.
//!
//! Every model has dice of its own, so that leaving out one fault changes as little as possible of
//! the rest.

use std::time::Duration;

use fastrand::Rng;

/// Random decisions of one model.
#[derive(Debug, Clone)]
pub struct Dice(Rng);

impl Dice {
    /// The dice that `seed` gives for one purpose.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mixed = purpose.bytes().fold(seed ^ 0x9E37_79B9_7F4A_7C15, |mixed, byte| {
            (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        Self(Rng::with_seed(mixed))
    }

    /// Whether something happens that happens in so many of a hundred cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.u32(0..100) < percent
    }

    /// A number, both ends included.
    pub fn number(&mut self, from: u32, to: u32) -> u32 {
        self.0.u32(from..=to.max(from))
    }

    /// A time in whole milliseconds, both ends included.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.0.u64(from..=to.max(from)))
    }

    /// A time in whole seconds, both ends included.
    pub fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_secs(self.0.u64(from..=to.max(from)))
    }

    /// A place in a list that is not empty.
    pub fn index(&mut self, length: usize) -> usize {
        self.0.usize(0..length.max(1))
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}
