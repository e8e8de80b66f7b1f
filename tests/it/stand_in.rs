//! Stand-ins for ERPs, built from real answers (docs/erp-recipes.md says which answers were seen
//! where): a minimal HTTP server that can be silent, lose an answer, or send half of one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it is surprised")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A received request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path with its query.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or(Json::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The path without its query, decoded.
    pub fn path(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
    }

    /// A parameter of the query, decoded.
    pub fn query(&self, name: &str) -> String {
        let url = reqwest::Url::parse(&format!("http://x{}", self.target)).unwrap();
        let found = url.query_pairs().find(|(own, _)| own == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    }
}

/// What a stand-in says.
#[derive(Debug, Clone)]
pub struct Says {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Says {
    pub fn json(status: u16, body: &Json) -> Self {
        Self::text(status, "application/json", &body.to_string())
    }

    pub fn html(status: u16) -> Self {
        Self::text(status, "text/html", "<!doctype html><title>Not Found</title>")
    }

    pub fn text(status: u16, kind: &str, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Self { status, headers, body: body.to_owned() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What happens to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// The connection is cut instead.
    Lost,
    /// Half of it arrives.
    Half,
}

/// A stand-in's memory.
#[derive(Default)]
pub struct Books {
    /// References of the orders that were made, in order.
    pub orders: Vec<String>,
    /// State of each order by its index.
    pub states: Vec<String>,
    /// Everything that was asked.
    pub asked: Vec<Asked>,
    /// Sessions that were begun.
    pub logins: u32,
    /// What happens to the answer to the next commit; then they arrive again.
    pub next_commit: Option<Fate>,
    /// Whether the session is over.
    pub session_over: bool,
    /// How many of the next requests of a kind fail.
    pub failures: u32,
    /// What is said instead of the answer to the request with this number, from 1; half of it on request.
    pub wrong: Option<(usize, Says, Fate)>,
}

impl Books {
    /// Makes an order; its number from 1.
    pub fn make(&mut self, reference: &str) -> usize {
        self.orders.push(reference.to_owned());
        self.states.push("draft".to_owned());
        self.orders.len()
    }

    /// The number of the first order with this reference.
    pub fn find(&self, reference: &str) -> Option<usize> {
        self.orders.iter().position(|own| own == reference).map(|index| index + 1)
    }

    pub fn count(&self, reference: &str) -> usize {
        self.orders.iter().filter(|own| *own == reference).count()
    }
}

/// How a stand-in answers; says whether that was the commit.
pub type Behaviour = fn(&mut Books, &Asked) -> (Says, bool);

/// A stand-in that is running.
pub struct StandIn {
    pub url: String,
    pub books: Arc<Mutex<Books>>,
    _tasks: tokio::task::JoinSet<()>,
}

impl StandIn {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let books = Arc::new(Mutex::new(Books::default()));
        let own = books.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // One after the other is enough for what these tests ask.
                if let Err(error) = serve(socket, behaviour, &own).await {
                    eprintln!("stand-in: {error}");
                }
            }
        });
        Self { url, books, _tasks: tasks }
    }
}

/// Answers one request.
pub async fn serve(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    behaviour: Behaviour,
    books: &Mutex<Books>,
) -> std::io::Result<()> {
    let Some(asked) = read(&mut socket).await? else { return Ok(()) };
    let (says, fate) = {
        let mut books = books.lock().unwrap();
        books.asked.push(asked.clone());
        let (says, is_commit) = behaviour(&mut books, &asked);
        let fate = if is_commit { books.next_commit.take() } else { None };
        match &books.wrong {
            Some((number, Says { status: 0, .. }, fate)) if *number == books.asked.len() => {
                (says, *fate)
            }
            Some((number, wrong, fate)) if *number == books.asked.len() => (wrong.clone(), *fate),
            _ => (says, fate.unwrap_or(Fate::Arrives)),
        }
    };
    let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", says.status);
    if !matches!(says.status, 204 | 304) {
        text.push_str(&format!("Content-Length: {}\r\n", says.body.len()));
    }
    for (name, value) in &says.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    match fate {
        Fate::Lost => return Ok(()),
        Fate::Half => text.push_str(&says.body[..says.body.len() / 2]),
        Fate::Arrives => text.push_str(&says.body),
    }
    socket.write_all(text.as_bytes()).await?;
    socket.shutdown().await
}

async fn read(socket: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < head + 4 + length {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let body = String::from_utf8_lossy(&bytes[head + 4..head + 4 + length]).into_owned();
    Ok(Some(Asked { method, target, headers, body }))
}
