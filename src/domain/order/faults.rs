//! Every fault of an order document at once, for people who fix one by hand. The hot path stops at
//! the first ([`Order::parse`]); this reads the parts of a document that failed there one by one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::order::details::PricesOrElse;
use crate::domain::order::document::{
    AnyObject, Customer, FreeText, LineObject, Lines, Order, PlacedAt,
};
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::order::intake_rules::IntakeRules;
use crate::domain::order::strict_json::{pointer_of, read_text, without_position};
use crate::domain::order::values::{Currency, Decimal, OrderId, Shop, Sku};

/// Most faults that are reported.
const MAX_FAULTS: usize = 50;

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// The faults that keep `bytes` from being an order; at most 50 faults, none when it is one.
pub fn faults(bytes: &[u8], rules: &IntakeRules) -> Vec<Fault> {
    let Err(first) = Order::parse(bytes, rules) else { return Vec::new() };
    if first.reason != Reason::Schema {
        return vec![first];
    }
    let text = read_text(bytes, rules.max_bytes).unwrap_or_default();
    let Ok(fields) = serde_json::from_str::<Fields<'_>>(text) else { return vec![first] };
    let mut found = Vec::new();
    required::<OrderId>(&fields, "", "order_id", &mut found);
    optional::<Shop>(&fields, "", "shop", &mut found);
    optional::<Option<String>>(&fields, "", "state", &mut found);
    optional::<PlacedAt>(&fields, "", "placed_at", &mut found);
    required::<Currency>(&fields, "", "currency", &mut found);
    required::<Decimal>(&fields, "", "total", &mut found);
    customer(&fields, &mut found);
    lines(&fields, &mut found);
    for name in ["invoice_address", "delivery_address", "payment", "shipping"] {
        optional::<Option<AnyObject>>(&fields, "", name, &mut found);
    }
    optional::<PricesOrElse>(&fields, "", "prices", &mut found);
    optional::<FreeText>(&fields, "", "remark", &mut found);
    found.truncate(MAX_FAULTS);
    if found.is_empty() { vec![first] } else { found }
}

fn customer(fields: &Fields<'_>, found: &mut Vec<Fault>) {
    let Some(raw) = fields.get("customer") else { return };
    if !check::<Option<AnyObject>>(raw, "/customer", found) {
        return;
    }
    let Ok(customer) = serde_json::from_str::<Fields<'_>>(raw.get()) else { return };
    for (name, raw) in customer {
        // Each member alone: a document with one of them is a customer as well.
        let alone = format!("{{\"{name}\":{raw}}}");
        if let Err(error) = serde_json::from_str::<Customer>(&alone) {
            let detail = without_position(&error);
            found.push(Fault::at(Reason::Schema, format!("/customer/{name}"), detail));
        }
    }
}

fn lines(fields: &Fields<'_>, found: &mut Vec<Fault>) {
    let Some(raw) = fields.get("lines") else { return missing("", "lines", found) };
    let lines = serde_json::from_str::<Vec<&RawValue>>(raw.get()).unwrap_or_default();
    let before = found.len();
    for (index, line) in lines.into_iter().enumerate() {
        if found.len() >= MAX_FAULTS {
            return;
        }
        let place = format!("/lines/{index}");
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(line.get()) else {
            check::<LineObject>(line, &place, found);
            continue;
        };
        required::<Sku>(&fields, &place, "sku", found);
        optional::<FreeText>(&fields, &place, "name", found);
        required::<Decimal>(&fields, &place, "quantity", found);
        required::<Decimal>(&fields, &place, "unit_price", found);
        optional::<Option<Decimal>>(&fields, &place, "tax_rate", found);
    }
    if found.len() == before {
        // How many there are, and whether it is a list at all.
        check::<Lines>(raw, "/lines", found);
    }
}

fn required<'a, T: Deserialize<'a>>(
    fields: &Fields<'a>,
    place: &str,
    name: &str,
    found: &mut Vec<Fault>,
) {
    present::<T>(fields, place, name, found);
}

/// A required field with a rule.
fn present<'a, T: Deserialize<'a>>(
    fields: &Fields<'a>,
    place: &str,
    name: &str,
    found: &mut Vec<Fault>,
) -> Option<&'a RawValue> {
    let Some(raw) = fields.get(name) else {
        missing(place, name, found);
        return None;
    };
    check::<T>(raw, &format!("{place}/{name}"), found).then_some(*raw)
}

fn optional<'a, T: Deserialize<'a>>(
    fields: &Fields<'a>,
    place: &str,
    name: &str,
    found: &mut Vec<Fault>,
) {
    if let Some(raw) = fields.get(name) {
        check::<T>(raw, &format!("{place}/{name}"), found);
    }
}

fn missing(place: &str, name: &str, found: &mut Vec<Fault>) {
    found.push(Fault::at(Reason::Schema, format!("{place}/{name}"), "is missing"));
}

fn check<'a, T: Deserialize<'a>>(raw: &'a RawValue, place: &str, found: &mut Vec<Fault>) -> bool {
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut reader) else { return true };
    let below = pointer_of(error.path());
    let below = if below == "/" { "" } else { &below };
    let detail = without_position(error.inner());
    found.push(Fault::at(Reason::Schema, format!("{place}{below}"), detail));
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"order_id":"1","currency":"EUR","total":1.50,
        "customer":{"email":"a@example.com"},
        "lines":[{"sku":"A","quantity":1,"unit_price":1},{"sku":"B","quantity":1,"unit_price":"1"}]}"#;

    fn told(text: &str) -> Vec<String> {
        faults(text.as_bytes(), &IntakeRules::of_bytes(1 << 20))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_good_order_has_none() {
        assert_eq!(told(GOOD), [""; 0]);
    }

    #[test]
    fn every_fault_is_told_at_its_place() {
        let bad = GOOD
            .replace(
                r#""order_id":"1","currency":"EUR","total":1.50"#,
                r#""currency":"XXX1","total":"a","shipping":[1]"#,
            )
            .replace("a@example.com", "nobody")
            .replace(r#""quantity":1,"unit_price":"1""#, r#""quantity":"x""#);
        let places: Vec<_> = faults(bad.as_bytes(), &IntakeRules::of_bytes(1 << 20))
            .into_iter()
            .map(|f| f.place)
            .collect();
        let expected = [
            "/order_id",
            "/currency",
            "/total",
            "/customer/email",
            "/lines/1/quantity",
            "/lines/1/unit_price",
            "/shipping",
        ];
        assert_eq!(places, expected.map(|place| Some(place.to_owned())));
        let first = &told(&bad)[0];
        assert_eq!(first, "at /order_id: is missing");
    }

    #[test]
    fn what_cannot_be_read_in_parts_has_its_one_fault() {
        for bad in ["", "[]", "{", r#"{"a":1,"a":2}"#, "nonsense"] {
            assert_eq!(told(bad).len(), 1, "{bad}: {:?}", told(bad));
        }
        let none = GOOD.split(r#""lines""#).next().unwrap().to_owned();
        assert_eq!(told(&format!("{none}\"lines\":[]}}")).len(), 1);
        assert_eq!(told(&format!("{none}\"lines\":5}}")).len(), 1);
        assert_eq!(told(&format!("{none}\"lines\":[5,6]}}")).len(), 2);
    }
}
