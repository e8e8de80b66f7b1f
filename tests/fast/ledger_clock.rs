//! Every process follows the clock of the ledger.

use std::sync::Arc;
use std::time::Duration;

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
    /// How long its answer is on the way.
    delay: Duration,
}

#[async_trait]
impl WorkerRegistry for Registry {
    async fn heartbeat(&self, _: &Worker) -> Result<(), StoreError> {
        Ok(())
    }
    async fn ledger_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let told = self.ahead_s.map(|ahead| self.own.now() + SignedDuration::from_secs(ahead));
        tokio::time::sleep(self.delay).await;
        Ok(told)
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
        let registry = Registry { own: own.clone(), ahead_s, delay: Duration::ZERO };
        let ahead = clock.synchronise(&registry).await.expect("it answers");
        assert_eq!(ahead.as_secs(), expected);
        assert_eq!(clock.now().duration_since(own.now()).as_secs(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_long_moves_only_a_clock_that_disagrees_with_it() {
    let own = Arc::new(VirtualClock::new());
    let clock = LedgerClock::new(own.clone());
    // The first answer is better than none.
    let answers = [(5, 10, 0), (29, 0, 29), (29, 10, 29), (50, 10, 45), (29, 0, 29)];
    for (ahead_s, delay_s, expected) in answers {
        let (ahead_s, delay) = (Some(ahead_s), Duration::from_secs(delay_s));
        let registry = Registry { own: own.clone(), ahead_s, delay };
        let ahead = clock.synchronise(&registry).await.expect("it answers");
        assert_eq!(ahead.as_secs(), expected, "told in {delay_s} s");
    }
    let late = LedgerClock::new(own.clone());
    let registry = Registry { own, ahead_s: Some(7), delay: Duration::from_secs(10) };
    assert_eq!(late.synchronise(&registry).await.expect("it answers").as_secs(), 2);
}
