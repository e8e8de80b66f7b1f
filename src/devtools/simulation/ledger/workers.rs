//! Which processes are alive, which one does what only one may do, and the tables' release.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::memory::MemoryLedger;
use super::tables::{Lease, OrderRow};
use super::values::{long_before, stored_time};
use crate::domain::lifecycle::claim::Claim;
use crate::ports::schema::{CopyTold, Schema, SchemaStatus};
use crate::ports::store_error::StoreError;
use crate::ports::workers::{ALIVE, DeadProcesses, Leases, Worker, WorkerList, WorkerRegistry};

/// How long a process that is not seen any more stays in the list.
const REMEMBERED: Duration = Duration::from_hours(24);

#[async_trait]
impl Leases for MemoryLedger {
    async fn acquire_lease(
        &self,
        task: &str,
        worker: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let known = tables.leases.get(task);
            let is_free = known.is_none_or(|lease| {
                lease.worker == worker || lease.until.as_millisecond() <= now.as_millisecond()
            });
            if is_free {
                let lease = Lease { worker: worker.to_owned(), until: stored_time(until) };
                tables.leases.put(task.to_owned(), lease);
            }
            Ok(is_free)
        })
        .await
    }
}

#[async_trait]
impl WorkerRegistry for MemoryLedger {
    async fn heartbeat(&self, worker: &Worker) -> Result<(), StoreError> {
        let seen = Worker {
            started_at: stored_time(worker.started_at),
            seen_at: stored_time(worker.seen_at),
            ..worker.clone()
        };
        let forgotten = stored_time(long_before(worker.seen_at, REMEMBERED));
        self.write(|tables| {
            tables.workers.put(seen.name.clone(), seen);
            tables.workers.delete_where(|_, worker| worker.seen_at < forgotten);
            Ok(())
        })
        .await
    }

    async fn ledger_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let clock = self.clock.clone();
        self.read(|_| clock.map(|clock| clock.now())).await
    }

    async fn deregister(&self, name: &str) -> Result<(), StoreError> {
        self.write(|tables| {
            tables.workers.delete(&name.to_owned());
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl DeadProcesses for MemoryLedger {
    async fn heartbeats(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.read(|tables| {
            tables.workers.values().map(|worker| (worker.name.clone(), worker.seen_at)).collect()
        })
        .await
    }

    async fn abandon_claims(&self, process: &str, now: Timestamp) -> Result<u64, StoreError> {
        let now = stored_time(now);
        self.write(|tables| {
            let is_its = |claim: &Claim| {
                claim.until > now
                    && claim.worker.rsplit_once('.').is_some_and(|(name, _)| name == process)
            };
            let has_claim = |row: &&OrderRow| row.record.claim.as_ref().is_some_and(is_its);
            let rows: Vec<_> = tables.orders.values().filter(has_claim).cloned().collect();
            let ended = rows.len() as u64;
            for mut row in rows {
                row.record.abandon(now);
                row.record.version += 1;
                tables.put_order(OrderRow { swept_at: None, ..row });
            }
            Ok(ended)
        })
        .await
    }
}

#[async_trait]
impl WorkerList for MemoryLedger {
    async fn workers(&self, now: Timestamp) -> Result<Vec<Worker>, StoreError> {
        let since = stored_time(long_before(now, ALIVE));
        self.read(|tables| {
            let alive = tables.workers.values().filter(|worker| worker.seen_at >= since);
            alive.cloned().collect()
        })
        .await
    }
}

/// There is nothing to migrate: the tables are always those of this release.
#[async_trait]
impl Schema for MemoryLedger {
    async fn schema_status(&self) -> Result<SchemaStatus, StoreError> {
        let status = SchemaStatus { pending: Vec::new(), is_newer: false, migrates_itself: true };
        self.read(|_| status).await
    }

    async fn migrate(&self, _: CopyTold<'_>) -> Result<Vec<String>, StoreError> {
        self.write(|_| Ok(Vec::new())).await
    }
}
