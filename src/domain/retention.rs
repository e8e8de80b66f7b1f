//! How long what is finished is kept, by kind. Nothing that is unfinished ever has an age.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// What can be taken out of the ledger when it is old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OldKind {
    /// Orders that are in the ERP, with everything about them.
    Confirmed,
    /// Orders that a person removed, with everything about them.
    Removed,
    /// Requests to the ERP and its replies, of finished orders.
    Exchanges,
    /// The content of mails and of messages to channels.
    Mails,
    /// What people did.
    Audit,
    /// Messages that could not be accepted, once a person has settled them.
    DeadLetters,
}

crate::names!(OldKind {
    Confirmed = "confirmed",
    Removed = "removed",
    Exchanges = "exchanges",
    Mails = "mails",
    Audit = "audit",
    DeadLetters = "dead_letters",
});

impl OldKind {
    /// The phase of the orders that it is about; `None`: it is not about whole orders.
    pub fn phase(self) -> Option<&'static str> {
        match self {
            Self::Confirmed => Some("transferred"),
            Self::Removed => Some("removed"),
            Self::Exchanges | Self::Mails | Self::Audit | Self::DeadLetters => None,
        }
    }
}

/// `retention.*`: how long each kind is kept; a kind that is missing is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionRule(pub BTreeMap<OldKind, Duration>);

impl RetentionRule {
    /// Whether everything is kept for ever.
    pub fn is_off(&self) -> bool {
        self.0.is_empty()
    }

    /// What is older than its kind is kept, seen from `now`.
    pub fn limits(&self, now: Timestamp) -> Vec<(OldKind, Timestamp)> {
        let limit = |age| now.checked_sub(age).unwrap_or(Timestamp::MIN);
        self.0.iter().map(|(kind, age)| (*kind, limit(*age))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_without_an_age_is_kept_for_ever() {
        let now: Timestamp = "2026-11-27T00:00:00Z".parse().unwrap();
        assert!(
            RetentionRule::default().is_off() && RetentionRule::default().limits(now).is_empty()
        );
        let rule = RetentionRule([(OldKind::Confirmed, Duration::from_hours(24))].into());
        let limit = "2026-11-26T00:00:00Z".parse().unwrap();
        assert_eq!(rule.limits(now), [(OldKind::Confirmed, limit)]);
    }
}
