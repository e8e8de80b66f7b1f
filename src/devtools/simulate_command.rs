//! `simulate`: the promises under faults, for whoever doubts them.

use std::io::Write;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::devtools::Simulate;
use crate::cli::exit::Exit;
use crate::devtools::simulation::campaign::{one, search, shortest, survey};
use crate::devtools::simulation::shared::Shared;
use crate::ports::clock::Stopwatch;

/// Runs the seeds and tells what was broken. The bar is only drawn on a terminal.
pub fn simulate(command: &Simulate, out: &mut dyn Write) -> anyhow::Result<Exit> {
    if command.story {
        let (plan, outcome) = one(command.seed);
        write!(out, "{}", outcome.report(&plan))?;
        return Ok(if outcome.broken.is_empty() { Exit::Done } else { Exit::Failed });
    }
    let bar = ProgressBar::new(command.seeds);
    let style = "{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style)?);
    let watch = Stopwatch::start();
    if command.all {
        return survey_all(command, &bar, out);
    }
    let found = search(command.seed, command.seeds, |_| bar.inc(1));
    bar.finish_and_clear();
    if let Some((plan, outcome)) = found {
        let (plan, outcome) = match command.no_shrink {
            true => (plan, outcome),
            false => shortest(&plan, &outcome),
        };
        write!(out, "{}", outcome.report(&plan))?;
        return Ok(Exit::Failed);
    }
    let took = watch.elapsed().as_secs_f64();
    let last = command.seed.saturating_add(command.seeds - 1);
    writeln!(out, "no promise was broken: seeds {} to {last}, {took:.1} s", command.seed)?;
    Ok(Exit::Done)
}

fn survey_all(command: &Simulate, bar: &ProgressBar, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let lines = Shared::new(Vec::new());
    survey(command.seed, command.seeds, |plan, outcome| {
        if let Some(first) = outcome.broken.first() {
            let (seed, more) = (plan.seed, outcome.broken.len() - 1);
            let line =
                format!("seed {seed}: {}: {} (and {more} more)", first.promise, first.detail);
            lines.get().push((seed, line));
        }
        bar.inc(1);
    });
    bar.finish_and_clear();
    let mut lines = std::mem::take(&mut *lines.get());
    lines.sort();
    lines.iter().try_for_each(|(_, line)| writeln!(out, "{line}"))?;
    writeln!(out, "{} of {} seeds break a promise", lines.len(), command.seeds)?;
    Ok(if lines.is_empty() { Exit::Done } else { Exit::Failed })
}
