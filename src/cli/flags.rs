//! Flags that many commands take: format, filter, sort, and who changes something why.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::domain::failure::ErrorClass;
use crate::domain::lifecycle::vocabulary::{OrderState, PHASES};
use crate::domain::order_filter::{Moment, Sort, SortBy};

pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.01..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.01 to 10000".to_owned()),
    }
}

/// How a listing is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// How much of a listing is printed. What is left out is told on standard error.
#[derive(Debug, Clone, Copy, Args)]
pub struct Limit {
    /// Most to show [default: 100 in a table; everything as JSON, NDJSON or CSV]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Limit {
    /// Rows that are shown in this format.
    pub fn rows(self, format: Format) -> u32 {
        self.limit.unwrap_or(if format == Format::Table { 100 } else { u32::MAX })
    }

    /// Rows to read: one more, to know whether there are more.
    pub fn rows_and_one(self, format: Format) -> u32 {
        self.rows(format).saturating_add(1)
    }

    /// Leaves as many rows as are shown; says so if there are more.
    pub fn cut<T>(self, format: Format, rows: &mut Vec<T>) {
        let most = usize::try_from(self.rows(format)).unwrap_or(usize::MAX);
        if rows.len() > most {
            rows.truncate(most);
            eprintln!("the first {most}; there are more: --limit shows them");
        }
    }
}

/// Formats of listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// One JSON document
    Json,
    /// One JSON document per line
    Ndjson,
    /// Comma-separated, safe to open in a spreadsheet
    Csv,
}

impl Format {
    /// What programs read is written page by page.
    pub fn of_file(self) -> Option<ExportFormat> {
        match self {
            Self::Table => None,
            Self::Json => Some(ExportFormat::Json),
            Self::Ndjson => Some(ExportFormat::Ndjson),
            Self::Csv => Some(ExportFormat::Csv),
        }
    }
}

/// The options of every change.
#[derive(Debug, Clone, Default, Args)]
pub struct Change {
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// The reason; stored with the change
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who does it [default: the user's name on this machine]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
}

/// Which orders; the names are those of [`crate::domain::order_filter::OrderFilter`].
#[derive(Debug, Clone, Args, Serialize)]
pub struct Filter {
    /// payed, ordered_failed or confirmed
    #[arg(long, value_parser = state)]
    pub state: Option<String>,
    /// queued, held, retrying, parked, outcome_unknown, transferred or removed
    #[arg(long, value_parser = PossibleValuesParser::new(PHASES.map(|(_, name)| name)))]
    pub phase: Option<String>,
    /// Shop
    #[arg(long)]
    pub shop: Option<String>,
    /// Number or mail address of the customer
    #[arg(long)]
    pub customer: Option<String>,
    /// Class of the last failure: unavailable, rejected, unauthorized, unknown_outcome, internal
    #[arg(long, value_parser = PossibleValuesParser::new(ErrorClass::ALL.map(ErrorClass::as_str)))]
    pub class: Option<String>,
    /// Code of the last failure, e.g. http_422
    #[arg(long)]
    pub code: Option<String>,
    /// Article number of one of its lines
    #[arg(long)]
    pub sku: Option<String>,
    /// How it is paid: method, else type, else name of the payment
    #[arg(long)]
    pub payment: Option<String>,
    /// Kind of the last failure, as `lost-orders groups` shows it
    #[arg(long)]
    pub fingerprint: Option<String>,
    /// Received at or after: a time, or how long ago ("2h")
    #[arg(long, value_parser = moment_text)]
    pub since: Option<String>,
    /// Received before: a time, or how long ago ("2h")
    #[arg(long, value_parser = moment_text)]
    pub until: Option<String>,
    /// Part of the order number, the customer's name or address, or the error; or the whole of the
    /// ERP's number or the customer's
    #[arg(long)]
    pub search: Option<String>,
}

pub fn state(text: &str) -> Result<String, String> {
    OrderState::from_name(text)
        .map(|state| state.as_str().to_owned())
        .ok_or_else(|| "expected payed, ordered_failed or confirmed".to_owned())
}

pub fn moment(text: &str) -> Result<Moment, String> {
    text.parse().map_err(|expected| format!("expected {expected}"))
}

/// A moment as it was typed.
pub fn moment_text(text: &str) -> Result<String, String> {
    moment(text).map(|_| text.to_owned())
}

/// In which order, and how many.
#[derive(Debug, Clone, Copy, Args)]
pub struct Sorted {
    /// What to sort by; first comes the newest, the most attempts, or what is due soonest
    #[arg(long, value_parser = sort, default_value = "received", value_name = "BY")]
    pub sort: SortBy,
    /// In reverse order
    #[arg(long)]
    pub reverse: bool,
}

impl Sorted {
    /// The sort that is meant.
    pub fn sort(self) -> Sort {
        let natural = self.sort.natural();
        if self.reverse { natural.reversed() } else { natural }
    }
}

pub fn sort(text: &str) -> Result<SortBy, String> {
    SortBy::from_name(text)
        .ok_or_else(|| format!("expected one of {}", SortBy::ALL.map(SortBy::as_str).join(", ")))
}

/// Whether a listing stays on the screen.
#[derive(Debug, Clone, Copy, Args)]
pub struct Watch {
    /// Refresh it every SECONDS [default: 2] until Ctrl-C; only as a table
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub watch: Option<u64>,
}

/// Formats of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Comma-separated, safe to open in a spreadsheet
    Csv,
    /// One JSON document
    Json,
    /// One JSON document per line
    Ndjson,
}
