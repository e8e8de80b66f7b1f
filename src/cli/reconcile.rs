//! `reconcile`: what the ERP says about orders with an unknown outcome.

use crate::cli::flags::{Change, Output};
use clap::Args;
use std::io::Write;

use anyhow::bail;

use crate::cli::change::{act, confirm, find_all, operator, whoever};
use crate::cli::exit::Exit;
use crate::cli::orders::MAX_ALL;
use crate::cli::output::{local, progress};
use crate::cli::transfer::print_results;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::OrderFilter;
use crate::domain::text::one_line;
use crate::ops::reconcile::Reconciled;
use crate::ops::refusal::Refusal;
use crate::ops::transfer::Transferred;
use crate::ops::verbs::Ops;
use crate::ports::erp::ProbeAnswer;
use crate::views::outcomes::{OrderOutcome, OutcomeView};

/// `reconcile …`
pub async fn reconcile(
    ops: &Ops,
    command: &Reconcile,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let change = &command.change;
    if command.absent && change.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
        bail!("give a reason with --reason, e.g. --reason \"looked in the ERP: not there\"");
    }
    let keys = keys(ops, command).await?;
    if command.absent {
        let question = format!(
            "Send {} orders again? Orders that are already in the ERP will be entered twice.",
            keys.len()
        );
        confirm(change, &question)?;
    }
    let bar = progress(keys.len() as u64, "asking");
    let (mut results, mut exits) = (Vec::new(), Vec::new());
    for key in keys {
        let (outcome, exit) = match (change.dry_run, command.absent) {
            (true, true) => (OutcomeView::new("would be sent", ""), Exit::Done),
            (true, false) => asked(ops.ask_erp(&operator(change), &key).await?.0),
            (false, true) => declared(ops.declare_absent(&key, &act(ops, change)).await)?,
            (false, false) => reconciled(ops.reconcile(&key, &act(ops, change)).await)?,
        };
        bar.inc(1);
        results.push(OrderOutcome::of(&key, outcome));
        exits.push(exit);
    }
    bar.finish_and_clear();
    print_results(out, command.output.output, &results)?;
    Ok(Exit::of_all(&exits))
}

async fn keys(ops: &Ops, command: &Reconcile) -> anyhow::Result<Vec<OrderKey>> {
    if !command.all {
        return find_all(ops, &command.ids).await;
    }
    let unclear = OrderFilter { phase: Some("outcome_unknown".to_owned()), ..Default::default() };
    let mut orders = ops.list(&whoever(), &unclear, MAX_ALL).await?;
    orders.reverse();
    Ok(orders.into_iter().map(|order| order.key).collect())
}

type Line = (OutcomeView, Exit);

fn entered(outcome: &'static str, erp_order_id: Option<String>) -> OutcomeView {
    let detail = match &erp_order_id {
        Some(id) => format!("ERP number {id}"),
        None => "the ERP gave no number".to_owned(),
    };
    OutcomeView { erp_order_id, ..OutcomeView::new(outcome, detail) }
}

fn asked(answer: ProbeAnswer) -> Line {
    match answer {
        ProbeAnswer::Found(receipt) => (entered("found", receipt.erp_order_id), Exit::Done),
        ProbeAnswer::Absent => {
            (OutcomeView::new("absent", "the ERP does not have it now"), Exit::Done)
        }
        ProbeAnswer::Unclear(failure) => {
            let detail = format!("{} ({})", failure.message, failure.code);
            (OutcomeView::new("unclear", detail), Exit::Failed)
        }
    }
}

fn reconciled(reconciled: Result<Reconciled, Refusal>) -> anyhow::Result<Line> {
    Ok(match reconciled {
        Ok(Reconciled::Found { erp_order_id }) => (entered("found", erp_order_id), Exit::Done),
        Ok(Reconciled::Sent(sent)) => {
            let (sent, exit) = transferred(sent);
            (OutcomeView { detail: format!("it was not there; {}", sent.detail), ..sent }, exit)
        }
        Ok(Reconciled::Unclear { said, detail }) => {
            let next = detail.record.phase.due_at().map(local).unwrap_or_default();
            let said = one_line(&said, 500);
            let detail = format!("{said}; nothing was sent, the ERP is asked again at {next}");
            (OutcomeView::new("unclear", detail), Exit::Failed)
        }
        Ok(Reconciled::Parked) => {
            let detail = "it is not there, and no automatic attempt is left".to_owned();
            (OutcomeView::new("parked", detail), Exit::Failed)
        }
        Ok(Reconciled::Held) => (OutcomeView::new("held", "the ERP is not usable now"), Exit::Held),
        Ok(Reconciled::StillWaiting) => {
            (OutcomeView::new("waiting", "no answer yet; it continues automatically"), Exit::Failed)
        }
        Err(refusal) => refused(refusal)?,
    })
}

fn declared(sent: Result<Transferred, Refusal>) -> anyhow::Result<Line> {
    match sent {
        Ok(sent) => Ok(transferred(sent)),
        Err(refusal) => refused(refusal),
    }
}

fn transferred(sent: Transferred) -> Line {
    match sent {
        Transferred::Done { erp_order_id } => (entered("transferred", erp_order_id), Exit::Done),
        Transferred::Failed { attempt, record } => {
            let message = attempt.message.as_deref().unwrap_or_default();
            let detail = format!("sent and failed: {message}; now {}", record.phase.name());
            let outcome = OutcomeView::new("failed", detail);
            (OutcomeView { attempt: Some(*attempt), ..outcome }, Exit::Failed)
        }
        Transferred::Unclear { record } => {
            (OutcomeView::new("unclear", format!("now {}", record.phase.name())), Exit::Failed)
        }
        Transferred::Held => (OutcomeView::new("held", "the ERP is not usable now"), Exit::Held),
        Transferred::StillWaiting => (
            OutcomeView::new("waiting", "no outcome yet; it continues automatically"),
            Exit::Failed,
        ),
    }
}

fn refused(refusal: Refusal) -> anyhow::Result<Line> {
    match refusal {
        Refusal::CircuitOpen { .. } => {
            Ok((OutcomeView::new("refused", refusal.to_string()), Exit::Held))
        }
        Refusal::Invalid { .. } | Refusal::NotFound { .. } => {
            Ok((OutcomeView::new("refused", refusal.to_string()), Exit::Failed))
        }
        other => Err(other.into()),
    }
}

/// `reconcile`
#[derive(Debug, Args)]
pub struct Reconcile {
    /// ORDER_ID or SHOP/ORDER_ID
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub ids: Vec<String>,
    /// All orders with an unknown outcome
    #[arg(long, conflicts_with_all = ["ids", "absent"])]
    pub all: bool,
    /// Do not ask: you have checked that the ERP does not have them; send them again
    #[arg(long, requires = "ids")]
    pub absent: bool,
    #[command(flatten)]
    /// Usual
    pub change: Change,
    #[command(flatten)]
    /// How
    pub output: Output,
}
