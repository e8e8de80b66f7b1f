//! An HTTP server that answers as a test says, hangs, or closes, and keeps every request that it got.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::world::World;

/// What it does with one request.
#[derive(Debug, Clone)]
pub enum Turn {
    /// A status and further header lines.
    Answer(u16, String),
    /// Reads it and never answers.
    Hang,
    /// Reads it and closes the connection.
    Close,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

#[derive(Default)]
struct Kept {
    turns: VecDeque<Turn>,
    always: Option<Turn>,
    got: Vec<Request>,
}

/// The server.
#[derive(Clone)]
pub struct Receiver {
    pub address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Receiver {
    /// Takes everything until it is told otherwise.
    pub async fn start(tasks: &mut JoinSet<()>) -> Self {
        let (receiver, serving) = Self::bind().await;
        tasks.spawn(serving);
        receiver
    }

    /// The same for as long as a world is there.
    pub async fn beside(world: &mut World) -> Self {
        let (receiver, serving) = Self::bind().await;
        world.run_beside(serving);
        receiver
    }

    async fn bind() -> (Self, impl Future<Output = ()> + Send + 'static) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let receiver = Self { address, kept: Arc::default() };
        let served = receiver.clone();
        let serving = async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, served.clone()));
            }
        };
        (receiver, serving)
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook/s3cret-path?token=s3cret-token", self.address)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it does next, once.
    pub fn next(&self, turn: Turn) {
        self.kept().turns.push_back(turn);
    }

    /// What it does from now on.
    pub fn always(&self, turn: Turn) {
        self.kept().always = Some(turn);
    }

    pub fn answers(&self, status: u16) {
        self.always(Turn::Answer(status, String::new()));
    }

    pub fn requests(&self) -> Vec<Request> {
        self.kept().got.clone()
    }
}

async fn serve(mut stream: TcpStream, receiver: Receiver) {
    let mut bytes = Vec::new();
    let request = loop {
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
        if let Some(request) = parse(&bytes) {
            break request;
        }
    };
    let turn = {
        let mut kept = receiver.kept();
        kept.got.push(request);
        let next = kept.turns.pop_front().or_else(|| kept.always.clone());
        next.unwrap_or(Turn::Answer(200, String::new()))
    };
    match turn {
        Turn::Answer(status, headers) => {
            let body = "no s3cret-path here";
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} Told\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            // The other side may be gone.
            drop(stream.write_all(answer.as_bytes()).await);
        }
        Turn::Hang => std::future::pending().await,
        Turn::Close => {}
    }
}

/// A request, once all of it is there.
fn parse(bytes: &[u8]) -> Option<Request> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(Some(0), |(_, value)| value.parse().ok())?;
    let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
    Some(Request { line, headers, body })
}
