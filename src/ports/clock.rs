//! Time and randomness: the only file that may read them (clippy.toml enforces that).
//!
//! Rules take the time as an argument; loops take a [`Clock`], which tests can control.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// The time, and unique values.
pub trait Clock: Send + Sync + 'static {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
    /// An identifier that sorts by time (UUID version 7, RFC 9562).
    fn unique_id(&self) -> Uuid;
    /// 32 random bytes.
    fn secret_bytes(&self) -> [u8; 32];
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[allow(clippy::disallowed_methods, reason = "this is the clock port")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // Whole milliseconds, as the ledger stores them: a time must be equal after it was stored
        // and loaded.
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn unique_id(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn secret_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        bytes
    }
}

/// Measures how long something takes, independent of changes of the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(tokio::time::Instant);

#[allow(clippy::disallowed_methods, reason = "this is the clock port")]
impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The same in whole milliseconds.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
