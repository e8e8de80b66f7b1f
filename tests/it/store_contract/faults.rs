//! Faults of the database and of its tables, and what the same attempt means when it is made twice.

use order_relay::domain::lifecycle::claim::Admission;
use order_relay::domain::lifecycle::transitions::FailedAttempt;
use order_relay::domain::lifecycle::vocabulary::Trigger;
use order_relay::ports::orders::{FailureRequest, Recorded};
use order_relay::ports::store_error::StoreError;

use super::{Ledger, admission, at, failed, failure};

on_every_ledger!(
    an_attempt_that_is_made_again_before_its_failure_is_counted_counts_once;
    only in SQL: a_table_that_is_not_ours_is_a_fault_until_it_is_mended
);

async fn a_table_that_is_not_ours_is_a_fault_until_it_is_mended(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    ledger.tamper("ALTER TABLE attempts RENAME COLUMN stage TO gone").await;
    let other = ledger.opened_again();
    for _ in 0..3 {
        let error = other.record_failure(failure("1", 1, at(1))).await.expect_err("no such column");
        assert!(matches!(error, StoreError::Broken(_)), "nothing becomes a dead letter: {error:?}");
        assert!(error.is_unavailable(), "it is repeated");
        assert!(other.fault().is_some(), "the process is not ready");
    }
    ledger.tamper("ALTER TABLE attempts RENAME COLUMN gone TO stage").await;
    let mended = other.record_failure(failure("1", 1, at(1))).await.expect("the ledger answers");
    assert!(matches!(mended, Recorded::Counted { new: true, .. }), "{mended:?}");
    assert!(other.fault().is_none());
}

/// The reports of failures wait longer than a claim lasts: another process makes the attempt again.
async fn an_attempt_that_is_made_again_before_its_failure_is_counted_counts_once(ledger: &Ledger) {
    assert_eq!(ledger.admit("1", "w", at(0)).await, Admission::Send { attempt: 1 });
    let again = ledger.again("1", 1, Trigger::Sweeper, at(20)).await;
    assert!(matches!(admission(again), Admission::AskFirst { attempt: 1, .. }));
    for (worker, second) in [("w", 1), ("again-1-sweeper", 21), ("w", 1)] {
        let failed = FailedAttempt { worker: Some(worker.to_owned()), ..failed(1, at(second)) };
        ledger.fail(FailureRequest { failed, ..failure("1", 1, at(30)) }).await;
    }
    let order = ledger.order("1").await;
    assert_eq!((order.record.fail_count, order.attempts.len()), (1, 1));
    assert_eq!(order.record.claim, None, "the second worker's report ends its claim");
    let notices = ledger.store.due_notices(at(40), 10).await.expect("the ledger answers");
    assert_eq!(notices.len(), 1, "one notice, one mail");
    let report = ledger.store.check_ledger(None).await.expect("the ledger answers");
    assert!(report.violations.is_empty(), "{report:?}");
}
