//! Previews of mails: each kind with sample data, for whoever may see mails.

use axum::extract::{Path, Query};
use axum::response::IntoResponse;
use minijinja::context;

use crate::domain::language::Language;
use crate::key;
use crate::ports::mail::Mail;
use crate::web::html::context::{Failure, PageContext, PageResult};
use crate::web::html::formatter::printable;
use crate::web::html::forms::{Fields, field};
use crate::web::pages::mails::framed;

/// `GET /mail-previews`
pub async fn kinds(ctx: PageContext) -> PageResult {
    ctx.web.ops.authorize_mails(&ctx.user.person)?;
    let previews = &ctx.web.previews;
    let mails = previews.kinds().into_iter().filter_map(|kind| {
        let subject = previews.preview(kind, Some(ctx.language))?.subject;
        Some(context! { kind, subject })
    });
    let values = context! { mails => mails.collect::<Vec<_>>() };
    ctx.page("mail_previews.html", ctx.t(key!("Previews of mails")), None, values)
}

/// `GET /mail-previews/{kind}`
pub async fn preview(
    ctx: PageContext,
    Path(kind): Path<String>,
    Query(fields): Query<Fields>,
) -> PageResult {
    let (mail, language) = find(&ctx, &kind, &fields)?;
    let values = context! {
        kind,
        subject => &mail.subject,
        text => printable(&mail.text),
        language => language.code(),
        languages => Language::ALL.map(Language::code),
    };
    ctx.page("mail_preview.html", &mail.subject, None, values)
}

/// `GET /mail-previews/{kind}/html`: the mail alone, for a frame in which nothing runs and nothing is loaded.
pub async fn html(
    ctx: PageContext,
    Path(kind): Path<String>,
    Query(fields): Query<Fields>,
) -> PageResult {
    let (mail, _) = find(&ctx, &kind, &fields)?;
    Ok(framed(mail.html).into_response())
}

fn find(ctx: &PageContext, kind: &str, fields: &Fields) -> Result<(Mail, Language), Failure> {
    ctx.web.ops.authorize_mails(&ctx.user.person)?;
    let language = field(fields, "language").and_then(Language::from_code);
    let language = language.unwrap_or(ctx.language);
    let mail = ctx.web.previews.preview(kind, Some(language));
    Ok((mail.ok_or_else(|| Failure::missing(key!("There is no mail of this kind.")))?, language))
}
