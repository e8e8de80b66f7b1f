//! `/api/v1/lost-orders/patch`: the same change in many lost orders, with a preview.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::ops::edit::PatchPreview;
use crate::ports::redrives::Selection;
use crate::views::edits::{PatchedOrder, PatchedView};
use crate::web::api::call::{Call, Nothing, Reply, needed};
use crate::web::api::operation::{About, Routes};
use crate::web::api::paths::OrderPath;
use crate::web::problem::Problem;
use crate::web::state::Web;

/// The route of this file.
pub fn add(routes: Routes) -> Routes {
    let summary = "Change many lost orders by a JSON Patch; with dry_run only preview the changes";
    let about = About::new(Permission::Edit, summary);
    routes.add(&Method::POST, "/lost-orders/patch", about, patch)
}

/// Which orders. Exactly one of `filter`, `orders`, `group` and `failed_of`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Those that match, by the names of the list's query.
    #[serde(default)]
    pub filter: Option<BTreeMap<String, String>>,
    /// These.
    #[serde(default)]
    pub orders: Option<Vec<OrderPath>>,
    /// Those whose last failure has this fingerprint.
    #[serde(default)]
    pub group: Option<String>,
    /// Those of a redrive that are still lost.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub failed_of: Option<Uuid>,
}

impl Chosen {
    /// The one that was given.
    pub fn selection(self) -> Result<Selection, Problem> {
        let key = |o: OrderPath| OrderKey::new(&o.shop, &o.order_id);
        let orders = self.orders.map(|orders| orders.into_iter().map(key).collect());
        let orders: Option<Vec<OrderKey>> = orders.transpose().map_err(Problem::unprocessable)?;
        let mut given: Vec<Selection> = [
            self.filter.map(Selection::Filter),
            orders.map(Selection::Orders),
            self.group.map(Selection::Group),
            self.failed_of.map(Selection::FailedOf),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (given.len(), given.pop()) {
            (1, Some(selection)) => Ok(selection),
            _ => Err(Problem::unprocessable(
                "choose the orders: exactly one of filter, orders, group and failed_of",
            )),
        }
    }
}

/// A JSON Patch (RFC 6902), every digit of its values unchanged.
pub struct PatchText(Box<RawValue>);

impl<'de> Deserialize<'de> for PatchText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for PatchText {
    fn schema_name() -> Cow<'static, str> {
        "JsonPatch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "description": "A JSON Patch (RFC 6902).",
            "minItems": 1,
            "maxItems": 1000,
            "items": {
                "type": "object",
                "required": ["op", "path"],
                "properties": {
                    "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
                    "path": {"type": "string", "description": "JSON pointer (RFC 6901)."},
                    "from": {"type": "string", "description": "For move and copy."},
                    "value": {"description": "For add, replace and test."},
                },
            },
        })
    }
}

/// The same change in many orders.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchMany {
    /// In which orders.
    selection: Chosen,
    /// What changes.
    patch: PatchText,
    /// Only preview: nothing is saved.
    #[serde(default)]
    dry_run: bool,
    /// Stored with each edit; required unless it is a dry run.
    #[serde(default)]
    #[schemars(length(max = 500))]
    reason: Option<String>,
}

fn patched(preview: PatchPreview) -> PatchedOrder {
    let (differences, refused) = match preview.outcome {
        Ok(differences) => (differences, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    PatchedOrder {
        shop: preview.key.shop.to_string(),
        order_id: preview.key.order_id.to_string(),
        revision: preview.revision,
        differences,
        refused,
    }
}

async fn patch(
    web: Web,
    call: Call<Nothing, Nothing, PatchMany>,
) -> Result<Reply<PatchedView>, Problem> {
    let PatchMany { selection, patch, dry_run, reason } = call.body;
    let selection = selection.selection()?;
    let reason = if dry_run { reason.as_deref() } else { Some(needed(reason.as_deref())?) };
    let (act, text) = (web.ops.act(&call.person, reason), patch.0.get());
    let previews = web.ops.preview_patch(&selection, text, &act).await?;
    let good = previews.iter().filter(|preview| preview.outcome.is_ok());
    let good: Vec<(OrderKey, u32)> = good.map(|p| (p.key.clone(), p.revision)).collect();
    let mut applied = HashMap::new();
    if !dry_run {
        applied.extend(web.ops.apply_patch(&good, text, &act).await?);
    }
    let items = previews.into_iter().map(|preview| {
        let became = applied.remove(&preview.key);
        let mut item = patched(preview);
        match became {
            Some(Ok(revision)) => item.revision = revision,
            Some(Err(why)) => (item.differences, item.refused) = (Vec::new(), Some(why)),
            None => {}
        }
        item
    });
    let items: Vec<PatchedOrder> = items.collect();
    let refused = items.iter().filter(|item| item.refused.is_some()).count();
    Ok(Reply::ok(PatchedView { dry_run, changed: items.len() - refused, refused, items }))
}
