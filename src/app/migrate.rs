//! `migrate`: brings the tables of the database to this release.

use std::io::Write;

use anyhow::Context;

use crate::app::wiring;
use crate::cli::exit::Exit;
use crate::cli::output::progress;
use crate::config::settings::Settings;

/// `migrate`
pub async fn migrate(
    settings: &Settings,
    dry_run: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let store = wiring::open_store(settings)?;
    let unreachable = "the database cannot be used: is it running, is database.url right?";
    let status = store.schema_status().await.context(unreachable)?;
    if status.pending.is_empty() {
        writeln!(out, "nothing to do")?;
        return Ok(Exit::Done);
    }
    if dry_run {
        writeln!(out, "would apply {}", status.pending.join(", "))?;
        return Ok(Exit::Done);
    }
    let bar = progress(0, "copying orders");
    let told = |copied, all| {
        bar.set_length(all);
        bar.set_position(copied);
    };
    let applied = store.migrate(&told).await.context(
        "the migration failed; nothing is lost, and `order-relay migrate` continues where it stopped",
    )?;
    bar.finish_and_clear();
    writeln!(out, "applied {}", applied.join(", "))?;
    Ok(Exit::Done)
}
