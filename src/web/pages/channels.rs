//! Channels beside mail: how they are doing, what they were told, a test.

use crate::key;
use axum::extract::{Path, Query};
use minijinja::{Value, context};

use crate::domain::notice::NoticeKind;
use crate::domain::text::{one_line, path_segment};
use crate::ops::channels::ChannelReport;
use crate::ports::channels::{MessageFilter, MessageStatus, StoredMessage};
use crate::ports::notices::Notice;
use crate::views::channels::ChannelView;
use crate::web::auth::session::Posted;
use crate::web::html::context::{PageContext, PageResult};
use crate::web::html::forms::{Fields, field};

const MAX_LISTED: u32 = 200;
/// Notices of a message that the page shows.
const MAX_ITEMS: usize = 1_000;

/// `GET /channels`
pub async fn channels(ctx: PageContext) -> PageResult {
    let reports = ctx.web.ops.channels(&ctx.user.person).await?;
    let unusable: Vec<Value> = reports
        .unusable
        .iter()
        .map(|one| context! { name => &one.name, why => one_line(&one.why, 300) })
        .collect();
    let gone: Vec<Value> = reports
        .gone
        .iter()
        .map(|state| {
            let left = state.held + state.waiting + state.failed;
            context! { name => &state.channel, left => ctx.formatter().count(left) }
        })
        .collect();
    let values = context! {
        channels => reports.channels.iter().map(|report| view(&ctx, report)).collect::<Vec<_>>(),
        unusable,
        gone,
    };
    ctx.page("channels.html", ctx.t(key!("Channels")), None, values)
}

fn view(ctx: &PageContext, report: &ChannelReport) -> Value {
    let formatter = ctx.formatter();
    let (rule, state) = (&report.channel.rule, &report.state);
    let shown = ChannelView::of(&report.channel, &report.place, state);
    let told = NoticeKind::ALL.into_iter().filter(|kind| kind.is_for_channels()).count();
    context! {
        name => shown.name,
        channel_type => shown.channel_type,
        stored => report.channel.is_stored,
        place => shown.place,
        state => shown.state,
        tone => match shown.state {
            "ok" => "good",
            "refused" => "bad",
            "waiting" => "wait",
            _ => "",
        },
        quiet_until => formatter.time_or_none(rule.quiet.quiet_until(formatter.now)),
        kinds => if shown.kinds.len() == told { String::new() } else { shown.kinds.join(", ") },
        shops => one_line(&shown.shops.join(", "), 300),
        threshold => shown.threshold,
        delivered => formatter.count(state.delivered),
        delivered_at => formatter.time_or_none(state.delivered_at),
        held => formatter.count(state.held),
        waiting => formatter.count(state.waiting),
        failed => formatter.count(state.failed),
        below => formatter.count(state.below),
        error => state.error.as_deref().map(|error| one_line(error, 300)),
    }
}

/// `POST /channels/{name}/test`
pub async fn test(ctx: PageContext, Path(name): Path<String>, _: Posted<Fields>) -> PageResult {
    let report = ctx.web.ops.test_channel(&name, &ctx.act(None)).await?;
    let (kind, said) = match report.error {
        None => ("good", ctx.t(key!("The channel took the test.")).to_owned()),
        Some(error) => {
            let said = ctx.t(key!("The channel did not take the test:"));
            ("bad", format!("{said} {}", one_line(&error, 300)))
        }
    };
    Ok(ctx.to("/channels", kind, &said))
}

/// `GET /channel-messages`
pub async fn messages(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    let filter = MessageFilter {
        channel: field(&fields, "channel").map(str::to_owned),
        status: field(&fields, "status").and_then(MessageStatus::from_name),
    };
    let messages = ctx.web.ops.channel_messages(&ctx.user.person, &filter, MAX_LISTED).await?;
    let values = context! {
        messages => messages.iter().map(|message| message_view(&ctx, message)).collect::<Vec<_>>(),
        statuses => MessageStatus::ALL.map(MessageStatus::as_str),
        status => filter.status.map(MessageStatus::as_str),
        channel => filter.channel,
    };
    ctx.page("channel_messages.html", ctx.t(key!("Messages to channels")), None, values)
}

/// `GET /channel-messages/{id}`
pub async fn message(ctx: PageContext, Path(id): Path<String>) -> PageResult {
    let (message, notices) = ctx.web.ops.channel_message(&ctx.user.person, &id).await?;
    let items: Vec<Value> =
        notices.iter().rev().take(MAX_ITEMS).map(|notice| item(&ctx, notice)).collect();
    let more = notices.len().saturating_sub(MAX_ITEMS) as u64;
    let values = context! {
        m => message_view(&ctx, &message),
        items,
        more => (more > 0).then(|| ctx.formatter().count(more)),
    };
    ctx.page("channel_message.html", &one_line(&message.content.title, 200), None, values)
}

fn message_view(ctx: &PageContext, message: &StoredMessage) -> Value {
    let formatter = ctx.formatter();
    let is_waiting = message.status == MessageStatus::Waiting;
    context! {
        id => message.id.to_string(),
        channel => &message.channel,
        kind => &message.content.kind,
        title => one_line(&message.content.title, 300),
        status => message.status.as_str(),
        tone => match message.status {
            MessageStatus::Delivered | MessageStatus::Split => "good",
            MessageStatus::Failed => "bad",
            MessageStatus::Waiting => "wait",
        },
        tries => message.tries,
        error => message.error.as_deref().map(|error| one_line(error, 300)),
        at => formatter.time(message.created_at),
        due => formatter.time_or_none(Some(message.due_at).filter(|_| is_waiting)),
        settled => formatter.time_or_none(message.settled_at),
    }
}

fn item(ctx: &PageContext, notice: &Notice) -> Value {
    let detail = &notice.detail;
    let shop = one_line(&detail.shop, 100);
    let (about, href) = match &detail.order_id {
        Some(order_id) => {
            let href = format!("/orders/{}/{}", path_segment(&detail.shop), path_segment(order_id));
            (format!("{shop}/{}", one_line(order_id, 200)), Some(href))
        }
        None => (one_line(detail.erp.as_deref().unwrap_or(&detail.shop), 200), None),
    };
    context! {
        about,
        href,
        kind => notice.kind.as_str(),
        error => detail.message.as_deref().map(|text| one_line(text, 300)),
        at => ctx.formatter().time(detail.occurred_at),
    }
}

/// `POST /channel-messages/{id}/resend`
pub async fn resend(
    ctx: PageContext,
    Path(id): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    ctx.web.ops.resend_channel_message(&id, &ctx.act(field(&form, "reason"))).await?;
    Ok(ctx.to(&format!("/channel-messages/{id}"), "good", ctx.t(key!("Queued."))))
}
