//! The web port: pages, API, health, metrics.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::web::api::routes::api_routes;
use crate::web::auth::same_site::same_site;
use crate::web::html::errors::{NOTHING, show_errors};
use crate::web::pages::login::login_routes;
use crate::web::pages::routes::page_router;
use crate::web::problem::Problem;
use crate::web::state::{MAX_REQUEST, Web};

const PATIENCE: Duration = Duration::from_secs(60);
/// Smallest answer that is compressed, in bytes.
const MIN_COMPRESSED: u64 = 1_400;
const MARGIN: Duration = Duration::from_secs(15);

/// Every route.
pub fn router(web: Web) -> Router {
    // A transfer is waited for.
    let patience = PATIENCE.max(web.ops.transfer_patience() + MARGIN);
    let errors = from_fn_with_state(web.clone(), show_errors);
    watched()
        .merge(login_routes())
        .merge(api_routes(&web))
        .merge(page_router(&web))
        .layer(from_fn_with_state(web.clone(), same_site))
        .with_state(web)
        .method_not_allowed_fallback(|| async {
            let detail = "This address supports other methods: see the header Allow.";
            let status = StatusCode::METHOD_NOT_ALLOWED;
            Problem::new(status, "method-not-allowed", "Method not allowed", detail)
        })
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", NOTHING)
        })
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, patience))
        .layer(CatchPanicLayer::new())
        .layer(errors)
        .layer(CompressionLayer::new().compress_when(worth_compressing()))
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

/// Not for what fits into one packet, nor for live parts, which are to arrive at once. A page holds no secret that an
/// attacker could learn from its length: the value of its forms is masked (`Ops::masked_csrf`).
fn worth_compressing() -> impl Predicate {
    DefaultPredicate::new().and(SizeAbove::new(MIN_COMPRESSED))
}

/// What machines ask of a process, whatever its roles.
fn watched() -> Router<Web> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// The routes of `metrics.listen`: health and metrics alone.
pub fn metrics_router(web: Web) -> Router {
    watched()
        .with_state(web)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, PATIENCE))
}

fn fixed(name: header::HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Whether this process can work: the database answers, the broker is connected, and the process is
/// not shutting down. An open circuit does not count: the process works, the ERP does not.
async fn readyz(State(web): State<Web>) -> Response {
    let fault = if web.draining.load(Ordering::Acquire) {
        Some("draining".to_owned())
    } else {
        web.ops.obstacle(web.needs_broker).await
    };
    match fault {
        None if web.ops.is_anybody_transferring().await => "ready\n".into_response(),
        // Still ready: orders are taken, and wait.
        None => {
            "ready, but no process has the role submitter: orders are taken and not transferred\n"
                .into_response()
        }
        Some(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")).into_response(),
    }
}

async fn metrics(State(web): State<Web>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], web.metrics.encode()).into_response()
}
