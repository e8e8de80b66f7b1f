//! Serving HTTP, bounded: so many connections, and none that only waits. What a stranger leaves open costs neither
//! files nor tasks for long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long to wait when no connection can be accepted, for example because files have run out.
const PAUSE: Duration = Duration::from_millis(200);

/// What connections may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At the same time; further ones wait to be accepted.
    pub connections: usize,
    /// How long a connection may take to bring the next request's head. An idle one ends, too.
    pub head_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, head_within: Duration::from_secs(20) }
    }
}

/// Serves until `stop`, then finishes the requests that are there.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let next = async || {
        let slot = slots.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => return Some((socket, peer, slot)),
                Err(error) => {
                    tracing::warn!(%error, "web.not_accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    loop {
        let (socket, peer, slot) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = next() => match accepted {
                Some(accepted) => accepted,
                None => break,
            },
        };
        while connections.try_join_next().is_some() {}
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "web.connection");
        }
        let service = TowerToHyperService::new(router.clone());
        let service = service_fn(move |request| service.call(from(request, peer)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_within)
            .serve_connection(TokioIo::new(socket), service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "web.connection");
            }
            drop(slot);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

fn from(mut request: Request<Incoming>, peer: SocketAddr) -> Request<Incoming> {
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}
