//! `erp check`, `erp render`, `erp probe`, and the question that `reconcile --dry-run` asks.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::adapters::erp::recipe::check::remarks;
use crate::adapters::erp::recipe::open::{Overrides, SHIPPED, load};
use crate::cli::exchanges::write_exchange;
use crate::cli::exit::Exit;
use crate::cli::flags::Format;
use crate::cli::service::Erp as ErpCommand;
use crate::config::settings::{ErpSettings, Settings};
use crate::ops::verbs::{DEFAULT_ERP, Ops};
use crate::ports::erp::{Erp, Exchange, Journal, OrderForErp, ProbeAnswer};
use crate::ports::order_desk::OrderDetail;

use super::erps;

/// Runs one of the commands that need an order of the ledger.
pub async fn with_order(
    settings: &Settings,
    ops: &Ops,
    command: &ErpCommand,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    match command {
        ErpCommand::Render { order, output } => {
            let detail = ops.show(&ops.find(order).await?).await?;
            let exchanges = rehearse(settings, &detail)
                .map_err(|why| anyhow::anyhow!("cannot be rendered: {why}"))?;
            write_all(out, output.output, &exchanges)?;
            Ok(Exit::Done)
        }
        ErpCommand::Probe { order, output } => {
            let detail = ops.show(&ops.find(order).await?).await?;
            let (answer, exchanges) = ask(settings, &detail).await?;
            write_all(out, output.output, &exchanges)?;
            if output.output != Format::Table {
                return Ok(if matches!(answer, ProbeAnswer::Unclear(_)) {
                    Exit::Failed
                } else {
                    Exit::Done
                });
            }
            tell(out, &answer)
        }
        _ => Ok(Exit::Usage),
    }
}

/// The requests that would be sent for an order, or why there are none; sends nothing.
pub fn rehearse(settings: &Settings, detail: &OrderDetail) -> Result<Vec<Exchange>, String> {
    let erp = erp_of(settings, detail).map_err(|error| format!("{error:#}"))?;
    let rehearsed = erp.rehearse(&for_erp(detail));
    rehearsed.map_err(|failure| format!("{} ({})", failure.message, failure.code))
}

fn tell(out: &mut dyn Write, answer: &ProbeAnswer) -> anyhow::Result<Exit> {
    match answer {
        ProbeAnswer::Found(receipt) => {
            let number = receipt.erp_order_id.as_deref().unwrap_or("without a number");
            writeln!(out, "found: {number}")?;
            Ok(Exit::Done)
        }
        ProbeAnswer::Absent => {
            writeln!(out, "absent: the ERP does not have it now")?;
            Ok(Exit::Done)
        }
        ProbeAnswer::Unclear(failure) => {
            writeln!(out, "unclear: {} ({})", failure.message, failure.code)?;
            Ok(Exit::Failed)
        }
    }
}

fn write_all(out: &mut dyn Write, format: Format, exchanges: &[Exchange]) -> anyhow::Result<()> {
    match format {
        Format::Table | Format::Csv => {
            for exchange in exchanges {
                write_exchange(out, exchange)?;
            }
        }
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, exchanges)?;
            writeln!(out)?;
        }
        Format::Ndjson => {
            for exchange in exchanges {
                serde_json::to_writer(&mut *out, exchange)?;
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

fn for_erp(detail: &OrderDetail) -> OrderForErp {
    let record = &detail.record;
    OrderForErp {
        key: record.key.clone(),
        document: detail.current().clone(),
        received_at: record.received_at,
        trace: record.trace.clone(),
        journal: Journal::default(),
    }
}

fn erp_of(settings: &Settings, detail: &OrderDetail) -> anyhow::Result<Arc<dyn Erp>> {
    let shop = detail.record.key.shop.as_str();
    let own = settings.shops.get(shop).filter(|own| own.has_own_erp);
    match own {
        Some(own) => erps::open_erp(shop, &noting(&own.erp)),
        None => erps::open_erp(DEFAULT_ERP, &noting(&settings.default_shop.erp)),
    }
}

/// A question by hand is shown completely, whatever is stored otherwise.
fn noting(erp: &ErpSettings) -> ErpSettings {
    ErpSettings { exchanges: crate::config::settings::KeepExchanges::All, ..erp.clone() }
}

/// Asks about an order; changes nothing.
pub async fn ask(
    settings: &Settings,
    detail: &OrderDetail,
) -> anyhow::Result<(ProbeAnswer, Vec<Exchange>)> {
    let (erp, order) = (erp_of(settings, detail)?, for_erp(detail));
    let answer = tokio::time::timeout(erp.call_budget(), erp.ask(&order)).await;
    Ok((answer.context("no answer in time")?, order.journal.take()))
}

/// `erp check`: a recipe without an ERP.
pub fn check(
    settings: Option<&Settings>,
    recipe: Option<&str>,
    print: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let own = settings.map(|settings| &settings.default_shop.erp);
    let Some(name) = recipe.or(own.map(|erp| erp.recipe.as_str())) else {
        bail!("name a recipe");
    };
    if name == "json" {
        writeln!(out, "json: built in, nothing to check")?;
        return Ok(Exit::Done);
    }
    if print {
        return print_shipped(name, out);
    }
    let loaded = match load(name) {
        Ok(loaded) => loaded,
        Err(faults) => {
            writeln!(out, "{faults}")?;
            return Ok(Exit::Failed);
        }
    };
    for remark in remarks(&loaded.recipe) {
        writeln!(out, "{}: note: {remark}", loaded.file)?;
    }
    // Whether secrets are set is asked only of the recipe in use.
    if let Some(erp) = own.filter(|_| recipe.is_none())
        && let Err(error) = erps::open_erp(DEFAULT_ERP, erp)
    {
        writeln!(out, "{error:#}")?;
        return Ok(Exit::Failed);
    }
    let missing = loaded.secrets(&Overrides::default()).err().filter(|_| recipe.is_some());
    for fault in missing.iter().flat_map(|faults| &faults.faults) {
        writeln!(out, "{}:{fault} (needed when it is used)", loaded.file)?;
    }
    writeln!(
        out,
        "{}: {} is good: every template renders a sample order",
        loaded.file, loaded.recipe.name
    )?;
    Ok(Exit::Done)
}

fn print_shipped(name: &str, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Some((_, text)) = SHIPPED.iter().find(|(own, _)| *own == name) else {
        bail!("{name} is not a shipped recipe");
    };
    out.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}
