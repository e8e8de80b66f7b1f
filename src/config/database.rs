//! `database.*`: the ledger.

use std::time::Duration;

use secrecy::SecretString;

use super::reader::{ONE_DAY, Reader};

const ONE_SECOND: Duration = Duration::from_secs(1);

/// `database.*`
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `sqlite://…`, or one or several of `postgres://…`: the one that can write is used.
    pub servers: Vec<SecretString>,
    /// Connections of one process.
    pub max_connections: u32,
    /// How long to wait for one.
    pub patience: Duration,
    /// The longest that a call of the relay's work may take.
    pub deadline: Duration,
    /// The same for pages, searches and statistics.
    pub read_deadline: Duration,
}

impl DatabaseSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            servers: r.servers("database.url"),
            max_connections: r.number("database.max_connections", 2..=500),
            patience: r.duration("database.patience", Duration::from_millis(100)..=ONE_DAY),
            deadline: r.duration("database.deadline", ONE_SECOND..=ONE_DAY),
            read_deadline: r.duration("database.read_deadline", ONE_SECOND..=ONE_DAY),
        }
    }
}
