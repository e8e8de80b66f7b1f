//! `topology`: what must exist on the broker; shown, declared, or compared with what is there.

use std::io::{self, Write};

use serde::Serialize;

use crate::adapters::amqp;
use crate::adapters::amqp::connection::Address;
use crate::app::wiring;
use crate::cli::exit::Exit;
use crate::cli::flags::Format;
use crate::cli::output::print;
use crate::cli::service::Topology as Command;
use crate::config::settings::Settings;
use crate::domain::topology::{Target, Topology};
use crate::ports::clock::SystemClock;
use crate::views::csv::Column;

/// `topology …`
pub async fn topology(
    settings: &Settings,
    command: Command,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let topology = wiring::topology(settings);
    match command {
        Command::Show(output) => return show(&topology, output.output, out),
        Command::Declare { dry_run: true } => return show(&topology, Format::Table, out),
        Command::Declare { dry_run: false } | Command::Check(_) => {}
    }
    let worker = wiring::worker_name(&SystemClock);
    let Some(address) = wiring::amqp_address(settings, &worker)? else {
        writeln!(out, "amqp.url is not set: the in-process broker declares its own")?;
        return Ok(Exit::Done);
    };
    match command {
        Command::Check(output) => check(&address, &topology, output.output, out).await,
        _ => declare(&address, &topology, out).await,
    }
}

async fn declare(
    address: &Address,
    topology: &Topology,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    amqp::topology::declare(address, topology).await?;
    writeln!(
        out,
        "{} exchanges, {} queues and {} bindings exist",
        topology.exchanges.len(),
        topology.queues.len(),
        topology.bindings.len()
    )?;
    Ok(Exit::Done)
}

async fn check(
    address: &Address,
    topology: &Topology,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let findings = amqp::topology::check(address, topology).await?;
    let bad = findings.iter().any(|finding| finding.fault.is_some());
    let lines: Vec<TopologyLine> = findings
        .into_iter()
        .map(|finding| TopologyLine {
            kind: if finding.fault.is_some() { "FAULT" } else { "ok" },
            name: finding.what,
            detail: finding.fault.unwrap_or_default(),
        })
        .collect();
    print_lines(&lines, format, out)?;
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

#[derive(Serialize)]
struct TopologyLine {
    kind: &'static str,
    name: String,
    detail: String,
}

fn show(topology: &Topology, format: Format, out: &mut dyn Write) -> anyhow::Result<Exit> {
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
    print_lines(&lines, format, out)?;
    Ok(Exit::Done)
}

fn print_lines(lines: &[TopologyLine], format: Format, out: &mut dyn Write) -> io::Result<()> {
    let columns: [Column<'_, TopologyLine>; 3] = [
        ("WHAT", &|line| line.kind.to_owned()),
        ("NAME", &|line| line.name.clone()),
        ("DETAIL", &|line| line.detail.clone()),
    ];
    print(out, format, lines, &columns, "")
}
