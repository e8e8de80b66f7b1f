//! Values in templates and expressions: JSON with every digit kept, and placeholders for checking.
//!
//! minijinja knows integers and floats. A number that is not a plain integer becomes a [`Digits`]
//! here: it is printed as written and never used in calculations.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use serde_json::Value as Json;

/// A number as it was written.
#[derive(Debug)]
pub struct Digits(pub String);

impl Object for Digits {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.0.bytes().any(|b| (b'1'..=b'9').contains(&b))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a step answers, when there is no answer of an ERP: every field is like the whole.
#[derive(Debug)]
pub struct AnyAnswer<const IS_THERE: bool>(String);

/// For any answer: it has every field and prints as `1`.
pub type Placeholder = AnyAnswer<true>;
/// Of a step that was skipped: it and all its fields are not there.
pub type Skipped = AnyAnswer<false>;

impl<const IS_THERE: bool> AnyAnswer<IS_THERE> {
    /// What is called `name` when it is shown.
    pub fn value(name: &str) -> Value {
        Value::from_object(Self(name.to_owned()))
    }
}

impl<const IS_THERE: bool> Object for AnyAnswer<IS_THERE> {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(Self::value(&format!("{}.{key}", self.0)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        // A loop over what an answer would hold is looked at by its body's syntax alone.
        if IS_THERE { Enumerator::Empty } else { Enumerator::NonEnumerable }
    }

    fn is_true(self: &Arc<Self>) -> bool {
        IS_THERE
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if IS_THERE { "1" } else { "" })
    }
}

/// Whether `value` is not there: undefined, or of a step that was skipped.
pub fn is_missing(value: &Value) -> bool {
    value.is_undefined() || value.downcast_object_ref::<Skipped>().is_some()
}

/// `json` as templates see it.
pub fn of_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(bool) => Value::from(*bool),
        Json::Number(number) => of_digits(&number.to_string()),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(of_json).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), of_json(value))))
        }
    }
}

/// A JSON number: an integer when that says the same, else its digits.
pub fn of_digits(digits: &str) -> Value {
    match digits.parse::<i64>() {
        Ok(whole) if whole.to_string() == digits => Value::from(whole),
        _ => Value::from_object(Digits(digits.to_owned())),
    }
}

/// Whether `text` is a number as JSON writes it (RFC 8259, 6).
pub fn is_json_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

/// Whether `value` is a number, [`Digits`] included.
pub fn is_number(value: &Value) -> bool {
    value.is_number() || value.downcast_object_ref::<Digits>().is_some()
}

/// `value` as JSON text; `None` where it holds something that JSON has not (undefined, bytes).
pub fn to_json_text(value: &Value) -> Option<String> {
    let mut text = String::new();
    write_json(&mut text, value, 0)?;
    Some(text)
}

/// Deepest nesting that is written.
const MAX_DEPTH: usize = 100;

fn write_json(out: &mut String, value: &Value, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    if let Some(Digits(digits)) = value.downcast_object_ref() {
        out.push_str(digits);
        return Some(());
    }
    if value.downcast_object_ref::<Placeholder>().is_some() {
        out.push('1');
        return Some(());
    }
    if is_missing(value) {
        return None;
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => {
            let text = value.to_string();
            if !is_json_number(&text) {
                return None;
            }
            out.push_str(&text);
        }
        ValueKind::String => write_string(out, value.as_str()?),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (index, item) in value.try_iter().ok()?.enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(out, &item, depth + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter().ok()?.enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(out, &key.to_string());
                out.push(':');
                write_json(out, &value.get_item(&key).ok()?, depth + 1)?;
            }
            out.push('}');
        }
        _ => return None,
    }
    Some(())
}

fn write_string(out: &mut String, text: &str) {
    out.push_str(&Json::String(text.to_owned()).to_string());
}

/// `value` as `serde_json` holds it; what JSON has not becomes null.
pub fn to_json(value: &Value) -> Json {
    to_json_text(value).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Json::Null)
}

/// What templates and expressions can name.
pub type Vars = BTreeMap<String, Value>;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_survive_the_way_through_a_template_value() {
        for text in
            ["0", "-1", "10.50", "1e+400", "123456789012345678901234567890.123", "-0", "1.0"]
        {
            let json: Json = serde_json::from_str(text).unwrap();
            assert_eq!(to_json_text(&of_json(&json)).unwrap(), text);
        }
    }

    #[test]
    fn only_json_numbers_are_numbers() {
        for good in ["0", "-0", "10", "0.5", "1e5", "1.5E-10", "123456789012345678901234567890"] {
            assert!(is_json_number(good), "{good}");
        }
        for bad in ["", "-", "01", ".5", "5.", "+1", "1e", "0x1", "1_000", "NaN", "1 ", "1,5"] {
            assert!(!is_json_number(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_arrives_as_it_is(text in any::<String>()) {
            let json = Json::String(text);
            prop_assert_eq!(to_json(&of_json(&json)), json);
        }
    }
}
