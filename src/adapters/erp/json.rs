//! The recipe `json` of CONTRACT 6: an ERP, or a small adapter in front of one, that speaks plain
//! JSON.
//!
//! `POST {erp.url}` with the order document, `GET {erp.url}/{order_id}` to ask. What each reply means
//! is decided here; a reply that does not clearly say "no" leaves the outcome open.

use std::time::Duration;

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::text::one_line;
use crate::ports::erp::{Answer, Erp, OrderForErp, Receipt};

use super::http::{HttpClient, Limits, Reply, name_of};

/// Characters of an order number that stand for themselves in a path segment (RFC 3986, 3.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Longest number of an ERP that is kept, in characters.
const MAX_NUMBER: usize = 200;

/// An ERP that speaks plain JSON.
pub struct JsonErp {
    http: HttpClient,
    url: Url,
    authorization: Option<SecretString>,
    budget: Duration,
}

impl JsonErp {
    /// The ERP at `url`; `authorization` is sent as the header of that name.
    pub fn new(
        url: &str,
        authorization: Option<SecretString>,
        limits: Limits,
    ) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("erp.url is not an address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("erp.url must begin with http:// or https://".to_owned());
        }
        let budget = limits.connect + limits.total;
        Ok(Self { http: HttpClient::new(limits)?, url, authorization, budget })
    }

    fn headers(&self, order: &OrderForErp) -> Vec<(&'static str, String)> {
        let mut headers = vec![("accept", "application/json".to_owned())];
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization", authorization.expose_secret().to_owned()));
        }
        for (name, value) in
            [("traceparent", &order.traceparent), ("tracestate", &order.tracestate)]
        {
            headers.extend(value.clone().map(|value| (name, value)));
        }
        headers
    }

    fn order_url(&self, order: &OrderForErp) -> Url {
        let mut url = self.url.clone();
        let id = utf8_percent_encode(order.key.order_id.as_str(), SEGMENT);
        url.set_path(&format!("{}/{id}", self.url.path().trim_end_matches('/')));
        url
    }
}

#[async_trait]
impl Erp for JsonErp {
    async fn submit(&self, order: &OrderForErp) -> Result<Receipt, Failure> {
        let mut headers = self.headers(order);
        headers.push(("content-type", "application/json".to_owned()));
        headers.push(("idempotency-key", order.key.to_string()));
        let body = order.document.as_bytes().to_vec();
        let request = name_of(&Method::POST, &self.url);
        let reply = self.http.call(Method::POST, self.url.clone(), &headers, Some(body)).await?;
        match read_submitted(&reply) {
            Ok(erp_order_id) => Ok(Receipt { erp_order_id, request, status: reply.status }),
            Err(failure) => {
                Err(Failure { request: Some(request), status: Some(reply.status), ..failure })
            }
        }
    }

    async fn ask(&self, order: &OrderForErp) -> Answer {
        let url = self.order_url(order);
        let request = name_of(&Method::GET, &url);
        // The address names only the number: an adapter that serves several shops needs the key.
        let mut headers = self.headers(order);
        headers.push(("idempotency-key", order.key.to_string()));
        match self.http.call(Method::GET, url, &headers, None).await {
            Err(failure) => Answer::Unclear(as_question(failure)),
            Ok(reply) => match reply.status {
                200 if !reply.is_page() => {
                    let erp_order_id = number(&reply);
                    Answer::Found(Receipt { erp_order_id, request, status: reply.status })
                }
                404 if reply.json().is_some() => Answer::Absent,
                status => {
                    let failure = refusal(&reply);
                    Answer::Unclear(Failure {
                        request: Some(request),
                        status: Some(status),
                        ..as_question(failure)
                    })
                }
            },
        }
    }

    fn can_ask(&self) -> bool {
        true
    }

    fn call_budget(&self) -> Duration {
        self.budget
    }
}

/// A question changes nothing, so its failure is never an unclear outcome of its own.
fn as_question(failure: Failure) -> Failure {
    let class = match failure.class {
        ErrorClass::Unauthorized => ErrorClass::Unauthorized,
        _ => ErrorClass::Unavailable,
    };
    Failure { class, ..failure }
}

fn read_submitted(reply: &Reply) -> Result<Option<String>, Failure> {
    match reply.status {
        200..300 if reply.is_page() => Err(Failure::new(
            ErrorClass::UnknownOutcome,
            &format!("http_{}_html", reply.status),
            "a web page came back instead of an answer: is erp.url right, or is a gateway in between?",
            Stage::At,
        )),
        200..300 => Ok(number(reply)),
        _ => Err(refusal(reply)),
    }
}

/// What a status other than success means for the order.
///
/// 503 and 429 say that nothing was done. The other 5xx may stand for work half done, or for a
/// gateway that lost patience, so they leave the order in doubt (`Stage::At`): it is retried, but
/// asked about first. Redirects are never followed; they mean that the address is wrong.
fn refusal(reply: &Reply) -> Failure {
    let (class, stage) = match reply.status {
        401 | 403 => (ErrorClass::Unauthorized, Stage::After),
        408 | 425 | 429 | 503 => (ErrorClass::Unavailable, Stage::After),
        300..400 => (ErrorClass::Unavailable, Stage::After),
        400..500 => (ErrorClass::Rejected, Stage::After),
        _ => (ErrorClass::Unavailable, Stage::At),
    };
    let text = match (reply.status, reply.header("location")) {
        (300..400, Some(to)) => format!("the ERP redirects to {to}: put that address into erp.url"),
        _ => error_text(reply).unwrap_or_else(|| format!("HTTP status {}", reply.status)),
    };
    let mut failure = Failure::new(class, &format!("http_{}", reply.status), &text, stage);
    failure.retry_after = reply.retry_after();
    failure
}

/// `/error`, `/message` or `/detail`, or the message inside of one of them.
fn error_text(reply: &Reply) -> Option<String> {
    let json = reply.json()?;
    let found = ["/error", "/message", "/detail"].into_iter().find_map(|at| json.pointer(at))?;
    match found {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => match fields.get("message") {
            Some(Value::String(text)) => Some(text.clone()),
            _ => Some(found.to_string()),
        },
        other => Some(other.to_string()),
    }
}

/// `/erp_order_id`, else `/id`, else the last part of `Location`.
fn number(reply: &Reply) -> Option<String> {
    let json = reply.json();
    let value = json
        .as_ref()
        .and_then(|json| ["/erp_order_id", "/id"].into_iter().find_map(|at| json.pointer(at)));
    let text = match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => reply.header("location")?.trim_end_matches('/').rsplit('/').next()?.to_owned(),
    };
    let text = one_line(&text, MAX_NUMBER);
    (!text.is_empty()).then_some(text)
}
