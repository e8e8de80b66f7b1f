//! From a parsed command line to an exit code.

use std::io::{self, Write};
use std::sync::Arc;

use clap::CommandFactory;

use crate::adapters::channels::payload::WebhookPayload;
use crate::app::check::check;
use crate::app::config::{config, tell_faults};
use crate::app::desk::{Desk, Helpers};
use crate::app::environment::environment;
use crate::app::migrate::migrate;
use crate::app::topology::topology;
use crate::app::{demo, erp_commands, service, wiring};
use crate::cli::args::{Cli, Command};
use crate::cli::erp::Erp;
use crate::cli::exit::Exit;
use crate::cli::orders::LostOrders;
use crate::cli::output::pretty;
use crate::cli::records::Mails;
use crate::cli::service::Schema;
use crate::cli::{
    channels, dead_letters, erp, mail_previews, orders, people, publish, reconcile, records,
    redrives, retention,
};
use crate::config::settings::Settings;
use crate::config::sources::SettingsFile;
use crate::devtools::fill::Filler;
use crate::devtools::{fill_command, simulate_command};
use crate::domain::message::OrderFailed;
use crate::domain::order::document::OrderDocument;
use crate::ops::verbs::Ops;
use crate::ports::clock::SystemClock;
use crate::telemetry::start_logging;
use crate::views::asyncapi::asyncapi;

/// One TLS provider for everything (deny.toml holds that there is no other). To be called before
/// the first connection; a second call changes nothing.
pub fn install_tls() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Runs one command. The caller reports an error.
pub async fn run(cli: Cli) -> anyhow::Result<Exit> {
    install_tls();
    let out = &mut io::stdout();
    match &cli.command {
        Command::Completions { shell } => {
            // Into memory first: the generator panics if the output is closed.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "order-relay", &mut script);
            out.write_all(&script)?;
            return Ok(Exit::Done);
        }
        Command::Man => return man(out),
        Command::Schema(kind) => {
            if let Some(schema) = fixed_schema(*kind) {
                pretty(&schema, out)?;
                return Ok(Exit::Done);
            }
        }
        Command::Erp(Erp::Stub(stub)) => return erp_commands::stub(stub).await,
        Command::Erp(Erp::Check { recipe: Some(recipe), print, .. }) => {
            return erp_commands::check(None, Some(recipe), *print, out);
        }
        Command::Demo(demo) => return demo::run(demo).await,
        Command::Simulate(command) => return simulate_command::simulate(command, out),
        _ => {}
    }
    let file = cli.config.as_deref().map_or(SettingsFile::IfThere, SettingsFile::Named);
    let settings = match Settings::load(file, environment(), &[]) {
        Ok(settings) => settings,
        Err(faults) => return Ok(tell_faults(&faults)),
    };
    let is_service = matches!(cli.command, Command::Serve(_));
    // lapin logs returned messages with their content, and logs an error when a channel closes with
    // its connection; what matters is returned as values.
    let filter = if is_service { "info,lapin=off,sqlx=warn" } else { "error,lapin=off" };
    start_logging(settings.log_format, filter);
    with_settings(cli.command, &settings, out).await
}

async fn with_settings(
    command: Command,
    settings: &Settings,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    match command {
        Command::Serve(serve) => service::run(settings, &serve.roles).await,
        Command::Config(command) => config(settings, &command, out),
        Command::Check(output) => check(settings, output.output, out).await,
        Command::Mails(Mails::Preview(command)) => {
            mail_previews::preview(&*wiring::post(settings)?.templates, &command, out)
        }
        Command::Migrate(command) => migrate(settings, command.dry_run, out).await,
        Command::Topology(command) => topology(settings, command, out).await,
        Command::Schema(_) => {
            pretty(&asyncapi(&wiring::topology(settings)), out)?;
            Ok(Exit::Done)
        }
        Command::Erp(Erp::Check { print, offline, .. }) => {
            match erp_commands::check(Some(settings), None, print, out)? {
                Exit::Done if !print && !offline => erp_commands::check_in_erp(settings, out).await,
                exit => Ok(exit),
            }
        }
        Command::Fill(command) => {
            let store = wiring::open_ready_store(settings).await?;
            fill_command::fill(&Filler::new(store, Arc::new(SystemClock)), &command, out).await
        }
        command => at_desk(command, settings, out).await,
    }
}

async fn at_desk(
    command: Command,
    settings: &Settings,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let desk = match &command {
        Command::Publish(publish) => Desk::open_for_publishing(settings, publish.dry_run).await?,
        Command::Tokens(_) | Command::Users(_) => Desk::open_or_make(settings).await?,
        other => Desk::open(settings, helpers(other)).await?,
    };
    let exit = with_ops(command, &desk.ops, out).await;
    desk.close().await;
    exit
}

/// Who has to work beside a command, so that what it starts comes to its end.
fn helpers(command: &Command) -> Helpers {
    let change = match command {
        Command::DeadLetters(_) => return Helpers::ErrorHandler,
        Command::LostOrders(LostOrders::Process { change, .. }) => change,
        Command::LostOrders(LostOrders::Edit(edit)) if edit.process => &edit.change,
        Command::ProcessLostOrders(command) => &command.change,
        Command::Reconcile(command) => &command.change,
        _ => return Helpers::None,
    };
    if change.dry_run { Helpers::None } else { Helpers::Workers }
}

async fn with_ops(command: Command, ops: &Ops, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Command::Publish(command) => publish::publish(ops, &command, out).await,
        Command::Orders(command) => orders::orders(ops, command, out).await,
        Command::LostOrders(command) => orders::lost_orders(ops, command, out).await,
        Command::ProcessLostOrders(command) => {
            let (ids, change, format) = (&command.ids, &command.change, command.output.output);
            orders::process(ops, ids, change, format, out).await
        }
        Command::Redrive(command) => redrives::redrives(ops, command, out).await,
        Command::Reconcile(command) => reconcile::reconcile(ops, &command, out).await,
        Command::DeadLetters(command) => dead_letters::dead_letters(ops, command, out).await,
        Command::Mails(command) => records::mails(ops, command, out).await,
        Command::Channels(command) => channels::channels(ops, command, out).await,
        Command::Erp(command) => erp::erp(ops, command, out).await,
        Command::Audit(command) => records::audit(ops, command, out).await,
        Command::Ledger(command) => records::ledger(ops, command, out).await,
        Command::Retention(command) => retention::retention(ops, command, out).await,
        Command::Measure(output) => fill_command::measure(ops, output.output, out).await,
        Command::Tokens(command) => people::tokens(ops, command, out).await,
        Command::Users(command) => people::users(ops, command, out).await,
        // The others need no ledger: they were run before.
        _ => Ok(Exit::Usage),
    }
}

/// The schemas that no setting changes.
fn fixed_schema(kind: Schema) -> Option<schemars::Schema> {
    Some(match kind {
        Schema::Order => schemars::schema_for!(OrderDocument),
        Schema::OrderFailed => schemars::schema_for!(OrderFailed),
        Schema::Webhook => schemars::schema_for!(WebhookPayload<'_>),
        Schema::Asyncapi => return None,
    })
}

fn man(out: &mut dyn Write) -> anyhow::Result<Exit> {
    let root = Cli::command();
    clap_mangen::Man::new(root).render(out)?;
    Ok(Exit::Done)
}
