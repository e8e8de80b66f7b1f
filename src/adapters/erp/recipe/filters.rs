//! The filters of recipes: what turns a value into the form that some ERP wants.
//!
//! Only what is listed here exists in recipes; minijinja's own filters are added one by one, and
//! none that calculates with floats.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use minijinja::value::{Rest, Value};
use minijinja::{Environment, Error, ErrorKind, State, filters as builtin, tests as test};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::decimals;
use super::values::{self, Digits, Placeholder};

/// Namespace of [`uuid`]: `uuid5(NAMESPACE_URL, "order-relay")`, fixed for ever.
const NAMESPACE: Uuid = Uuid::from_u128(0x0d4f_7e52_6d15_5d0b_9e0c_4f2a_5a9b_7c31);

/// Gives `env` the filters and tests of recipes.
pub fn install(env: &mut Environment<'_>) {
    decimals::install(env);
    env.add_filter("num", num);
    env.add_filter("str", |value: &Value| Ok::<_, Error>(there(value)?.to_string()));
    env.add_filter("year", |value: &Value| date(value).map(Date::year));
    env.add_filter("month", |value: &Value| date(value).map(Date::month));
    env.add_filter("day", |value: &Value| date(value).map(Date::day));
    env.add_filter("epoch", |value: &Value| moment(value).map(Timestamp::as_second));
    env.add_filter("epoch_ms", |value: &Value| moment(value).map(Timestamp::as_millisecond));
    env.add_filter("b64", |value: &Value| bounded(STANDARD.encode(bytes(value)?)));
    env.add_filter("b64url", |value: &Value| bounded(URL_SAFE.encode(bytes(value)?)));
    env.add_filter("json", |value: &Value| json(value).map(Value::from_safe_string));
    env.add_filter("odata", |value: &Value| {
        bounded(format!("'{}'", there(value)?.to_string().replace('\'', "''")))
    });
    env.add_filter("html", |value: &Value| bounded(html(&there(value)?.to_string())));
    env.add_filter("uuid", |value: &Value| {
        let text = there(value)?.to_string();
        Ok::<_, Error>(Uuid::new_v5(&NAMESPACE, text.as_bytes()).to_string())
    });
    env.add_filter("ident", |value: &Value| Ok::<_, Error>(ident(&there(value)?.to_string())));
    env.add_filter("fit", |value: &Value, chars: usize| fit(&there(value)?.to_string(), chars));
    env.add_filter("raw", |value: &Value| {
        Ok::<_, Error>(Value::from_safe_string(there(value)?.to_string()))
    });
    env.add_filter("map", builtin::map);
    env.add_filter("list", builtin::list);
    env.add_filter("join", join);
    env.add_filter("length", |value: &Value| builtin::length(there(value)?));
    env.add_filter("first", |value: &Value| builtin::first(there(value)?));
    env.add_filter("last", |value: &Value| builtin::last(there(value)?.clone()));
    env.add_filter("default", default);
    env.add_filter("upper", builtin::upper);
    env.add_filter("lower", builtin::lower);
    env.add_filter("trim", builtin::trim);
    env.add_filter("replace", replace);
    env.add_filter("split", |value: &Value, by: Option<Arc<str>>, most: Option<i64>| {
        builtin::split(there(value)?, by, most)
    });
    env.add_filter("select", builtin::select);
    env.add_filter("selectattr", builtin::selectattr);
    env.add_filter("reject", builtin::reject);
    env.add_filter("rejectattr", builtin::rejectattr);
    env.add_filter("unique", builtin::unique);
    env.add_filter("sort", builtin::sort);
    env.add_filter("items", |value: &Value| builtin::items(there(value)?));
    env.add_test("defined", |value: &Value| !values::is_missing(value));
    env.add_test("undefined", values::is_missing);
    env.add_test("none", |value: &Value| Ok::<_, Error>(there(value)?.is_none()));
    env.add_test("number", |value: &Value| Ok::<_, Error>(values::is_number(there(value)?)));
    env.add_test("string", |value: &Value| Ok::<_, Error>(test::is_string(there(value)?)));
    env.add_test("sequence", |value: &Value| Ok::<_, Error>(test::is_sequence(there(value)?)));
    env.add_test("mapping", |value: &Value| Ok::<_, Error>(test::is_mapping(there(value)?)));
    env.add_test("boolean", |value: &Value| Ok::<_, Error>(test::is_boolean(there(value)?)));
    env.add_test("startingwith", test::is_startingwith);
    env.add_test("endingwith", test::is_endingwith);
    env.add_test("in", |state: &State<'_, '_>, value: &Value, other: &Value| {
        test::is_in(state, there(value)?, there(other)?)
    });
    env.add_test("eq", |value: &Value, other: &Value| {
        Ok::<_, Error>(there(value)? == there(other)?)
    });
    env.add_test("ne", |value: &Value, other: &Value| {
        Ok::<_, Error>(there(value)? != there(other)?)
    });
}

/// A value that is not there is of no kind: the template engine takes it for a sequence.
fn there(value: &Value) -> Result<&Value, Error> {
    match values::is_missing(value) {
        true => Err(Error::from(ErrorKind::UndefinedError)),
        false => Ok(value),
    }
}

fn wrong(detail: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

/// Text for an error message, short.
fn shown(value: &Value) -> String {
    crate::domain::text::quoted(&value.to_string(), 60)
}

/// A number with its digits, whatever its type.
fn num(value: &Value) -> Result<Value, Error> {
    let value = there(value)?;
    if values::is_number(value) || is_placeholder(value) {
        return Ok(value.clone());
    }
    match value.as_str() {
        Some(text) if values::is_json_number(text) => {
            Ok(Value::from_object(Digits(text.to_owned())))
        }
        _ => Err(wrong(format!("{} is not a number", shown(value)))),
    }
}

fn json(value: &Value) -> Result<String, Error> {
    let text = values::to_json_text(there(value)?);
    bounded(text.ok_or_else(|| wrong(format!("{} cannot be JSON", shown(value))))?)
}

/// A text that a filter has made longer: a chain of such filters must not fill up the memory.
fn bounded(text: String) -> Result<String, Error> {
    if text.len() > MAX_OUTPUT {
        return Err(wrong(format!("a text of more than {MAX_OUTPUT} bytes")));
    }
    Ok(text)
}

fn replace(value: &Value, from: &str, to: &str) -> Result<String, Error> {
    let text = there(value)?.to_string();
    let longer = to.len().saturating_sub(from.len());
    if text.matches(from).count().saturating_mul(longer).saturating_add(text.len()) > MAX_OUTPUT {
        return Err(wrong(format!("a text of more than {MAX_OUTPUT} bytes")));
    }
    Ok(text.replace(from, to))
}

fn join(value: &Value, between: Option<&str>) -> Result<String, Error> {
    let mut joined = String::new();
    for (index, item) in there(value)?.try_iter()?.enumerate() {
        if index > 0 {
            joined.push_str(between.unwrap_or_default());
        }
        joined.push_str(&item.to_string());
        joined = bounded(joined)?;
    }
    Ok(joined)
}

/// Another value for one that is not there, also for one of a step that was skipped.
fn default(state: &State<'_, '_>, value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    match values::is_missing(value) {
        true => builtin::default(state, &Value::UNDEFINED, args),
        false => builtin::default(state, value, args),
    }
}

/// The bytes of a text; anything else as JSON.
fn bytes(value: &Value) -> Result<Vec<u8>, Error> {
    match value.as_str() {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => json(value).map(String::into_bytes),
    }
}

fn is_placeholder(value: &Value) -> bool {
    value.downcast_object_ref::<Placeholder>().is_some()
}

/// The date that a text begins with, in the offset in which it was written.
fn date(value: &Value) -> Result<Date, Error> {
    let value = there(value)?;
    if is_placeholder(value) {
        return Ok(Date::constant(2000, 1, 1));
    }
    let text = value.to_string();
    let day = text.get(..10).and_then(|day| day.parse::<Date>().ok());
    day.ok_or_else(|| wrong(format!("{} does not begin with a date", shown(value))))
}

/// A moment; a date alone is its midnight in UTC.
fn moment(value: &Value) -> Result<Timestamp, Error> {
    if let Ok(at) = there(value)?.to_string().parse::<Timestamp>() {
        return Ok(at);
    }
    let midnight = date(value)?.to_zoned(TimeZone::UTC);
    Ok(midnight.map_err(|error| wrong(error.to_string()))?.timestamp())
}

/// Eight hexadecimal characters of a digest: distinguishes texts that were made equal.
/// For a field that holds HTML: the same text, with its line breaks.
fn html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;").replace('\n', "<br>")
}

fn mark(text: &str) -> String {
    Sha256::digest(text)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Only letters, digits, `_` and `-`: any other character becomes `_`, and a digest of the whole is
/// appended so that two texts never become the same.
fn ident(text: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !text.is_empty() && text.chars().all(good) {
        return text.to_owned();
    }
    let kept: String = text.chars().map(|c| if good(c) { c } else { '_' }).collect();
    format!("{kept}_{}", mark(text))
}

/// At most `chars` characters: a longer text is cut and ends with a digest of the whole.
fn fit(text: &str, chars: usize) -> Result<String, Error> {
    if chars < 12 {
        return Err(wrong("fit needs at least 12 characters to distinguish texts".to_owned()));
    }
    if text.chars().count() <= chars {
        return Ok(text.to_owned());
    }
    let kept: String = text.chars().take(chars - 9).collect();
    Ok(format!("{kept}-{}", mark(text)))
}

/// Longest text that a template may make, in bytes.
pub const MAX_OUTPUT: usize = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_are_made_to_fit_and_stay_apart() {
        assert_eq!(fit("100042", 35).unwrap(), "100042");
        let (a, b) = ("x".repeat(40) + "a", "x".repeat(40) + "b");
        assert_eq!(fit(&a, 35).unwrap().chars().count(), 35);
        assert_ne!(fit(&a, 35).unwrap(), fit(&b, 35).unwrap());
        assert_eq!(ident("A-1_b"), "A-1_b");
        assert_ne!(ident("a/b"), ident("a.b"));
        assert!(ident("a/b").starts_with("a_b_"));
    }

    #[test]
    fn dates_are_read_as_they_were_written() {
        let day = Value::from("2026-11-22T23:30:00+02:00");
        assert_eq!(date(&day).unwrap(), Date::constant(2026, 11, 22));
        assert_eq!(moment(&day).unwrap().as_second(), 1_795_383_000);
        assert_eq!(moment(&Value::from("1970-01-02")).unwrap().as_second(), 86_400);
        assert!(date(&Value::from("yesterday")).is_err());
    }

    #[test]
    fn a_uuid_of_a_reference_is_always_the_same() {
        let of = |text: &str| Uuid::new_v5(&NAMESPACE, text.as_bytes());
        assert_eq!(of("default/1"), of("default/1"));
        assert_ne!(of("default/1"), of("default/2"));
    }

    proptest! {
        #[test]
        fn nothing_makes_a_filter_panic(text in any::<String>(), chars in any::<usize>()) {
            let value = Value::from(text.as_str());
            drop((num(&value), date(&value), moment(&value), bytes(&value), json(&value)));
            drop(fit(&text, chars % 100));
            prop_assert!(ident(&text).chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        }
    }
}
