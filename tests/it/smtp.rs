//! A mail server that stores what it accepts, and can be configured to fail: real SMTP (RFC 5321)
//! with STARTTLS, TLS from the first byte and AUTH PLAIN, for one test each; and with any answer at any command,
//! for all receivers or for one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use mail_parser::{Message, MessageParser};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Takes every mail.
    Fine,
    /// Closes every connection.
    Away,
    /// Answers 451 to every mail: try again later.
    Busy,
    /// Answers 550 to every mail: never.
    Refuses,
}

/// The command of a session at which a [`Rule`] applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Greeting,
    MailFrom,
    RcptTo,
    Data,
    Content,
}

/// What the server does instead of accepting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This line.
    Says(&'static str),
    /// Nothing, ever.
    Hangs,
    /// Closes the connection.
    Closes,
    /// Accepts after that many milliseconds.
    IsSlow(u64),
}

/// An answer at a command; from RCPT TO on it may be for one receiver alone.
#[derive(Debug, Clone)]
pub struct Rule {
    pub stage: Stage,
    pub receiver: Option<String>,
    pub answer: Answer,
}

/// The protocol of the server.
#[derive(Clone)]
pub enum Security {
    /// Plain, no password.
    None,
    /// STARTTLS and this user and password.
    StartTls(TlsAcceptor, &'static str, &'static str),
    /// TLS from the first byte.
    Wrapped(TlsAcceptor),
}

/// A mail that was accepted.
#[derive(Debug, Clone)]
pub struct Received {
    /// RCPT TO.
    pub receivers: Vec<String>,
    /// The bytes after DATA.
    pub data: Vec<u8>,
}

impl Received {
    /// The mail, parsed.
    pub fn mail(&self) -> Message<'_> {
        MessageParser::default().parse(&self.data).expect("a mail of ours can be parsed")
    }

    /// Subject.
    pub fn subject(&self) -> String {
        self.mail().subject().unwrap_or_default().to_owned()
    }

    /// The value of a header as it was sent.
    pub fn header(&self, name: &str) -> String {
        let text = String::from_utf8_lossy(&self.data);
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_default().to_owned()
    }

    /// The attached file, or nothing.
    pub fn attachment(&self) -> String {
        let mail = self.mail();
        let attached = mail.attachments().next();
        attached.and_then(|part| part.text_contents()).unwrap_or_default().to_owned()
    }

    /// The text part.
    pub fn text(&self) -> String {
        self.mail().body_text(0).unwrap_or_default().into_owned()
    }

    /// The HTML part.
    pub fn html(&self) -> String {
        self.mail().body_html(0).unwrap_or_default().into_owned()
    }

    /// Message-ID.
    pub fn id(&self) -> String {
        self.mail().message_id().unwrap_or_default().to_owned()
    }
}

/// The server.
#[derive(Clone)]
pub struct MailServer {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    security: Security,
}

struct State {
    mood: Mood,
    received: Vec<Received>,
    rules: Vec<Rule>,
    /// Lines of the answer to EHLO.
    extensions: &'static [&'static str],
    /// Largest mail; a larger one is refused with 552 after its last byte.
    max_bytes: usize,
}

impl MailServer {
    /// A server on a free port of this machine, serving under `tasks`.
    pub async fn start(tasks: &mut JoinSet<()>, security: Security) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let state = State {
            mood: Mood::Fine,
            received: Vec::new(),
            rules: Vec::new(),
            extensions: &["8BITMIME", "SMTPUTF8"],
            max_bytes: usize::MAX,
        };
        let server = Self { address, state: Arc::new(Mutex::new(state)), security };
        tasks.spawn(server.clone().serve(listener));
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics here")
    }

    /// Behaves like this from now on.
    pub fn set(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// Answers by these rules from now on; the first that applies counts.
    pub fn rules(&self, rules: Vec<Rule>) {
        self.state().rules = rules;
    }

    /// Offers these extensions from now on.
    pub fn offers(&self, extensions: &'static [&'static str]) {
        self.state().extensions = extensions;
    }

    /// Takes no larger mails from now on.
    pub fn takes_at_most(&self, bytes: usize) {
        self.state().max_bytes = bytes;
    }

    fn mood(&self) -> Mood {
        self.state().mood
    }

    /// Every mail that was accepted so far.
    pub fn mails(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// Follows the rule for this command; `false`: the command is not to be accepted any more.
    async fn obey<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut BufStream<S>,
        stage: Stage,
        receivers: &[String],
    ) -> std::io::Result<bool> {
        let applies = |rule: &&Rule| {
            rule.stage == stage
                && rule.receiver.as_ref().is_none_or(|receiver| receivers.contains(receiver))
        };
        let answer = self.state().rules.iter().find(applies).map(|rule| rule.answer);
        match answer {
            None => Ok(true),
            Some(Answer::IsSlow(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(true)
            }
            Some(Answer::Says(line)) => say(socket, &format!("{line}\r\n")).await.map(|()| false),
            Some(Answer::Hangs) => std::future::pending().await,
            Some(Answer::Closes) => Err(std::io::ErrorKind::ConnectionAborted.into()),
        }
    }

    async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            if self.mood() == Mood::Away {
                continue;
            }
            let server = self.clone();
            connections.spawn(async move {
                // An error is a client that closed the connection.
                drop(server.talk(socket).await);
            });
        }
    }

    async fn talk(&self, socket: TcpStream) -> std::io::Result<()> {
        match &self.security {
            Security::None => self.session(BufStream::new(socket), true, true).await.map(|_| ()),
            Security::Wrapped(tls) => {
                let socket = tls.accept(socket).await?;
                self.session(BufStream::new(socket), true, true).await.map(|_| ())
            }
            Security::StartTls(tls, ..) => {
                match self.session(BufStream::new(socket), true, false).await? {
                    Some(socket) => {
                        let socket = tls.accept(socket.into_inner()).await?;
                        self.session(BufStream::new(socket), false, false).await.map(|_| ())
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// One SMTP session; hands the socket back when the client asks for TLS. `authenticated` is
    /// whether mail is taken without AUTH.
    async fn session<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut socket: BufStream<S>,
        greet: bool,
        mut authenticated: bool,
    ) -> std::io::Result<Option<BufStream<S>>> {
        let offers = match (&self.security, greet) {
            (Security::StartTls(..), true) => "250-test\r\n250 STARTTLS\r\n".to_owned(),
            (Security::StartTls(..), false) => "250-test\r\n250 AUTH PLAIN\r\n".to_owned(),
            _ => {
                let extensions = self.state().extensions.iter();
                let lines: String = extensions.map(|name| format!("250-{name}\r\n")).collect();
                format!("250-test\r\n{lines}250 HELP\r\n")
            }
        };
        if greet {
            if !self.obey(&mut socket, Stage::Greeting, &[]).await? {
                return Ok(None);
            }
            say(&mut socket, "220 test\r\n").await?;
        }
        let mut receivers = Vec::new();
        let mut utf8 = false;
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            let upper = line.to_ascii_uppercase();
            let greets_otherwise =
                self.state().rules.iter().any(|rule| rule.stage == Stage::Greeting);
            if self.mood() == Mood::Away || greets_otherwise {
                // As after a restart: an old session does not spare the client the greeting.
                return Ok(None);
            }
            if upper.starts_with("EHLO") {
                say(&mut socket, &offers).await?;
            } else if upper == "STARTTLS" {
                say(&mut socket, "220 go\r\n").await?;
                return Ok(Some(socket));
            } else if let Some(proof) = line.strip_prefix("AUTH PLAIN ") {
                authenticated = self.is_right(proof);
                let answer = if authenticated { "235 ok\r\n" } else { "535 wrong\r\n" };
                say(&mut socket, answer).await?;
            } else if upper.starts_with("MAIL FROM") && !authenticated {
                say(&mut socket, "530 authenticate first\r\n").await?;
            } else if upper.starts_with("MAIL FROM") {
                receivers.clear();
                utf8 = upper.contains("SMTPUTF8");
                if self.obey(&mut socket, Stage::MailFrom, &receivers).await? {
                    say(&mut socket, "250 ok\r\n").await?;
                }
            } else if upper.starts_with("RCPT TO") && !line.is_ascii() && !utf8 {
                say(&mut socket, "501 5.5.2 no SMTPUTF8 was asked for\r\n").await?;
            } else if upper.starts_with("RCPT TO") {
                let receiver = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                if self.obey(&mut socket, Stage::RcptTo, std::slice::from_ref(&receiver)).await? {
                    receivers.push(receiver);
                    say(&mut socket, "250 ok\r\n").await?;
                }
            } else if upper == "DATA" {
                if !self.obey(&mut socket, Stage::Data, &receivers).await? {
                    continue;
                }
                match self.mood() {
                    Mood::Busy => say(&mut socket, "451 later\r\n").await?,
                    Mood::Refuses => say(&mut socket, "550 never\r\n").await?,
                    _ => self.take(&mut socket, &receivers).await?,
                }
            } else if upper == "QUIT" {
                say(&mut socket, "221 bye\r\n").await?;
                return Ok(None);
            } else {
                say(&mut socket, "250 ok\r\n").await?;
            }
        }
    }

    fn is_right(&self, proof: &str) -> bool {
        let Security::StartTls(_, user, password) = &self.security else { return true };
        let decoded = base64::engine::general_purpose::STANDARD.decode(proof).unwrap_or_default();
        decoded == format!("\0{user}\0{password}").into_bytes()
    }

    async fn take<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut BufStream<S>,
        receivers: &[String],
    ) -> std::io::Result<()> {
        say(socket, "354 go\r\n").await?;
        let mut data = Vec::new();
        while !data.ends_with(b"\r\n.\r\n") {
            if socket.read_until(b'\n', &mut data).await? == 0 {
                return Ok(());
            }
        }
        data.truncate(data.len() - 3);
        if data.len() > self.state().max_bytes {
            return say(socket, "552 5.3.4 message too big for system\r\n").await;
        }
        if !self.obey(socket, Stage::Content, receivers).await? {
            return Ok(());
        }
        let received = Received { receivers: receivers.to_vec(), data };
        self.state().received.push(received);
        say(socket, "250 taken\r\n").await
    }
}

async fn say<S: AsyncWrite + Unpin>(socket: &mut S, text: &str) -> std::io::Result<()> {
    socket.write_all(text.as_bytes()).await?;
    socket.flush().await
}
