//! A receipt is written without loading the order. Here the row after it is compared with what
//! `OrderRecord::confirm` makes of the row before, from every phase, with and without a claim.

use order_relay::domain::failure::ErrorClass;
use order_relay::domain::lifecycle::claim::Intent;
use order_relay::domain::lifecycle::transitions::ReceiptEffect;
use order_relay::domain::lifecycle::vocabulary::Trigger;
use order_relay::ports::orders::{AdmitRequest, FailureRequest, Incoming};

use super::{Ledger, act, at, failed_as, failure, key, placed};
use crate::world::order;

on_every_ledger!(
    a_receipt_does_to_the_row_what_the_domain_says,
    a_second_receipt_does_to_the_row_what_the_domain_says,
);

async fn brought_to(ledger: &Ledger, phase: &str, id: &str) {
    let fails_as =
        |class| FailureRequest { failed: failed_as(class, 1, at(1)), ..failure(id, 1, at(1)) };
    ledger.store.accept(placed(&order(id)), at(0)).await.expect("the ledger answers");
    match phase {
        "queued" => {}
        "held" => {
            let incoming = Incoming::Placed(placed(&order(id)));
            let request = AdmitRequest { incoming, intent: Intent::Hold, now: at(0) };
            ledger.store.admit(request).await.expect("the ledger answers");
        }
        "retrying" => drop(ledger.fail(fails_as(ErrorClass::Unavailable)).await),
        "parked" => drop(ledger.fail(fails_as(ErrorClass::Rejected)).await),
        "outcome_unknown" => drop(ledger.fail(fails_as(ErrorClass::UnknownOutcome)).await),
        "removed" => {
            let removed = ledger.store.remove_order(&key(id), &act("x", at(1))).await;
            removed.expect("the ledger answers").expect("it can be removed");
        }
        other => panic!("no order can be brought to {other} here"),
    }
    assert_eq!(ledger.phase(id).await, phase);
}

/// Compares the row after a receipt with the domain.
async fn is_confirmed_as_the_domain_says(ledger: &Ledger, id: &str, attempt: u32, number: &str) {
    let mut expected = ledger.order(id).await.record;
    let effect = expected.confirm(attempt, Some(number));
    if effect == ReceiptEffect::First {
        expected.version += 1;
        expected.updated_at = at(9);
    }
    let confirmed = ledger.confirm(id, attempt, number, at(9)).await;
    assert_eq!(ledger.order(id).await.record, expected, "{id}");
    assert_eq!(confirmed.first, effect == ReceiptEffect::First, "{id}");
    assert_eq!(confirmed.fail_count, expected.fail_count, "{id}");
    let other = match effect {
        ReceiptEffect::EnteredTwice(other) => other,
        ReceiptEffect::First | ReceiptEffect::Known => None,
    };
    assert_eq!(confirmed.other_erp_order_id, other, "{id}");
}

async fn a_receipt_does_to_the_row_what_the_domain_says(ledger: &Ledger) {
    for phase in ["queued", "held", "retrying", "parked", "outcome_unknown", "removed"] {
        for attempt in [1, 2, 7] {
            let id = format!("{phase}-{attempt}");
            brought_to(ledger, phase, &id).await;
            is_confirmed_as_the_domain_says(ledger, &id, attempt, "ERP-1").await;
        }
        if phase == "removed" {
            continue;
        }
        let id = format!("{phase}-claimed");
        brought_to(ledger, phase, &id).await;
        let next = ledger.order(&id).await.record.next_attempt();
        ledger.again(&id, next, Trigger::Operator, at(2)).await;
        assert!(ledger.order(&id).await.record.claim.is_some(), "{id}");
        is_confirmed_as_the_domain_says(ledger, &id, next, "ERP-1").await;
    }
}

async fn a_second_receipt_does_to_the_row_what_the_domain_says(ledger: &Ledger) {
    brought_to(ledger, "parked", "1").await;
    is_confirmed_as_the_domain_says(ledger, "1", 2, "ERP-1").await;
    is_confirmed_as_the_domain_says(ledger, "1", 2, "ERP-1").await;
    is_confirmed_as_the_domain_says(ledger, "1", 3, "ERP-2").await;
}
