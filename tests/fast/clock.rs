//! A clock that follows the paused time of the runtime: whoever moves that, moves everything.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use order_relay::ports::clock::{Clock, Stopwatch};
use uuid::Uuid;

/// 2026-11-22T10:00:00Z
const BEGIN: i64 = 1_795_341_600;

pub struct VirtualClock {
    since: Stopwatch,
    ids: AtomicU64,
}

impl VirtualClock {
    /// It is ten o'clock.
    pub fn new() -> Self {
        Self { since: Stopwatch::start(), ids: AtomicU64::new(1) }
    }

    fn next(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let begin = Timestamp::from_second(BEGIN).expect("within time");
        let passed = SignedDuration::try_from(self.since.elapsed()).expect("within time");
        let now = begin + passed;
        Timestamp::from_millisecond(now.as_millisecond()).expect("within time")
    }

    fn unique_id(&self) -> Uuid {
        let seconds = u64::try_from(self.now().as_second()).expect("after 1970");
        let ms = seconds * 1_000;
        Uuid::from_u64_pair((ms << 16) | 0x7000, 0x8000_0000_0000_0000 | self.next())
    }

    fn secret_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes
    }
}
