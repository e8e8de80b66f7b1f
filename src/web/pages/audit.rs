//! The audit: who did what, when, from where, why, before and after.

use crate::key;
use axum::extract::Query;
use axum::http::StatusCode;
use jiff::Timestamp;
use minijinja::{Value, context};
use uuid::Uuid;

use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::Moment;
use crate::domain::text::{one_line, path_segment};
use crate::ports::audit::{AuditFilter, AuditRow};
use crate::web::html::context::{Failure, PageContext, PageResult};
use crate::web::html::forms::{Fields, field, order_address, quoted, without_unseen};
use crate::web::html::rows;
use crate::web::pages::export;

const PAGE: u32 = 100;

/// `GET /audit`
pub async fn audit(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    let fields = without_unseen(fields);
    let (filter, fault) = match filter(&ctx, &fields) {
        Ok(filter) => (filter, None),
        Err(fault) => (AuditFilter::default(), Some(fault)),
    };
    let after = field(&fields, "after").and_then(place);
    let person = &ctx.user.person;
    let rows = ctx.web.ops.audit(person, filter, after, PAGE).await?;
    let kept: Vec<(&str, &str)> = ["actor", "action", "target", "since", "until"]
        .into_iter()
        .filter_map(|name| Some((name, field(&fields, name)?)))
        .collect();
    let address = |path: &str, more: Option<String>| {
        let mut pairs: Vec<String> =
            kept.iter().map(|(name, value)| format!("{name}={}", path_segment(value))).collect();
        pairs.extend(more.map(|more| format!("after={more}")));
        format!("{path}?{}", pairs.join("&"))
    };
    let full = rows.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
    let next = rows.last().filter(|_| full).map(|row| address("/audit", Some(mark(row))));
    let values = context! {
        q => rows::by_name(kept.iter().copied()),
        entries => rows.iter().map(|row| view(&ctx, row)).collect::<Vec<_>>(),
        next,
        first => after.map(|_| address("/audit", None)),
        csv => address("/audit.csv", None),
        command_list => command(&kept),
        fault,
    };
    ctx.page("audit.html", ctx.t(key!("Audit")), None, values)
}

/// `GET /audit.csv`
pub async fn audit_csv(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    let filter =
        filter(&ctx, &fields).map_err(|fault| Failure::new(StatusCode::BAD_REQUEST, fault))?;
    let (ops, person) = (ctx.web.ops.clone(), ctx.user.person.clone());
    let pages = move |after: Option<String>| {
        let (ops, person, filter) = (ops.clone(), person.clone(), filter.clone());
        async move {
            let after = after.as_deref().and_then(place);
            let rows = ops.audit(&person, filter, after, 500).await?;
            let next = (rows.len() == 500).then(|| rows.last().map(mark)).flatten();
            Ok((rows.iter().map(cells).collect(), next))
        }
    };
    let columns = ["at", "actor", "from", "action", "target", "reason", "before", "after"];
    Ok(export::csv("audit.csv", &columns, pages))
}

/// The command that lists the same.
fn command(kept: &[(&str, &str)]) -> String {
    let options = kept.iter().map(|(name, value)| format!(" --{name} {}", quoted(value)));
    format!("order-relay audit{}", options.collect::<String>())
}

fn filter(ctx: &PageContext, fields: &Fields) -> Result<AuditFilter, String> {
    let now = ctx.web.ops.now();
    let moment = |name: &str| -> Result<Option<Timestamp>, String> {
        let Some(text) = field(fields, name) else { return Ok(None) };
        let moment =
            text.parse::<Moment>().map_err(|expected| format!("{name}: expected {expected}"))?;
        Ok(Some(moment.seen_from(now)))
    };
    Ok(AuditFilter {
        actor: field(fields, "actor").map(str::to_owned),
        action: field(fields, "action").map(str::to_owned),
        target: field(fields, "target").map(str::to_owned),
        since: moment("since")?,
        until: moment("until")?,
        ..AuditFilter::default()
    })
}

/// The page of the order that something was done to.
fn order_of(action: &str, target: &str) -> Option<String> {
    let (shop, order_id) = target.split_once('/').filter(|_| action.starts_with("order."))?;
    OrderKey::new(shop, order_id).ok().map(|key| order_address(&key))
}

fn mark(row: &AuditRow) -> String {
    format!("{}_{}", row.entry.at.as_millisecond(), row.id)
}

fn place(mark: &str) -> Option<(Timestamp, Uuid)> {
    let (ms, id) = mark.split_once('_')?;
    Some((Timestamp::from_millisecond(ms.parse().ok()?).ok()?, id.parse().ok()?))
}

fn cells(row: &AuditRow) -> Vec<String> {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let entry = &row.entry;
    vec![
        entry.at.to_string(),
        entry.actor.clone(),
        text(&entry.from),
        entry.action.clone(),
        entry.target.clone(),
        text(&entry.reason),
        text(&entry.before),
        text(&entry.after),
    ]
}

fn view(ctx: &PageContext, row: &AuditRow) -> Value {
    let entry = &row.entry;
    let part = |text: &Option<String>| text.as_deref().map(|text| one_line(text, 500));
    context! {
        at => ctx.formatter().time(entry.at),
        actor => one_line(&entry.actor, 100),
        from => part(&entry.from),
        action => &entry.action,
        target => one_line(&entry.target, 200),
        href => order_of(&entry.action, &entry.target),
        reason => part(&entry.reason),
        before => part(&entry.before),
        after => part(&entry.after),
    }
}
