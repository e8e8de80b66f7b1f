//! Connections to RabbitMQ, and reconnecting.
//!
//! lapin's own recovery is off: it loses messages and stalls silently (docs/facts/rabbitmq.md 4).
//! On any error a session is discarded as a whole and built again here, with `backoff`. This is the
//! only file that may name that crate (docs/decisions).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use secrecy::{ExposeSecret, SecretString};

use crate::domain::text::one_line;
use crate::ports::broker::BrokerError;

/// Nothing on a connection may take longer (docs/facts/rabbitmq.md 3: a blocked one hangs even in `close`).
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Seconds; a lost peer is noticed after two of them.
const HEARTBEAT_S: u16 = 10;
const HEARTBEAT_OF_SEVERAL_S: u16 = 2;
/// How long one of several nodes may take to accept a connection.
const PATIENCE_OF_SEVERAL: Duration = Duration::from_secs(3);
/// Bytes; lapin allocates 64 of them per connection (docs/facts/rabbitmq.md 3).
const FRAME_MAX: u32 = 16_384;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Where the broker is and how we name ourselves there.
#[derive(Debug, Clone)]
pub struct Address {
    /// The nodes of one cluster, at least one.
    nodes: Vec<AMQPUri>,
    /// The node to begin with, one by chance at first, so that the processes of a fleet spread over them.
    next: Arc<AtomicUsize>,
    /// Shown in the management pages.
    client: String,
}

impl Address {
    /// The nodes at `urls`, `amqp://` or `amqps://`, each with user and password.
    pub fn parse(urls: &[SecretString], client: String) -> Result<Self, String> {
        let mut nodes = urls.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        // A frozen node is noticed after two heartbeats; with others beside it, that has to be soon.
        let heartbeat = if nodes.len() > 1 { HEARTBEAT_OF_SEVERAL_S } else { HEARTBEAT_S };
        for node in &mut nodes {
            node.query.heartbeat.get_or_insert(heartbeat);
            node.query.frame_max.get_or_insert(FRAME_MAX);
        }
        let next = Arc::new(AtomicUsize::new(fastrand::usize(..nodes.len().max(1))));
        Ok(Self { nodes, next, client })
    }

    /// The same for another connection, which has its own place among the nodes.
    pub fn apart(&self) -> Self {
        let next = self.next.load(Ordering::Relaxed) + 1;
        Self { next: Arc::new(AtomicUsize::new(next)), ..self.clone() }
    }

    /// Hosts and ports without user and password, for people.
    pub fn place(&self) -> String {
        self.nodes.iter().map(place).collect::<Vec<_>>().join(", ")
    }

    /// Connects once, to any node that takes the connection; the one that was used last comes last. `purpose` is part of
    /// the name of the connection.
    pub async fn connect(&self, purpose: &str) -> Result<Connection, BrokerError> {
        let patience = if self.nodes.len() > 1 { PATIENCE_OF_SEVERAL } else { PATIENCE };
        let first = self.next.load(Ordering::Relaxed) % self.nodes.len().max(1);
        let mut faults: Vec<String> = Vec::new();
        for (at, node) in self.nodes.iter().enumerate().cycle().skip(first).take(self.nodes.len()) {
            match self.connect_to(node, purpose, patience).await {
                Ok(connection) => {
                    self.next.store(at + 1, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(BrokerError(fault)) => faults.push(fault),
            }
        }
        Err(BrokerError(faults.join("; ")))
    }

    async fn connect_to(
        &self,
        node: &AMQPUri,
        purpose: &str,
        patience: Duration,
    ) -> Result<Connection, BrokerError> {
        let name = format!("{} {purpose}", self.client);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connecting = Connection::connect_uri(node.clone(), properties);
        match tokio::time::timeout(patience, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(explain(node, &error)),
            Err(_) => Err(BrokerError(format!(
                "RabbitMQ at {} accepted the connection and does not answer: is that port really AMQP? (amqp.url)",
                place(node)
            ))),
        }
    }

    /// Connects, however long it takes; logs the first failure and the recovery.
    #[allow(clippy::disallowed_types, reason = "the one place that reconnects")]
    pub async fn connect_again(&self, purpose: &str) -> Connection {
        use backoff::backoff::Backoff;
        let mut pauses = backoff::ExponentialBackoff {
            current_interval: FIRST_PAUSE,
            initial_interval: FIRST_PAUSE,
            max_interval: LONGEST_PAUSE,
            max_elapsed_time: None,
            ..Default::default()
        };
        let mut tries = 0u32;
        loop {
            match self.connect(purpose).await {
                Ok(connection) => {
                    if tries > 0 {
                        tracing::info!(tries, purpose, "broker.reconnected");
                    }
                    return connection;
                }
                Err(error) => {
                    if tries == 0 {
                        tracing::warn!(%error, purpose, "broker.unreachable");
                    }
                    tries = tries.saturating_add(1);
                    tokio::time::sleep(pauses.next_backoff().unwrap_or(LONGEST_PAUSE)).await;
                }
            }
        }
    }
}

fn explain(node: &AMQPUri, error: &lapin::Error) -> BrokerError {
    let (place, user) = (place(node), &node.authority.userinfo.username);
    let text = one_line(&error.to_string(), 300);
    BrokerError(if text.contains("ACCESS_REFUSED") || text.contains("ACCESS-REFUSED") {
        format!("RabbitMQ at {place} refuses user `{user}`: check user and password in amqp.url")
    } else if text.contains("NOT_ALLOWED") || text.contains("vhost") {
        format!(
            "RabbitMQ at {place} does not let user `{user}` into that virtual host: create it, grant the user access, or set another one in amqp.url"
        )
    } else {
        format!("RabbitMQ at {place} cannot be reached ({text}): is it running, is amqp.url right?")
    })
}

/// A new channel within [`PATIENCE`].
pub async fn open_channel(connection: &Connection) -> Result<Channel, BrokerError> {
    in_time("opening a channel", connection.create_channel()).await
}

/// Waits at most [`PATIENCE`], and names the operation in the error.
pub async fn in_time<T>(
    doing: &str,
    call: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            Err(BrokerError(format!("{doing}: {}", one_line(&error.to_string(), 300))))
        }
        Err(_) => Err(BrokerError(format!("{doing}: no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// Closes the connection; whether the broker receives that does not matter.
pub async fn close(connection: &Connection) {
    let goodbye = connection.close(200, ShortString::from("OK"));
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), goodbye).await {
        tracing::debug!(%error, "broker.close");
    }
}

fn read(url: &SecretString) -> Result<AMQPUri, String> {
    url.expose_secret().parse().map_err(|_| {
        "amqp.url is not an address such as amqp://user:password@host:5672/vhost, or amqp://user:password@host1,host2/vhost for several nodes".to_owned()
    })
}

fn place(node: &AMQPUri) -> String {
    let vhost = if node.vhost == "/" { String::new() } else { format!("/{}", node.vhost) };
    format!("{}:{}{vhost}", node.authority.host, node.authority.port)
}
