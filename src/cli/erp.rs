//! `erp …`: circuits, and what would be sent or is answered about an order. `erp check` and `erp stub` need
//! the whole program: they stand in `app`.

use std::io::{self, Write};

use anyhow::anyhow;
use clap::Subcommand;

use crate::cli::change::whoever;
use crate::cli::circuits;
use crate::cli::devtools::Stub;
use crate::cli::exchanges::write_exchange;
use crate::cli::exit::Exit;
use crate::cli::flags::{Change, Format, Output};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::erp::{Exchange, ProbeAnswer};
use crate::ports::erps::DEFAULT_ERP;

/// Runs one of the commands that need a ledger.
pub async fn erp(ops: &Ops, command: Erp, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Erp::Circuits(output) => circuits::list(ops, output.output, out).await,
        Erp::Hold { erp, change } => circuits::hold(ops, &erp, &change, out).await,
        Erp::Release { erp, change } => circuits::release(ops, &erp, &change, out).await,
        Erp::Render { order, output } => render(ops, &order, output.output, out).await,
        Erp::Probe { order, output } => probe(ops, &order, output.output, out).await,
        Erp::Check { .. } | Erp::Stub(_) => Ok(Exit::Usage),
    }
}

async fn render(
    ops: &Ops,
    order: &str,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let exchanges = match ops.rehearse(&whoever(), &ops.find(&whoever(), order).await?).await {
        Err(Refusal::ErpUnusable(why)) => return Err(anyhow!("cannot be rendered: {why}")),
        rehearsed => rehearsed?,
    };
    write_all(out, format, &exchanges)?;
    Ok(Exit::Done)
}

async fn probe(
    ops: &Ops,
    order: &str,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let (answer, exchanges) = ops.ask_erp(&whoever(), &ops.find(&whoever(), order).await?).await?;
    write_all(out, format, &exchanges)?;
    if format == Format::Table {
        tell(out, &answer)?;
    }
    let is_clear = !matches!(answer, ProbeAnswer::Unclear(_));
    Ok(if is_clear { Exit::Done } else { Exit::Failed })
}

fn tell(out: &mut dyn Write, answer: &ProbeAnswer) -> io::Result<()> {
    match answer {
        ProbeAnswer::Found(receipt) => {
            let number = receipt.erp_order_id.as_deref().unwrap_or("without a number");
            writeln!(out, "found: {number}")
        }
        ProbeAnswer::Absent => {
            writeln!(out, "absent: the ERP does not have it now")
        }
        ProbeAnswer::Unclear(failure) => {
            writeln!(out, "unclear: {} ({})", failure.message, failure.code)
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

/// `erp`
#[derive(Debug, Subcommand)]
pub enum Erp {
    /// List ERPs and whether orders flow to them
    Circuits(Output),
    /// Stop the transfer to an ERP: orders come in and wait, no attempts are used up
    #[command(after_help = "Example:
  order-relay erp hold --reason \"the ERP is updated until 18:00\"")]
    Hold {
        /// Its name: `default`, or the shop that has one of its own
        #[arg(default_value = DEFAULT_ERP)]
        erp: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Resume the transfer, starting with one order; also ends the pause of an outage
    #[command(after_help = "Example:
  order-relay erp release --reason \"the update is done\"")]
    Release {
        /// Its name: `default`, or the shop that has one of its own
        #[arg(default_value = DEFAULT_ERP)]
        erp: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Check a recipe: every template renders a full and a minimal order, keys and names are known
    #[command(after_help = "Examples:
  order-relay erp check                  the recipe in use, its secrets, and what it names in the ERP
  order-relay erp check --offline        the same without the ERP
  order-relay erp check our-erp.toml
  order-relay erp check tryton-jsonrpc   a shipped one; without --print its text is not shown
  order-relay erp check odoo --print > our-erp.toml")]
    Check {
        /// A file or the name of a shipped recipe [default: erp.recipe]
        recipe: Option<String>,
        /// Print the text of a shipped recipe, as a start for your own
        #[arg(long)]
        print: bool,
        /// Do not contact the ERP
        #[arg(long)]
        offline: bool,
    },
    /// The requests that would be sent for an order, as curl commands without secrets; sends nothing
    #[command(after_help = "Example:
  order-relay erp render 100042

Values that only the ERP knows, such as ids that are looked up, are shown as 1.")]
    Render {
        /// ORDER_ID or SHOP/ORDER_ID
        order: String,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Ask the ERP about an order; changes nothing
    #[command(after_help = "Example:
  order-relay erp probe 100042")]
    Probe {
        /// ORDER_ID or SHOP/ORDER_ID
        order: String,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// An ERP for tests: it can be slow, unavailable, refuse orders, or cut connections
    #[command(after_help = "Examples:
  order-relay erp stub --latency 20ms --fail-rate 0.1
  curl -X PUT localhost:9090/_stub -d '{\"mode\":\"down\"}'      switch while it runs
  curl localhost:9090/_stub                                  documents and requests per order

An order can contain its own answers: \"remark\": \"stub: down, accept_then_cut\" fails twice.
It never de-duplicates: an order that is sent twice is in it twice.")]
    Stub(Stub),
}
