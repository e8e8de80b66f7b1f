//! `/api/v1/channels`: channels beside mail, and what they were told.

use axum::http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::permission::Permission;
use crate::ports::channels::{MessageFilter, MessageStatus};
use crate::views::channels::{ChannelView, MessageView};
use crate::web::api::call::{Call, Done, Items, Nothing, Reply, Why, limit};
use crate::web::api::operation::{About, Routes};
use crate::web::api::paths::{IdPath, NamePath};
use crate::web::problem::Problem;
use crate::web::state::Web;

/// The routes of this file.
pub fn add(routes: Routes) -> Routes {
    use Permission::{Admin, Process, Read};
    routes
        .add(
            &Method::GET,
            "/channels",
            About::new(Read, "List channels and how they are doing"),
            channels,
        )
        .add(
            &Method::POST,
            "/channels/{name}/test",
            About::new(Admin, "Send a test to a channel now"),
            test,
        )
        .add(
            &Method::GET,
            "/channel-messages",
            About::new(Read, "List messages to channels, newest first"),
            messages,
        )
        .add(
            &Method::GET,
            "/channel-messages/{id}",
            About::new(Read, "Show a message to a channel"),
            message,
        )
        .add(
            &Method::POST,
            "/channel-messages/{id}/resend",
            About::new(Process, "Send a message again that its channel did not take"),
            resend,
        )
}

async fn channels(
    web: Web,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Reply<Items<ChannelView>>, Problem> {
    let reports = web.ops.channels(&call.person).await?;
    let view = |report: &crate::ops::channels::ChannelReport| {
        ChannelView::of(&report.channel, &report.place, &report.state)
    };
    Ok(Reply::ok(Items::all(reports.channels.iter().map(view).collect())))
}

/// What became of a test.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TestView {
    /// The message's id.
    message: String,
    /// Whether the channel took it.
    delivered: bool,
    /// Why not.
    error: Option<String>,
}

async fn test(web: Web, call: Call<NamePath, Nothing, Why>) -> Result<Reply<TestView>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    let report = web.ops.test_channel(&call.path.name, &act).await?;
    Ok(Reply::ok(TestView {
        message: report.message.to_string(),
        delivered: report.error.is_none(),
        error: report.error,
    }))
}

/// Which messages.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageQuery {
    /// Only of this channel.
    channel: Option<String>,
    /// waiting, delivered, failed or split.
    status: Option<String>,
    /// At most 1000; else 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

async fn messages(
    web: Web,
    call: Call<Nothing, MessageQuery, Nothing>,
) -> Result<Reply<Items<MessageView>>, Problem> {
    let read = |name: &str| {
        let known = MessageStatus::ALL.map(MessageStatus::as_str).join(", ");
        let unknown = || Problem::unprocessable(format!("status: expected one of {known}"));
        MessageStatus::from_name(name).ok_or_else(unknown)
    };
    let status = call.query.status.as_deref().map(read).transpose()?;
    let limit = limit(call.query.limit, 100)?;
    let filter = MessageFilter { channel: call.query.channel, status };
    let messages = web.ops.channel_messages(&call.person, &filter, limit).await?;
    Ok(Reply::ok(Items::all(messages.iter().map(MessageView::of).collect())))
}

async fn message(
    web: Web,
    call: Call<IdPath, Nothing, Nothing>,
) -> Result<Reply<MessageView>, Problem> {
    let (message, _) = web.ops.channel_message(&call.person, &call.path.id).await?;
    Ok(Reply::ok(MessageView::of(&message)))
}

async fn resend(web: Web, call: Call<IdPath, Nothing, Why>) -> Result<Reply<Done>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    web.ops.resend_channel_message(&call.path.id, &act).await?;
    Ok(Reply::ok(Done { done: "queued" }))
}
