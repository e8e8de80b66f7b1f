//! `ledger check` finds every inconsistent change of the rows.

use order_relay::ports::ledger::LedgerReport;

use super::{Ledger, at, failure, placed};
use crate::world::order;

on_every_ledger!(
    a_sound_ledger_adds_up,
    the_proof_holds_while_orders_come_in;
    only in SQL:
    an_order_that_vanished_is_missed,
    a_second_success_is_found,
    a_success_without_a_transfer_is_found,
    a_wrong_count_of_failures_is_found,
    a_failure_that_nobody_is_told_of_is_found,
    two_orders_under_one_number_of_the_erp_are_found,
    a_counter_that_says_something_else_than_the_rows_is_found,
    a_part_of_the_ledger_can_be_proved,
);

/// One order of every outcome.
async fn fill(ledger: &Ledger) {
    ledger.store.accept(placed(&order("queued")), at(0)).await.expect("the ledger answers");
    ledger.admit("retrying", "w", at(1)).await;
    ledger.fail(failure("retrying", 1, at(2))).await;
    ledger.parked("parked", at(3)).await;
    for (n, id) in ["done-1", "done-2"].into_iter().enumerate() {
        ledger.admit(id, "w", at(4)).await;
        ledger.confirm(id, 1, &format!("ERP-{n}"), at(5)).await;
    }
}

async fn report(ledger: &Ledger) -> LedgerReport {
    ledger.store.check_ledger(None).await.expect("the ledger can be checked")
}

/// The promises that are broken, with the first example of each.
async fn broken(ledger: &Ledger) -> Vec<(&'static str, String)> {
    let violations = report(ledger).await.violations.into_iter();
    violations.map(|v| (v.promise, v.examples.first().cloned().unwrap_or_default())).collect()
}

async fn a_sound_ledger_adds_up(ledger: &Ledger) {
    fill(ledger).await;
    let LedgerReport {
        received,
        confirmed,
        lost,
        queued,
        held,
        gone,
        difference,
        settled_second_entries,
        violations,
    } = report(ledger).await;
    assert_eq!((settled_second_entries, gone), (0, 0));
    assert_eq!((received, confirmed, lost, queued, held, difference), (5, 2, 2, 1, 0, 0));
    assert!(violations.is_empty(), "{violations:?}");
}

async fn an_order_that_vanished_is_missed(ledger: &Ledger) {
    fill(ledger).await;
    assert_eq!(ledger.tamper("DELETE FROM orders WHERE order_id = 'done-1'").await, 1);
    let report = report(ledger).await;
    assert_eq!((report.received, report.difference), (5, 1));
    assert_eq!(ledger.store.count_difference().await.expect("the ledger answers"), 1);
}

async fn a_second_success_is_found(ledger: &Ledger) {
    fill(ledger).await;
    let second =
        "INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, occurred_at_ms,
        duration_ms) VALUES ('default', 'done-1', 2, 'succeeded', 'retry', 1, 1)";
    ledger.tamper(second).await;
    let promise = "a transferred order has exactly one successful attempt";
    assert_eq!(broken(ledger).await, [(promise, "default/done-1".to_owned())]);
    ledger.tamper("DELETE FROM attempts WHERE order_id = 'done-1'").await;
    ledger.tamper("UPDATE order_states SET attempt = NULL WHERE order_id = 'done-1'").await;
    assert_eq!(broken(ledger).await, [(promise, "default/done-1".to_owned())], "none is as wrong");
}

async fn a_success_without_a_transfer_is_found(ledger: &Ledger) {
    fill(ledger).await;
    let success =
        "INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, occurred_at_ms,
        duration_ms) VALUES ('default', 'parked', 2, 'succeeded', 'retry', 1, 1)";
    ledger.tamper(success).await;
    let promise = "an order that is not transferred has no successful attempt";
    assert_eq!(broken(ledger).await, [(promise, "default/parked".to_owned())]);
}

async fn a_wrong_count_of_failures_is_found(ledger: &Ledger) {
    fill(ledger).await;
    ledger.tamper("UPDATE order_states SET fail_count = 2 WHERE order_id = 'retrying'").await;
    let promises: Vec<&str> =
        broken(ledger).await.into_iter().map(|(promise, _)| promise).collect();
    assert_eq!(
        promises,
        [
            "fail_count equals the failed attempts",
            "every failed attempt has its notice to the administrators",
        ]
    );
}

async fn a_failure_that_nobody_is_told_of_is_found(ledger: &Ledger) {
    fill(ledger).await;
    assert_eq!(ledger.tamper("DELETE FROM notices WHERE order_id = 'parked'").await, 1);
    let promise = "every failed attempt has its notice to the administrators";
    assert_eq!(broken(ledger).await, [(promise, "default/parked".to_owned())]);
}

async fn two_orders_under_one_number_of_the_erp_are_found(ledger: &Ledger) {
    fill(ledger).await;
    ledger.tamper("UPDATE order_states SET erp_order_id = 'ERP-0' WHERE order_id = 'done-2'").await;
    let promise = "no two orders of a shop have the same number in the ERP";
    assert_eq!(broken(ledger).await, [(promise, "default/done-1".to_owned())]);
}

async fn a_counter_that_says_something_else_than_the_rows_is_found(ledger: &Ledger) {
    fill(ledger).await;
    let promise = "the counters of orders and money equal the rows";
    assert!(ledger.tamper("UPDATE moves SET nanos = nanos + 1 WHERE phase = 'queued'").await > 0);
    assert_eq!(broken(ledger).await, [(promise, "default payed queued EUR ".to_owned())]);
    assert!(ledger.store.check_ledger(Some(at(0))).await.expect("answers").violations.is_empty());
}

async fn a_part_of_the_ledger_can_be_proved(ledger: &Ledger) {
    fill(ledger).await;
    let since = |seconds| ledger.store.check_ledger(Some(at(seconds)));
    let part = since(3).await.expect("the ledger can be checked");
    assert_eq!((part.received, part.confirmed, part.lost, part.difference), (3, 2, 1, 0));
    ledger.tamper("UPDATE order_states SET fail_count = 9 WHERE order_id = 'retrying'").await;
    assert!(since(3).await.expect("it can be checked").violations.is_empty());
    assert_eq!(since(1).await.expect("it can be checked").violations.len(), 2);
}

async fn the_proof_holds_while_orders_come_in(ledger: &Ledger) {
    let other = ledger.opened_again();
    let comes_in = async {
        for n in 0..150 {
            other.accept(placed(&order(&format!("L-{n}"))), at(n)).await.expect("answers");
        }
    };
    let proves = async {
        for _ in 0..25 {
            assert_eq!(report(ledger).await.difference, 0, "nothing is lost, it is only new");
        }
    };
    tokio::join!(comes_in, proves);
}
