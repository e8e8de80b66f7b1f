//! An order as templates see it: the original document, and a few fields that every recipe needs.
//!
//! `order.reference` is the reference by which the order is found in the ERP. It is the order
//! number for the shop `default` and `SHOP/NUMBER` for every other: it never changes, and two
//! orders never share it. `| fit(35)` and `| ident` adapt it to what an ERP can hold.

use minijinja::value::Value;
use serde_json::{Map, Value as Json};

use std::collections::BTreeSet;

use bigdecimal::Zero;

use crate::domain::exact::{digits, exact};
use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::order::contents::{Content, parts_of, text};
use crate::domain::order::values::{DEFAULT_SHOP, OrderKey};
use crate::ports::erp::OrderForErp;

use super::values;
use crate::adapters::erp::recipe::values::Vars;

/// The document of an order, read.
pub fn document_of(order: &OrderForErp) -> Result<Json, Failure> {
    serde_json::from_str(&order.document).map_err(|error| {
        let detail = format!("the stored document is not JSON: {error}");
        Failure::new(ErrorClass::Internal, "document", &detail, Stage::Before)
    })
}

/// `order` and `document`.
pub fn order_vars(order: &OrderForErp) -> Result<Vars, Failure> {
    vars_of(order, document_of(order)?)
}

/// The same of a document that was read already.
pub fn vars_of(order: &OrderForErp, document: Json) -> Result<Vars, Failure> {
    let (as_it_came, parts) = (values::of_json(&document), parts_of(&document));
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
    for name in ["number", "name", "email"] {
        let own = fields.get("customer").and_then(|customer| customer.get(name));
        let own = own.filter(|own| !own.is_null()).map(text).unwrap_or_default();
        fields.insert(format!("customer_{name}"), Json::from(own));
    }
    let is_guest = fields["customer_number"] == "";
    fields.insert("guest".to_owned(), Json::from(is_guest));
    let extras = extras(&fields);
    let services = numbered([line_discounts(&fields), extras.clone()].concat(), &fields);
    fields.insert("extras".to_owned(), Json::from(extras));
    fields.insert("services".to_owned(), Json::from(services));
    for (name, content) in
        [("invoice", Content::InvoiceAddress), ("delivery", Content::DeliveryAddress)]
    {
        let is_there = parts.iter().any(|part| part.content == content);
        let address = fields.get(&format!("{name}_address")).filter(|_| is_there);
        fields.insert(name.to_owned(), address.map_or(Json::Null, whole_address));
    }
    fields.insert("countries".to_owned(), countries(&fields));
    fields.insert("taxes".to_owned(), taxes(&fields));
    let references = fields.get("references").and_then(Json::as_object).into_iter().flatten();
    let references =
        references.map(|(channel, reference)| format!("{channel} {}", text(reference)));
    let references: Vec<String> = references.collect();
    fields.insert("references_text".to_owned(), Json::from(references.join(", ")));
    fields.insert("comment".to_owned(), Json::from(comment(&fields)));
    let prices = fields.get("prices").and_then(Json::as_str).unwrap_or_default().to_owned();
    fields.insert("prices".to_owned(), Json::from(prices));
    fields.insert("payment_reference".to_owned(), payment_reference(&fields));
    for name in ["discounts", "surcharges", "payments"] {
        if fields.get(name).is_none_or(Json::is_null) {
            fields.insert(name.to_owned(), Json::Array(Vec::new()));
        }
    }
    let order = values::of_json(&Json::Object(fields));
    Ok(Vars::from([("order".to_owned(), order), ("document".to_owned(), as_it_came)]))
}

/// What is paid besides the lines, each with a sign: shipping, surcharges, discounts.
fn extras(fields: &Map<String, Json>) -> Vec<Json> {
    let of = |kind: &str, name: &str, item: &Json, amount: &str, sign: &str| {
        let amount = exact(&text(item.get(amount)?))?;
        let amount = if sign == "-" { -amount } else { amount };
        let own = item.get("name").or(item.get("method")).or(item.get("code"));
        let own = own.map(text).filter(|own| !own.is_empty());
        (!amount.is_zero()).then(|| {
            serde_json::json!({
                "kind": kind,
                "name": own.unwrap_or_else(|| name.to_owned()),
                "amount": digits(&amount),
                "tax": item.get("tax_rate").and_then(tax),
                "tax_percent": item.get("tax_rate").and_then(tax).unwrap_or(Json::from(0)),
            })
        })
    };
    let list = |name: &str| fields.get(name).and_then(Json::as_array).into_iter().flatten();
    let shipping = fields.get("shipping").into_iter().filter_map(|shipping| {
        let price = if shipping.get("price").is_some() { "price" } else { "cost" };
        of("shipping", "Shipping", shipping, price, "")
    });
    let surcharges =
        list("surcharges").filter_map(|i| of("surcharge", "Surcharge", i, "amount", ""));
    let discounts = list("discounts").filter_map(|i| of("discount", "Discount", i, "amount", "-"));
    shipping.chain(surcharges).chain(discounts).collect()
}

/// The discounts of lines, each with a sign.
fn line_discounts(fields: &Map<String, Json>) -> Vec<Json> {
    let lines = fields.get("lines").and_then(Json::as_array).into_iter().flatten();
    let discount = |line: &Json| {
        let amount = -exact(&text(line.get("discount")?))?;
        let name = line.get("description").map(text).unwrap_or_default();
        let (amount, tax) = ((!amount.is_zero()).then(|| digits(&amount))?, line.get("tax"));
        Some(serde_json::json!({"kind": "discount", "name": name, "amount": amount, "tax": tax,
            "tax_percent": line.get("tax_percent")}))
    };
    lines.filter_map(discount).collect()
}

/// With numbers that continue those of the lines: where each becomes a line of its own, it can be asked about.
fn numbered(mut services: Vec<Json>, fields: &Map<String, Json>) -> Vec<Json> {
    let lines = fields.get("lines").and_then(Json::as_array).map_or(0, Vec::len);
    for (index, service) in services.iter_mut().enumerate() {
        service["number"] = Json::from(lines + index + 1);
    }
    services
}

/// Parts of an address that recipes can name without asking whether they are there.
const ADDRESS: [&str; 12] = [
    "name",
    "company",
    "department",
    "street",
    "street2",
    "zip",
    "city",
    "state",
    "country",
    "phone",
    "email",
    "vat_id",
];

fn whole_address(address: &Json) -> Json {
    let mut whole: Map<String, Json> =
        ADDRESS.iter().map(|name| ((*name).to_owned(), Json::from(""))).collect();
    let own = address.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    whole.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    if text(&whole["zip"]).is_empty() {
        let others = ["postcode", "postal_code", "zipcode"].into_iter();
        let other = others.filter_map(|name| whole.get(name)).find(|zip| !text(zip).is_empty());
        let zip = other.cloned().unwrap_or_default();
        whole.insert(
            "zip".to_owned(),
            Json::from(if zip.is_null() { String::new() } else { text(&zip) }),
        );
    }
    if text(&whole["name"]).is_empty() {
        let names = ["first_name", "last_name"].map(|name| whole.get(name).map(text));
        let name = names.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let name = if name.trim().is_empty() { whole["company"].clone() } else { Json::from(name) };
        whole.insert("name".to_owned(), name);
    }
    Json::Object(whole)
}

/// The countries of both addresses, each once.
fn countries(fields: &Map<String, Json>) -> Json {
    let of = |name: &str| fields.get(name)?.get("country").map(text).filter(|c| !c.is_empty());
    let countries: BTreeSet<String> = ["invoice", "delivery"].into_iter().filter_map(of).collect();
    Json::from_iter(countries)
}

/// The tax rates of lines and extras, each once.
fn taxes(fields: &Map<String, Json>) -> Json {
    let list = |name: &str| fields.get(name).and_then(Json::as_array).into_iter().flatten();
    let rates = list("lines").chain(list("extras")).filter_map(|item| item.get("tax")?.as_str());
    let rates: BTreeSet<&str> = rates.collect();
    Json::from_iter(rates)
}

/// What people should read with an order where an ERP has one text for it: the remark, how it was paid, and what the
/// order is called elsewhere, each on a line of its own.
fn comment(fields: &Map<String, Json>) -> String {
    let part = |name: &str, said: String| (!said.is_empty()).then(|| format!("{name}{said}"));
    let payment = |one: &Json| {
        let parts = ["method", "reference", "amount"].map(|name| one.get(name).map(text));
        parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    };
    let several = fields.get("payments").and_then(Json::as_array).into_iter().flatten();
    let payments: Vec<String> = fields
        .get("payment")
        .into_iter()
        .chain(several)
        .map(payment)
        .filter(|p| !p.is_empty())
        .collect();
    let references = fields.get("references_text").map(text).unwrap_or_default();
    let parts = [
        fields.get("remark").filter(|remark| remark.is_string()).map(text),
        part("Payment: ", payments.join("; ")),
        part("References: ", references),
    ];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The references of the payments, joined.
fn payment_reference(fields: &Map<String, Json>) -> Json {
    let several = fields.get("payments").and_then(Json::as_array).into_iter().flatten();
    let all = fields.get("payment").into_iter().chain(several);
    let references: Vec<String> =
        all.filter_map(|one| one.get("reference").map(text)).filter(|r| !r.is_empty()).collect();
    Json::from(references.join(", "))
}

/// A tax rate as a number is written shortest: `19` for 19.00.
fn tax(rate: &Json) -> Option<Json> {
    Some(Json::from(digits(&exact(&text(rate))?.normalized())))
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
    let number = |name: &str| exact(&text(line.get(name)?));
    let discount = number("discount").unwrap_or_default();
    let total = number("quantity").zip(number("unit_price"));
    let total = total.map(|(quantity, price)| digits(&(quantity * price - &discount)));
    let tax = line.get("tax_rate").and_then(tax);
    if line.get("discount").is_none_or(Json::is_null) {
        line.insert("discount".to_owned(), Json::from(0));
    }
    line.insert("total".to_owned(), total.map_or(Json::Null, Json::from));
    line.insert("tax_percent".to_owned(), tax.clone().unwrap_or(Json::from(0)));
    line.insert("tax".to_owned(), tax.unwrap_or(Json::Null));
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
            settled_from: None,
        }
    }

    const WHOLE: &str = r#"{"customer": {"number": "", "email": "a@b.example"},
        "delivery_address": {"first_name": "Max", "last_name": "Muster", "postcode": "53111", "country": "DE"},
        "shipping": {"method": "dhl", "price": "4.90", "tax_rate": "19.0"}, "surcharges": [{"amount": 0}],
        "discounts": [{"name": "Welcome", "amount": "5.00"}],
        "lines": [{"sku": "A", "quantity": "1.500", "unit_price": "13", "discount": "1.5", "tax_rate": 7.50}]}"#;

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
        let vars = order_vars(&order("default", WHOLE)).unwrap();
        let json = values::to_json(&vars["order"]);
        assert_eq!(json["guest"], true);
        let extras: Vec<_> = json["extras"]
            .as_array()
            .unwrap()
            .iter()
            .map(|extra| {
                format!(
                    "{} {} {} {}",
                    text(&extra["kind"]),
                    text(&extra["name"]),
                    text(&extra["amount"]),
                    text(&extra["tax"])
                )
            })
            .collect();
        assert_eq!(extras, ["shipping dhl 4.90 19", "discount Welcome -5.00 null"]);
        let numbers: Vec<_> =
            json["services"].as_array().unwrap().iter().map(|s| &s["number"]).collect();
        assert_eq!(numbers, [2, 3, 4], "behind the only line");
        assert_eq!(
            (&json["lines"][0]["total"], &json["lines"][0]["tax"]),
            (&"18.000".into(), &"7.5".into())
        );
        assert_eq!(json["payments"], serde_json::json!([]));
        let delivery = &json["delivery"];
        assert_eq!((&delivery["name"], &delivery["zip"]), (&"Max Muster".into(), &"53111".into()));
        assert_eq!(
            (&json["invoice"], &json["countries"]),
            (&Json::Null, &serde_json::json!(["DE"]))
        );
        let vars = order_vars(&order("de", "{}")).unwrap();
        let json = values::to_json(&vars["order"]);
        assert_eq!(json["reference"], "de/100042");
        assert_eq!(json["date"], "2026-11-23");
    }
}
