//! What is old goes in small pieces, is counted, and never comes back.

use std::time::Duration;

use futures_util::future::join;
use order_relay::domain::failure::Stage;
use order_relay::domain::lifecycle::vocabulary::Trigger;
use order_relay::domain::order::fault::{Fault, Reason};
use order_relay::domain::order_filter::ShopFilter;
use order_relay::domain::retention::OldKind;
use order_relay::domain::trace::Headers;
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::dead_letters::{NewDeadLetter, Resolution};
use order_relay::ports::erp::Exchange;
use order_relay::ports::orders::{
    Accepted, AdmitRequest, Admitted, FailureRequest, Incoming, KeepRequest, Recorded,
};
use order_relay::ports::retention::Deleted;
use serde_json::json;

use super::{Ledger, act, at, claim, failure, key, placed};
use crate::world::{order, order_with};

on_every_ledger!(
    an_old_order_goes_and_is_never_entered_again,
    what_is_not_finished_stays,
    an_order_that_changed_since_it_was_noted_stays,
    what_happened_is_told_after_the_orders_are_gone,
    what_was_noted_by_a_process_that_died_goes_with_the_next,
    other_records_go_on_their_own;
    only in SQL:
    a_message_that_is_on_its_way_puts_no_order_in_again,
    what_is_left_of_an_order_that_is_gone_is_proved,
    no_row_of_an_order_that_is_gone_stays,
);

async fn done(ledger: &Ledger, id: &str, now: i64) {
    ledger.admit(id, "w", at(now)).await;
    ledger.confirm(id, 1, &format!("ERP-{id}"), at(now + 1)).await;
}

/// Received, confirmed, gone; the ledger is sound.
async fn counts(ledger: &Ledger) -> (u64, u64, u64) {
    let report = ledger.store.check_ledger(None).await.expect("the ledger can be checked");
    assert!(report.difference == 0 && report.violations.is_empty(), "{report:?}");
    assert_eq!(ledger.store.count_difference().await.expect("answers"), 0);
    (report.received, report.confirmed, report.gone)
}

async fn note(ledger: &Ledger, kind: OldKind, before: i64) -> u64 {
    ledger.store.note_old_orders(kind, at(before), 10).await.expect("the ledger answers")
}

async fn delete(ledger: &Ledger) -> Deleted {
    ledger.store.delete_noted_orders(10, at(9_000)).await.expect("the ledger answers")
}

async fn admit(ledger: &Ledger, document: &str) -> Admitted {
    let request = AdmitRequest {
        incoming: Incoming::Placed(placed(document)),
        intent: claim("again", at(9_100)),
        now: at(9_100),
    };
    ledger.store.admit(request).await.expect("the ledger answers")
}

fn another(id: &str) -> String {
    order_with(id, &json!({"total": "1.23"}))
}

async fn an_old_order_goes_and_is_never_entered_again(ledger: &Ledger) {
    done(ledger, "old", 0).await;
    done(ledger, "young", 500).await;
    let old = ledger.store.count_old(OldKind::Confirmed, at(100)).await.expect("answers");
    assert_eq!((old, note(ledger, OldKind::Confirmed, 100).await), (1, 1));
    assert_eq!(counts(ledger).await, (2, 2, 0), "noted, and still there");
    assert!(matches!(admit(ledger, &order("old")).await, Admitted::Known { new: false, .. }));
    assert_eq!(delete(ledger).await, Deleted { seen: 1, gone: 1 });
    assert_eq!(counts(ledger).await, (2, 1, 1));
    assert!(ledger.store.order(&key("old")).await.expect("answers").is_none());

    let spaced = order("old").replace(':', ": ");
    for same in [order("old"), spaced] {
        let accepted = ledger.store.accept(placed(&same), at(9_100)).await.expect("answers");
        assert_eq!(accepted, Accepted::Duplicate);
        assert!(matches!(admit(ledger, &same).await, Admitted::Gone { same: true }));
    }
    assert!(matches!(admit(ledger, &another("old")).await, Admitted::Gone { same: false }));
    let accepted = ledger.store.accept(placed(&another("old")), at(9_100)).await.expect("answers");
    assert_eq!(accepted, Accepted::NumberTaken);
    let again = ledger.again("old", 2, Trigger::Sweeper, at(9_100)).await;
    assert!(matches!(again, Admitted::Gone { same: true }));
    let with_order =
        FailureRequest { order: Some(placed(&order("old"))), ..failure("old", 2, at(9_100)) };
    assert!(matches!(ledger.fail(with_order).await, Recorded::Invalid(_)));
    assert_eq!(counts(ledger).await, (2, 1, 1), "nothing of all that put it in again");
    let left = ledger.store.gone_order(&key("old")).await.expect("answers").expect("it is known");
    assert_eq!((left.erp_order_id.as_deref(), left.kind.as_str()), (Some("ERP-old"), "confirmed"));
    assert_eq!(note(ledger, OldKind::Confirmed, 100).await, 0, "the young one stays");
}

async fn what_is_not_finished_stays(ledger: &Ledger) {
    ledger.store.accept(placed(&order("queued")), at(0)).await.expect("the ledger answers");
    ledger.admit("retrying", "w", at(1)).await;
    ledger.fail(failure("retrying", 1, at(2))).await;
    ledger.parked("parked", at(3)).await;
    // It failed before, and nobody was told of that yet.
    ledger.parked("untold", at(4)).await;
    ledger.confirm("untold", 2, "ERP-1", at(5)).await;
    for kind in [OldKind::Confirmed, OldKind::Removed] {
        assert_eq!(note(ledger, kind, 1_000).await, 0);
        assert_eq!(ledger.store.count_old(kind, at(1_000)).await.expect("answers"), 0);
    }
    assert_eq!(delete(ledger).await, Deleted::default());
    assert_eq!(counts(ledger).await, (4, 1, 0));
    // What could go later is not passed over.
    removed(ledger, "later").await;
    assert_eq!(note(ledger, OldKind::Removed, 1_000).await, 1);
}

/// An order that a person removed, of whose failure everybody was told.
async fn removed(ledger: &Ledger, id: &str) {
    ledger.store.accept(placed(&order(id)), at(0)).await.expect("the ledger answers");
    let act = act("a test", at(1));
    ledger.store.remove_order(&key(id), &act).await.expect("answers").expect("it can be removed");
}

async fn an_order_that_changed_since_it_was_noted_stays(ledger: &Ledger) {
    removed(ledger, "back").await;
    removed(ledger, "gone").await;
    assert_eq!(note(ledger, OldKind::Confirmed, 100).await, 0, "another kind");
    assert_eq!(note(ledger, OldKind::Removed, 100).await, 2);
    let act = act("not a test", at(50));
    ledger.store.restore_order(&key("back"), &act).await.expect("answers").expect("restored");
    assert_eq!(delete(ledger).await, Deleted { seen: 2, gone: 1 });
    assert_eq!(counts(ledger).await, (2, 0, 1));
    assert_ne!(ledger.phase("back").await, "removed");
    assert!(ledger.store.gone_order(&key("back")).await.expect("answers").is_none());
}

async fn what_happened_is_told_after_the_orders_are_gone(ledger: &Ledger) {
    for n in 0..5 {
        done(ledger, &n.to_string(), n).await;
    }
    let store = &ledger.store;
    let all = ShopFilter::default();
    let flow = || store.flow(&all, at(-3_600), Duration::from_hours(1));
    let before = flow().await.expect("the ledger answers");
    note(ledger, OldKind::Confirmed, 100).await;
    delete(ledger).await;
    store.fold_statistics(at(10_000)).await.expect("the ledger answers");
    assert_eq!(flow().await.expect("the ledger answers"), before);
    let tally = store.tally(&ShopFilter::default()).await.expect("the ledger answers");
    assert_eq!((tally.received, tally.standing.len()), (5, 0));
    assert_eq!(counts(ledger).await, (5, 0, 5));
}

async fn what_was_noted_by_a_process_that_died_goes_with_the_next(ledger: &Ledger) {
    for n in 0..3 {
        done(ledger, &n.to_string(), n).await;
    }
    assert_eq!(note(ledger, OldKind::Confirmed, 100).await, 3);
    let next = ledger.opened_again();
    for (seen, gone) in [(2, 2), (1, 1), (0, 0)] {
        let deleted = next.delete_noted_orders(2, at(200)).await.expect("the ledger answers");
        assert_eq!(deleted, Deleted { seen, gone });
        counts(ledger).await;
    }
    assert_eq!(counts(ledger).await, (3, 0, 3));
    let removals = next.removals().await.expect("the ledger answers");
    let removals: Vec<_> = removals.iter().map(|r| (r.kind.as_str(), r.removed, r.last)).collect();
    assert_eq!(removals, [("confirmed", 3, at(200))]);
}

pub fn exchange_of(body: &str) -> Exchange {
    Exchange {
        step: "create".to_owned(),
        question: false,
        method: "POST".to_owned(),
        url: "http://erp/orders".to_owned(),
        request_headers: String::new(),
        request_body: body.to_owned(),
        status: Some(201),
        stage: Stage::After,
        meaning: "ok".to_owned(),
        message: None,
        reply: "{}".to_owned(),
        duration_ms: 7,
    }
}

async fn exchange(ledger: &Ledger, id: &str) {
    let (worker, exchanges) = ("w".to_owned(), vec![exchange_of(&order(id))]);
    let keep =
        KeepRequest { key: key(id), attempt: 1, worker, exchanges, only_asked: false, now: at(1) };
    ledger.store.keep_exchanges(keep).await.expect("the ledger answers");
}

async fn dead_letter(ledger: &Ledger, body: &[u8]) {
    let letter = NewDeadLetter {
        id: SystemClock.unique_id(),
        source: "orders.submit".to_owned(),
        fault: Fault::at(Reason::Schema, "/total", "missing"),
        body: body.to_vec(),
        headers: Headers::default(),
        exchange: "orders".to_owned(),
        routing_key: "order.placed".to_owned(),
        now: at(0),
    };
    ledger.store.record_dead_letter(letter).await.expect("the ledger answers");
}

async fn other_records_go_on_their_own(ledger: &Ledger) {
    let store = &ledger.store;
    done(ledger, "done", 0).await;
    exchange(ledger, "done").await;
    ledger.parked("lost", at(2)).await;
    exchange(ledger, "lost").await;
    dead_letter(ledger, b"{").await;
    let settled = store.list_dead_letters(true, 1).await.expect("answers").remove(0);
    let by = act("nothing", at(3));
    store.resolve_dead_letter(settled.id, Resolution::Discarded, &by).await.expect("answers");
    dead_letter(ledger, b"[").await;
    for (kind, old) in [
        (OldKind::Exchanges, 1),
        (OldKind::DeadLetters, 1),
        (OldKind::Audit, 1),
        (OldKind::Mails, 0),
    ] {
        assert_eq!(store.count_old(kind, at(100)).await.expect("answers"), old, "{kind:?}");
        let removed = store.delete_old(kind, at(100), 10, at(200)).await.expect("answers");
        assert_eq!(removed, old, "{kind:?}");
        assert_eq!(store.delete_old(kind, at(100), 10, at(200)).await.expect("answers"), 0);
    }
    assert!(ledger.order("done").await.exchanges.is_empty());
    assert_eq!(ledger.order("lost").await.exchanges.len(), 1);
    assert_eq!(store.list_dead_letters(false, 9).await.expect("answers").len(), 1);
    assert_eq!(counts(ledger).await, (2, 1, 0));
}

async fn a_message_that_is_on_its_way_puts_no_order_in_again(ledger: &Ledger) {
    let other = ledger.opened_again();
    for n in 0..25 {
        let id = n.to_string();
        done(ledger, &id, n).await;
        let goes = async {
            note(ledger, OldKind::Confirmed, 1_000).await;
            delete(ledger).await;
        };
        let comes = async {
            for _ in 0..6 {
                let accepted = other.accept(placed(&order(&id)), at(2_000)).await;
                assert_eq!(
                    accepted.expect("the ledger answers"),
                    Accepted::Duplicate,
                    "order {id}"
                );
            }
        };
        join(goes, comes).await;
    }
    assert_eq!(counts(ledger).await, (25, 0, 25));
}

async fn what_is_left_of_an_order_that_is_gone_is_proved(ledger: &Ledger) {
    done(ledger, "old", 0).await;
    note(ledger, OldKind::Confirmed, 100).await;
    delete(ledger).await;
    assert_eq!(ledger.tamper("DELETE FROM gone_orders").await, 1);
    let report = ledger.store.check_ledger(None).await.expect("the ledger can be checked");
    let promise = "of every order that is gone its number and its end are left";
    assert_eq!(report.violations[0].promise, promise);
}

async fn no_row_of_an_order_that_is_gone_stays(ledger: &Ledger) {
    done(ledger, "old", 0).await;
    exchange(ledger, "old").await;
    ledger.store.accept(placed(&another("old")), at(3)).await.expect("answers");
    note(ledger, OldKind::Confirmed, 100).await;
    delete(ledger).await;
    for table in ["orders", "order_states", "attempts", "exchanges", "conflicts", "notices"] {
        assert_eq!(ledger.tamper(&format!("DELETE FROM {table}")).await, 0, "{table}");
    }
}
