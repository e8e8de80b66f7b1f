//! What a form or an address brought, and where a page leads to.

use crate::domain::order::values::OrderKey;
use crate::domain::text::{is_unprintable, path_segment};

/// Fields of a form or of an address, in their order; names may repeat.
pub type Fields = Vec<(String, String)>;

/// The value of a field, trimmed; an empty one is none.
pub fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    let (_, value) = fields.iter().find(|(own, _)| own == name)?;
    Some(value.trim()).filter(|value| !value.is_empty())
}

/// Invisible characters are removed, because a page shows what was typed.
pub fn without_unseen(mut fields: Fields) -> Fields {
    for (_, value) in &mut fields {
        value.retain(|c| !is_unprintable(c));
    }
    fields
}

/// Where an order's page is.
pub fn order_address(key: &OrderKey) -> String {
    let (shop, order_id) = (key.shop.as_str(), key.order_id.as_str());
    format!("/orders/{}/{}", path_segment(shop), path_segment(order_id))
}

/// A word for a shell.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
