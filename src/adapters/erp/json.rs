//! The recipe `json` of docs/erp.md: an ERP, or a small adapter in front of one, that uses plain
//! JSON.
//!
//! `POST {erp.url}` with the order document, `GET {erp.url}/{order_id}` to ask. What each reply means
//! is decided here; a reply that does not clearly say "no" leaves the outcome open.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::text::{MAX_ERROR_CHARS, one_line, path_segment};
use crate::ports::clock::Stopwatch;
use crate::ports::erp::{Erp, Exchange, OrderForErp, ProbeAnswer, Receipt};

use super::http::{HttpClient, Limits, Reach, Reply, header_map, name_of, shown};
use super::redact::{HIDDEN, Mask};

/// Longest number of an ERP that is stored, in characters.
const MAX_NUMBER: usize = 200;

/// An ERP that uses plain JSON.
pub struct JsonErp {
    http: HttpClient,
    url: Url,
    authorization: Option<SecretString>,
    budget: Duration,
    keeps: Keep,
    mask: Mask,
}

/// Which exchanges are noted (`erp.exchanges`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    Nothing,
    /// Questions, and replies that were no success.
    #[default]
    Auto,
    All,
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
        let http = HttpClient::new(&Reach::direct(limits))?;
        let budget = limits.connect + limits.total;
        Ok(Self { http, url, authorization, budget, keeps: Keep::default(), mask: Mask::default() })
    }

    /// The same, noting these exchanges with these fields hidden.
    pub fn noting(mut self, keeps: Keep, redact: &[String]) -> Self {
        let secret = self.authorization.as_ref().map(ExposeSecret::expose_secret);
        self.mask = Mask::new(secret, redact);
        Self { keeps, ..self }
    }

    fn headers(
        &self,
        order: &OrderForErp,
        more: &[(HeaderName, &str)],
    ) -> Result<HeaderMap, Failure> {
        let mut headers = vec![(ACCEPT, "application/json")];
        headers.extend_from_slice(more);
        if let Some(authorization) = &self.authorization {
            headers.push((AUTHORIZATION, authorization.expose_secret()));
        }
        let trace = [("traceparent", &order.traceparent), ("tracestate", &order.tracestate)];
        for (name, value) in trace {
            let value = value.as_deref().map(|value| (HeaderName::from_static(name), value));
            headers.extend(value);
        }
        header_map(headers)
    }

    fn order_url(&self, order: &OrderForErp) -> Url {
        let mut url = self.url.clone();
        let id = path_segment(order.key.order_id.as_str());
        url.set_path(&format!("{}/{id}", self.url.path().trim_end_matches('/')));
        url
    }

    async fn look(&self, order: &OrderForErp) -> Result<ProbeAnswer, Failure> {
        let url = self.order_url(order);
        let request = name_of(&Method::GET, &url);
        let watch = Stopwatch::start();
        // The address names only the number: an adapter that serves several shops needs the key.
        let key = order.key.to_string();
        let more = [(HeaderName::from_static("idempotency-key"), key.as_str())];
        let headers = self.headers(order, &more)?;
        let reply = self.http.call(Method::GET, url.clone(), headers, None).await?;
        let answer = match reply.status {
            200 if !reply.is_page() => {
                let request = request.clone();
                ProbeAnswer::Found(receipt(number(&reply), request, reply.status, true))
            }
            404 if reply.json().is_some() => ProbeAnswer::Absent,
            status => {
                let failure = as_question(refusal(&reply));
                ProbeAnswer::Unclear(Failure {
                    request: Some(request.clone()),
                    status: Some(status),
                    ..failure
                })
            }
        };
        let meaning = match &answer {
            ProbeAnswer::Found(_) => "found",
            ProbeAnswer::Absent => "absent",
            ProbeAnswer::Unclear(_) => "unclear",
        };
        if self.keeps != Keep::Nothing {
            let noted = self.noted(order, &Method::GET, &url, None);
            order
                .journal
                .note(Exchange { question: true, ..self.answered(noted, &reply, meaning, watch) });
        }
        Ok(answer)
    }

    /// What is noted of a request.
    fn noted(
        &self,
        order: &OrderForErp,
        method: &Method,
        url: &Url,
        body: Option<&str>,
    ) -> Exchange {
        let mut headers = vec![format!("accept: application/json")];
        headers.push(format!("idempotency-key: {}", order.key));
        if body.is_some() {
            headers.push("content-type: application/json".to_owned());
        }
        if self.authorization.is_some() {
            headers.push(format!("authorization: {HIDDEN}"));
        }
        Exchange {
            step: if body.is_some() { "submit" } else { "ask" }.to_owned(),
            question: body.is_none(),
            method: method.to_string(),
            url: shown(url),
            request_headers: headers.join("\n"),
            request_body: body.map(|body| self.mask.clean(body)).unwrap_or_default(),
            status: None,
            stage: Stage::Before,
            meaning: "not sent".to_owned(),
            message: None,
            reply: String::new(),
            duration_ms: 0,
        }
    }

    fn answered(
        &self,
        noted: Exchange,
        reply: &Reply,
        meaning: &str,
        watch: Stopwatch,
    ) -> Exchange {
        let text = String::from_utf8_lossy(&reply.body);
        Exchange {
            status: Some(reply.status),
            stage: Stage::After,
            meaning: meaning.to_owned(),
            message: error_text(reply)
                .map(|text| one_line(&self.mask.hide_in(&text), MAX_ERROR_CHARS)),
            reply: self.mask.clean(&text),
            duration_ms: watch.elapsed_ms(),
            ..noted
        }
    }
}

fn receipt(erp_order_id: Option<String>, request: String, status: u16, found: bool) -> Receipt {
    Receipt { erp_order_id, request, status, found, taken: serde_json::Map::new() }
}

#[async_trait]
impl Erp for JsonErp {
    async fn submit(&self, order: &OrderForErp) -> Result<Receipt, Failure> {
        let key = order.key.to_string();
        let idempotency = HeaderName::from_static("idempotency-key");
        let more = [(CONTENT_TYPE, "application/json"), (idempotency, key.as_str())];
        let headers = self.headers(order, &more)?;
        let body = order.document.as_bytes().to_vec();
        let request = name_of(&Method::POST, &self.url);
        let watch = Stopwatch::start();
        let reply = self.http.call(Method::POST, self.url.clone(), headers, Some(body)).await?;
        let submitted = read_submitted(&reply);
        // A clean success and a request that got no answer have nothing to show beyond the attempt.
        if self.keeps == Keep::All || (self.keeps == Keep::Auto && submitted.is_err()) {
            let noted = self.noted(order, &Method::POST, &self.url, Some(&order.document));
            let meaning = match &submitted {
                Ok(_) => "ok",
                Err(failure) => failure.class.as_str(),
            };
            order.journal.note(self.answered(noted, &reply, meaning, watch));
        }
        match submitted {
            Ok(number) => Ok(receipt(number, request, reply.status, false)),
            Err(failure) => {
                Err(Failure { request: Some(request), status: Some(reply.status), ..failure })
            }
        }
    }

    async fn ask(&self, order: &OrderForErp) -> ProbeAnswer {
        self.look(order).await.unwrap_or_else(|failure| ProbeAnswer::Unclear(as_question(failure)))
    }

    fn rehearse(&self, order: &OrderForErp) -> Result<Vec<Exchange>, Failure> {
        let submit = self.noted(order, &Method::POST, &self.url, Some(&order.document));
        Ok(vec![submit, self.noted(order, &Method::GET, &self.order_url(order), None)])
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
            "the reply is a web page and not an answer: check erp.url, or is there a gateway in between?",
            Stage::At,
        )),
        200..300 => Ok(number(reply)),
        _ => Err(refusal(reply)),
    }
}

/// What a status other than success means for the order.
///
/// 503 and 429 say that nothing was done. The other 5xx may mean work half done, or a gateway that
/// timed out, so they leave the order in doubt (`Stage::At`): it is retried, but asked about first.
/// Redirects are never followed; they mean that the address is wrong.
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
