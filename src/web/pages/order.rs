//! One order: its content, its history, and the actions for it.

use crate::key;
use crate::web::html::context::{Failure, PageContext, PageResult, download};
use axum::extract::{Path, Query};
use jiff::Timestamp;
use minijinja::{Value, context};

use crate::domain::edit::differences;
use crate::domain::language::Language;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{OrderState, Phase};
use crate::domain::order::values::OrderKey;
use crate::domain::text::one_line;
use crate::ops::refusal::Refusal;
use crate::ports::erps::ErpUnusable;
use crate::ports::order_desk::{Attempt, OrderDetail, StoredExchange};
use crate::web::html::erps::erps;
use crate::web::html::formatter::{Formatter, beginning};
use crate::web::html::forms::{Fields, field, quoted};
use crate::web::html::rows;
use crate::web::pages::order_content::{Lines, MAX_FACT, content};

/// The order that an address names, if the user may see it.
async fn find(ctx: &PageContext, at: (String, String)) -> Result<OrderDetail, Failure> {
    let key = key_of(at)?;
    known(ctx.web.ops.show(&ctx.user.person, &key).await)
}

fn missing() -> Failure {
    Failure::missing(key!("There is no such order."))
}

/// The key of an address.
pub fn key_of((shop, order_id): (String, String)) -> Result<OrderKey, Failure> {
    OrderKey::new(&shop, &order_id).map_err(|_| missing())
}

/// What is not there is said in the reader's language.
pub fn known<T>(found: Result<T, Refusal>) -> Result<T, Failure> {
    match found {
        Err(Refusal::NotFound { .. }) => Err(missing()),
        found => Ok(found?),
    }
}

/// `GET /orders/{shop}/{order_id}`
pub async fn order(
    ctx: PageContext,
    Path(at): Path<(String, String)>,
    Query(fields): Query<Fields>,
) -> PageResult {
    let detail = find(&ctx, at).await?;
    let (formatter, record) = (ctx.formatter(), &detail.record);
    let shown = detail.current().clone();
    let document: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
    let rehearsal = match record.phase.state() {
        OrderState::Confirmed => Value::from(()),
        _ => rehearsal(&ctx, &record.key).await?,
    };
    let revisions: Vec<Value> = detail
        .revisions
        .iter()
        .map(|r| {
            context! { revision => &r.revision, actor => &r.actor, at => formatter.time(r.at), reason => r.reason.as_deref().map(|reason| one_line(reason, 500)) }
        })
        .collect();
    let conflicts: Vec<Value> = detail
        .conflicts
        .iter()
        .map(|c| context! { at => formatter.time(c.received_at), document => beginning(ctx.language, &c.document) })
        .collect();
    let removed = detail.audit.iter().rev().find(|entry| entry.action == "order.remove");
    let values = context! {
        o => rows::order(&formatter, record),
        erps => erps(&ctx, Some(ctx.web.ops.erp_of(&record.key))).await?,
        source => &detail.source,
        content => content(&ctx, record, &document, Lines::from_field(field(&fields, "lines"))),
        events => events(&formatter, &detail),
        rehearsal,
        revisions,
        edited => beginning(ctx.language, &shown),
        edited_differences => rows::differences(&differences(&detail.document, &shown)),
        document => beginning(ctx.language, &detail.document),
        conflicts,
        doubles => doubles(&formatter, &detail),
        other_total => other_total(&formatter, &detail),
        entered_twice => detail.second_entries.iter().any(|entry| entry.settled.is_none()),
        removed_why => removed.and_then(|entry| entry.reason.as_deref().map(|reason| one_line(reason, 500))),
        trace => &record.trace.parent,
        commands => commands(record),
    };
    let title = format!("{} {}", ctx.t(key!("Order")), record.key);
    ctx.page("order.html", &title, Some(record.key.shop.as_str()), values)
}

/// `GET /orders/{shop}/{order_id}/document`: the original bytes.
pub async fn document(ctx: PageContext, Path(at): Path<(String, String)>) -> PageResult {
    let detail = find(&ctx, at).await?;
    let name = format!("{}-{}.json", detail.record.key.shop, detail.record.key.order_id);
    Ok(download(&name, "application/json", detail.document.to_string()))
}

async fn rehearsal(ctx: &PageContext, key: &OrderKey) -> Result<Value, Failure> {
    Ok(match ctx.web.ops.rehearse(&ctx.user.person, key).await {
        Ok(exchanges) => {
            context! { exchanges => exchanges.iter().map(|one| rows::exchange(ctx.language, one)).collect::<Vec<_>>() }
        }
        Err(Refusal::ErpUnusable(ErpUnusable(why))) => {
            context! { fault => one_line(&why, 500), exchanges => Vec::<Value>::new() }
        }
        Err(refusal) => return Err(refusal.into()),
    })
}

/// Numbers that the ERP gave the order besides its first.
fn doubles(formatter: &Formatter, detail: &OrderDetail) -> Vec<Value> {
    let entries = detail.second_entries.iter();
    entries
        .map(|entry| {
            context! {
                number => one_line(&entry.number, MAX_FACT),
                first => one_line(&entry.first_number, MAX_FACT),
                attempt => entry.attempt,
                worker => one_line(&entry.worker, MAX_FACT),
                at => formatter.time(entry.found_at),
                settled => entry.settled.as_ref().map(|settled| one_line(&format!("{}: {}", settled.actor, settled.reason), 500)),
            }
        })
        .collect()
}

/// The newest sum in the ERP that differs from what was paid, while the order is lost.
fn other_total(formatter: &Formatter, detail: &OrderDetail) -> Option<Value> {
    let newest = detail.total_differences.last()?;
    let difference = &newest.difference;
    let number = difference.erp_order_id.as_deref().unwrap_or("?");
    let lines: Vec<Value> = difference
        .lines
        .iter()
        .map(|line| context! { name => &line.name, paid => &line.paid, found => &line.found })
        .collect();
    Some(context! {
        paid => difference.paid.to_string(),
        found => difference.found.to_string(),
        number => one_line(number, MAX_FACT),
        at => formatter.time(newest.found_at),
        lines,
        accepted => newest.accepted.as_ref().map(|by| one_line(&format!("{}: {}", by.actor, by.reason), 500)),
    })
}

/// Everything that happened, in order.
fn events(formatter: &Formatter, detail: &OrderDetail) -> Vec<Value> {
    let language = formatter.language;
    let mut events: Vec<(Timestamp, Value)> = Vec::new();
    let event = |tone: &str, title: String, text: String| context! { tone, title, text };
    let from = [("source", detail.source.as_str())];
    let came = language.fill(key!("Received ({source})"), &from);
    events.push((detail.record.received_at, event("", came, String::new())));
    for attempt in &detail.attempts {
        let of = detail.exchanges.iter().filter(|stored| stored.attempt == attempt.attempt);
        events.push((attempt.occurred_at, tried(language, attempt, of)));
    }
    let is_told =
        |stored: &&StoredExchange| detail.attempts.iter().any(|a| a.attempt == stored.attempt);
    for stored in detail.exchanges.iter().filter(|stored| !is_told(stored)) {
        let title = language.t(key!("The ERP was asked")).to_owned();
        let exchanges = vec![rows::exchange(language, &stored.exchange)];
        events.push((stored.at, context! { exchanges, ..event("wait", title, String::new()) }));
    }
    for mail in &detail.mails {
        let title = format!(
            "{}: {}",
            language.t(key!("Mail")),
            language.word("mail", mail.status.as_str())
        );
        let href = format!("/mails/{}", mail.id);
        events.push((
            mail.created_at,
            context! { href, ..event("", title, one_line(&mail.mail.subject, MAX_FACT)) },
        ));
    }
    for entry in &detail.audit {
        let reason =
            entry.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let title = language.word("did", &entry.action);
        events
            .push((entry.at, event("", title, one_line(&format!("{}{reason}", entry.actor), 500))));
    }
    for conflict in &detail.conflicts {
        let title = language.t(key!("Different content arrived under this number")).to_owned();
        events.push((conflict.received_at, event("bad", title, conflict.source.clone())));
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(at, event)| context! { at => formatter.time(at), ..event }).collect()
}

fn tried<'a>(
    language: Language,
    attempt: &Attempt,
    exchanges: impl Iterator<Item = &'a StoredExchange>,
) -> Value {
    let text = |part: &Option<String>| one_line(part.as_deref().unwrap_or_default(), MAX_FACT);
    let number = attempt.attempt.to_string();
    let trigger = language.word("trigger", &attempt.trigger);
    let values = [("n", number.as_str()), ("trigger", trigger.as_str())];
    let succeeded = attempt.outcome == "succeeded";
    let key = match (succeeded, attempt.found) {
        (true, true) => key!("Attempt {n} ({trigger}): found in the ERP"),
        (true, false) => key!("Attempt {n} ({trigger}): accepted by the ERP"),
        (false, _) if attempt.class.as_deref() == Some("unknown_outcome") => {
            key!("Attempt {n} ({trigger}): sent, answer not seen")
        }
        (false, _) => key!("Attempt {n} ({trigger}): failed"),
    };
    let tone = match (succeeded, attempt.class.as_deref()) {
        (true, _) => "good",
        (false, Some("unknown_outcome")) => "wait",
        (false, _) => "bad",
    };
    let mut told = Vec::new();
    if succeeded {
        told.push(text(&attempt.erp_order_id));
    } else {
        told.push(format!(
            "{} ({}): {}",
            text(&attempt.class),
            text(&attempt.code),
            text(&attempt.message)
        ));
    }
    told.extend(attempt.status.map(|status| format!("HTTP {status}")));
    told.push(format!("{} ms", attempt.duration_ms));
    told.retain(|part| !part.is_empty());
    let exchanges: Vec<Value> =
        exchanges.map(|stored| rows::exchange(language, &stored.exchange)).collect();
    context! { tone, title => language.fill(key, &values), text => told.join(", "), exchanges }
}

fn commands(record: &OrderRecord) -> Vec<String> {
    let order = quoted(&record.key.to_string());
    let mut commands = vec![format!("order-relay orders show {order}")];
    match record.phase.state() {
        OrderState::OrderedFailed if matches!(record.phase, Phase::OutcomeUnknown { .. }) => {
            commands.push(format!("order-relay reconcile {order}"));
        }
        OrderState::OrderedFailed => {
            commands.push(format!("order-relay lost-orders process {order}"));
            commands.push(format!("order-relay lost-orders edit {order}"));
            commands.push(format!("order-relay lost-orders remove {order} --reason \"…\""));
        }
        OrderState::Payed => commands.push(format!("order-relay erp render {order}")),
        OrderState::Confirmed if record.phase == Phase::Removed => {
            commands.push(format!("order-relay lost-orders restore {order} --reason \"…\""));
        }
        OrderState::Confirmed => {}
    }
    commands
}
