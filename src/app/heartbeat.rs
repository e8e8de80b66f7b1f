//! The heartbeat of this process, by which others see that it lives.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::supervisor::{Ended, Supervisor};
use crate::ports::workers::{Worker, WorkerKind, WorkerRegistry};
use crate::workers::context::WorkerContext;
use crate::workers::ledger_clock::LedgerClock;

/// Interval of heartbeats; a third of the time after which a process counts as dead.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long the shutdown waits for deregistering.
const PARTING: Duration = Duration::from_secs(2);

/// Sends heartbeats until every worker has ended.
pub struct Heart {
    task: Supervisor,
    stop: CancellationToken,
}

impl Heart {
    /// Starts to beat.
    pub fn start(
        context: Arc<WorkerContext>,
        clock: Arc<LedgerClock>,
        registry: Arc<dyn WorkerRegistry>,
        roles: &[WorkerKind],
    ) -> Self {
        let (mut task, stop) = (Supervisor::default(), CancellationToken::new());
        task.start("heartbeat", heartbeat(context, clock, registry, roles, stop.clone()));
        Self { task, stop }
    }

    /// Ends only when something is wrong.
    pub async fn next_end(&mut self) -> Ended {
        self.task.next_end().await
    }

    /// Deregisters this process. The wait is short: without it the process is removed after its
    /// heartbeat times out.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if tokio::time::timeout(PARTING, self.task.all_ended()).await.is_err() {
            tracing::debug!("heartbeat.not_taken_back");
        }
    }
}

/// Writes the heartbeat of this process, and deregisters it at the end. An unavailable database
/// does not stop the work: the process then only looks dead.
fn heartbeat(
    context: Arc<WorkerContext>,
    clock: Arc<LedgerClock>,
    registry: Arc<dyn WorkerRegistry>,
    roles: &[WorkerKind],
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let roles = roles.iter().map(|role| role.as_str().to_owned()).collect();
    let now = context.now();
    let mut worker = Worker { name: context.worker.clone(), roles, started_at: now, seen_at: now };
    async move {
        loop {
            match clock.synchronise(&*registry).await {
                Ok(skew) => drop(context.metrics.clock_skew_seconds.set(skew.as_secs_f64())),
                Err(error) => tracing::debug!(%error, "clock.not_compared"),
            }
            worker.seen_at = context.now();
            if let Err(error) = registry.heartbeat(&worker).await {
                tracing::debug!(%error, "heartbeat.skipped");
            }
            tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => {}
                () = stop.cancelled() => break,
            }
        }
        if let Err(error) = registry.deregister(&worker.name).await {
            tracing::debug!(%error, "heartbeat.not_taken_back");
        }
    }
}
