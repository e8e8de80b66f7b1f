//! Which processes are alive, and which one does what only one may do.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ports::store_error::StoreError;

/// Work that only one process does at a time.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Acquires the lease on `task` until then; `false` if another worker has it.
    async fn acquire_lease(
        &self,
        task: &str,
        worker: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// How a process says that it is alive.
#[async_trait]
pub trait WorkerRegistry: Send + Sync {
    /// A worker's heartbeat; those that were not seen for a day are deleted.
    async fn heartbeat(&self, worker: &Worker) -> Result<(), StoreError>;
    /// What the ledger's own clock says; `None` when it has none besides this machine's.
    async fn ledger_time(&self) -> Result<Option<Timestamp>, StoreError>;
    /// A worker deregisters.
    async fn deregister(&self, name: &str) -> Result<(), StoreError>;
}

/// Processes that died, and what they leave behind.
#[async_trait]
pub trait DeadProcesses: Send + Sync {
    /// The last heartbeat of every process that did not deregister, by its name.
    async fn heartbeats(&self) -> Result<Vec<(String, Timestamp)>, StoreError>;
    /// Ends the claims of a process that is gone; returns how many
    /// ([`crate::domain::lifecycle::transitions::OrderRecord::abandon`]).
    async fn abandon_claims(&self, process: &str, now: Timestamp) -> Result<u64, StoreError>;
}

/// Which processes are alive.
#[async_trait]
pub trait WorkerList: Send + Sync {
    /// Workers that were seen within [`ALIVE`].
    async fn workers(&self, now: Timestamp) -> Result<Vec<Worker>, StoreError>;
}

/// How long a worker counts as alive after it was seen.
pub const ALIVE: Duration = Duration::from_secs(30);

/// A process of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// When it started.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// When it was seen last.
    #[schemars(with = "String")]
    pub seen_at: Timestamp,
}

/// What a process may do; one process may do all of it (`serve --roles`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerKind {
    /// Takes orders to the ERP.
    Submitter,
    /// Counts failures and decides what follows.
    ErrorHandler,
    /// Sends mails.
    Notifier,
    /// Finds overdue orders, and runs redrives.
    Sweeper,
    /// Serves pages, API, health and metrics.
    Web,
}

crate::names!(WorkerKind {
    Submitter = "submitter",
    ErrorHandler = "error-handler",
    Notifier = "notifier",
    Sweeper = "sweeper",
    Web = "web",
});
