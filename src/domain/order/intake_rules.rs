//! What applies to every order that comes in: how long it may be, and in which zone a time without one is.
//!
//! Made of the settings by `app`, used wherever an order is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Error, Timestamp};

/// The rules of intake.
#[derive(Debug, Clone)]
pub struct IntakeRules {
    /// `intake.max_bytes`
    pub max_bytes: usize,
    zones: Arc<BTreeMap<String, TimeZone>>,
    zone_of_others: TimeZone,
}

impl IntakeRules {
    /// At most `max_bytes`, every time without a zone in UTC.
    pub fn of_bytes(max_bytes: usize) -> Self {
        Self { max_bytes, zones: Arc::default(), zone_of_others: TimeZone::UTC }
    }

    /// With the zones of these shops, and that of all others.
    pub fn with_zones(self, zones: BTreeMap<String, TimeZone>, zone_of_others: TimeZone) -> Self {
        Self { zones: Arc::new(zones), zone_of_others, ..self }
    }

    /// When a clock in `shop` showed `at`. A time that exists twice, in autumn, is the first one; one that
    /// does not exist, in spring, is an hour later.
    pub fn moment(&self, shop: &str, at: DateTime) -> Result<Timestamp, Error> {
        let zone = self.zones.get(shop).unwrap_or(&self.zone_of_others);
        Ok(at.to_zoned(zone.clone())?.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_taken_in_the_zone_of_its_shop() {
        let zone = |name: &str| TimeZone::get(name).unwrap();
        let zones = BTreeMap::from([("us".to_owned(), zone("America/New_York"))]);
        let rules = IntakeRules::of_bytes(1).with_zones(zones, zone("Europe/Berlin"));
        let of =
            |shop: &str, at: &str| rules.moment(shop, at.parse().unwrap()).unwrap().to_string();
        assert_eq!(of("us", "2026-07-01T12:00:00"), "2026-07-01T16:00:00Z");
        assert_eq!(of("de", "2026-07-01T12:00:00"), "2026-07-01T10:00:00Z");
        assert_eq!(of("de", "2026-11-22 12:00:00"), "2026-11-22T11:00:00Z");
        assert_eq!(of("de", "2026-10-25T02:30:00"), "2026-10-25T00:30:00Z");
        assert_eq!(of("de", "2026-03-29T02:30:00"), "2026-03-29T01:30:00Z");
        let utc = IntakeRules::of_bytes(1).moment("de", "2026-07-01T12:00:00".parse().unwrap());
        assert_eq!(utc.unwrap().to_string(), "2026-07-01T12:00:00Z");
    }
}
