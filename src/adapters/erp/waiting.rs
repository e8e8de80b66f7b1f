//! How long an ERP asks us to wait: `Retry-After` as seconds or as a date (RFC 9110, 10.2.3).
//!
//! A date is the ERP's own: it is measured from the ERP's clock, which its `Date` header tells, so
//! that a clock that is wrong there or here does not matter.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;

use crate::domain::retry::MAX_RETRY_AFTER;

/// The pause after a 429 that names none.
const UNNAMED: Duration = Duration::from_secs(5);

/// How long the ERP wants us to wait; `now` is our own clock.
pub fn retry_after(status: u16, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let named = headers.get("retry-after").and_then(|value| value.to_str().ok());
    let wait = named.and_then(|text| wait(text.trim(), date(headers, "date"), now));
    match status {
        429 => Some(wait.unwrap_or(UNNAMED)),
        _ => wait,
    }
}

fn wait(text: &str, erp_now: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
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
    let wait = match erp_now.map(from) {
        // A clock that was never set: the date was meant for ours.
        Some(by_its_clock) if by_its_clock <= MAX_RETRY_AFTER => by_its_clock,
        _ => by_our_clock,
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn date(headers: &HeaderMap, name: &str) -> Option<Timestamp> {
    parse(headers.get(name)?.to_str().ok()?.trim())
}

fn parse(text: &str) -> Option<Timestamp> {
    Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-26T02:58:00Z";

    fn waits(status: u16, headers: &[(&'static str, &'static str)]) -> Option<u64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        retry_after(status, &map, NOW.parse().unwrap()).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_read_and_capped() {
        assert_eq!(waits(503, &[("retry-after", " 120 ")]), Some(120));
        assert_eq!(waits(503, &[("retry-after", "1.5")]), Some(2));
        assert_eq!(waits(503, &[("retry-after", "999999999999999999999999")]), Some(86_400));
        assert_eq!(waits(503, &[("retry-after", "-1")]), None);
        assert_eq!(waits(503, &[("retry-after", "soon")]), None);
        let date = ("retry-after", "Thu, 26 Nov 2026 03:00:00 GMT");
        assert_eq!(waits(503, &[date]), Some(120));
        assert_eq!(waits(503, &[("retry-after", "Thursday, 26-Nov-26 03:00:00 GMT")]), Some(120));
        assert_eq!(waits(503, &[("retry-after", "Thu, 26 Nov 2020 03:00:00 GMT")]), Some(0));
        assert_eq!(waits(503, &[("retry-after", "Thu, 26 Nov 2099 03:00:00 GMT")]), Some(86_400));
    }

    #[test]
    fn a_date_is_measured_from_the_clock_of_the_erp() {
        let at = ("retry-after", "Thu, 26 Nov 2026 03:00:00 GMT");
        assert_eq!(waits(503, &[at, ("date", "Thu, 26 Nov 2026 02:59:30 GMT")]), Some(30));
        assert_eq!(waits(503, &[at, ("date", "Thu, 26 Nov 2026 01:00:00 GMT")]), Some(7200));
        assert_eq!(waits(503, &[at, ("date", "Thu, 01 Jan 1970 00:00:10 GMT")]), Some(120));
        assert_eq!(waits(503, &[at, ("date", "yesterday")]), Some(120));
    }

    #[test]
    fn too_many_requests_always_waits() {
        assert_eq!(waits(429, &[]), Some(5));
        assert_eq!(waits(429, &[("retry-after", "2")]), Some(2));
        assert_eq!(waits(503, &[]), None);
    }
}
