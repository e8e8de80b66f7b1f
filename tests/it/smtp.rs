//! A mail server that stores what it accepts, and can be configured to fail: real SMTP (RFC 5321)
//! with STARTTLS, TLS from the first byte and AUTH PLAIN, for one test each.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

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
    state: Arc<Mutex<(Mood, Vec<Received>)>>,
    security: Security,
}

impl MailServer {
    /// A server on a free port of this machine, serving under `tasks`.
    pub async fn start(tasks: &mut JoinSet<()>, security: Security) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let state = Arc::new(Mutex::new((Mood::Fine, Vec::new())));
        let server = Self { address, state, security };
        tasks.spawn(server.clone().serve(listener));
        server
    }

    /// Behaves like this from now on.
    pub fn set(&self, mood: Mood) {
        self.state.lock().expect("no test panics here").0 = mood;
    }

    fn mood(&self) -> Mood {
        self.state.lock().expect("no test panics here").0
    }

    /// Every mail that was accepted so far.
    pub fn mails(&self) -> Vec<Received> {
        self.state.lock().expect("no test panics here").1.clone()
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
            (Security::StartTls(..), true) => "250-test\r\n250 STARTTLS\r\n",
            (Security::StartTls(..), false) => "250-test\r\n250 AUTH PLAIN\r\n",
            _ => "250-test\r\n250 8BITMIME\r\n",
        };
        if greet {
            say(&mut socket, "220 test\r\n").await?;
        }
        let mut receivers = Vec::new();
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            let upper = line.to_ascii_uppercase();
            if self.mood() == Mood::Away {
                return Ok(None);
            }
            if upper.starts_with("EHLO") {
                say(&mut socket, offers).await?;
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
                say(&mut socket, "250 ok\r\n").await?;
            } else if upper.starts_with("RCPT TO") {
                receivers.push(line.split(['<', '>']).nth(1).unwrap_or_default().to_owned());
                say(&mut socket, "250 ok\r\n").await?;
            } else if upper == "DATA" {
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
        let received = Received { receivers: receivers.to_vec(), data };
        self.state.lock().expect("no test panics here").1.push(received);
        say(socket, "250 taken\r\n").await
    }
}

async fn say<S: AsyncWrite + Unpin>(socket: &mut S, text: &str) -> std::io::Result<()> {
    socket.write_all(text.as_bytes()).await?;
    socket.flush().await
}
