//! Every process follows the clock of the ledger.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use order_relay::ports::clock::Clock;
use order_relay::ports::store_error::StoreError;
use order_relay::ports::workers::{Worker, WorkerRegistry};
use order_relay::workers::ledger_clock::LedgerClock;

use crate::clock::VirtualClock;

/// A database whose clock is ahead of this machine's, or that has none.
struct Registry {
    own: Arc<VirtualClock>,
    ahead_s: Option<i64>,
}

#[async_trait]
impl WorkerRegistry for Registry {
    async fn heartbeat(&self, _: &Worker) -> Result<(), StoreError> {
        Ok(())
    }
    async fn ledger_time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.ahead_s.map(|ahead| self.own.now() + SignedDuration::from_secs(ahead)))
    }
    async fn deregister(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_is_corrected_and_stays_so_without_an_answer() {
    let own = Arc::new(VirtualClock::new());
    let clock = LedgerClock::new(own.clone());
    for (ahead_s, expected) in [(None, 0), (Some(29), 29), (None, 29), (Some(-60), -60)] {
        let registry = Registry { own: own.clone(), ahead_s };
        let ahead = clock.synchronise(&registry).await.expect("it answers");
        assert_eq!(ahead.as_secs(), expected);
        assert_eq!(clock.now().duration_since(own.now()).as_secs(), expected);
    }
}
