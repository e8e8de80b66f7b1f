//! Sending messages over HTTP: one request, no redirect, no proxy, a time limit for all of it.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Client, Response, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::domain::channel::{Channel, ChannelTarget, ChannelType};
use crate::domain::retry_after::retry_after;
use crate::domain::text::one_line;
use crate::ports::channels::{ChannelError, ChannelSender, MessageContent};
use crate::ports::clock::Clock;

use super::addresses::{self, PublicOnly};
use super::answer::{Answer, judge, without_secrets};
use super::pagerduty::PAGERDUTY_URL;
use super::payload::WebhookPayload;
use super::{pagerduty, signature, slack, teams, template};

/// Most of an answer that is read, in bytes: it is only shown.
const MAX_ANSWER_BYTES: usize = 4 * 1024;
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Sends messages to channels of every type.
pub struct HttpChannels {
    /// Reaches the public internet only.
    public: Client,
    /// Reaches everything.
    anywhere: Client,
    clock: Arc<dyn Clock>,
}

impl HttpChannels {
    /// Nothing is connected yet.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, String> {
        let builder = || {
            Client::builder()
                .user_agent(concat!("order-relay/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .no_proxy()
                // A connection that is kept would skip the check of its address.
                .pool_max_idle_per_host(0)
        };
        let failed = |error: reqwest::Error| error.to_string();
        Ok(Self {
            public: builder().dns_resolver(PublicOnly).build().map_err(failed)?,
            anywhere: builder().build().map_err(failed)?,
            clock,
        })
    }

    async fn post(
        &self,
        target: &ChannelTarget,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<(), ChannelError> {
        let url = address(target).map_err(ChannelError::Never)?;
        let client = if target.allow_private { &self.anywhere } else { &self.public };
        let request = client.post(url).headers(headers).timeout(target.patience).body(body);
        let response = request.send().await.map_err(|error| unsent(&error, target))?;
        let answer = self.read(response).await;
        judge(&answer, target)
    }

    /// An answer whose body breaks off is an answer all the same: the status says what became of the message.
    async fn read(&self, mut response: Response) -> Answer {
        let status = response.status().as_u16();
        let header = |name: HeaderName| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (named, date) = (header(RETRY_AFTER), header(reqwest::header::DATE));
        let wait = retry_after(status, named.as_deref(), date.as_deref(), self.clock.now());
        let location = header(reqwest::header::LOCATION);
        let mut text = Vec::new();
        if !(200..300).contains(&status) {
            while let Ok(Some(chunk)) = response.chunk().await {
                text.extend_from_slice(&chunk);
                if text.len() >= MAX_ANSWER_BYTES {
                    text.truncate(MAX_ANSWER_BYTES);
                    break;
                }
            }
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        Answer { status, location, retry_after: wait, text }
    }

    fn webhook(
        &self,
        channel: &Channel,
        id: Uuid,
        content: &MessageContent,
    ) -> Result<(HeaderMap, Vec<u8>), ChannelError> {
        let target = &channel.target;
        let (kind, body) = match &target.body {
            None => (JSON, WebhookPayload::of(content).body()),
            Some(source) => {
                let body = template::render(source, id, content).map_err(ChannelError::Never)?;
                let kind = if template::is_json(&body) { JSON } else { TEXT };
                (kind, body.into_bytes())
            }
        };
        let (id, timestamp) = (message_id(id), self.clock.now().as_second());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let signed = signature::signatures(&target.secrets, &id, timestamp, &body);
        let own = [
            ("webhook-id", Some(id)),
            ("webhook-timestamp", Some(timestamp.to_string())),
            ("webhook-signature", signed),
        ];
        for (name, value) in own {
            let value = value.and_then(|value| HeaderValue::try_from(value).ok());
            headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
        }
        headers.extend(authorization(target.authorization.as_ref())?);
        Ok((headers, body))
    }
}

/// `webhook-id` of a message: the same for every attempt.
pub fn message_id(id: Uuid) -> String {
    format!("msg_{}", id.simple())
}

fn authorization(
    value: Option<&SecretString>,
) -> Result<Option<(HeaderName, HeaderValue)>, ChannelError> {
    let Some(value) = value else { return Ok(None) };
    let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| {
        ChannelError::Never("authorization: a header cannot hold this value".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(Some((AUTHORIZATION, value)))
}

/// The address of a channel, checked as far as that is possible without a connection. Errors hold no secret.
pub fn address(target: &ChannelTarget) -> Result<Url, String> {
    let text = match (target.channel_type, target.url.expose_secret()) {
        (ChannelType::Pagerduty, "") => PAGERDUTY_URL,
        (_, text) => text,
    };
    let url = Url::parse(text).map_err(|error| format!("url: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if target.allow_private => {}
        "http" => return Err("url: http:// is not encrypted: use https://, or set allow_private = true for an address in your own network".to_owned()),
        _ => return Err("url: expected https://…".to_owned()),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("url: it has no host".to_owned());
    }
    if !target.allow_private {
        addresses::check(&url).map_err(|error| format!("url: {error}"))?;
    }
    Ok(url)
}

/// Where a channel leads, without anything secret: only the host.
pub fn place(target: &ChannelTarget) -> String {
    let host = address(target).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.map_or_else(|| "?".to_owned(), |host| one_line(&host, 100))
}

/// Why there is no answer. The address stays out of it: it may be a secret.
fn unsent(error: &reqwest::Error, target: &ChannelTarget) -> ChannelError {
    if let Some(private) = addresses::in_causes(error) {
        return ChannelError::Never(format!("url: {private}"));
    }
    let error = match error.is_timeout() {
        true => format!("no answer within {} ms", target.patience.as_millis()),
        false => without_secrets(&causes(error), target),
    };
    ChannelError::Away { error, retry_after: None }
}

/// The causes of an error, outermost first.
fn causes(error: &reqwest::Error) -> String {
    let mut parts = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        parts.push(cause.to_string());
        source = cause.source();
    }
    if parts.is_empty() { "the request failed".to_owned() } else { parts.join(": ") }
}

#[async_trait]
impl ChannelSender for HttpChannels {
    async fn send(
        &self,
        channel: &Channel,
        id: Uuid,
        content: &MessageContent,
    ) -> Result<(), ChannelError> {
        let target = &channel.target;
        let json = || HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(JSON))]);
        let bytes = |value: &serde_json::Value| value.to_string().into_bytes();
        match target.channel_type {
            ChannelType::Webhook => {
                let (headers, body) = self.webhook(channel, id, content)?;
                self.post(target, headers, body).await
            }
            ChannelType::Slack => self.post(target, json(), bytes(&slack::body(content))).await,
            ChannelType::Teams => self.post(target, json(), bytes(&teams::body(content))).await,
            ChannelType::Pagerduty => {
                for body in pagerduty::bodies(id, content, target.key.as_ref()) {
                    self.post(target, json(), bytes(&body)).await?;
                }
                Ok(())
            }
        }
    }

    fn check(&self, channel: &Channel) -> Result<(), String> {
        address(&channel.target)?;
        match &channel.target.body {
            Some(source) => template::check(source, &template::sample()),
            None => Ok(()),
        }
    }

    fn place(&self, channel: &Channel) -> String {
        place(&channel.target)
    }
}
