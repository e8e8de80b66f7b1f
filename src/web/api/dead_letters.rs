//! `/api/v1/dead-letters`: messages that could not be accepted. They belong to no shop.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::permission::Permission;
use crate::ports::dead_letters::DeadLetter;
use crate::views::dead_letters::{LetterView, ReplayedView};
use crate::web::api::call::{Call, Done, Items, Nothing, Reply, Why, limit};
use crate::web::api::operation::{About, Routes};
use crate::web::api::paths::IdPath;
use crate::web::problem::Problem;
use crate::web::state::Web;

/// The routes of this file.
pub fn add(routes: Routes) -> Routes {
    use Permission::{Process, Read, Remove};
    routes
        .add(
            &Method::GET,
            "/dead-letters",
            About::new(Read, "List messages that could not be accepted, newest first"),
            list,
        )
        .add(&Method::GET, "/dead-letters/{id}", About::new(Read, "Show a dead letter"), show)
        .add(
            &Method::POST,
            "/dead-letters/{id}/replay",
            About::new(Process, "Replay a dead letter, also with fixed text"),
            replay,
        )
        .add(
            &Method::POST,
            "/dead-letters/{id}/discard",
            About::new(Remove, "Decide that a dead letter is not needed; it stays readable"),
            discard,
        )
}

/// Which dead letters.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LetterQuery {
    /// Settled ones as well.
    all: Option<bool>,
    /// At most 1000; else 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

/// A dead letter to be replayed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// The fixed message, as text; otherwise the original is replayed.
    #[serde(default)]
    text: Option<String>,
    /// Stored with the change.
    #[serde(default)]
    reason: Option<String>,
}

async fn list(
    web: Web,
    call: Call<Nothing, LetterQuery, Nothing>,
) -> Result<Reply<Items<LetterView>>, Problem> {
    let limit = limit(call.query.limit, 100)?;
    let open_only = !call.query.all.unwrap_or(false);
    let letters = web.ops.dead_letters(&call.person, open_only, limit).await?;
    Ok(Reply::ok(Items::all(letters.iter().map(LetterView::of).collect())))
}

async fn find<Q, B>(web: &Web, call: &Call<IdPath, Q, B>) -> Result<DeadLetter, Problem> {
    Ok(web.ops.dead_letter(&call.person, &call.path.id).await?)
}

async fn show(
    web: Web,
    call: Call<IdPath, Nothing, Nothing>,
) -> Result<Reply<LetterView>, Problem> {
    Ok(Reply::ok(LetterView::of(&find(&web, &call).await?)))
}

async fn replay(
    web: Web,
    call: Call<IdPath, Nothing, Again>,
) -> Result<Reply<ReplayedView>, Problem> {
    let letter = find(&web, &call).await?;
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    let replayed = web.ops.replay(&letter, call.body.text.map(String::into_bytes), &act).await?;
    Ok(Reply::ok(ReplayedView {
        settled: replayed.is_settled(),
        detail: replayed.sentence(),
        place: replayed.place().map(str::to_owned),
    }))
}

async fn discard(web: Web, call: Call<IdPath, Nothing, Why>) -> Result<Reply<Done>, Problem> {
    let letter = find(&web, &call).await?;
    web.ops.discard(&letter, &web.ops.act(&call.person, call.body.reason.as_deref())).await?;
    Ok(Reply::ok(Done { done: "discarded" }))
}
