//! One HTTP request to an ERP, with the answer to "how far did it get?".
//!
//! Nothing here is retried and no redirect is followed: a request that may have been read is never
//! sent again by accident. Recipes decide what a reply means.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Identity, Method, Proxy, Url, redirect};

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::text::one_line;
use crate::ports::clock::Clock;

use super::decode::{self, Undecodable};
use super::waiting;

/// Most of a reply that is read unless a recipe says otherwise, in bytes: packed, and unpacked.
pub const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;
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

/// How one ERP is reached, besides its address.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Time limits.
    pub limits: Limits,
    /// Most of a reply that is read, in bytes.
    pub max_reply: usize,
    /// Certificates of authorities to trust besides the machine's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A proxy.
    pub proxy: Option<String>,
}

impl Reach {
    /// Directly, trusting what the machine trusts.
    pub fn direct(limits: Limits) -> Self {
        let max_reply = MAX_REPLY_BYTES;
        Self { limits, max_reply, ca_file: None, identity: None, proxy: None }
    }
}

/// A client for one ERP.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    max_reply: usize,
    clock: Arc<dyn Clock>,
}

/// What came back, unpacked and decoded.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
    /// How long the ERP wants us to wait.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<String> {
        Some(String::from_utf8_lossy(self.headers.get(name)?.as_bytes()).into_owned())
    }
}

impl HttpClient {
    /// A pooled client.
    pub fn new(reach: &Reach, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let failed = |error: reqwest::Error| one_line(&chain(&error), 300);
        let mut builder = Client::builder()
            .user_agent(concat!("order-relay/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(
                ACCEPT_ENCODING,
                HeaderValue::from_static(decode::ACCEPTED),
            )]))
            .redirect(redirect::Policy::none())
            .connect_timeout(reach.limits.connect)
            .timeout(reach.limits.total)
            .pool_idle_timeout(IDLE)
            .no_proxy();
        if let Some(path) = &reach.ca_file {
            let bundle = Certificate::from_pem_bundle(&read(path)?);
            let bundle =
                bundle.map_err(|error| format!("{}: {}", path.display(), failed(error)))?;
            builder = builder.tls_certs_merge(bundle);
        }
        if let Some((cert, key)) = &reach.identity {
            let mut pem = read(cert)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let identity = Identity::from_pem(&pem);
            let place = cert.display();
            builder = builder.identity(identity.map_err(|e| format!("{place}: {}", failed(e)))?);
        }
        if let Some(proxy) = &reach.proxy {
            let proxy = Proxy::all(proxy).map_err(|error| format!("proxy: {}", failed(error)))?;
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(failed)?;
        Ok(Self { client, max_reply: reach.max_reply, clock })
    }

    /// Sends one request. The failure says how far it got, and what the request is called.
    pub async fn call(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Vec<u8>>,
    ) -> Result<Reply, Failure> {
        let name = name_of(&method, &url);
        let failed = |error: &reqwest::Error, stage| {
            let mut failure = classify(error, stage);
            failure.request = Some(name.clone());
            failure
        };
        let mut request = self.client.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(|error| failed(&error, Stage::At))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let unreadable = |why: &Undecodable| {
            let code = match why {
                Undecodable::TooLong(_) => "reply_too_long",
                Undecodable::Broken(_) => "reply_unreadable",
            };
            let detail = format!("HTTP status {status}, but {why}: what it says is not known");
            let failure = Failure::new(ErrorClass::UnknownOutcome, code, &detail, Stage::At);
            Failure { request: Some(name.clone()), status: Some(status), ..failure }
        };
        let mut body = Vec::new();
        // A body that is cut short counts as no answer (docs/facts/erps.md 3.10), and so does one without end.
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error, Stage::At))? {
            if body.len() + chunk.len() > self.max_reply {
                return Err(unreadable(&Undecodable::TooLong(self.max_reply)));
            }
            body.extend_from_slice(&chunk);
        }
        let of = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let text = decode::text(body, of("content-encoding"), of("content-type"), self.max_reply);
        let text = text.map_err(|why| unreadable(&why))?;
        let retry_after = waiting::retry_after(status, &headers, self.clock.now());
        Ok(Reply { status, headers, text, retry_after })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Method and address as they are shown: no user, no password, no query.
pub fn name_of(method: &Method, url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    format!("{method} {}", shown(&url))
}

/// An address without user and password.
pub fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Both only fail for addresses that cannot have a user, which then have none.
    let (_, _) = (shown.set_username(""), shown.set_password(None));
    shown.to_string()
}

/// Headers of these names and values.
pub fn header_map<'a>(
    headers: impl IntoIterator<Item = (HeaderName, &'a str)>,
) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            let message = format!("the header {name} cannot hold its value");
            Failure::new(ErrorClass::Internal, "header", &message, Stage::Before)
        })?;
        map.insert(name, value);
    }
    Ok(map)
}

/// Without a connection nothing was sent; about anything later we cannot know.
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
