//! Mails: sent, waiting, kept, failed; as they were rendered.

use crate::key;
use axum::extract::{Path, Query};
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use minijinja::{Value, context};

use crate::domain::text::one_line;
use crate::ports::notices::{MailDelivery, MailStatus, StoredMail};
use crate::web::auth::session::Posted;
use crate::web::html::context::{Failure, PageContext, PageResult, download, needed_reason};
use crate::web::html::formatter::printable;
use crate::web::html::forms::{Fields, field};

const MAX_LISTED: u32 = 200;

/// `GET /mails`
pub async fn mails(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    let status = field(&fields, "status").and_then(MailStatus::from_name);
    let mails = ctx.web.ops.mails(&ctx.user.person, status, MAX_LISTED).await?;
    let values = context! {
        mails => mails.iter().map(|mail| view(&ctx, mail)).collect::<Vec<_>>(),
        any_kept => mails.iter().any(|mail| mail.status == MailStatus::Kept),
        statuses => MailStatus::ALL.map(MailStatus::as_str),
        status => status.map(MailStatus::as_str),
    };
    ctx.page("mails.html", ctx.t(key!("Mails")), None, values)
}

/// `GET /mails/{id}`
pub async fn mail(ctx: PageContext, Path(id): Path<String>) -> PageResult {
    let mail = find(&ctx, &id).await?;
    let values = context! {
        m => view(&ctx, &mail),
        has_list => mail.mail.attachment.is_some(),
        sender => &mail.mail.sender,
        text => printable(&mail.mail.text),
        deliveries => mail.deliveries.iter().map(|d| delivery(&ctx, d)).collect::<Vec<_>>(),
    };
    ctx.page("mail.html", &one_line(&mail.mail.subject, 200), None, values)
}

/// `GET /mails/{id}/html`: the mail alone, for a frame in which nothing runs and nothing is loaded.
pub async fn html(ctx: PageContext, Path(id): Path<String>) -> PageResult {
    let mail = find(&ctx, &id).await?;
    Ok(framed(mail.mail.html))
}

/// The HTML of a mail, which runs and loads nothing and has no origin.
pub(super) fn framed(html: String) -> Response {
    let mut response = Html(html).into_response();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'";
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    response
}

/// `GET /mails/{id}/failures.csv`: the list that is attached to a digest.
pub async fn list(ctx: PageContext, Path(id): Path<String>) -> PageResult {
    let mail = find(&ctx, &id).await?;
    let missing = || Failure::missing(key!("This mail has no list."));
    let list = mail.mail.attachment.ok_or_else(missing)?;
    Ok(download("failures.csv", "text/csv; charset=utf-8", list))
}

/// `POST /mails/{id}/resend`
pub async fn resend(
    ctx: PageContext,
    Path(id): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let queued = ctx.web.ops.resend_mail(&id, &ctx.act(field(&form, "reason"))).await?;
    let count = ctx.formatter().count(queued.into());
    let said =
        ctx.language.fill(key!("Queued for receivers who have not got it: {n}"), &[("n", &count)]);
    Ok(ctx.to(&format!("/mails/{id}"), "good", &said))
}

/// `POST /mails/{id}/acknowledge`
pub async fn acknowledge(
    ctx: PageContext,
    Path(id): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    ctx.web.ops.acknowledge_mail(&id, &ctx.act(Some(needed_reason(&form)?))).await?;
    Ok(ctx.to(&format!("/mails/{id}"), "good", ctx.t(key!("Acknowledged."))))
}

async fn find(ctx: &PageContext, id: &str) -> Result<StoredMail, Failure> {
    Ok(ctx.web.ops.mail(&ctx.user.person, id).await?)
}

fn view(ctx: &PageContext, stored: &StoredMail) -> Value {
    let formatter = ctx.formatter();
    let is_failed = |d: &&MailDelivery| d.status == MailStatus::Failed;
    let failed = stored.deliveries.iter().filter(is_failed).count();
    context! {
        id => stored.id.to_string(),
        kind => stored.mail.kind.as_str(),
        status => stored.status.as_str(),
        tone => tone(stored.status),
        is_unheard => stored.is_unheard(),
        can_resend => stored.deliveries.iter().any(|d| is_failed(&d) || d.status == MailStatus::Kept)
            || stored.status == MailStatus::Failed,
        // Some got it: the status alone would hide the others.
        failed => if stored.status == MailStatus::Failed { 0 } else { failed },
        to => one_line(&stored.mail.receivers.join(", "), 300),
        subject => one_line(&stored.mail.subject, 300),
        error => stored.error().map(|error| one_line(error, 300)),
        at => formatter.time(stored.created_at),
        sent => formatter.time_or_none(stored.sent_at()),
    }
}

fn delivery(ctx: &PageContext, delivery: &MailDelivery) -> Value {
    context! {
        receiver => one_line(&delivery.receiver, 320),
        status => delivery.status.as_str(),
        tone => tone(delivery.status),
        tries => delivery.tries,
        error => delivery.error.as_deref().map(|error| one_line(error, 300)),
        sent => ctx.formatter().time_or_none(delivery.sent_at),
    }
}

fn tone(status: MailStatus) -> &'static str {
    match status {
        MailStatus::Sent | MailStatus::Split => "good",
        MailStatus::Failed => "bad",
        MailStatus::Waiting => "wait",
        MailStatus::Kept => "",
    }
}
