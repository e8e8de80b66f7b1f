//! `redrive …` and `lost-orders edit` for clap.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use crate::cli::args::{Change, Filter, Output};
use crate::domain::redrive::ItemStatus;

/// `redrive`
#[derive(Debug, Subcommand)]
pub enum Redrive {
    /// Store a list of lost orders as a plan; nothing is sent before `redrive start`
    #[command(after_help = "Examples:
  order-relay redrive plan --class unavailable --since 6h --rate 60/m
  order-relay redrive plan 100042 100043 --reason \"the article is there now\"
  order-relay redrive plan --failed-of 9c41f2
  order-relay redrive plan --all --dry-run        shows the plan without storing it

The plan stores the orders with their revisions. Orders that do not belong in it are listed with the reason.")]
    Plan(Box<Plan>),
    /// Start: one order, then 5, 20, 100, then the rest; it stops automatically when too many fail
    #[command(after_help = "Example:
  order-relay redrive start 9c41f2 && order-relay redrive show 9c41f2 --watch")]
    Start(One),
    /// Pause; orders that were sent are still answered
    Pause(One),
    /// Resume a paused or stopped one; after a stop the steps start again at the first
    Resume(One),
    /// Cancel; orders that were not sent stay lost orders
    Cancel(One),
    /// Change the rate, also while it runs
    #[command(after_help = "Examples:
  order-relay redrive rate 9c41f2 5/s
  order-relay redrive rate 9c41f2 none")]
    Rate {
        #[command(flatten)]
        /// Which
        one: One,
        /// 60/m, 5/s, or none: as fast as the ERP answers
        #[arg(value_parser = rate)]
        rate: Rate,
    },
    /// Its progress; with --items the outcome of each order
    #[command(after_help = "Examples:
  order-relay redrive show 9c41f2 --watch
  order-relay redrive show 9c41f2 --items --status failed --output csv > failed.csv")]
    Show {
        /// Its id, or a unique end of it
        id: String,
        /// Show it until it stops or ends
        #[arg(long)]
        watch: bool,
        /// Each order with its result
        #[arg(long)]
        items: bool,
        /// Only orders with this status
        #[arg(long, requires = "items", value_parser =
            PossibleValuesParser::new(ItemStatus::ALL.map(ItemStatus::as_str)))]
        status: Option<String>,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// List redrives, newest first
    List {
        /// Most to show
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `redrive plan`
#[derive(Debug, Clone, Args)]
pub struct Plan {
    #[command(flatten)]
    /// Which orders
    pub select: Select,
    /// The orders that this redrive did not transfer and that are still lost
    #[arg(long, value_name = "ID", conflicts_with_all = ["ids", "all"])]
    pub failed_of: Option<String>,
    /// 60/m, 5/s, or none: as fast as the ERP answers
    #[arg(long, default_value = "none", value_parser = rate)]
    pub rate: Rate,
    /// Sizes of the steps; the rest is the last step
    #[arg(long, value_delimiter = ',', default_value = "1,5,20,100")]
    pub ramp: Vec<u32>,
    /// Percentage of a step that may fail before it stops; a step of one stops at any failure
    #[arg(long, default_value_t = 10)]
    pub stop_percent: u32,
    #[command(flatten)]
    /// Usual
    pub change: Change,
    #[command(flatten)]
    /// How
    pub output: Output,
}

/// Orders by their numbers, or by a filter.
#[derive(Debug, Clone, Args)]
pub struct Select {
    /// ORDER_ID or SHOP/ORDER_ID
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All lost orders
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    #[command(flatten)]
    /// Lost orders that match
    pub filter: Filter,
}

/// One redrive, to be changed.
#[derive(Debug, Clone, Args)]
pub struct One {
    /// Its id, or a unique end of it
    pub id: String,
    #[command(flatten)]
    /// Usual
    pub change: Change,
    #[command(flatten)]
    /// How
    pub output: Output,
}

/// `lost-orders edit`
#[derive(Debug, Clone, Args)]
pub struct Edit {
    #[command(flatten)]
    /// Which orders
    pub select: Select,
    /// A JSON Patch (RFC 6902): itself, a file, or `-` for standard input; else $EDITOR opens the order
    #[arg(long, value_name = "PATCH")]
    pub patch: Option<String>,
    /// The whole document from a file, or `-` for standard input, instead of $EDITOR
    #[arg(long, value_name = "FILE", conflicts_with = "patch")]
    pub file: Option<PathBuf>,
    /// The revision on which your edit is based: refused if somebody has edited it since
    #[arg(long, value_name = "N")]
    pub base_revision: Option<u32>,
    /// Transfer the edited orders to the ERP afterwards
    #[arg(long)]
    pub process: bool,
    #[command(flatten)]
    /// Usual
    pub change: Change,
    #[command(flatten)]
    /// How
    pub output: Output,
}

/// Orders per minute; none: no limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Option<u32>);

fn rate(text: &str) -> Result<Rate, String> {
    let expected = "expected a rate such as 60/m or 5/s, or none";
    if text == "none" {
        return Ok(Rate(None));
    }
    let (number, unit) = text.split_once('/').unwrap_or((text, "m"));
    let number: u32 = number.trim().parse().map_err(|_| expected.to_owned())?;
    let per_minute = match unit.trim() {
        "m" | "min" | "minute" => Some(number),
        "s" | "sec" | "second" => number.checked_mul(60),
        _ => return Err(expected.to_owned()),
    };
    let per_minute = per_minute.ok_or(expected)?;
    crate::domain::redrive::check_rate(Some(per_minute)).map(|()| Rate(Some(per_minute)))
}
