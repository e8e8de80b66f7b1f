//! The heartbeat of a process: others see that it is alive, its clock follows the ledger's, and it takes its share
//! of the fleet's calls to each ERP.

use std::sync::Arc;
use std::time::Duration;

use crate::ports::clock::Clock;
use crate::ports::store_error::StoreError;
use crate::ports::workers::{Worker, WorkerKind, WorkerList, WorkerRegistry};
use crate::workers::context::WorkerContext;
use crate::workers::ledger_clock::LedgerClock;

/// Interval of heartbeats; a third of the time after which a process counts as dead.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

crate::combined_port! {
    /// What a heartbeat asks of the ledger.
    pub trait HeartbeatLedger: WorkerRegistry, WorkerList
}

/// The heartbeat of one process.
pub struct Heartbeat {
    context: Arc<WorkerContext>,
    clock: Arc<LedgerClock>,
    ledger: Arc<dyn HeartbeatLedger>,
    worker: Worker,
}

impl Heartbeat {
    /// Of the process of `context`, which has these roles. Nothing is written yet.
    pub fn new(
        context: Arc<WorkerContext>,
        clock: Arc<LedgerClock>,
        ledger: Arc<dyn HeartbeatLedger>,
        roles: &[WorkerKind],
    ) -> Self {
        let roles = roles.iter().map(|role| role.as_str().to_owned()).collect();
        let now = clock.now();
        let worker = Worker { name: context.worker.clone(), roles, started_at: now, seen_at: now };
        Self { context, clock, ledger, worker }
    }

    /// One heartbeat. An unavailable ledger does not stop the work: the process then only looks dead.
    pub async fn beat(&mut self) -> Result<(), StoreError> {
        let skew = self.clock.synchronise(&*self.ledger).await?;
        self.context.metrics.clock_skew_seconds.set(skew.as_secs_f64());
        let now = self.clock.now();
        self.worker.seen_at = now;
        self.ledger.heartbeat(&self.worker).await?;
        let submitter = WorkerKind::Submitter.as_str();
        let sends = |worker: &&Worker| worker.roles.iter().any(|role| role == submitter);
        let senders = self.ledger.workers(now).await?.iter().filter(sends).count();
        for gate in self.context.policies.gates() {
            gate.share_with(u32::try_from(senders).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// The process has ended: others need not wait until its heartbeat is missing.
    pub async fn deregister(&self) -> Result<(), StoreError> {
        self.ledger.deregister(&self.worker.name).await
    }
}
