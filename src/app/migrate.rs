//! `migrate`: brings the tables of the database to this release.

use std::io::Write;

use anyhow::Context;

use crate::app::wiring;
use crate::cli::exit::Exit;
use crate::config::settings::Settings;

/// `migrate`
pub async fn migrate(
    settings: &Settings,
    dry_run: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let store = wiring::open_store(settings, "migrate")?;
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
    let applied = store.migrate().await.context("the migration failed and was rolled back")?;
    writeln!(out, "applied {}", applied.join(", "))?;
    Ok(Exit::Done)
}
