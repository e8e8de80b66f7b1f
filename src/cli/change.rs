//! What every change by hand takes: who, why, and the question before it.

use anyhow::{Context, bail};
use std::io::IsTerminal;

use crate::cli::exit::Misuse;
use crate::cli::flags::Change;
use crate::domain::order::values::OrderKey;
use crate::domain::permission::Grants;
use crate::ops::principal::Principal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;

pub async fn find_all(ops: &Ops, ids: &[String]) -> anyhow::Result<Vec<OrderKey>> {
    let mut keys = Vec::with_capacity(ids.len());
    for id in ids {
        keys.push(ops.find(&whoever(), id).await?);
    }
    Ok(keys)
}

/// Who does it and why.
pub fn act(ops: &Ops, change: &Change) -> Act {
    ops.act(&operator(change), change.reason.as_deref())
}

/// Whoever runs this command, under the name that `--actor` gives.
pub fn operator(change: &Change) -> Principal {
    change.actor.as_deref().map_or_else(whoever, named)
}

/// Whoever runs this command.
pub fn whoever() -> Principal {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    named(user.as_deref().unwrap_or("unknown"))
}

/// A user of the command line has the password of the database: nothing can be withheld.
fn named(actor: &str) -> Principal {
    Principal { name: format!("cli:{actor}"), from: None, grants: Grants::all() }
}

/// Asks on a terminal; anywhere else `--yes` has to be given.
pub fn confirm(change: &Change, question: &str) -> anyhow::Result<()> {
    if change.yes || change.dry_run {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        let question = format!("{question} Give --yes to do it without a question");
        return Err(Misuse::told(question));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("no answer")?;
    if answer.trim().eq_ignore_ascii_case("y") || answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    bail!("nothing was done")
}
