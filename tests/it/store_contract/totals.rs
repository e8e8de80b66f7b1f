//! An order that the ERP has with another sum: what the ledger keeps of it.

use order_relay::domain::failure::Failure;
use order_relay::domain::lifecycle::vocabulary::Phase;
use order_relay::domain::total::{Amount, LineDifference, TotalDifference};
use order_relay::ports::orders::FailureRequest;

use super::{Ledger, act, at, failed, failure, key};

on_every_ledger!(
    a_difference_is_kept_with_its_failure_and_accepted_once,
    a_failure_without_a_difference_keeps_none,
);

fn euro(amount: &str) -> Amount {
    Amount { amount: amount.to_owned(), currency: Some("EUR".to_owned()) }
}

fn difference(found: &str) -> TotalDifference {
    let line = LineDifference {
        name: "line 1 'A'; <b>".to_owned(),
        paid: Some("119.00".to_owned()),
        found: None,
    };
    TotalDifference {
        paid: euro("119.00"),
        found: euro(found),
        erp_order_id: Some("S1".to_owned()),
        lines: vec![line],
    }
}

fn differing(attempt: u32, found: &str) -> FailureRequest {
    let mut failed = failed(attempt, at(attempt.into()));
    failed.failure = Failure::total_differs(difference(found));
    FailureRequest { failed, ..failure("1", attempt, at(attempt.into())) }
}

async fn a_difference_is_kept_with_its_failure_and_accepted_once(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    // The same failure may be counted twice; it is one difference.
    for _ in 0..2 {
        ledger.fail(differing(1, "141.61")).await;
    }
    let order = ledger.order("1").await;
    assert_eq!(order.record.phase, Phase::Parked, "a person decides");
    assert!(order.record.may_be_there(), "the ERP is asked before anything is sent");
    ledger.fail(differing(2, "130.00")).await;
    let found = ledger.order("1").await.total_differences;
    let told: Vec<_> =
        found.iter().map(|f| (f.attempt, f.found_at, f.difference.clone())).collect();
    assert_eq!(told, [(1, at(1), difference("141.61")), (2, at(2), difference("130.00"))]);

    let accepted =
        async || ledger.store.accepted_total(&key("1")).await.expect("the ledger answers");
    let accept = async |attempt| {
        let act = act("agreed", at(9));
        ledger.store.accept_total(&key("1"), attempt, &act).await.expect("the ledger answers")
    };
    assert_eq!(accepted().await, None);
    assert_eq!((accept(1).await, accept(1).await, accept(7).await), (true, false, false));
    assert_eq!(accepted().await, Some(euro("141.61")));
    assert!(accept(2).await);
    assert_eq!(accepted().await, Some(euro("130.00")), "the newest");
    let order = ledger.order("1").await;
    let acceptance = order.total_differences[0].accepted.as_ref().expect("it is accepted");
    assert_eq!((acceptance.at, acceptance.reason.as_str()), (at(9), "agreed"));
    let actions: Vec<&str> = order.audit.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["order.accept_total", "order.accept_total"]);
    let report = ledger.store.check_ledger(None).await.expect("the ledger answers");
    assert!(report.violations.is_empty(), "{report:?}");
}

async fn a_failure_without_a_difference_keeps_none(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    ledger.fail(failure("1", 1, at(1))).await;
    assert!(ledger.order("1").await.total_differences.is_empty());
    let accepted = ledger.store.accept_total(&key("1"), 1, &act("x", at(2))).await;
    assert!(!accepted.expect("the ledger answers"));
}
