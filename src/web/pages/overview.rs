//! The overview: what needs a person, the ERPs, activity; sent again every two seconds while it is
//! open. The figures behind it are on the page of the status, too.

use crate::key;
use crate::web::html::erps::erp;
use crate::web::html::language::Key;
use crate::web::html::live::repeated;
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::response::Response;
use futures_util::FutureExt;
use minijinja::{Value, context};

use crate::domain::money::Purse;
use crate::ops::statistics::Overview;
use crate::ports::statistics::Standing;
use crate::web::auth::session::Posted;
use crate::web::html::charts::flow_chart;
use crate::web::html::context::{PageContext, PageResult};
use crate::web::html::formatter::{Formatter, tone_of_phase};
use crate::web::html::forms::{Fields, field};

/// The phase in which an order waits for a person.
const PARKED: &str = "parked";
const SPANS: [(&str, Duration); 3] = [
    ("1h", Duration::from_hours(1)),
    ("24h", Duration::from_hours(24)),
    ("7d", Duration::from_hours(7 * 24)),
];

fn span(fields: &Fields) -> (&'static str, Duration) {
    let named = field(fields, "span");
    SPANS.into_iter().find(|(name, _)| Some(*name) == named).unwrap_or(SPANS[1])
}

/// `GET /`
pub async fn overview(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    let (name, length) = span(&fields);
    let seen = ctx.web.ops.overview(&ctx.user.person, length).await?;
    let values = context! { span => name, ..values(&ctx, name, &seen) };
    ctx.page("overview.html", ctx.t(key!("Overview")), None, values)
}

/// `GET /live`: the changing part of the overview as server-sent events, until the reader leaves or
/// may not see it any more.
pub async fn live(ctx: PageContext, Query(fields): Query<Fields>) -> Response {
    let (name, length) = span(&fields);
    repeated(ctx, move |ctx| {
        async move {
            let seen = ctx.web.ops.overview(&ctx.user.person, length).await?;
            ctx.part("overview_part.html", "", None, values(&ctx, name, &seen)).map(Some)
        }
        .boxed()
    })
}

/// What both pages show.
pub fn values(ctx: &PageContext, span: &str, seen: &Overview) -> Value {
    let formatter = ctx.formatter();
    let spans: Vec<Value> =
        SPANS.into_iter().map(|(own, _)| context! { name => own, here => own == span }).collect();
    let oldest = |belongs: &dyn Fn(&&Standing) -> bool| {
        formatter.time_or_none(seen.standing.iter().filter(belongs).filter_map(|s| s.oldest).min())
    };
    let needs = |s: &&Standing| s.phase == PARKED;
    let mut money = Purse::default();
    let of_needed = seen.standing.iter().filter(needs);
    of_needed.flat_map(|s| &s.money).for_each(|one| money.add_money(one));
    let need = seen.standing.iter().filter(needs).map(|s| s.orders).sum::<u64>();
    let since = seen.standing.iter().filter(needs).filter_map(|s| s.oldest).min();
    let again = seen.lost.saturating_sub(need);
    let standing: Vec<Value> = seen.standing.iter().map(|s| standing(&formatter, s)).collect();
    let workers: Vec<Value> = seen
        .workers
        .iter()
        .map(|w| {
            context! { name => &w.name, roles => w.roles.join(", "), seen => formatter.time(w.seen_at) }
        })
        .collect();
    // While an ERP is unavailable, most orders wait there: they are not in the ledger yet.
    let submit = ctx.web.ops.submit_queue();
    let on_broker = seen.queues.iter().find(|q| q.name == submit).map_or(0, |q| q.ready);
    let queues: Vec<Value> = seen
        .queues
        .iter()
        .map(|q| {
            context! { name => &q.name, ready => formatter.count(q.ready.into()), consumers => &q.consumers }
        })
        .collect();
    let erps: Vec<Value> =
        seen.circuits.iter().map(|circuit| erp(ctx, &formatter, circuit)).collect();
    context! {
        received => formatter.count(seen.received),
        confirmed => formatter.count(seen.confirmed),
        lost => formatter.count(seen.lost),
        need => (need > 0).then(|| formatter.count(need)),
        need_money => formatter.money(&money.into_money()),
        need_for => since.map(|since| formatter.length(since)),
        again => formatter.count(again),
        any_again => again > 0,
        any => seen.received > 0,
        waits => seen.queued + seen.held + again > 0 || on_broker > 0,
        lead => if need > 0 { "bad" } else if again + seen.held > 0 { "wait" } else { "good" },
        of_day => formatter.count(seen.of_day),
        any_queued => seen.queued > 0,
        queued => formatter.count(seen.queued),
        on_broker => (on_broker > 0).then(|| formatter.count(on_broker.into())),
        queued_oldest => oldest(&|s| s.phase == "queued"),
        held => formatter.count(seen.held),
        any_held => seen.held > 0,
        held_oldest => oldest(&|s| s.phase == "held"),
        difference => formatter.language.number(seen.difference),
        dead_letters => formatter.count(seen.dead_letters),
        any_dead_letters => seen.dead_letters > 0,
        entered_twice => (seen.entered_twice > 0).then(|| formatter.count(seen.entered_twice)),
        mails_failed => formatter.count(seen.mails.failed),
        any_mails_failed => seen.mails.failed > 0,
        chart => Value::from_safe_string(flow_chart(&formatter, &seen.flow)),
        spans,
        standing,
        workers,
        queues,
        erps,
    }
}

fn standing(formatter: &Formatter, s: &Standing) -> Value {
    context! {
        state => s.state.as_str(),
        phase => &s.phase,
        tone => tone_of_phase(&s.phase),
        orders => formatter.count(s.orders),
        money => formatter.money(&s.money),
        oldest => formatter.time_or_none(s.oldest),
    }
}

/// `POST /erps/{erp}/hold`
pub async fn hold(
    ctx: PageContext,
    Path(erp): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    ctx.web.ops.hold(&erp, &ctx.act(field(&form, "reason"))).await?;
    Ok(back(&ctx, key!("The transfer is stopped. Orders come in and wait.")))
}

/// `POST /erps/{erp}/release`
pub async fn release(
    ctx: PageContext,
    Path(erp): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    ctx.web.ops.release(&erp, &ctx.act(field(&form, "reason"))).await?;
    Ok(back(&ctx, key!("The transfer continues, starting with one order.")))
}

fn back(ctx: &PageContext, sentence: Key) -> Response {
    ctx.to("/", "good", ctx.t(sentence))
}
