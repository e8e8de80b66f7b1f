//! `orders erase`: the right to be forgotten.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::cli::change::{act, confirm, operator};
use crate::cli::exit::{Exit, Misuse};
use crate::cli::flags::{Change, Output};
use crate::cli::transfer::print_results;
use crate::domain::order::values::OrderKey;
use crate::ops::erasure::Erased;
use crate::ops::verbs::Ops;
use crate::views::order_detail::DetailView;
use crate::views::outcomes::{OrderOutcome, OutcomeView};

/// `orders erase`
#[derive(Debug, Args)]
pub struct Erase {
    /// Orders as SHOP/ORDER_ID
    #[arg(value_name = "ID", required_unless_present = "customer")]
    pub ids: Vec<String>,
    /// All orders of a customer: number or mail address
    #[arg(long, value_name = "ID", conflicts_with = "ids")]
    pub customer: Option<String>,
    /// Write what will be erased to a file before, one JSON document per line
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Usual
    #[command(flatten)]
    pub change: Change,
    /// How
    #[command(flatten)]
    pub output: Output,
}

/// `orders erase …`
pub async fn erase(ops: &Ops, command: &Erase, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let change = &command.change;
    if change.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
        return Err(Misuse::told(
            "give a reason with --reason, e.g. --reason \"request of 27 November\"",
        ));
    }
    let person = operator(change);
    let keys = match &command.customer {
        Some(customer) => ops.orders_of_customer(&person, customer).await?,
        None => named(&command.ids)?,
    };
    // All of them or none: what hinders one is said before anything is erased.
    let mut details = Vec::new();
    for key in &keys {
        details.extend(ops.erasable(&person, key).await?.map(DetailView::of));
    }
    confirm(change, &format!("Erase {} orders for good?", details.len()))?;
    if let Some(file) = &command.export {
        export(file, &details).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut results = Vec::new();
    for key in &keys {
        let outcome = match change.dry_run {
            true => OutcomeView::new("would be erased", ""),
            false => outcome(ops.erase(key, &act(ops, change)).await?),
        };
        results.push(OrderOutcome::of(key, outcome));
    }
    if let Some(customer) = command.customer.as_deref().filter(|_| !change.dry_run) {
        let rows = ops.erase_traces(customer, &act(ops, change)).await?;
        eprintln!("{} orders; {rows} further rows named the customer", keys.len());
    }
    print_results(out, command.output.output, &results)?;
    Ok(Exit::Done)
}

fn outcome(erased: Erased) -> OutcomeView {
    match erased {
        Erased::Now { elsewhere } => {
            OutcomeView::new("erased", format!("{elsewhere} other rows named its customer"))
        }
        Erased::Before => OutcomeView::new("gone", "its rows were gone before"),
    }
}

fn named(ids: &[String]) -> anyhow::Result<Vec<OrderKey>> {
    let key = |id: &String| {
        let parts = id.split_once('/');
        let key = parts.and_then(|(shop, number)| OrderKey::new(shop, number).ok());
        key.ok_or_else(|| Misuse::told(format!("`{id}`: name an order as SHOP/ORDER_ID")))
    };
    ids.iter().map(key).collect()
}

/// Durable before anything is erased.
fn export(path: &Path, details: &[DetailView]) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create_new(path)?);
    for detail in details {
        serde_json::to_writer(&mut file, detail)?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    Ok(())
}
