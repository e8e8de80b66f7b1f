//! `mails …`, `audit`, `ledger check`: what the ledger contains besides orders.

use crate::cli::change::{act, confirm, whoever};
use crate::cli::flags::{Change, Format, Limit, Output, moment};
use crate::domain::order_filter::Moment;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use std::io::Write;
use uuid::Uuid;

use anyhow::Context;
use serde::Serialize;

use crate::cli::exit::{Exit, Misuse};
use crate::cli::mail_previews::PreviewMail;
use crate::cli::output::{facts, local, print, print_one};
use crate::domain::text::one_line;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::{AuditFilter, AuditRow};
use crate::ports::ledger::LedgerReport;
use crate::ports::notices::{MailDelivery, MailStatus};
use crate::views::csv::Column;
use crate::views::mails::MailView;

/// Most mails that one command sends again.
const MAX_RESENT: u32 = 10_000;

/// `mails …`
pub async fn mails(ops: &Ops, command: Mails, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Mails::List { status, limit, output } => {
            let status = status.as_deref().and_then(MailStatus::from_name);
            let mut mails =
                ops.mails(&whoever(), status, limit.rows_and_one(output.output)).await?;
            limit.cut(output.output, &mut mails);
            let views: Vec<MailView> = mails.iter().map(MailView::of).collect();
            let columns: [Column<'_, MailView>; 7] = [
                ("ID", &|m| m.id.clone()),
                ("STATUS", &|m| m.status.to_owned()),
                ("KIND", &|m| m.kind.to_owned()),
                ("TO", &|m| m.receivers.join(", ")),
                ("NOT TO", &|m| {
                    let failed = m.deliveries.iter().filter(|d| d.status == "failed");
                    failed.map(|d| d.receiver.as_str()).collect::<Vec<_>>().join(", ")
                }),
                ("SUBJECT", &|m| m.subject.clone()),
                ("ERROR", &|m| m.error.clone().unwrap_or_default()),
            ];
            print(out, output.output, &views, &columns, "No mails.")?;
        }
        Mails::Show { id, output } => {
            let id: Uuid =
                id.parse().ok().context("that is not the id of a mail; see `mails list`")?;
            let mail = ops.mail(&whoever(), &id.to_string()).await?;
            let view = MailView::of(&mail);
            print_one(out, output.output, &view, |out| {
                facts(
                    out,
                    &[
                        ("From", Some(mail.mail.sender.clone())),
                        ("To", Some(mail.mail.receivers.join(", "))),
                        ("Subject", Some(mail.mail.subject.clone())),
                        ("Message-ID", Some(mail.mail.message_id.clone())),
                        ("Status", Some(mail.status.as_str().to_owned())),
                        ("Written", Some(local(mail.created_at))),
                    ],
                )?;
                show_deliveries(out, &mail.deliveries)?;
                writeln!(out, "\n{}", mail.mail.text)?;
                match &mail.mail.attachment {
                    Some(list) => writeln!(out, "\nAttached failures.csv:\n{list}"),
                    None => Ok(()),
                }
            })?;
        }
        // It needs no ledger: it was shown before.
        Mails::Preview(_) => return Ok(Exit::Usage),
        Mails::Resend { ids, failed, change, output } => {
            let ids = if failed { failed_mails(ops).await? } else { ids };
            return resend(ops, ids, &change, output.output, out).await;
        }
        Mails::Acknowledge { ids, change, output } => {
            if change.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
                return Err(Misuse::told("give a reason with --reason"));
            }
            let mut outcomes = Vec::new();
            for id in ids {
                let done = match change.dry_run {
                    true => ops.mail(&whoever(), &id).await.map(|_| "would be acknowledged"),
                    false => {
                        let done = ops.acknowledge_mail(&id, &act(ops, &change)).await;
                        done.map(|()| "acknowledged")
                    }
                };
                outcomes.push(MailOutcome::of(id, done.map(str::to_owned)));
            }
            return print_outcomes(out, output.output, &outcomes);
        }
    }
    Ok(Exit::Done)
}

/// `mails resend`
async fn resend(
    ops: &Ops,
    ids: Vec<String>,
    change: &Change,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if ids.len() > 1 {
        confirm(change, &format!("Send {} mails to whoever has not got them?", ids.len()))?;
    }
    let mut outcomes = Vec::new();
    for id in ids {
        let done = match change.dry_run {
            true => ops.mail(&whoever(), &id).await.map(|_| "would be sent again".to_owned()),
            false => {
                let queued = ops.resend_mail(&id, &act(ops, change)).await;
                queued.map(|queued| format!("queued for {queued}"))
            }
        };
        outcomes.push(MailOutcome::of(id, done));
    }
    print_outcomes(out, format, &outcomes)
}

/// The mails that somebody did not get.
async fn failed_mails(ops: &Ops) -> anyhow::Result<Vec<String>> {
    let mails = ops.mails(&whoever(), Some(MailStatus::Failed), MAX_RESENT).await?;
    if mails.len() == MAX_RESENT as usize {
        eprintln!("only the newest {MAX_RESENT} of them: run it again for the others");
    }
    Ok(mails.iter().map(|mail| mail.id.to_string()).collect())
}

/// What became of one of several mails.
#[derive(Serialize)]
struct MailOutcome {
    id: String,
    done: bool,
    outcome: String,
}

impl MailOutcome {
    fn of(id: String, done: Result<String, Refusal>) -> Self {
        match done {
            Ok(outcome) => Self { id, done: true, outcome },
            Err(refusal) => Self { id, done: false, outcome: refusal.to_string() },
        }
    }
}

fn print_outcomes(
    out: &mut dyn Write,
    format: Format,
    outcomes: &[MailOutcome],
) -> anyhow::Result<Exit> {
    let columns: [Column<'_, MailOutcome>; 2] =
        [("ID", &|o| o.id.clone()), ("RESULT", &|o| o.outcome.clone())];
    print(out, format, outcomes, &columns, "No mails.")?;
    let exits: Vec<Exit> = outcomes
        .iter()
        .map(|outcome| if outcome.done { Exit::Done } else { Exit::Failed })
        .collect();
    Ok(Exit::of_all(&exits))
}

/// What became of it, receiver by receiver.
fn show_deliveries(out: &mut dyn Write, deliveries: &[MailDelivery]) -> std::io::Result<()> {
    for delivery in deliveries {
        let sent = delivery.sent_at.map(|at| format!(" {}", local(at))).unwrap_or_default();
        let error = delivery.error.as_deref().map(|error| format!(": {}", one_line(error, 300)));
        writeln!(
            out,
            "  {} {}{sent} (attempts: {}){}",
            one_line(&delivery.receiver, 320),
            delivery.status.as_str(),
            delivery.tries,
            error.unwrap_or_default()
        )?;
    }
    Ok(())
}

/// `audit`
pub async fn audit(ops: &Ops, command: Audit, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let now = ops.now();
    let filter = AuditFilter {
        actor: command.actor,
        action: command.action,
        target: command.target,
        since: command.since.map(|since| since.seen_from(now)),
        until: command.until.map(|until| until.seen_from(now)),
        ..AuditFilter::default()
    };
    let format = command.output.output;
    let most = command.limit.rows_and_one(format);
    let mut rows = ops.audit(&whoever(), filter, None, most).await?;
    command.limit.cut(format, &mut rows);
    let is_table = format == Format::Table;
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let columns: [Column<'_, AuditRow>; 8] = [
        ("WHEN", &|e| if is_table { local(e.entry.at) } else { e.entry.at.to_string() }),
        ("WHO", &|e| e.entry.actor.clone()),
        ("FROM", &|e| text(&e.entry.from)),
        ("WHAT", &|e| e.entry.action.clone()),
        ("ON WHAT", &|e| e.entry.target.clone()),
        ("WHY", &|e| text(&e.entry.reason)),
        ("BEFORE", &|e| text(&e.entry.before)),
        ("AFTER", &|e| text(&e.entry.after)),
    ];
    print(out, format, &rows, &columns, "No action of a person matches.")?;
    Ok(Exit::Done)
}

/// `ledger check`
pub async fn ledger(ops: &Ops, command: Ledger, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Ledger::Check { since, output } = command;
    let since = since.map(|since| since.seen_from(ops.now()));
    let report = ops.check_ledger(&whoever(), since).await?;
    let is_sound = report.difference == 0 && report.violations.is_empty();
    print_one(out, output.output, &report, |out| show_report(out, &report, is_sound))?;
    Ok(if is_sound { Exit::Done } else { Exit::Failed })
}

fn show_report(out: &mut dyn Write, r: &LedgerReport, is_sound: bool) -> std::io::Result<()> {
    writeln!(
        out,
        "received {} = confirmed {} + lost {} + queued {} + held {}{}, difference {}",
        r.received,
        r.confirmed,
        r.lost,
        r.queued,
        r.held,
        if r.gone > 0 { format!(" + gone {}", r.gone) } else { String::new() },
        r.difference
    )?;
    for violation in &r.violations {
        let examples = violation.examples.join(", ");
        writeln!(out, "broken: {}: {} orders, e.g. {examples}", violation.promise, violation.rows)?;
    }
    if r.settled_second_entries > 0 {
        let settled = r.settled_second_entries;
        writeln!(out, "entered twice and settled by people: {settled}")?;
    }
    writeln!(out, "{}", if is_sound { "The ledger is sound." } else { "The ledger is NOT sound." })
}

/// `mails`
#[derive(Debug, Subcommand)]
pub enum Mails {
    /// List mails, newest first
    List {
        /// waiting, sent, kept, failed or split: for all or for one of the receivers
        #[arg(long, value_parser = PossibleValuesParser::new(MailStatus::ALL.map(MailStatus::as_str)))]
        status: Option<String>,
        #[command(flatten)]
        /// How many
        limit: Limit,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// One mail as it is sent
    Show {
        /// Its id
        id: String,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Send mails again to whoever has not got them; to nobody twice
    #[command(after_help = "Examples:
  order-relay mails resend 0198d3a0-5b7c-7cc1-8a0e-2f6d1c9b4e11
  order-relay mails resend --failed --yes

An alert goes to the administrators that mail.receiver names now. The notifier sends it.")]
    Resend {
        /// Their ids
        #[arg(value_name = "ID", required_unless_present = "failed")]
        ids: Vec<String>,
        /// All that a receiver did not get for good
        #[arg(long, conflicts_with = "ids")]
        failed: bool,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Each kind of mail with sample data: needs no ledger, sends nothing
    #[command(after_help = "Examples:
  order-relay mails preview                                        lists the kinds
  order-relay mails preview digest --language de
  order-relay mails preview circuit_closed --to mail.html")]
    Preview(PreviewMail),
    /// Say that alerts which no administrator got are known; they are not shown on every page any more
    Acknowledge {
        /// Their ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `ledger`
#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Verify that received = confirmed + lost + queued + held + gone, and that no row breaks a rule
    #[command(after_help = "Examples:
  order-relay ledger check
  order-relay ledger check --since 24h --output json

Exit code 0: the ledger is sound; 1: it is not, and the problems are listed.")]
    Check {
        /// Only orders received since: a time, or how long ago ("24h")
        #[arg(long, value_parser = moment)]
        since: Option<Moment>,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Who: user:NAME, token:NAME or cli:NAME
    #[arg(long)]
    pub actor: Option<String>,
    /// The action; one that ends with a dot is a prefix, e.g. order.
    #[arg(long)]
    pub action: Option<String>,
    /// To what, e.g. an order as SHOP/ORDER_ID
    #[arg(long)]
    pub target: Option<String>,
    /// At or after: a time, or how long ago ("24h")
    #[arg(long, value_parser = moment)]
    pub since: Option<Moment>,
    /// Before: a time, or how long ago ("24h")
    #[arg(long, value_parser = moment)]
    pub until: Option<Moment>,
    #[command(flatten)]
    /// How many
    pub limit: Limit,
    #[command(flatten)]
    /// How
    pub output: Output,
}
