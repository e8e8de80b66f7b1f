//! What an order may have beyond number, customer, articles, prices and total: so that a part which the ERP would
//! not get is found before it is sent, and not by the customer.

use bigdecimal::Zero;
use serde_json::Value;

use crate::domain::exact::exact;
use crate::domain::text::{one_line, quoted};

/// A part of an order that an ERP may have no place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// Prices include the tax.
    GrossPrices,
    NetPrices,
    Remark,
    InvoiceAddress,
    /// Another one than the invoice address.
    DeliveryAddress,
    DeliveryDate,
    /// The method of shipping.
    Shipping,
    /// A price of shipping that is not zero.
    ShippingPrice,
    Payment,
    /// Several payments, gift cards among them.
    Payments,
    Discounts,
    Surcharges,
    References,
    /// A customer without a number in the ERP.
    Guest,
    Company,
    VatId,
    TaxRate,
    LineUnit,
    LineDiscount,
    LineRemark,
}

crate::names!(Content {
    GrossPrices = "prices.gross",
    NetPrices = "prices.net",
    Remark = "remark",
    InvoiceAddress = "invoice_address",
    DeliveryAddress = "delivery_address",
    DeliveryDate = "delivery_date",
    Shipping = "shipping",
    ShippingPrice = "shipping.price",
    Payment = "payment",
    Payments = "payments",
    Discounts = "discounts",
    Surcharges = "surcharges",
    References = "references",
    Guest = "customer.guest",
    Company = "customer.company",
    VatId = "customer.vat_id",
    TaxRate = "lines.tax_rate",
    LineUnit = "lines.unit",
    LineDiscount = "lines.discount",
    LineRemark = "lines.remark",
});

/// A part that an order has, and what stands there, shortened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub content: Content,
    /// In the document, e.g. `/lines/2/discount`.
    pub place: String,
    pub value: String,
}

/// The parts that a document has, each with its first place.
pub fn parts_of(document: &Value) -> Vec<Part> {
    Content::ALL.into_iter().filter_map(|content| part(document, content)).collect()
}

fn part(document: &Value, content: Content) -> Option<Part> {
    let at = |place: &str| {
        let value = document.pointer(place).filter(|value| is_something(value))?;
        Some((place.to_owned(), value))
    };
    let in_lines = |name: &str, counts: fn(&Value) -> bool| {
        let lines = document.get("lines")?.as_array()?.iter().enumerate();
        let mut found = lines.filter_map(|(index, line)| {
            let value = line.get(name).filter(|value| is_something(value) && counts(value))?;
            Some((format!("/lines/{index}/{name}"), value))
        });
        found.next()
    };
    let (place, value) = match content {
        Content::GrossPrices => at("/prices").filter(|(_, value)| *value == "gross"),
        Content::NetPrices => at("/prices").filter(|(_, value)| *value == "net"),
        Content::Remark => at("/remark"),
        Content::InvoiceAddress => at("/invoice_address"),
        Content::DeliveryAddress => at("/delivery_address")
            .filter(|(_, value)| document.get("invoice_address") != Some(value)),
        Content::DeliveryDate => at("/delivery_date"),
        Content::Shipping => ["/shipping/method", "/shipping/name"].into_iter().find_map(at),
        Content::ShippingPrice => ["/shipping/price", "/shipping/cost"]
            .into_iter()
            .find_map(at)
            .filter(|(_, value)| !is_zero(value)),
        Content::Payment => at("/payment"),
        Content::Payments => at("/payments"),
        Content::Discounts => at("/discounts"),
        Content::Surcharges => at("/surcharges"),
        Content::References => at("/references"),
        Content::Guest => match at("/customer/number") {
            Some(_) => None,
            None => at("/customer/email").or_else(|| at("/customer/name")),
        },
        Content::Company => at("/customer/company"),
        Content::VatId => at("/customer/vat_id"),
        Content::TaxRate => in_lines("tax_rate", |_| true),
        Content::LineUnit => in_lines("unit", |_| true),
        Content::LineDiscount => in_lines("discount", |value| !is_zero(value)),
        Content::LineRemark => in_lines("remark", |_| true),
    }?;
    Some(Part { content, place, value: shown(value) })
}

/// Whether anything stands there: no null, no empty text, no list or object of nothing.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => items.iter().any(is_something),
        Value::Object(fields) => fields.values().any(is_something),
        Value::Bool(is_so) => *is_so,
        Value::Number(_) => true,
    }
}

fn is_zero(value: &Value) -> bool {
    exact(&text(value)).is_some_and(|number| number.is_zero())
}

/// A number or a text as it was written.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_owned())
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text, 60),
        other => one_line(&other.to_string(), 60),
    }
}

/// Digits behind the point that are not zero.
pub fn places(value: &Value) -> Option<i64> {
    let (_, places) = exact(&text(value))?.normalized().into_bigint_and_exponent();
    Some(places.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(document: &str) -> Vec<(&'static str, String)> {
        let document = serde_json::from_str(document).unwrap();
        parts_of(&document).into_iter().map(|p| (p.content.as_str(), p.place)).collect()
    }

    #[test]
    fn what_an_order_has_is_found_with_its_place() {
        let document = r#"{"prices": "net", "remark": "ring twice", "customer": {"email": "a@b.example"},
            "invoice_address": {"city": "Berlin"}, "delivery_address": {"city": "Bonn"},
            "shipping": {"method": "dhl", "price": "4.90"}, "payments": [{"method": "gift_card"}],
            "lines": [{"sku": "A", "discount": 0}, {"sku": "B", "discount": "1.00", "unit": "m"}]}"#;
        let expected = [
            ("prices.net", "/prices"),
            ("remark", "/remark"),
            ("invoice_address", "/invoice_address"),
            ("delivery_address", "/delivery_address"),
            ("shipping", "/shipping/method"),
            ("shipping.price", "/shipping/price"),
            ("payments", "/payments"),
            ("customer.guest", "/customer/email"),
            ("lines.unit", "/lines/1/unit"),
            ("lines.discount", "/lines/1/discount"),
        ];
        assert_eq!(told(document), expected.map(|(name, place)| (name, place.to_owned())));
    }

    #[test]
    fn what_is_empty_zero_or_the_same_twice_is_nothing() {
        let document = r#"{"remark": " ", "customer": {"number": "1", "email": "a@b.example", "vat_id": null},
            "invoice_address": {"city": "Berlin"}, "delivery_address": {"city": "Berlin"},
            "shipping": {"method": "", "price": "0.00"}, "payment": {}, "discounts": [], "surcharges": [{}],
            "lines": [{"sku": "A", "discount": "0", "tax_rate": null}]}"#;
        assert_eq!(told(document), [("invoice_address", "/invoice_address".to_owned())]);
    }

    #[test]
    fn digits_are_counted_that_change_the_number() {
        let of = |text: &str| places(&serde_json::from_str(text).unwrap());
        let all = ["1.50", "1", "\"0.125\"", "1e-3", "100", "\"x\""].map(of);
        assert_eq!(all, [Some(1), Some(0), Some(3), Some(3), Some(0), None]);
    }
}
