//! Every route of the API, once: the router, the OpenAPI 3.1 document and the test of the
//! authorisation matrix are made from this list.

use crate::web::api::operation::{About, Operation, Routes};
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::domain::permission::Permission;
use crate::web::api::idempotency::{Needs, idempotent};
use crate::web::api::{
    channels, circuits, dead_letters, groups, intake, orders, patches, payload, people, records,
    redrives,
};
use crate::web::state::Web;

fn routes() -> Routes {
    let routes = Routes::empty();
    let about = About {
        needs: Permission::Publish,
        status: StatusCode::ACCEPTED,
        summary: "Submit one order, or many as NDJSON",
    };
    let kinds = ["application/json", "application/x-ndjson"];
    let post = axum::routing::post(intake::post_orders);
    let what = (&Method::POST, "/orders", about);
    let routes = routes.add_raw::<crate::domain::order::document::OrderDocument, intake::TakenIn>(
        what, &kinds, post,
    );
    let routes = orders::add(routes);
    let routes = payload::add(routes);
    let routes = patches::add(routes);
    let routes = redrives::add(routes);
    let routes = groups::add(routes);
    let routes = dead_letters::add(routes);
    let routes = circuits::add(routes);
    let routes = people::add(routes);
    let routes = records::add(routes);
    channels::add(routes)
}

/// Every operation of the API.
pub fn operations() -> Vec<Operation> {
    routes().operations
}

/// The API with its OpenAPI document.
pub fn api_routes(web: &Web) -> Router<Web> {
    let mut routes = routes();
    let document: Arc<str> = routes.document().to_string().into();
    let served = move || {
        let document = document.to_string();
        async move { openapi(document) }
    };
    let needs = routes.operations.iter();
    let needs: Needs =
        Arc::new(needs.map(|one| ((one.method.clone(), one.path.clone()), one.needs)).collect());
    let router = routes.router.layer(from_fn_with_state((web.clone(), needs), idempotent));
    router.route("/api/openapi.json", get(served))
}

fn openapi(document: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
