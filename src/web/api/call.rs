//! One call of the API: the caller, the resource, the query, the document; and its answer.
//!
//! The permission is checked before the body is read. Input and output are types, and
//! [`crate::web::api::routes`] generates the OpenAPI document from the same types.

use crate::domain::order::values::OrderKey;
use crate::web::api::paths::OrderPath;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::permission::Permission;
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::web::auth::session::ApiPrincipal;
use crate::web::problem::{More, Problem};
use crate::web::state::Web;

/// A call with its parts.
pub struct Call<P, Q, B> {
    /// Who calls.
    pub person: Principal,
    /// Parts of the path.
    pub path: P,
    /// The query.
    pub query: Q,
    /// The document.
    pub body: B,
    /// The headers.
    pub headers: HeaderMap,
}

/// No parts, no query or no document.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<P, Q, B> Call<P, Q, B>
where
    P: DeserializeOwned + Send,
    Q: DeserializeOwned,
    B: DeserializeOwned,
{
    /// Reads a call by somebody who `needs` that permission in one shop at least.
    pub async fn read(web: &Web, needs: Permission, request: Request) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let ApiPrincipal { person } = ApiPrincipal::from_request_parts(&mut parts, web).await?;
        person.authorize_somewhere(needs)?;
        let path: Result<Path<P>, PathRejection> = Path::from_request_parts(&mut parts, web).await;
        let path = path.map(|Path(path)| path).map_err(|rejection| {
            Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", rejection.body_text())
        })?;
        let query = serde_html_form::from_str(parts.uri.query().unwrap_or_default())
            .map_err(|error| Problem::unprocessable(format!("query: {error}")))?;
        let headers = parts.headers.clone();
        let request = Request::from_parts(parts, body);
        let bytes = Bytes::from_request(request, &()).await.map_err(|rejection| {
            let detail = rejection.body_text();
            Problem::new(rejection.status(), "unreadable", "The request cannot be read", detail)
        })?;
        let body = document(&headers, &bytes)?;
        Ok(Self { person, path, query, body, headers })
    }
}

/// No body is the same as `{}`.
fn document<B: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<B, Problem> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?"));
    if kind.is_some_and(|kind| !kind.to_ascii_lowercase().contains("json")) && bytes != b"{}" {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let detail = "Send `Content-Type: application/json`.";
        return Err(Problem::new(status, "not-json", "Not JSON", detail));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let document = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        let problem = Problem::unprocessable(error.inner().to_string());
        problem.with(More { place: Some(place), ..Default::default() })
    })?;
    reader.end().map_err(|error| Problem::unprocessable(error.to_string()))?;
    Ok(document)
}

/// Marks an answer with a secret, which is never stored.
#[derive(Clone)]
pub struct ShownOnce;

/// An answer.
pub struct Reply<R> {
    status: StatusCode,
    shown_once: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: R,
}

impl<R> Reply<R> {
    /// 200.
    pub fn ok(body: R) -> Self {
        Self { status: StatusCode::OK, shown_once: false, headers: Vec::new(), body }
    }

    /// With another status.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With a secret: the answer is not stored for repeated requests.
    pub fn shown_once(mut self) -> Self {
        self.shown_once = true;
        self
    }

    /// With a header.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

impl<R: Serialize> IntoResponse for Reply<R> {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body)).into_response();
        response.headers_mut().extend(self.headers);
        if self.shown_once {
            response.extensions_mut().insert(ShownOnce);
        }
        response
    }
}

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Items<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// The cursor of the next page, for `after`; `null`: this is the last.
    pub next: Option<String>,
}

impl<T> Items<T> {
    /// Everything on one page.
    pub fn all(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// The reason of an action.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// Stored with the change.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub reason: Option<String>,
}

/// The reason of an action that needs one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeededWhy {
    /// Stored with the change.
    #[schemars(length(min = 1, max = 500), regex(pattern = r"\S"))]
    reason: String,
}

impl NeededWhy {
    /// The reason, not empty.
    pub fn reason(&self) -> Result<&str, Problem> {
        needed(Some(&self.reason))
    }
}

/// A reason that is required and not empty.
pub fn needed(reason: Option<&str>) -> Result<&str, Problem> {
    let given = reason.map(str::trim).filter(|reason| !reason.is_empty());
    given.ok_or_else(|| Problem::unprocessable("reason: enter a reason"))
}

/// Done, with nothing to report.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Done {
    /// What was done.
    pub done: &'static str,
}

/// The ETag of a revision.
pub fn etag(revision: u32) -> String {
    format!("\"r{revision}\"")
}

/// A page's size.
pub fn limit(asked: Option<u32>, usual: u32) -> Result<u32, Problem> {
    match asked {
        Some(limit) if !(1..=1_000).contains(&limit) => {
            Err(Problem::unprocessable("limit: expected 1 to 1000"))
        }
        limit => Ok(limit.unwrap_or(usual)),
    }
}

/// The order of a path.
pub fn find<Q, B>(call: &Call<OrderPath, Q, B>) -> Result<OrderKey, Problem> {
    let OrderPath { shop, order_id } = &call.path;
    let missing = || Refusal::not_found("order", format!("{shop}/{order_id}"));
    Ok(OrderKey::new(shop, order_id).map_err(|_| missing())?)
}
