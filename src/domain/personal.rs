//! What in an order says who its customer is, and how such texts are found in others.

use std::collections::BTreeSet;

use serde_json::Value;

/// Shorter ones stand in too many other texts.
const SHORTEST: usize = 4;
/// Parts of an order that are about persons.
const PARTS: [&str; 3] = ["customer", "invoice_address", "delivery_address"];
/// Fields in them that are about many people: they are looked for nowhere.
const SHARED: [&str; 6] = ["locale", "country", "country_code", "city", "zip", "title"];

/// Texts of persons in an order document: names, addresses, telephone numbers.
pub fn texts_of(document: &str) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    if let Ok(document) = serde_json::from_str::<Value>(document) {
        for part in PARTS.iter().filter_map(|part| document.get(part)) {
            collect(part, &mut texts);
        }
    }
    texts
}

fn collect(value: &Value, texts: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            texts.extend(Some(text.trim().to_owned()).filter(|text| is_telling(text)));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => {
            let own = fields.iter().filter(|(name, _)| !SHARED.contains(&name.as_str()));
            own.for_each(|(_, value)| collect(value, texts));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a text is long enough to be one person's.
pub fn is_telling(text: &str) -> bool {
    text.chars().count() >= SHORTEST
}

/// How a text may be written in stored ones: as it is, inside of JSON, inside of HTML.
pub fn spellings(text: &str) -> BTreeSet<String> {
    let json = serde_json::to_string(text).unwrap_or_default();
    let json = json.trim_matches('"').to_owned();
    let ascii: String = json
        .encode_utf16()
        .map(|unit| match char::from_u32(unit.into()).filter(char::is_ascii) {
            Some(character) => character.to_string(),
            None => format!("\\u{unit:04x}"),
        })
        .collect();
    let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let html = html.replace('"', "&quot;").replace('\'', "&#x27;");
    [text.to_owned(), json, ascii, html].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_are_found_and_what_many_share_is_not() {
        let order = r#"{"order_id": "1", "shop": "de", "remark": "soon",
            "customer": {"number": "C-1001", "name": "Erika Muster", "email": "erika@example.com", "locale": "de_DE"},
            "invoice_address": {"street": "Weg 1", "city": "Berlin", "lines": ["c/o Müller"], "floor": 3}}"#;
        let texts: Vec<String> = texts_of(order).into_iter().collect();
        assert_eq!(texts, ["C-1001", "Erika Muster", "Weg 1", "c/o Müller", "erika@example.com"]);
        assert!(texts_of("{").is_empty() && !is_telling("Li"));
    }

    #[test]
    fn a_text_is_found_however_it_is_written() {
        let written = spellings("Zoë \"Z\" O'Neil");
        for way in [
            "Zoë \"Z\" O'Neil",
            "Zoë \\\"Z\\\" O'Neil",
            "Zo\\u00eb \\\"Z\\\" O'Neil",
            "Zoë &quot;Z&quot; O&#x27;Neil",
        ] {
            assert!(written.contains(way), "{way} is not in {written:?}");
        }
    }
}
