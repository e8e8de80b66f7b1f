//! `config show`, `config schema`, and what is said about faults in the settings.

use std::io::Write;

use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::flags::Format;
use crate::cli::output::{pretty, print};
use crate::cli::service::ConfigCommand;
use crate::config::reader::Fault;
use crate::config::settings::Settings;
use crate::views::csv::Column;

/// `config …`
pub fn config(
    settings: &Settings,
    command: &ConfigCommand,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Show(output) => show(settings, output.output, out),
        ConfigCommand::Schema => {
            pretty(&settings.schema(), out)?;
            Ok(Exit::Done)
        }
    }
}

#[derive(Serialize)]
struct Setting {
    key: String,
    value: String,
    origin: String,
}

fn show(settings: &Settings, format: Format, out: &mut dyn Write) -> anyhow::Result<Exit> {
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

/// On standard error, one line for each.
pub fn tell_faults(faults: &[Fault]) -> Exit {
    let all = if faults.len() == 1 { "is a fault" } else { "are faults" };
    eprintln!("order-relay: there {all} in the settings:");
    for fault in faults {
        eprintln!("  {fault}");
    }
    Exit::Usage
}
