//! Retention: takes out of the ledger what is older than the settings keep (docs/operations.md, "Years of data").
//!
//! One process does it at a time, in small pieces with pauses between them, so that the work never waits for it. An order
//! goes in two steps (`ports/retention.rs`); a process that dies between them leaves the second to the next.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::crash::{CrashPoint, reach};
use crate::domain::retention::{OldKind, RetentionRule};
use crate::domain::retry::later;
use crate::ports::retention::{RETAINED_AT_ONCE, Retention};
use crate::ports::store_error::StoreError;
use crate::ports::workers::Leases;
use crate::telemetry::KindLabel;
use crate::workers::context::WorkerContext;

/// How often is looked for what is old.
const EVERY: Duration = Duration::from_hours(1);
/// Pause between two pieces: the work comes first.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a process that died keeps others away.
const LEASE: Duration = Duration::from_mins(2);

crate::combined_port! {
    /// What retention asks of the ledger.
    pub trait RetentionLedger: Retention, Leases
}

/// The worker.
pub struct RetentionKeeper {
    context: Arc<WorkerContext>,
    ledger: Arc<dyn RetentionLedger>,
    rule: RetentionRule,
}

impl RetentionKeeper {
    /// A worker over `context` that keeps by `rule`.
    pub fn new(
        context: Arc<WorkerContext>,
        ledger: Arc<dyn RetentionLedger>,
        rule: RetentionRule,
    ) -> Self {
        Self { context, ledger, rule }
    }

    /// Works until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.round(&stop).await {
                match error.is_unavailable() {
                    true => tracing::debug!(%error, "retention.skipped"),
                    false => tracing::error!(%error, "retention.failed"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Takes out everything that is old now, unless another process is at it.
    async fn round(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        // What was noted by a process that is gone, or to be erased.
        if !self.has_lease().await? || !self.finish(None, stop).await? {
            return Ok(());
        }
        for (kind, before) in self.rule.limits(self.context.now()) {
            let goes_on = match kind.phase() {
                Some(_) => self.orders(kind, before, stop).await?,
                None => self.records(kind, before, stop).await?,
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn has_lease(&self) -> Result<bool, StoreError> {
        let now = self.context.now();
        self.ledger.acquire_lease("retention", &self.context.worker, later(now, LEASE), now).await
    }

    /// Whether the next piece may be begun.
    async fn goes_on(&self, stop: &CancellationToken) -> Result<bool, StoreError> {
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = tokio::time::sleep(PAUSE) => {}
        }
        self.has_lease().await
    }

    async fn orders(
        &self,
        kind: OldKind,
        before: Timestamp,
        stop: &CancellationToken,
    ) -> Result<bool, StoreError> {
        while self.ledger.note_old_orders(kind, before, RETAINED_AT_ONCE).await? > 0 {
            reach(CrashPoint::OrdersNoted);
            if !self.finish(Some(kind), stop).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Deletes the rows of everything that is noted.
    async fn finish(
        &self,
        kind: Option<OldKind>,
        stop: &CancellationToken,
    ) -> Result<bool, StoreError> {
        loop {
            let now = self.context.now();
            let deleted = self.ledger.delete_noted_orders(RETAINED_AT_ONCE, now).await?;
            self.count(kind.map_or("erased", OldKind::as_str), deleted.gone);
            if deleted.seen == 0 {
                return Ok(true);
            }
            reach(CrashPoint::OrdersDeleted);
            if !self.goes_on(stop).await? {
                return Ok(false);
            }
        }
    }

    async fn records(
        &self,
        kind: OldKind,
        before: Timestamp,
        stop: &CancellationToken,
    ) -> Result<bool, StoreError> {
        loop {
            let now = self.context.now();
            let deleted = self.ledger.delete_old(kind, before, RETAINED_AT_ONCE, now).await?;
            self.count(kind.as_str(), deleted);
            if deleted == 0 {
                return Ok(true);
            }
            if !self.goes_on(stop).await? {
                return Ok(false);
            }
        }
    }

    fn count(&self, kind: &str, removed: u64) {
        if removed > 0 {
            let metrics = &self.context.metrics;
            metrics.retention_removed.get_or_create(&KindLabel::new(kind)).inc_by(removed);
            tracing::info!(kind, removed, "retention.removed");
        }
    }
}
