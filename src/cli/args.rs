//! The command line for clap: group, then verb.

use crate::cli::channels::Channels;
use crate::cli::dead_letters::DeadLetters;
use crate::cli::devtools::{Demo, Fill, Simulate};
use crate::cli::erp::Erp;
use crate::cli::flags::Output;
use crate::cli::orders::{LostOrders, Orders, ProcessLostOrders};
use crate::cli::people::{Tokens, Users};
use crate::cli::publish::Publish;
use crate::cli::reconcile::Reconcile;
use crate::cli::records::{Audit, Ledger, Mails};
use crate::cli::retention::RetentionCommand;
use crate::cli::service::{ConfigCommand, Migrate, Schema, Serve, Topology};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::cli::redrives::RedriveCommand;

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
    Redrive(RedriveCommand),
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
    /// Channels beside mail: webhooks, Slack, Teams, PagerDuty
    #[command(subcommand)]
    Channels(Channels),
    /// Verify that nothing is lost
    #[command(subcommand)]
    Ledger(Ledger),
    /// What is old: how much, and taking it out now
    #[command(subcommand)]
    Retention(RetentionCommand),
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
    /// Try the promises: the real workers of several processes on virtual time, with faults from a seed
    #[command(after_help = "Examples:
  order-relay simulate --seeds 1000
  order-relay simulate --seed 42 --story

Needs no service and changes nothing. The same seed is the same run. When a promise is broken, the seed, the
shortest schedule that still breaks it, and its story are printed, and the exit code is 1.")]
    Simulate(Simulate),
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
