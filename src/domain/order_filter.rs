//! Which orders are listed, in which order, and where the next page begins.
//!
//! A filter and a sort are the same on the command line, in the address of a page and in a query of
//! the API: pairs of names and texts, read by [`OrderFilter::from_pairs`] and written by
//! [`OrderFilter::to_pairs`]. A cursor is opaque to the client and checked when it is used.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};

use super::failure::ErrorClass;
use super::text::one_line;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{OrderState, PHASES};
use crate::domain::order::values::OrderKey;

/// Longest text of one part of a filter, in bytes.
pub const MAX_FILTER_BYTES: usize = 500;
/// Most orders on one page.
pub const MAX_PAGE: u32 = 1_000;

/// A set of shops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShopFilter {
    /// All but these.
    Except(Vec<String>),
    /// Only these.
    Only(Vec<String>),
}

impl Default for ShopFilter {
    fn default() -> Self {
        Self::Except(Vec::new())
    }
}

impl ShopFilter {
    /// Whether it is in the set.
    pub fn contains(&self, shop: &str) -> bool {
        match self {
            Self::Except(shops) => !shops.iter().any(|other| other == shop),
            Self::Only(shops) => shops.iter().any(|other| other == shop),
        }
    }

    /// Whether every shop is in the set.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::Except(shops) if shops.is_empty())
    }
}

/// Which orders to list; every part that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    pub state: Option<OrderState>,
    pub phase: Option<String>,
    pub shop: Option<String>,
    /// Number or mail address of the customer.
    pub customer: Option<String>,
    /// How it is paid.
    pub payment: Option<String>,
    /// Class of the last failure.
    pub class: Option<String>,
    /// Code of the last failure.
    pub code: Option<String>,
    /// Article number of one of its lines.
    pub sku: Option<String>,
    /// Fingerprint of the last failure.
    pub fingerprint: Option<String>,
    /// Received at or after.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
    /// Part of the order number, the customer's name or address, or the error text; or the whole of
    /// the ERP's number or the customer's.
    pub search: Option<String>,
    /// The shops that the reader may see; not part of the pairs.
    pub shops: ShopFilter,
}

impl OrderFilter {
    /// The names of its parts.
    pub const NAMES: [&'static str; 12] = [
        "state",
        "phase",
        "shop",
        "customer",
        "payment",
        "class",
        "code",
        "sku",
        "fingerprint",
        "since",
        "until",
        "search",
    ];

    /// Lost orders.
    pub fn lost() -> Self {
        Self { state: Some(OrderState::OrderedFailed), ..Self::default() }
    }

    /// Reads the pairs whose names are [`OrderFilter::NAMES`] and ignores all others. An empty text
    /// sets nothing; `since` and `until` take a time or a duration before now.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: Timestamp,
    ) -> Result<Self, ValueFault> {
        let mut filter = Self::default();
        for (name, text) in pairs {
            if let Some(name) = Self::NAMES.into_iter().find(|known| *known == name) {
                filter.set(name, text.trim(), now)?;
            }
        }
        Ok(filter)
    }

    fn set(&mut self, name: &'static str, text: &str, now: Timestamp) -> Result<(), ValueFault> {
        let text = if text.is_empty() { return Ok(()) } else { text };
        if text.len() > MAX_FILTER_BYTES {
            let expected = format!("at most {MAX_FILTER_BYTES} bytes");
            return Err(ValueFault::of(name, text, expected));
        }
        let moment = || {
            let moment = text.parse::<Moment>().map(|moment| moment.seen_from(now));
            moment.map_err(|expected| ValueFault::of(name, text, expected))
        };
        match name {
            "state" => {
                let fault = || ValueFault::one_of(name, text, OrderState::ALL.map(|s| s.as_str()));
                self.state = Some(OrderState::from_name(text).ok_or_else(fault)?);
            }
            "phase" if !PHASES.iter().any(|(_, phase)| *phase == text) => {
                return Err(ValueFault::one_of(name, text, PHASES.map(|(_, phase)| phase)));
            }
            "class" if ErrorClass::from_name(text).is_none() => {
                return Err(ValueFault::one_of(
                    name,
                    text,
                    ErrorClass::ALL.map(ErrorClass::as_str),
                ));
            }
            "since" => self.since = Some(moment()?),
            "until" => self.until = Some(moment()?),
            _ => {
                if let Some(part) = self.text_mut(name) {
                    *part = Some(text.to_owned());
                }
            }
        }
        Ok(())
    }

    /// The set parts, from which [`OrderFilter::from_pairs`] creates the same filter.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let part = |name: &'static str| match name {
            "state" => self.state.map(|state| state.as_str().to_owned()),
            "since" => self.since.map(|at| at.to_string()),
            "until" => self.until.map(|at| at.to_string()),
            name => self.clone().text_mut(name).and_then(|part| part.take()),
        };
        Self::NAMES.into_iter().filter_map(|name| Some((name, part(name)?))).collect()
    }

    fn text_mut(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "phase" => &mut self.phase,
            "shop" => &mut self.shop,
            "customer" => &mut self.customer,
            "payment" => &mut self.payment,
            "class" => &mut self.class,
            "code" => &mut self.code,
            "sku" => &mut self.sku,
            "fingerprint" => &mut self.fingerprint,
            "search" => &mut self.search,
            _ => return None,
        })
    }
}

/// A value that cannot be used, with its field and what is expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct ValueFault {
    /// The field.
    pub field: &'static str,
    /// What is wrong and what is expected; printable, one line.
    pub detail: String,
}

impl ValueFault {
    /// `text` is not what is expected.
    pub fn of(field: &'static str, text: &str, expected: impl fmt::Display) -> Self {
        Self { field, detail: format!("`{}` is not {expected}", one_line(text, 60)) }
    }

    fn one_of<const N: usize>(field: &'static str, text: &str, names: [&str; N]) -> Self {
        Self::of(field, text, format!("one of {}", names.join(", ")))
    }
}

/// A time, or a distance from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    At(Timestamp),
    /// That long ago.
    Ago(SignedDuration),
}

impl Moment {
    /// The time that is meant, seen from `now`.
    pub fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
        let ago = match days {
            Some(days) => days.checked_mul(24).map(SignedDuration::from_hours),
            None => text.parse::<SignedDuration>().ok(),
        };
        let expected = "a time such as 2026-11-22T10:00:00Z, or how long ago, such as 2h or 7d";
        ago.map(Self::Ago).ok_or(expected)
    }
}

/// By what a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SortBy {
    /// When the order was received.
    Received,
    /// When it changed last.
    Changed,
    /// When it failed last; orders that never failed come last.
    Failed,
    /// When something is due automatically; orders for which nothing is scheduled come last.
    Due,
    /// How many attempts failed.
    Tries,
}

crate::names!(SortBy {
    Received = "received",
    Changed = "changed",
    Failed = "failed",
    Due = "due",
    Tries = "tries",
});

impl SortBy {
    /// The order that people want first: the newest, the most attempts, due soonest.
    pub const fn natural(self) -> Sort {
        Sort { by: self, descending: !matches!(self, Self::Due) }
    }
}

/// The order of a list; orders that are equal in it are sorted by shop and number. As text it is the
/// name, with `-` before it when the greatest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sort {
    pub by: SortBy,
    /// Greatest first.
    pub descending: bool,
}

impl Default for Sort {
    /// Newest first.
    fn default() -> Self {
        SortBy::Received.natural()
    }
}

impl Sort {
    /// The reverse order.
    pub const fn reversed(self) -> Self {
        Self { by: self.by, descending: !self.descending }
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.descending { "-" } else { "" };
        write!(f, "{sign}{}", self.by.as_str())
    }
}

impl FromStr for Sort {
    type Err = ValueFault;

    fn from_str(text: &str) -> Result<Self, ValueFault> {
        let (name, descending) = match text.strip_prefix('-') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let by = SortBy::from_name(name)
            .ok_or_else(|| ValueFault::one_of("sort", text, SortBy::ALL.map(SortBy::as_str)))?;
        Ok(Self { by, descending })
    }
}

/// A place in a sorted list: after this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// What the list is sorted by; `None`: the order has nothing of that kind.
    pub value: Option<i64>,
    /// When it was received, for those without a value.
    pub received_at: Timestamp,
    pub key: OrderKey,
}

impl Mark {
    /// The place of an order.
    pub fn of(order: &OrderRecord, sort: Sort) -> Self {
        let ms = |at: Timestamp| at.as_millisecond();
        let value = match sort.by {
            SortBy::Received => Some(ms(order.received_at)),
            SortBy::Changed => Some(ms(order.updated_at)),
            SortBy::Failed => order.last_failure.as_ref().map(|failure| ms(failure.at)),
            SortBy::Due => order.phase.due_at().map(ms),
            SortBy::Tries => Some(i64::from(order.fail_count)).filter(|count| *count > 0),
        };
        Self { value, received_at: order.received_at, key: order.key.clone() }
    }

    /// As text for an address; means something only together with `sort`.
    pub fn to_cursor(&self, sort: Sort) -> String {
        let value = self.value.map(|value| value.to_string()).unwrap_or_default();
        let received = self.received_at.as_millisecond();
        let (shop, order_id) = (&self.key.shop, &self.key.order_id);
        URL_SAFE_NO_PAD.encode(format!("{sort}\n{value}\n{received}\n{shop}\n{order_id}"))
    }

    /// Reads it back; one that was made for another order of the list is refused.
    pub fn from_cursor(text: &str, sort: Sort) -> Result<Self, ValueFault> {
        let fault = |detail: &str| ValueFault { field: "after", detail: detail.to_owned() };
        let unreadable = || fault("this is no cursor: use `next` of the previous page");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| unreadable())?;
        let plain = String::from_utf8(bytes).map_err(|_| unreadable())?;
        let parts: Vec<&str> = plain.split('\n').collect();
        let [of, value, received, shop, order_id] = parts[..] else { return Err(unreadable()) };
        if of.parse::<Sort>().map_err(|_| unreadable())? != sort {
            return Err(fault("this cursor belongs to another sort: start at the first page"));
        }
        let value = match value {
            "" => None,
            digits => Some(digits.parse().map_err(|_| unreadable())?),
        };
        let received = received.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Ok(Self {
            value,
            received_at: received.ok_or_else(unreadable)?,
            key: OrderKey::new(shop, order_id).map_err(|_| unreadable())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-22T10:00:00Z";

    fn read(pairs: &[(&str, &str)]) -> Result<OrderFilter, String> {
        let now = NOW.parse().unwrap();
        OrderFilter::from_pairs(pairs.iter().copied(), now).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_filter_survives_the_way_through_an_address() {
        let pairs = [
            ("state", "ordered_failed"),
            ("phase", "parked"),
            ("shop", "de"),
            ("customer", "C-1"),
            ("payment", "card"),
            ("class", "rejected"),
            ("code", "http_422"),
            ("sku", "4711"),
            ("fingerprint", "00ff"),
            ("since", "2h"),
            ("until", NOW),
            ("search", " <b>&=? "),
        ];
        let filter = read(&pairs).unwrap();
        assert_eq!(filter.since, "2026-11-22T08:00:00Z".parse().ok());
        assert_eq!(filter.search.as_deref(), Some("<b>&=?"));
        let again = filter.to_pairs();
        assert_eq!(again.len(), OrderFilter::NAMES.len());
        let again: Vec<_> = again.iter().map(|(name, text)| (*name, &**text)).collect();
        assert_eq!(read(&again).unwrap(), filter);
        assert_eq!(
            read(&[("state", ""), ("sort", "due"), ("page", "7")]),
            Ok(OrderFilter::default())
        );
    }

    #[test]
    fn a_bad_value_names_its_field_and_what_is_expected() {
        let faults: Vec<String> = [
            ("state", "lost"),
            ("phase", "x\u{1b}[31m"),
            ("class", "none"),
            ("since", "yesterday"),
        ]
        .map(|pair| read(&[pair]).unwrap_err())
        .into();
        insta::assert_snapshot!(faults.join("\n"), @r"
        state: `lost` is not one of payed, ordered_failed, confirmed
        phase: `x[31m` is not one of queued, held, retrying, parked, outcome_unknown, transferred, removed
        class: `none` is not one of unavailable, rejected, unauthorized, unknown_outcome, internal
        since: `yesterday` is not a time such as 2026-11-22T10:00:00Z, or how long ago, such as 2h or 7d
        ");
        let long = "x".repeat(MAX_FILTER_BYTES + 1);
        assert!(read(&[("search", &long)]).unwrap_err().starts_with("search: "));
        assert_eq!("dues".parse::<Sort>().unwrap_err().field, "sort");
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_and_only_to_its_own_sort() {
        let received_at = NOW.parse().unwrap();
        for (value, id) in [(Some(-5), "100042"), (None, "a:b/c"), (Some(i64::MAX), "-")] {
            let mark = Mark { value, received_at, key: OrderKey::new("de", id).unwrap() };
            for by in SortBy::ALL {
                let sort = by.natural();
                assert_eq!(sort.to_string().parse(), Ok(sort));
                let cursor = mark.to_cursor(sort);
                assert_eq!(Mark::from_cursor(&cursor, sort).unwrap(), mark);
                assert!(Mark::from_cursor(&cursor, sort.reversed()).is_err());
            }
        }
        for bad in ["", "x", "LXJlY2VpdmVk", "%%%", &URL_SAFE_NO_PAD.encode("-received\n1\n1\n\n")]
        {
            assert!(Mark::from_cursor(bad, Sort::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_of_shops_knows_who_is_in_it() {
        let only = ShopFilter::Only(vec!["de".to_owned()]);
        let except = ShopFilter::Except(vec!["de".to_owned()]);
        assert!(only.contains("de") && !only.contains("at") && !only.is_all());
        assert!(!except.contains("de") && except.contains("at") && !except.is_all());
        assert!(ShopFilter::default().is_all() && ShopFilter::default().contains("at"));
    }
}
