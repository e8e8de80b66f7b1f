//! Transferring lost orders one after the other, and how each one ended.

use crate::ops::refusal::Refusal;
use std::io::Write;

use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::flags::Format;
use crate::cli::output::{local, print};
use crate::domain::order::values::OrderKey;
use crate::ops::transfer::Transferred;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::views::csv::Column;

/// What happened to one order of several.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub(super) order: String,
    pub(super) result: &'static str,
    pub(super) detail: String,
}

impl Outcome {
    pub(super) fn told(key: &OrderKey, result: &'static str, detail: String) -> Self {
        Self { order: key.to_string(), result, detail }
    }

    pub(super) fn plain(key: &OrderKey, result: &'static str) -> Self {
        Self { order: key.to_string(), result, detail: String::new() }
    }
}

pub fn print_results(
    out: &mut dyn Write,
    format: Format,
    results: &[Outcome],
) -> std::io::Result<()> {
    let columns: [Column<'_, Outcome>; 3] = [
        ("ORDER", &|r| r.order.clone()),
        ("RESULT", &|r| r.result.to_owned()),
        ("DETAIL", &|r| r.detail.clone()),
    ];
    print(out, format, results, &columns, "No lost orders.")
}

pub async fn transfer_one(ops: &Ops, key: &OrderKey, act: &Act) -> anyhow::Result<(Outcome, Exit)> {
    let (result, detail, exit) = match ops.transfer(key, act).await {
        Ok(Transferred::Done { erp_order_id }) => {
            let number = erp_order_id.map(|id| format!("ERP number {id}"));
            (
                "transferred",
                number.unwrap_or_else(|| "the ERP gave no number".to_owned()),
                Exit::Done,
            )
        }
        Ok(Transferred::Failed { attempt, record }) => {
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            let detail = format!(
                "{} ({}): {}; {} failed attempts, now {}",
                text(&attempt.class),
                text(&attempt.code),
                text(&attempt.message),
                record.fail_count,
                record.phase.name()
            );
            ("failed", detail, Exit::Failed)
        }
        Ok(Transferred::Unclear { record }) => {
            let next = record.phase.due_at().map(local).unwrap_or_default();
            let detail = format!(
                "an earlier attempt may have entered it into the ERP, which cannot confirm that yet; nothing was sent, the ERP is asked again at {next}"
            );
            ("unclear", detail, Exit::Failed)
        }
        Ok(Transferred::Held) => {
            ("held", "the ERP is not usable now; the order waits".to_owned(), Exit::Held)
        }
        Ok(Transferred::StillWaiting) => (
            "waiting",
            "no outcome yet; it continues automatically, check again with `orders show`".to_owned(),
            Exit::Failed,
        ),
        Err(refusal @ Refusal::CircuitOpen { .. }) => ("refused", refusal.to_string(), Exit::Held),
        Err(refusal @ (Refusal::Invalid { .. } | Refusal::NotFound { .. })) => {
            ("refused", refusal.to_string(), Exit::Failed)
        }
        Err(error) => return Err(error.into()),
    };
    Ok((Outcome { order: key.to_string(), result, detail }, exit))
}
