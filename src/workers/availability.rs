//! Calls to the ledger that are repeated until it answers. It may be unavailable for hours: a worker then
//! keeps the messages in progress, logs the outage once, and continues when it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::ports::store_error::StoreError;

pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether the ledger answers, for all workers of a process; logs an outage once, and its end.
#[derive(Default)]
pub struct Availability {
    away: AtomicBool,
}

impl Availability {
    /// Calls the ledger until it answers; only what it refuses for good comes back as an error.
    pub async fn retry_until_available<T, F>(
        &self,
        mut call: impl FnMut() -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match call().await {
                Err(error) if error.is_unavailable() => {
                    self.begins(&error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                result => {
                    self.ends();
                    return result;
                }
            }
        }
    }

    fn begins(&self, error: &StoreError) {
        if !self.away.swap(true, Ordering::AcqRel) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, cause, "store.unavailable");
        }
    }

    fn ends(&self) {
        if self.away.load(Ordering::Acquire) && self.away.swap(false, Ordering::AcqRel) {
            tracing::info!("store.available");
        }
    }
}
