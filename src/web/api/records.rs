//! `/api/v1/audit`, `/ledger`, `/mails`: the audit, the check of the ledger, and mails.

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::order_filter::Moment;
use crate::domain::permission::Permission;
use crate::ports::audit::{AuditFilter, AuditRow};
use crate::ports::ledger::LedgerReport;
use crate::ports::notices::MailStatus;
use crate::views::mails::MailView;
use crate::web::api::call::{Call, Done, Items, Nothing, Reply, Why, limit};
use crate::web::api::operation::{About, Routes};
use crate::web::api::paths::IdPath;
use crate::web::problem::Problem;
use crate::web::state::Web;

/// The routes of this file.
pub fn add(routes: Routes) -> Routes {
    use Permission::{Process, Read};
    routes
        .add(&Method::GET, "/audit", About::new(Read, "List the audit, newest first"), audit)
        .add(
            &Method::GET,
            "/ledger",
            About::new(Read, "Verify that nothing is lost; reads every order"),
            ledger,
        )
        .add(&Method::GET, "/mails", About::new(Read, "List mails, newest first"), mails)
        .add(&Method::GET, "/mails/{id}", About::new(Read, "Show a mail"), mail)
        .add(
            &Method::POST,
            "/mails/{id}/resend",
            About::new(Process, "Send a mail again to whoever has not got it"),
            resend,
        )
        .add(
            &Method::POST,
            "/mails/{id}/acknowledge",
            About::new(Process, "Say that an alert which no administrator got is known"),
            acknowledge,
        )
}

/// Which audit rows; every part that is given must match.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Who, as `user:erika`, `oidc:erika`, `token:checkout` or `cli:root`.
    actor: Option<String>,
    /// An action such as `order.remove`, or a prefix such as `order.`.
    action: Option<String>,
    /// To what: an order as `shop/number`, or `user NAME`, `token NAME`.
    target: Option<String>,
    /// At or after: a time, or how long ago, such as 2h.
    since: Option<String>,
    /// Before.
    until: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on a page, at most 1000; else 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

async fn audit(
    web: Web,
    call: Call<Nothing, AuditQuery, Nothing>,
) -> Result<Reply<Items<AuditRow>>, Problem> {
    let (query, now) = (call.query, web.ops.now());
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        target: query.target,
        since: moment("since", query.since.as_deref(), now)?,
        until: moment("until", query.until.as_deref(), now)?,
        shops: call.person.readable(),
    };
    let after = query.after.as_deref().map(from_cursor).transpose()?;
    let limit = limit(query.limit, 100)?;
    let mut items = web.ops.audit(&call.person, filter, after, limit + 1).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| has_more).map(to_cursor);
    Ok(Reply::ok(Items { items, next }))
}

fn moment(name: &str, text: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let read = |text: &str| {
        let moment = text.parse::<Moment>();
        moment.map_err(|expected| Problem::unprocessable(format!("{name}: expected {expected}")))
    };
    Ok(text.map(read).transpose()?.map(|moment| moment.seen_from(now)))
}

fn to_cursor(row: &AuditRow) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", row.entry.at.as_millisecond(), row.id))
}

fn from_cursor(text: &str) -> Result<(Timestamp, Uuid), Problem> {
    let read = || {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (at, id) = plain.split_once(' ')?;
        Some((Timestamp::from_millisecond(at.parse().ok()?).ok()?, id.parse().ok()?))
    };
    let detail = "after: this is no cursor; use `next` of the previous page";
    read().ok_or_else(|| Problem::unprocessable(detail))
}

/// Since when.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerQuery {
    /// Only orders received at or after: a time, or how long ago, such as 2h.
    since: Option<String>,
}

async fn ledger(
    web: Web,
    call: Call<Nothing, LedgerQuery, Nothing>,
) -> Result<Reply<LedgerReport>, Problem> {
    let since = moment("since", call.query.since.as_deref(), web.ops.now())?;
    Ok(Reply::ok(web.ops.check_ledger(&call.person, since).await?))
}

/// Which mails.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailQuery {
    /// waiting, sent, kept, failed or split: for all or for one of the receivers.
    status: Option<String>,
    /// At most 1000; else 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

async fn mails(
    web: Web,
    call: Call<Nothing, MailQuery, Nothing>,
) -> Result<Reply<Items<MailView>>, Problem> {
    let read = |name: &str| {
        let known = MailStatus::ALL.map(MailStatus::as_str).join(", ");
        let unknown = || Problem::unprocessable(format!("status: expected one of {known}"));
        MailStatus::from_name(name).ok_or_else(unknown)
    };
    let status = call.query.status.as_deref().map(read).transpose()?;
    let limit = limit(call.query.limit, 100)?;
    let mails = web.ops.mails(&call.person, status, limit).await?;
    Ok(Reply::ok(Items::all(mails.iter().map(MailView::of).collect())))
}

async fn mail(web: Web, call: Call<IdPath, Nothing, Nothing>) -> Result<Reply<MailView>, Problem> {
    Ok(Reply::ok(MailView::of(&web.ops.mail(&call.person, &call.path.id).await?)))
}

/// A mail that is sent again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Resent {
    /// How many receivers it is queued for.
    queued: u32,
}

async fn resend(web: Web, call: Call<IdPath, Nothing, Why>) -> Result<Reply<Resent>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    Ok(Reply::ok(Resent { queued: web.ops.resend_mail(&call.path.id, &act).await? }))
}

async fn acknowledge(web: Web, call: Call<IdPath, Nothing, Why>) -> Result<Reply<Done>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    web.ops.acknowledge_mail(&call.path.id, &act).await?;
    Ok(Reply::ok(Done { done: "acknowledged" }))
}
