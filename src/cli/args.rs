//! The command line for clap: group, then verb.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::SignedDuration;

use crate::cli::redrive_args::{Edit, Redrive};
use crate::domain::failure::ErrorClass;
use crate::domain::lifecycle::vocabulary::{OrderState, PHASES};
use crate::domain::order_filter::{Moment, Sort, SortBy};
use crate::domain::permission::{Role, RoleGrant};
use crate::ops::orders::DEFAULT_ERP;
use crate::ops::people::LANGUAGES;
use crate::ops::tokens::SCOPES;
use crate::ports::notices::MailStatus;

/// Transfers paid orders from a shop's checkout to the ERP: never lost, never entered twice, paused
/// while the ERP is down.
#[derive(Debug, Parser)]
#[command(name = "order-relay", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Settings file [default: order-relay.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "ORDER_RELAY_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process with no service needed: see orders flow, fail, retry and get lost
    #[command(after_help = "Examples:
  order-relay demo                      runs until Ctrl-C; open the address that it prints
  order-relay demo --orders 20 --exit   20 orders, ends when all are settled")]
    Demo(Demo),
    /// The service; by default with all roles
    #[command(after_help = "Examples:
  order-relay serve
  order-relay serve --roles submitter,error-handler
  ORDER_RELAY__AMQP__URL=amqp://relay:secret@rabbit:5672/shop order-relay serve")]
    Serve(Serve),
    /// Publish orders from files (JSON or NDJSON), with confirms and a progress bar
    #[command(after_help = "Examples:
  order-relay publish order.json
  order-relay publish orders.ndjson more.ndjson
  generate-orders | order-relay publish -")]
    Publish(Publish),
    /// All orders
    #[command(subcommand)]
    Orders(Orders),
    /// Lost orders: those that failed and are not in the ERP
    #[command(subcommand)]
    LostOrders(LostOrders),
    /// Transfer lost orders to the ERP, one after the other; short for lost-orders process
    #[command(after_help = "Examples:
  order-relay process-lost-orders 100042
  order-relay process-lost-orders        all of them")]
    ProcessLostOrders(ProcessLostOrders),
    /// Many lost orders at once: a plan, then growing steps with automatic stops
    #[command(subcommand)]
    Redrive(Redrive),
    /// Ask the ERP about orders with an unknown outcome, now
    #[command(after_help = "Examples:
  order-relay reconcile 100042
  order-relay reconcile --all --dry-run       only ask, change nothing
  order-relay reconcile 100042 --absent --reason \"looked in the ERP: not there\"

Found: the order is confirmed with the ERP's number. Not there for longer than the settle time: it is
sent as its next attempt, or parked if none is left. No clear answer: nothing is sent, and the ERP is
asked again.")]
    Reconcile(Reconcile),
    /// Messages that could not be accepted
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Mails: waiting, sent, kept, failed
    #[command(subcommand)]
    Mails(Mails),
    /// Verify that nothing is lost
    #[command(subcommand)]
    Ledger(Ledger),
    /// The audit: who did what, when, from where, why, before and after; newest first
    #[command(after_help = "Examples:
  order-relay audit --since 24h
  order-relay audit --target de/100042
  order-relay audit --actor user:erika --action order. --output csv > audit.csv")]
    Audit(Audit),
    /// Check settings, database, migrations, broker, mail server and ERP: one line each
    Check(Output),
    /// The broker's exchanges, queues and bindings
    #[command(subcommand)]
    Topology(Topology),
    /// Migrate the database's tables to this release
    Migrate(Migrate),
    /// Users with a local password, and their roles
    #[command(subcommand)]
    Users(Users),
    /// Fill an empty ledger with test orders, to measure how it behaves with many
    #[command(after_help = "Examples:
  ORDER_RELAY__DATABASE__URL=sqlite://many.db order-relay fill
  order-relay fill --orders 1000000 --lost 50000

The orders are spread over the last 30 days, six shops and four currencies. Lost ones failed in about
40 ways. No mails are sent. Do not run a service with a real ERP on such a ledger.")]
    Fill(Fill),
    /// Measure how long statistics, groups and lists take on this ledger; changes nothing
    Measure(Output),
    /// API tokens
    #[command(subcommand)]
    Tokens(Tokens),
    /// The settings in use
    #[command(subcommand)]
    Config(ConfigCommand),
    /// JSON Schema of messages
    #[command(subcommand)]
    Schema(Schema),
    /// ERPs: the state of the transfer, hold and release, recipes, a stub for tests
    #[command(subcommand)]
    Erp(Erp),
    /// Completions for a shell, on standard output
    #[command(after_help = "Example:
  order-relay completions bash > /etc/bash_completion.d/order-relay")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// The manual page, on standard output
    #[command(after_help = "Example:
  order-relay man | man -l -")]
    Man,
}

/// `demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Number of orders; then only wait
    #[arg(long, default_value_t = 40)]
    pub orders: u32,
    /// Orders per second
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    pub rate: f64,
    /// Where to listen; another port is used if this one is in use
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// End when every order is settled, not only with Ctrl-C
    #[arg(long)]
    pub exit: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.01..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.01 to 10000".to_owned()),
    }
}

/// Parts of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WorkerKind {
    /// Sends orders to the ERP
    Submitter,
    /// Counts failures and decides what follows
    ErrorHandler,
    /// Sends mails
    Notifier,
    /// Publishes the messages of overdue orders again, runs redrives
    Sweeper,
    /// API, back office, health and metrics
    Web,
}

impl WorkerKind {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Submitter => "submitter",
            Self::ErrorHandler => "error-handler",
            Self::Notifier => "notifier",
            Self::Sweeper => "sweeper",
            Self::Web => "web",
        }
    }
}

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Roles of this process, with commas between them
    #[arg(long, value_enum, value_delimiter = ',', default_values_t =
        [WorkerKind::Submitter, WorkerKind::ErrorHandler, WorkerKind::Notifier, WorkerKind::Sweeper, WorkerKind::Web])]
    pub roles: Vec<WorkerKind>,
}

/// `publish`
#[derive(Debug, Args)]
pub struct Publish {
    /// Files with one order, a list of orders, or one order per line; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only check the orders
    #[arg(long)]
    pub dry_run: bool,
}

/// How a listing is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
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

/// Which orders.
#[derive(Debug, Clone, Args)]
pub struct Filter {
    /// payed, ordered_failed or confirmed
    #[arg(long, value_parser = state)]
    pub state: Option<OrderState>,
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
    #[arg(long, value_parser = moment)]
    pub since: Option<Moment>,
    /// Received before: a time, or how long ago ("2h")
    #[arg(long, value_parser = moment)]
    pub until: Option<Moment>,
    /// Part of the order number, the customer's name or address, or the error; or the whole of the
    /// ERP's number or the customer's
    #[arg(long)]
    pub search: Option<String>,
}

fn state(text: &str) -> Result<OrderState, String> {
    OrderState::from_name(text)
        .ok_or_else(|| "expected payed, ordered_failed or confirmed".to_owned())
}

fn moment(text: &str) -> Result<Moment, String> {
    text.parse().map_err(|expected| format!("expected {expected}"))
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

fn sort(text: &str) -> Result<SortBy, String> {
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

/// `orders export`
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    /// Which
    pub filter: Filter,
    #[command(flatten)]
    /// In which order
    pub sorted: Sorted,
    /// Format
    #[arg(long, value_enum, default_value_t = ExportFormat::Csv, conflicts_with = "documents")]
    pub output: ExportFormat,
    /// The original documents, one per line, as `publish` accepts them
    #[arg(long)]
    pub documents: bool,
    /// For an edited order its newest revision, which is what is sent
    #[arg(long, requires = "documents")]
    pub current: bool,
    /// Where to write [default: standard output]; an existing file is replaced at the end
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `orders`
#[derive(Debug, Subcommand)]
pub enum Orders {
    /// List orders, newest first
    #[command(after_help = "Examples:
  order-relay orders list --state payed --since 1h
  order-relay orders list --search erika --output json
  order-relay orders list --sku 4711 --sort changed --watch")]
    List {
        #[command(flatten)]
        /// Which
        filter: Filter,
        #[command(flatten)]
        /// In which order
        sorted: Sorted,
        /// Most orders to show
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        /// How
        output: Output,
        #[command(flatten)]
        /// How long
        watch: Watch,
    },
    /// Every order that matches, in a file
    #[command(after_help = "Examples:
  order-relay orders export --state ordered_failed --file lost.csv
  order-relay orders export --since 30d --output ndjson > orders.ndjson
  order-relay orders export --shop de --documents --file documents.ndjson")]
    Export(Export),
    /// Everything about one order: state, attempts, mails, changes by people, the document
    #[command(after_help = "Examples:
  order-relay orders show 100042
  order-relay orders show de/100042 --output json")]
    Show {
        /// ORDER_ID or SHOP/ORDER_ID
        id: String,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `lost-orders`
#[derive(Debug, Subcommand)]
pub enum LostOrders {
    /// List lost orders, newest first
    #[command(after_help = "Examples:
  order-relay lost-orders list
  order-relay lost-orders list --phase parked --class rejected --output csv > lost.csv
  order-relay lost-orders list --sort due --watch 5")]
    List {
        #[command(flatten)]
        /// Which
        filter: Filter,
        #[command(flatten)]
        /// In which order
        sorted: Sorted,
        /// Most orders to show
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        /// How
        output: Output,
        #[command(flatten)]
        /// How long
        watch: Watch,
    },
    /// Lost orders by failure group, largest first
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  order-relay lost-orders groups
  order-relay lost-orders groups --watch
  order-relay lost-orders list --fingerprint 9f86d081884c7d65
  order-relay lost-orders groups note 9f86d081884c7d65 --note \"Kim adds the articles\""
    )]
    Groups(Groups),
    /// Everything about one order
    Show {
        /// ORDER_ID or SHOP/ORDER_ID
        id: String,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Transfer to the ERP now, one after the other, whatever the count of failures is
    #[command(after_help = "Examples:
  order-relay lost-orders process 100042
  order-relay lost-orders process --all --yes")]
    Process {
        /// ORDER_ID or SHOP/ORDER_ID
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// All lost orders
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Edit what is sent; the original stays. In $EDITOR, or many at once with a JSON Patch
    #[command(after_help = "Examples:
  order-relay lost-orders edit 100042 --reason \"wrong article\"
  order-relay lost-orders edit 100042 --process --patch \\
    '[{\"op\":\"replace\",\"path\":\"/lines/0/sku\",\"value\":\"4712\"}]'
  order-relay lost-orders edit --fingerprint 5d41402abc4b2a76 --patch change.json --dry-run

The number and the shop of an order never change. Currency and total need a separate permission.
Editing does not send an order: use --process, or transfer it afterwards.")]
    Edit(Box<Edit>),
    /// Remove orders from the list, with a reason; nothing is deleted
    #[command(after_help = "Example:
  order-relay lost-orders remove 100042 --reason \"entered by hand, ERP number 4711\"")]
    Remove {
        /// ORDER_ID or SHOP/ORDER_ID
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Restore removed orders
    #[command(after_help = "Example:
  order-relay lost-orders restore 100042 --reason \"was not entered after all\"")]
    Restore {
        /// ORDER_ID or SHOP/ORDER_ID
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `lost-orders groups`
#[derive(Debug, Args)]
pub struct Groups {
    #[command(flatten)]
    /// How
    pub output: Output,
    #[command(flatten)]
    /// How long
    pub watch: Watch,
    /// What else
    #[command(subcommand)]
    pub command: Option<GroupsCommand>,
}

/// `lost-orders groups …`
#[derive(Debug, Subcommand)]
pub enum GroupsCommand {
    /// Write a note about a group; it stays when its orders are settled
    #[command(after_help = "Examples:
  order-relay lost-orders groups note 9f86d081884c7d65 --note \"Kim adds the articles\"
  order-relay lost-orders groups note 9f86d081884c7d65 --runbook https://wiki.example/articles
  order-relay lost-orders groups note 9f86d081884c7d65 --note \"\"     deletes the note")]
    Note {
        /// The group, as `lost-orders groups` shows it
        fingerprint: String,
        /// The note; empty deletes it
        #[arg(long, required_unless_present = "runbook")]
        note: Option<String>,
        /// Address of a runbook; empty deletes it
        #[arg(long, value_name = "URL")]
        runbook: Option<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
}

/// `process-lost-orders`
#[derive(Debug, Args)]
pub struct ProcessLostOrders {
    /// ORDER_ID or SHOP/ORDER_ID; none: all lost orders
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    #[command(flatten)]
    /// Usual
    pub change: Change,
    #[command(flatten)]
    /// How
    pub output: Output,
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

/// `dead-letters`
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List them, newest first
    List {
        /// Include settled ones
        #[arg(long)]
        all: bool,
        /// Most to show
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// One of them: the reason, the place, the headers, the bytes
    Show {
        /// Its id, or a unique end of it
        id: String,
        /// Only the original bytes
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Replay them, after the cause is fixed
    #[command(after_help = "Examples:
  order-relay dead-letters replay 9c41f2
  order-relay dead-letters show 9c41f2 --raw > order.json   (fix it)
  order-relay dead-letters replay 9c41f2 --file order.json --reason \"total was missing\"")]
    Replay {
        /// Their ids, or ends of ids
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,
        /// All open ones
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// The fixed message, instead of the original bytes
        #[arg(long, value_name = "FILE", conflicts_with = "all")]
        file: Option<PathBuf>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Discard them, because they are not needed; they stay readable
    Discard {
        /// Their ids, or ends of ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `mails`
#[derive(Debug, Subcommand)]
pub enum Mails {
    /// List mails, newest first
    List {
        /// waiting, sent, kept or failed
        #[arg(long, value_parser = PossibleValuesParser::new(MailStatus::ALL.map(MailStatus::as_str)))]
        status: Option<String>,
        /// Most to show
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// One mail as it is sent
    Show {
        /// Its id
        id: String,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `ledger`
#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Verify that received = confirmed + lost + queued + held, and that no row breaks a rule
    #[command(after_help = "Examples:
  order-relay ledger check
  order-relay ledger check --since 24h --output json

Exit code 0: the ledger is sound; 1: it is not, and the problems are listed.")]
    Check {
        /// Only orders received since: a time, or how long ago ("24h")
        #[arg(long, value_parser = moment)]
        since: Option<Moment>,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Who: user:NAME, token:NAME or cli:NAME
    #[arg(long)]
    pub actor: Option<String>,
    /// The action; one that ends with a dot is a prefix, e.g. order.
    #[arg(long)]
    pub action: Option<String>,
    /// To what, e.g. an order as SHOP/ORDER_ID
    #[arg(long)]
    pub target: Option<String>,
    /// At or after: a time, or how long ago ("24h")
    #[arg(long, value_parser = moment)]
    pub since: Option<Moment>,
    /// Before: a time, or how long ago ("24h")
    #[arg(long, value_parser = moment)]
    pub until: Option<Moment>,
    /// Most to show
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    #[command(flatten)]
    /// How
    pub output: Output,
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

/// `users`
#[derive(Debug, Subcommand)]
pub enum Users {
    /// Add a user; asks for the password, or generates one and shows it once
    #[command(after_help = "Examples:
  order-relay users add erika --role admin
  order-relay users add kim --role viewer --role operator:de
  order-relay users add kim --role operator --shop de --shop at")]
    Add {
        /// The login name
        name: String,
        #[command(flatten)]
        /// What they may do
        roles: Roles,
        /// The language of their pages: en or de [default: the browser's]
        #[arg(long, value_parser = LANGUAGES)]
        language: Option<String>,
        #[command(flatten)]
        /// Where the password comes from
        password: PasswordFrom,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// List users
    List(Output),
    /// Set a user's password and end their sessions
    SetPassword {
        /// Who
        name: String,
        #[command(flatten)]
        /// Where the password comes from
        password: PasswordFrom,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Give a user other roles, effective at once
    SetRoles {
        /// Who
        name: String,
        #[command(flatten)]
        /// What they may do from now on
        roles: Roles,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Disable a user and end their sessions
    Disable {
        /// Who
        name: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Enable a user
    Enable {
        /// Who
        name: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Remove a user and end their sessions; their actions stay in the audit
    Remove {
        /// Who
        name: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
}

/// Roles, for all shops or single ones.
#[derive(Debug, Clone, Args)]
pub struct Roles {
    /// viewer, operator, editor or admin; ROLE:SHOP for one shop only
    #[arg(long = "role", required = true, value_name = "ROLE", value_parser = role_grant)]
    pub roles: Vec<RoleGrant>,
    /// Shops that the roles are for [default: all]
    #[arg(long = "shop", value_name = "SHOP")]
    pub shops: Vec<String>,
}

/// Where a password comes from.
#[derive(Debug, Clone, Args)]
pub struct PasswordFrom {
    /// Read the password from standard input, up to the end of the line
    #[arg(long)]
    pub password_stdin: bool,
    /// Generate a password and show it once
    #[arg(long, conflicts_with = "password_stdin")]
    pub generate: bool,
}

fn role_grant(text: &str) -> Result<RoleGrant, String> {
    let (role, shop) = match text.split_once(':') {
        Some((role, shop)) => (role, Some(shop.to_owned())),
        None => (text, None),
    };
    let role = Role::from_name(role)
        .ok_or_else(|| format!("`{role}` is none of {}", Role::ALL.map(Role::as_str).join(", ")))?;
    Ok(RoleGrant { role, shop })
}

/// `fill`
#[derive(Debug, Args)]
pub struct Fill {
    /// Number of orders
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    pub orders: u64,
    /// How many of them are lost
    #[arg(long, default_value_t = 5_000)]
    pub lost: u64,
    /// Also in a ledger that already contains orders
    #[arg(long)]
    pub yes: bool,
}

/// `tokens`
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Create a token; it is shown once
    #[command(after_help = "Examples:
  order-relay tokens create checkout --scope orders:publish
  order-relay tokens create desk-de --scope orders:read --scope lostorder_process --shop de")]
    Create {
        /// What it is for
        name: String,
        /// What it may do
        #[arg(long = "scope", required = true, value_parser = SCOPES)]
        scopes: Vec<String>,
        /// Shops that it is limited to [default: to none]
        #[arg(long = "shop", value_name = "SHOP")]
        shops: Vec<String>,
        /// When it expires, e.g. 90d
        #[arg(long, value_parser = lifetime)]
        expires_in: Option<SignedDuration>,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// List tokens
    List(Output),
    /// Revoke a token
    Revoke {
        /// Its name
        name: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
}

fn lifetime(text: &str) -> Result<SignedDuration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    let parsed = match days {
        Some(days) => days.checked_mul(24).map(SignedDuration::from_hours),
        None => text.parse::<SignedDuration>().ok(),
    };
    parsed
        .filter(|time| time.is_positive())
        .ok_or_else(|| "expected a time such as 90d or 12h".to_owned())
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

/// `erp stub`
#[derive(Debug, Clone, Args)]
pub struct Stub {
    /// Where to listen; orders go to /orders
    #[arg(long, default_value = "127.0.0.1:9090")]
    pub listen: SocketAddr,
    /// How long each answer takes
    #[arg(long, default_value = "0ms", value_parser = latency)]
    pub latency: std::time::Duration,
    /// Share of orders that fail with 503, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub fail_rate: f64,
    /// What it does with orders
    #[arg(long, value_enum, default_value_t = StubMode::Ok)]
    pub mode: StubMode,
}

fn latency(text: &str) -> Result<std::time::Duration, String> {
    let time =
        text.parse::<SignedDuration>().ok().and_then(|t| std::time::Duration::try_from(t).ok());
    time.ok_or_else(|| "expected a time such as 20ms or 2s".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// What the stub ERP does with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum StubMode {
    /// Accepts it
    Ok,
    /// 503, to questions as well
    Down,
    /// 503 to orders, answers questions
    Busy,
    /// 422
    Reject,
    /// 401
    Unauthorized,
    /// Accepts it and cuts the connection instead of answering
    AcceptThenCut,
    /// Cuts the connection without accepting it
    Cut,
    /// Accepts it and answers 504, like a gateway that timed out
    GatewayTimeout,
    /// Accepts it and answers after 3 seconds
    Slow,
    /// Accepts nothing and does not answer
    Silent,
}
