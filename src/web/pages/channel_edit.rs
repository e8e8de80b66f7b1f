//! Making, changing and deleting a channel on a page. What is secret can be written and is never shown again.

use crate::key;
use axum::extract::Path;
use minijinja::context;
use serde_json::{Map, Value as Json, json};

use crate::domain::channel::ChannelType;
use crate::domain::notice::NoticeKind;
use crate::domain::permission::Permission;
use crate::domain::text::one_line;
use crate::ops::refusal::Refusal;
use crate::web::auth::session::Posted;
use crate::web::html::context::{PageContext, PageResult, unprocessable};
use crate::web::html::formatter::printable;
use crate::web::html::forms::{Fields, field};

/// Written, and never shown.
const SECRETS: [&str; 4] = ["url", "secret", "key", "authorization"];
const TEXTS: [&str; 5] = ["body", "threshold", "digest_after", "digest_every", "time_zone"];
/// With commas between.
const LISTS: [&str; 3] = ["shops", "quiet_hours", "maintenance"];

/// `GET /new-channel`
pub async fn new(ctx: PageContext) -> PageResult {
    ctx.user.person.authorize(Permission::Admin, None)?;
    show(&ctx, "", 0, &json!({"enabled": true}), None)
}

/// `GET /channels/{name}/edit`
pub async fn edit(ctx: PageContext, Path(name): Path<String>) -> PageResult {
    let stored = ctx.web.ops.channel_definition(&ctx.user.person, &name).await?;
    let definition: Json = serde_json::from_str(&stored.definition).unwrap_or_default();
    show(&ctx, &name, stored.version, &definition, None)
}

fn show(
    ctx: &PageContext,
    name: &str,
    version: i64,
    definition: &Json,
    fault: Option<String>,
) -> PageResult {
    let text = |key: &str| match &definition[key] {
        Json::Array(items) => {
            printable(&items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "))
        }
        Json::String(text) => printable(text),
        _ => String::new(),
    };
    let is_set = |key: &str| !text(key).is_empty();
    let kinds = NoticeKind::ALL.into_iter().filter(|kind| kind.is_for_channels());
    let values = context! {
        c => context! {
            name,
            version => version.to_string(),
            type => text("type"),
            enabled => definition["enabled"] != json!(false),
            has_url => is_set("url"),
            has_secret => is_set("secret"),
            has_key => is_set("key"),
            has_authorization => is_set("authorization"),
            body => text("body"),
            kinds => kinds_of(definition),
            shops => text("shops"),
            threshold => text("threshold"),
            digest_after => text("digest_after"),
            digest_every => text("digest_every"),
            quiet_hours => text("quiet_hours"),
            maintenance => text("maintenance"),
            time_zone => text("time_zone"),
        },
        types => ChannelType::ALL.map(ChannelType::as_str),
        kinds => kinds.map(NoticeKind::as_str).collect::<Vec<_>>(),
        fault,
    };
    let title = match version {
        0 => ctx.t(key!("New channel")).to_owned(),
        _ => format!("{} {name}", ctx.t(key!("Channel"))),
    };
    ctx.page("channel_edit.html", &title, None, values)
}

fn kinds_of(definition: &Json) -> Vec<String> {
    let kinds = definition["kinds"].as_array().into_iter().flatten();
    kinds.filter_map(|kind| Some(kind.as_str()?.to_owned())).collect()
}

/// `POST /channels`: makes a channel, or changes the version that the form was made from.
pub async fn save(ctx: PageContext, Posted { form, .. }: Posted<Fields>) -> PageResult {
    let name = field(&form, "name").unwrap_or_default();
    let version = field(&form, "version").unwrap_or("0").parse::<i64>();
    let version =
        version.map_err(|_| unprocessable(key!("The form is broken; load the page again.")))?;
    let before = match version {
        0 => Map::new(),
        _ => {
            let stored = ctx.web.ops.channel_definition(&ctx.user.person, name).await?;
            serde_json::from_str(&stored.definition).unwrap_or_default()
        }
    };
    let definition = Json::Object(definition_of(&form, &before));
    let act = ctx.act(None);
    match ctx.web.ops.save_channel(name, definition.to_string(), version, &act).await {
        Ok(()) => Ok(ctx.to("/channels", "good", ctx.t(key!("Saved.")))),
        Err(Refusal::Unacceptable(why)) => {
            show(&ctx, name, version, &definition, Some(one_line(&why, 500)))
        }
        Err(other) => Err(other.into()),
    }
}

/// What the form says, with the secrets that it leaves as they were.
fn definition_of(form: &Fields, before: &Map<String, Json>) -> Map<String, Json> {
    let mut own = Map::new();
    own.insert("type".to_owned(), json!(field(form, "type").unwrap_or("webhook")));
    own.insert("enabled".to_owned(), json!(field(form, "enabled") == Some("true")));
    let list = |text: &str| -> Json {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
    };
    for name in TEXTS {
        own.extend(field(form, name).map(|text| (name.to_owned(), json!(text))));
    }
    for name in LISTS {
        own.extend(field(form, name).map(|text| (name.to_owned(), list(text))));
    }
    let kinds = form.iter().filter(|(name, _)| name == "kinds").map(|(_, kind)| kind.as_str());
    own.insert("kinds".to_owned(), kinds.collect());
    for name in SECRETS {
        let kept = || before.get(name).cloned();
        let value = match field(form, name) {
            Some(text) if name == "secret" => Some(list(text)),
            Some(text) => Some(json!(text)),
            None if field(form, &format!("clear_{name}")).is_some() => None,
            None => kept(),
        };
        own.extend(value.map(|value| (name.to_owned(), value)));
    }
    own
}

/// `POST /channels/{name}/delete`
pub async fn delete(ctx: PageContext, Path(name): Path<String>, _: Posted<Fields>) -> PageResult {
    ctx.web.ops.delete_channel(&name, &ctx.act(None)).await?;
    Ok(ctx.to("/channels", "good", ctx.t(key!("Deleted."))))
}
