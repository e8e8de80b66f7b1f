//! `retention.*`: how long what is finished is kept.

use std::time::Duration;

use crate::domain::retention::{OldKind, RetentionRule};

use super::reader::{ONE_DAY, Reader};

/// Messages of an order come again for days after it (retries, a broker that was away): it is kept at least so long.
const SHORTEST: Duration = Duration::from_hours(24 * 7);
const LONGEST: Duration = Duration::from_hours(24 * 36_500);

pub(super) fn read(r: &mut Reader) -> RetentionRule {
    let shortest = |kind: OldKind| if kind.phase().is_some() { SHORTEST } else { ONE_DAY };
    let of = |kind: OldKind| {
        let key = format!("retention.{}", kind.as_str());
        Some((kind, r.age_or_none(&key, shortest(kind)..=LONGEST)?))
    };
    RetentionRule(OldKind::ALL.into_iter().filter_map(of).collect())
}
