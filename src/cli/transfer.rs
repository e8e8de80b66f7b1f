//! Transferring lost orders one after the other, and how each one ended.

use crate::ops::refusal::Refusal;
use std::io::Write;

use crate::cli::exit::Exit;
use crate::cli::flags::Format;
use crate::cli::output::{local, print};
use crate::domain::order::values::OrderKey;
use crate::ops::transfer::Transferred;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::views::csv::Column;
use crate::views::outcomes::{OrderOutcome, OutcomeView};

pub fn print_results(
    out: &mut dyn Write,
    format: Format,
    results: &[OrderOutcome],
) -> std::io::Result<()> {
    let columns: [Column<'_, OrderOutcome>; 3] = [
        ("ORDER", &|r| r.order.clone()),
        ("RESULT", &|r| r.outcome.outcome.to_owned()),
        ("DETAIL", &|r| r.outcome.detail.clone()),
    ];
    print(out, format, results, &columns, "No lost orders.")
}

pub async fn transfer_one(
    ops: &Ops,
    key: &OrderKey,
    act: &Act,
) -> anyhow::Result<(OrderOutcome, Exit)> {
    let (outcome, exit) = match ops.transfer(key, act).await {
        Ok(transferred) => outcome_of(transferred),
        Err(refusal @ Refusal::CircuitOpen { .. }) => {
            (OutcomeView::new("refused", refusal.to_string()), Exit::Held)
        }
        Err(refusal @ (Refusal::Invalid { .. } | Refusal::NotFound { .. })) => {
            (OutcomeView::new("refused", refusal.to_string()), Exit::Failed)
        }
        Err(error) => return Err(error.into()),
    };
    Ok((OrderOutcome::of(key, outcome), exit))
}

fn outcome_of(transferred: Transferred) -> (OutcomeView, Exit) {
    match transferred {
        Transferred::Done { erp_order_id } => {
            let number = erp_order_id.as_ref().map(|id| format!("ERP number {id}"));
            let detail = number.unwrap_or_else(|| "the ERP gave no number".to_owned());
            (OutcomeView { erp_order_id, ..OutcomeView::new("transferred", detail) }, Exit::Done)
        }
        Transferred::Failed { attempt, record } => {
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            let detail = format!(
                "{} ({}): {}; {} failed attempts, now {}",
                text(&attempt.class),
                text(&attempt.code),
                text(&attempt.message),
                record.fail_count,
                record.phase.name()
            );
            let outcome = OutcomeView::new("failed", detail);
            (OutcomeView { attempt: Some(*attempt), ..outcome }, Exit::Failed)
        }
        Transferred::Unclear { record } => {
            let next = record.phase.due_at().map(local).unwrap_or_default();
            let detail = format!(
                "an earlier attempt may have entered it into the ERP, which cannot confirm that yet; nothing was sent, the ERP is asked again at {next}"
            );
            (OutcomeView::new("unclear", detail), Exit::Failed)
        }
        Transferred::Held => {
            (OutcomeView::new("held", "the ERP is not usable now; the order waits"), Exit::Held)
        }
        Transferred::StillWaiting => {
            let detail =
                "no outcome yet; it continues automatically, check again with `orders show`";
            (OutcomeView::new("waiting", detail), Exit::Failed)
        }
    }
}
