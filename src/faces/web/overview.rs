//! The overview: what stands where, what flows, what is stopped; sent anew every two seconds while
//! somebody looks.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use minijinja::{Value, context};

use crate::domain::circuit::Circuit;
use crate::domain::money::Purse;
use crate::domain::permission::Permission;
use crate::domain::state::OrderState;
use crate::ops::figures::Overview;
use crate::ports::figures::Standing;

use super::chart::flow_chart;
use super::front::{Answer, Failure, Fields, Front, field};
use super::pages::{Teller, tone_of_phase};
use super::visitor::Posted;

/// How often a page that is watched is sent anew.
pub const EVERY: Duration = Duration::from_secs(2);
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
pub async fn overview(front: Front, Query(fields): Query<Fields>) -> Answer {
    let (name, length) = span(&fields);
    let seen = front.web.ops.overview(&front.shops(), length).await?;
    let values = context! { span => name, ..values(&front, name, &seen) };
    front.page("overview.html", front.t("Overview"), None, values)
}

/// `GET /live`: the changing part of the overview as server-sent events, until the reader leaves or
/// may not see it any more.
pub async fn live(front: Front, Query(fields): Query<Fields>) -> Response {
    let (name, length) = span(&fields);
    repeated(front, move |front| {
        async move {
            let seen = front.web.ops.overview(&front.shops(), length).await?;
            front.part("overview_part.html", "", None, values(&front, name, &seen)).map(Some)
        }
        .boxed()
    })
}

/// Sends what `part` makes, again and again, until it makes nothing any more. While the database is
/// away nothing is sent: the reader keeps what was seen last.
pub fn repeated<F>(front: Front, part: F) -> Response
where
    F: Fn(Arc<Front>) -> BoxFuture<'static, Result<Option<String>, Failure>>
        + Send
        + Sync
        + 'static,
{
    let state = (Arc::new(front), part, true);
    let events = stream::unfold(state, |(front, part, goes_on)| async move {
        if !goes_on || front.web.draining.load(Ordering::Acquire) {
            return None;
        }
        tokio::time::sleep(EVERY).await;
        let html = match front.visitor.is_still_in(&front.web).await {
            true => part(front.clone()).await,
            false => Ok(None),
        };
        let (event, goes_on) = match html {
            Ok(Some(html)) => (Event::default().event("part").data(html), true),
            Ok(None) => (Event::default().event("end").data("over"), false),
            Err(_) => (Event::default().comment("not now"), true),
        };
        Some((Ok::<_, Infallible>(event), (front, part, goes_on)))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

fn values(front: &Front, span: &str, seen: &Overview) -> Value {
    let tell = front.tell();
    let spans: Vec<Value> =
        SPANS.into_iter().map(|(own, _)| context! { name => own, here => own == span }).collect();
    let oldest = |belongs: &dyn Fn(&&Standing) -> bool| {
        tell.time_or_none(seen.standing.iter().filter(belongs).filter_map(|s| s.oldest).min())
    };
    let mut lost = Purse::default();
    let of_lost = seen.standing.iter().filter(|s| s.state == OrderState::OrderedFailed);
    of_lost.flat_map(|s| &s.money).for_each(|money| lost.add_money(money));
    let standing: Vec<Value> = seen.standing.iter().map(|s| standing(&tell, s)).collect();
    let workers: Vec<Value> = seen
        .workers
        .iter()
        .map(|w| {
            context! { name => &w.name, roles => w.roles.join(", "), seen => tell.time(w.seen_at) }
        })
        .collect();
    // While an ERP is away, most orders wait there: they are not in the ledger yet.
    let submit = front.web.ops.broker.topology().names.submit();
    let on_broker = seen.queues.iter().find(|q| q.name == submit).map_or(0, |q| q.ready);
    let queues: Vec<Value> = seen
        .queues
        .iter()
        .map(|q| {
            context! { name => &q.name, ready => tell.count(q.ready.into()), consumers => &q.consumers }
        })
        .collect();
    let erps: Vec<Value> = seen.circuits.iter().map(|circuit| erp(front, &tell, circuit)).collect();
    context! {
        received => tell.count(seen.received),
        confirmed => tell.count(seen.confirmed),
        lost => tell.count(seen.lost),
        any_lost => seen.lost > 0,
        lost_money => tell.money(&lost.into_money()),
        lost_oldest => oldest(&|s| s.state == OrderState::OrderedFailed),
        queued => tell.count(seen.queued),
        on_broker => (on_broker > 0).then(|| tell.count(on_broker.into())),
        queued_oldest => oldest(&|s| s.phase == "queued"),
        held => tell.count(seen.held),
        any_held => seen.held > 0,
        held_oldest => oldest(&|s| s.phase == "held"),
        difference => tell.language.number(seen.difference),
        dead_letters => tell.count(seen.dead_letters),
        any_dead_letters => seen.dead_letters > 0,
        mails_failed => tell.count(seen.mails.failed),
        any_mails_failed => seen.mails.failed > 0,
        mails_waiting => tell.count(seen.mails.waiting),
        chart => Value::from_safe_string(flow_chart(&tell, &seen.flow)),
        spans,
        standing,
        workers,
        queues,
        erps,
    }
}

fn standing(tell: &Teller, s: &Standing) -> Value {
    context! {
        state => s.state.as_str(),
        phase => &s.phase,
        tone => tone_of_phase(&s.phase),
        orders => tell.count(s.orders),
        money => tell.money(&s.money),
        oldest => tell.time_or_none(s.oldest),
    }
}

/// The ERPs and whether they take orders; of one, when it is named.
pub async fn erps(front: &Front, only: Option<&str>) -> Result<Vec<Value>, Failure> {
    let circuits = front.web.ops.circuits().await?.into_iter();
    let named = circuits.filter(|circuit| only.is_none_or(|only| circuit.erp == only));
    Ok(named.map(|circuit| erp(front, &front.tell(), &circuit)).collect())
}

fn erp(front: &Front, tell: &Teller, circuit: &Circuit) -> Value {
    let shop = front.web.ops.shop_of_erp(&circuit.erp);
    context! {
        erp => &circuit.erp,
        state => circuit.state.as_str(),
        reason => &circuit.reason,
        since => tell.time_or_none(circuit.opened_at),
        trial => tell.time_or_none(circuit.trial_at),
        may => front.visitor.person.grants.allows(Permission::Process, shop),
    }
}

/// `POST /erps/{erp}/hold`
pub async fn hold(
    front: Front,
    Path(erp): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> Answer {
    front.web.ops.hold(&erp, &front.act(field(&form, "reason"))).await?;
    Ok(back(&front, "The transfer is stopped. Orders come in and wait."))
}

/// `POST /erps/{erp}/release`
pub async fn release(
    front: Front,
    Path(erp): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> Answer {
    front.web.ops.release(&erp, &front.act(field(&form, "reason"))).await?;
    Ok(back(&front, "The transfer goes on, beginning with one order."))
}

fn back(front: &Front, sentence: &str) -> Response {
    front.to("/", "good", front.t(sentence))
}
