//! The demo's settings: its own where the environment sets nothing. Its database, broker and ERP are always its own, so
//! that no test order gets into a real one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::settings::Settings;
use crate::config::sources::SettingsFile;

const PREFIX: &str = "ORDER_RELAY__";
/// Sections of which the environment sets nothing here.
const OWN: [&str; 4] = ["DATABASE", "AMQP", "ERP", "SHOPS"];

const CALM_AND_FAST: [(&str, &str); 10] = [
    ("retry.schedule", "3s, 6s, 10s"),
    ("circuit.pause", "3s"),
    ("sweeper.every", "1s"),
    ("sweeper.grace", "5s"),
    ("mail.sender", "Demo shop <shop@example.com>"),
    ("mail.receiver", "admin@example.com"),
    ("mail.digest_after", "6"),
    ("mail.digest_every", "30s"),
    ("web.listen", "127.0.0.1:8080"),
    ("shutdown.patience", "10s"),
];

/// The settings, and the variables of the environment that are not used.
pub struct DemoSettings {
    pub settings: Settings,
    pub unused: Vec<String>,
}

/// Reads them. `listen` of the command line beats the environment.
pub fn read(
    environment: impl Iterator<Item = (String, String)>,
    folder: &Path,
    erp_url: &str,
    listen: Option<SocketAddr>,
) -> anyhow::Result<DemoSettings> {
    let (unused, used): (Vec<_>, Vec<_>) = environment
        .filter(|(name, _)| name.starts_with(PREFIX))
        .partition(|(name, _)| is_own(name));
    let database = format!("sqlite://{}", folder.join("order-relay.db").display());
    let listen = listen.map(|listen| listen.to_string());
    let mut values = vec![
        ("database.url", &*database),
        ("erp.url", erp_url),
        ("erp.timeout", "4s"),
        ("erp.connect_timeout", "1s"),
        ("erp.settle", "90s"),
    ];
    values.extend(CALM_AND_FAST.iter().filter(|(key, _)| !is_set(key, &used)));
    if let Some(listen) = &listen {
        values.retain(|(key, _)| *key != "web.listen");
        values.push(("web.listen", listen));
    }
    // A settings file is a real installation's.
    let settings = Settings::load(SettingsFile::None, used.into_iter(), &values);
    let settings = settings.map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(faults.join("; "))
    })?;
    let unused = unused.into_iter().map(|(name, _)| name).collect();
    Ok(DemoSettings { settings, unused })
}

fn is_own(name: &str) -> bool {
    let section = name[PREFIX.len()..].split("__").next().unwrap_or_default();
    OWN.contains(&section)
}

fn is_set(key: &str, environment: &[(String, String)]) -> bool {
    let name = format!("{PREFIX}{}", key.replace('.', "__").to_uppercase());
    environment.iter().any(|(set, _)| set.strip_suffix("_FILE").unwrap_or(set) == name)
}

/// A folder that is deleted with the demo.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("order-relay-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo(set: &[(&str, &str)], listen: Option<&str>) -> DemoSettings {
        let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let listen = listen.map(|listen| listen.parse().unwrap());
        read(set, Path::new("/tmp/demo"), "http://127.0.0.1:1/orders", listen).unwrap()
    }

    #[test]
    fn the_environment_sets_everything_but_database_broker_and_erp() {
        let set = [
            ("ORDER_RELAY__WEB__LISTEN", "127.0.0.1:8099"),
            ("ORDER_RELAY__MAIL__DIGEST_AFTER", "3"),
            ("ORDER_RELAY__DATABASE__URL", "postgres://shop@db/orders"),
            ("ORDER_RELAY__AMQP__URL", "amqp://broker"),
            ("ORDER_RELAY__ERP__URL", "https://erp.example.com"),
            ("HOME", "/root"),
        ];
        let demo = demo(&set, None);
        assert_eq!(demo.settings.web.listen.port(), 8099);
        assert_eq!(demo.settings.known["mail.digest_after"].shown, "3");
        assert_eq!(demo.settings.known["mail.digest_every"].shown, "30s");
        assert!(demo.settings.known["database.url"].shown.starts_with("sqlite:"));
        assert_eq!(demo.settings.known["amqp.url"].shown, "");
        assert_eq!(demo.settings.known["erp.url"].shown, "http://127.0.0.1:1/orders");
        assert_eq!(demo.unused.len(), 3, "{:?}", demo.unused);
    }

    #[test]
    fn the_command_line_beats_the_environment() {
        let set = [("ORDER_RELAY__WEB__LISTEN", "127.0.0.1:8099")];
        assert_eq!(demo(&set, Some("127.0.0.1:0")).settings.web.listen.port(), 0);
        assert_eq!(demo(&[], None).settings.web.listen.port(), 8080);
    }
}
