//! Mails: sent, waiting, kept, failed; as they were rendered.

use axum::extract::{Path, Query};
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse};
use minijinja::{Value, context};
use uuid::Uuid;

use crate::domain::text::one_line;
use crate::ports::store::{MailStatus, StoredMail};

use super::front::{Answer, Failure, Fields, Front, field};
use super::letter_pages::insist_on_all_shops;
use super::pages::printable;

const MAX_LISTED: u32 = 200;

/// `GET /mails`
pub async fn mails(front: Front, Query(fields): Query<Fields>) -> Answer {
    insist_on_all_shops(&front)?;
    let status = field(&fields, "status").and_then(MailStatus::from_name);
    let mails = front.web.ops.store.list_mails(status, MAX_LISTED).await?;
    let values = context! {
        mails => mails.iter().map(|mail| view(&front, mail)).collect::<Vec<_>>(),
        any_kept => mails.iter().any(|mail| mail.status == MailStatus::Kept),
        statuses => MailStatus::ALL.map(MailStatus::as_str),
        status => status.map(MailStatus::as_str),
    };
    front.page("mails.html", front.t("Mails"), None, values)
}

/// `GET /mails/{id}`
pub async fn mail(front: Front, Path(id): Path<String>) -> Answer {
    let mail = find(&front, &id).await?;
    let values = context! {
        m => view(&front, &mail),
        sender => &mail.mail.sender,
        text => printable(&mail.mail.text),
        tries => &mail.tries,
    };
    front.page("mail.html", &one_line(&mail.mail.subject, 200), None, values)
}

/// `GET /mails/{id}/html`: the mail alone, for a frame in which nothing runs and nothing is loaded.
pub async fn html(front: Front, Path(id): Path<String>) -> Answer {
    let mail = find(&front, &id).await?;
    let mut response = Html(mail.mail.html).into_response();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'";
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    Ok(response)
}

async fn find(front: &Front, id: &str) -> Result<StoredMail, Failure> {
    insist_on_all_shops(front)?;
    let missing = || Failure::missing("There is no such mail.");
    let id: Uuid = id.parse().map_err(|_| missing())?;
    front.web.ops.store.mail(id).await?.ok_or_else(missing)
}

fn view(front: &Front, stored: &StoredMail) -> Value {
    let tell = front.tell();
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
        at => tell.time(stored.created_at),
        sent => tell.time_or_none(stored.sent_at),
    }
}
