//! Arguments of the commands that need the whole program: `serve`, `topology`, `migrate`, `config`, `schema`.
//! What they do is wired in `app`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use crate::cli::flags::Output;
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
    /// The body of a webhook to a channel
    Webhook,
    /// Exchanges and messages on the broker, as an AsyncAPI 3 document
    Asyncapi,
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
