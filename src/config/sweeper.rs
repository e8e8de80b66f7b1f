//! `sweeper.*`: finding what is overdue.

use std::time::Duration;

use super::reader::{ONE_DAY, ONE_MS, Reader};

/// `sweeper.*`
#[derive(Debug, Clone, Copy)]
pub struct SweeperSettings {
    /// Pause between two sweeps.
    pub every: Duration,
    /// How long something may be overdue.
    pub grace: Duration,
    /// How long a swept order is left alone.
    pub again_after: Duration,
}

impl SweeperSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            every: r.duration("sweeper.every", Duration::from_millis(50)..=Duration::from_hours(1)),
            grace: r.duration("sweeper.grace", ONE_MS..=ONE_DAY),
            again_after: r.duration("sweeper.again_after", ONE_MS..=ONE_DAY),
        }
    }
}
