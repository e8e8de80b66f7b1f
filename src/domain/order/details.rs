//! The optional parts of an order message that ERPs calculate with, as the schema describes them.
//!
//! A paid order is not refused for the shape of one of them: the document goes to the ERP as it came, and a recipe
//! that cannot calculate with a part says so. Only prices that are neither gross nor net would make a wrong order.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::domain::order::values::Decimal;

/// Whether the prices of an order include the tax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "described by the schema")]
pub enum Prices {
    /// They include it.
    Gross,
    /// It is added.
    Net,
}

/// `prices` as it is read: `gross`, `net`, or nothing that we know.
#[derive(Debug, Default)]
pub struct PricesOrElse;

impl<'de> Deserialize<'de> for PricesOrElse {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(reader)?.as_str() {
            None | Some("gross" | "net") => Ok(Self),
            Some(_) => Err(de::Error::custom("expected `gross` or `net`")),
        }
    }
}

/// A discount or a surcharge on the whole order.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "described by the schema")]
pub struct Adjustment {
    /// What it is called.
    name: Option<String>,
    /// A voucher code or the like.
    code: Option<String>,
    /// How much, without a sign: a discount lowers the total, a surcharge raises it.
    amount: Option<Decimal>,
    /// In percent.
    tax_rate: Option<Decimal>,
}

/// One of several payments, gift cards among them.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "described by the schema")]
pub struct PaymentPart {
    /// How, e.g. `card`, `invoice` or `gift_card`.
    method: Option<String>,
    /// The reference of the payment provider, or the number of the gift card.
    reference: Option<String>,
    /// How much of the total.
    amount: Option<Decimal>,
}
