//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a repeated request with the same
//! key gets the first answer again and nothing is done twice.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::domain::permission::Permission;
use crate::ports::people::{KeptAnswer, KeyClaim, RequestKey};
use crate::web::api::call::ShownOnce;
use crate::web::auth::session::ApiPrincipal;
use crate::web::problem::{More, Problem};
use crate::web::state::{MAX_REQUEST, Web};

const HEADER: &str = "idempotency-key";
const MAX_KEY: usize = 255;
/// Headers that are part of an answer.
const KEPT: [&str; 5] = ["content-type", "location", "etag", "retry-after", "www-authenticate"];
/// After how many seconds to repeat it while the first request is in progress.
const LOOK_AGAIN: u64 = 2;

/// What each operation needs, by method and route.
pub type Needs = Arc<HashMap<(Method, String), Permission>>;

/// The layer.
pub async fn idempotent(
    State((web, needs)): State<(Web, Needs)>,
    request: Request,
    next: Next,
) -> Response {
    let changes = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if !changes || !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    run_once(&web, &needs, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn run_once(
    web: &Web,
    needs: &Needs,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let name = key_name(&parts)?;
    let caller = ApiPrincipal::from_request_parts(&mut parts, web).await?;
    // Whoever may not do it leaves nothing behind.
    let route = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned());
    if let Some(needed) = route.and_then(|route| needs.get(&(parts.method.clone(), route))) {
        caller.person.authorize_somewhere(*needed)?;
    }
    let body = to_bytes(body, MAX_REQUEST).await.map_err(|error| {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Problem::new(status, "unreadable", "The request cannot be read", error.to_string())
    })?;
    let actor = caller.person.name.clone();
    let key = RequestKey { actor, name, digest: digest(&parts, &body) };
    parts.extensions.insert(caller);
    match web.ops.claim_key(&key).await? {
        KeyClaim::Answered(answer) => Ok(again(answer)),
        KeyClaim::Running => {
            let detail = "The first request with this Idempotency-Key is still in progress.";
            let status = StatusCode::CONFLICT;
            let problem = Problem::new(status, "idempotency-running", "Not done yet", detail);
            Err(problem.with(More { retry_after_s: Some(LOOK_AGAIN), ..Default::default() }))
        }
        KeyClaim::Other => Err(Problem::unprocessable(
            "This Idempotency-Key belongs to another request; use a new one for each request.",
        )),
        KeyClaim::New => {
            let response = next.run(Request::from_parts(parts, Body::from(body))).await;
            keep(web, &key, response).await
        }
    }
}

/// The key as it is, or in quotes as the draft writes it.
fn key_name(parts: &Parts) -> Result<String, Problem> {
    let text = parts.headers.get(HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let plain = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if (1..=MAX_KEY).contains(&plain.len()) && plain.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(plain.to_owned());
    }
    Err(Problem::unprocessable(format!(
        "An Idempotency-Key is 1 to {MAX_KEY} visible characters without spaces."
    )))
}

fn digest(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let header = |name| parts.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    let pieces = [
        parts.method.as_str().as_bytes(),
        path.as_bytes(),
        header("content-type"),
        header("if-match"),
    ];
    for piece in pieces.into_iter().chain([body]) {
        digest.update(piece.len().to_be_bytes());
        digest.update(piece);
    }
    digest.finalize().into()
}

/// Stores an answer that is final and contains no secret. After a failure on our side or a
/// temporary refusal, the same key can be used again.
async fn keep(web: &Web, key: &RequestKey, response: Response) -> Result<Response, Problem> {
    let (parts, body) = response.into_parts();
    let is_final = !parts.status.is_server_error()
        && !matches!(
            parts.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        )
        && parts.extensions.get::<ShownOnce>().is_none();
    let body: Bytes = to_bytes(body, MAX_REQUEST).await.map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "unreadable",
            "No answer",
            error.to_string(),
        )
    })?;
    let answer = KeptAnswer {
        status: parts.status.as_u16(),
        headers: KEPT
            .iter()
            .filter_map(|name| {
                let value = parts.headers.get(*name)?.to_str().ok()?;
                Some(((*name).to_owned(), value.to_owned()))
            })
            .collect(),
        body: body.to_vec(),
    };
    let kept = web.ops.settle_key(key, is_final.then_some(&answer)).await;
    if let Err(error) = kept {
        // It was done; the ledger answers a repeated request.
        tracing::warn!(%error, "api.answer_not_kept");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn again(answer: KeptAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}
