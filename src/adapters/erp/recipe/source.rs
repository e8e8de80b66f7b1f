//! The place of a value in a reply: `/json/pointer`, `/a >> /b`, `xml:A/B`, `header:name`, `text`,
//! each with an optional ` ~ REGEX` whose first group (else the whole match) is the value.

use minijinja::value::Value;
use regex::{Regex, RegexBuilder};
use serde_json::Value as Json;

use super::super::xml;
use super::reply::Read;
use super::values;

/// Largest compiled regular expression, in bytes.
const MAX_REGEX: usize = 1024 * 1024;

/// A place in a reply.
#[derive(Debug, Clone)]
pub struct Source {
    place: Place,
    regex: Option<Regex>,
}

#[derive(Debug, Clone)]
enum Place {
    /// JSON pointers; between two of them a string that holds JSON again.
    Json(Vec<String>),
    /// Local names of nested elements, at any depth.
    Xml(Vec<String>),
    Header(String),
    Text,
}

impl Source {
    /// Reads `text` as a source.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (place, regex) = match text.split_once(" ~ ") {
            Some((place, regex)) => (place.trim(), Some(regex)),
            None => (text.trim(), None),
        };
        let place = if let Some(path) = place.strip_prefix("xml:") {
            let names: Vec<String> = path.split('/').map(str::to_owned).collect();
            if names.iter().any(String::is_empty) {
                return Err(format!("`{place}`: expected names such as xml:Order/ID"));
            }
            Place::Xml(names)
        } else if let Some(name) = place.strip_prefix("header:") {
            Place::Header(name.to_ascii_lowercase())
        } else if place == "text" {
            Place::Text
        } else {
            let pointers: Vec<String> =
                place.split(">>").map(|pointer| pointer.trim().to_owned()).collect();
            if pointers.iter().any(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
                return Err(format!(
                    "`{place}` is no source: expected /json/pointer, xml:A/B, header:name or text"
                ));
            }
            Place::Json(pointers)
        };
        let regex = regex.map(|regex| {
            let built = RegexBuilder::new(regex).size_limit(MAX_REGEX).build();
            built.map_err(|error| format!("`{regex}`: {error}"))
        });
        Ok(Self { place, regex: regex.transpose()? })
    }

    /// The value there, if there is one.
    pub fn find(&self, reply: &Read) -> Option<Value> {
        let found = match &self.place {
            Place::Json(pointers) => values::of_json(&json_at(reply.json()?, pointers)?),
            Place::Xml(names) => Value::from(xml::text_at(reply.text(), names)?),
            Place::Header(name) => Value::from(reply.header(name)?),
            Place::Text => Value::from(reply.text()),
        };
        let Some(regex) = &self.regex else { return Some(found) };
        let text = found.to_string();
        let captures = regex.captures(&text)?;
        let group = captures.get(1).or_else(|| captures.get(0))?;
        Some(Value::from(group.as_str()))
    }
}

fn json_at(json: &Json, pointers: &[String]) -> Option<Json> {
    let (first, rest) = pointers.split_first()?;
    let found = json.pointer(first)?;
    if rest.is_empty() {
        return Some(found.clone());
    }
    json_at(&serde_json::from_str(found.as_str()?).ok()?, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(source: &str, body: &str) -> Option<String> {
        let reply = Read::new(200, &[("location", "https://erp/salesOrder/647")], body);
        Source::parse(source).unwrap().find(&reply).map(|value| value.to_string())
    }

    #[test]
    fn values_are_found_wherever_erps_put_them() {
        assert_eq!(found("/result/0/id", r#"{"result":[{"id":344}]}"#).unwrap(), "344");
        assert_eq!(found("", "17").unwrap(), "17");
        assert_eq!(found("header:Location ~ /([^/]+)$", "").unwrap(), "647");
        assert_eq!(found("text ~ Order (\\d+)", "made Order 12").unwrap(), "12");
        assert_eq!(found("/nothing", "{}"), None);
        let frappe = r#"{"_server_messages":"[\"{\\\"message\\\":\\\"No customer\\\"}\"]"}"#;
        assert_eq!(found("/_server_messages >> /0 >> /message", frappe).unwrap(), "No customer");
        let ubl = "<s:E xmlns:s='x'><s:Body><r:OrderResponse xmlns:r='y'><a><ID>no</ID></a>\
            <r:SalesOrderID>A&amp;B&#252;<![CDATA[<1>]]></r:SalesOrderID></r:OrderResponse></s:Body></s:E>";
        assert_eq!(found("xml:OrderResponse/SalesOrderID", ubl).unwrap(), "A&Bü<1>");
        assert_eq!(found("xml:OrderResponse/ID", ubl), None);
        assert_eq!(found("xml:Empty", "<a><Empty/></a>").unwrap(), "");
    }

    #[test]
    fn an_entity_bomb_is_not_expanded() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"yyyy\"><!ENTITY z \"&x;&x;\">]><a><ID>&z;</ID></a>";
        assert_eq!(found("xml:ID", bomb), None);
    }

    #[test]
    fn what_is_no_source_says_so() {
        for bad in ["result/0", "xml:a//b", "text ~ (", "/a >> b"] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_reply_makes_a_source_panic(body in any::<String>(), source in "[ -~]{0,30}") {
            let reply = Read::new(200, &[], &body);
            for text in ["/a/0", "/a >> /b", "xml:a/b", "text ~ (a+)+$", source.as_str()] {
                if let Ok(source) = Source::parse(text) {
                    drop(source.find(&reply));
                }
            }
        }

        #[test]
        fn no_xml_makes_a_source_panic(body in "[<>/a-c&;!\\[\\]\"= \\-?]{0,80}") {
            drop(found("xml:a/b", &body));
        }
    }
}
