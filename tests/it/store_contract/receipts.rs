//! A receipt is written without loading the order. Here the row after it is compared with what
//! `OrderRecord::confirm` makes of the row before, from every phase, with and without a claim.

use order_relay::domain::failure::ErrorClass;
use order_relay::domain::lifecycle::claim::Intent;
use order_relay::domain::lifecycle::transitions::ReceiptEffect;
use order_relay::domain::lifecycle::vocabulary::Trigger;
use order_relay::domain::notice::NoticeKind;
use order_relay::domain::order_filter::ShopFilter;
use order_relay::ports::orders::{AdmitRequest, ConfirmRequest, FailureRequest, Incoming};

use super::{Ledger, act, at, failed_as, failure, key, placed, receipt};
use crate::world::order;

on_every_ledger!(
    a_receipt_does_to_the_row_what_the_domain_says,
    a_second_receipt_does_to_the_row_what_the_domain_says,
    a_second_number_is_a_row_with_one_notice_until_a_person_settles_it,
    a_second_number_of_the_same_attempt_is_found,
    a_receipt_without_a_number_is_no_second_entry,
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

/// Orders that `ledger check` names, with the promise.
async fn broken(ledger: &Ledger) -> Vec<String> {
    let report = ledger.store.check_ledger(None).await.expect("the ledger answers");
    report.violations.into_iter().flat_map(|violation| violation.examples).collect()
}

async fn a_second_number_is_a_row_with_one_notice_until_a_person_settles_it(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    assert!(!ledger.confirm("1", 1, "ERP-1", at(1)).await.is_new_double);
    let second = ledger.confirm("1", 2, "ERP-2", at(2)).await;
    assert_eq!((second.is_new_double, second.other_erp_order_id.as_deref()), (true, Some("ERP-1")));
    for attempt in [2, 3] {
        assert!(!ledger.confirm("1", attempt, "ERP-2", at(3)).await.is_new_double, "{attempt}");
    }
    assert!(ledger.confirm("1", 1, "ERP-3", at(4)).await.is_new_double);
    let entries = ledger.order("1").await.second_entries;
    let told: Vec<_> = entries
        .iter()
        .map(|e| {
            (e.number.as_str(), e.first_number.as_str(), e.attempt, e.worker.as_str(), e.found_at)
        })
        .collect();
    assert_eq!(told, [("ERP-2", "ERP-1", 2, "w", at(2)), ("ERP-3", "ERP-1", 1, "w", at(4))]);
    assert!(entries.iter().all(|entry| entry.settled.is_none()));
    let notices = ledger.store.due_notices(at(9), 10).await.expect("the ledger answers");
    let notices: Vec<_> = notices
        .into_iter()
        .filter(|notice| notice.kind == NoticeKind::EnteredTwice)
        .map(|notice| (notice.detail.first_erp_order_id, notice.detail.erp_order_id))
        .collect();
    let pair = |second: &str| (Some("ERP-1".to_owned()), Some(second.to_owned()));
    assert_eq!(notices, [pair("ERP-2"), pair("ERP-3")], "one for each number");
    assert_eq!(broken(ledger).await, ["default/1"]);
    let count = async |shops: ShopFilter| {
        ledger.store.count_entered_twice(&shops).await.expect("the ledger answers")
    };
    assert_eq!(count(ShopFilter::default()).await, 1, "one order");
    assert_eq!(count(ShopFilter::Only(vec!["other".to_owned()])).await, 0);

    let settle = async || {
        let (key, act) = (key("1"), act("cancelled both", at(5)));
        ledger.store.settle_second_entries(&key, &act).await.expect("the ledger answers")
    };
    assert_eq!((settle().await, settle().await), (2, 0));
    let report = ledger.store.check_ledger(None).await.expect("the ledger answers");
    assert!(report.violations.is_empty(), "{report:?}");
    assert_eq!((report.settled_second_entries, count(ShopFilter::default()).await), (2, 0));
    let order = ledger.order("1").await;
    let settled = order.second_entries[0].settled.as_ref().expect("it is settled");
    assert_eq!((settled.at, settled.reason.as_str()), (at(5), "cancelled both"));
    let actions: Vec<&str> = order.audit.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["order.settle_double"]);

    assert!(!ledger.confirm("1", 2, "ERP-2", at(6)).await.is_new_double, "settled is settled");
    assert!(ledger.confirm("1", 4, "ERP-4", at(7)).await.is_new_double);
    assert_eq!(broken(ledger).await, ["default/1"], "another one is another matter");
}

async fn a_second_number_of_the_same_attempt_is_found(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    ledger.confirm("1", 1, "ERP-1", at(1)).await;
    assert!(ledger.confirm("1", 1, "ERP-2", at(2)).await.is_new_double);
    assert_eq!(broken(ledger).await, ["default/1"]);
}

async fn a_receipt_without_a_number_is_no_second_entry(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    ledger.confirm("1", 1, "ERP-1", at(1)).await;
    let without = ConfirmRequest { erp_order_id: None, ..receipt("1", 1, "", at(2)) };
    let confirmed = ledger.store.confirm(without).await.expect("the ledger answers");
    assert!(!confirmed.is_new_double);
    assert!(broken(ledger).await.is_empty());
}
