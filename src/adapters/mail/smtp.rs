//! Handing mails to an SMTP server, with a pool of connections.
//!
//! `smtp://` uses STARTTLS if it is offered, and requires it if there is a password and the server
//! is not on this machine; `smtps://` is TLS from the first byte; `?tls=required`,
//! `?tls=opportunistic` and `?tls=none` say so explicitly.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::address::AddressError;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::text::one_line;
use crate::ports::mail::{Mail, MailError, Mailer};

use super::templates::DEFAULT_AUDIENCE;

const CONNECTIONS: u32 = 4;
const IDLE: Duration = Duration::from_secs(30);

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Mail servers by audience.
pub struct Smtp {
    transports: BTreeMap<String, Transport>,
    patience: Duration,
}

impl Smtp {
    /// A transport for each audience that has a server; `patience` is for one mail.
    pub fn new(
        servers: &BTreeMap<String, SecretString>,
        patience: Duration,
    ) -> Result<Self, String> {
        let transports = servers
            .iter()
            .map(|(audience, url)| Ok((audience.clone(), transport(url, patience)?)))
            .collect::<Result<_, String>>()?;
        Ok(Self { transports, patience })
    }

    /// Whether the server of an audience answers.
    pub async fn test(&self, audience: &str) -> Result<(), String> {
        let Some(transport) = self.of(audience) else { return Ok(()) };
        match tokio::time::timeout(self.patience, transport.test_connection()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("the mail server closed the connection".to_owned()),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err(format!("no answer within {} ms", self.patience.as_millis())),
        }
    }

    fn of(&self, audience: &str) -> Option<&Transport> {
        self.transports.get(audience).or_else(|| self.transports.get(DEFAULT_AUDIENCE))
    }
}

/// Checks an address of a mail server without using it.
pub fn check_url(url: &SecretString) -> Result<(), String> {
    transport(url, Duration::ZERO).map(|_| ())
}

/// Checks that text is valid in From or To.
pub fn check_mailbox(text: &str) -> Result<(), String> {
    mailbox(text).map(|_| ()).map_err(|error| format!("`{}`: {error}", one_line(text, 80)))
}

fn transport(url: &SecretString, patience: Duration) -> Result<Transport, String> {
    let expected = "expected smtp://user:password@host:587 or smtps://host:465";
    let url = Url::parse(url.expose_secret()).map_err(|error| format!("{error}; {expected}"))?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(expected)?.to_owned();
    let wanted =
        url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value.into_owned());
    let is_local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    let parameters = || TlsParameters::new(host.clone()).map_err(|error| error.to_string());
    let has_password = url.password().is_some();
    if !url.username().is_empty() && !has_password {
        return Err(format!("it has a user but no password; {expected}"));
    }
    let (tls, port) = match (url.scheme(), wanted.as_deref()) {
        ("smtps", _) => (Tls::Wrapper(parameters()?), 465),
        ("smtp", Some("required")) => (Tls::Required(parameters()?), 587),
        ("smtp", Some("none")) => (Tls::None, 25),
        ("smtp", None) if has_password && !is_local => (Tls::Required(parameters()?), 587),
        ("smtp", None) if is_local => (Tls::None, 25),
        ("smtp", Some("opportunistic") | None) => (Tls::Opportunistic(parameters()?), 25),
        ("smtp", Some(other)) => {
            return Err(format!("tls={other} is not required, opportunistic or none"));
        }
        _ => return Err(expected.to_owned()),
    };
    let mut builder = Transport::builder_dangerous(&host)
        .port(url.port().unwrap_or(port))
        .tls(tls)
        .timeout(Some(patience))
        .pool_config(PoolConfig::new().max_size(CONNECTIONS).idle_timeout(IDLE));
    if let Some(password) = url.password() {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        builder = builder.credentials(Credentials::new(decode(url.username()), decode(password)));
    }
    Ok(builder.build())
}

#[async_trait]
impl Mailer for Smtp {
    async fn send(&self, audience: &str, mail: &Mail) -> Result<(), MailError> {
        let message = message(mail)?;
        let Some(transport) = self.of(audience) else {
            return Err(MailError::Later(
                "no mail server is set for this shop (mail.smtp_url)".into(),
            ));
        };
        match tokio::time::timeout(self.patience, transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_final(&error) => Err(MailError::Never(explain(&error))),
            Ok(Err(error)) => Err(MailError::Later(explain(&error))),
            Err(_) => Err(MailError::Later("the mail server did not answer in time".to_owned())),
        }
    }

    fn send_budget(&self) -> Duration {
        self.patience
    }
}

/// lettre writes every header from typed values: an address or a subject cannot begin a new one.
fn message(mail: &Mail) -> Result<Message, MailError> {
    let never = |what: &str, error: String| MailError::Never(format!("{what}: {error}"));
    let sender = mailbox(&mail.sender).map_err(|error| never("sender", error.to_string()))?;
    let mut builder = Message::builder()
        .from(sender)
        .subject(one_line(&mail.subject, 200))
        .message_id(Some(mail.message_id.clone()))
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .date(date());
    for receiver in &mail.receivers {
        let receiver = mailbox(receiver).map_err(|error| never("receiver", error.to_string()))?;
        builder = builder.to(receiver);
    }
    let part = |kind, body: &str| SinglePart::builder().header(kind).body(body.to_owned());
    let body = MultiPart::alternative()
        .singlepart(part(ContentType::TEXT_PLAIN, &mail.text))
        .singlepart(part(ContentType::TEXT_HTML, &mail.html));
    builder.multipart(body).map_err(|error| never("mail", error.to_string()))
}

fn mailbox(text: &str) -> Result<Mailbox, AddressError> {
    text.parse()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the moment of sending goes into the Date header only"
)]
fn date() -> SystemTime {
    SystemTime::now()
}

/// A refusal that no repetition changes. Refused logins (530 to 538) are ours to fix, not the
/// mail's fault (RFC 4954, 6).
fn is_final(error: &lettre::transport::smtp::Error) -> bool {
    let code = error.status().map(u16::from);
    error.is_permanent() && !code.is_some_and(|code| (530..=538).contains(&code))
}

/// The causes of an error in one line.
fn explain(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    one_line(&text, 300)
}
