//! `mails …`, `audit`, `ledger check`: what the ledger contains besides orders.

use crate::cli::change::whoever;
use crate::cli::flags::{Format, Output, moment};
use crate::domain::order_filter::Moment;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use std::io::Write;
use uuid::Uuid;

use anyhow::Context;

use crate::cli::exit::Exit;
use crate::cli::output::{facts, local, print, print_one};
use crate::domain::text::one_line;
use crate::ops::verbs::Ops;
use crate::ports::audit::{AuditFilter, AuditRow};
use crate::ports::ledger::LedgerReport;
use crate::ports::notices::{MailDelivery, MailStatus};
use crate::views::csv::Column;
use crate::views::mails::MailView;

/// `mails …`
pub async fn mails(ops: &Ops, command: Mails, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Mails::List { status, limit, output } => {
            let status = status.as_deref().and_then(MailStatus::from_name);
            let mails = ops.mails(&whoever(), status, limit).await?;
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
                writeln!(out, "\n{}", mail.mail.text)
            })?;
        }
    }
    Ok(Exit::Done)
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
    let rows = ops.audit(&whoever(), filter, None, command.limit).await?;
    let is_table = command.output.output == Format::Table;
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
    print(out, command.output.output, &rows, &columns, "No action of a person matches.")?;
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
        "received {} = confirmed {} + lost {} + queued {} + held {}, difference {}",
        r.received, r.confirmed, r.lost, r.queued, r.held, r.difference
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
        /// waiting, sent, kept or failed: for all or for one of the receivers
        #[arg(long, value_parser = PossibleValuesParser::new(MailStatus::ALL.map(MailStatus::as_str)))]
        status: Option<String>,
        /// Most to show
        #[arg(long, default_value_t = 100)]
        limit: u32,
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
}

/// `ledger`
#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Verify that received = confirmed + lost + queued + held, and that no row breaks a rule
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
    /// Most to show
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    #[command(flatten)]
    /// How
    pub output: Output,
}
