//! An order as templates see it: the original document, and a few fields that every recipe needs.
//!
//! `order.reference` is the reference by which the order is found in the ERP. It is the order
//! number for the shop `default` and `SHOP/NUMBER` for every other: it never changes, and two
//! orders never share it. `| fit(35)` and `| ident` adapt it to what an ERP can hold.

use minijinja::value::Value;
use serde_json::{Map, Value as Json};

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::order::values::{DEFAULT_SHOP, OrderKey};
use crate::ports::erp::OrderForErp;

use super::values;
use crate::adapters::erp::recipe::values::Vars;

/// `order` and `document`.
pub fn order_vars(order: &OrderForErp) -> Result<Vars, Failure> {
    let document: Json = serde_json::from_str(&order.document).map_err(|error| {
        let detail = format!("the stored document is not JSON: {error}");
        Failure::new(ErrorClass::Internal, "document", &detail, Stage::Before)
    })?;
    let as_it_came = values::of_json(&document);
    let Json::Object(mut fields) = document else {
        let detail = "the stored document is not an object";
        return Err(Failure::new(ErrorClass::Internal, "document", detail, Stage::Before));
    };
    fields.insert("date".to_owned(), Json::from(date(&fields, order)));
    fields.insert("shop".to_owned(), Json::from(order.key.shop.as_str()));
    fields.insert("order_id".to_owned(), Json::from(order.key.order_id.as_str()));
    fields.insert("key".to_owned(), Json::from(order.key.to_string()));
    fields.insert("reference".to_owned(), Json::from(reference(&order.key)));
    if let Some(Json::Array(lines)) = fields.get_mut("lines") {
        lines.iter_mut().enumerate().for_each(|(index, line)| complete(line, index));
    }
    let order = values::of_json(&Json::Object(fields));
    Ok(Vars::from([("order".to_owned(), order), ("document".to_owned(), as_it_came)]))
}

/// What an order is called in the ERP.
pub fn reference(key: &OrderKey) -> String {
    match key.shop.as_str() {
        DEFAULT_SHOP => key.order_id.to_string(),
        _ => key.to_string(),
    }
}

/// The day in the offset of the order's date, otherwise the day of receipt (UTC).
fn date(fields: &Map<String, Json>, order: &OrderForErp) -> String {
    let placed = fields.get("placed_at").and_then(Json::as_str).and_then(|at| at.get(..10));
    match placed {
        Some(day) if day.parse::<jiff::civil::Date>().is_ok() => day.to_owned(),
        _ => order.received_at.to_string().chars().take(10).collect(),
    }
}

/// A line's number from 1, and a description where it has none: its name, else its article number.
fn complete(line: &mut Json, index: usize) {
    let Json::Object(line) = line else { return };
    line.insert("number".to_owned(), Json::from(index + 1));
    if line.get("description").is_none_or(Json::is_null) {
        let named = line.get("name").filter(|name| name.as_str().is_some_and(|n| !n.is_empty()));
        let description = named.or(line.get("sku")).cloned().unwrap_or(Json::Null);
        line.insert("description".to_owned(), description);
    }
}

/// What the ERP answered, by name.
pub fn result_value(taken: &Map<String, Json>) -> Value {
    values::of_json(&Json::Object(taken.clone()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::trace::Trace;
    use crate::ports::erp::{CommitPermit, Journal};

    fn order(shop: &str, document: &str) -> OrderForErp {
        OrderForErp {
            key: OrderKey::new(shop, "100042").unwrap(),
            document: Arc::from(document),
            received_at: "2026-11-23T01:00:00Z".parse().unwrap(),
            trace: Trace::default(),
            journal: Journal::default(),
            permit: CommitPermit::default(),
            accepted: None,
        }
    }

    #[test]
    fn every_recipe_finds_reference_date_and_descriptions() {
        let document = r#"{"placed_at":"2026-11-22T23:30:00+02:00",
            "lines":[{"sku":"A","name":"Lamp"},{"sku":"B"},{"sku":"C","description":"own"}]}"#;
        let vars = order_vars(&order("default", document)).unwrap();
        let json = values::to_json(&vars["order"]);
        assert_eq!(json["reference"], "100042");
        assert_eq!(json["date"], "2026-11-22");
        let texts: Vec<_> = (0..3).map(|n| json["lines"][n]["description"].clone()).collect();
        assert_eq!(texts, ["Lamp", "B", "own"]);
        let vars = order_vars(&order("de", "{}")).unwrap();
        let json = values::to_json(&vars["order"]);
        assert_eq!(json["reference"], "de/100042");
        assert_eq!(json["date"], "2026-11-23");
    }
}
