//! `redrive …`: plans and control; the running service does the work.

use crate::cli::flags::{Change, Format, Limit, Output};
use crate::cli::output::{facts, local, print, print_one, progress, shown_time};
use crate::cli::selection::{Select, selection};
use crate::ports::redrives::{NewRedrive, Redrive, Selection};
use crate::views::csv::Column;
use crate::views::redrives::{ItemView, RedriveView};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;
use uuid::Uuid;

use crate::cli::change::{act, confirm, whoever};
use crate::cli::exit::{Exit, Misuse};
use crate::domain::redrive::{ItemStatus, RedriveStatus, RedriveThrottle};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;

/// Most redrives that are searched for the end of an id.
const MAX_REDRIVES: u32 = 1_000;
/// Orders fetched at a time.
const PAGE: u32 = 5_000;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `redrive …`
pub async fn redrives(
    ops: &Ops,
    command: RedriveCommand,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    match command {
        RedriveCommand::Plan(command) => plan(ops, &command, out).await,
        RedriveCommand::Start(one) => {
            let redrive = find(ops, &one.id).await?;
            let waiting = redrive.count(ItemStatus::Waiting);
            confirm(&one.change, &format!("Transfer {waiting} lost orders to the ERP?"))?;
            let act = act(ops, &one.change);
            let started = ops.start_redrive(redrive.id, &act);
            steer(ops, &redrive, &one, "started", started, out).await
        }
        RedriveCommand::Pause(one) => {
            let redrive = find(ops, &one.id).await?;
            let act = act(ops, &one.change);
            let paused = ops.pause_redrive(redrive.id, &act);
            steer(ops, &redrive, &one, "paused", paused, out).await
        }
        RedriveCommand::Resume(one) => {
            let redrive = find(ops, &one.id).await?;
            let act = act(ops, &one.change);
            let resumed = ops.resume_redrive(redrive.id, &act);
            steer(ops, &redrive, &one, "resumed", resumed, out).await
        }
        RedriveCommand::Cancel(one) => {
            let redrive = find(ops, &one.id).await?;
            confirm(&one.change, &format!("Cancel redrive {}?", redrive.id))?;
            let act = act(ops, &one.change);
            let cancelled = ops.cancel_redrive(redrive.id, &act);
            steer(ops, &redrive, &one, "cancelled", cancelled, out).await
        }
        RedriveCommand::Rate { one, rate } => {
            let redrive = find(ops, &one.id).await?;
            let act = act(ops, &one.change);
            let changed = ops.set_redrive_rate(redrive.id, rate.0, &act);
            steer(ops, &redrive, &one, "given another rate", changed, out).await
        }
        RedriveCommand::Show { id, items: true, status, output, .. } => {
            let redrive = find(ops, &id).await?;
            let status = status.as_deref().and_then(ItemStatus::from_name);
            list_items(ops, redrive.id, status, output.output, out).await
        }
        RedriveCommand::Show { id, watch, output, .. } => {
            let redrive = find(ops, &id).await?;
            warn_if_unattended(ops, &redrive).await?;
            let redrive = if watch { watch_it(ops, redrive).await? } else { redrive };
            print_one(out, output.output, &RedriveView::of(&redrive), |out| show(out, &redrive))?;
            Ok(if watch { exit_of(&redrive) } else { Exit::Done })
        }
        RedriveCommand::List { limit, output } => {
            let most = limit.rows_and_one(output.output);
            let mut redrives = ops.redrives(&whoever(), most).await?;
            limit.cut(output.output, &mut redrives);
            list(&redrives, output.output, out)?;
            Ok(Exit::Done)
        }
    }
}

async fn plan(ops: &Ops, command: &Plan, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let act = act(ops, &command.change);
    let selection = match &command.failed_of {
        Some(id) => Selection::FailedOf(find(ops, id).await?.id),
        None => selection(ops, &command.select, &act).await?,
    };
    let pace = RedriveThrottle {
        rate_per_minute: command.rate.0,
        ramp: command.ramp.clone(),
        stop_percent: command.stop_percent,
    };
    pace.check().map_err(Misuse::told)?;
    let format = command.output.output;
    if command.change.dry_run {
        let draft = ops.draft_redrive(selection, pace, &act).await?;
        let redrive = as_redrive(&draft, &act);
        print_one(out, format, &RedriveView::of(&redrive), |out| {
            show(out, &redrive)?;
            writeln!(out, "\nNothing was stored: this is a preview.")
        })?;
        return Ok(Exit::Done);
    }
    let redrive = ops.plan_redrive(selection, pace, &act).await?;
    print_one(out, format, &RedriveView::of(&redrive), |out| {
        show(out, &redrive)?;
        writeln!(
            out,
            "\nNothing was sent yet. Start with: order-relay redrive start {}",
            redrive.id
        )
    })?;
    Ok(Exit::Done)
}

/// A plan before it is stored.
fn as_redrive(draft: &NewRedrive, act: &Act) -> Redrive {
    let (mut counts, mut excluded) = (BTreeMap::new(), BTreeMap::new());
    for item in &draft.items {
        *counts.entry(item.status).or_default() += 1;
        if let Some(why) = &item.why {
            *excluded.entry(why.clone()).or_default() += 1;
        }
    }
    Redrive {
        id: draft.id,
        status: RedriveStatus::Planned,
        selection: draft.selection.clone(),
        pace: draft.pace.clone(),
        wave: 0,
        ramp_at: 0,
        why: None,
        created_by: act.actor.clone(),
        created_at: act.now,
        started_at: None,
        ended_at: None,
        reason: act.reason.clone(),
        counts,
        excluded,
        known_fingerprints: draft.known_fingerprints.clone(),
        money: draft.money.clone(),
        version: 0,
    }
}

/// Changes one redrive, and prints its status.
async fn steer(
    ops: &Ops,
    redrive: &Redrive,
    one: &One,
    done: &str,
    change: impl Future<Output = Result<Redrive, Refusal>>,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if one.change.dry_run {
        writeln!(out, "redrive {} would be {done}", redrive.id)?;
        return Ok(Exit::Done);
    }
    match change.await {
        Ok(redrive) => {
            print_one(out, one.output.output, &RedriveView::of(&redrive), |out| {
                show(out, &redrive)
            })?;
            warn_if_unattended(ops, &redrive).await?;
            Ok(Exit::Done)
        }
        Err(refusal @ Refusal::CircuitOpen { .. }) => {
            eprintln!("order-relay: {refusal}");
            Ok(Exit::Held)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Warns a waiting person that no service runs redrives.
async fn warn_if_unattended(ops: &Ops, redrive: &Redrive) -> anyhow::Result<()> {
    if ops.is_unattended(redrive).await? {
        eprintln!(
            "order-relay: no service with the role sweeper is running, so nothing of redrive {} is sent; fix: order-relay serve",
            redrive.id
        );
    }
    Ok(())
}

/// The redrive of `text`: its id, or a unique end of it.
async fn find(ops: &Ops, text: &str) -> anyhow::Result<Redrive> {
    if let Ok(id) = text.parse::<Uuid>() {
        return Ok(ops.redrive(&whoever(), id).await?);
    }
    let mut ends = ops.redrives(&whoever(), MAX_REDRIVES).await?;
    ends.retain(|redrive| redrive.id.to_string().ends_with(&text.to_ascii_lowercase()));
    match (ends.len(), ends.pop()) {
        (1, Some(redrive)) => Ok(redrive),
        (0, _) | (_, None) => Err(Refusal::not_found("redrive", text).into()),
        (several, _) => {
            let told = format!("{several} redrives end with {text}: give more of the id");
            Err(Misuse::told(told))
        }
    }
}

/// Shows a progress bar until the redrive has ended.
async fn watch_it(ops: &Ops, mut redrive: Redrive) -> anyhow::Result<Redrive> {
    let bar = progress(redrive.planned(), "transferring");
    loop {
        bar.set_length(redrive.planned());
        bar.set_position(redrive.settled());
        let is_quiet = redrive.count(ItemStatus::Sent) == 0;
        if redrive.status != RedriveStatus::Running && is_quiet {
            bar.finish_and_clear();
            return Ok(redrive);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        redrive = ops.redrive(&whoever(), redrive.id).await?;
    }
}

fn exit_of(redrive: &Redrive) -> Exit {
    let all = redrive.count(ItemStatus::Transferred) == redrive.planned();
    match (redrive.status, redrive.count(ItemStatus::Transferred)) {
        (RedriveStatus::Done, _) if all => Exit::Done,
        (_, 0) => Exit::Failed,
        _ => Exit::Partly,
    }
}

fn show(out: &mut dyn Write, redrive: &Redrive) -> std::io::Result<()> {
    let count = |status| Some(redrive.count(status)).filter(|n| *n > 0).map(|n| n.to_string());
    let money = redrive.money.iter().map(|m| match m.unsummed {
        0 => format!("{} {}", m.amount, m.currency),
        n => format!("{} {} and {n} orders that cannot be summed", m.amount, m.currency),
    });
    let excluded = redrive.excluded.iter().map(|(why, n)| format!("{n} {why}"));
    let ramp = redrive.pace.ramp.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let step = match redrive.wave {
        0 => format!("{ramp}, rest"),
        _ => format!("{} of: {ramp}, rest", redrive.ramp_at + 1),
    };
    let text = |parts: Vec<String>| Some(parts.join(", "));
    facts(
        out,
        &[
            ("Redrive", Some(redrive.id.to_string())),
            ("Status", Some(redrive.status.as_str().to_owned())),
            ("Why", redrive.why.clone()),
            ("Orders", Some(redrive.planned().to_string())),
            ("Worth", text(money.collect())),
            ("Waiting", count(ItemStatus::Waiting)),
            ("Sent", count(ItemStatus::Sent)),
            ("Transferred", count(ItemStatus::Transferred)),
            ("Failed", count(ItemStatus::Failed)),
            ("Unclear", count(ItemStatus::Unclear)),
            ("Not sent", text(excluded.collect())),
            ("Steps", Some(step)),
            ("Rate", Some(told_rate(redrive.pace.rate_per_minute))),
            ("At least", redrive.expected_duration().map(|time| format!("{} s", time.as_secs()))),
            ("Planned", Some(format!("{} by {}", local(redrive.created_at), redrive.created_by))),
            ("Started", redrive.started_at.map(local)),
            ("Ended", redrive.ended_at.map(local)),
            ("Reason", redrive.reason.clone()),
        ],
    )
}

fn told_rate(rate: Option<u32>) -> String {
    rate.map_or_else(|| "as fast as the ERP answers".to_owned(), |rate| format!("{rate} a minute"))
}

fn list(redrives: &[Redrive], format: Format, out: &mut dyn Write) -> std::io::Result<()> {
    let views: Vec<RedriveView> = redrives.iter().map(RedriveView::of).collect();
    let columns: [Column<'_, RedriveView>; 9] = [
        ("ID", &|r| r.id.clone()),
        ("STATUS", &|r| r.status.as_str().to_owned()),
        ("ORDERS", &|r| r.planned().to_string()),
        ("TRANSFERRED", &|r| r.count(ItemStatus::Transferred).to_string()),
        ("FAILED", &|r| (r.count(ItemStatus::Failed) + r.count(ItemStatus::Unclear)).to_string()),
        ("LEFT", &|r| r.count(ItemStatus::Waiting).to_string()),
        ("BY", &|r| r.created_by.clone()),
        ("PLANNED", &|r| shown_time(format, Some(&r.created_at))),
        ("WHY", &|r| r.why.clone().unwrap_or_default()),
    ];
    print(out, format, &views, &columns, "No redrives.")
}

async fn list_items(
    ops: &Ops,
    id: Uuid,
    status: Option<ItemStatus>,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = ops.redrive_items(&whoever(), id, status, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.seq);
        items.extend(page.iter().map(ItemView::of));
    }
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let columns: [Column<'_, ItemView>; 13] = [
        ("TURN", &|i| i.seq.to_string()),
        ("SHOP", &|i| i.shop.clone()),
        ("ORDER", &|i| i.order_id.clone()),
        ("STATUS", &|i| i.status.as_str().to_owned()),
        ("WHY", &|i| text(&i.why)),
        ("TRY", &|i| i.attempt.map(|n| n.to_string()).unwrap_or_default()),
        ("CLASS", &|i| text(&i.error_class)),
        ("CODE", &|i| text(&i.error_code)),
        ("ERROR", &|i| text(&i.error_message)),
        ("ERP", &|i| text(&i.erp_order_id)),
        ("REVISION", &|i| i.revision.to_string()),
        ("TOTAL", &|i| format!("{} {}", i.total, i.currency)),
        ("AT", &|i| shown_time(format, i.at.as_deref())),
    ];
    print(out, format, &items, &columns, "No orders.")?;
    Ok(Exit::Done)
}

/// `redrive`
#[derive(Debug, Subcommand)]
pub enum RedriveCommand {
    /// Store a list of lost orders as a plan; nothing is sent before `redrive start`
    #[command(after_help = "Examples:
  order-relay redrive plan --class unavailable --since 6h --rate 60/m
  order-relay redrive plan 100042 100043 --reason \"the article is there now\"
  order-relay redrive plan --failed-of 9c41f2
  order-relay redrive plan --all --dry-run        shows the plan without storing it

The plan stores the orders with their revisions. Orders that do not belong in it are listed with the reason.")]
    Plan(Box<Plan>),
    /// Start: one order, then 5, 20, 100, then the rest; it stops automatically when too many fail
    #[command(after_help = "Example:
  order-relay redrive start 9c41f2 && order-relay redrive show 9c41f2 --watch")]
    Start(One),
    /// Pause; orders that were sent are still answered
    Pause(One),
    /// Resume a paused or stopped one; after a stop the steps start again at the first
    Resume(One),
    /// Cancel; orders that were not sent stay lost orders
    Cancel(One),
    /// Change the rate, also while it runs
    #[command(after_help = "Examples:
  order-relay redrive rate 9c41f2 5/s
  order-relay redrive rate 9c41f2 none")]
    Rate {
        #[command(flatten)]
        /// Which
        one: One,
        /// 60/m, 5/s, or none: as fast as the ERP answers
        #[arg(value_parser = rate)]
        rate: Rate,
    },
    /// Its progress; with --items the outcome of each order
    #[command(after_help = "Examples:
  order-relay redrive show 9c41f2 --watch
  order-relay redrive show 9c41f2 --items --status failed --output csv > failed.csv")]
    Show {
        /// Its id, or the end of it that no other has
        id: String,
        /// Show it until it stops or ends
        #[arg(long)]
        watch: bool,
        /// Each order with its result
        #[arg(long)]
        items: bool,
        /// Only orders with this status
        #[arg(long, requires = "items", value_parser =
            PossibleValuesParser::new(ItemStatus::ALL.map(ItemStatus::as_str)))]
        status: Option<String>,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// List redrives, newest first
    List {
        #[command(flatten)]
        /// How many
        limit: Limit,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `redrive plan`
#[derive(Debug, Clone, Args)]
pub struct Plan {
    #[command(flatten)]
    /// Which orders
    pub select: Select,
    /// The orders that this redrive did not transfer and that are still lost
    #[arg(long, value_name = "ID", conflicts_with_all = ["ids", "all"])]
    pub failed_of: Option<String>,
    /// 60/m, 5/s, or none: as fast as the ERP answers
    #[arg(long, default_value = "none", value_parser = rate)]
    pub rate: Rate,
    /// Sizes of the steps; the rest is the last step
    #[arg(long, value_delimiter = ',', default_value = "1,5,20,100")]
    pub ramp: Vec<u32>,
    /// Percentage of a step that may fail before it stops; a step of one stops at any failure
    #[arg(long, default_value_t = 10)]
    pub stop_percent: u32,
    #[command(flatten)]
    /// Usual
    pub change: Change,
    #[command(flatten)]
    /// How
    pub output: Output,
}

/// One redrive, to be changed.
#[derive(Debug, Clone, Args)]
pub struct One {
    /// Its id, or a unique end of it
    pub id: String,
    #[command(flatten)]
    /// Usual
    pub change: Change,
    #[command(flatten)]
    /// How
    pub output: Output,
}

/// Orders per minute; none: no limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Option<u32>);

pub fn rate(text: &str) -> Result<Rate, String> {
    let expected = "expected a rate such as 60/m or 5/s, or none";
    if text == "none" {
        return Ok(Rate(None));
    }
    let (number, unit) = text.split_once('/').unwrap_or((text, "m"));
    let number: u32 = number.trim().parse().map_err(|_| expected.to_owned())?;
    let per_minute = match unit.trim() {
        "m" | "min" | "minute" => Some(number),
        "s" | "sec" | "second" => number.checked_mul(60),
        _ => return Err(expected.to_owned()),
    };
    let per_minute = per_minute.ok_or(expected)?;
    crate::domain::redrive::check_rate(Some(per_minute)).map(|()| Rate(Some(per_minute)))
}
