//! Quiet hours and maintenance windows of a channel, in the time zone of its receiver.
//!
//! Within them nothing is sent; what happened arrives as one digest when they end. Hours repeat every day or on some
//! days of the week, and belong to the day on which they begin; a maintenance window is from one moment to another.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

const DAY_NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MINUTES_A_DAY: u16 = 24 * 60;
const MINUTES_A_WEEK: usize = 7 * 24 * 60;
/// Windows that follow each other without a gap; more than that do not occur.
const MAX_IN_A_ROW: usize = 1_000;
const HOURS_EXPECTED: &str = "expected hours such as \"22:00-07:00\" or \"Sat-Sun 00:00-24:00\"";
const WINDOW_EXPECTED: &str =
    "expected two times such as \"2026-12-24T18:00/2026-12-27T08:00\", the later one last";

/// When a channel is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietTimes {
    hours: Vec<QuietHours>,
    windows: Vec<(DateTime, DateTime)>,
    zone: TimeZone,
}

/// From one time of the day to another, on some days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct QuietHours {
    /// Monday first.
    days: [bool; 7],
    from: u16,
    /// Not after `from`: on the next day.
    until: u16,
}

impl Default for QuietTimes {
    fn default() -> Self {
        Self { hours: Vec::new(), windows: Vec::new(), zone: TimeZone::UTC }
    }
}

impl QuietTimes {
    /// Hours and maintenance windows as the settings write them, in `zone`.
    pub fn parse(
        hours: &[String],
        maintenance: &[String],
        zone: TimeZone,
    ) -> Result<Self, QuietTimesError> {
        let hours = hours.iter().map(|text| QuietHours::parse(text)).collect::<Result<Vec<_>, _>>();
        let windows = maintenance.iter().map(|text| window(text)).collect::<Result<Vec<_>, _>>();
        let quiet = Self { hours: hours?, windows: windows?, zone };
        if quiet.never_ends() {
            return Err(QuietTimesError::Always);
        }
        Ok(quiet)
    }

    /// Whether nothing is sent then.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.end_around(at).is_some()
    }

    /// When the quiet time around `now` ends; `None`: it is not quiet now.
    pub fn quiet_until(&self, now: Timestamp) -> Option<Timestamp> {
        let mut at = now;
        for _ in 0..MAX_IN_A_ROW {
            match self.end_around(at) {
                Some(end) => at = end,
                None => break,
            }
        }
        (at > now).then_some(at)
    }

    /// The latest end of those that `at` is in.
    fn end_around(&self, at: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(at).date();
        let days = [today.yesterday().ok(), Some(today)];
        let begun = days.into_iter().flatten().flat_map(|day| {
            self.hours.iter().filter_map(move |hours| Some((hours.on(day)?, hours.end(day)?)))
        });
        let moment = |local: DateTime| self.zone.to_timestamp(local).ok();
        begun
            .chain(self.windows.iter().copied())
            .filter_map(|(from, until)| Some((moment(from)?, moment(until)?)))
            .filter(|(from, until)| *from <= at && at < *until)
            .map(|(_, until)| until)
            .max()
    }

    /// Whether the hours cover the whole week.
    fn never_ends(&self) -> bool {
        let mut week = vec![false; MINUTES_A_WEEK];
        for hours in &self.hours {
            for day in (0..7).filter(|day| hours.days[*day]) {
                let start = day * usize::from(MINUTES_A_DAY) + usize::from(hours.from);
                for minute in start..start + usize::from(hours.minutes()) {
                    week[minute % MINUTES_A_WEEK] = true;
                }
            }
        }
        week.into_iter().all(|is_quiet| is_quiet)
    }
}

/// Why quiet times cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuietTimesError {
    #[error("`{0}`: {HOURS_EXPECTED}")]
    Hours(String),
    #[error("`{0}`: {WINDOW_EXPECTED}")]
    Window(String),
    #[error("the quiet hours never end, so nothing would ever be sent: leave a gap")]
    Always,
}

impl QuietHours {
    fn parse(text: &str) -> Result<Self, QuietTimesError> {
        let read = || {
            let text = text.trim();
            let (days, hours) = match text.rsplit_once(' ') {
                Some((days, hours)) => (days_of(days)?, hours),
                None => ([true; 7], text),
            };
            let (from, until) = hours.split_once('-')?;
            let (from, until) = (minute_of(from)?, minute_of(until)?);
            (from < MINUTES_A_DAY && from != until).then_some(Self { days, from, until })
        };
        read().ok_or_else(|| QuietTimesError::Hours(crate::domain::text::one_line(text, 60)))
    }

    fn minutes(self) -> u16 {
        match self.until > self.from {
            true => self.until - self.from,
            false => MINUTES_A_DAY - self.from + self.until,
        }
    }

    /// When they begin on that day, if they do.
    fn on(self, day: Date) -> Option<DateTime> {
        let weekday = usize::try_from(day.weekday().to_monday_zero_offset()).ok()?;
        self.days[weekday].then(|| at_minute(day, self.from))?
    }

    /// When those end that began on that day.
    fn end(self, day: Date) -> Option<DateTime> {
        let day = if self.until > self.from { day } else { day.tomorrow().ok()? };
        at_minute(day, self.until)
    }
}

fn at_minute(day: Date, minute: u16) -> Option<DateTime> {
    let day = if minute == MINUTES_A_DAY { day.checked_add(1.day()).ok()? } else { day };
    let minute = minute % MINUTES_A_DAY;
    let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
    Some(day.to_datetime(Time::new(hour, minute, 0, 0).ok()?))
}

/// `Mon-Fri`, `Sat,Sun`, `Fri-Mon`.
fn days_of(text: &str) -> Option<[bool; 7]> {
    let number =
        |name: &str| DAY_NAMES.iter().position(|known| known.eq_ignore_ascii_case(name.trim()));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (number(first)?, number(last)?);
        days[day] = true;
        while day != last {
            day = (day + 1) % 7;
            days[day] = true;
        }
    }
    Some(days)
}

/// `07:00` or `24:00` as minutes of the day.
fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let is_plain = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !is_plain(hour) || !is_plain(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= MINUTES_A_DAY).then_some(minutes)
}

fn window(text: &str) -> Result<(DateTime, DateTime), QuietTimesError> {
    let read = || {
        let (from, until) = text.split_once('/')?;
        let (from, until) = (from.trim().parse().ok()?, until.trim().parse().ok()?);
        (from < until).then_some((from, until))
    };
    read().ok_or_else(|| QuietTimesError::Window(crate::domain::text::one_line(text, 60)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    /// A week, and the hour by which the clock may go back.
    const LONGEST: Duration = Duration::from_hours(7 * 24 + 1);

    fn quiet(hours: &[&str], windows: &[&str], zone: &str) -> QuietTimes {
        let owned =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        QuietTimes::parse(&owned(hours), &owned(windows), TimeZone::get(zone).unwrap()).unwrap()
    }

    fn until(quiet: &QuietTimes, now: &str) -> Option<String> {
        quiet.quiet_until(now.parse().unwrap()).map(|at| at.to_string())
    }

    #[test]
    fn hours_are_those_of_the_receiver_also_over_midnight() {
        let nights = quiet(&["22:00-07:00"], &[], "Europe/Berlin");
        assert_eq!(until(&nights, "2026-11-27T20:59:59Z"), None);
        assert_eq!(until(&nights, "2026-11-27T21:00:00Z").unwrap(), "2026-11-28T06:00:00Z");
        assert_eq!(until(&nights, "2026-11-28T05:59:59Z").unwrap(), "2026-11-28T06:00:00Z");
        assert_eq!(until(&nights, "2026-11-28T06:00:00Z"), None);
        // In summer the same hours are an hour earlier in UTC.
        assert_eq!(until(&nights, "2026-07-01T20:30:00Z").unwrap(), "2026-07-02T05:00:00Z");
        // The night on which the clock goes back has an hour more.
        assert_eq!(until(&nights, "2026-10-24T20:00:00Z").unwrap(), "2026-10-25T06:00:00Z");
    }

    #[test]
    fn nights_and_a_week_end_are_one_quiet_time() {
        let both = quiet(
            &["Mon-Thu 18:00-08:00", "Fri 18:00-24:00", "Sat,Sun 00:00-24:00", "Mon 00:00-08:00"],
            &[],
            "UTC",
        );
        assert_eq!(until(&both, "2026-11-27T17:59:00Z"), None);
        assert_eq!(until(&both, "2026-11-27T18:00:00Z").unwrap(), "2026-11-30T08:00:00Z");
        assert_eq!(until(&both, "2026-11-30T12:00:00Z"), None);
    }

    #[test]
    fn a_maintenance_window_is_quiet_once() {
        let window = quiet(&[], &["2026-12-24T18:00/2026-12-27T08:00"], "America/New_York");
        assert_eq!(until(&window, "2026-12-24T22:59:59Z"), None);
        assert_eq!(until(&window, "2026-12-24T23:00:00Z").unwrap(), "2026-12-27T13:00:00Z");
    }

    #[test]
    fn what_cannot_be_read_says_what_is_expected() {
        for bad in ["", "22-07", "22:00-22:00", "24:00-07:00", "Foo 22:00-07:00", "22:60-07:00"] {
            let told = QuietTimes::parse(&[bad.to_owned()], &[], TimeZone::UTC).unwrap_err();
            assert!(told.to_string().contains("22:00-07:00"), "{told}");
        }
        for bad in ["2026-12-24", "2026-12-27T08:00/2026-12-24T18:00", "soon/later"] {
            assert!(QuietTimes::parse(&[], &[bad.to_owned()], TimeZone::UTC).is_err(), "{bad}");
        }
        let always = ["00:00-12:00".to_owned(), "12:00-24:00".to_owned()];
        let told = QuietTimes::parse(&always, &[], TimeZone::UTC).unwrap_err();
        assert_eq!(told, QuietTimesError::Always);
    }

    proptest! {
        /// Every quiet time ends, it is loud then, and every moment before has the same end.
        #[test]
        fn a_quiet_time_ends_once(
            hours in prop::collection::vec((0u16..7, 0u16..7, 0u16..1440, 1u16..=1440), 1..5),
            now in 1_700_000_000i64..1_900_000_000,
            share in 0.0f64..1.0,
        ) {
            let texts: Vec<String> = hours.iter().filter(|(.., from, until)| from != until).map(|(a, b, from, until)| {
                let time = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
                format!("{}-{} {}-{}", DAY_NAMES[usize::from(*a)], DAY_NAMES[usize::from(*b)], time(*from), time(*until))
            }).collect();
            let zone = TimeZone::get("Europe/Berlin").unwrap();
            let Ok(quiet) = QuietTimes::parse(&texts, &[], zone) else { return Ok(()) };
            let now = Timestamp::from_second(now).unwrap();
            let end = quiet.quiet_until(now);
            prop_assert_eq!(end.is_some(), quiet.contains(now));
            if let Some(end) = end {
                prop_assert!(!quiet.contains(end));
                prop_assert!(end > now && end.duration_since(now).unsigned_abs() <= LONGEST);
                let span = end.duration_since(now).as_secs_f64();
                let between = now + Duration::from_secs_f64(span * share * 0.999);
                prop_assert_eq!(quiet.quiet_until(between), Some(end));
            }
        }
    }
}
