//! RFC 9457 problem documents: what every error of the API is.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::order::fault::Fault;
use crate::ops::refusal::Refusal;

/// RFC 9457.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Problem {
    /// A name for this kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// What some kinds have besides.
    #[serde(flatten)]
    pub more: Option<Box<More>>,
}

/// What some kinds of problem have besides.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct More {
    /// The place in the document, as a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Lines of NDJSON that were refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedLine>,
    /// Faults of a document, each at its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<PlacedFault>,
    /// Seconds after which to repeat it; also in the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// A fault of a document.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PlacedFault {
    /// The name of the reason.
    pub reason: String,
    /// The place, as a JSON pointer.
    pub place: Option<String>,
    /// What is wrong.
    pub detail: String,
}

/// A line of NDJSON that was refused.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RefusedLine {
    /// Its number, from 1.
    pub line: usize,
    /// The name of the reason.
    pub reason: String,
    /// The place in the line's document.
    pub place: Option<String>,
    /// What is wrong.
    pub detail: String,
}

impl More {
    fn of_faults(faults: &[Fault]) -> Self {
        let placed = faults.iter().map(|fault| PlacedFault {
            reason: fault.reason.as_str().to_owned(),
            place: fault.place.clone(),
            detail: fault.detail.clone(),
        });
        Self {
            place: faults.first().and_then(|fault| fault.place.clone()),
            faults: placed.collect(),
            ..Self::default()
        }
    }
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
            more: None,
        }
    }

    /// With what its kind has besides.
    pub fn with(mut self, more: More) -> Self {
        self.more = Some(Box::new(more));
        self
    }

    /// The request has no valid credentials.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed", detail)
    }

    /// The caller lacks the permission.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// The content cannot be accepted.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "unprocessable", "Not acceptable as it is", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.more.as_ref().and_then(|more| more.retry_after_s) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // A browser gets a page instead.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let kind = refusal.kind();
        let status = StatusCode::from_u16(kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            let cause = std::error::Error::source(&refusal).map(ToString::to_string);
            tracing::error!(error = %refusal, cause, "api.failed");
        }
        let problem = Self::new(status, kind.problem, kind.title, refusal.to_string());
        match &refusal {
            Refusal::Unprocessable(faults) => problem.with(More::of_faults(faults)),
            _ => problem,
        }
    }
}
