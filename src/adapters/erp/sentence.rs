//! The one sentence of an ERP's reply that a person needs, and the code beside it.
//!
//! Places are looked at in this order; the first *sentence* counts, else the first single word or
//! general phrase ("Bad Request"), else the code. Booleans, numbers, codes and empty texts are no
//! sentence.
//!
//! 1. `error.data.message` (Odoo), `_server_messages` (Frappe: JSON in a string in JSON in a string)
//! 2. `error.innererror.errordetails[]` (SAP), `errors`, `o:errorDetails[]`, `violations[]`, `details[]`,
//!    each a list of texts or objects, or an object of lists (ASP.NET)
//! 3. `error.message` (`error.message.value`: OData), `error.detail`, `error[1][0]` (Tryton)
//! 4. `message` (also a list: Nest), `msg`, `detail` (also a list: FastAPI), `error_description`
//! 5. `error` as a text, `errorMessage`, `reason`, `description`, `exception`, `title`
//! 6. the same within `data`, `result`, `response`, `payload`
//! 7. XML: the fault of SOAP 1.1 and 1.2, `message`, `error`
//! 8. the reply itself, where it is plain text
//!
//! docs/erp.md and docs/erp-recipes.md repeat this order for people.

use serde_json::{Map, Value};

use crate::domain::text::{MAX_ERROR_CHARS, one_line};

use super::page::is_page;
use super::xml;

/// Most texts of one list that are told.
const MAX_TEXTS: usize = 10;
/// Longest code.
const MAX_CODE: usize = 60;
/// Phrases that say that something is wrong, and not what.
const GENERAL: [&str; 32] = [
    "bad request",
    "unauthorized",
    "forbidden",
    "not found",
    "method not allowed",
    "conflict",
    "unprocessable entity",
    "unprocessable content",
    "internal server error",
    "bad gateway",
    "service unavailable",
    "gateway timeout",
    "too many requests",
    "precondition failed",
    "odoo server error",
    "odoo session expired",
    "server error",
    "internal error",
    "error",
    "an error occurred",
    "an error has occurred",
    "unknown error",
    "something went wrong",
    "validation failed",
    "validation error",
    "one or more validation errors occurred",
    "the given data was invalid",
    "no message available",
    "request failed",
    "invalid request",
    "exception while processing the request",
    "failed",
];
/// Members of an object that hold a text, the most telling first.
const TEXTS: [&str; 12] = [
    "detail",
    "message",
    "msg",
    "defaultMessage",
    "value",
    "description",
    "errorMessage",
    "text",
    "reason",
    "error",
    "title",
    "name",
];
/// Members that name the field that an item of a list is about.
const FIELDS: [&str; 7] =
    ["field", "propertyPath", "property", "path", "param", "loc", "attribute"];
/// Members that hold a code.
const CODES: [&str; 10] = [
    "code",
    "errorCode",
    "error_code",
    "o:errorCode",
    "exc_type",
    "type",
    "name",
    "status",
    "error",
    "faultcode",
];

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sentence {
    /// The sentence, on one line.
    pub text: Option<String>,
    /// The ERP's own code, when it gives one beside the sentence.
    pub code: Option<String>,
}

impl Sentence {
    /// Of a reply's whole text.
    pub fn of_text(text: &str) -> Self {
        if let Ok(json) = serde_json::from_str::<Value>(text) {
            return Self::of_json(&json);
        }
        let text = text.trim();
        if text.is_empty() || is_page(text) || text.starts_with(['{', '[']) {
            return Self::default();
        }
        if text.starts_with('<') {
            return Self::of_xml(text);
        }
        Self { text: Some(one_line(text, MAX_ERROR_CHARS)), code: None }
    }

    /// Of JSON.
    pub fn of_json(json: &Value) -> Self {
        let mut texts = Vec::new();
        collect(json, &mut texts, 0);
        Self::chosen(&texts, code_of(json))
    }

    fn of_xml(text: &str) -> Self {
        let paths: [&[&str]; 7] = [
            &["Fault", "detail", "message"],
            &["Fault", "faultstring"],
            &["Fault", "Reason", "Text"],
            &["errormessage"],
            &["message"],
            &["Message"],
            &["error"],
        ];
        let texts: Vec<String> = paths.iter().filter_map(|path| xml::text_at(text, path)).collect();
        let code = xml::text_at(text, &["Fault", "faultcode"]);
        let code = code.or_else(|| xml::text_at(text, &["Fault", "Code", "Value"]));
        Self::chosen(&texts, code.filter(|code| is_code(code)))
    }

    /// Whether it says what is wrong, and not only that something is.
    pub fn is_specific(&self) -> bool {
        self.text.as_deref().is_some_and(|text| Grade::of(text) == Some(Grade::Sentence))
    }

    /// The best of these texts, cleaned.
    pub fn chosen(texts: &[String], code: Option<String>) -> Self {
        let texts: Vec<String> =
            texts.iter().map(|text| one_line(&without_tags(text), MAX_ERROR_CHARS)).collect();
        let best = |grade: Grade| texts.iter().find(|text| Grade::of(text) == Some(grade)).cloned();
        let code = code.or_else(|| best(Grade::Code));
        let text = best(Grade::Sentence).or_else(|| best(Grade::General)).or_else(|| code.clone());
        let code = code.filter(|code| Some(code) != text.as_ref());
        Self { text, code }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Code,
    General,
    Sentence,
}

impl Grade {
    fn of(text: &str) -> Option<Self> {
        if text.is_empty() || ["true", "false", "null", "none"].contains(&text) {
            return None;
        }
        if is_code(text) {
            return Some(Self::Code);
        }
        let bare = text.trim_end_matches(['.', '!', ':']).to_lowercase();
        let is_general = GENERAL.contains(&bare.as_str()) || !text.contains(char::is_whitespace);
        Some(if is_general { Self::General } else { Self::Sentence })
    }
}

/// A number, or a name such as `E-1042`, `invalid_grant`, `odoo.exceptions.UserError`.
pub fn is_code(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if text.is_empty() || text.len() > MAX_CODE || !text.chars().all(is_name) {
        return false;
    }
    text.contains(|c: char| c.is_ascii_digit() || "_.:/".contains(c))
        || text.chars().all(|c| c.is_ascii_uppercase() || c == '-')
        || (text.ends_with("Error") || text.ends_with("Exception") || text.ends_with("Warning"))
}

fn collect(json: &Value, texts: &mut Vec<String>, depth: usize) {
    match json {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(_) => texts.extend(listed(json)),
        Value::Object(fields) => of_object(fields, texts, depth),
        _ => {}
    }
}

fn of_object(fields: &Map<String, Value>, texts: &mut Vec<String>, depth: usize) {
    let error = fields.get("error").or_else(|| fields.get("fault"));
    let inner = error.and_then(Value::as_object);
    if let Some(error) = inner {
        let data = error.get("data").and_then(Value::as_object);
        texts.extend(data.and_then(|data| data.get("message")).and_then(plain));
    }
    texts.extend(fields.get("_server_messages").and_then(server_messages));
    for fields in inner.into_iter().chain([fields]) {
        let inner = fields.get("innererror").and_then(|inner| inner.get("errordetails"));
        let lists = ["errors", "o:errorDetails", "violations", "validationErrors", "details"];
        let lists = lists.iter().filter_map(|name| fields.get(*name));
        texts.extend(inner.into_iter().chain(lists).filter_map(listed));
    }
    if let Some(error) = inner {
        let names = ["message", "faultstring", "detail", "msg", "description", "0", "title"];
        texts.extend(names.iter().filter_map(|name| listed(error.get(*name)?)));
    }
    texts.extend(error.filter(|error| error.is_array()).and_then(listed));
    for name in ["message", "Message", "msg", "detail", "error_description", "faultstring"] {
        texts.extend(fields.get(name).and_then(listed));
    }
    texts.extend(error.and_then(plain));
    for name in
        ["errorMessage", "error_message", "reason", "description", "exception", "code", "title"]
    {
        texts.extend(fields.get(name).and_then(plain));
    }
    if depth == 0 {
        for name in ["data", "result", "response", "payload"] {
            if let Some(Value::Object(within)) = fields.get(name) {
                of_object(within, texts, depth + 1);
            }
        }
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// A text, the texts of a list, or those of an object whose members are lists.
fn listed(value: &Value) -> Option<String> {
    let texts: Vec<String> = match value {
        Value::String(_) => return plain(value),
        Value::Array(items) => items.iter().filter_map(item).collect(),
        Value::Object(fields) => match of_item(fields) {
            Some(text) => vec![text],
            None => fields
                .iter()
                .filter_map(|(field, value)| Some(about(field, &listed_flat(value)?)))
                .collect(),
        },
        _ => return None,
    };
    let mut texts: Vec<String> = texts.into_iter().filter(|text| !is_code(text)).collect();
    texts.dedup();
    texts.truncate(MAX_TEXTS);
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn listed_flat(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().take(MAX_TEXTS).filter_map(item).collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        _ => plain(value),
    }
}

fn item(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => of_item(fields),
        // Tryton: ["UserError", ["text", "description", null]]
        Value::Array(parts) => parts.iter().find_map(plain),
        _ => plain(value),
    }
}

fn of_item(fields: &Map<String, Value>) -> Option<String> {
    let text = TEXTS.iter().find_map(|name| match fields.get(*name)? {
        Value::Object(within) => plain(within.get("value").or_else(|| within.get("message"))?),
        value => plain(value),
    })?;
    let field = FIELDS.iter().find_map(|name| match fields.get(*name)? {
        Value::Array(parts) => {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
                .filter(|part| part != "body")
                .collect();
            Some(parts.join("."))
        }
        value => plain(value),
    });
    Some(field.map_or_else(|| text.clone(), |field| about(&field, &text)))
}

/// A fragment such as "must not be blank" is nothing without the field it is about.
fn about(field: &str, text: &str) -> String {
    let is_fragment = text.chars().next().is_some_and(char::is_lowercase);
    if is_fragment && !text.contains(field) { format!("{field} {text}") } else { text.to_owned() }
}

/// `"[\"{\\\"message\\\": ...}\"]"`
fn server_messages(value: &Value) -> Option<String> {
    let list: Vec<Value> = serde_json::from_str(value.as_str()?).ok()?;
    let texts: Vec<String> = list
        .iter()
        .filter_map(Value::as_str)
        .filter_map(|text| match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(fields)) => of_item(&fields),
            _ => Some(text.to_owned()),
        })
        .take(MAX_TEXTS)
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn code_of(json: &Value) -> Option<String> {
    let fields = json.as_object()?;
    let error = fields.get("error").or_else(|| fields.get("fault"));
    let first = ["errors", "o:errorDetails"].iter().find_map(|name| fields.get(*name)?.get(0));
    let first = first.and_then(Value::as_object);
    let inner = error.and_then(Value::as_object);
    let data = inner.and_then(|error| error.get("data")).and_then(Value::as_object);
    // Tryton: the kind of the error comes first.
    let kind = error.and_then(|error| error.get(0)).and_then(code_text);
    let places = [data, inner, first, Some(fields)].into_iter().flatten();
    kind.or_else(|| places.into_iter().find_map(own_code))
}

fn own_code(fields: &Map<String, Value>) -> Option<String> {
    CODES.iter().find_map(|name| code_text(fields.get(*name)?))
}

/// A code that says more than a status: `200`, `0` and `OK` do not.
fn code_text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let is_status = text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    (is_code(&text) && !is_status && text != "OK").then_some(text)
}

/// Frappe and PHP put markup into their messages.
fn without_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let after = &rest[at + 1..];
        let is_tag = after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
        match after.find('>').filter(|_| is_tag) {
            Some(end) => {
                out.push_str(&rest[..at]);
                if after.to_ascii_lowercase().starts_with("br") {
                    out.push(' ');
                }
                rest = &after[end + 1..];
            }
            None => {
                out.push_str(&rest[..=at]);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    for (entity, c) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
    {
        if out.contains(entity) {
            out = out.replace(entity, c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(text: &str) -> (String, String) {
        let sentence = Sentence::of_text(text);
        (sentence.text.unwrap_or_default(), sentence.code.unwrap_or_default())
    }

    #[test]
    fn every_framework_has_its_place() {
        let frappe = r#"{"exc_type":"LinkValidationError","exception":"frappe.exceptions.LinkValidationError: x y","_server_messages":"[\"{\\\"message\\\":\\\"Could not find <b>Item</b> SKU-9\\\"}\"]"}"#;
        let spring = r#"{"timestamp":"2026","status":400,"error":"Bad Request","message":"Validation failed for object='order'. Error count: 1","errors":[{"defaultMessage":"must not be blank","field":"sku"}]}"#;
        let sap = r#"{"error":{"code":"V1/302","message":{"lang":"en","value":"Error"},"innererror":{"errordetails":[{"code":"V1/382","message":"Material SKU-9 is not defined"}]}}}"#;
        let soap = "<s:Envelope xmlns:s='x'><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>Item SKU-9 does not exist</faultstring></s:Fault></s:Body></s:Envelope>";
        let soap12 = "<e:Envelope xmlns:e='x'><e:Fault><e:Code><e:Value>e:Sender</e:Value></e:Code><e:Reason><e:Text>No such item</e:Text></e:Reason></e:Fault></e:Envelope>";
        for (body, text, code) in [
            (
                r#"{"error":"Unprocessable Entity","message":"customer 17 is blocked"}"#,
                "customer 17 is blocked",
                "",
            ),
            (
                r#"{"message":["a must not be empty","b is bad"],"error":"Bad Request","statusCode":400}"#,
                "a must not be empty; b is bad",
                "",
            ),
            (
                r#"{"type":"about:blank","title":"One or more validation errors occurred.","status":400,"errors":{"Customer":["The customer is blocked."]}}"#,
                "The customer is blocked.",
                "about:blank",
            ),
            (
                r#"{"message":"The given data was invalid.","errors":{"sku":["is unknown"]}}"#,
                "sku is unknown",
                "",
            ),
            (
                r#"{"detail":[{"loc":["body","lines",0,"sku"],"msg":"field required","type":"value_error.missing"}]}"#,
                "lines.0.sku field required",
                "",
            ),
            (
                r#"{"error":{"code":200,"message":"Odoo Server Error","data":{"name":"odoo.exceptions.UserError","message":"Product SKU-9 does not exist"}}}"#,
                "Product SKU-9 does not exist",
                "odoo.exceptions.UserError",
            ),
            (
                r#"{"id":1,"error":["UserError",["The party is blocked.","",null]]}"#,
                "The party is blocked.",
                "UserError",
            ),
            (
                r#"{"error":{"code":"BC-17","message":"The customer does not exist."}}"#,
                "The customer does not exist.",
                "BC-17",
            ),
            (r#"{"error":4022,"message":"credit limit reached"}"#, "credit limit reached", "4022"),
            (
                r#"{"error":"invalid_grant","error_description":"The token is over."}"#,
                "The token is over.",
                "invalid_grant",
            ),
            (
                r#"{"type":"x","title":"Bad","o:errorDetails":[{"detail":"Invalid value SKU-9","o:errorCode":"INVALID_CONTENT"}]}"#,
                "Invalid value SKU-9",
                "INVALID_CONTENT",
            ),
            (r#"{"error":"CUSTOMER_BLOCKED"}"#, "CUSTOMER_BLOCKED", ""),
            (r#"{"error":"maintenance"}"#, "maintenance", ""),
            (
                r#"{"success":false,"data":{"message":"customer 17 is blocked"}}"#,
                "customer 17 is blocked",
                "",
            ),
            (
                r#"{"fault":{"faultstring":"Rate limit quota violation","detail":{"errorcode":"policies"}}}"#,
                "Rate limit quota violation",
                "",
            ),
            (r#"{"error":true,"message":""}"#, "", ""),
            ("customer 17 is blocked\r\n", "customer 17 is blocked", ""),
            ("<html><body>no</body></html>", "", ""),
            (frappe, "Could not find Item SKU-9", "LinkValidationError"),
            (spring, "sku must not be blank", ""),
            (sap, "Material SKU-9 is not defined", "V1/302"),
            (soap, "Item SKU-9 does not exist", "s:Client"),
            (soap12, "No such item", "e:Sender"),
        ] {
            assert_eq!(told(body), (text.to_owned(), code.to_owned()), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_reply_makes_it_panic(text in "[\\[\\]{}\":,a-c0<>/é ]{0,80}|.{0,60}") {
            drop(Sentence::of_text(&text));
        }
    }
}
