//! Redrives: the plan before the click, the run while it runs, the result per order.

use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect};
use futures_util::FutureExt;
use minijinja::{Value, context};
use uuid::Uuid;

use crate::domain::redrive::{ItemStatus, Pace, RedriveStatus};
use crate::domain::text::one_line;
use crate::ops::orders::Refusal;
use crate::ports::redrives::{Redrive, RedriveItem, Selection};

use super::export;
use super::front::{Answer, Failure, Fields, Front, field, order_address};
use super::group_pages::selection_of;
use super::order_page::unprocessable;
use super::overview::{erps, repeated};
use super::views;
use super::visitor::Posted;

const MAX_LISTED: u32 = 100;
const PAGE: u32 = 100;
/// A rate that an ERP which is just back can bear, in orders a minute.
const GENTLE_RATE: u32 = 1_200;

/// What a form that asks for rate and steps shows at first, and what one that does not ask means.
pub fn usual_pace() -> Pace {
    Pace { rate_per_minute: Some(GENTLE_RATE), ..Pace::default() }
}

/// `GET /redrives`
pub async fn redrives(front: Front) -> Answer {
    let redrives = front.web.ops.redrives_for(MAX_LISTED, &front.shops()).await?;
    let redrives: Vec<Value> = redrives.iter().map(|redrive| view(&front, redrive)).collect();
    front.page("redrives.html", front.t("Redrives"), None, context! { redrives })
}

/// `POST /redrives`: plans one; nothing is sent.
pub async fn plan(front: Front, Posted { form, .. }: Posted<Fields>) -> Answer {
    let selection = selection_of(&form)?;
    let pace = pace_of(&form)?;
    let act = front.act(field(&form, "reason"));
    let redrive = front.web.ops.plan_redrive(selection, pace, &act).await?;
    Ok(Redirect::to(&address(redrive.id)).into_response())
}

/// How fast and how boldly; a form that does not say gets a rate that an ERP can bear which is just
/// back.
fn pace_of(form: &Fields) -> Result<Pace, Failure> {
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
        return Err(unprocessable("The steps and the percentage are numbers.".to_owned()));
    };
    Ok(Pace { rate_per_minute: rate_of(form)?, ramp, stop_percent })
}

fn rate_of(form: &Fields) -> Result<Option<u32>, Failure> {
    let told = || unprocessable("The rate is a number of orders a minute.".to_owned());
    field(form, "rate").map(|rate| rate.parse().map_err(|_| told())).transpose()
}

/// `GET /redrives/{id}`
pub async fn redrive(front: Front, Path(id): Path<String>, Query(fields): Query<Fields>) -> Answer {
    let redrive = find(&front, &id).await?;
    let status = field(&fields, "status").and_then(ItemStatus::from_name);
    let after = field(&fields, "after").and_then(|after| after.parse().ok());
    let items = front.web.ops.redrive_items(redrive.id, status, after, PAGE).await?;
    let full = items.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
    let named = status.map(|status| format!("status={}&", status.as_str())).unwrap_or_default();
    let page = address(redrive.id);
    let last =
        items.last().filter(|_| full).map(|item| format!("{page}?{named}after={}", item.seq));
    let r = view(&front, &redrive);
    let title = format!("{} {}", front.t("Redrive"), short(redrive.id));
    let group = match &redrive.selection {
        Selection::Group(fingerprint) => {
            match front.web.ops.group(fingerprint, &front.shops()).await {
                Err(Refusal::NotFound(_)) => None,
                group => Some(group?),
            }
        }
        _ => None,
    };
    let values = context! {
        r,
        unattended => front.web.ops.is_unattended(&redrive).await?,
        group => group.map(|group| views::group(&front.tell(), &group)),
        last_failure => last_failure(&front, &redrive).await?,
        erps => erps(&front, None).await?,
        statuses => statuses(&front, &redrive),
        status => status.map(ItemStatus::as_str),
        items => items.iter().map(|item| item_view(&front, item)).collect::<Vec<_>>(),
        next => last,
        first => after.map(|_| format!("{page}?{named}")),
    };
    front.page("redrive.html", &title, None, values)
}

/// What made a redrive stop, as the ERP said it; of many failures one of the first.
async fn last_failure(front: &Front, redrive: &Redrive) -> Result<Option<Value>, Failure> {
    if redrive.status != RedriveStatus::Stopped {
        return Ok(None);
    }
    let failed =
        front.web.ops.redrive_items(redrive.id, Some(ItemStatus::Failed), None, PAGE).await?;
    let last = failed.iter().filter(|item| item.code.is_some()).max_by_key(|item| item.at);
    Ok(last.map(|item| item_view(front, item)))
}

/// `GET /redrives/{id}/live`
pub async fn live(front: Front, Path(id): Path<String>) -> Answer {
    let begun = find(&front, &id).await?.status;
    Ok(repeated(front, move |front| {
        let id = id.clone();
        async move {
            let redrive = find(&front, &id).await?;
            if redrive.status != begun {
                return Ok(None);
            }
            let values = context! {
                r => view(&front, &redrive),
                unattended => front.web.ops.is_unattended(&redrive).await?,
                statuses => statuses(&front, &redrive),
                last_failure => last_failure(&front, &redrive).await?,
            };
            front.part("redrive_part.html", "", None, values).map(Some)
        }
        .boxed()
    }))
}

/// `GET /redrives/{id}/items.csv`
pub async fn items_csv(front: Front, Path(id): Path<String>) -> Answer {
    let redrive = find(&front, &id).await?;
    let (ops, id) = (front.web.ops.clone(), redrive.id);
    let pages = move |after: Option<String>| {
        let ops = ops.clone();
        async move {
            let after = after.and_then(|after| after.parse().ok());
            let items = ops.redrive_items(id, None, after, 500).await?;
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
    vec![
        item.key.shop.to_string(),
        item.key.order_id.to_string(),
        item.revision.to_string(),
        item.status.as_str().to_owned(),
        text(&item.why),
        item.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
        text(&item.class),
        text(&item.code),
        text(&item.message),
        text(&item.erp_order_id),
        item.total.clone(),
        item.currency.clone(),
        item.at.map(|at| at.to_string()).unwrap_or_default(),
    ]
}

/// `POST /redrives/{id}/{verb}`
pub async fn steer(
    front: Front,
    Path((id, verb)): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> Answer {
    let id = find(&front, &id).await?.id;
    let (ops, act) = (&front.web.ops, front.act(field(&form, "reason")));
    ops.insist_on_redrive(id, &act).await?;
    let told = match verb.as_str() {
        "start" => ops.start_redrive(id, &act).await.map(|_| "Started."),
        "pause" => ops
            .pause_redrive(id, &act)
            .await
            .map(|_| "Paused. What is under way is still answered."),
        "resume" => {
            ops.resume_redrive(id, &act).await.map(|_| "It goes on, beginning with one order.")
        }
        "cancel" => ops
            .cancel_redrive(id, &act)
            .await
            .map(|_| "Cancelled. What is under way is still answered."),
        "rate" => {
            ops.set_redrive_rate(id, rate_of(&form)?, &act).await.map(|_| "The rate is changed.")
        }
        _ => return Err(Failure::missing("There is no such verb.")),
    };
    Ok(front.to(&address(id), "good", front.t(told?)))
}

async fn find(front: &Front, id: &str) -> Result<Redrive, Failure> {
    let missing = || Failure::missing("There is no such redrive.");
    let id: Uuid = id.parse().map_err(|_| missing())?;
    Ok(front.web.ops.redrive_for(id, &front.shops()).await?)
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

fn statuses(front: &Front, redrive: &Redrive) -> Vec<Value> {
    let tell = front.tell();
    let all = ItemStatus::ALL.iter();
    all.map(|status| {
        context! {
            name => status.as_str(),
            count => tell.count(redrive.count(*status)),
            tone => if redrive.count(*status) > 0 { tone_of_item(*status) } else { "" },
        }
    })
    .collect()
}

fn view(front: &Front, redrive: &Redrive) -> Value {
    use RedriveStatus::{Paused, Planned, Running, Stopped};
    let (tell, status, pace) = (front.tell(), redrive.status, &redrive.pace);
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
        redrive.excluded.iter().map(|(why, n)| (why.clone(), tell.count(*n))).collect();
    let ramp = pace.ramp.iter().map(ToString::to_string).chain([front.t("the rest").to_owned()]);
    context! {
        id => redrive.id.to_string(),
        short => &id,
        status => status.as_str(),
        tone => tone(status),
        selection => selection(front, &redrive.selection),
        why => &redrive.why,
        by => &redrive.created_by,
        reason => &redrive.reason,
        created => tell.time(redrive.created_at),
        started => tell.time_or_none(redrive.started_at),
        ended => tell.time_or_none(redrive.ended_at),
        included => tell.count(included),
        included_plain => included.max(1),
        answered => tell.count(redrive.settled()),
        answered_plain => redrive.settled(),
        transferred => tell.count(redrive.count(ItemStatus::Transferred)),
        failed => tell.count(failed),
        left => tell.count(left),
        money => tell.money(&redrive.money),
        excluded,
        ramp => ramp.collect::<Vec<_>>().join(", "),
        stop_percent => &pace.stop_percent,
        rate => rate.as_deref().map_or_else(
            || front.t("as fast as the ERP answers").to_owned(),
            |rate| front.language.fill("{n} orders a minute", &[("n", rate)]),
        ),
        rate_plain => rate,
        expected => is(&[Planned]).then(|| expected(front, redrive)),
        step_text => is(&[Running]).then(|| step_text(front, redrive)),
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

fn step_text(front: &Front, redrive: &Redrive) -> String {
    let size = redrive.pace.ramp.get(redrive.ramp_at).map(ToString::to_string);
    let step = match size {
        Some(size) => front.language.fill("step of {n}", &[("n", &size)]),
        None => front.t("last step: the rest").to_owned(),
    };
    format!("{step} · {}: {}", front.t("still to go"), expected(front, redrive))
}

/// How long what waits will take.
fn expected(front: &Front, redrive: &Redrive) -> String {
    let Some(time) = redrive.expected_duration() else {
        return front.t("unknown: it depends on the ERP alone").to_owned();
    };
    format!("{} {}", front.t("at least"), front.language.length(time.as_secs()))
}

fn selection(front: &Front, selection: &Selection) -> String {
    let text = match selection {
        Selection::Filter(pairs) if pairs.is_empty() => front.t("all lost orders").to_owned(),
        Selection::Filter(pairs) => {
            let parts: Vec<String> =
                pairs.iter().map(|(name, value)| format!("{name} {value}")).collect();
            parts.join(", ")
        }
        Selection::Orders(_) => front.t("picked orders").to_owned(),
        Selection::Group(fingerprint) => {
            front.language.fill("failure group {group}", &[("group", fingerprint)])
        }
        Selection::FailedOf(id) => {
            front.language.fill("what was left of redrive {id}", &[("id", &short(*id))])
        }
    };
    one_line(&text, 200)
}

fn item_view(front: &Front, item: &RedriveItem) -> Value {
    context! {
        name => item.key.to_string(),
        href => order_address(&item.key),
        status => item.status.as_str(),
        tone => tone_of_item(item.status),
        why => &item.why,
        code => &item.code,
        message => item.message.as_deref().map(|text| one_line(text, 300)),
        erp_order_id => item.erp_order_id.as_deref().map(|text| one_line(text, 80)),
        total => format!("{} {}", item.total, item.currency),
        at => front.tell().time_or_none(item.at),
    }
}
