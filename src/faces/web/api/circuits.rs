//! `/api/v1/circuits`: whether orders flow to an ERP, and stopping them.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::permission::Permission;
use crate::faces::views::CircuitView;
use crate::ops::orders::Refusal;

use super::super::router::Web;
use super::call::{Answer, Call, Items, Nothing, Why};
use super::problem::Problem;
use super::routes::{About, Routes};

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
            About::new(Process, "Let the transfer go on, beginning with one order"),
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
    _call: Call<Nothing, Nothing, Nothing>,
) -> Result<Answer<Items<CircuitView>>, Problem> {
    let circuits = web.ops.circuits().await?;
    Ok(Answer::ok(Items::all(circuits.iter().map(CircuitView::of).collect())))
}

async fn hold(web: Web, call: Call<ErpPath, Nothing, Why>) -> Result<Answer<CircuitView>, Problem> {
    let reason = call.body.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    let Some(reason) = reason else {
        return Err(Problem::unprocessable("say why; whoever finds it stopped will ask"));
    };
    web.ops.hold(&call.path.erp, &web.ops.act(&call.person, Some(reason))).await?;
    one(&web, &call.path.erp).await
}

async fn release(
    web: Web,
    call: Call<ErpPath, Nothing, Why>,
) -> Result<Answer<CircuitView>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    web.ops.release(&call.path.erp, &act).await?;
    one(&web, &call.path.erp).await
}

async fn one(web: &Web, erp: &str) -> Result<Answer<CircuitView>, Problem> {
    let circuits = web.ops.circuits().await?;
    let found = circuits.iter().find(|circuit| circuit.erp == erp).map(CircuitView::of);
    let found = found.ok_or_else(|| Refusal::NotFound(format!("there is no ERP {erp}")))?;
    Ok(Answer::ok(found))
}
