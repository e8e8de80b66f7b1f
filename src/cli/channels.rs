//! `channels …`: channels beside mail, and what they were told.

use std::io::Write;

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use crate::cli::change::{act, confirm, whoever};
use crate::cli::exit::Exit;
use crate::cli::flags::{Change, Format, Limit, Output};
use crate::cli::output::{facts, print, print_one};
use crate::domain::text::one_line;
use crate::ops::verbs::Ops;
use crate::ports::channels::{MessageFilter, MessageStatus};
use crate::views::channels::{ChannelView, MessageView};
use crate::views::csv::Column;

/// Most messages that one command sends again.
const MAX_RESENT: u32 = 10_000;

/// `channels …`
pub async fn channels(ops: &Ops, command: Channels, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Channels::List { output } => list(ops, output.output, out).await,
        Channels::Messages { channel, status, limit, output } => {
            let status = status.as_deref().and_then(MessageStatus::from_name);
            let filter = MessageFilter { channel, status };
            messages(ops, &filter, limit, output.output, out).await
        }
        Channels::Show { id, output } => show(ops, &id, output.output, out).await,
        Channels::Test { names, change, output } => {
            test(ops, names, &change, output.output, out).await
        }
        Channels::Resend { ids, failed, change, output } => {
            let ids = if failed { failed_messages(ops).await? } else { ids };
            resend(ops, ids, &change, output.output, out).await
        }
    }
}

async fn list(ops: &Ops, format: Format, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let reports = ops.channels(&whoever()).await?;
    let views: Vec<ChannelView> = reports
        .channels
        .iter()
        .map(|report| ChannelView::of(&report.channel, &report.place, &report.state))
        .collect();
    let columns: [Column<'_, ChannelView>; 10] = [
        ("NAME", &|c| c.name.clone()),
        ("TYPE", &|c| c.channel_type.to_owned()),
        ("MADE IN", &|c| c.made_in.to_owned()),
        ("TO", &|c| c.place.clone()),
        ("STATE", &|c| c.state.to_owned()),
        ("HELD", &|c| c.held.to_string()),
        ("WAITING", &|c| c.waiting.to_string()),
        ("DELIVERED", &|c| c.delivered.to_string()),
        ("FAILED", &|c| c.failed.to_string()),
        ("ERROR", &|c| c.error.as_deref().map_or_else(String::new, |error| one_line(error, 200))),
    ];
    print(out, format, &views, &columns, "No channels: see channels.NAME in docs/channels.md.")?;
    for one in &reports.unusable {
        eprintln!("channel {} cannot be used: {}", one.name, one_line(&one.why, 300));
    }
    for state in &reports.gone {
        let left = state.held + state.waiting + state.failed;
        let name = &state.channel;
        eprintln!("channel {name} is not set any more; {left} notices and messages are left");
    }
    let is_refused = views.iter().any(|view| view.state == "refused");
    let is_bad = is_refused || !reports.unusable.is_empty();
    Ok(if is_bad { Exit::Failed } else { Exit::Done })
}

async fn messages(
    ops: &Ops,
    filter: &MessageFilter,
    limit: Limit,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let most = limit.rows_and_one(format);
    let mut messages = ops.channel_messages(&whoever(), filter, most).await?;
    limit.cut(format, &mut messages);
    let views: Vec<MessageView> = messages.iter().map(MessageView::of).collect();
    let columns: [Column<'_, MessageView>; 7] = [
        ("ID", &|m| m.id.clone()),
        ("CHANNEL", &|m| m.channel.clone()),
        ("STATUS", &|m| m.status.to_owned()),
        ("KIND", &|m| m.content.kind.clone()),
        ("ATTEMPTS", &|m| m.tries.to_string()),
        ("TITLE", &|m| one_line(&m.content.title, 200)),
        ("ERROR", &|m| m.error.as_deref().map_or_else(String::new, |error| one_line(error, 200))),
    ];
    print(out, format, &views, &columns, "No messages.")?;
    Ok(Exit::Done)
}

async fn show(ops: &Ops, id: &str, format: Format, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (message, notices) = ops.channel_message(&whoever(), id).await?;
    let view = MessageView::of(&message);
    print_one(out, format, &view, |out| {
        facts(
            out,
            &[
                ("Channel", Some(view.channel.clone())),
                ("Status", Some(view.status.to_owned())),
                ("Kind", Some(view.content.kind.clone())),
                ("Title", Some(one_line(&view.content.title, 300))),
                ("Written", Some(view.created_at.clone())),
                ("Next attempt", view.due_at.clone()),
                ("Settled", view.settled_at.clone()),
                ("Attempts", Some(view.tries.to_string())),
                ("Error", view.error.as_deref().map(|error| one_line(error, 300))),
            ],
        )?;
        for notice in &notices {
            let detail = &notice.detail;
            let about = detail.order_id.as_ref().or(detail.erp.as_ref());
            let about = about.map_or_else(String::new, |text| one_line(text, 200));
            writeln!(out, "  {} {}/{about}", notice.kind.as_str(), one_line(&detail.shop, 60))?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

async fn test(
    ops: &Ops,
    names: Vec<String>,
    change: &Change,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let mut outcomes = Vec::new();
    for name in names {
        if change.dry_run {
            outcomes.push(Outcome::good(name, "would be sent"));
            continue;
        }
        let outcome = match ops.test_channel(&name, &act(ops, change)).await {
            Ok(report) => match report.error {
                None => Outcome::good(name, "delivered"),
                Some(error) => Outcome::bad(name, error),
            },
            Err(refusal) => Outcome::bad(name, refusal.to_string()),
        };
        outcomes.push(outcome);
    }
    print_outcomes(out, format, &outcomes)
}

async fn resend(
    ops: &Ops,
    ids: Vec<String>,
    change: &Change,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if ids.len() > 1 {
        confirm(change, &format!("Send {} messages again?", ids.len()))?;
    }
    let mut outcomes = Vec::new();
    for id in ids {
        let done = match change.dry_run {
            true => ops.channel_message(&whoever(), &id).await.map(|_| "would be sent again"),
            false => {
                let done = ops.resend_channel_message(&id, &act(ops, change)).await;
                done.map(|()| "queued")
            }
        };
        outcomes.push(match done {
            Ok(outcome) => Outcome::good(id, outcome),
            Err(refusal) => Outcome::bad(id, refusal.to_string()),
        });
    }
    print_outcomes(out, format, &outcomes)
}

async fn failed_messages(ops: &Ops) -> anyhow::Result<Vec<String>> {
    let filter = MessageFilter { channel: None, status: Some(MessageStatus::Failed) };
    let messages = ops.channel_messages(&whoever(), &filter, MAX_RESENT).await?;
    if messages.len() == MAX_RESENT as usize {
        eprintln!("only the newest {MAX_RESENT} of them: run it again for the others");
    }
    // The oldest first, as they were written.
    Ok(messages.iter().rev().map(|message| message.id.to_string()).collect())
}

/// What became of one of several things.
#[derive(Serialize)]
struct Outcome {
    name: String,
    done: bool,
    outcome: String,
}

impl Outcome {
    fn good(name: String, outcome: &str) -> Self {
        Self { name, done: true, outcome: outcome.to_owned() }
    }

    fn bad(name: String, outcome: String) -> Self {
        Self { name, done: false, outcome }
    }
}

fn print_outcomes(
    out: &mut dyn Write,
    format: Format,
    outcomes: &[Outcome],
) -> anyhow::Result<Exit> {
    let columns: [Column<'_, Outcome>; 2] =
        [("WHICH", &|o| o.name.clone()), ("RESULT", &|o| one_line(&o.outcome, 300))];
    print(out, format, outcomes, &columns, "Nothing to do.")?;
    let exits: Vec<Exit> = outcomes
        .iter()
        .map(|outcome| if outcome.done { Exit::Done } else { Exit::Failed })
        .collect();
    Ok(Exit::of_all(&exits))
}

/// `channels`
#[derive(Debug, Subcommand)]
pub enum Channels {
    /// List channels and how they are doing; exit code 1 when one is refused
    List {
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// List what channels were told, newest first
    #[command(after_help = "Examples:
  order-relay channels messages --channel ops
  order-relay channels messages --status failed --output json")]
    Messages {
        /// Only of this channel
        #[arg(long)]
        channel: Option<String>,
        /// waiting, delivered, failed or split
        #[arg(long, value_parser = PossibleValuesParser::new(MessageStatus::ALL.map(MessageStatus::as_str)))]
        status: Option<String>,
        #[command(flatten)]
        /// How many
        limit: Limit,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// One message, and what is in it
    Show {
        /// Its id
        id: String,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Send a test to channels, and say what became of it
    #[command(after_help = "Examples:
  order-relay channels test ops

It is sent at once, also in quiet hours and to a disabled channel. Exit code 1: it was not taken.")]
    Test {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Send messages again that their channel did not take
    #[command(after_help = "Examples:
  order-relay channels resend 0198d3a0-5b7c-7cc1-8a0e-2f6d1c9b4e11
  order-relay channels resend --failed --yes

The service sends them, with the ids that they had.")]
    Resend {
        /// Their ids
        #[arg(value_name = "ID", required_unless_present = "failed")]
        ids: Vec<String>,
        /// All that were refused for good
        #[arg(long, conflicts_with = "ids")]
        failed: bool,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
}
