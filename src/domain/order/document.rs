//! The order message of docs/broker.md: parsed once from bytes into a type whose values are always
//! valid.
//!
//! Called by the submitter, the API and `publish`. What is not accepted is a [`Fault`]: a reason, a
//! place in the document and a sentence, which becomes a dead letter or a 422. Amounts never become
//! floats; the document is kept as the received text, and that text is what the ERP gets.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, de};
use sha2::{Digest, Sha256};

use crate::domain::order::details::{Adjustment, PaymentPart, Prices, PricesOrElse};
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::order::intake_rules::IntakeRules;
use crate::domain::order::strict_json::{object, object_or_nothing, read_json, read_text};
use crate::domain::order::values::{Currency, Decimal, Email, OrderId, OrderKey, Shop, Sku};
use crate::domain::text::{one_line, quoted};

/// The state that an incoming order or failed order may declare.
pub const ACCEPTED_STATES: [&str; 2] = ["payed", "ordered_failed"];

/// Most lines one order may have (docs/broker.md).
pub const MAX_LINES: usize = 10_000;

/// Longest name and number of a customer, in characters.
pub const MAX_TEXT_CHARS: usize = 255;

/// Longest name of a payment that is stored, in characters.
pub const MAX_PAYMENT_CHARS: usize = 100;

/// An order that passed every rule of docs/broker.md.
#[derive(Debug, Clone)]
pub struct Order {
    /// Its identity; unique in the ledger.
    pub key: OrderKey,
    /// What people filter and read by.
    pub facts: OrderFacts,
    /// The document exactly as received.
    pub document: Arc<str>,
    /// SHA-256 of `document`.
    pub digest: [u8; 32],
    /// The article numbers of its lines, each once.
    pub skus: Vec<Sku>,
}

/// The parts of an order that the ledger keeps in separate columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderFacts {
    /// When the customer placed it, if checkout said so.
    pub placed_at: Option<Timestamp>,
    /// ISO 4217.
    pub currency: Currency,
    /// Total with the received digits.
    pub total: Decimal,
    /// Who bought.
    pub customer: Customer,
    /// How it is paid: `method`, else `type`, else `name` of the document's `payment`; one line.
    pub payment: Option<String>,
}

/// The buyer, as far as the document says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Customer {
    /// Number of the customer in shop and ERP.
    #[serde(default, deserialize_with = "short_text")]
    #[schemars(length(max = MAX_TEXT_CHARS))]
    pub number: Option<String>,
    /// Name as the customer wrote it.
    #[serde(default, deserialize_with = "short_text")]
    #[schemars(length(max = MAX_TEXT_CHARS))]
    pub name: Option<String>,
    /// Where the confirmation goes; without it none is written.
    #[serde(default, deserialize_with = "email")]
    #[schemars(with = "Option<String>", length(max = 320), extend("pattern" = "^$|^[^@\\s<>,;]+@[^@\\s<>,;]+$"))]
    pub email: Option<Email>,
    /// Language of the confirmation, e.g. `de` or `de-AT`.
    #[serde(default, deserialize_with = "short_text")]
    #[schemars(length(max = MAX_TEXT_CHARS))]
    pub locale: Option<String>,
}

/// A text that becomes a column.
fn short_text<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(reader)?;
    let chars = text.as_ref().map_or(0, |text| text.chars().count());
    if chars > MAX_TEXT_CHARS {
        let detail = format!("{chars} characters; at most {MAX_TEXT_CHARS} are accepted");
        return Err(de::Error::custom(detail));
    }
    without_nul(text)
}

/// A text that ERPs store: their databases refuse a NUL, each in its own words, with every attempt.
fn free_text<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<String>, D::Error> {
    without_nul(Option::<String>::deserialize(reader)?)
}

/// The same as a type of its own.
#[derive(Deserialize)]
pub(super) struct FreeText(
    #[serde(deserialize_with = "free_text")]
    #[allow(dead_code, reason = "only read to be checked")]
    Option<String>,
);

fn without_nul<E: de::Error>(text: Option<String>) -> Result<Option<String>, E> {
    match text.as_deref().and_then(|text| text.chars().position(|c| c == '\0')) {
        Some(at) => {
            let detail = format!("character {} is U+0000 (NUL), which no ERP stores", at + 1);
            Err(E::custom(detail))
        }
        None => Ok(text),
    }
}

impl Customer {
    /// Where a confirmation can go: an address without characters that nobody sees.
    pub fn usable_email(&self) -> Option<&Email> {
        self.email.as_ref().filter(|email| email.unseen().is_none())
    }
}

fn email<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Email>, D::Error> {
    let text = Option::<String>::deserialize(reader)?.filter(|text| !text.trim().is_empty());
    text.map(|text| Email::try_from(text).map_err(de::Error::custom)).transpose()
}

/// When an order was placed. An empty time counts as none, and so does MySQL's `0000-00-00`.
#[derive(Default)]
pub(super) enum PlacedAt {
    #[default]
    Unknown,
    Moment(Timestamp),
    /// In the zone of the shop.
    WithoutZone(DateTime),
}

impl<'de> Deserialize<'de> for PlacedAt {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(reader)? else { return Ok(Self::Unknown) };
        let text = text.trim();
        if text.is_empty() || text.starts_with("0000-00-00") {
            return Ok(Self::Unknown);
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::Moment(at));
        }
        let wrong = |error| de::Error::custom(format!("{} is no time: {error}", quoted(text, 60)));
        let at = text.parse::<DateTime>().map_err(wrong)?;
        // So that it is a moment in every zone.
        at.to_zoned(TimeZone::UTC).map_err(wrong)?;
        Ok(Self::WithoutZone(at))
    }
}

impl PlacedAt {
    fn moment(&self, shop: &Shop, rules: &IntakeRules) -> Result<Option<Timestamp>, Fault> {
        match self {
            Self::Unknown => Ok(None),
            Self::Moment(at) => Ok(Some(*at)),
            Self::WithoutZone(at) => rules.moment(shop.as_str(), *at).map(Some).map_err(|error| {
                let detail = format!("`{at}` is no time in the zone of the shop: {error}");
                Fault::at(Reason::Schema, "/placed_at", detail)
            }),
        }
    }
}

impl Order {
    /// Reads one order message.
    pub fn parse(bytes: &[u8], rules: &IntakeRules) -> Result<Self, Fault> {
        let text = read_text(bytes, rules.max_bytes)?;
        let document: OrderDocument = read_json(text)?;
        if let Some(state) = &document.state
            && !ACCEPTED_STATES.contains(&state.as_str())
        {
            let state = one_line(state, 40);
            return Err(Fault::at(
                Reason::InvalidState,
                "/state",
                format!("state is `{state}`; only `payed` and `ordered_failed` are transmitted"),
            ));
        }
        let placed_at = document.placed_at.moment(&document.shop, rules)?;
        Ok(Self {
            key: OrderKey { shop: document.shop, order_id: document.order_id },
            facts: OrderFacts {
                placed_at,
                currency: document.currency,
                total: document.total,
                customer: document.customer,
                payment: document.payment.into_name(),
            },
            document: text.into(),
            digest: Sha256::digest(text).into(),
            skus: document.lines.0,
        })
    }

    /// Whether two documents have the same content, whatever their spacing and the order of their
    /// keys. Numbers are compared by their digits: `1.0` and `1.00` differ.
    pub fn says_the_same(a: &str, b: &str) -> bool {
        let value = |text| serde_json::from_str::<serde_json::Value>(text).ok();
        a == b || matches!((value(a), value(b)), (Some(a), Some(b)) if a == b)
    }

    /// SHA-256 of what a document says: the same for two of which [`Order::says_the_same`] holds.
    pub fn content_digest(document: &str) -> [u8; 32] {
        let value = serde_json::from_str::<serde_json::Value>(document).ok();
        let text = value.map_or_else(|| document.to_owned(), |value| sorted(value).to_string());
        Sha256::digest(text).into()
    }
}

/// The same value with the keys of every object in order.
fn sorted(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key, sorted(value)));
            Value::Object(
                fields.collect::<std::collections::BTreeMap<_, _>>().into_iter().collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// The wire shape of docs/broker.md; also the source of `order-relay schema order`. Fields that are
/// not named here are kept in the document and reach the ERP.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "order", description = "A paid order, published to `orders` / `order.placed`")]
#[allow(dead_code, reason = "fields that only the schema and the ERP read")]
pub struct OrderDocument {
    /// Unique within the shop.
    order_id: OrderId,
    /// The shop that sold it.
    #[serde(default)]
    shop: Shop,
    /// `payed`, or `ordered_failed` when it failed elsewhere before.
    #[serde(default)]
    #[schemars(extend("enum" = ["payed", "ordered_failed", null]))]
    state: Option<String>,
    /// RFC 3339; without an offset it is in the zone of the shop (`shops.NAME.time_zone`, else UTC). An empty text counts as none.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    placed_at: PlacedAt,
    /// ISO 4217 code.
    currency: Currency,
    /// Total to pay; no digit is ever changed.
    total: Decimal,
    /// Who bought.
    #[serde(default, deserialize_with = "object_or_nothing")]
    #[schemars(schema_with = "customer_or_nothing")]
    customer: Customer,
    /// What was bought.
    #[schemars(with = "Vec<Line>", length(min = 1, max = MAX_LINES))]
    lines: Lines,
    /// Free form.
    #[serde(default)]
    invoice_address: Option<AnyObject>,
    /// Free form.
    #[serde(default)]
    delivery_address: Option<AnyObject>,
    /// Free form.
    #[serde(default, deserialize_with = "object_or_nothing")]
    #[schemars(with = "Option<AnyObject>")]
    payment: Payment,
    /// Several payments, gift cards among them; together they are the total.
    #[serde(default)]
    #[schemars(with = "Option<Vec<PaymentPart>>")]
    payments: Option<de::IgnoredAny>,
    /// How it is shipped: `method`, `name`, `price`, `tax_rate` (in percent), and whatever else the ERP reads.
    #[serde(default)]
    shipping: Option<AnyObject>,
    /// Whether unit prices, shipping, discounts and surcharges include the tax.
    #[serde(default)]
    #[schemars(with = "Option<Prices>")]
    prices: PricesOrElse,
    /// Discounts on the whole order.
    #[serde(default)]
    #[schemars(with = "Option<Vec<Adjustment>>")]
    discounts: Option<de::IgnoredAny>,
    /// Surcharges on the whole order.
    #[serde(default)]
    #[schemars(with = "Option<Vec<Adjustment>>")]
    surcharges: Option<de::IgnoredAny>,
    /// The day on which the customer wants it, e.g. 2026-11-24.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    delivery_date: Option<de::IgnoredAny>,
    /// What the order is called elsewhere, by channel.
    #[serde(default)]
    #[schemars(with = "Option<std::collections::BTreeMap<String, String>>")]
    references: Option<de::IgnoredAny>,
    /// Free form.
    #[serde(default, deserialize_with = "free_text")]
    remark: Option<String>,
}

/// An object whose fields only the ERP reads.
pub(super) struct AnyObject {}

impl JsonSchema for AnyObject {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyObject".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "An object; an empty list stands for an empty one, as PHP writes it",
            "type": ["object", "array"],
            "maxItems": 0
        })
    }
}

/// A customer, or what stands for none.
fn customer_or_nothing(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let customer = generator.subschema_for::<Customer>();
    schemars::json_schema!({
        "anyOf": [customer, {"type": "array", "maxItems": 0}, {"type": "null"}]
    })
}

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let fields: std::collections::HashMap<String, de::IgnoredAny> = object_or_nothing(reader)?;
        drop(fields);
        Ok(Self {})
    }
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code, reason = "fields that only the schema and the ERP read")]
struct Line {
    /// Article number.
    sku: Sku,
    /// Name of the article.
    #[serde(default, deserialize_with = "free_text")]
    name: Option<String>,
    /// How many.
    quantity: Decimal,
    /// Price of one.
    unit_price: Decimal,
    /// In percent.
    #[serde(default)]
    tax_rate: Option<Decimal>,
    /// How much less the whole line costs, without a sign.
    #[serde(default)]
    #[schemars(with = "Option<Decimal>")]
    discount: Option<de::IgnoredAny>,
    /// What is counted, e.g. `pcs` or `m`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    unit: Option<de::IgnoredAny>,
    /// For this line.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    remark: Option<de::IgnoredAny>,
}

/// A line that is an object and not a list of fields; its article number.
pub(super) struct LineObject(pub(super) Sku);

impl<'de> Deserialize<'de> for LineObject {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        object::<D, Line>(reader).map(|line| Self(line.sku))
    }
}

/// The article numbers of 1 to [`MAX_LINES`] lines, each once; lines are counted while they are read
/// so that a long list is never held.
pub(super) struct Lines(pub(super) Vec<Sku>);

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = Lines;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of 1 to {MAX_LINES} order lines")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lines, A::Error> {
                let (mut count, mut skus) = (0, Vec::new());
                while let Some(LineObject(sku)) = seq.next_element()? {
                    count += 1;
                    if count > MAX_LINES {
                        return Err(de::Error::invalid_length(count, &self));
                    }
                    skus.push(sku);
                }
                skus.sort_unstable();
                skus.dedup();
                if count == 0 { Err(de::Error::invalid_length(0, &self)) } else { Ok(Lines(skus)) }
            }
        }
        reader.deserialize_seq(Count)
    }
}

/// The name of an order's payment, as far as the document says; only the ERP reads the rest of it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Payment {
    method: TextOrElse,
    #[serde(rename = "type")]
    kind: TextOrElse,
    name: TextOrElse,
}

impl Payment {
    fn into_name(self) -> Option<String> {
        [self.method, self.kind, self.name].into_iter().find_map(|text| text.0)
    }
}

/// A text on one line; anything else is ignored.
#[derive(Default)]
struct TextOrElse(Option<String>);

impl<'de> Deserialize<'de> for TextOrElse {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = TextOrElse;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<TextOrElse, E> {
                let line = one_line(text, MAX_PAYMENT_CHARS);
                Ok(TextOrElse(Some(line).filter(|line| !line.is_empty())))
            }
            fn visit_bool<E>(self, _: bool) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_unit<E>(self) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TextOrElse, A::Error> {
                while seq.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(TextOrElse(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextOrElse, A::Error> {
                while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
                Ok(TextOrElse(None))
            }
        }
        reader.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"{"order_id":"100042","shop":"de","state":"payed",
        "placed_at":"2026-11-22T10:00:00Z","currency":"EUR","total":"129.90",
        "customer":{"number":"C-1001","name":"Erika","email":"erika@example.com","locale":"de"},
        "lines":[{"sku":"4711","quantity":2,"unit_price":49.950000000000000000000000000001}],
        "payment":{"method":"card"},"remark":"","something_new":[1,{"a":null}]}"#;

    fn parse(text: &str) -> Result<Order, Fault> {
        Order::parse(text.as_bytes(), &IntakeRules::of_bytes(1 << 20))
    }

    fn fault_of(from: &str, to: &str) -> (Reason, String) {
        assert!(GOOD.contains(from));
        let fault = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
        (fault.reason, fault.to_string())
    }

    #[test]
    fn a_good_order_is_kept_to_the_letter() {
        let order = parse(GOOD).unwrap();
        assert_eq!(order.key.to_string(), "de/100042");
        assert_eq!(order.facts.total.as_str(), "129.90");
        assert_eq!(&*order.document, GOOD);
        assert_eq!(order.facts.payment.as_deref(), Some("card"));
        assert_eq!(order.skus.iter().map(Sku::as_str).collect::<Vec<_>>(), ["4711"]);
    }

    #[test]
    fn what_makes_no_wrong_order_is_accepted() {
        let read = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            parse(&GOOD.replacen(from, to, 1)).unwrap_or_else(|fault| panic!("{to}: {fault}"))
        };
        let whole = GOOD.split(r#""customer":"#).nth(1).unwrap().split(",\n").next().unwrap();
        for customer in ["[]", "{}", "null", r#"{"email":null}"#, r#"{"email":" "}"#] {
            assert_eq!(read(whole, customer).facts.customer, Customer::default(), "{customer}");
        }
        assert_eq!(read(r#""payment":{"method":"card"}"#, r#""payment":[]"#).facts.payment, None);
        read(r#""remark":"""#, r#""invoice_address":[],"shipping":[],"delivery_address":null"#);
        let at = |text: &str| read("2026-11-22T10:00:00Z", text).facts.placed_at;
        assert_eq!(at(""), None);
        assert_eq!(at("0000-00-00 00:00:00"), None);
        for text in ["2026-11-22T10:00:00", "2026-11-22 10:00:00", "2026-11-22T12:00:00+02:00"] {
            assert_eq!(at(text).unwrap().to_string(), "2026-11-22T10:00:00Z", "{text}");
        }
        let zones = [("de".to_owned(), TimeZone::fixed(jiff::tz::offset(1)))].into();
        let rules = IntakeRules::of_bytes(1 << 20).with_zones(zones, TimeZone::UTC);
        let at = |text: &str| {
            let text = GOOD.replace("2026-11-22T10:00:00Z", text);
            Order::parse(text.as_bytes(), &rules).unwrap().facts.placed_at.unwrap().to_string()
        };
        assert_eq!(at("2026-11-22T10:00:00"), "2026-11-22T09:00:00Z");
        assert_eq!(at("2026-11-22T10:00:00Z"), "2026-11-22T10:00:00Z");
        let marked =
            Order::parse(format!("\u{feff}{GOOD}").as_bytes(), &IntakeRules::of_bytes(1 << 20))
                .unwrap();
        assert_eq!(&*marked.document, GOOD);
    }

    #[test]
    fn a_payment_has_the_first_name_that_is_a_text() {
        let named = |payment: &str| {
            let order = parse(&GOOD.replace(r#"{"method":"card"}"#, payment));
            order.map(|order| order.facts.payment.unwrap_or_default()).unwrap()
        };
        assert_eq!(named(r#"{"name":"Visa","type":"card"}"#), "card");
        assert_eq!(
            named(r#"{"method":{"id":[1,2.5]},"type":12.50,"name":"on\naccount"}"#),
            "on account"
        );
        assert_eq!(named(r#"{"method":"","extra":{"name":"x"}}"#), "");
        assert_eq!(named("null"), "");
        assert_eq!(named("{}"), "");
        let long = "x".repeat(500);
        assert_eq!(named(&format!(r#"{{"method":"{long}"}}"#)).chars().count(), 100);
    }

    #[test]
    fn each_article_of_an_order_is_known_once() {
        let line = |sku: &str| format!(r#"{{"sku":"{sku}","quantity":1,"unit_price":1}}"#);
        let from = r#"{"sku":"4711","quantity":2,"unit_price":49.950000000000000000000000000001}"#;
        let lines = [line("B"), line("A"), line("B")].join(",");
        let order = parse(&GOOD.replace(from, &lines)).unwrap();
        assert_eq!(order.skus.iter().map(Sku::as_str).collect::<Vec<_>>(), ["A", "B"]);
    }

    #[test]
    fn shop_and_state_have_defaults() {
        let order = parse(&GOOD.replace(r#""shop":"de","state":"payed","#, "")).unwrap();
        assert_eq!(order.key.to_string(), "default/100042");
    }

    #[test]
    fn totals_may_be_numbers_or_strings_with_any_digits() {
        for total in ["129.90", "1e3", "-0.10", "123456789012345678901234567890.12"] {
            let order = parse(&GOOD.replace(r#""129.90""#, total)).unwrap();
            assert_eq!(order.facts.total.as_str().to_lowercase().replace("e+", "e"), total);
        }
        for total in
            [r#""""#, r#"" 1""#, r#""1 ""#, r#""NaN""#, r#""0x1""#, "[]", "{}", "null", "true"]
        {
            let fault = parse(&GOOD.replace(r#""129.90""#, total)).unwrap_err();
            assert_eq!(
                (fault.reason, fault.place.as_deref()),
                (Reason::Schema, Some("/total")),
                "{total}"
            );
        }
    }

    #[test]
    fn every_fault_names_its_reason_and_place() {
        insta::assert_snapshot!([
            fault_of("EUR", "EURO"),
            fault_of("erika@example.com", "erika"),
            fault_of("erika@example.com", r"a@b.de\r\nBcc: c@d.de"),
            fault_of(r#""sku":"4711","#, ""),
            fault_of("2,\"unit", "\"two\",\"unit"),
            fault_of(r#"[{"sku""#, r#"[[],{"sku""#),
            fault_of("100042", "no blanks please"),
            fault_of("payed", "new"),
            fault_of(r#""payment":{"method":"card"}"#, r#""payment":[1]"#),
            fault_of("100042", "100042 "),
            fault_of("4711", "4711\\u0000"),
            fault_of("Erika", "Erika\\u0000"),
            fault_of("Erika", &"x".repeat(256)),
            fault_of(r#"{"a":null}"#, r#"{"a":null,"b":1,"a":2}"#),
            fault_of(r#""shop":"de""#, r#""shop":"de","shop":"at""#),
            fault_of("2026-11-22T10:00:00Z", "yesterday"),
            fault_of(r#""remark":"""#, r#""remark":"#),
        ].map(|(reason, text)| format!("{}: {text}", reason.as_str())).join("
"), @r"
        schema: at /currency: `EURO` is not an ISO 4217 currency code such as EUR
        schema: at /customer/email: `erika` is not a mail address such as name@example.com
        schema: at /customer/email: `a@b.de<U+000D><U+000A>Bcc: c@d.de` (contains a carriage return, U+000D) is not a mail address such as name@example.com
        schema: at /lines/0: missing field `sku`
        schema: at /lines/0/quantity: `two` is not a number of at most 64 characters
        schema: at /lines/0: invalid type: sequence, expected an object
        schema: at /order_id: `no blanks please` is not an order_id: 1 to 128 of A-Z a-z 0-9 . _ : / -, and not just `.` or `..`
        invalid_state: at /state: state is `new`; only `payed` and `ordered_failed` are transmitted
        schema: at /payment: invalid type: sequence, expected an object
        schema: at /order_id: `100042␣` (ends with a space, U+0020) is not an order_id: 1 to 128 of A-Z a-z 0-9 . _ : / -, and not just `.` or `..`
        schema: at /lines/0/sku: `4711<U+0000>` (ends with a null character, U+0000) is not an article number of 1 to 200 characters without U+0000
        schema: at /customer/name: character 6 is U+0000 (NUL), which no ERP stores
        schema: at /customer/name: 256 characters; at most 255 are accepted
        duplicate_key: at /something_new/1/a: this key is in its object twice
        duplicate_key: at /shop: this key is in its object twice
        schema: at /placed_at: `yesterday` is no time: failed to parse four digit integer as year: invalid digit, expected 0-9 but got y
        not_json: at line 5, column 46: expected value
        ");
    }

    #[test]
    fn bytes_that_are_no_document_are_refused() {
        let reason =
            |bytes: &[u8]| Order::parse(bytes, &IntakeRules::of_bytes(1000)).unwrap_err().reason;
        assert_eq!(reason(b""), Reason::NotJson);
        assert_eq!(reason(b"\xff\xfe"), Reason::NotUtf8);
        assert_eq!(reason(b"{}"), Reason::Schema);
        assert_eq!(reason(b"[]"), Reason::Schema);
        assert_eq!(reason(b"{} {}"), Reason::NotJson);
        assert_eq!(reason(&b"[".repeat(900)), Reason::NotJson);
        assert_eq!(reason(&b" ".repeat(1001)), Reason::TooLarge);
    }

    #[test]
    fn a_list_of_fields_is_not_an_order() {
        let list = r#"["100042","de","payed",null,"EUR","1",{"email":"a@b.de"},[]]"#;
        assert_eq!(parse(list).unwrap_err().reason, Reason::Schema);
    }

    #[test]
    fn an_order_has_one_to_ten_thousand_lines() {
        let line = r#"{"sku":"4711","quantity":2,"unit_price":49.950000000000000000000000000001}"#;
        let with = |n: usize| parse(&GOOD.replace(line, &vec![line; n].join(",")));
        assert_eq!(with(0).unwrap_err().place.as_deref(), Some("/lines"));
        assert!(with(MAX_LINES).is_ok());
        assert_eq!(with(MAX_LINES + 1).unwrap_err().place.as_deref(), Some("/lines"));
    }

    #[test]
    fn the_same_order_written_differently_is_no_conflict_but_another_digit_is() {
        assert!(Order::says_the_same(r#"{"a":1,"b":[1.0]}"#, "{ \"b\":[1.0], \"a\":1}"));
        assert!(!Order::says_the_same(r#"{"a":1.0}"#, r#"{"a":1.00}"#));
        let same = Order::content_digest(r#"{"a":{"y":1,"x":[1.0]},"b":2}"#);
        assert_eq!(same, Order::content_digest("{ \"b\":2, \"a\":{\"x\":[1.0],\"y\":1}}"));
        assert_ne!(same, Order::content_digest(r#"{"a":{"y":1,"x":[1.00]},"b":2}"#));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Order::parse(&bytes, &IntakeRules::of_bytes(200)));
        }

        #[test]
        fn no_change_of_a_good_order_makes_it_panic(at in 0usize..400, byte in any::<u8>()) {
            let mut bytes = GOOD.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(order) = Order::parse(&bytes, &IntakeRules::of_bytes(1 << 20)) {
                prop_assert_eq!(order.document.as_bytes(), &bytes[..]);
            }
        }
    }
}
