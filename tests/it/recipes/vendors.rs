//! Stand-ins for ERPs that calculate: each has its own prices and taxes, keeps whole orders, and refuses fields that its
//! vendor does not document.

use bigdecimal::{BigDecimal, RoundingMode};
use order_relay::ports::erp::Erp;
use serde_json::{Value as Json, json};

use crate::stand_in::{Behaviour, Books, StandIn};

use super::{Setting, for_erp, open};

mod dynamics_fo;
mod jtl_wawi;
mod sage_x3;
mod sap_b1;
mod weclapp;
mod xentral;

/// An order with everything that the recipes here carry; what is paid is right to the cent.
fn whole(prices: &str) -> Json {
    let [lamp, cable, discount, shipping, voucher, gift, total] = match prices {
        "net" => ["12.00", "5.00", "1.00", "4.00", "5.00", "2.00", "44.61"],
        _ => ["11.90", "5.35", "1.19", "4.90", "5.95", "2.38", "39.99"],
    };
    json!({
        "order_id": "O-1", "placed_at": "2026-11-22T10:00:00Z", "currency": "EUR", "total": total, "prices": prices,
        "customer": {"number": "C-1001", "name": "Erika Muster", "email": "e@example.com"},
        "invoice_address": {"name": "Erika Muster", "street": "Weg 1", "zip": "10115", "city": "Berlin", "country": "DE"},
        "delivery_address": {"name": "Max Muster", "street": "Platz 2", "zip": "53111", "city": "Bonn", "country": "DE"},
        "delivery_date": "2026-11-30", "remark": "ring <twice>", "references": {"marketplace": "302-1"},
        "payment": {"method": "card", "reference": "P-77"},
        "shipping": {"method": "dhl", "price": shipping, "tax_rate": "19"},
        "discounts": [{"name": "Welcome", "amount": voucher, "tax_rate": "19"}],
        "surcharges": [{"name": "Gift wrap", "amount": gift, "tax_rate": "19"}],
        "lines": [
            {"sku": "SKU-100", "name": "Lamp", "quantity": "2", "unit_price": lamp, "discount": discount, "tax_rate": "19", "remark": "blue"},
            {"sku": "SKU-200", "name": "Cable", "quantity": "3", "unit_price": cable, "tax_rate": "7"},
        ],
    })
}

/// Enters the whole order with gross and with net prices, and gives back what the ERP keeps of them. `addresses`: the
/// constants that are the address of the stand-in.
async fn whole_orders(
    recipe: &str,
    behaviour: Behaviour,
    setting: &Setting,
    addresses: &[&str],
) -> [Json; 2] {
    let mut kept = Vec::new();
    for prices in ["gross", "net"] {
        let stand_in = StandIn::start(behaviour).await;
        let more: Vec<_> = addresses.iter().map(|name| (*name, stand_in.url.as_str())).collect();
        let erp = open(recipe, &stand_in.url, setting, &more);
        let one = for_erp("O-1", &whole(prices));
        let sent = erp.submit(&one).await;
        assert!(sent.is_ok(), "{recipe}, {prices}: {sent:?}\n{:#?}", one.journal.take());
        kept.push(order_of(&stand_in.books.lock().unwrap(), 1));
    }
    kept.try_into().unwrap()
}

/// A guest with an address gets the order; one without a mail address is refused with `reason`.
async fn guests(recipe: &str, behaviour: Behaviour, setting: &Setting, reason: (&str, &str)) {
    let stand_in = StandIn::start(behaviour).await;
    let erp = open(recipe, &stand_in.url, setting, &[]);
    let guest = |name: &str, value: Json| {
        let mut document = whole("gross");
        document["customer"]["number"] = Json::Null;
        document["customer"][name] = value;
        for_erp("O-1", &document)
    };
    let (name, text) = reason;
    let failure = erp.submit(&guest(name, Json::Null)).await.unwrap_err();
    assert!(failure.message.contains(text), "{recipe}: {failure:?}");
    assert!(stand_in.books.lock().unwrap().orders.is_empty());
    let sent = erp.submit(&guest("email", json!("new@example.com"))).await;
    assert!(sent.is_ok(), "{recipe}: {sent:?}");
}

/// An order with shipping is refused with a sentence if the ERP has no article that stands for it.
async fn names_a_missing_service(recipe: &str, behaviour: Behaviour, setting: &Setting) {
    let stand_in = StandIn::start(behaviour).await;
    let erp = open(recipe, &stand_in.url, setting, &[("sku_shipping", "SKU-NOPE")]);
    let failure = erp.submit(&for_erp("O-1", &whole("gross"))).await.unwrap_err();
    let text =
        "'SKU-NOPE', which stands for a price of shipping: make one, or set erp.const.sku_shipping";
    assert!(failure.message.contains(text), "{recipe}: {failure:?}");
    assert!(stand_in.books.lock().unwrap().orders.is_empty());
}

/// What the stand-in keeps of its order number `n`.
fn order_of(books: &Books, n: usize) -> Json {
    serde_json::from_str(&books.states[n - 1]).unwrap()
}

/// Keeps an order under its reference; its number from 1.
fn keep(books: &mut Books, reference: &str, order: &Json) -> usize {
    let n = books.make(reference);
    books.states[n - 1] = order.to_string();
    n
}

/// Fails the test if an object has a field that the vendor does not document.
fn only(object: &Json, documented: &[&str]) {
    for name in object.as_object().unwrap_or_else(|| panic!("{object}")).keys() {
        assert!(documented.contains(&name.as_str()), "the ERP knows no field `{name}`: {object}");
    }
}

/// A number or a text with one.
fn decimal(value: &Json) -> BigDecimal {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn cents(amount: &BigDecimal) -> BigDecimal {
    amount.with_scale_round(2, RoundingMode::HalfUp)
}

/// The tax of an article in the ERP, in percent.
fn rate(sku: &str) -> BigDecimal {
    BigDecimal::from(if sku == "SKU-200" { 7 } else { 19 })
}

/// With the tax.
fn gross(net: &BigDecimal, rate: &BigDecimal) -> BigDecimal {
    cents(&(net + net * rate / 100))
}
