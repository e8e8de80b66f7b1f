//! The ledger in memory: what the SQL ledger promises, without a database.
//!
//! It is the ledger of simulations, and the third run of the store's contract (tests/it/store_contract.rs), which
//! is what keeps it equal to the others. Transitions are the domain's own; nothing here decides about an order.
//! Every call is one transaction under one lock, which is never held across an await. It is deterministic: rows
//! have an order, time comes with the requests, nothing is drawn at random. What it lacks are tables that can be
//! reached by SQL, and a file that outlives the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::{Access, Disturbance, LedgerFaults};
use super::tables::Tables;
use crate::ports::clock::Clock;
use crate::ports::store_error::StoreError;

/// One process's connection to a ledger in memory.
#[derive(Clone)]
pub struct MemoryLedger {
    tables: Arc<Mutex<Tables>>,
    disturbance: Arc<dyn Disturbance>,
    pub(super) clock: Option<Arc<dyn Clock>>,
}

impl Default for MemoryLedger {
    /// An empty ledger whose calls all work.
    fn default() -> Self {
        Self { tables: Arc::default(), disturbance: Arc::new(LedgerFaults::default()), clock: None }
    }
}

impl MemoryLedger {
    /// The same ledger, which has a clock of its own.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// The same ledger for another process, whose calls meet these faults.
    pub fn disturbed_by(&self, disturbance: Arc<dyn Disturbance>) -> Self {
        Self { disturbance, ..self.clone() }
    }

    /// Runs a transaction that only reads.
    pub(super) async fn read<T: Send>(
        &self,
        query: impl FnOnce(&Tables) -> T + Send,
    ) -> Result<T, StoreError> {
        self.call(Access::Read, |tables| Ok(query(tables))).await
    }

    /// Runs a transaction that may write; an error undoes all of it.
    pub(super) async fn write<T: Send>(
        &self,
        change: impl FnOnce(&mut Tables) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        self.call(Access::Write, change).await
    }

    async fn call<T: Send>(
        &self,
        access: Access,
        transaction: impl FnOnce(&mut Tables) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let Some(fault) = self.disturbance.next(access) else {
            return self.tables().transact(transaction);
        };
        fault.strike(access).await?;
        let answer = self.tables().transact(transaction);
        fault.carry(answer).await
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
