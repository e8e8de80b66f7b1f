//! `erp circuits`, `erp hold`, `erp release`: whether orders flow to an ERP, and stopping them.

use std::io::Write;

use crate::cli::change::{act, whoever};
use crate::cli::exit::{Exit, Misuse};
use crate::cli::flags::{Change, Format};
use crate::cli::output::{local, print};
use crate::ops::verbs::Ops;
use crate::views::circuits::CircuitView;
use crate::views::csv::Column;

/// `erp circuits`
pub async fn list(ops: &Ops, format: Format, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let views: Vec<CircuitView> =
        ops.circuits(&whoever()).await?.iter().map(CircuitView::of).collect();
    let columns: [Column<'_, CircuitView>; 6] = [
        ("ERP", &|c| c.erp.clone()),
        ("STATE", &|c| c.state.to_owned()),
        ("SINCE", &|c| c.opened_at.map(local).unwrap_or_default()),
        ("NEXT TRIAL", &|c| c.next_trial_at.map(local).unwrap_or_default()),
        ("FAILED TRIALS", &|c| c.failed_trials.to_string()),
        ("REASON", &|c| c.reason.clone().unwrap_or_default()),
    ];
    print(out, format, &views, &columns, "No ERPs.")?;
    Ok(Exit::Done)
}

/// `erp hold`
pub async fn hold(
    ops: &Ops,
    erp: &str,
    change: &Change,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if change.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
        return Err(Misuse::told("give a reason with --reason; others will want to know"));
    }
    if change.dry_run {
        writeln!(out, "would hold the transfer to ERP {erp}")?;
        return Ok(Exit::Done);
    }
    ops.hold(erp, &act(ops, change)).await?;
    writeln!(out, "the transfer to ERP {erp} is held; `order-relay erp release` resumes it")?;
    Ok(Exit::Done)
}

/// `erp release`
pub async fn release(
    ops: &Ops,
    erp: &str,
    change: &Change,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if change.dry_run {
        writeln!(out, "would release the transfer to ERP {erp}")?;
        return Ok(Exit::Done);
    }
    ops.release(erp, &act(ops, change)).await?;
    writeln!(out, "the transfer to ERP {erp} continues with one order, then with all")?;
    Ok(Exit::Done)
}
