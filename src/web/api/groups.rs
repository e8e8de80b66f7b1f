//! `/api/v1/groups`: lost orders by what failed, and what people know about it.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::permission::Permission;
use crate::ports::failure_groups::Group;
use crate::web::api::call::{Call, Items, Nothing, Reply};
use crate::web::api::operation::{About, Routes};
use crate::web::problem::Problem;
use crate::web::state::Web;

/// The routes of this file.
pub fn add(routes: Routes) -> Routes {
    use Permission::{Edit, Read};
    let one = "/groups/{fingerprint}";
    routes
        .add(&Method::GET, "/groups", About::new(Read, "List groups of lost orders"), list)
        .add(&Method::GET, one, About::new(Read, "Show a group"), show)
        .add(
            &Method::PUT,
            "/groups/{fingerprint}/note",
            About::new(Edit, "Write a note about a group; it stays when its orders are settled"),
            note,
        )
}

/// A group's place in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct GroupPath {
    /// What its failures share.
    fingerprint: String,
}

/// The note of a group; omitted parts are deleted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// At most 2000 characters.
    #[serde(default)]
    note: Option<String>,
    /// An address, http or https.
    #[serde(default)]
    runbook: Option<String>,
}

async fn list(
    web: Web,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Reply<Items<Group>>, Problem> {
    Ok(Reply::ok(Items::all(web.ops.groups(&call.person).await?)))
}

async fn show(web: Web, call: Call<GroupPath, Nothing, Nothing>) -> Result<Reply<Group>, Problem> {
    Ok(Reply::ok(web.ops.group(&call.person, &call.path.fingerprint).await?))
}

async fn note(web: Web, call: Call<GroupPath, Nothing, Note>) -> Result<Reply<Group>, Problem> {
    let (fingerprint, Note { note, runbook }) = (&call.path.fingerprint, &call.body);
    let act = web.ops.act(&call.person, None);
    web.ops.note_group(fingerprint, note.as_deref(), runbook.as_deref(), &act).await?;
    Ok(Reply::ok(web.ops.group(&call.person, fingerprint).await?))
}
