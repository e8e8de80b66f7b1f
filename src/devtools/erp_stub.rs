//! `erp stub`: an ERP for tests.
//!
//! It can be slow, unavailable, refuse orders or cut the connection, and can be reconfigured while
//! it runs. It never de-duplicates: an order that is sent twice is in it twice, and it reports
//! that. It uses hyper directly because it must be able to drop a connection in the middle of an
//! answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, Response, StatusCode};
use clap::ValueEnum;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cli::devtools::StubMode;
use crate::ports::clock::Stopwatch;

/// Largest order that it accepts, in bytes.
const MAX_BODY: usize = 32 * 1024 * 1024;
/// How long `slow` takes.
const SLOW: Duration = Duration::from_secs(3);
/// How long `lagging` does not find an order.
const LAG: Duration = Duration::from_secs(75);
/// How long `silent` holds a connection.
const SILENCE: Duration = Duration::from_hours(1);

/// The stub's memory.
#[derive(Clone)]
pub struct ErpStub {
    state: Arc<Mutex<State>>,
}

struct State {
    settings: StubSettings,
    scripts: BTreeMap<String, VecDeque<StubMode>>,
    orders: BTreeMap<String, StubOrder>,
    /// Articles that it does not know.
    unknown: BTreeSet<String>,
    /// Since when it has orders that it does not find yet.
    lagging: BTreeMap<String, Stopwatch>,
    documents: u64,
    requests: u64,
}

impl State {
    fn new(settings: StubSettings) -> Self {
        Self {
            settings,
            scripts: BTreeMap::new(),
            orders: BTreeMap::new(),
            unknown: BTreeSet::new(),
            lagging: BTreeMap::new(),
            documents: 0,
            requests: 0,
        }
    }
}

/// How the stub behaves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StubSettings {
    /// What it does with orders that have no script.
    pub mode: StubMode,
    /// How long each answer takes.
    pub latency_ms: u64,
    /// Share of orders that fail with 503.
    pub fail_rate: f64,
}

impl Default for StubSettings {
    fn default() -> Self {
        Self { mode: StubMode::Ok, latency_ms: 0, fail_rate: 0.0 }
    }
}

/// What the stub knows of one order number.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StubOrder {
    /// Numbers of the documents it made; more than one means entered twice.
    pub documents: Vec<String>,
    /// How often it was sent, accepted or not.
    pub sent: u64,
    /// Times it was asked about.
    pub asked: u64,
    /// Its idempotency keys.
    pub keys: BTreeSet<String>,
}

impl ErpStub {
    /// A stub without orders.
    pub fn new(settings: StubSettings) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(settings))) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes everything, and behaves like this from now on.
    pub fn reset(&self, settings: StubSettings) {
        *self.state() = State::new(settings);
    }

    /// Orders sent so far, accepted or not.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// What it does from now on.
    pub fn set(&self, settings: StubSettings) {
        self.state().settings = settings;
    }

    /// Its behaviour for the next attempts of one order, in turn; afterwards the general one
    /// applies.
    pub fn script(&self, order_id: &str, modes: &[StubMode]) {
        self.state().scripts.insert(order_id.to_owned(), modes.iter().copied().collect());
    }

    /// Rejects every order with this article from now on.
    pub fn without_article(&self, sku: &str) {
        self.state().unknown.insert(sku.to_owned());
    }

    /// Has this order already, as if it had been sent.
    pub fn has_already(&self, order_id: &str, document: &str) {
        let mut state = self.state();
        state.orders.entry(order_id.to_owned()).or_default().documents.push(document.to_owned());
    }

    /// What it knows, by order number.
    pub fn orders(&self) -> BTreeMap<String, StubOrder> {
        self.state().orders.clone()
    }

    /// Serves until dropped.
    pub async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            let stub = self.clone();
            while connections.try_join_next().is_some() {}
            connections.spawn(async move {
                let service = service_fn(move |request| stub.clone().answer(request));
                let connection = hyper::server::conn::http1::Builder::new();
                // An error here is a connection that was cut, by the other side or on purpose.
                if let Err(error) = connection.serve_connection(TokioIo::new(socket), service).await
                {
                    tracing::debug!(%error, "stub.connection");
                }
            });
        }
    }

    async fn answer(self, request: Request<hyper::body::Incoming>) -> Result<Response<Body>, Cut> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(Body::new(body), MAX_BODY).await.map_err(|_| Cut)?;
        let path = parts.uri.path().to_owned();
        if path.starts_with("/_stub") {
            return Ok(self.control(&parts.method, &path, &body));
        }
        let latency = self.state().settings.latency_ms;
        tokio::time::sleep(Duration::from_millis(latency)).await;
        match (parts.method, path.strip_prefix("/orders")) {
            (Method::POST, Some("" | "/")) => {
                let key = parts.headers.get("idempotency-key").and_then(|key| key.to_str().ok());
                self.take_order(&body, key).await
            }
            (Method::GET, Some(rest)) => self.look_up(rest.trim_start_matches('/')),
            _ => Ok(reply(
                StatusCode::NOT_FOUND,
                &json!({"error": "POST /orders, GET /orders/NUMBER, /_stub"}),
            )),
        }
    }

    async fn take_order(&self, body: &Bytes, key: Option<&str>) -> Result<Response<Body>, Cut> {
        let Ok(order) = serde_json::from_slice::<Value>(body) else {
            return Ok(reply(StatusCode::BAD_REQUEST, &json!({"error": "not JSON"})));
        };
        let id = order["order_id"].as_str().unwrap_or_default().to_owned();
        let mode = self.next_mode(&id, &order, key);
        if mode == StubMode::Ok
            && let Some(sku) = self.unknown_article(&order)
        {
            return Ok(unknown_product(&sku));
        }
        let taken = |status: StatusCode| {
            let number = self.make_document(&id);
            reply(status, &json!({"erp_order_id": number, "order_id": id}))
        };
        Ok(match mode {
            StubMode::Ok => taken(StatusCode::CREATED),
            StubMode::Slow => {
                let answer = taken(StatusCode::CREATED);
                tokio::time::sleep(SLOW).await;
                answer
            }
            StubMode::AcceptThenCut => {
                self.make_document(&id);
                return Err(Cut);
            }
            StubMode::Lagging => {
                self.make_document(&id);
                self.state().lagging.insert(id, Stopwatch::start());
                return Err(Cut);
            }
            StubMode::Cut => return Err(Cut),
            StubMode::GatewayTimeout => {
                self.make_document(&id);
                reply(StatusCode::GATEWAY_TIMEOUT, &json!({"message": "upstream timed out"}))
            }
            StubMode::Silent => {
                tokio::time::sleep(SILENCE).await;
                return Err(Cut);
            }
            StubMode::Down | StubMode::Busy => {
                reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": "maintenance"}))
            }
            StubMode::Reject => unknown_product(
                order.pointer("/lines/0/sku").and_then(Value::as_str).unwrap_or("?"),
            ),
            StubMode::Unauthorized => {
                reply(StatusCode::UNAUTHORIZED, &json!({"error": "wrong credentials"}))
            }
        })
    }

    /// What happens to this attempt: the script of the order, one that the order brings, or the rule.
    fn next_mode(&self, id: &str, order: &Value, key: Option<&str>) -> StubMode {
        let mut state = self.state();
        state.requests += 1;
        let turn = state.requests;
        let known = state.orders.entry(id.to_owned()).or_default();
        known.sent += 1;
        known.keys.extend(key.map(str::to_owned));
        if known.sent == 1
            && let Some(wish) = order["remark"].as_str().and_then(|text| text.strip_prefix("stub:"))
        {
            let modes =
                wish.split(',').filter_map(|mode| StubMode::from_str(mode.trim(), true).ok());
            let script = modes.collect();
            state.scripts.entry(id.to_owned()).or_insert(script);
        }
        if let Some(mode) = state.scripts.get_mut(id).and_then(VecDeque::pop_front) {
            return mode;
        }
        let settings = state.settings;
        if settings.mode == StubMode::Ok && fraction(turn) < settings.fail_rate {
            return StubMode::Busy;
        }
        settings.mode
    }

    fn unknown_article(&self, order: &Value) -> Option<String> {
        let state = self.state();
        let skus = order["lines"].as_array()?.iter().filter_map(|line| line["sku"].as_str());
        skus.into_iter().find(|sku| state.unknown.contains(*sku)).map(str::to_owned)
    }

    fn make_document(&self, id: &str) -> String {
        let mut state = self.state();
        state.documents += 1;
        let number = format!("ERP-{}", state.documents);
        state.orders.entry(id.to_owned()).or_default().documents.push(number.clone());
        number
    }

    fn look_up(&self, id: &str) -> Result<Response<Body>, Cut> {
        let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned();
        let mut state = self.state();
        match state.settings.mode {
            StubMode::Down => {
                return Ok(reply(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &json!({"error": "maintenance"}),
                ));
            }
            StubMode::Unauthorized => {
                return Ok(reply(StatusCode::UNAUTHORIZED, &json!({"error": "wrong credentials"})));
            }
            StubMode::Silent => return Err(Cut),
            _ => {}
        }
        let Some(known) = state.orders.get_mut(&id) else {
            return Ok(reply(StatusCode::NOT_FOUND, &json!({"error": "no such order"})));
        };
        known.asked += 1;
        let known = known.clone();
        if state.lagging.get(&id).is_some_and(|since| since.elapsed() < LAG) {
            return Ok(reply(StatusCode::NOT_FOUND, &json!({"error": "no such order"})));
        }
        Ok(match known.documents.first() {
            Some(number) => reply(StatusCode::OK, &json!({"erp_order_id": number, "order_id": id})),
            None => reply(StatusCode::NOT_FOUND, &json!({"error": "no such order"})),
        })
    }

    fn control(&self, method: &Method, path: &str, body: &Bytes) -> Response<Body> {
        let bad = |error: serde_json::Error| {
            reply(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()}))
        };
        match (method, path) {
            (&Method::PUT | &Method::POST, "/_stub") => match serde_json::from_slice(body) {
                Ok(settings) => {
                    self.set(settings);
                    reply(StatusCode::OK, &json!(settings))
                }
                Err(error) => bad(error),
            },
            (&Method::PUT | &Method::POST, "/_stub/scripts") => {
                match serde_json::from_slice::<BTreeMap<String, VecDeque<StubMode>>>(body) {
                    Ok(scripts) => {
                        self.state().scripts.extend(scripts);
                        reply(StatusCode::OK, &json!({}))
                    }
                    Err(error) => bad(error),
                }
            }
            (&Method::GET, "/_stub") => {
                let state = self.state();
                let twice: Vec<&String> = state
                    .orders
                    .iter()
                    .filter(|(_, o)| o.documents.len() > 1)
                    .map(|(id, _)| id)
                    .collect();
                reply(
                    StatusCode::OK,
                    &json!({
                        "settings": state.settings,
                        "documents": state.documents,
                        "entered_twice": twice,
                        "orders": state.orders,
                    }),
                )
            }
            _ => reply(
                StatusCode::NOT_FOUND,
                &json!({"error": "GET or PUT /_stub, PUT /_stub/scripts"}),
            ),
        }
    }
}

/// Ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("connection cut as configured")]
pub struct Cut;

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn unknown_product(sku: &str) -> Response<Body> {
    let error = format!("product '{sku}' is unknown to the ERP");
    reply(StatusCode::UNPROCESSABLE_ENTITY, &json!({"error": error}))
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let kind = axum::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(axum::http::header::CONTENT_TYPE, kind);
    response
}

/// A number from 0 to 1 that looks random and is the same for the same turn (SplitMix64).
#[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
fn fraction(turn: u64) -> f64 {
    let mut z = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
