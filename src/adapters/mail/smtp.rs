//! Handing mails to an SMTP server, one receiver at a time.
//!
//! `smtp://` uses STARTTLS if it is offered, and requires it if there is a password and the server
//! is not on this machine; `smtps://` is TLS from the first byte; `?tls=required`,
//! `?tls=opportunistic` and `?tls=none` say so explicitly.
//!
//! The commands are sent one by one, not by lettre's transport: its errors do not say at which
//! command they came, and a 450 at RCPT is about one receiver, while one at the greeting is about the server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::address::AddressError;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Tls, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::{Address, Message};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use crate::domain::text::one_line;
use crate::ports::clock::Stopwatch;
use crate::ports::mail::{Mail, MailError, Mailer};

use super::templates::DEFAULT_AUDIENCE;

/// Connections that are kept for the next mail.
const MAX_IDLE: usize = 4;
/// A server may end a connection that is idle for longer.
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);
const NO_UTF8: &str = "the mail server does not offer SMTPUTF8 (RFC 6531): it cannot take an address with letters \
    outside ASCII before the @";
/// How long the answer to QUIT is waited for.
const QUIT_PATIENCE: Duration = Duration::from_secs(1);

/// Mail servers by audience.
pub struct Smtp {
    servers: BTreeMap<String, Server>,
    patience: Duration,
}

impl Smtp {
    /// A connection for each audience that has a server; `patience` is for one mail to one receiver.
    pub fn new(
        servers: &BTreeMap<String, SecretString>,
        patience: Duration,
    ) -> Result<Self, String> {
        let servers = servers
            .iter()
            .map(|(audience, url)| Ok((audience.clone(), Server::new(url)?)))
            .collect::<Result<_, String>>()?;
        Ok(Self { servers, patience })
    }

    /// Whether the server of an audience answers.
    pub async fn test(&self, audience: &str) -> Result<(), String> {
        let Some(server) = self.of(audience) else { return Ok(()) };
        match timeout(self.patience, server.connect()).await {
            Ok(Ok(mut connection)) => {
                // The answer to QUIT does not matter.
                drop(timeout(QUIT_PATIENCE, connection.abort()).await);
                Ok(())
            }
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err(format!("no answer within {} ms", self.patience.as_millis())),
        }
    }

    fn of(&self, audience: &str) -> Option<&Server> {
        self.servers.get(audience).or_else(|| self.servers.get(DEFAULT_AUDIENCE))
    }
}

/// Checks an address of a mail server without using it.
pub fn check_url(url: &SecretString) -> Result<(), String> {
    Server::new(url).map(|_| ())
}

/// Checks that text is valid in From or To.
pub fn check_mailbox(text: &str) -> Result<(), String> {
    mailbox(text).map(|_| ()).map_err(|error| format!("`{}`: {error}", one_line(text, 80)))
}

/// One mail server.
struct Server {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    /// Connections that wait for the next mail, and since when.
    idle: Mutex<Vec<(AsyncSmtpConnection, Stopwatch)>>,
}

impl Server {
    fn new(url: &SecretString) -> Result<Self, String> {
        let expected = "expected smtp://user:password@host:587 or smtps://host:465";
        let url =
            Url::parse(url.expose_secret()).map_err(|error| format!("{error}; {expected}"))?;
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
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials =
            url.password().map(|word| Credentials::new(decode(url.username()), decode(word)));
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port().unwrap_or(port);
        Ok(Self { host, port, tls, credentials, idle: Mutex::default() })
    }

    /// A connection that is ready for a mail: one that waits, or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, Error> {
        while let Some((mut connection, since)) = self.take_idle() {
            if since.elapsed() < MAX_IDLE_TIME && connection.test_connected().await {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    fn take_idle(&self) -> Option<(AsyncSmtpConnection, Stopwatch)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push((connection, Stopwatch::start()));
        }
    }

    /// Connects, encrypts and logs in.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let hello = ClientId::default();
        let wrapper = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let place = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(place, None, &hello, wrapper, None).await?;
        match &self.tls {
            Tls::Required(parameters) => connection.starttls(parameters.clone(), &hello).await?,
            Tls::Opportunistic(parameters) if connection.can_starttls() => {
                connection.starttls(parameters.clone(), &hello).await?;
            }
            _ => {}
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

#[async_trait]
impl Mailer for Smtp {
    async fn send(&self, audience: &str, mail: &Mail, receiver: &str) -> Result<(), MailError> {
        let outbound = OutboundMail::new(mail, receiver).map_err(MailError::Never)?;
        let Some(server) = self.of(audience) else {
            return Err(away("no mail server is set for this shop (mail.smtp_url)".to_owned()));
        };
        let watch = Stopwatch::start();
        let mut connection = match timeout(self.patience, server.connection()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(away(explain(&error))),
            Err(_) => return Err(away("the mail server did not answer in time".to_owned())),
        };
        if outbound.needs_utf8
            && !connection.server_info().supports_feature(Extension::SmtpUtfEight)
        {
            server.keep(connection);
            return Err(MailError::Never(NO_UTF8.to_owned()));
        }
        let mut command = Command::MailFrom;
        let rest = self.patience.saturating_sub(watch.elapsed());
        match timeout(rest, outbound.send(&mut connection, &mut command)).await {
            Ok(Ok(())) => {
                server.keep(connection);
                Ok(())
            }
            Ok(Err(error)) => {
                // It did not take this mail; the answer to QUIT does not matter.
                drop(timeout(QUIT_PATIENCE, connection.abort()).await);
                Err(meaning(command, &error))
            }
            Err(_) => Err(MailError::Later(format!(
                "{}: the mail server did not answer in time",
                command.name()
            ))),
        }
    }

    fn send_budget(&self) -> Duration {
        self.patience
    }
}

/// The command that is under way.
#[derive(Debug, Clone, Copy)]
enum Command {
    MailFrom,
    RcptTo,
    Data,
    Content,
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Self::MailFrom => "MAIL FROM",
            Self::RcptTo => "RCPT TO",
            Self::Data => "DATA",
            Self::Content => "the mail itself",
        }
    }
}

/// A mail as it goes to one receiver.
struct OutboundMail {
    from: Address,
    to: Address,
    /// Whether an address has letters outside ASCII before its @ (RFC 6531).
    needs_utf8: bool,
    bytes: Vec<u8>,
}

impl OutboundMail {
    fn new(mail: &Mail, receiver: &str) -> Result<Self, String> {
        let sender = mailbox(&mail.sender).map_err(|error| format!("sender: {error}"))?;
        let receiver = mailbox(receiver).map_err(|error| format!("receiver: {error}"))?;
        let (from, to) = (sender.email.clone(), receiver.email.clone());
        let needs_utf8 = [&from, &to].iter().any(|address| !address.user().is_ascii());
        let bytes = message(mail, sender, receiver)?.formatted();
        Ok(Self { from, to, needs_utf8, bytes })
    }

    async fn send(
        &self,
        connection: &mut AsyncSmtpConnection,
        command: &mut Command,
    ) -> Result<(), Error> {
        let options = match self.needs_utf8 {
            true => vec![MailParameter::SmtpUtfEight],
            false => Vec::new(),
        };
        connection.command(MailFrom::new(Some(self.from.clone()), options)).await?;
        *command = Command::RcptTo;
        connection.command(Rcpt::new(self.to.clone(), Vec::new())).await?;
        *command = Command::Data;
        connection.command(Data).await?;
        *command = Command::Content;
        connection.message(&self.bytes).await.map(drop)
    }
}

fn away(error: String) -> MailError {
    MailError::ServerAway { of_server: error.clone(), error }
}

/// What an error at `command` says about the mail, its receiver, or the server. 421 ends the service at any command
/// (RFC 5321, 3.8). 530 to 538 refuse the login, which is ours to fix (RFC 4954, 6). A connection that
/// breaks or is closed is tried again for this receiver alone: the next connection shows whether the server is away.
fn meaning(command: Command, error: &Error) -> MailError {
    let code = error.status().map(u16::from);
    let text = format!("{}: {}", command.name(), explain(error));
    match code {
        Some(code @ (421 | 530..=538)) => MailError::ServerAway {
            error: text,
            of_server: format!("the mail server answered {code} to {}", command.name()),
        },
        // A full mailbox has the same code (RFC 3463, X.2.2); the mail itself is not too large then.
        Some(552) if !matches!(command, Command::RcptTo) && !text.contains("5.2.2") => {
            MailError::TooLarge(text)
        }
        _ if error.is_permanent() => MailError::Never(text),
        _ => MailError::Later(text),
    }
}

/// lettre writes every header from typed values: an address or a subject cannot begin a new one. Each receiver sees
/// only its own address.
fn message(mail: &Mail, sender: Mailbox, receiver: Mailbox) -> Result<Message, String> {
    let part = |kind, body: &str| SinglePart::builder().header(kind).body(body.to_owned());
    let mut body = MultiPart::alternative()
        .singlepart(part(ContentType::TEXT_PLAIN, &mail.text))
        .singlepart(part(ContentType::TEXT_HTML, &mail.html));
    if let Some(list) = &mail.attachment {
        let kind = ContentType::parse("text/csv; charset=utf-8");
        let kind = kind.map_err(|error| format!("attachment: {error}"))?;
        let list = Attachment::new("failures.csv".to_owned()).body(list.clone(), kind);
        body = MultiPart::mixed().multipart(body).singlepart(list);
    }
    let mut message = Message::builder();
    if let Some(root) = &mail.in_reply_to {
        message = message.in_reply_to(root.clone()).references(root.clone());
    }
    if let Some(list) = &mail.list_id {
        message = message.raw_header(header("List-Id", list.clone()));
    }
    message
        .from(sender)
        .to(receiver)
        .subject(one_line(&mail.subject, 200))
        .message_id(Some(mail.message_id.clone()))
        .raw_header(header("Auto-Submitted", "auto-generated".to_owned()))
        .date(date())
        .multipart(body)
        .map_err(|error| format!("mail: {error}"))
}

fn header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// A mail as it goes to this receiver.
pub fn as_sent(mail: &Mail, receiver: &str) -> Result<Vec<u8>, String> {
    OutboundMail::new(mail, receiver).map(|outbound| outbound.bytes)
}

/// A domain with letters outside ASCII becomes A-labels (RFC 5891), which every server takes.
fn mailbox(text: &str) -> Result<Mailbox, String> {
    let bad = |error: AddressError| error.to_string();
    let Mailbox { name, email } = text.parse::<Mailbox>().map_err(bad)?;
    if email.domain().is_ascii() {
        return Ok(Mailbox { name, email });
    }
    let domain = idna::domain_to_ascii(email.domain()).map_err(|error| error.to_string())?;
    Ok(Mailbox { name, email: Address::new(email.user(), domain).map_err(bad)? })
}

#[allow(
    clippy::disallowed_methods,
    reason = "the moment of sending goes into the Date header only"
)]
fn date() -> SystemTime {
    SystemTime::now()
}

/// The causes of an error in one line.
fn explain(error: &Error) -> String {
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
