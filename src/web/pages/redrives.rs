//! Redrives: the plan, the run, the result per order.

use crate::key;
use crate::web::html::templates::usual_pace;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect};
use futures_util::FutureExt;
use minijinja::{Value, context};
use uuid::Uuid;

use crate::domain::redrive::{ItemStatus, RedriveStatus, RedriveThrottle};
use crate::domain::text::one_line;
use crate::ops::refusal::Refusal;
use crate::ports::redrives::{Redrive, RedriveItem, Selection};
use crate::web::auth::session::Posted;
use crate::web::html::context::{Failure, PageContext, PageResult, unprocessable};
use crate::web::html::erps::erps;
use crate::web::html::forms::{Fields, field, order_address};
use crate::web::html::live::repeated;
use crate::web::html::rows;
use crate::web::html::selection::selection_of;
use crate::web::pages::export;

const MAX_LISTED: u32 = 100;
const PAGE: u32 = 100;
/// `GET /redrives`
pub async fn redrives(ctx: PageContext) -> PageResult {
    let redrives = ctx.web.ops.redrives(&ctx.user.person, MAX_LISTED).await?;
    let redrives: Vec<Value> = redrives.iter().map(|redrive| view(&ctx, redrive)).collect();
    ctx.page("redrives.html", ctx.t(key!("Redrives")), None, context! { redrives })
}

/// `POST /redrives`: plans one; nothing is sent.
pub async fn plan(ctx: PageContext, Posted { form, .. }: Posted<Fields>) -> PageResult {
    let selection = selection_of(&form)?;
    let pace = pace_of(&form)?;
    let act = ctx.act(field(&form, "reason"));
    let redrive = ctx.web.ops.plan_redrive(selection, pace, &act).await?;
    Ok(Redirect::to(&address(redrive.id)).into_response())
}

/// Rate and steps of a form; the default is a rate that a recovering ERP can handle.
fn pace_of(form: &Fields) -> Result<RedriveThrottle, Failure> {
    let usual = usual_pace();
    if !form.iter().any(|(name, _)| name == "rate") {
        return Ok(usual);
    }
    let ramp: Result<Vec<u32>, _> = field(form, "ramp")
        .unwrap_or_default()
        .split([',', ' '])
        .filter(|step| !step.is_empty())
        .map(str::parse)
        .collect();
    let percent = field(form, "stop_percent").map_or(Ok(usual.stop_percent), str::parse);
    let (Ok(ramp), Ok(stop_percent)) = (ramp, percent) else {
        return Err(unprocessable(key!("The steps and the percentage are numbers.")));
    };
    Ok(RedriveThrottle { rate_per_minute: rate_of(form)?, ramp, stop_percent })
}

fn rate_of(form: &Fields) -> Result<Option<u32>, Failure> {
    let no_number = || unprocessable(key!("The rate is a number of orders a minute."));
    field(form, "rate").map(|rate| rate.parse().map_err(|_| no_number())).transpose()
}

/// `GET /redrives/{id}`
pub async fn redrive(
    ctx: PageContext,
    Path(id): Path<String>,
    Query(fields): Query<Fields>,
) -> PageResult {
    let redrive = find(&ctx, &id).await?;
    let status = field(&fields, "status").and_then(ItemStatus::from_name);
    let after = field(&fields, "after").and_then(|after| after.parse().ok());
    let items =
        ctx.web.ops.redrive_items(&ctx.user.person, redrive.id, status, after, PAGE).await?;
    let full = items.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
    let named = status.map(|status| format!("status={}&", status.as_str())).unwrap_or_default();
    let page = address(redrive.id);
    let last =
        items.last().filter(|_| full).map(|item| format!("{page}?{named}after={}", item.seq));
    let r = view(&ctx, &redrive);
    let title = format!("{} {}", ctx.t(key!("Redrive")), short(redrive.id));
    let group = match &redrive.selection {
        Selection::Group(fingerprint) => {
            match ctx.web.ops.group(&ctx.user.person, fingerprint).await {
                Err(Refusal::NotFound { .. }) => None,
                group => Some(group?),
            }
        }
        _ => None,
    };
    let values = context! {
        r,
        unattended => ctx.web.ops.is_unattended(&redrive).await?,
        group => group.map(|group| rows::group(&ctx.formatter(), &group)),
        last_failure => last_failure(&ctx, &redrive).await?,
        erps => erps(&ctx, None).await?,
        statuses => statuses(&ctx, &redrive),
        status => status.map(ItemStatus::as_str),
        items => items.iter().map(|item| item_view(&ctx, item)).collect::<Vec<_>>(),
        next => last,
        first => after.map(|_| format!("{page}?{named}")),
    };
    ctx.page("redrive.html", &title, None, values)
}

/// The ERP's message that made a redrive stop; of many failures one of the first.
async fn last_failure(ctx: &PageContext, redrive: &Redrive) -> Result<Option<Value>, Failure> {
    if redrive.status != RedriveStatus::Stopped {
        return Ok(None);
    }
    let failed = ctx
        .web
        .ops
        .redrive_items(&ctx.user.person, redrive.id, Some(ItemStatus::Failed), None, PAGE)
        .await?;
    let last = failed.iter().filter(|item| item.failure.is_some()).max_by_key(|item| item.at);
    Ok(last.map(|item| item_view(ctx, item)))
}

/// `GET /redrives/{id}/live`
pub async fn live(ctx: PageContext, Path(id): Path<String>) -> PageResult {
    let begun = find(&ctx, &id).await?.status;
    Ok(repeated(ctx, move |ctx| {
        let id = id.clone();
        async move {
            let redrive = find(&ctx, &id).await?;
            if redrive.status != begun {
                return Ok(None);
            }
            let values = context! {
                r => view(&ctx, &redrive),
                unattended => ctx.web.ops.is_unattended(&redrive).await?,
                statuses => statuses(&ctx, &redrive),
                last_failure => last_failure(&ctx, &redrive).await?,
            };
            ctx.part("redrive_part.html", "", None, values).map(Some)
        }
        .boxed()
    }))
}

/// `GET /redrives/{id}/items.csv`
pub async fn items_csv(ctx: PageContext, Path(id): Path<String>) -> PageResult {
    let redrive = find(&ctx, &id).await?;
    let (ops, person, id) = (ctx.web.ops.clone(), ctx.user.person.clone(), redrive.id);
    let pages = move |after: Option<String>| {
        let (ops, person) = (ops.clone(), person.clone());
        async move {
            let after = after.and_then(|after| after.parse().ok());
            let items = ops.redrive_items(&person, id, None, after, 500).await?;
            let next = (items.len() == 500)
                .then(|| items.last().map(|item| item.seq.to_string()))
                .flatten();
            Ok((items.iter().map(cells).collect(), next))
        }
    };
    let columns = [
        "shop",
        "order_id",
        "revision",
        "status",
        "why",
        "attempt",
        "class",
        "code",
        "message",
        "erp_order_id",
        "total",
        "currency",
        "at",
    ];
    Ok(export::csv(&format!("redrive-{}.csv", short(id)), &columns, pages))
}

fn cells(item: &RedriveItem) -> Vec<String> {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let failure = item.failure.as_ref();
    vec![
        item.key.shop.to_string(),
        item.key.order_id.to_string(),
        item.revision.to_string(),
        item.status.as_str().to_owned(),
        text(&item.why),
        item.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
        failure.map(|f| f.class.as_str().to_owned()).unwrap_or_default(),
        failure.map(|f| f.code.clone()).unwrap_or_default(),
        failure.map(|f| f.message.clone()).unwrap_or_default(),
        text(&item.erp_order_id),
        item.total.clone(),
        item.currency.clone(),
        item.at.map(|at| at.to_string()).unwrap_or_default(),
    ]
}

/// `POST /redrives/{id}/{verb}`
pub async fn steer(
    ctx: PageContext,
    Path((id, verb)): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let id = find(&ctx, &id).await?.id;
    let (ops, act) = (&ctx.web.ops, ctx.act(field(&form, "reason")));
    ops.authorize_redrive(id, &act).await?;
    let done = match verb.as_str() {
        "start" => ops.start_redrive(id, &act).await.map(|_| key!("Started.")),
        "pause" => ops
            .pause_redrive(id, &act)
            .await
            .map(|_| key!("Paused. What is under way is still answered.")),
        "resume" => ops
            .resume_redrive(id, &act)
            .await
            .map(|_| key!("It continues, starting with one order.")),
        "cancel" => ops
            .cancel_redrive(id, &act)
            .await
            .map(|_| key!("Cancelled. What is under way is still answered.")),
        "rate" => ops
            .set_redrive_rate(id, rate_of(&form)?, &act)
            .await
            .map(|_| key!("The rate is changed.")),
        _ => return Err(Failure::missing(key!("There is no such action."))),
    };
    Ok(ctx.to(&address(id), "good", ctx.t(done?)))
}

async fn find(ctx: &PageContext, id: &str) -> Result<Redrive, Failure> {
    let missing = || Failure::missing(key!("There is no such redrive."));
    let id: Uuid = id.parse().map_err(|_| missing())?;
    Ok(ctx.web.ops.redrive(&ctx.user.person, id).await?)
}

fn address(id: Uuid) -> String {
    format!("/redrives/{id}")
}

fn short(id: Uuid) -> String {
    id.simple().to_string()[24..].to_owned()
}

fn tone(status: RedriveStatus) -> &'static str {
    match status {
        RedriveStatus::Done => "good",
        RedriveStatus::Stopped => "bad",
        RedriveStatus::Running | RedriveStatus::Paused => "wait",
        RedriveStatus::Planned | RedriveStatus::Cancelled => "",
    }
}

fn tone_of_item(status: ItemStatus) -> &'static str {
    match status {
        ItemStatus::Transferred => "good",
        ItemStatus::Failed => "bad",
        ItemStatus::Unclear | ItemStatus::Sent => "wait",
        ItemStatus::Waiting | ItemStatus::Skipped | ItemStatus::Excluded => "",
    }
}

fn statuses(ctx: &PageContext, redrive: &Redrive) -> Vec<Value> {
    let formatter = ctx.formatter();
    let all = ItemStatus::ALL.iter();
    all.map(|status| {
        context! {
            name => status.as_str(),
            count => formatter.count(redrive.count(*status)),
            tone => if redrive.count(*status) > 0 { tone_of_item(*status) } else { "" },
        }
    })
    .collect()
}

fn view(ctx: &PageContext, redrive: &Redrive) -> Value {
    use RedriveStatus::{Paused, Planned, Running, Stopped};
    let (formatter, status, pace) = (ctx.formatter(), redrive.status, &redrive.pace);
    let is = |of: &[RedriveStatus]| of.contains(&status);
    let included = redrive.planned();
    let left = redrive.count(ItemStatus::Waiting) + redrive.count(ItemStatus::Sent);
    let failed = redrive.count(ItemStatus::Failed) + redrive.count(ItemStatus::Unclear);
    let unfinished = included - redrive.count(ItemStatus::Transferred);
    let id = short(redrive.id);
    let rate = pace.rate_per_minute.map(|rate| rate.to_string());
    let words: &[&str] = match status {
        Planned => &["start", "cancel"],
        Running => &["show --watch", "pause", "cancel"],
        Paused | Stopped => &["resume", "cancel"],
        RedriveStatus::Done | RedriveStatus::Cancelled => &["show"],
    };
    let command = |word: &&str| match word.split_once(' ') {
        Some((verb, option)) => format!("order-relay redrive {verb} {id} {option}"),
        None => format!("order-relay redrive {word} {id}"),
    };
    let excluded: Vec<(String, String)> =
        redrive.excluded.iter().map(|(why, n)| (why.clone(), formatter.count(*n))).collect();
    let ramp =
        pace.ramp.iter().map(ToString::to_string).chain([ctx.t(key!("the rest")).to_owned()]);
    context! {
        id => redrive.id.to_string(),
        short => &id,
        status => status.as_str(),
        tone => tone(status),
        selection => selection(ctx, &redrive.selection),
        why => &redrive.why,
        by => &redrive.created_by,
        reason => &redrive.reason,
        created => formatter.time(redrive.created_at),
        started => formatter.time_or_none(redrive.started_at),
        ended => formatter.time_or_none(redrive.ended_at),
        included => formatter.count(included),
        included_plain => included.max(1),
        answered => formatter.count(redrive.settled()),
        answered_plain => redrive.settled(),
        transferred => formatter.count(redrive.count(ItemStatus::Transferred)),
        failed => formatter.count(failed),
        left => formatter.count(left),
        money => formatter.money(&redrive.money),
        excluded,
        ramp => ramp.collect::<Vec<_>>().join(", "),
        stop_percent => &pace.stop_percent,
        rate => rate.as_deref().map_or_else(
            || ctx.t(key!("as fast as the ERP answers")).to_owned(),
            |rate| ctx.language.fill(key!("{n} orders a minute"), &[("n", rate)]),
        ),
        rate_plain => rate,
        expected => is(&[Planned]).then(|| expected(ctx, redrive)),
        step_text => is(&[Running]).then(|| step_text(ctx, redrive)),
        live => is(&[Running]) || left > 0 && is(&[Paused, Stopped]) && redrive.count(ItemStatus::Sent) > 0,
        may_start => is(&[Planned]) && included > 0,
        may_pause => is(&[Running]),
        may_resume => is(&[Paused, Stopped]),
        may_cancel => !status.is_over(),
        may_rate => !status.is_over(),
        may_again => (is(&[Stopped]) || status.is_over()) && unfinished > 0,
        commands => words.iter().map(command).collect::<Vec<_>>(),
    }
}

fn step_text(ctx: &PageContext, redrive: &Redrive) -> String {
    let size = redrive.pace.ramp.get(redrive.ramp_at).map(ToString::to_string);
    let step = match size {
        Some(size) => ctx.language.fill(key!("step of {n}"), &[("n", &size)]),
        None => ctx.t(key!("last step: the rest")).to_owned(),
    };
    format!("{step} · {}: {}", ctx.t(key!("remaining")), expected(ctx, redrive))
}

/// The expected time of the rest.
fn expected(ctx: &PageContext, redrive: &Redrive) -> String {
    let Some(time) = redrive.expected_duration() else {
        return ctx.t(key!("unknown: it depends on the ERP alone")).to_owned();
    };
    format!("{} {}", ctx.t(key!("at least")), ctx.language.length(time.as_secs()))
}

fn selection(ctx: &PageContext, selection: &Selection) -> String {
    let text = match selection {
        Selection::Filter(pairs) if pairs.is_empty() => ctx.t(key!("all lost orders")).to_owned(),
        Selection::Filter(pairs) => {
            let parts: Vec<String> =
                pairs.iter().map(|(name, value)| format!("{name} {value}")).collect();
            parts.join(", ")
        }
        Selection::Orders(_) => ctx.t(key!("picked orders")).to_owned(),
        Selection::Group(fingerprint) => {
            ctx.language.fill(key!("failure group {group}"), &[("group", fingerprint)])
        }
        Selection::FailedOf(id) => {
            ctx.language.fill(key!("what was left of redrive {id}"), &[("id", &short(*id))])
        }
    };
    one_line(&text, 200)
}

fn item_view(ctx: &PageContext, item: &RedriveItem) -> Value {
    let failure = item.failure.as_ref();
    context! {
        name => item.key.to_string(),
        href => order_address(&item.key),
        status => item.status.as_str(),
        tone => tone_of_item(item.status),
        why => &item.why,
        code => failure.map(|f| &f.code),
        message => failure.map(|f| one_line(&f.message, 300)),
        erp_order_id => item.erp_order_id.as_deref().map(|text| one_line(text, 80)),
        total => format!("{} {}", item.total, item.currency),
        at => ctx.formatter().time_or_none(item.at),
    }
}
