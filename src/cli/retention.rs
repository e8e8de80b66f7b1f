//! `retention run`: taking what is old out of the ledger, now.

use std::io::Write;

use clap::Subcommand;

use crate::cli::change::{act, confirm, operator};
use crate::cli::exit::Exit;
use crate::cli::flags::{Change, Output};
use crate::cli::output::{print, progress};
use crate::ops::retention::OldOf;
use crate::ops::verbs::Ops;
use crate::views::csv::Column;
use crate::views::retention::OldView;

/// `retention`
#[derive(Debug, Subcommand)]
pub enum RetentionCommand {
    /// Take out what is older than the settings keep, now and not only once an hour
    #[command(after_help = "Examples:
  order-relay retention run --dry-run       how much is old, by kind
  order-relay retention run --now

What is kept how long: retention.* of the settings; nothing is old until they say so. Orders that are not
finished are never taken out. It may be interrupted, and run beside the service.")]
    Run {
        /// Do it without a question, like --yes
        #[arg(long, conflicts_with = "dry_run")]
        now: bool,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `retention …`
pub async fn retention(
    ops: &Ops,
    command: RetentionCommand,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let RetentionCommand::Run { now, mut change, output } = command;
    change.yes |= now;
    let old = ops.old(&operator(&change)).await?;
    let total: u64 = old.iter().map(|old| old.old).sum();
    if total > 0 {
        confirm(&change, &format!("Take {total} old rows out of the ledger for good?"))?;
    }
    let mut views = Vec::new();
    for old in old {
        let removed = if change.dry_run { 0 } else { take_out(ops, old, &change).await? };
        views.push(OldView::new(old.kind, old.before, old.old, removed));
    }
    let columns: [Column<'_, OldView>; 4] = [
        ("KIND", &|view| view.kind.to_owned()),
        ("OLDER THAN", &|view| view.before.to_string()),
        ("OLD", &|view| view.old.to_string()),
        ("TAKEN OUT", &|view| view.removed.to_string()),
    ];
    let nothing = "Everything is kept for ever: set retention.*, see docs/settings.md.";
    print(out, output.output, &views, &columns, nothing)?;
    Ok(Exit::Done)
}

async fn take_out(ops: &Ops, old: OldOf, change: &Change) -> anyhow::Result<u64> {
    let bar = progress(old.old, old.kind.as_str());
    let removed = ops.take_out(old, &act(ops, change), &|piece| bar.inc(piece)).await;
    bar.finish_and_clear();
    Ok(removed?)
}
