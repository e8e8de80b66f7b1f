//! `/api/v1/redrives`: plan many lost orders, start, watch, steer.
//!
//! A redrive is visible to callers who may see the orders of all its shops.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::domain::permission::Permission;
use crate::domain::redrive::{ItemStatus, RedriveThrottle, RedriveVerb};
use crate::ops::refusal::Refusal;
use crate::ports::redrives::{Redrive, Selection};
use crate::views::redrives::{ItemView, RedriveView};
use crate::web::api::call::{Call, Items, Nothing, Reply, Why, limit};
use crate::web::api::operation::{About, Routes};
use crate::web::api::patches::Chosen;
use crate::web::api::paths::{IdPath, OrderPath};
use crate::web::problem::Problem;
use crate::web::state::Web;

/// The routes of this file.
pub fn add(routes: Routes) -> Routes {
    use Permission::{Process, Read};
    let (get, post) = (&Method::GET, &Method::POST);
    let planned = About {
        needs: Process,
        status: StatusCode::CREATED,
        summary: "Plan a redrive: a fixed list of orders; nothing is sent",
    };
    let accepted = |summary| About { needs: Process, status: StatusCode::ACCEPTED, summary };
    let steer = |verb: RedriveVerb| {
        move |web: Web, call: Call<IdPath, Nothing, Why>| steer(web, call, verb)
    };
    routes
        .add(get, "/redrives", About::new(Read, "List redrives, newest first"), list)
        .add(post, "/redrives", planned, plan)
        .add(get, "/redrives/{id}", About::new(Read, "Show a redrive"), show)
        .add(get, "/redrives/{id}/items", About::new(Read, "List the orders of a redrive"), items)
        .add(post, "/redrives/{id}/start", accepted("Start a plan"), steer(RedriveVerb::Start))
        .add(
            post,
            "/redrives/{id}/pause",
            accepted("Pause; orders that were sent are still answered"),
            steer(RedriveVerb::Pause),
        )
        .add(post, "/redrives/{id}/resume", accepted("Go on"), steer(RedriveVerb::Resume))
        .add(
            post,
            "/redrives/{id}/cancel",
            accepted("Cancel; orders that were not sent are not changed"),
            steer(RedriveVerb::Cancel),
        )
        .add(
            &Method::PATCH,
            "/redrives/{id}/rate",
            About::new(Process, "Change the rate, also while it runs"),
            set_rate,
        )
}

/// A plan. Exactly one of `filter`, `orders`, `group` and `failed_of` says of which orders.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Those that match, by the names of the list's query.
    #[serde(default)]
    filter: Option<BTreeMap<String, String>>,
    /// These.
    #[serde(default)]
    orders: Option<Vec<OrderPath>>,
    /// Those whose last failure has this fingerprint.
    #[serde(default)]
    group: Option<String>,
    /// Those of another redrive that are still lost.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    failed_of: Option<Uuid>,
    /// Orders per minute; else as fast as the ERP answers.
    #[serde(default)]
    rate_per_minute: Option<u32>,
    /// Sizes of the steps; the rest is the last step. Else 1, 5, 20, 100.
    #[serde(default)]
    ramp: Option<Vec<u32>>,
    /// Percent of a step that may fail.
    #[serde(default)]
    stop_percent: Option<u32>,
    /// Stored with the plan.
    #[serde(default)]
    reason: Option<String>,
}

impl Plan {
    fn selection(&mut self) -> Result<Selection, Problem> {
        let chosen = Chosen {
            filter: self.filter.take(),
            orders: self.orders.take(),
            group: self.group.take(),
            failed_of: self.failed_of.take(),
        };
        chosen.selection()
    }

    fn pace(&mut self) -> RedriveThrottle {
        let usual = RedriveThrottle::default();
        RedriveThrottle {
            rate_per_minute: self.rate_per_minute,
            ramp: self.ramp.take().unwrap_or(usual.ramp),
            stop_percent: self.stop_percent.unwrap_or(usual.stop_percent),
        }
    }
}

/// How many.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveQuery {
    /// At most 1000; else 50.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

/// Which orders of a redrive.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemQuery {
    /// waiting, sent, transferred, failed, unclear, skipped or excluded.
    status: Option<String>,
    /// `next` of the page before.
    after: Option<u64>,
    /// At most 1000; else 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

/// A rate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Orders per minute; `null`: as fast as the ERP answers.
    rate_per_minute: Option<u32>,
}

/// The redrive of a path; one that the caller may not see does not exist for them.
async fn find<Q, B>(web: &Web, call: &Call<IdPath, Q, B>) -> Result<Redrive, Problem> {
    let missing = || Refusal::not_found("redrive", &call.path.id);
    let id = call.path.id.parse().map_err(|_| missing())?;
    Ok(web.ops.redrive(&call.person, id).await?)
}

async fn list(
    web: Web,
    call: Call<Nothing, RedriveQuery, Nothing>,
) -> Result<Reply<Items<RedriveView>>, Problem> {
    let limit = limit(call.query.limit, 50)?;
    let redrives = web.ops.redrives(&call.person, limit).await?;
    Ok(Reply::ok(Items::all(redrives.iter().map(RedriveView::of).collect())))
}

async fn plan(
    web: Web,
    mut call: Call<Nothing, Nothing, Plan>,
) -> Result<Reply<RedriveView>, Problem> {
    let (selection, pace) = (call.body.selection()?, call.body.pace());
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    let redrive = web.ops.plan_redrive(selection, pace, &act).await?;
    let location = format!("/api/v1/redrives/{}", redrive.id);
    let answer = Reply::ok(RedriveView::of(&redrive)).status(StatusCode::CREATED);
    Ok(answer.header(header::LOCATION, &location))
}

async fn show(
    web: Web,
    call: Call<IdPath, Nothing, Nothing>,
) -> Result<Reply<RedriveView>, Problem> {
    Ok(Reply::ok(RedriveView::of(&find(&web, &call).await?)))
}

async fn items(
    web: Web,
    call: Call<IdPath, ItemQuery, Nothing>,
) -> Result<Reply<Items<ItemView>>, Problem> {
    let redrive = find(&web, &call).await?;
    let read = |name: &str| {
        let known = ItemStatus::ALL.map(ItemStatus::as_str).join(", ");
        let told = || Problem::unprocessable(format!("status: expected one of {known}"));
        ItemStatus::from_name(name).ok_or_else(told)
    };
    let status = call.query.status.as_deref().map(read).transpose()?;
    let after = call.query.after.filter(|after| i64::try_from(*after).is_ok());
    if after != call.query.after {
        return Err(Problem::unprocessable("after: use `next` of the previous page"));
    }
    let limit = limit(call.query.limit, 100)?;
    let mut found =
        web.ops.redrive_items(&call.person, redrive.id, status, after, limit + 1).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| has_more).map(|item| item.seq.to_string());
    Ok(Reply::ok(Items { items: found.iter().map(ItemView::of).collect(), next }))
}

async fn steer(
    web: Web,
    call: Call<IdPath, Nothing, Why>,
    verb: RedriveVerb,
) -> Result<Reply<RedriveView>, Problem> {
    let id = find(&web, &call).await?.id;
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    let redrive = match verb {
        RedriveVerb::Start => web.ops.start_redrive(id, &act).await?,
        RedriveVerb::Pause => web.ops.pause_redrive(id, &act).await?,
        RedriveVerb::Resume => web.ops.resume_redrive(id, &act).await?,
        RedriveVerb::Cancel => web.ops.cancel_redrive(id, &act).await?,
    };
    let location = format!("/api/v1/redrives/{id}");
    let answer = Reply::ok(RedriveView::of(&redrive)).status(StatusCode::ACCEPTED);
    Ok(answer.header(header::LOCATION, &location))
}

async fn set_rate(
    web: Web,
    call: Call<IdPath, Nothing, Rate>,
) -> Result<Reply<RedriveView>, Problem> {
    let id = find(&web, &call).await?.id;
    let act = web.ops.act(&call.person, None);
    let redrive = web.ops.set_redrive_rate(id, call.body.rate_per_minute, &act).await?;
    Ok(Reply::ok(RedriveView::of(&redrive)))
}
