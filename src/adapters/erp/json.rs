//! The recipe `json` of docs/erp.md: an ERP, or a small adapter in front of one, that uses plain
//! JSON.
//!
//! `POST {erp.url}` with the order document, `GET {erp.url}/{order_id}` to ask. What each reply means
//! is decided here; a reply that does not clearly say "no" leaves the outcome open.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bigdecimal::{BigDecimal, Zero};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::order::values::{Decimal, OrderKey};
use crate::domain::text::{MAX_ERROR_CHARS, one_line, path_segment};
use crate::domain::total::{Amount, TotalDifference};
use crate::ports::clock::{Clock, Stopwatch};
use crate::ports::erp::{Erp, Exchange, OrderForErp, ProbeAnswer, Receipt};

use super::http::{HttpClient, Limits, Reach, Reply, header_map, name_of, shown};
use super::json_reply::{Answered, Submitted, answered, error_text, submitted, told_total};
use super::redact::{HIDDEN, Mask};

/// A number that no order has: asked for to see whether the ERP answers us at all.
const NOBODY: &str = "order-relay-check";

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
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("erp.url is not an address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("erp.url must begin with http:// or https://".to_owned());
        }
        let http = HttpClient::new(&Reach::direct(limits), clock)?;
        // The order, and a question about it where its refusal may not be believed.
        let budget = (limits.connect + limits.total) * 2;
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
        let trace = [("traceparent", &order.trace.parent), ("tracestate", &order.trace.state)];
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
        let answer = match answered(&reply, &order.key) {
            Answered::Found(number) => {
                let found = receipt(Some(number), request, reply.status, true);
                ProbeAnswer::Found(Receipt { taken: told_total(&reply), ..found })
            }
            Answered::Absent => ProbeAnswer::Absent,
            Answered::Unclear(failure) => {
                ProbeAnswer::Unclear(Failure { request: Some(request), ..failure })
            }
        };
        let meaning = match &answer {
            ProbeAnswer::Found(_) => "found",
            ProbeAnswer::Absent => "absent",
            ProbeAnswer::Unclear(_) => "unclear",
        };
        if self.keeps != Keep::Nothing || order.journal.has_all() {
            let noted = self.noted(order, &Method::GET, &url, None);
            order
                .journal
                .note(Exchange { question: true, ..self.answered(noted, &reply, meaning, watch) });
        }
        Ok(answer)
    }

    /// A refusal that may mean "exists already" is believed when the ERP does not have the order.
    async fn settle_refusal(
        &self,
        order: &OrderForErp,
        refusal: Failure,
    ) -> Result<Receipt, Failure> {
        match self.ask(order).await {
            ProbeAnswer::Found(receipt) => self.finish(order, receipt).await,
            ProbeAnswer::Absent => Err(refusal),
            ProbeAnswer::Unclear(answer) => {
                let detail = format!(
                    "refused ({}), and whether the ERP has it is unclear: {}",
                    refusal.message, answer.message
                );
                let class = ErrorClass::UnknownOutcome;
                let message = one_line(&detail, MAX_ERROR_CHARS);
                Err(Failure { class, stage: Some(Stage::At), message, ..refusal })
            }
        }
    }

    /// A 403 is about this order when the ERP answers a question about an order that nobody has.
    async fn who_is_forbidden(&self, order: &OrderForErp, failure: Failure) -> Failure {
        let Ok(key) = OrderKey::new(order.key.shop.as_str(), NOBODY) else { return failure };
        match self.ask(&OrderForErp { key, ..order.clone() }).await {
            ProbeAnswer::Found(_) | ProbeAnswer::Absent => failure,
            ProbeAnswer::Unclear(answer) if answer.class == ErrorClass::Unauthorized => {
                Failure { class: ErrorClass::Unauthorized, ..failure }
            }
            ProbeAnswer::Unclear(_) => Failure { class: ErrorClass::Unavailable, ..failure },
        }
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
        Exchange {
            status: Some(reply.status),
            stage: Stage::After,
            meaning: meaning.to_owned(),
            message: error_text(reply)
                .map(|text| one_line(&self.mask.hide_in(&text), MAX_ERROR_CHARS)),
            reply: self.mask.clean(&reply.text),
            duration_ms: watch.elapsed_ms(),
            ..noted
        }
    }
}

fn meaning(meant: &Submitted) -> &'static str {
    match meant {
        Submitted::Accepted(_) => "ok",
        Submitted::Forbidden(_) => "forbidden",
        Submitted::Failed(failure) | Submitted::Doubted(failure) => failure.class.as_str(),
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
        order.permit.begin().await?;
        let watch = Stopwatch::start();
        let reply = self.http.call(Method::POST, self.url.clone(), headers, Some(body)).await?;
        let meant = submitted(&reply, &self.url);
        // A clean success and a request that got no answer have nothing to show beyond the attempt.
        let is_clean = matches!(meant, Submitted::Accepted(_));
        let is_kept = self.keeps == Keep::All || (self.keeps == Keep::Auto && !is_clean);
        if is_kept || order.journal.has_all() {
            let noted = self.noted(order, &Method::POST, &self.url, Some(&order.document));
            order.journal.note(self.answered(noted, &reply, meaning(&meant), watch));
        }
        let named = |failure| Failure { request: Some(request.clone()), ..failure };
        match meant {
            Submitted::Accepted(number) => {
                let accepted = receipt(number, request.clone(), reply.status, false);
                compare_total(order, Receipt { taken: told_total(&reply), ..accepted })
            }
            Submitted::Failed(failure) => Err(named(failure)),
            Submitted::Doubted(refusal) => self.settle_refusal(order, named(refusal)).await,
            Submitted::Forbidden(failure) => {
                Err(self.who_is_forbidden(order, named(failure)).await)
            }
        }
    }

    async fn ask(&self, order: &OrderForErp) -> ProbeAnswer {
        self.look(order).await.unwrap_or_else(|failure| ProbeAnswer::Unclear(as_question(failure)))
    }

    async fn finish(&self, order: &OrderForErp, receipt: Receipt) -> Result<Receipt, Failure> {
        compare_total(order, receipt)
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

/// What was paid, out of a document.
#[derive(Deserialize)]
struct Paid {
    total: Decimal,
    currency: String,
}

/// Fails if the ERP told another sum than what was paid, or than what a person has accepted. Most ERPs tell none.
fn compare_total(order: &OrderForErp, receipt: Receipt) -> Result<Receipt, Failure> {
    let text = |name: &str| match receipt.taken.get(name)? {
        Value::String(text) => Some(text.trim().to_owned()),
        other => Some(other.to_string()),
    };
    let Some(amount) = text("total") else { return Ok(receipt) };
    let found = Amount { amount, currency: text("currency") };
    let Ok(Paid { total, currency }) = serde_json::from_str(&order.document) else {
        return Ok(receipt);
    };
    let paid = Amount { amount: total.to_string(), currency: Some(currency) };
    if found.is_right(&paid, order.accepted.as_ref(), &BigDecimal::zero()) == Some(true) {
        return Ok(receipt);
    }
    let erp_order_id = receipt.erp_order_id.clone();
    let difference = TotalDifference { paid, found, erp_order_id, lines: Vec::new() }.cleaned();
    let request = Some(receipt.request);
    Err(Failure { request, status: Some(receipt.status), ..Failure::total_differs(difference) })
}

/// A question changes nothing, so its failure is never an unclear outcome of its own.
fn as_question(failure: Failure) -> Failure {
    let class = match failure.class {
        ErrorClass::Unauthorized => ErrorClass::Unauthorized,
        _ => ErrorClass::Unavailable,
    };
    Failure { class, ..failure }
}
