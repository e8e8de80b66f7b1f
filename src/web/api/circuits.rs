//! `/api/v1/circuits`: whether orders flow to an ERP, and stopping them.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::permission::Permission;
use crate::views::circuits::CircuitView;
use crate::web::api::call::{Call, Items, Nothing, Reply, Why};
use crate::web::api::operation::{About, Routes};
use crate::web::problem::Problem;
use crate::web::state::Web;

/// The routes of this file.
pub fn add(routes: Routes) -> Routes {
    use Permission::{Process, Read};
    routes
        .add(&Method::GET, "/circuits", About::new(Read, "List ERPs and whether orders flow"), list)
        .add(
            &Method::POST,
            "/circuits/{erp}/hold",
            About::new(Process, "Stop the transfer to an ERP until it is released"),
            hold,
        )
        .add(
            &Method::POST,
            "/circuits/{erp}/release",
            About::new(Process, "Resume the transfer, starting with one order"),
            release,
        )
}

/// An ERP's place in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ErpPath {
    /// `default`, or the shop that has one of its own.
    erp: String,
}

async fn list(
    web: Web,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Reply<Items<CircuitView>>, Problem> {
    let circuits = web.ops.circuits(&call.person).await?;
    Ok(Reply::ok(Items::all(circuits.iter().map(CircuitView::of).collect())))
}

async fn hold(web: Web, call: Call<ErpPath, Nothing, Why>) -> Result<Reply<CircuitView>, Problem> {
    let reason = call.body.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    let Some(reason) = reason else {
        return Err(Problem::unprocessable("reason: enter a reason; others will want to know"));
    };
    let act = web.ops.act(&call.person, Some(reason));
    let circuit = web.ops.hold(&call.path.erp, &act).await?;
    Ok(Reply::ok(CircuitView::of(&circuit)))
}

async fn release(
    web: Web,
    call: Call<ErpPath, Nothing, Why>,
) -> Result<Reply<CircuitView>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    let circuit = web.ops.release(&call.path.erp, &act).await?;
    Ok(Reply::ok(CircuitView::of(&circuit)))
}
