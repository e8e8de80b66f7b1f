//! `database.*`: the ledger.

use std::time::Duration;

use secrecy::SecretString;

use super::reader::{ONE_DAY, Reader};

/// `database.*`
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `sqlite://…` or `postgres://…`
    pub url: SecretString,
    /// Connections of one process.
    pub max_connections: u32,
    /// How long to wait for one.
    pub patience: Duration,
}

impl DatabaseSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            url: r.secret("database.url").unwrap_or_default(),
            max_connections: r.number("database.max_connections", 2..=500),
            patience: r.duration("database.patience", Duration::from_millis(100)..=ONE_DAY),
        }
    }
}
