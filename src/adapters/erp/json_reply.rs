//! What a reply of an ERP that speaks plain JSON means (docs/erp.md has the table): accepted, refused,
//! trouble, or unclear. Pure: `json.rs` sends the requests and asks where this says so.
//!
//! A yes is only what proves it, and a refusal only what the ERP itself says about the order.
//! Whatever else comes back leaves the outcome open, so that the ERP is asked.

use percent_encoding::percent_decode_str;
use reqwest::Url;
use serde_json::{Map, Value};

use crate::domain::exact::exact;
use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::order::values::OrderKey;
use crate::domain::text::one_line;

use super::http::Reply;
use super::page::{is_login_address, is_login_page, is_page, title};
use super::sentence::Sentence;
use super::trouble::{is_trouble, may_exist_already, means_us};

/// Longest number of an ERP that is stored, in characters.
const MAX_NUMBER: usize = 200;
/// Said of a login where an answer was expected.
const ACCESS_DATA: &str = "the access data are missing or expired";
/// Members by which a success is denied.
const SUCCESS: [&str; 5] = ["success", "ok", "succeeded", "successful", "accepted"];
/// Members that stand only in a reply that says no.
const ERRORS: [&str; 7] =
    ["error", "errors", "fault", "exception", "errormessage", "error_message", "errorcode"];
/// Members by which an answer names the order that it is about.
const REFERENCES: [&str; 14] = [
    "order_id",
    "orderid",
    "order_reference",
    "orderreference",
    "order_ref",
    "orderref",
    "reference",
    "ref",
    "external_id",
    "externalid",
    "external_reference",
    "externalreference",
    "idempotency_key",
    "idempotencykey",
];

/// What the reply to an order means.
#[derive(Debug)]
pub enum Submitted {
    /// The ERP has it, under this number if it gave one.
    Accepted(Option<String>),
    /// It failed, and nothing more is to be found out.
    Failed(Failure),
    /// Refused, perhaps because the ERP has it already: to be asked about.
    Doubted(Failure),
    /// Forbidden, without saying whether we are or this order is.
    Forbidden(Failure),
}

/// What the reply to a question means.
#[derive(Debug)]
pub enum Answered {
    /// It is there, under this number.
    Found(String),
    /// It is not.
    Absent,
    /// Neither was said.
    Unclear(Failure),
}

/// The total and the currency that an answer names, by these names.
pub fn told_total(reply: &Reply) -> Map<String, Value> {
    let Body::Json(Value::Object(told)) = Body::of(reply) else { return Map::new() };
    let is_sum = |value: &Value| match value {
        Value::Number(_) => true,
        Value::String(text) => exact(text.trim()).is_some(),
        _ => false,
    };
    let is_currency = |value: &Value| value.as_str().is_some_and(|text| text.trim().len() == 3);
    let Some(total) = told.get("total").filter(|total| is_sum(total)) else { return Map::new() };
    let currency = told.get("currency").filter(|currency| is_currency(currency));
    let members = [("total", Some(total)), ("currency", currency)].into_iter();
    members.filter_map(|(name, value)| Some((name.to_owned(), value?.clone()))).collect()
}

/// What came back, by its kind.
enum Body {
    Empty,
    Page,
    Json(Value),
    Text,
}

impl Body {
    fn of(reply: &Reply) -> Self {
        let text = reply.text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        match serde_json::from_str(text) {
            Ok(json) => Self::Json(json),
            Err(_) if text.is_empty() => Self::Empty,
            Err(_) if is_page(text) => Self::Page,
            Err(_) => Self::Text,
        }
    }
}

/// What the reply to an order that was sent to `url` means.
pub fn submitted(reply: &Reply, url: &Url) -> Submitted {
    let body = Body::of(reply);
    match reply.status {
        202 => {
            let detail = "the ERP took the order for later (202): it is not known to be in yet";
            Submitted::Failed(failure(reply, ErrorClass::UnknownOutcome, detail, Stage::At))
        }
        200..300 => success(reply, &body, url),
        403 => forbidden(reply, &body),
        400..500 => refusal(reply, &body),
        _ => Submitted::Failed(other(reply)),
    }
}

fn success(reply: &Reply, body: &Body, url: &Url) -> Submitted {
    let from_location = location_number(reply, url);
    let unclear = |detail: &str| {
        Submitted::Failed(failure(reply, ErrorClass::UnknownOutcome, detail, Stage::At))
    };
    match body {
        Body::Page => unclear(&page(reply)),
        Body::Text => unclear("a text came back where JSON was expected"),
        Body::Empty if from_location.is_some() || matches!(reply.status, 201 | 204 | 205) => {
            Submitted::Accepted(from_location)
        }
        Body::Empty => unclear("an empty answer came back, which does not say that the ERP has it"),
        Body::Json(json) => match denied(json) {
            Some(fields) => denial(reply, fields),
            None => accepted(reply, json, from_location, unclear),
        },
    }
}

fn accepted(
    reply: &Reply,
    json: &Value,
    from_location: Option<String>,
    unclear: impl Fn(&str) -> Submitted,
) -> Submitted {
    let number = own_number(json).or(from_location);
    let fields = json.as_object();
    let is_said = reply.status == 201 && fields.is_some()
        || fields.is_some_and(|fields| SUCCESS.iter().any(|name| is_yes(member(fields, name))));
    if number.is_some() || is_said {
        return Submitted::Accepted(number);
    }
    unclear("the answer has neither a number nor a word that says that the ERP has the order")
}

/// A 2xx whose body says no.
fn denial(reply: &Reply, fields: &Map<String, Value>) -> Submitted {
    let whole = Value::Object(fields.clone());
    let sentence = sentence_of(&Sentence::of_json(&whole), reply);
    if is_own_trouble(fields) || is_trouble(&sentence.detail) {
        let failed = sentence.failure(reply, ErrorClass::Unavailable, Stage::At);
        return Submitted::Failed(failed);
    }
    let refused = sentence.failure(reply, ErrorClass::Rejected, Stage::After);
    // It names a number, or a part of what was asked for: then it may have been done nevertheless.
    let is_partial = fields.get("data").is_some_and(|data| !is_nothing(data) && is_graphql(fields));
    if own_number(&whole).is_some() || is_partial || may_exist_already(&refused.message) {
        return Submitted::Doubted(refused);
    }
    Submitted::Failed(refused)
}

fn is_graphql(fields: &Map<String, Value>) -> bool {
    fields.get("errors").is_some_and(Value::is_array)
}

/// Errors that are the ERP's own: of JSON-RPC (specification 5.1), and a status of its own kind.
fn is_own_trouble(fields: &Map<String, Value>) -> bool {
    let code = fields.get("error").and_then(|error| error.get("code")).and_then(Value::as_i64);
    let status = member(fields, "status").and_then(Value::as_i64);
    code == Some(-32603) || matches!(status, Some(429 | 500..600))
}

fn refusal(reply: &Reply, body: &Body) -> Submitted {
    let sentence = sentence_of(&Sentence::of_text(&reply.text), reply);
    let of = |class, stage| Submitted::Failed(sentence.failure(reply, class, stage));
    let is_address = matches!(reply.status, 404 | 405 | 407 | 410 | 421);
    match (reply.status, body) {
        (401, _) => of(ErrorClass::Unauthorized, Stage::After),
        (408 | 423 | 425 | 429, _) => of(ErrorClass::Unavailable, Stage::After),
        (_, Body::Page) => {
            Submitted::Failed(failure(reply, ErrorClass::Unavailable, &page(reply), Stage::At))
        }
        (_, Body::Text) if reply.text.trim_start().starts_with(['{', '[']) => {
            let detail = "a broken answer came back";
            Submitted::Failed(failure(reply, ErrorClass::Unavailable, detail, Stage::At))
        }
        // Somebody who knows no such address, and not the ERP about an order.
        (_, Body::Empty | Body::Text) if is_address => of(ErrorClass::Unavailable, Stage::At),
        _ if is_trouble(&sentence.detail) => of(ErrorClass::Unavailable, Stage::At),
        _ => {
            let refused = sentence.failure(reply, ErrorClass::Rejected, Stage::After);
            match reply.status == 409 || may_exist_already(&refused.message) {
                true => Submitted::Doubted(refused),
                false => Submitted::Failed(refused),
            }
        }
    }
}

fn forbidden(reply: &Reply, body: &Body) -> Submitted {
    let sentence = sentence_of(&Sentence::of_text(&reply.text), reply);
    let is_login = matches!(body, Body::Page) && is_login_page(&reply.text);
    if is_login || reply.headers.contains_key("www-authenticate") || means_us(&sentence.detail) {
        return Submitted::Failed(sentence.failure(reply, ErrorClass::Unauthorized, Stage::After));
    }
    let class = if sentence.is_specific { ErrorClass::Rejected } else { ErrorClass::Unavailable };
    Submitted::Forbidden(sentence.failure(reply, class, Stage::After))
}

/// Redirects, which are never followed, and 5xx. 503 says that nothing was done; the others may stand
/// for work half done, or for a gateway that lost patience.
fn other(reply: &Reply) -> Failure {
    let location = reply.header("location");
    match (reply.status, location) {
        (300..400, Some(to)) if is_login_address(&to) => {
            let detail = format!("the ERP sends us to its login page: {ACCESS_DATA}");
            failure(reply, ErrorClass::Unauthorized, &detail, Stage::After)
        }
        (300..400, Some(to)) => {
            let detail = format!("the ERP redirects to {to}: put that address into erp.url");
            failure(reply, ErrorClass::Unavailable, &detail, Stage::At)
        }
        (status, _) => {
            let stage = if status == 503 { Stage::After } else { Stage::At };
            let sentence = sentence_of(&Sentence::of_text(&reply.text), reply);
            sentence.failure(reply, ErrorClass::Unavailable, stage)
        }
    }
}

/// What the reply to the question about the order `key` means.
pub fn answered(reply: &Reply, key: &OrderKey) -> Answered {
    let body = Body::of(reply);
    match (reply.status, &body) {
        (200, Body::Json(json)) => found(reply, json, key),
        (200, Body::Page) if is_login_page(&reply.text) => {
            Answered::Unclear(failure(reply, ErrorClass::Unauthorized, &page(reply), Stage::After))
        }
        (200, Body::Page) => {
            Answered::Unclear(failure(reply, ErrorClass::Unavailable, &page(reply), Stage::After))
        }
        (404, Body::Json(json)) if json.is_object() || json.is_array() => Answered::Absent,
        _ => Answered::Unclear(match submitted_failure(reply, &body) {
            failed if failed.class == ErrorClass::Unauthorized => failed,
            failed => Failure { class: ErrorClass::Unavailable, ..failed },
        }),
    }
}

fn submitted_failure(reply: &Reply, body: &Body) -> Failure {
    let meant = match reply.status {
        200..300 => {
            let detail = "the answer does not say whether the ERP has the order";
            return failure(reply, ErrorClass::Unavailable, detail, Stage::After);
        }
        403 => {
            // A question is about nothing but the right to ask it.
            let sentence = sentence_of(&Sentence::of_text(&reply.text), reply);
            return sentence.failure(reply, ErrorClass::Unauthorized, Stage::After);
        }
        400..500 => refusal(reply, body),
        _ => Submitted::Failed(other(reply)),
    };
    match meant {
        Submitted::Failed(failed) | Submitted::Doubted(failed) | Submitted::Forbidden(failed) => {
            failed
        }
        Submitted::Accepted(_) => failure(reply, ErrorClass::Unavailable, "", Stage::After),
    }
}

fn found(reply: &Reply, json: &Value, key: &OrderKey) -> Answered {
    // The ERP is there and answers; it only does not say what was asked.
    let unclear = |code: &str, detail: &str| {
        let failed = Failure::new(ErrorClass::Rejected, code, detail, Stage::After);
        Answered::Unclear(Failure { status: Some(reply.status), ..failed })
    };
    if let Some(fields) = denied(json) {
        let sentence = sentence_of(&Sentence::of_json(&Value::Object(fields.clone())), reply);
        return match is_own_trouble(fields) || is_trouble(&sentence.detail) {
            true => {
                Answered::Unclear(sentence.failure(reply, ErrorClass::Unavailable, Stage::After))
            }
            false => unclear("unclear_answer", &sentence.detail),
        };
    }
    let Some(number) = own_number(json) else {
        return unclear("unclear_answer", "the answer has no number of an order");
    };
    match json.as_object().and_then(|fields| another(fields, key)) {
        Some((name, other)) => {
            let detail = format!("the answer is about another order: `{name}` is {other}");
            unclear("another_order", &detail)
        }
        None => Answered::Found(number),
    }
}

/// A member that names an order which is not `key`'s.
fn another<'a>(fields: &'a Map<String, Value>, key: &OrderKey) -> Option<(&'a str, String)> {
    let (id, whole) = (key.order_id.as_str(), key.to_string());
    let names = |text: &str| {
        let rest = text.trim().strip_suffix(id);
        rest.is_some_and(|rest| !rest.ends_with(|c: char| c.is_ascii_alphanumeric()))
            || text.trim() == whole
    };
    fields.iter().find_map(|(name, value)| {
        let text = scalar(value)?;
        let is_reference = REFERENCES.contains(&name.to_ascii_lowercase().as_str());
        (is_reference && !names(&text)).then_some((name.as_str(), text))
    })
}

/// The object that says no, if one does: the body or what `data`, `result`, ... in it holds.
fn denied(json: &Value) -> Option<&Map<String, Value>> {
    let fields = json.as_object()?;
    if says_no(fields) {
        return Some(fields);
    }
    let within = ["data", "result", "response", "payload"].into_iter();
    within.filter_map(|name| fields.get(name)?.as_object()).find(|fields| says_no(fields))
}

fn says_no(fields: &Map<String, Value>) -> bool {
    let status = member(fields, "status");
    let is_bad = |text: &str| {
        ["error", "fail", "failed", "failure", "rejected"]
            .contains(&text.to_ascii_lowercase().as_str())
    };
    SUCCESS.iter().any(|name| is_no(member(fields, name)))
        || ERRORS.iter().any(|name| member(fields, name).is_some_and(|value| !is_nothing(value)))
        || status.and_then(Value::as_str).is_some_and(is_bad)
        || status.and_then(Value::as_i64).is_some_and(|status| (400..600).contains(&status))
}

fn member<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let exact = fields.get(name);
    exact.or_else(|| fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

fn is_no(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(yes)) => !yes,
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(Value::String(text)) => {
            ["false", "no", "0"].contains(&text.trim().to_ascii_lowercase().as_str())
        }
        _ => false,
    }
}

fn is_yes(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(yes)) => *yes,
        Some(Value::Number(number)) => number.as_f64() == Some(1.0),
        Some(Value::String(text)) => {
            ["true", "yes", "1"].contains(&text.trim().to_ascii_lowercase().as_str())
        }
        _ => false,
    }
}

/// What stands in the place of an error that there is not.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => {
            ["", "0", "ok", "none"].contains(&text.trim().to_lowercase().as_str())
        }
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

/// `/erp_order_id`, else `/id`; empty ones, null and zero are none.
fn own_number(json: &Value) -> Option<String> {
    let fields = json.as_object()?;
    ["erp_order_id", "id"].iter().find_map(|name| {
        let text = one_line(&scalar(fields.get(*name)?)?, MAX_NUMBER);
        (!text.is_empty() && text != "0").then_some(text)
    })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The last part of `Location`, decoded, unless that is the address that the order was sent to.
fn location_number(reply: &Reply, url: &Url) -> Option<String> {
    let location = url.join(reply.header("location")?.trim()).ok()?;
    let path = location.path().trim_end_matches('/');
    if path == url.path().trim_end_matches('/') {
        return None;
    }
    let last = path.rsplit('/').next()?;
    let text = percent_decode_str(last).decode_utf8().unwrap_or_else(|_| last.into());
    let text = one_line(&text, MAX_NUMBER);
    (!text.is_empty()).then_some(text)
}

/// The error text of a reply, and the ERP's own code beside it.
pub fn error_text(reply: &Reply) -> Option<String> {
    Sentence::of_text(&reply.text).text
}

struct Told {
    detail: String,
    code: Option<String>,
    is_specific: bool,
}

fn sentence_of(sentence: &Sentence, reply: &Reply) -> Told {
    let detail = match &sentence.text {
        Some(text) => text.clone(),
        None if is_page(&reply.text) => page(reply),
        None => format!("HTTP status {}", reply.status),
    };
    Told { detail, code: sentence.code.clone(), is_specific: sentence.is_specific() }
}

impl Told {
    fn failure(&self, reply: &Reply, class: ErrorClass, stage: Stage) -> Failure {
        let failed = failure(reply, class, &self.detail, stage);
        match &self.code {
            Some(code) => {
                Failure { code: one_line(&format!("{}:{code}", failed.code), 80), ..failed }
            }
            None => failed,
        }
    }
}

fn failure(reply: &Reply, class: ErrorClass, detail: &str, stage: Stage) -> Failure {
    let code = match (reply.status, is_page(&reply.text)) {
        (status @ 200..300, true) => format!("http_{status}_html"),
        (status, _) => format!("http_{status}"),
    };
    let failed = Failure::new(class, &code, detail, stage);
    Failure { retry_after: reply.retry_after, status: Some(reply.status), ..failed }
}

/// What is told of a page.
fn page(reply: &Reply) -> String {
    if is_login_page(&reply.text) {
        return format!("a login page came back instead of an answer: {ACCESS_DATA}");
    }
    let title = title(&reply.text).map(|title| format!(" (\"{}\")", one_line(title, 100)));
    let title = title.unwrap_or_default();
    format!(
        "HTTP status {}: a web page{title} came back instead of an answer: is erp.url right, or is a \
         gateway in between?",
        reply.status
    )
}
