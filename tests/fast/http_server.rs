//! What strangers leave open on the web port ends, and keeps nobody else out for long.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use order_relay::web::server::{Limits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Server {
    place: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinSet<()>,
}

async fn server(connections: usize) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let place = listener.local_addr().expect("a bound port");
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "late"
    };
    let router = Router::new().route("/", get(async || "here")).route("/slow", get(slow));
    let limits = Limits { connections, head_within: Duration::from_millis(200) };
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(serve(listener, router, limits, stop.clone()));
    Server { place, stop, task }
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.place).await.expect("it listens")
}

/// Everything until the server closes the connection.
async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it, too.
    drop(socket.read_to_end(&mut bytes).await);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_connection_that_only_waits_is_closed() {
    let server = server(8).await;
    let mut silent = connect(&server).await;
    let mut half = connect(&server).await;
    half.write_all(b"GET / HTTP/1.1\r\nhos").await.expect("it is sent");
    let mut idle = connect(&server).await;
    idle.write_all(REQUEST).await.expect("it is sent");
    let (silent, half, idle) = tokio::join!(rest(&mut silent), rest(&mut half), rest(&mut idle));
    assert!(!silent.contains("here") && !half.contains("here"), "{silent} {half}");
    assert!(idle.ends_with("here"), "{idle}");
}

#[tokio::test]
async fn whoever_comes_when_all_are_taken_is_served_after_them() {
    let server = server(2).await;
    let taken = [connect(&server).await, connect(&server).await];
    let mut late = connect(&server).await;
    late.write_all(REQUEST).await.expect("it is sent");
    assert!(rest(&mut late).await.ends_with("here"));
    drop(taken);
}

#[tokio::test]
async fn what_is_asked_before_the_end_is_answered() {
    let mut server = server(8).await;
    let mut socket = connect(&server).await;
    socket.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is sent");
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop.cancel();
    assert!(rest(&mut socket).await.ends_with("late"));
    while server.task.join_next().await.is_some() {}
}
