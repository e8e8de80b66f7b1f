//! The clock of one process: virtual time, and wrong by as much as the plan says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::devtools::simulation::story::Story;
use crate::ports::clock::Clock;

/// 2026-11-22T10:00:00Z
const BEGIN_S: i64 = 1_795_341_600;

/// A clock that follows virtual time.
pub struct SkewedClock {
    story: Arc<Story>,
    skew: SignedDuration,
    ids: Arc<AtomicU64>,
}

impl SkewedClock {
    /// A clock that is ahead of the true time by `skew`; `ids` counts the values that were given out
    /// in the whole run.
    pub fn new(story: Arc<Story>, skew: SignedDuration, ids: Arc<AtomicU64>) -> Self {
        Self { story, skew, ids }
    }

    fn next(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let begin = Timestamp::from_second(BEGIN_S).expect("a time of this century");
        let passed = SignedDuration::try_from(self.story.now()).expect("a run takes hours");
        let now = begin + passed + self.skew;
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn unique_id(&self) -> Uuid {
        let ms = u64::try_from(self.now().as_millisecond()).expect("after 1970");
        Uuid::from_u64_pair((ms << 16) | 0x7000, 0x8000_0000_0000_0000 | self.next())
    }

    fn secret_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes
    }
}
