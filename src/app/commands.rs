//! From a parsed command line to an exit code: the only place that knows every part.

use crate::app::environment::environment;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::CommandFactory;
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::adapters::amqp;
use crate::app::open_erps::OpenErps;
use crate::app::store::Store;
use crate::cli::args::{Cli, Command};
use crate::cli::devtools::Stub;
use crate::cli::erp::Erp;
use crate::cli::exit::Exit;
use crate::cli::flags::Format;
use crate::cli::orders::LostOrders;
use crate::cli::output::print;
use crate::cli::service::{ConfigCommand, Schema, Topology as TopologyCommand};
use crate::cli::{dead_letters, erp, orders, people, publish, reconcile, records, redrives};
use crate::config::reader::Fault;
use crate::config::settings::Settings;
use crate::config::sources::SettingsFile;
use crate::devtools::erp_stub::{ErpStub, StubSettings};
use crate::devtools::fill::Filler;
use crate::devtools::fill_command;
use crate::domain::message::OrderFailed;
use crate::domain::order::document::OrderDocument;
use crate::domain::topology::{Target, Topology};
use crate::ops::verbs::Ops;
use crate::ports::clock::SystemClock;
use crate::ports::workers::WorkerKind;
use crate::telemetry::{LogFormat, start_logging};
use crate::views::csv::Column;

use super::check::check;
use super::inline::Inline;
use super::service::Service;
use super::{demo, erp_commands};
use crate::app::wiring::{self, Sending};

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
        Command::Schema(schema) => return print_schema(*schema, out),
        Command::Erp(Erp::Stub(stub)) => return run_stub(stub).await,
        Command::Erp(Erp::Check { recipe: Some(recipe), print }) => {
            return erp_commands::check(None, Some(recipe), *print, out);
        }
        Command::Demo(demo) => return demo::run(demo).await,
        _ => {}
    }
    let file = cli.config.as_deref().map_or(SettingsFile::IfThere, SettingsFile::Named);
    let settings = match Settings::load(file, environment(), &[]) {
        Ok(settings) => settings,
        Err(faults) => return tell_faults(&faults),
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
        Command::Serve(serve) => run_service(settings, &serve.roles).await,
        Command::Config(ConfigCommand::Show(output)) => show_config(settings, output.output, out),
        Command::Config(ConfigCommand::Schema) => pretty(&settings.schema(), out),
        Command::Check(output) => check(settings, output.output, out).await,
        Command::Migrate(migrate) => run_migrate(settings, migrate.dry_run, out).await,
        Command::Topology(command) => run_topology(settings, command, out).await,
        Command::Publish(command) => {
            let desk = Desk::open_for_publishing(settings, command.dry_run).await?;
            publish::publish(&desk.ops, &command, out).await
        }
        Command::Orders(command) => {
            orders::orders(&Desk::open(settings, Helpers::None).await?.ops, command, out).await
        }
        Command::LostOrders(command) => {
            let helpers = match &command {
                LostOrders::Process { change, .. } if !change.dry_run => Helpers::Workers,
                LostOrders::Edit(edit) if edit.process && !edit.change.dry_run => Helpers::Workers,
                _ => Helpers::None,
            };
            let desk = Desk::open(settings, helpers).await?;
            let exit = orders::lost_orders(&desk.ops, command, out).await;
            desk.close().await;
            exit
        }
        Command::ProcessLostOrders(command) => {
            let helpers = if command.change.dry_run { Helpers::None } else { Helpers::Workers };
            let desk = Desk::open(settings, helpers).await?;
            let (ids, change, format) = (&command.ids, &command.change, command.output.output);
            let exit = orders::process(&desk.ops, ids, change, format, out).await;
            desk.close().await;
            exit
        }
        Command::Redrive(command) => {
            redrives::redrives(&Desk::open(settings, Helpers::None).await?.ops, command, out).await
        }
        Command::Reconcile(command) => {
            let helpers = if command.change.dry_run { Helpers::None } else { Helpers::Workers };
            let desk = Desk::open(settings, helpers).await?;
            let exit = reconcile::reconcile(&desk.ops, &command, out).await;
            desk.close().await;
            exit
        }
        Command::Erp(Erp::Check { print, .. }) => {
            erp_commands::check(Some(settings), None, print, out)
        }
        Command::DeadLetters(command) => {
            let desk = Desk::open(settings, Helpers::ErrorHandler).await?;
            let exit = dead_letters::dead_letters(&desk.ops, command, out).await;
            desk.close().await;
            exit
        }
        Command::Mails(command) => {
            records::mails(&Desk::open(settings, Helpers::None).await?.ops, command, out).await
        }
        Command::Erp(command) => {
            erp::erp(&Desk::open(settings, Helpers::None).await?.ops, command, out).await
        }
        Command::Audit(command) => {
            records::audit(&Desk::open(settings, Helpers::None).await?.ops, command, out).await
        }
        Command::Ledger(command) => {
            records::ledger(&Desk::open(settings, Helpers::None).await?.ops, command, out).await
        }
        Command::Fill(command) => {
            let store = wiring::open_ready_store(settings, "fill").await?;
            fill_command::fill(&Filler::new(store, Arc::new(SystemClock)), &command, out).await
        }
        Command::Measure(output) => {
            let desk = Desk::open(settings, Helpers::None).await?;
            fill_command::measure(&desk.ops, output.output, out).await
        }
        Command::Tokens(command) => {
            people::tokens(&Desk::open_or_make(settings).await?.ops, command, out).await
        }
        Command::Users(command) => {
            people::users(&Desk::open_or_make(settings).await?.ops, command, out).await
        }
        Command::Demo(_) | Command::Schema(_) | Command::Completions { .. } | Command::Man => {
            Ok(Exit::Usage)
        }
    }
}

fn require_ledger(settings: &Settings) -> anyhow::Result<()> {
    let url = settings.database.url.expose_secret();
    let Some(rest) = url.strip_prefix("sqlite://") else { return Ok(()) };
    let path = rest.split('?').next().unwrap_or(rest);
    if std::path::Path::new(path).exists() {
        return Ok(());
    }
    bail!(
        "there is no ledger at {path}: change to the folder of the service, set database.url, or create a new one with `order-relay migrate`"
    )
}

/// Which workers a command needs in its own process with the in-process transport.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Helpers {
    None,
    ErrorHandler,
    Workers,
}

/// The operations for a command.
struct Desk {
    ops: Arc<Ops>,
    inline: Option<Inline>,
    _tasks: super::supervisor::Supervisor,
}

impl Desk {
    /// With an existing ledger: a command that reads one must not create an empty one.
    async fn open(settings: &Settings, helpers: Helpers) -> anyhow::Result<Self> {
        require_ledger(settings)?;
        let worker = wiring::worker_name(&SystemClock);
        Self::over(settings, helpers, wiring::open_ready_store(settings, &worker).await?, worker)
            .await
    }

    /// For commands that may be the first one: the ledger is created if it is missing.
    async fn open_or_make(settings: &Settings) -> anyhow::Result<Self> {
        let worker = wiring::worker_name(&SystemClock);
        let store = wiring::open_ready_store(settings, &worker).await?;
        Self::over(settings, Helpers::None, store, worker).await
    }

    /// For `publish`: publishing to RabbitMQ, or a dry run, needs no ledger.
    async fn open_for_publishing(settings: &Settings, dry_run: bool) -> anyhow::Result<Self> {
        if settings.amqp.url.is_none() && !dry_run {
            return Self::open_or_make(settings).await;
        }
        let worker = wiring::worker_name(&SystemClock);
        Self::over(settings, Helpers::None, wiring::open_store(settings, &worker)?, worker).await
    }

    async fn over(
        settings: &Settings,
        helpers: Helpers,
        store: Arc<dyn Store>,
        worker: String,
    ) -> anyhow::Result<Self> {
        let transport = wiring::open_transport(settings, &worker)?;
        let mut tasks = super::supervisor::Supervisor::default();
        for (name, task) in transport.tasks {
            tasks.start(name, task);
        }
        let erps = OpenErps::new(settings);
        let ops = wiring::ops(settings, erps.clone(), store.clone(), transport.broker.clone());
        // With RabbitMQ the running service does the work; the in-process transport has only this
        // process.
        let inline = match helpers {
            Helpers::None => None,
            _ if transport.broker.is_durable() => None,
            helpers => {
                let sending = match helpers {
                    Helpers::Workers => Sending::Yes,
                    _ => Sending::No,
                };
                Some(
                    Inline::start(settings, &erps, store, transport.broker, &worker, sending)
                        .await?,
                )
            }
        };
        Ok(Self { ops, inline, _tasks: tasks })
    }

    async fn close(self) {
        if let Some(inline) = self.inline {
            inline.finish().await;
        }
    }
}

async fn run_service(settings: &Settings, roles: &[WorkerKind]) -> anyhow::Result<Exit> {
    let listener = match roles.contains(&WorkerKind::Web) {
        true => {
            let listen = settings.web.listen;
            let bound = TcpListener::bind(listen).await;
            Some(bound.with_context(|| {
                format!("cannot listen on {listen}: is the port in use? (web.listen)")
            })?)
        }
        false => None,
    };
    let service = Service::start(settings, roles, listener).await?;
    service.run(settings).await
}

async fn run_migrate(
    settings: &Settings,
    dry_run: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let store = wiring::open_store(settings, "migrate")?;
    let unreachable = "the database cannot be used: is it running, is database.url right?";
    let status = store.schema_status().await.context(unreachable)?;
    if status.pending.is_empty() {
        writeln!(out, "nothing to do")?;
        return Ok(Exit::Done);
    }
    if dry_run {
        writeln!(out, "would apply {}", status.pending.join(", "))?;
        return Ok(Exit::Done);
    }
    let applied = store.migrate().await.context("the migration failed and was rolled back")?;
    writeln!(out, "applied {}", applied.join(", "))?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct TopologyLine {
    kind: &'static str,
    name: String,
    detail: String,
}

async fn run_topology(
    settings: &Settings,
    command: TopologyCommand,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let topology = wiring::topology(settings);
    let dry = matches!(command, TopologyCommand::Declare { dry_run: true });
    if let TopologyCommand::Show(output) = command {
        return show_topology(&topology, output.output, out);
    }
    if dry {
        return show_topology(&topology, Format::Table, out);
    }
    let worker = wiring::worker_name(&SystemClock);
    let Some(address) = wiring::amqp_address(settings, &worker)? else {
        writeln!(out, "amqp.url is not set: the in-process broker declares its own")?;
        return Ok(Exit::Done);
    };
    match command {
        TopologyCommand::Check(output) => {
            let findings = amqp::topology::check(&address, &topology).await?;
            let bad = findings.iter().any(|finding| finding.fault.is_some());
            let lines: Vec<TopologyLine> = findings
                .into_iter()
                .map(|finding| TopologyLine {
                    kind: if finding.fault.is_some() { "FAULT" } else { "ok" },
                    name: finding.what,
                    detail: finding.fault.unwrap_or_default(),
                })
                .collect();
            print_topology(&lines, output.output, out)?;
            Ok(if bad { Exit::Failed } else { Exit::Done })
        }
        _ => {
            amqp::topology::declare(&address, &topology).await?;
            writeln!(
                out,
                "{} exchanges, {} queues and {} bindings exist",
                topology.exchanges.len(),
                topology.queues.len(),
                topology.bindings.len()
            )?;
            Ok(Exit::Done)
        }
    }
}

fn show_topology(topology: &Topology, format: Format, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let mut lines = Vec::new();
    for exchange in &topology.exchanges {
        let alternate = exchange.alternate.as_ref().map(|to| format!(", else to {to}"));
        let detail = format!("{}{}", exchange.kind.as_str(), alternate.unwrap_or_default());
        lines.push(TopologyLine { kind: "exchange", name: exchange.name.clone(), detail });
    }
    for queue in &topology.queues {
        let ttl = queue.ttl.map(|ttl| format!("waits {} ms", ttl.as_millis()));
        let dead = queue.dead_letter.as_ref().map(|route| {
            let key = route.routing_key.as_deref().map(|key| format!(" / {key}"));
            format!("dead letters to {}{}", route.exchange, key.unwrap_or_default())
        });
        let detail: Vec<String> =
            [Some("quorum".to_owned()), ttl, dead].into_iter().flatten().collect();
        lines.push(TopologyLine {
            kind: "queue",
            name: queue.name.clone(),
            detail: detail.join(", "),
        });
    }
    for binding in &topology.bindings {
        let target = match &binding.target {
            Target::Queue(queue) => format!("to queue {queue}"),
            Target::Exchange(exchange) => format!("to exchange {exchange}"),
        };
        let name = format!("{} / {}", binding.exchange, binding.routing_key);
        lines.push(TopologyLine { kind: "binding", name, detail: target });
    }
    print_topology(&lines, format, out)?;
    Ok(Exit::Done)
}

fn print_topology(lines: &[TopologyLine], format: Format, out: &mut dyn Write) -> io::Result<()> {
    let columns: [Column<'_, TopologyLine>; 3] = [
        ("WHAT", &|line| line.kind.to_owned()),
        ("NAME", &|line| line.name.clone()),
        ("DETAIL", &|line| line.detail.clone()),
    ];
    print(out, format, lines, &columns, "")
}

#[derive(Serialize)]
struct Setting {
    key: String,
    value: String,
    origin: String,
}

fn show_config(settings: &Settings, format: Format, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let known = settings.known.iter();
    let lines: Vec<Setting> = known
        .map(|(key, known)| Setting {
            key: key.clone(),
            value: known.shown.clone(),
            origin: known.origin.clone().unwrap_or_else(|| "default".to_owned()),
        })
        .collect();
    let columns: [Column<'_, Setting>; 3] = [
        ("KEY", &|s| s.key.clone()),
        ("VALUE", &|s| s.value.clone()),
        ("FROM", &|s| s.origin.clone()),
    ];
    print(out, format, &lines, &columns, "")?;
    Ok(Exit::Done)
}

fn tell_faults(faults: &[Fault]) -> anyhow::Result<Exit> {
    let all = if faults.len() == 1 { "is a fault" } else { "are faults" };
    eprintln!("order-relay: there {all} in the settings:");
    for fault in faults {
        eprintln!("  {fault}");
    }
    Ok(Exit::Usage)
}

fn print_schema(schema: Schema, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let schema = match schema {
        Schema::Order => schemars::schema_for!(OrderDocument),
        Schema::OrderFailed => schemars::schema_for!(OrderFailed),
    };
    pretty(&schema, out)
}

fn pretty(value: &impl Serialize, out: &mut dyn Write) -> anyhow::Result<Exit> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(Exit::Done)
}

fn man(out: &mut dyn Write) -> anyhow::Result<Exit> {
    let root = Cli::command();
    clap_mangen::Man::new(root).render(out)?;
    Ok(Exit::Done)
}

async fn run_stub(stub: &Stub) -> anyhow::Result<Exit> {
    start_logging(LogFormat::Auto, "info");
    let listen = stub.listen;
    let listener = TcpListener::bind(listen).await;
    let listener =
        listener.with_context(|| format!("cannot listen on {listen}: is the port in use?"))?;
    let address = listener.local_addr()?;
    println!("ERP stub on http://{address}/orders, control at http://{address}/_stub");
    let settings = StubSettings {
        mode: stub.mode,
        latency_ms: u64::try_from(stub.latency.as_millis()).unwrap_or(u64::MAX),
        fail_rate: stub.fail_rate,
    };
    tokio::select! {
        () = ErpStub::new(settings).serve(listener) => {}
        () = super::service::end_signal() => {}
    }
    Ok(Exit::Done)
}
