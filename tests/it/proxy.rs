//! A proxy between us and a server that can fail: cut, frozen, deaf in one direction, or down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to bytes on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// They pass.
    Open,
    /// Answers of the server are dropped; it receives everything.
    Mute,
    /// They wait, in both directions.
    Frozen,
    /// New connections are closed.
    Down,
}

/// The line.
pub struct Proxy {
    address: SocketAddr,
    url: String,
    line: watch::Sender<Line>,
    cuts: watch::Sender<u32>,
    counts: Arc<Counts>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    refused: AtomicUsize,
    swallowed: AtomicUsize,
}

impl Proxy {
    /// A line to the server at `url`.
    pub async fn start(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let (line, cuts) = (watch::Sender::new(Line::Open), watch::Sender::new(0));
        let counts = Arc::<Counts>::default();
        let mut task = JoinSet::new();
        let (server, _) = place(url);
        let (open, cut) = (line.subscribe(), cuts.subscribe());
        task.spawn(accept(listener, server.to_owned(), open, cut, counts.clone()));
        Self { address, url: url.to_owned(), line, cuts, counts, _task: task }
    }

    /// The address of the server through the line.
    pub fn url(&self) -> String {
        let (server, _) = place(&self.url);
        self.url.replace(server, &self.address.to_string())
    }

    /// Changes what happens to bytes from now on.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Ends every connection there is.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections that were not.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Acquire)
    }

    /// Connections that were closed.
    pub fn refused(&self) -> usize {
        self.counts.refused.load(Ordering::Acquire)
    }

    /// Dropped bytes of the server.
    pub fn swallowed(&self) -> usize {
        self.counts.swallowed.load(Ordering::Acquire)
    }
}

/// `host:port` of an address, and what follows.
fn place(url: &str) -> (&str, &str) {
    let (_, rest) = url.split_once('@').expect("an address with user and password");
    rest.split_once('/').unwrap_or((rest, ""))
}

async fn accept(
    listener: TcpListener,
    server: String,
    line: watch::Receiver<Line>,
    cut: watch::Receiver<u32>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.expect("it listens");
        if *line.borrow() == Line::Down {
            counts.refused.fetch_add(1, Ordering::AcqRel);
            continue;
        }
        counts.accepted.fetch_add(1, Ordering::AcqRel);
        if let Ok(server) = TcpStream::connect(&server).await {
            let (line, mut cut) = (line.clone(), cut.clone());
            cut.mark_unchanged();
            connections.spawn(join(client, server, line, cut, counts.clone()));
        }
    }
}

async fn join(
    client: TcpStream,
    server: TcpStream,
    line: watch::Receiver<Line>,
    mut cut: watch::Receiver<u32>,
    counts: Arc<Counts>,
) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, line.clone(), None) => {}
        () = pump(from_server, to_client, line, Some(&counts.swallowed)) => {}
        _ = cut.changed() => {}
    }
}

/// Carries bytes one way; what is swallowed on it is counted, if it ever is.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    swallowed: Option<&AtomicUsize>,
) {
    let mut buffer = vec![0; 16_384];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let Ok(line) = line.wait_for(|line| *line != Line::Frozen).await.map(|line| *line) else {
            return;
        };
        match swallowed {
            Some(swallowed) if line == Line::Mute => {
                swallowed.fetch_add(length, Ordering::AcqRel);
            }
            _ => {
                if to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
