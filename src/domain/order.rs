//! The order message of docs/broker.md: parsed once from bytes into a type whose values are always
//! valid.
//!
//! Called by the submitter, the API and `publish`. What is not accepted is a [`Fault`]: a reason, a
//! place in the document and a sentence, which becomes a dead letter or a 422. Amounts never become
//! floats; the document is kept as the received text, and that text is what the ERP gets.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::text::one_line;

/// The state that an incoming order or failed order may declare.
pub const ACCEPTED_STATES: [&str; 2] = ["payed", "ordered_failed"];
/// Most lines one order may have (docs/broker.md).
pub const MAX_LINES: usize = 10_000;
/// Shop of an order that does not name one.
pub const DEFAULT_SHOP: &str = "default";
/// Longest name of a payment that is kept, in characters.
pub const MAX_PAYMENT_CHARS: usize = 100;
const MAX_DECIMAL_CHARS: usize = 64;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Customer {
    /// Number of the customer in shop and ERP.
    #[serde(default)]
    pub number: Option<String>,
    /// Name as the customer wrote it.
    #[serde(default)]
    pub name: Option<String>,
    /// Where the confirmation goes.
    pub email: Email,
    /// Language of the confirmation, e.g. `de` or `de-AT`.
    #[serde(default)]
    pub locale: Option<String>,
}

/// (`shop`, `order_id`): the identity of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderKey {
    /// The shop, `default` when the document names none.
    pub shop: Shop,
    /// The number that checkout gave.
    pub order_id: OrderId,
}

impl OrderKey {
    /// Checks both parts by the rules of docs/broker.md.
    pub fn new(shop: &str, order_id: &str) -> Result<Self, String> {
        Ok(Self {
            shop: Shop::try_from(shop.to_owned())?,
            order_id: OrderId::try_from(order_id.to_owned())?,
        })
    }
}

/// `shop/order_id`, also the idempotency key towards the ERP.
impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shop, self.order_id)
    }
}

impl Order {
    /// Reads one order message. `max_bytes` is `intake.max_bytes`.
    pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Self, Fault> {
        let text = read_text(bytes, max_bytes)?;
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
        Ok(Self {
            key: OrderKey { shop: document.shop, order_id: document.order_id },
            facts: OrderFacts {
                placed_at: document.placed_at,
                currency: document.currency,
                total: document.total,
                customer: document.customer,
                payment: document.payment.and_then(Payment::into_name),
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
}

/// Why a message cannot be accepted. `Display` is the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{detail}", .place.as_deref().map(|p| format!("at {p}: ")).unwrap_or_default())]
pub struct Fault {
    /// What kind of fault, for counting and filtering.
    pub reason: Reason,
    /// JSON pointer, or line and column, of the fault.
    pub place: Option<String>,
    /// What is wrong and what is expected; printable, one line.
    pub detail: String,
}

impl Fault {
    /// A fault of the whole message.
    pub fn whole(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, place: None, detail: detail.into() }
    }

    /// A fault at `place`.
    pub fn at(reason: Reason, place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason, place: Some(place.into()), detail: detail.into() }
    }

    /// The same fault of a document that is at `prefix` in a larger one.
    pub fn below(mut self, prefix: &str) -> Self {
        self.place = Some(match self.place {
            Some(place) if place == "/" => prefix.to_owned(),
            Some(place) if place.starts_with('/') => format!("{prefix}{place}"),
            Some(place) => format!("{prefix} ({place})"),
            None => prefix.to_owned(),
        });
        self
    }
}

/// Kinds of dead letters; the label of `dead_letters_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// More bytes than `intake.max_bytes`.
    TooLarge,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// Text that is not JSON, or is nested deeper than 128 levels.
    NotJson,
    /// One object names a key twice.
    DuplicateKey,
    /// JSON that breaks the schema.
    Schema,
    /// A state other than `payed` and `ordered_failed`, in the message or in the ledger.
    InvalidState,
    /// `order_failed` or a retry for an order that the ledger does not know.
    UnknownOrder,
    /// The broker stopped redelivering it.
    DeliveryLimit,
    /// It matched no queue.
    Unrouted,
    /// Handling it made our own code panic.
    HandlerPanicked,
    /// The database refused its values.
    Refused,
}

crate::names!(Reason {
    TooLarge = "too_large",
    NotUtf8 = "not_utf8",
    NotJson = "not_json",
    DuplicateKey = "duplicate_key",
    Schema = "schema",
    InvalidState = "invalid_state",
    UnknownOrder = "unknown_order",
    DeliveryLimit = "delivery_limit",
    Unrouted = "unrouted",
    HandlerPanicked = "handler_panicked",
    Refused = "refused",
});

/// The bytes as text, within the size limit.
pub fn read_text(bytes: &[u8], max_bytes: usize) -> Result<&str, Fault> {
    if bytes.len() > max_bytes {
        return Err(Fault::whole(
            Reason::TooLarge,
            format!("{} bytes; at most {max_bytes} are taken (intake.max_bytes)", bytes.len()),
        ));
    }
    std::str::from_utf8(bytes)
        .map_err(|e| Fault::at(Reason::NotUtf8, format!("byte {}", e.valid_up_to()), "not UTF-8"))
}

/// Reads `text` as `T`, refusing objects with a duplicate key. If that fails, it is read once more
/// to find the place, so that valid documents do not pay for it.
pub fn read_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    refuse_duplicate_keys(text)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    object(&mut reader).or_else(|_| {
        let mut reader = serde_json::Deserializer::from_str(text);
        let mut track = serde_path_to_error::Track::new();
        object(serde_path_to_error::Deserializer::new(&mut reader, &mut track))
            .map_err(|e| Fault::at(Reason::Schema, pointer_of(&track.path()), without_position(&e)))
    })
}

/// Reads a struct from an object only: serde alone would take a list of its fields as well.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(reader: D) -> Result<T, D::Error> {
    struct Object<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }
    reader.deserialize_map(Object(std::marker::PhantomData))
}

pub(super) fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => push_step(&mut pointer, &index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => push_step(&mut pointer, key),
            Segment::Unknown => {}
        }
    }
    if pointer.is_empty() { "/".into() } else { pointer }
}

/// One step of a JSON pointer (RFC 6901), printable and bounded whatever the key is.
fn push_step(pointer: &mut String, key: &str) {
    pointer.push('/');
    pointer.push_str(&one_line(key, 60).replace('~', "~0").replace('/', "~1"));
}

/// serde_json's sentence without its " at line 1 column 20": the pointer says it better.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    one_line(text.strip_suffix(&position).unwrap_or(&text), 300)
}

fn refuse_duplicate_keys(text: &str) -> Result<(), Fault> {
    let mut found = Duplicate::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let walked = Level(&mut found).deserialize(&mut reader).and_then(|()| reader.end());
    let Err(error) = walked else { return Ok(()) };
    if found.is_there {
        let place = found.pointer();
        return Err(Fault::at(Reason::DuplicateKey, place, "this key stands twice in its object"));
    }
    Err(Fault::at(
        Reason::NotJson,
        format!("line {}, column {}", error.line(), error.column()),
        match error.classify() {
            serde_json::error::Category::Eof if text.trim().is_empty() => "empty".to_owned(),
            _ => without_position(&error),
        },
    ))
}

/// A duplicate key, and the steps that lead to it, innermost first: they are only collected on the
/// way back, so that a valid document costs nothing.
#[derive(Default)]
struct Duplicate {
    is_there: bool,
    steps: Vec<String>,
}

impl Duplicate {
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        self.steps.iter().rev().for_each(|step| push_step(&mut pointer, step));
        pointer
    }
}

/// One value of a document that is walked through without being built.
struct Level<'w>(&'w mut Duplicate);

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = Keys::default();
        while let Some(Key(key)) = map.next_key()? {
            if !keys.insert(key.clone()) {
                self.0.is_there = true;
                self.0.steps.push(key.into_owned());
                return Err(de::Error::custom("duplicate key"));
            }
            map.next_value_seed(Level(self.0)).inspect_err(|_| {
                if self.0.is_there {
                    self.0.steps.push(key.into_owned());
                }
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0usize;
        loop {
            let next = seq.next_element_seed(Level(self.0)).inspect_err(|_| {
                if self.0.is_there {
                    self.0.steps.push(index.to_string());
                }
            })?;
            if next.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The keys of one object: compared one by one while they are few, hashed when they are many.
#[derive(Default)]
struct Keys<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    fn insert(&mut self, key: Cow<'de, str>) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(key);
        }
        if self.few.contains(&key) {
            return false;
        }
        self.few.push(key);
        if self.few.len() > 16 {
            self.many = self.few.drain(..).collect();
        }
        true
    }
}

/// A key as written in the text, copied only when it contains escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        reader.deserialize_str(Text)
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
    /// RFC 3339 with offset.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    placed_at: Option<Timestamp>,
    /// ISO 4217 code.
    currency: Currency,
    /// Total to pay; no digit is ever changed.
    total: Decimal,
    /// Who bought.
    #[serde(deserialize_with = "object")]
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
    #[serde(default, deserialize_with = "payment")]
    #[schemars(with = "Option<AnyObject>")]
    payment: Option<Payment>,
    /// Free form.
    #[serde(default)]
    shipping: Option<AnyObject>,
    /// Free form.
    #[serde(default)]
    remark: Option<String>,
}

/// An object whose fields only the ERP reads.
#[derive(JsonSchema)]
pub(super) struct AnyObject {}

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        object::<D, std::collections::HashMap<String, de::IgnoredAny>>(reader).map(|_| Self {})
    }
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code, reason = "fields that only the schema and the ERP read")]
struct Line {
    /// Article number.
    sku: Sku,
    /// Name of the article.
    #[serde(default)]
    name: Option<String>,
    /// How many.
    quantity: Decimal,
    /// Price of one.
    unit_price: Decimal,
    /// In percent.
    #[serde(default)]
    tax_rate: Option<Decimal>,
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

fn payment<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Payment>, D::Error> {
    struct Maybe;
    impl<'de> Visitor<'de> for Maybe {
        type Value = Option<Payment>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
            object(reader).map(Some)
        }
    }
    reader.deserialize_option(Maybe)
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

/// A string type with one rule, checked when it is read and named in its schema.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = $pattern))]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(&str) -> bool = $check;
                if check(&text) {
                    Ok(Self(text))
                } else {
                    Err(format!("`{}` is not {}", one_line(&text, 60), $rule))
                }
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// Number of an order, unique in its shop.
    OrderId,
    "^(?!\\.{1,2}$)[A-Za-z0-9._:/-]{1,128}$",
    // `.` and `..` in a URL mean another place (RFC 3986, 5.2.4), however they are escaped.
    |t| (1..=128).contains(&t.len())
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b))
        && !matches!(t, "." | ".."),
    "an order_id: 1 to 128 of A-Z a-z 0-9 . _ : / -, and not just `.` or `..`"
);

checked_text!(
    /// Name of a shop.
    Shop,
    "^[A-Za-z0-9._-]{1,64}$",
    |t| (1..=64).contains(&t.len())
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
    "a shop: 1 to 64 of A-Z a-z 0-9 . _ -"
);

impl Default for Shop {
    fn default() -> Self {
        Self(DEFAULT_SHOP.to_owned())
    }
}

checked_text!(
    /// ISO 4217 code of a currency.
    Currency,
    "^[A-Z]{3}$",
    |t| t.len() == 3 && CURRENCIES.split_ascii_whitespace().any(|known| known == t),
    "an ISO 4217 currency code such as EUR"
);

checked_text!(
    /// A mail address; whether mail can be delivered there shows only when it is sent.
    Email,
    "^[^@\\s<>,;]+@[^@\\s<>,;]+$",
    |t| t.len() <= 320
        && t.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@')
        })
        && !t.chars().any(|c| c.is_whitespace() || c.is_control() || "<>,;\"".contains(c)),
    "a mail address such as name@example.com"
);

checked_text!(
    /// Article number of a line.
    Sku,
    "^.{1,200}$",
    |t| !t.is_empty() && t.chars().count() <= 200,
    "an article number of 1 to 200 characters"
);

/// A number from a JSON number or string, with every digit as received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Decimal(String);

impl Decimal {
    /// The digits as received.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Decimal> for String {
    fn from(number: Decimal) -> String {
        number.0
    }
}

impl TryFrom<String> for Decimal {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let is_number = text.len() <= MAX_DECIMAL_CHARS
            && text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
            && text.ends_with(|c: char| c.is_ascii_digit())
            && serde_json::from_str::<serde_json::Number>(&text).is_ok();
        if is_number {
            Ok(Self(text))
        } else {
            Err(format!(
                "`{}` is not a number of at most {MAX_DECIMAL_CHARS} characters",
                one_line(&text, 60)
            ))
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Digits;
        impl<'de> Visitor<'de> for Digits {
            type Value = Decimal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a number in a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                Decimal::try_from(text.to_owned()).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Decimal, E> {
                Ok(Decimal(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Decimal, E> {
                Ok(Decimal(number.to_string()))
            }
            // serde_json passes any other number on exactly, as a map of its own.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Decimal, A::Error> {
                let number =
                    serde_json::Number::deserialize(de::value::MapAccessDeserializer::new(map))
                        .map_err(|_| de::Error::invalid_type(de::Unexpected::Map, &self))?;
                Decimal::try_from(number.to_string()).map_err(de::Error::custom)
            }
        }
        reader.deserialize_any(Digits)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Decimal".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A number; as a string where digits must survive other JSON readers",
            "type": ["number", "string"],
            "maxLength": MAX_DECIMAL_CHARS,
            "pattern": "^-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?$"
        })
    }
}

/// ISO 4217 list one (2026-01-01), funds codes and metals left out.
const CURRENCIES: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL \
    BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR \
    FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY \
    KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU \
    MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD \
    RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY \
    TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG BGN \
    ANG HRK XTS";

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
        Order::parse(text.as_bytes(), 1 << 20)
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
            fault_of(r#""payment":{"method":"card"}"#, r#""payment":[]"#),
            fault_of(r#"{"a":null}"#, r#"{"a":null,"b":1,"a":2}"#),
            fault_of(r#""shop":"de""#, r#""shop":"de","shop":"at""#),
            fault_of("2026-11-22T10:00:00Z", "yesterday"),
            fault_of(r#""remark":"""#, r#""remark":"#),
        ].map(|(reason, text)| format!("{}: {text}", reason.as_str())).join("
"), @r"
        schema: at /currency: `EURO` is not an ISO 4217 currency code such as EUR
        schema: at /customer/email: `erika` is not a mail address such as name@example.com
        schema: at /customer/email: `a@b.de Bcc: c@d.de` is not a mail address such as name@example.com
        schema: at /lines/0: missing field `sku`
        schema: at /lines/0/quantity: `two` is not a number of at most 64 characters
        schema: at /lines/0: invalid type: sequence, expected an object
        schema: at /order_id: `no blanks please` is not an order_id: 1 to 128 of A-Z a-z 0-9 . _ : / -, and not just `.` or `..`
        invalid_state: at /state: state is `new`; only `payed` and `ordered_failed` are transmitted
        schema: at /payment: invalid type: sequence, expected an object
        duplicate_key: at /something_new/1/a: this key stands twice in its object
        duplicate_key: at /shop: this key stands twice in its object
        schema: at /placed_at: failed to parse four digit integer as year: invalid digit, expected 0-9 but got y
        not_json: at line 5, column 46: expected value
        ");
    }

    #[test]
    fn bytes_that_are_no_document_are_refused() {
        let reason = |bytes: &[u8]| Order::parse(bytes, 1000).unwrap_err().reason;
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
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Order::parse(&bytes, 200));
        }

        #[test]
        fn no_change_of_a_good_order_makes_it_panic(at in 0usize..400, byte in any::<u8>()) {
            let mut bytes = GOOD.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(order) = Order::parse(&bytes, 1 << 20) {
                prop_assert_eq!(order.document.as_bytes(), &bytes[..]);
            }
        }
    }
}
