//! What an order is about, as its page shows it: customer, addresses, lines, and what is paid besides them.
//!
//! A document is foreign text: each value is cut to one line, and what is of another shape than the schema says is shown
//! as JSON.

use minijinja::{Value, context};
use serde_json::Value as Json;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::text::one_line;
use crate::key;
use crate::web::html::context::PageContext;
use crate::web::html::formatter::Formatter;
use crate::web::html::language::Key;

/// Lines on one page, and entries of any other list that it shows.
const MAX_LINES: usize = 100;
/// Longest value that is shown of a free-form part, in characters.
pub const MAX_FACT: usize = 300;

type Facts = Vec<(String, String)>;

/// The content of an order.
pub fn content(ctx: &PageContext, record: &OrderRecord, document: &Json, wanted: Lines) -> Value {
    let lines = list(document, "lines");
    let (begin, shown) = wanted.of(lines);
    let parts = [
        ("invoice_address", key!("Invoice address")),
        ("delivery_address", key!("Delivery address")),
        ("payment", key!("Payment")),
        ("shipping", key!("Shipping")),
        ("references", key!("References")),
    ];
    let parts = parts.into_iter().map(|(name, title)| (title, free_form(&document[name])));
    let parts = parts.filter(|(_, facts)| !facts.is_empty());
    let shown: Vec<Value> = shown.iter().map(line).collect();
    let has = |name: &str| lines.iter().any(|line| !text_of(&line[name]).is_empty());
    context! {
        customer => customer(ctx, record, document),
        parts => parts.map(|(title, facts)| context! { title => title.text(), facts }).collect::<Vec<_>>(),
        prices => prices(document).map(Key::text),
        lines_page => lines_page(&ctx.formatter(), begin, shown.len(), lines.len()),
        lines => shown,
        has_discounts => has("discount"),
        extras => extras(document),
        payments => list(document, "payments").iter().take(MAX_LINES).map(payment).collect::<Vec<_>>(),
    }
}

/// Which lines a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// A page of them that begins after so many.
    After(usize),
    All,
}

impl Lines {
    /// From the field `lines` of an address: a number of lines to skip, or `all`.
    pub fn from_field(text: Option<&str>) -> Self {
        match text {
            Some("all") => Self::All,
            text => Self::After(text.and_then(|text| text.parse().ok()).unwrap_or_default()),
        }
    }

    fn of(self, lines: &[Json]) -> (usize, &[Json]) {
        match self {
            Self::All => (0, lines),
            Self::After(begin) => {
                let begin = if begin < lines.len() { begin } else { 0 };
                let end = lines.len().min(begin + MAX_LINES);
                (begin, &lines[begin..end])
            }
        }
    }
}

/// Which lines these are, and where the others are; nothing where all are shown.
fn lines_page(formatter: &Formatter, begin: usize, shown: usize, all: usize) -> Option<Value> {
    let count = |number: usize| formatter.count(u64::try_from(number).unwrap_or(u64::MAX));
    (all > MAX_LINES).then(|| {
        context! {
            from => count(begin + 1),
            to => count(begin + shown),
            n => count(all),
            previous => (begin > 0).then(|| begin.saturating_sub(MAX_LINES)),
            next => (begin + shown < all).then(|| begin + shown),
            some => shown < all,
        }
    })
}

/// Whether its prices include the tax, where the order says so.
fn prices(document: &Json) -> Option<Key> {
    match document["prices"].as_str()? {
        "gross" => Some(key!("Prices include the tax")),
        "net" => Some(key!("Prices are without tax")),
        _ => None,
    }
}

fn customer(ctx: &PageContext, record: &OrderRecord, document: &Json) -> Facts {
    let customer = &record.facts.customer;
    let email = match &customer.email {
        Some(email) => match email.unseen() {
            Some(unseen) => ctx.language.fill(
                key!("{address} (has {unseen}, which nobody sees: no confirmation mail is written; edit the order)"),
                &[("address", email.as_str()), ("unseen", &format!("U+{:04X}", u32::from(unseen)))],
            ),
            None => email.to_string(),
        },
        None => ctx.t(key!("none: no confirmation mail is written")).to_owned(),
    };
    let facts = [
        (key!("Number"), customer.number.clone().unwrap_or_default()),
        (key!("Name"), customer.name.clone().unwrap_or_default()),
        (key!("Company"), text_of(&document["customer"]["company"])),
        (key!("VAT id"), text_of(&document["customer"]["vat_id"])),
        (key!("Mail address"), email),
        (key!("Language"), customer.locale.clone().unwrap_or_default()),
        (key!("Day of delivery"), text_of(&document["delivery_date"])),
        (key!("Remark"), text_of(&document["remark"])),
    ];
    let facts = facts.into_iter();
    facts.map(|(name, value)| (ctx.t(name).to_owned(), one_line(&value, MAX_FACT))).collect()
}

fn line(line: &Json) -> Value {
    let part = |name: &str| part_of(line, name);
    context! {
        sku => part("sku"),
        name => part("name"),
        remark => part("remark"),
        quantity => part("quantity"),
        unit => part("unit"),
        unit_price => part("unit_price"),
        discount => part("discount"),
        tax_rate => part("tax_rate"),
    }
}

/// What is paid besides the lines: shipping with a price, surcharges, discounts.
fn extras(document: &Json) -> Vec<Value> {
    let of = |kind: Key, item: &Json, amount: &str| {
        let name = ["name", "method", "code"].map(|name| part_of(item, name));
        context! {
            kind => kind.text(),
            name => name.into_iter().find(|name| !name.is_empty()),
            code => part_of(item, "code"),
            amount => part_of(item, amount),
            tax_rate => part_of(item, "tax_rate"),
        }
    };
    let shipping = &document["shipping"];
    let price = ["price", "cost"].into_iter().find(|name| !text_of(&shipping[name]).is_empty());
    let shipping = price.map(|price| of(key!("Shipping"), shipping, price));
    let items = |name: &str, kind: Key| {
        let items = list(document, name).iter().take(MAX_LINES);
        items.map(|item| of(kind, item, "amount")).collect::<Vec<_>>()
    };
    let (surcharges, discounts) =
        (items("surcharges", key!("Surcharge")), items("discounts", key!("Discount")));
    shipping.into_iter().chain(surcharges).chain(discounts).collect()
}

fn payment(payment: &Json) -> Value {
    let part = |name: &str| part_of(payment, name);
    context! { method => part("method"), reference => part("reference"), amount => part("amount") }
}

/// Names and values of an object, one level deep; what lies deeper is shown as JSON.
fn free_form(value: &Json) -> Facts {
    let Some(object) = value.as_object() else { return Vec::new() };
    let facts = object.iter().take(50);
    facts.map(|(name, value)| (one_line(name, 60), one_line(&text_of(value), MAX_FACT))).collect()
}

fn list<'a>(document: &'a Json, name: &str) -> &'a [Json] {
    document[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn part_of(item: &Json, name: &str) -> String {
    one_line(&text_of(&item[name]), MAX_FACT)
}

fn text_of(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_paged_and_every_one_is_on_a_page() {
        let lines: Vec<Json> = (0..250).map(Json::from).collect();
        let page = |text: Option<&str>| {
            let (begin, shown) = Lines::from_field(text).of(&lines);
            (begin, shown.len())
        };
        assert_eq!(page(None), (0, 100));
        assert_eq!(page(Some("100")), (100, 100));
        assert_eq!(page(Some("200")), (200, 50));
        assert_eq!(page(Some("all")), (0, 250));
        for bad in ["250", "-1", "x", "99999999999999999999999"] {
            assert_eq!(page(Some(bad)), (0, 100), "{bad}");
        }
        assert_eq!(Lines::After(0).of(&[]), (0, &[][..]));
    }
}
