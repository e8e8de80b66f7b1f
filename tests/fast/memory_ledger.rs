//! The ledger in memory fails as a database does: a call happens whole or not at all, and whoever asked may not
//! learn which. What it promises while it works is held by the store's contract in `tests/it`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use order_relay::devtools::simulation::ledger::faults::{
    Access, Disturbance, LedgerFault, LedgerFaults,
};
use order_relay::devtools::simulation::ledger::memory::MemoryLedger;
use order_relay::domain::failure::{ErrorClass, Failure, Stage};
use order_relay::domain::lifecycle::transitions::FailedAttempt;
use order_relay::domain::lifecycle::vocabulary::Trigger;
use order_relay::domain::order_filter::ShopFilter;
use order_relay::domain::permission::Grants;
use order_relay::domain::retry::{OnRejected, RetryPolicy};
use order_relay::domain::trace::Trace;
use order_relay::ports::audit::Act;
use order_relay::ports::ledger::LedgerProof;
use order_relay::ports::order_desk::{OrderDesk, OrderRecords};
use order_relay::ports::orders::{
    Accepted, FailureRequest, OrderFailures, OrderIntake, OrderSource, Placed,
};
use order_relay::ports::statistics::Statistics;
use order_relay::ports::store_error::StoreError;
use serde_json::json;
use uuid::Uuid;

use crate::world::{document, key, parsed};

const HOUR: Duration = Duration::from_hours(1);
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A ledger that works, the same one behind faults, and what sets those.
fn disturbed() -> (MemoryLedger, MemoryLedger, Arc<LedgerFaults>) {
    let (ledger, faults) = (MemoryLedger::default(), Arc::new(LedgerFaults::default()));
    let disturbed = ledger.disturbed_by(faults.clone());
    (ledger, disturbed, faults)
}

fn placed(id: &str) -> Placed {
    let order = Arc::new(parsed(&document(id, &json!({}))));
    Placed { order, source: OrderSource::Broker, trace: Trace::default() }
}

async fn accept(ledger: &MemoryLedger, id: &str) -> Result<Accepted, StoreError> {
    ledger.accept(placed(id), NOW).await
}

async fn received(ledger: &MemoryLedger) -> u64 {
    ledger.count_received().await.expect("the ledger answers")
}

fn act() -> Act {
    let (id, now) = (Uuid::from_u128(1), NOW);
    Act { id, actor: "x".to_owned(), from: None, grants: Grants::all(), reason: None, now }
}

#[tokio::test(start_paused = true)]
async fn nothing_happens_where_the_database_is_not_reached_or_ends_a_deadlock() {
    let (ledger, disturbed, faults) = disturbed();
    for fault in [LedgerFault::Unavailable, LedgerFault::Deadlock] {
        faults.set(Some(fault));
        assert!(accept(&disturbed, "1").await.is_err_and(|error| error.is_unavailable()));
        assert!(disturbed.count_received().await.is_err_and(|error| error.is_unavailable()));
        assert_eq!(received(&ledger).await, 0, "{fault:?}");
    }
    faults.set(None);
    assert_eq!(accept(&disturbed, "1").await.expect("it works again"), Accepted::New);
    assert_eq!(received(&ledger).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_has_happened_and_is_repeated_safely() {
    let (ledger, disturbed, faults) = disturbed();
    faults.set(Some(LedgerFault::AnswerLost));
    assert!(accept(&disturbed, "1").await.is_err_and(|error| error.is_unavailable()));
    assert_eq!(received(&ledger).await, 1);
    faults.set(None);
    assert_eq!(accept(&disturbed, "1").await.expect("it works again"), Accepted::Duplicate);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_write_still_reads() {
    let (ledger, disturbed, faults) = disturbed();
    accept(&ledger, "1").await.expect("it works");
    faults.set(Some(LedgerFault::ReadOnly));
    assert!(accept(&disturbed, "2").await.is_err_and(|error| error.is_unavailable()));
    assert_eq!(received(&disturbed).await, 1);
    assert!(disturbed.record(&key("1")).await.expect("it reads").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_that_is_given_up_has_not_happened_and_one_with_a_late_answer_has() {
    let (ledger, disturbed, faults) = disturbed();
    let little_less = HOUR - Duration::from_secs(1);
    let faulty =
        [("1", LedgerFault::Slow(HOUR), false), ("2", LedgerFault::LateAnswer(HOUR), true)];
    for (id, fault, happened) in faulty {
        faults.set(Some(fault));
        let answer = tokio::time::timeout(little_less, accept(&disturbed, id)).await;
        assert!(answer.is_err(), "{fault:?}: nobody answers so early");
        let is_there = ledger.record(&key(id)).await.expect("it reads").is_some();
        assert_eq!(is_there, happened, "{fault:?}");
        accept(&disturbed, id).await.expect("whoever waits is answered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_database_refuses_leaves_nothing_behind() {
    let ledger = MemoryLedger::default();
    let failed = FailedAttempt {
        // No row can have attempt 0.
        attempt: 0,
        max_count: None,
        failure: Failure::new(ErrorClass::Unavailable, "x", "x", Stage::After),
        occurred_at: NOW,
        worker: None,
    };
    let policy = RetryPolicy {
        schedule: vec![HOUR],
        on_rejected: OnRejected::Park,
        settle: HOUR,
        ask_every: HOUR,
    };
    let (order, trigger) = (Some(placed("1")), Trigger::Checkout);
    let request =
        FailureRequest { key: key("1"), failed, trigger, duration_ms: 1, order, policy, now: NOW };
    let refused = ledger.record_failure(request).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert!(ledger.record(&key("1")).await.expect("it reads").is_none());
    assert_eq!(received(&ledger).await, 0);
    let flow = ledger.flow(&ShopFilter::default(), Timestamp::MIN, HOUR).await;
    assert!(flow.expect("it reads").is_empty(), "not even a statistic");
}

#[tokio::test(start_paused = true)]
async fn an_act_that_was_written_already_changes_nothing_more() {
    let ledger = MemoryLedger::default();
    accept(&ledger, "1").await.expect("it works");
    ledger.remove_order(&key("1"), &act()).await.expect("it works").expect("it may be removed");
    let again = ledger.restore_order(&key("1"), &act()).await;
    assert!(matches!(again, Err(StoreError::Refused(_))), "one audit row has one id: {again:?}");
    let order = ledger.order(&key("1")).await.expect("it reads").expect("it is there");
    assert_eq!((order.record.phase.name(), order.audit.len()), ("removed", 1));
}

/// Notes what it is asked, and lets every second call fail.
#[derive(Default)]
struct EverySecond(Mutex<Vec<Access>>);

impl Disturbance for EverySecond {
    fn next(&self, access: Access) -> Option<LedgerFault> {
        let mut calls = self.0.lock().expect("nobody panicked");
        calls.push(access);
        calls.len().is_multiple_of(2).then_some(LedgerFault::Unavailable)
    }
}

#[tokio::test(start_paused = true)]
async fn faults_are_decided_call_by_call_and_meet_one_process_only() {
    let (ledger, every_second) = (MemoryLedger::default(), Arc::new(EverySecond::default()));
    let process = ledger.disturbed_by(every_second.clone());
    assert!(accept(&process, "1").await.is_ok());
    assert!(process.count_received().await.is_err());
    assert!(process.record(&key("1")).await.expect("it reads").is_some());
    assert!(accept(&process, "2").await.is_err());
    assert!(accept(&ledger, "2").await.is_ok(), "another process has no part in it");
    let calls = every_second.0.lock().expect("nobody panicked").clone();
    assert_eq!(calls, [Access::Write, Access::Read, Access::Read, Access::Write]);
}
