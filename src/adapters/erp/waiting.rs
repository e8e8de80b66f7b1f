//! How long an ERP asks us to wait, as its headers say it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;

use crate::domain::retry_after;

/// How long the ERP wants us to wait; `now` is our own clock.
pub fn retry_after(status: u16, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    retry_after::retry_after(status, header("retry-after"), header("date"), now)
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
