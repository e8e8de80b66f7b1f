//! What the path of a call names.

use schemars::JsonSchema;
use serde::Deserialize;

/// An order's place in a path. A `/` within the number is written `%2F`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OrderPath {
    /// Its shop.
    pub shop: String,
    /// Its number.
    pub order_id: String,
}

/// Something with an id in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct IdPath {
    /// Its id.
    pub id: String,
}

/// Something with a name in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NamePath {
    /// Its name.
    pub name: String,
}
