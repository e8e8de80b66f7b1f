//! How long a server asks us to wait: `Retry-After` as seconds or as a date (RFC 9110, 10.2.3).
//!
//! A date is the server's own: it is measured from the server's clock, which its `Date` header tells, so
//! that a clock that is wrong there or here does not matter.

use std::time::Duration;

use jiff::Timestamp;

use super::retry::MAX_RETRY_AFTER;

/// The pause after a 429 that names none.
const UNNAMED: Duration = Duration::from_secs(5);

/// How long a server that answered `status` wants us to wait; `named` and `date` are its headers `Retry-After` and
/// `Date`, `now` is our own clock.
pub fn retry_after(
    status: u16,
    named: Option<&str>,
    date: Option<&str>,
    now: Timestamp,
) -> Option<Duration> {
    let date = date.and_then(|text| parse(text.trim()));
    let wait = named.and_then(|text| wait(text.trim(), date, now));
    match status {
        429 => Some(wait.unwrap_or(UNNAMED)),
        _ => wait,
    }
}

fn wait(text: &str, server_now: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        let wait = Duration::try_from_secs_f64(seconds.ceil()).ok();
        let is_endless = seconds.is_finite() && seconds > 0.0;
        return wait
            .or(is_endless.then_some(MAX_RETRY_AFTER))
            .map(|wait| wait.min(MAX_RETRY_AFTER));
    }
    let at = parse(text)?;
    let from = |now: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
    let by_our_clock = from(now);
    let wait = match server_now.map(from) {
        // A clock that was never set: the date was meant for ours.
        Some(by_its_clock) if by_its_clock <= MAX_RETRY_AFTER => by_its_clock,
        _ => by_our_clock,
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn parse(text: &str) -> Option<Timestamp> {
    Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()
}
