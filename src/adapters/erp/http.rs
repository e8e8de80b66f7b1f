//! One HTTP request to an ERP, with the answer to "how far did it get?".
//!
//! Nothing here is retried and no redirect is followed: a request that may have been read is never
//! sent again by accident. Recipes decide what a reply means.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url, redirect};

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::text::one_line;

/// Most of a reply that is read, in bytes.
const MAX_REPLY_BYTES: usize = 1024 * 1024;
/// Idle connections are given up before common servers do it (Node.js: 5 s): a request on a
/// connection that is just being closed looks like an unclear outcome.
const IDLE: Duration = Duration::from_secs(4);

/// Time limits of one ERP.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To connect, TLS included.
    pub connect: Duration,
    /// For the whole request.
    pub total: Duration,
}

/// A client for one ERP.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Up to 1 MiB of the body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, if it is JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether this is a page for people: a gateway, a login, an error page.
    pub fn is_page(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains("html"))
    }

    /// `Retry-After` in seconds; dates are rare there and are not read (RFC 9110, 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }
}

impl HttpClient {
    /// A pooled client; trusts what the machine trusts.
    pub fn new(limits: Limits) -> Result<Self, String> {
        Client::builder()
            .user_agent(concat!("order-relay/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(limits.connect)
            .timeout(limits.total)
            .pool_idle_timeout(IDLE)
            .build()
            .map(|client| Self { client })
            .map_err(|error| one_line(&chain(&error), 300))
    }

    /// Sends one request. The failure says how far it got; `request` is how it is called in there.
    pub async fn call(
        &self,
        method: Method,
        url: Url,
        headers: &[(&'static str, String)],
        body: Option<Vec<u8>>,
    ) -> Result<Reply, Failure> {
        let name = name_of(&method, &url);
        let failed = |error: &reqwest::Error, stage| {
            let mut failure = classify(error, stage);
            failure.request = Some(name.clone());
            failure
        };
        let mut request = self.client.request(method, url).headers(header_map(headers)?);
        if let Some(body) = body {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(|error| failed(&error, Stage::At))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        // A body that is cut short counts as no answer (ERP.md 3.10).
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error, Stage::At))? {
            if body.len() + chunk.len() > MAX_REPLY_BYTES {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers, body })
    }
}

/// Method and address as they are shown: no user, no password, no query.
pub fn name_of(method: &Method, url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    // Both only fail for addresses that cannot have a user, which then have none.
    let (_, _) = (shown.set_username(""), shown.set_password(None));
    format!("{method} {shown}")
}

fn header_map(headers: &[(&'static str, String)]) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|_| {
            let message = format!("the header {name} cannot hold its value");
            Failure::new(ErrorClass::Internal, "header", &message, Stage::Before)
        })?;
        map.insert(HeaderName::from_static(name), value);
    }
    Ok(map)
}

/// A connection that never came about sent nothing; of anything later we cannot know.
fn classify(error: &reqwest::Error, stage: Stage) -> Failure {
    if error.is_builder() {
        return Failure::new(ErrorClass::Internal, "request", &chain(error), Stage::Before);
    }
    if error.is_connect() {
        let code = if error.is_timeout() { "connect_timeout" } else { "connect" };
        return Failure::new(ErrorClass::Unavailable, code, &chain(error), Stage::Before);
    }
    let code = if error.is_timeout() { "timeout" } else { "no_answer" };
    Failure::new(ErrorClass::UnknownOutcome, code, &chain(error), stage)
}

/// The causes of an error, outermost first, without addresses (they may hold secrets).
fn chain(error: &reqwest::Error) -> String {
    let mut parts = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        parts.push(cause.to_string());
        source = cause.source();
    }
    if parts.is_empty() { "the request failed".to_owned() } else { parts.join(": ") }
}
