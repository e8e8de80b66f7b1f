//! Arguments of the commands that need the whole program: `serve`, `topology`, `migrate`, `config`, `schema`,
//! `erp`. What they do is wired in `app`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use crate::cli::devtools::Stub;
use crate::cli::flags::{Change, Output};
use crate::ops::verbs::DEFAULT_ERP;
use crate::ports::workers::WorkerKind;

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Roles of this process, with commas between them
    #[arg(long, value_delimiter = ',', value_parser = worker_kind(),
        default_values = WorkerKind::ALL.map(WorkerKind::as_str))]
    pub roles: Vec<WorkerKind>,
}

/// `topology`
#[derive(Debug, Subcommand)]
pub enum Topology {
    /// What must exist on the broker
    Show(Output),
    /// Declare it; what already exists is not changed
    Declare {
        /// Print what would be declared, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// What is missing or different
    Check(Output),
}

/// `migrate`
#[derive(Debug, Args)]
pub struct Migrate {
    /// Only print what is missing
    #[arg(long)]
    pub dry_run: bool,
}

/// `config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Every setting with its value and where it comes from; secrets are masked
    Show(Output),
    /// JSON Schema of the settings
    Schema,
}

/// `schema`
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Schema {
    /// The order message
    Order,
    /// The order_failed message
    OrderFailed,
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
    /// Check a recipe without an ERP: every template renders a sample order, keys and names are known
    #[command(after_help = "Examples:
  order-relay erp check                  the recipe in use, and whether its secrets are set
  order-relay erp check our-erp.toml
  order-relay erp check tryton-jsonrpc   a shipped one; without --print its text is not shown
  order-relay erp check odoo --print > our-erp.toml")]
    Check {
        /// A file or the name of a shipped recipe [default: erp.recipe]
        recipe: Option<String>,
        /// Print the text of a shipped recipe, as a start for your own
        #[arg(long)]
        print: bool,
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

fn worker_kind() -> impl TypedValueParser<Value = WorkerKind> {
    let names = WorkerKind::ALL.map(|kind| PossibleValue::new(kind.as_str()).help(duty(kind)));
    PossibleValuesParser::new(names)
        .try_map(|name| WorkerKind::from_name(&name).ok_or("no such role"))
}

fn duty(kind: WorkerKind) -> &'static str {
    match kind {
        WorkerKind::Submitter => "Takes orders to the ERP",
        WorkerKind::ErrorHandler => "Counts failures and decides what follows",
        WorkerKind::Notifier => "Sends mails",
        WorkerKind::Sweeper => "Finds overdue orders, and runs redrives",
        WorkerKind::Web => "Pages, API, health and metrics",
    }
}
