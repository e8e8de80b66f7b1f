//! Mails: sent, waiting, kept, failed; as they were rendered.

use crate::key;
use axum::extract::{Path, Query};
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse};
use minijinja::{Value, context};

use crate::domain::text::one_line;
use crate::ports::notices::{MailStatus, StoredMail};
use crate::web::html::context::{Failure, PageContext, PageResult};
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
        sender => &mail.mail.sender,
        text => printable(&mail.mail.text),
        tries => &mail.tries,
    };
    ctx.page("mail.html", &one_line(&mail.mail.subject, 200), None, values)
}

/// `GET /mails/{id}/html`: the mail alone, for a frame in which nothing runs and nothing is loaded.
pub async fn html(ctx: PageContext, Path(id): Path<String>) -> PageResult {
    let mail = find(&ctx, &id).await?;
    let mut response = Html(mail.mail.html).into_response();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'";
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    Ok(response)
}

async fn find(ctx: &PageContext, id: &str) -> Result<StoredMail, Failure> {
    Ok(ctx.web.ops.mail(&ctx.user.person, id).await?)
}

fn view(ctx: &PageContext, stored: &StoredMail) -> Value {
    let formatter = ctx.formatter();
    let tone = match stored.status {
        MailStatus::Sent => "good",
        MailStatus::Failed => "bad",
        MailStatus::Waiting => "wait",
        MailStatus::Kept => "",
    };
    context! {
        id => stored.id.to_string(),
        kind => stored.mail.kind.as_str(),
        status => stored.status.as_str(),
        tone,
        to => one_line(&stored.mail.receivers.join(", "), 300),
        subject => one_line(&stored.mail.subject, 300),
        error => stored.error.as_deref().map(|error| one_line(error, 300)),
        at => formatter.time(stored.created_at),
        sent => formatter.time_or_none(stored.sent_at),
    }
}
