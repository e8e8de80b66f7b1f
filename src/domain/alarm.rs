//! When people are told that trouble began, came back and ended: one notice for each change, none for each event,
//! and none while it comes and goes.
//!
//! The trouble is an ERP that is not usable, or a type of failures. Its *spell* lasts from the beginning that people
//! were told of until they are told of its end, however often it stops and begins again in between. Who calls this
//! stores the alarm together with the notice, so that each change is told once.

use std::time::Duration;

use jiff::Timestamp;

use super::retry::later;

/// `mail.unstable_after` and `mail.unstable_window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damping {
    /// So many beginnings within a window are told as unstable, and what follows is not told one by one.
    pub unstable_after: u32,
    /// An unstable one has ended when it did not begin again for so long.
    pub window: Duration,
}

/// What has to be told of a beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// It begins.
    Plain,
    /// It began too often: its further comings and goings are told as one.
    Unstable,
}

/// One trouble, as people know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// When the spell began.
    pub began_at: Timestamp,
    /// Since when it lasts without a break; `None`: it has stopped.
    pub on_since: Option<Timestamp>,
    /// When it stopped, or was seen last.
    pub off_at: Option<Timestamp>,
    /// How long it lasted in this spell, without the breaks.
    pub lasted: Duration,
    /// How often it began in this spell.
    pub times: u32,
    /// The last beginnings within a window, also of earlier spells; at most `unstable_after`.
    pub recent: Vec<Timestamp>,
    /// Whether it was told as unstable.
    pub is_unstable: bool,
    /// The most orders that waited when it stopped.
    pub waited: u64,
    /// Whether its end was told, or need not be.
    pub is_over: bool,
}

impl Alarm {
    /// It begins at `at`; `before` is what is known of it.
    pub fn begins(
        before: Option<Self>,
        at: Timestamp,
        damping: Damping,
    ) -> (Self, Option<Beginning>) {
        let mut alarm = match before {
            // Nobody has heard of a break.
            Some(alarm) if alarm.on_since.is_some() && !alarm.is_over => return (alarm, None),
            Some(alarm) if !alarm.is_over => alarm,
            before => Self::new(before.map(|alarm| alarm.recent).unwrap_or_default(), at),
        };
        let is_new = alarm.times == 0;
        alarm.times = alarm.times.saturating_add(1);
        alarm.on_since = Some(at);
        alarm.recent.retain(|begin| later(*begin, damping.window) > at);
        alarm.recent.push(at);
        let most = usize::try_from(damping.unstable_after.max(1)).unwrap_or(usize::MAX);
        let surplus = alarm.recent.len().saturating_sub(most);
        alarm.recent.drain(..surplus);
        let is_often = most > 1 && alarm.recent.len() >= most;
        let told = match (alarm.is_unstable, is_often, is_new) {
            (false, true, _) => Some(Beginning::Unstable),
            (false, false, true) => Some(Beginning::Plain),
            _ => None,
        };
        alarm.is_unstable |= is_often;
        (alarm, told)
    }

    fn new(recent: Vec<Timestamp>, at: Timestamp) -> Self {
        Self {
            began_at: at,
            on_since: None,
            off_at: None,
            lasted: Duration::ZERO,
            times: 0,
            recent,
            is_unstable: false,
            waited: 0,
            is_over: false,
        }
    }

    /// Something that was known before alarms were kept, and was seen last at `at`: nobody is told of its beginning.
    pub fn known(at: Timestamp) -> Self {
        Self { off_at: Some(at), times: 1, ..Self::new(Vec::new(), at) }
    }

    /// It stops at `at`, while `waited` orders wait for that. Nothing changes when it has stopped.
    pub fn stops(&mut self, at: Timestamp, waited: u64) {
        let Some(since) = self.on_since.take() else { return };
        let at = at.max(since);
        self.lasted = self.lasted.saturating_add(at.duration_since(since).unsigned_abs());
        self.off_at = Some(at);
        self.waited = self.waited.max(waited);
    }

    /// It was seen at `at`, as a failure is seen: it has no length. Within a spell it counts as another time after a
    /// pause of `gap`. What was not seen since is the same as seen twice.
    pub fn is_seen(
        before: Option<Self>,
        at: Timestamp,
        gap: Duration,
        damping: Damping,
    ) -> (Self, Option<Beginning>) {
        let last = before.as_ref().and_then(|alarm| alarm.off_at);
        match (before, last) {
            (Some(alarm), Some(last)) if at <= last => (alarm, None),
            (Some(mut alarm), Some(last)) if !alarm.is_over => {
                let again = at >= later(last, gap);
                alarm.times = alarm.times.saturating_add(u32::from(again));
                alarm.off_at = Some(at);
                alarm.lasted = at.duration_since(alarm.began_at).unsigned_abs();
                (alarm, None)
            }
            (before, _) => {
                let (mut alarm, told) = Self::begins(before, at, damping);
                alarm.stops(at, 0);
                (alarm, told)
            }
        }
    }

    /// Whether it has stopped and its end may be told. An unstable one has to stay away for a whole window.
    pub fn may_end(&self, now: Timestamp, damping: Damping) -> bool {
        match self.off_at {
            _ if self.is_over || self.on_since.is_some() => false,
            Some(off_at) => !self.is_unstable || now >= later(off_at, damping.window),
            None => false,
        }
    }

    /// Its end is told, or need not be.
    pub fn ends(&mut self) {
        self.is_over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: i64 = 100;

    fn damping(unstable_after: u32) -> Damping {
        Damping { unstable_after, window: Duration::from_secs(WINDOW.unsigned_abs()) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    /// What people are told of one trouble that begins and stops at these moments in turn, with a look every
    /// second until long after the last.
    fn told(turns: &[i64], settles: i64, after: u32) -> Vec<(i64, &'static str, u32)> {
        let rule = damping(after);
        let (mut alarm, mut told) = (None::<Alarm>, Vec::new());
        let end = turns.last().copied().unwrap_or_default() + 3 * WINDOW + settles;
        for now in 0..=end {
            for (n, _) in turns.iter().enumerate().filter(|(_, turn)| **turn == now) {
                if n % 2 == 1 {
                    alarm.as_mut().unwrap().stops(at(now), 1);
                    continue;
                }
                let (next, news) = Alarm::begins(alarm.take(), at(now), rule);
                match news {
                    Some(Beginning::Plain) => told.push((now, "began", next.times)),
                    Some(Beginning::Unstable) => told.push((now, "unstable", next.times)),
                    None => {}
                }
                alarm = Some(next);
            }
            let Some(alarm) = &mut alarm else { continue };
            let settled =
                alarm.off_at.is_some_and(|off| now >= off.as_second() - 1_000_000 + settles);
            if settled && alarm.may_end(at(now), rule) {
                alarm.ends();
                told.push((now, "ended", alarm.times));
            }
        }
        told
    }

    #[test]
    fn what_begins_and_stops_once_is_told_twice() {
        assert_eq!(told(&[5, 50], 10, 3), [(5, "began", 1), (60, "ended", 1)]);
    }

    #[test]
    fn what_begins_again_before_its_end_was_told_is_the_same_spell() {
        assert_eq!(told(&[5, 50, 55, 70], 10, 3), [(5, "began", 1), (80, "ended", 2)]);
    }

    #[test]
    fn what_comes_and_goes_is_told_as_unstable_once_and_ends_after_a_quiet_window() {
        let turns: Vec<i64> = (0..20).flat_map(|n| [n * 10 + 1, n * 10 + 4]).collect();
        assert_eq!(
            told(&turns, 1, 3),
            [
                (1, "began", 1),
                (5, "ended", 1),
                (11, "began", 1),
                (15, "ended", 1),
                (21, "unstable", 1),
                (194 + WINDOW, "ended", 18)
            ]
        );
    }

    #[test]
    fn without_a_number_nothing_is_unstable() {
        let turns: Vec<i64> = (0..6).flat_map(|n| [n * 10 + 1, n * 10 + 4]).collect();
        assert!(told(&turns, 1, 1).iter().all(|(_, what, _)| *what != "unstable"));
    }

    #[test]
    fn a_failure_that_is_seen_again_is_news_only_after_its_end() {
        let (gap, rule) = (Duration::from_secs(10), damping(3));
        let (alarm, told) = Alarm::is_seen(None, at(0), gap, rule);
        assert_eq!(told, Some(Beginning::Plain));
        let (alarm, told) = Alarm::is_seen(Some(alarm), at(0), gap, rule);
        assert_eq!((told, alarm.times), (None, 1));
        let (alarm, told) = Alarm::is_seen(Some(alarm), at(9), gap, rule);
        assert_eq!((told, alarm.times), (None, 1));
        let (mut alarm, told) = Alarm::is_seen(Some(alarm), at(19), gap, rule);
        assert_eq!((told, alarm.times, alarm.lasted.as_secs()), (None, 2, 19));
        alarm.ends();
        let (alarm, told) = Alarm::is_seen(Some(alarm), at(19), gap, rule);
        assert_eq!((told, alarm.is_over), (None, true));
        let (alarm, told) = Alarm::is_seen(Some(alarm), at(30), gap, rule);
        assert_eq!((told, alarm.times, alarm.began_at), (Some(Beginning::Plain), 1, at(30)));
    }

    #[test]
    fn what_was_known_before_has_no_beginning_but_an_end() {
        let (gap, rule) = (Duration::from_secs(10), damping(3));
        let (alarm, told) = Alarm::is_seen(Some(Alarm::known(at(0))), at(5), gap, rule);
        assert_eq!((told, alarm.may_end(at(6), rule)), (None, true));
    }

    proptest! {
        #[test]
        fn every_beginning_is_told_within_exactly_one_spell(
            steps in prop::collection::vec(1i64..80, 0..24), settles in 1i64..60, after in 0u32..6,
        ) {
            let turns: Vec<i64> = steps.iter().scan(0, |now, step| { *now += step; Some(*now) }).collect();
            let turns = &turns[..turns.len() & !1];
            let told = told(turns, settles, after);
            let ended: u32 = told.iter().filter(|(_, what, _)| *what == "ended").map(|(.., times)| times).sum();
            prop_assert_eq!(ended as usize, turns.len() / 2, "{:?}", told);
            // Beginning and end take turns; a spell is told as unstable at most once.
            for two in told.windows(2) {
                prop_assert!(
                    (two[0].1 == "ended") != (two[1].1 == "ended") || (two[0].1, two[1].1) == ("began", "unstable"),
                    "{:?}", told
                );
            }
            prop_assert_ne!(told.last().map_or("ended", |(_, what, _)| what), "began");
        }

        #[test]
        fn nobody_is_told_often(
            steps in prop::collection::vec(1i64..30, 0..60), settles in 1i64..20, after in 2u32..6,
        ) {
            let turns: Vec<i64> = steps.iter().scan(0, |now, step| { *now += step; Some(*now) }).collect();
            let told = told(&turns[..turns.len() & !1], settles, after);
            for (now, ..) in &told {
                let within = told.iter().filter(|(other, ..)| (*now..*now + WINDOW).contains(other)).count();
                prop_assert!(within <= 2 * after as usize, "{within} within a window: {:?}", told);
            }
        }

        #[test]
        fn a_clock_that_jumps_breaks_nothing(turns in prop::collection::vec((-500i64..500, any::<bool>()), 0..30)) {
            let (mut alarm, mut begun) = (None::<Alarm>, 0u32);
            for (now, begins) in turns {
                match (&mut alarm, begins) {
                    (Some(alarm), false) => alarm.stops(at(now), 0),
                    (None, false) => {}
                    (_, true) => {
                        begun += u32::from(alarm.as_ref().is_none_or(|alarm| alarm.on_since.is_none()));
                        alarm = Some(Alarm::begins(alarm.take(), at(now), damping(3)).0);
                    }
                }
                if let Some(alarm) = &alarm {
                    prop_assert!(alarm.recent.len() <= 3 && alarm.times == begun);
                }
            }
        }
    }
}
