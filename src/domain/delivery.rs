//! When something that was not taken is sent again: mails and messages to channels follow the same schedule.

use std::time::Duration;

use jiff::Timestamp;

use super::retry::{MAX_RETRY_AFTER, later};

/// Pause after the first attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_mins(15);
/// What nobody took for this long is abandoned, and stays visible.
pub const MAX_DELIVERY_AGE: Duration = Duration::from_hours(7 * 24);

/// When it is sent again after `tries` attempts that failed, the last one at `now`; `None`: not any more. `wanted` is
/// the pause that the receiver asked for: it may be longer than ours, and at most a day.
pub fn sent_again_at(
    queued_at: Timestamp,
    tries: u32,
    now: Timestamp,
    wanted: Option<Duration>,
) -> Option<Timestamp> {
    if now >= later(queued_at, MAX_DELIVERY_AGE) {
        return None;
    }
    let pause = FIRST_PAUSE * 2u32.saturating_pow(tries.saturating_sub(1).min(10));
    let wanted = wanted.unwrap_or_default().min(MAX_RETRY_AFTER);
    Some(later(now, pause.min(LONGEST_PAUSE).max(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUEUED: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn the_pause_doubles_to_a_quarter_of_an_hour_for_seven_days() {
        let pause = |tries| sent_again_at(QUEUED, tries, QUEUED, None).unwrap().as_second();
        assert_eq!([1, 2, 3, 7, 100].map(pause), [15, 30, 60, 900, 900]);
        let wanted = |seconds| Some(Duration::from_secs(seconds));
        let asked = |seconds| sent_again_at(QUEUED, 1, QUEUED, wanted(seconds)).unwrap();
        assert_eq!(asked(3).as_second(), 15);
        assert_eq!(asked(120).as_second(), 120);
        assert_eq!(asked(u64::MAX).as_second(), 86_400);
        let end = later(QUEUED, MAX_DELIVERY_AGE);
        assert_eq!(sent_again_at(QUEUED, 1, end, None), None);
    }

    proptest! {
        #[test]
        fn no_attempt_comes_at_once_or_after_more_than_a_day(
            tries in 0u32..5_000, wanted in prop::option::of(0u64..1_000_000), age in 0i64..604_800
        ) {
            let now = Timestamp::from_second(age).unwrap();
            let at = sent_again_at(QUEUED, tries, now, wanted.map(Duration::from_secs)).unwrap();
            let pause = at.duration_since(now).as_secs();
            prop_assert!((15..=86_400).contains(&pause), "{pause}");
        }
    }
}
