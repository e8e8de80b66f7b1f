//! What a person changes in an order: every fault of the edited document at its place, the
//! differences, and which of them are locked.
//!
//! Called by `ops::edit` and by pages that show an order. Documents are compared by content:
//! spacing and the order of keys make no difference, a digit of a number does.

use serde_json::Value;

use crate::domain::order::document::Order;
use crate::domain::order::intake_rules::IntakeRules;

/// Most differences that are reported.
pub const MAX_DIFFERENCES: usize = 1_000;
/// The fields that identify an order, and those that say what was paid.
pub const LOCKED: [&str; 4] = ["/order_id", "/shop", "/currency", "/total"];

/// One place in which two documents differ.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Difference {
    /// JSON pointer (RFC 6901).
    pub place: String,
    /// The JSON before; `None`: nothing.
    pub before: Option<String>,
    /// The JSON after; `None`: nothing.
    pub after: Option<String>,
    /// Whether changing it needs a permission of its own.
    pub locked: bool,
}

/// The places where `after` differs from `before`; at most [`MAX_DIFFERENCES`]. Text that is not
/// JSON is one difference of the whole.
pub fn differences(before: &str, after: &str) -> Vec<Difference> {
    let mut found = Vec::new();
    match (serde_json::from_str::<Value>(before), serde_json::from_str::<Value>(after)) {
        (Ok(before), Ok(after)) => compare("", Some(&before), Some(&after), &mut found),
        _ if before != after => found.push(Difference {
            place: String::new(),
            before: Some(before.to_owned()),
            after: Some(after.to_owned()),
            locked: false,
        }),
        _ => {}
    }
    let is_changed = changed_locks(before, after);
    for difference in &mut found {
        difference.locked = is_changed.iter().any(|place| *place == difference.place);
    }
    found
}

fn compare(
    place: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    if before == after || found.len() >= MAX_DIFFERENCES {
        return;
    }
    match (before, after) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let added = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(added) {
                let step = key.replace('~', "~0").replace('/', "~1");
                compare(&format!("{place}/{step}"), a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                compare(&format!("{place}/{index}"), a.get(index), b.get(index), found);
            }
        }
        _ => found.push(Difference {
            place: place.to_owned(),
            before: before.map(Value::to_string),
            after: after.map(Value::to_string),
            locked: false,
        }),
    }
}

/// The locked places whose values differ: a total that is only written differently counts as
/// unchanged, and so does a shop that is named although it is the default.
pub fn changed_locks(before: &str, after: &str) -> Vec<&'static str> {
    let parse = |text: &str| Order::parse(text.as_bytes(), &IntakeRules::of_bytes(usize::MAX)).ok();
    let (Some(before), Some(after)) = (parse(before), parse(after)) else { return Vec::new() };
    let [order_id, shop, currency, total] = LOCKED;
    let same_total = same_number(before.facts.total.as_str(), after.facts.total.as_str());
    [
        (order_id, before.key.order_id == after.key.order_id),
        (shop, before.key.shop == after.key.shop),
        (currency, before.facts.currency == after.facts.currency),
        (total, same_total),
    ]
    .into_iter()
    .filter_map(|(place, same)| (!same).then_some(place))
    .collect()
}

/// Whether two JSON numbers have the same value, exactly.
fn same_number(a: &str, b: &str) -> bool {
    a == b || matches!((canonical(a), canonical(b)), (Some(a), Some(b)) if a == b)
}

/// Sign, digits without zeros at either end, and the exponent of the last one; with an exponent
/// that no amount has, the text stays unchanged.
fn canonical(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok().filter(|e: &i64| e.abs() < 1_000_000)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let kept = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - kept.len()).ok()?;
    let exponent = exponent - i64::try_from(fraction.len()).ok()? + dropped;
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return Some((false, String::new(), 0));
    }
    Some((number.starts_with('-'), kept.to_owned(), exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(total: &str, more: &str) -> String {
        format!(
            r#"{{"order_id":"1","currency":"EUR","total":{total},"customer":{{"email":"a@b"}},
            "lines":[{{"sku":"A","quantity":1,"unit_price":1}}]{more}}}"#
        )
    }

    fn places(before: &str, after: &str) -> Vec<String> {
        let all = differences(before, after).into_iter();
        all.map(|d| format!("{}{}", d.place, if d.locked { " locked" } else { "" })).collect()
    }

    #[test]
    fn each_difference_stands_at_its_place() {
        let before = order("1", r#","remark":"x","a/b":{"c~":1}"#);
        let after = order("1", r#","a/b":{"c~":2},"new":null"#).replace("\"A\"", "\"B\"");
        assert_eq!(places(&before, &after), ["/lines/0/sku", "/remark", "/a~1b/c~0", "/new"]);
        assert_eq!(places(&before, &before.replace(':', " : ")), [""; 0]);
    }

    #[test]
    fn locked_fields_are_compared_by_value() {
        let before = order("\"129.90\"", "");
        assert_eq!(places(&before, &order("129.90", "")), ["/total"], "written otherwise");
        assert_eq!(places(&before, &order("129.9", "")), ["/total"]);
        assert_eq!(places(&before, &order("1299e-1", "")), ["/total"]);
        assert_eq!(places(&before, &order("129.91", "")), ["/total locked"]);
        assert_eq!(places(&before, &order("-129.90", "")), ["/total locked"]);
        assert_eq!(places(&before, &order("\"129.90\"", r#","shop":"default""#)), ["/shop"]);
        assert_eq!(places(&before, &order("\"129.90\"", r#","shop":"de""#)), ["/shop locked"]);
        let chf = before.replace("EUR", "CHF").replace("\"1\"", "\"2\"");
        assert_eq!(places(&before, &chf), ["/order_id locked", "/currency locked"]);
    }

    proptest! {
        #[test]
        fn a_number_is_the_same_however_its_point_is_moved(
            digits in 1u64..u64::MAX, zeros in 0usize..5, shift in 0usize..6, other in 1u64..u64::MAX,
        ) {
            let plain = digits.to_string();
            let padded = format!("{digits}.{}", "0".repeat(zeros + 1));
            let shifted = format!("{digits}{}e-{shift}", "0".repeat(shift));
            prop_assert!(same_number(&plain, &padded));
            prop_assert!(same_number(&plain, &shifted));
            prop_assert_eq!(same_number(&plain, &other.to_string()), digits == other);
        }
    }
}
