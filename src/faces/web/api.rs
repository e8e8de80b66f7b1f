//! `POST /api/v1/orders`: one order or NDJSON, for checkouts without AMQP and the embedded default.
//!
//! 202 is only answered once everything is durable. What is refused is answered with 422 and its
//! place, and kept as a dead letter as well, so that a paid order cannot vanish at the door. Errors
//! are RFC 9457 problem documents.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Serialize;

use crate::domain::message::{TRACEPARENT, TRACESTATE};
use crate::domain::order::{Fault, Order, Reason};
use crate::ops::intake::Taken;
use crate::ops::orders::{Ops, Refusal};
use crate::ops::tokens::Denied;
use crate::ports::letters::Trace;
use crate::ports::store::Source;
use crate::telemetry::ReasonLabel;

use super::router::Web;

/// Lines of one NDJSON request worked on at a time.
const IN_FLIGHT: usize = 200;
/// Refused lines that one answer lists.
const MAX_LISTED: usize = 1_000;

/// Answer to orders that were taken in.
#[derive(Serialize)]
struct TakenIn {
    accepted: usize,
    duplicates: usize,
}

/// RFC 9457.
#[derive(Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusedLine>,
}

#[derive(Serialize)]
struct RefusedLine {
    line: usize,
    reason: String,
    place: Option<String>,
    detail: String,
}

impl Problem {
    /// A problem without further parts; `kind` is the end of its type.
    pub fn new(
        status: StatusCode,
        kind: &str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind: format!("urn:order-relay:problem:{kind}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            place: None,
            refused: Vec::new(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let kind = header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(what) => {
                Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", what)
            }
            invalid @ Refusal::Invalid { .. } => Self::new(
                StatusCode::CONFLICT,
                "invalid-state",
                "invalid_state",
                invalid.to_string(),
            ),
            Refusal::Value(fault) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-value",
                "A value cannot be used",
                fault.to_string(),
            ),
            forbidden @ Refusal::Forbidden { .. } => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", forbidden.to_string())
            }
            other => {
                let cause = std::error::Error::source(&other).map(ToString::to_string);
                tracing::error!(error = %other, cause, "api.unavailable");
                let detail = "Send all of it again later; what was taken in already is known and not doubled.";
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "Not available now",
                    detail,
                )
            }
        }
    }
}

/// Lets a request pass whose bearer token allows `scope`.
pub async fn authorize(ops: &Ops, headers: &HeaderMap, scope: &str) -> Result<(), Problem> {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    let unauthorized = |detail: &str| {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed", detail)
    };
    let Some(token) = token else {
        return Err(unauthorized(
            "Send `Authorization: Bearer TOKEN`; make one with `order-relay tokens create`.",
        ));
    };
    match ops.authorize(token, scope).await? {
        Ok(_) => Ok(()),
        Err(Denied::Unknown) => {
            Err(unauthorized("This token is not known, has expired or was revoked."))
        }
        Err(Denied::Scope) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The token does not allow this",
            format!("This needs a token with {scope}."),
        )),
    }
}

/// `POST /api/v1/orders`. The body is read only once the token is known to be good.
pub async fn post_orders(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    authorize(&web.ops, &headers, "orders:publish").await?;
    let body = Bytes::from_request(request, &()).await.map_err(|rejection| {
        let detail = rejection.body_text();
        Problem::new(rejection.status(), "unreadable", "The request cannot be read", detail)
    })?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let trace = Trace {
        parent: text(TRACEPARENT).filter(|value| Trace::is_good(value)),
        state: text(TRACESTATE).filter(|value| Trace::is_good(value)),
    };
    let is_ndjson = text("content-type").is_some_and(|kind| {
        let kind = kind.to_ascii_lowercase();
        kind.contains("ndjson") || kind.contains("jsonl") || kind.contains("json-seq")
    });
    if is_ndjson {
        take_lines(&web, &body, &trace).await
    } else {
        take_one(&web, &body, &trace).await
    }
}

async fn take_one(web: &Web, body: &[u8], trace: &Trace) -> Result<Response, Problem> {
    match take(web, body, trace).await? {
        Ok(taken) => Ok(taken_in(&[taken])),
        Err(fault) => {
            let (status, title) = match fault.reason {
                Reason::InvalidState => (StatusCode::CONFLICT, "Conflict"),
                _ => (StatusCode::UNPROCESSABLE_ENTITY, "Not an acceptable order"),
            };
            let mut problem = Problem::new(status, fault.reason.as_str(), title, fault.detail);
            problem.place = fault.place;
            Err(problem)
        }
    }
}

/// Every line is tried; when any is refused the answer is 422 and says which. Sending everything
/// again is safe: what was taken in is known.
async fn take_lines(web: &Web, body: &Bytes, trace: &Trace) -> Result<Response, Problem> {
    let mut lines = Vec::new();
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if !line.trim_ascii().is_empty() {
            lines.push((index + 1, body.slice_ref(line.trim_ascii_end())));
        }
    }
    let mut results = stream::iter(lines)
        .map(|(number, line)| async move { (number, take(web, &line, trace).await) })
        .buffered(IN_FLIGHT);
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    while let Some((line, result)) = results.next().await {
        match result? {
            Ok(one) => taken.push(one),
            Err(fault) => refused.push(RefusedLine {
                line,
                reason: fault.reason.as_str().to_owned(),
                place: fault.place,
                detail: fault.detail,
            }),
        }
    }
    if refused.is_empty() {
        return Ok(taken_in(&taken));
    }
    let detail = format!(
        "{} of {} lines were refused; the others are taken in, and sending them again is safe.",
        refused.len(),
        refused.len() + taken.len()
    );
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let mut problem =
        Problem::new(status, "lines-refused", "Some orders are not acceptable", detail);
    refused.truncate(MAX_LISTED);
    problem.refused = refused;
    Err(problem)
}

async fn take(web: &Web, body: &[u8], trace: &Trace) -> Result<Result<Taken, Fault>, Refusal> {
    let (ops, metrics) = (&web.ops, &web.metrics);
    let fault = match Order::parse(body, ops.max_bytes) {
        Ok(order) => {
            let key = order.key.clone();
            let taken = ops.accept(order, Source::Api, trace).await?;
            match taken {
                Taken::Accepted => {
                    let shop = metrics.shop(key.shop.as_str());
                    metrics.orders_received.get_or_create(&shop).inc();
                }
                Taken::Duplicate | Taken::Conflict => drop(metrics.orders_duplicate.inc()),
            }
            match taken {
                Taken::Conflict => {
                    let detail = format!(
                        "order {key} is known with another content, which stays; this one is kept beside it"
                    );
                    return Ok(Err(Fault::whole(Reason::InvalidState, detail)));
                }
                taken => return Ok(Ok(taken)),
            }
        }
        Err(fault) => fault,
    };
    ops.keep_refused("api", body, &fault).await?;
    metrics.dead_letters.get_or_create(&ReasonLabel::new(fault.reason.as_str())).inc();
    Ok(Err(fault))
}

fn taken_in(taken: &[Taken]) -> Response {
    let duplicates = taken.iter().filter(|taken| **taken == Taken::Duplicate).count();
    let body = TakenIn { accepted: taken.len() - duplicates, duplicates };
    (StatusCode::ACCEPTED, axum::Json(body)).into_response()
}
