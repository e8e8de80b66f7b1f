//! `lost-orders groups`: what failed, how often, and what people know about it.

use crate::cli::flags::{Change, Output, Watch};
use clap::{Args, Subcommand};
use std::io::Write;

use crate::cli::change::{act, whoever};
use crate::cli::exit::{Exit, Misuse};
use crate::cli::listing::watched;
use crate::cli::output::{local, print};
use crate::domain::money::Money;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::failure_groups::Group;
use crate::views::csv::Column;

/// `lost-orders groups`
pub(super) async fn groups(
    ops: &Ops,
    command: &Groups,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if let Some(command) = &command.command {
        return note(ops, command, out).await;
    }
    let format = command.output.output;
    watched(command.watch, format, out, async |screen| {
        let groups = ops.groups(&whoever()).await?;
        let columns: [Column<'_, Group>; 11] = [
            ("GROUP", &|g| g.fingerprint.clone()),
            ("ORDERS", &|g| g.orders.to_string()),
            ("MONEY", &|g| money(&g.money)),
            ("CLASS", &|g| g.class.clone()),
            ("CODE", &|g| g.code.clone()),
            ("ERROR", &|g| g.message.clone()),
            ("SHOPS", &|g| g.shops.join(" ")),
            ("SINCE", &|g| {
                if g.is_new { format!("{} new", local(g.first_seen)) } else { local(g.first_seen) }
            }),
            ("LAST", &|g| local(g.last_seen)),
            ("24 HOURS", &|g| sparkline(&g.failures)),
            ("NOTE", &|g| {
                [&g.note, &g.runbook].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")
            }),
        ];
        Ok(print(screen, format, &groups, &columns, "No lost orders.")?)
    })
    .await
}

async fn note(ops: &Ops, command: &GroupsCommand, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let GroupsCommand::Note { fingerprint, note, runbook, change } = command;
    let group = ops.group(&whoever(), fingerprint).await?;
    // What is not named stays as it is.
    let note = note.clone().or(group.note);
    let runbook = runbook.clone().or(group.runbook);
    if change.dry_run {
        writeln!(out, "would be noted")?;
        return Ok(Exit::Done);
    }
    let act = act(ops, change);
    match ops.note_group(fingerprint, note.as_deref(), runbook.as_deref(), &act).await {
        Ok(()) => {
            writeln!(out, "noted")?;
            Ok(Exit::Done)
        }
        Err(Refusal::Value(fault)) => Err(Misuse::told(fault.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Sums side by side; totals that are not included are counted.
pub fn money(sums: &[Money]) -> String {
    let one = |sum: &Money| match sum.unsummed {
        0 => format!("{} {}", sum.amount, sum.currency),
        more => format!("{} {} and {more} orders more", sum.amount, sum.currency),
    };
    sums.iter().map(one).collect::<Vec<_>>().join(" + ")
}

/// Numbers as a line of bars, the greatest one highest.
fn sparkline(numbers: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().max().copied().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let bar = |number: &u64| {
        let height = u128::from(*number) * 7 / u128::from(most);
        let height = usize::try_from(height).unwrap_or(0).max(usize::from(*number > 0));
        BARS.get(height).copied().unwrap_or('█')
    };
    numbers.iter().map(bar).collect()
}

/// `lost-orders groups`
#[derive(Debug, Args)]
pub struct Groups {
    #[command(flatten)]
    /// How
    pub output: Output,
    #[command(flatten)]
    /// How long
    pub watch: Watch,
    /// What else
    #[command(subcommand)]
    pub command: Option<GroupsCommand>,
}

/// `lost-orders groups …`
#[derive(Debug, Subcommand)]
pub enum GroupsCommand {
    /// Write a note about a group; it stays when its orders are settled
    #[command(after_help = "Examples:
  order-relay lost-orders groups note 9f86d081884c7d65 --note \"Kim adds the articles\"
  order-relay lost-orders groups note 9f86d081884c7d65 --runbook https://wiki.example/articles
  order-relay lost-orders groups note 9f86d081884c7d65 --note \"\"     deletes the note")]
    Note {
        /// The group, as `lost-orders groups` shows it
        fingerprint: String,
        /// The note; empty deletes it
        #[arg(long, required_unless_present = "runbook")]
        note: Option<String>,
        /// Address of a runbook; empty deletes it
        #[arg(long, value_name = "URL")]
        runbook: Option<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_shows_every_number_that_is_not_zero() {
        assert_eq!(sparkline(&[0, 1, 50, 100, u64::MAX]), "▁▂▂▂█");
        assert_eq!(sparkline(&[0, 4, 8]), "▁▄█");
        assert_eq!(sparkline(&[0, 0]), "");
        assert_eq!(sparkline(&[]), "");
    }
}
