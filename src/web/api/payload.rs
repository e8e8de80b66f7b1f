//! `PUT /api/v1/orders/{shop}/{order_id}/payload`: a new revision, based on the last one.

use crate::web::api::call::{Call, Nothing, Reply, etag, find};
use crate::web::api::paths::OrderPath;
use crate::web::state::Web;
use std::borrow::Cow;

use axum::http::{HeaderMap, Method, StatusCode, header};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::order::document::OrderDocument;
use crate::domain::permission::Permission;
use crate::ops::refusal::Refusal;
use crate::views::edits::EditedView;
use crate::views::orders::OrderView;
use crate::web::api::operation::{About, Routes};
use crate::web::problem::Problem;

/// The route of this file.
pub fn add(routes: Routes) -> Routes {
    let summary = "Edit a lost order: a new revision, with If-Match and the ETag of the last one";
    let about = About::new(Permission::Edit, summary);
    routes.add(&Method::PUT, "/orders/{shop}/{order_id}/payload", about, put)
}

/// The document, byte for byte.
pub struct Document(Box<RawValue>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        OrderDocument::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        OrderDocument::json_schema(generator)
    }
}

/// The revision of an ETag; `None`: it is not one of ours.
fn seen(headers: &HeaderMap) -> Result<Option<u32>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        let detail = "Send `If-Match` with the ETag of the order on which your edit is based.";
        let status = StatusCode::PRECONDITION_REQUIRED;
        return Err(Problem::new(status, "if-match-missing", "If-Match is needed", detail));
    };
    let text = value.to_str().unwrap_or_default();
    let number = text.strip_prefix("\"r").and_then(|rest| rest.strip_suffix('"'));
    Ok(number.and_then(|number| number.parse().ok()))
}

async fn put(
    web: Web,
    call: Call<OrderPath, Nothing, Document>,
) -> Result<Reply<EditedView>, Problem> {
    let key = find(&call)?;
    let stale = |detail: String| {
        Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "Edited by somebody else", detail)
    };
    let detail = web.ops.show(&call.person, &key).await?;
    let seen = seen(&call.headers)?;
    let changed = || stale(format!("the order's ETag is {} now", etag(detail.record.revision)));
    let seen = seen.ok_or_else(changed)?;
    let act = web.ops.act(&call.person, None);
    let edited = match web.ops.edit(&key, seen, call.body.0.get(), &act).await {
        Err(faster @ Refusal::Stale { .. }) => return Err(stale(faster.to_string())),
        edited => edited?,
    };
    let view = EditedView {
        revision: edited.revision,
        differences: edited.differences,
        order: OrderView::of(&edited.record),
    };
    Ok(Reply::ok(view).header(header::ETAG, &etag(edited.revision)))
}
