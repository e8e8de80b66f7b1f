//! `POST /api/v1/orders`: one order or NDJSON, for checkouts without AMQP and the embedded default.
//!
//! 202 is only answered once everything is durable. A refused order is answered with 422 and its
//! place, and also stored as a dead letter, so that a paid order cannot vanish at intake. Errors
//! are RFC 9457 problem documents.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::order::document::Order;
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::permission::Permission;
use crate::domain::trace::{TRACEPARENT, TRACESTATE, Trace};
use crate::ops::intake::Taken;
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ports::orders::OrderSource;
use crate::telemetry::ReasonLabel;
use crate::web::auth::session::ApiPrincipal;
use crate::web::problem::{More, Problem, RefusedLine};
use crate::web::state::Web;

/// Lines of one NDJSON request that are processed at the same time.
const IN_FLIGHT: usize = 200;
/// Refused lines that one answer lists.
const MAX_LISTED: usize = 1_000;

/// Reply to accepted orders.
#[derive(Serialize, JsonSchema)]
pub struct TakenIn {
    /// Orders that are new, durable now.
    accepted: usize,
    /// Orders that were known with the same content.
    duplicates: usize,
}

/// `POST /api/v1/orders`. The body is read only after the token was checked.
pub async fn post_orders(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = ApiPrincipal::from_request_parts(&mut parts, &web).await?;
    let person = caller.person;
    person.authorize_somewhere(Permission::Publish)?;
    let headers = parts.headers.clone();
    let request = Request::from_parts(parts, body);
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
        take_lines(&web, &person, &body, &trace).await
    } else {
        take_one(&web, &person, &body, &trace).await
    }
}

async fn take_one(
    web: &Web,
    person: &Principal,
    body: &[u8],
    trace: &Trace,
) -> Result<Response, Problem> {
    match take(web, person, body, trace).await.map_err(repeatable)? {
        Ok(taken) => Ok(taken_in(&[taken])),
        Err(fault) => {
            let (status, title) = match fault.reason {
                Reason::InvalidState => (StatusCode::CONFLICT, "Conflict"),
                _ => (StatusCode::UNPROCESSABLE_ENTITY, "Not an acceptable order"),
            };
            let problem = Problem::new(status, fault.reason.as_str(), title, fault.detail);
            Err(problem.with(More { place: fault.place, ..Default::default() }))
        }
    }
}

/// Every line is processed; if any is refused, the answer is 422 and lists them. Sending everything
/// again is safe: accepted orders are recognised.
async fn take_lines(
    web: &Web,
    person: &Principal,
    body: &Bytes,
    trace: &Trace,
) -> Result<Response, Problem> {
    let mut lines = Vec::new();
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if !line.trim_ascii().is_empty() {
            lines.push((index + 1, body.slice_ref(line.trim_ascii_end())));
        }
    }
    let mut results = stream::iter(lines)
        .map(|(number, line)| async move { (number, take(web, person, &line, trace).await) })
        .buffered(IN_FLIGHT);
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    while let Some((line, result)) = results.next().await {
        match result.map_err(repeatable)? {
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
        "{} of {} lines were refused; the others are accepted, and sending them again is safe.",
        refused.len(),
        refused.len() + taken.len()
    );
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let problem = Problem::new(status, "lines-refused", "Some orders are not acceptable", detail);
    refused.truncate(MAX_LISTED);
    Err(problem.with(More { refused, ..Default::default() }))
}

/// The problem of an order that could not be taken in now: whoever sends orders has to know that sending them
/// all once more doubles none.
fn repeatable(refusal: Refusal) -> Problem {
    let problem = Problem::from(refusal);
    if problem.status != StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        return problem;
    }
    let again = "send all of it again later; orders that were already accepted are recognised as duplicates";
    let detail = format!("{}: {again}", problem.detail);
    Problem { detail, ..problem }
}

async fn take(
    web: &Web,
    person: &Principal,
    body: &[u8],
    trace: &Trace,
) -> Result<Result<Taken, Fault>, Refusal> {
    let (ops, metrics) = (&web.ops, &web.metrics);
    let fault = match Order::parse(body, ops.intake()) {
        Ok(order) => {
            let key = order.key.clone();
            let taken = ops.accept(person, order, OrderSource::Api, trace).await?;
            match taken {
                Taken::Accepted => {
                    let shop = metrics.shop(key.shop.as_str());
                    metrics.orders_received.get_or_create(&shop).inc();
                }
                Taken::Duplicate | Taken::Conflict => drop(metrics.orders_duplicate.inc()),
                Taken::NumberTaken => {}
            }
            match taken {
                Taken::Conflict => {
                    let detail = format!(
                        "order {key} is known with different content, which stays; this one is stored beside it"
                    );
                    return Ok(Err(Fault::whole(Reason::InvalidState, detail)));
                }
                Taken::NumberTaken => Fault::number_taken(&key),
                taken => return Ok(Ok(taken)),
            }
        }
        Err(fault) => fault,
    };
    ops.keep_refused(person, "api", body, &fault).await?;
    metrics.dead_letters.get_or_create(&ReasonLabel::new(fault.reason.as_str())).inc();
    Ok(Err(fault))
}

fn taken_in(taken: &[Taken]) -> Response {
    let duplicates = taken.iter().filter(|taken| **taken == Taken::Duplicate).count();
    let body = TakenIn { accepted: taken.len() - duplicates, duplicates };
    (StatusCode::ACCEPTED, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::store_error::{SharedError, StoreError};

    #[test]
    fn who_sends_orders_is_told_that_sending_them_again_is_safe() {
        let gone = Arc::new(std::io::Error::other("connection refused"));
        let away = repeatable(StoreError::Unavailable(SharedError(gone)).into());
        assert_eq!(away.status, 503);
        assert!(away.detail.contains("again later"), "{}", away.detail);
        let forbidden =
            repeatable(Refusal::Forbidden { permission: Permission::Publish, shop: None });
        assert!(!forbidden.detail.contains("again"), "{}", forbidden.detail);
    }
}
