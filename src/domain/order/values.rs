//! Texts and numbers of an order, each with one rule that is checked when it is read.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, de};

use crate::domain::text::{is_unprintable, quoted};

/// Shop of an order that does not name one.
pub const DEFAULT_SHOP: &str = "default";

const MAX_DECIMAL_CHARS: usize = 64;

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
                    Err(format!("{} is not {}", quoted(&text, 60), $rule))
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

impl Email {
    /// The first character that nobody sees, such as a zero width space that was pasted with the address: mail to it
    /// would go nowhere, and nobody could see why.
    pub fn unseen(&self) -> Option<char> {
        self.as_str().chars().find(|c| is_unprintable(*c))
    }
}

checked_text!(
    /// Article number of a line.
    Sku,
    "^[^\\u0000]{1,200}$",
    |t| !t.is_empty() && t.chars().count() <= 200 && !t.contains('\0'),
    "an article number of 1 to 200 characters without U+0000"
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
                "{} is not a number of at most {MAX_DECIMAL_CHARS} characters",
                quoted(&text, 60)
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
