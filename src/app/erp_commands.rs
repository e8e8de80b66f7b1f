//! `erp check`: a recipe without an ERP, and the one in use in its ERP. `erp stub`: an ERP for tests.

use std::io::Write;

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use crate::adapters::erp::recipe::check::remarks;
use crate::adapters::erp::recipe::open::{Overrides, SHIPPED, load};
use crate::cli::devtools::Stub;
use crate::cli::exit::Exit;
use crate::config::settings::Settings;
use crate::devtools::erp_stub::{ErpStub, StubSettings};
use crate::ports::erps::DEFAULT_ERP;

use crate::telemetry::{LogFormat, start_logging};

use super::check::ask_all;
use super::erps;
use super::service::end_signal;
use super::wiring;

/// `erp check`: a recipe without an ERP.
pub fn check(
    settings: Option<&Settings>,
    recipe: Option<&str>,
    print: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let own = settings.map(|settings| &settings.default_shop.erp);
    let Some(name) = recipe.or(own.map(|erp| erp.recipe.as_str())) else {
        bail!("name a recipe");
    };
    if name == "json" {
        writeln!(out, "json: built in, nothing to check")?;
        return Ok(Exit::Done);
    }
    if print {
        return print_shipped(name, out);
    }
    let loaded = match load(name) {
        Ok(loaded) => loaded,
        Err(faults) => {
            writeln!(out, "{faults}")?;
            return Ok(Exit::Failed);
        }
    };
    for remark in remarks(&loaded.recipe) {
        writeln!(out, "{}: note: {remark}", loaded.recipe.file)?;
    }
    // Whether secrets are set is asked only of the recipe in use.
    if let Some(settings) = settings.filter(|_| recipe.is_none())
        && let erp = &settings.default_shop.erp
        && let Err(error) = erps::open_erp(DEFAULT_ERP, erp, &wiring::tokens(settings))
    {
        writeln!(out, "{error:#}")?;
        return Ok(Exit::Failed);
    }
    let missing = loaded.secrets(&Overrides::default()).err().filter(|_| recipe.is_some());
    for fault in missing.iter().flat_map(|faults| &faults.faults) {
        writeln!(out, "{}:{fault} (needed when it is used)", loaded.recipe.file)?;
    }
    writeln!(
        out,
        "{}: {} is good: every template renders a full order and a minimal one",
        loaded.recipe.file, loaded.recipe.name
    )?;
    Ok(Exit::Done)
}

/// The recipe in use, in the ERP: whether it answers, and whether its master data is as it should be.
pub async fn check_in_erp(settings: &Settings, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let erp = &settings.default_shop.erp;
    if erp.recipe == "json" {
        return Ok(Exit::Done);
    }
    let tokens = wiring::tokens(settings);
    let mut exit = Exit::Done;
    for line in ask_all(DEFAULT_ERP, &*erps::open_erp(DEFAULT_ERP, erp, &tokens)?).await {
        writeln!(out, "{}: {}: {}", line.what, line.state, line.detail)?;
        if line.is_fault() {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

fn print_shipped(name: &str, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Some((_, text)) = SHIPPED.iter().find(|(own, _)| *own == name) else {
        bail!("{name} is not a shipped recipe");
    };
    out.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// `erp stub`
pub async fn stub(stub: &Stub) -> anyhow::Result<Exit> {
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
        () = end_signal() => {}
    }
    Ok(Exit::Done)
}
