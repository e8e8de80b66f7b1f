//! The task that sends the heartbeat of this process.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::supervisor::{Ended, Supervisor};
use crate::workers::heartbeat::{HEARTBEAT, Heartbeat};

/// How long the shutdown waits for deregistering.
const PARTING: Duration = Duration::from_secs(2);

/// After one that was not written.
const SOON: Duration = Duration::from_secs(1);

/// Sends heartbeats until every worker has ended.
pub struct Heart {
    task: Supervisor,
    stop: CancellationToken,
}

impl Heart {
    /// Starts to beat.
    pub fn start(heartbeat: Heartbeat) -> Self {
        let (mut task, stop) = (Supervisor::default(), CancellationToken::new());
        task.start("heartbeat", beat(heartbeat, stop.clone()));
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

async fn beat(mut heartbeat: Heartbeat, stop: CancellationToken) {
    loop {
        let pause = match heartbeat.beat().await {
            Ok(()) => HEARTBEAT,
            Err(error) => {
                tracing::debug!(%error, "heartbeat.skipped");
                SOON
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
        }
    }
    if let Err(error) = heartbeat.deregister().await {
        tracing::debug!(%error, "heartbeat.not_taken_back");
    }
}
