//! `fill`: many test orders; `measure`: how long lists and statistics take.

use std::io::Write;

use jiff::SignedDuration;

use crate::cli::change::whoever;
use crate::cli::devtools::Fill;
use crate::cli::exit::{Exit, Misuse};
use crate::cli::flags::Format;
use crate::cli::output::{print, progress};
use crate::devtools::fill::{Filler, Filling};
use crate::devtools::measure::{Measure, Measured};
use crate::ops::verbs::Ops;
use crate::views::csv::Column;

/// The time over which test orders are spread.
const SPAN: SignedDuration = SignedDuration::from_hours(30 * 24);

/// `fill`
pub async fn fill(filler: &Filler, command: &Fill, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Fill { orders, lost, yes } = *command;
    if lost > orders {
        return Err(Misuse::told("--lost is more than --orders"));
    }
    let there = filler.there().await?;
    if there > 0 && !yes {
        return Err(Misuse::told(format!(
            "this ledger already contains {there} orders, and test orders cannot be removed again: use another one, or give --yes"
        )));
    }
    let bar = progress(orders, "filling");
    let filling = Filling { orders, lost, queued: (orders / 1_000).min(200), span: SPAN };
    filler.fill(filling, |made| bar.set_position(made)).await?;
    bar.finish_and_clear();
    writeln!(out, "{orders} orders were created, {lost} of them lost")?;
    Ok(Exit::Done)
}

/// `measure`
pub async fn measure(ops: &Ops, format: Format, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let bar = indicatif::ProgressBar::new_spinner();
    let measured =
        Measure::new(ops, whoever()).all(|what| bar.set_message(what.to_owned())).await?;
    bar.finish_and_clear();
    let columns: [Column<'_, Measured>; 5] = [
        ("WHAT", &|m| m.what.clone()),
        ("P50 MS", &|m| m.p50_ms.to_string()),
        ("P95 MS", &|m| m.p95_ms.to_string()),
        ("TIMES", &|m| m.times.to_string()),
        ("FOUND", &|m| m.found.to_string()),
    ];
    print(out, format, &measured, &columns, "Nothing was measured.")?;
    Ok(Exit::Done)
}
