//! The web port: pages, API, health, metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::ops::orders::Ops;
use crate::ports::erp::Exchange;
use crate::ports::store::OrderDetail;
use crate::telemetry::Metrics;

use super::access::{Access, same_site};
use super::api::problem::Problem;
use super::api::routes::api_routes;
use super::login::login_routes;
use super::page_routes::page_router;
use super::pages::Pages;
use super::status_page::CheckLine;

/// Largest request, in bytes: many orders as NDJSON.
pub const MAX_REQUEST: usize = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);
const MARGIN: Duration = Duration::from_secs(15);

/// What the web port needs.
#[derive(Clone)]
pub struct Web {
    /// The verbs.
    pub ops: Arc<Ops>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Pages for people.
    pub pages: Arc<Pages>,
    /// What pages show and only the whole program knows.
    pub backstage: Arc<Backstage>,
    /// Set while the process drains.
    pub draining: Arc<AtomicBool>,
    /// How it is reached.
    pub access: Arc<Access>,
    /// Whether this process works with the broker, so that its absence matters.
    pub needs_broker: bool,
}

/// The requests that would be sent for an order now, or why there are none. Sends nothing.
pub type Rehearse = dyn Fn(&OrderDetail) -> Result<Vec<Exchange>, String> + Send + Sync;
/// What `order-relay check` says.
pub type Check = dyn Fn() -> BoxFuture<'static, Vec<CheckLine>> + Send + Sync;

/// What pages show and only the whole program knows.
pub struct Backstage {
    /// What would be sent.
    pub rehearse: Box<Rehearse>,
    /// Whether everything is there and usable.
    pub check: Box<Check>,
}

/// Every route.
pub fn router(web: Web) -> Router {
    // A transfer is waited for.
    let patience = PATIENCE.max(web.ops.transfer_patience + MARGIN);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(login_routes())
        .merge(api_routes(&web))
        .merge(page_router(&web))
        .layer(from_fn_with_state(web.clone(), same_site))
        .with_state(web)
        .method_not_allowed_fallback(|| async {
            let detail = "This address knows other methods: see the header Allow.";
            let status = StatusCode::METHOD_NOT_ALLOWED;
            Problem::new(status, "method-not-allowed", "Method not allowed", detail)
        })
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", "There is nothing here.")
        })
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, patience))
        .layer(CatchPanicLayer::new())
        .layer(fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(fixed(header::REFERRER_POLICY, "no-referrer"))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(fixed(header::X_FRAME_OPTIONS, "DENY"))
        .layer(fixed(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
             connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
        ))
}

fn fixed(name: header::HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Whether this process can do its work: the database answers, the broker is there, and it is not
/// about to end. An open circuit is no reason: the process is well, the ERP is not.
async fn readyz(State(web): State<Web>) -> Response {
    let fault = if web.draining.load(Ordering::Acquire) {
        Some("draining".to_owned())
    } else if let Err(error) = web.ops.store.circuits().await {
        Some(error.to_string())
    } else if web.needs_broker && !web.ops.broker.is_ready() {
        Some("the broker cannot be reached".to_owned())
    } else {
        None
    };
    match fault {
        None => "ready\n".into_response(),
        Some(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")).into_response(),
    }
}

async fn metrics(State(web): State<Web>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], web.metrics.encode()).into_response()
}
