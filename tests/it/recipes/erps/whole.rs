//! Whole orders against stand-ins that calculate as the ERP does: what stands there is what was paid, or it is noticed.

use std::str::FromStr;

use bigdecimal::{BigDecimal, RoundingMode};
use order_relay::adapters::erp::recipe::engine::RecipeErp;
use order_relay::domain::exact::exact;
use order_relay::domain::order::contents::text;
use order_relay::ports::erp::{Erp, OrderForErp};
use serde_json::{Value as Json, json};

use crate::recipes::for_erp;
use crate::stand_in::Books;

/// An order with every part but a guest, whose amounts are `net` or `gross`.
pub(super) fn order(id: &str, prices: &str) -> OrderForErp {
    let total = if prices == "net" { "150.86" } else { "129.80" };
    let address = |name: &str, company: &str, street: &str| {
        json!({"name": name, "company": company, "street": street, "street2": "2nd floor", "zip": "10115", "city": "Berlin", "country": "DE",
            "phone": "030 1"})
    };
    let document = json!({
        "order_id": id, "placed_at": "2026-11-22T10:00:00Z", "currency": "EUR", "total": total, "prices": prices,
        "remark": "ring twice", "delivery_date": "2026-11-30", "references": {"marketplace": "302-1"},
        "customer": {"number": "C-1001", "name": "Erika", "email": "e@example.com", "company": "Nord GmbH", "vat_id": "DE123456789"},
        "invoice_address": address("Erika Muster", "", "Hauptstr. 1"), "delivery_address": address("Max (Lager) O'Neil", "Lager GmbH", "Nebenstr. 2"),
        "payment": {"method": "card", "reference": "P-1"}, "shipping": {"method": "parcel", "price": "4.90", "tax_rate": "19"},
        "discounts": [{"name": "Welcome", "amount": "5.00", "tax_rate": "19"}],
        "surcharges": [{"name": "Express", "amount": "2.00", "tax_rate": "19"}],
        "lines": [
            {"sku": "SKU-19", "name": "Lamp", "quantity": "2", "unit_price": "49.95", "tax_rate": "19", "discount": "2.00", "unit": "pcs", "remark": "blue"},
            {"sku": "SKU-7", "name": "Book", "quantity": "3", "unit_price": "10.00", "tax_rate": "7"},
        ],
    });
    for_erp(id, &document)
}

/// Enters a whole order. The stand-in has calculated its total, so that a wrong one would have been told.
pub(super) async fn books(erp: &RecipeErp, id: &str, prices: &str) {
    let whole = order(id, prices);
    let sent = erp.submit(&whole).await;
    sent.unwrap_or_else(|failure| panic!("{prices}: {failure:?}\n{:#?}", whole.journal.take()));
}

/// What is said about an order that was paid with a cent less than the ERP calculates.
pub(super) async fn difference(erp: &RecipeErp, id: &str) -> String {
    let document = order(id, "net").document.replace("150.86", "150.85");
    let other = OrderForErp { document: document.into(), ..order(id, "net") };
    let failure = erp.submit(&other).await.unwrap_err();
    assert_eq!(failure.code, "total_differs", "{failure:?}");
    failure.message
}

/// The sentence that an order of this customer is refused with.
pub(super) async fn refusal_of_customer(erp: &RecipeErp, number: &str) -> String {
    let document = order("O-refused", "net").document.replace("C-1001", number);
    let refused = OrderForErp { document: document.into(), ..order("O-refused", "net") };
    erp.submit(&refused).await.unwrap_err().message
}

/// `check` finds that what `name` asks is wrong, in a sentence that has `part`, and nothing else.
pub(super) async fn finds(erp: &RecipeErp, name: &str, part: &str) {
    let found = erp.check_master_data().await;
    assert!(!found.is_empty());
    for check in found {
        let fault = check.fault.unwrap_or_default();
        let is_told = if check.name == name { fault.contains(part) } else { fault.is_empty() };
        assert!(is_told, "{}: {fault}", check.name);
    }
}

/// The tax that the ERP's own master data gives to an article.
pub(super) fn rate(article: &str) -> BigDecimal {
    BigDecimal::from(match article {
        "SKU-7" => 7,
        "SKU-100" => 0,
        _ => 19,
    })
}

/// A number of a request, or zero.
pub(super) fn number(json: &Json, at: &str) -> BigDecimal {
    let found = json.pointer(at).map(text);
    found.map_or_else(
        || BigDecimal::from(0),
        |found| exact(&found).unwrap_or_else(|| panic!("{found}")),
    )
}

pub(super) fn percent(amount: &BigDecimal, rate: &BigDecimal) -> BigDecimal {
    cents(&(amount * rate / BigDecimal::from(100)))
}

pub(super) fn cents(amount: &BigDecimal) -> BigDecimal {
    amount.with_scale_round(2, RoundingMode::HalfUp)
}

pub(super) fn decimal(text: &str) -> BigDecimal {
    BigDecimal::from_str(text).unwrap()
}

/// The documentation names no other fields.
pub(super) fn known(json: &Json, names: &[&str]) {
    for name in json.as_object().unwrap().keys() {
        assert!(names.contains(&name.as_str()), "`{name}` is no field of the ERP");
    }
}

/// The request that made the order with the number `n`: its field `at` holds the reference.
pub(super) fn commit_of(books: &Books, n: usize, at: &str) -> Json {
    let reference = Json::from(books.orders[n - 1].as_str());
    let made = books.asked.iter().map(crate::stand_in::Asked::json);
    let mut made = made.filter(|json| json.pointer(at) == Some(&reference));
    made.next().unwrap_or_else(|| panic!("no commit of {reference}"))
}

/// Values of the first commit of a stand-in.
pub(super) fn holds_values(commit: &Json, values: &[(&str, &str)]) {
    for (at, expected) in values {
        assert_eq!(super::read(commit, at), *expected, "{at}");
    }
}

/// A list of a request.
pub(super) fn list(json: &Json, at: &str) -> Vec<Json> {
    json.pointer(at).and_then(Json::as_array).cloned().unwrap_or_default()
}
