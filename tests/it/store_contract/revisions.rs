//! Editing: revisions beside the original, one editor at a time, and what is sent afterwards.

use std::sync::Arc;

use futures_util::future::join;
use order_relay::domain::failure::ErrorClass;
use order_relay::domain::lifecycle::claim::Admission;
use order_relay::domain::lifecycle::transitions::InvalidTransition;
use order_relay::domain::lifecycle::vocabulary::Trigger;
use order_relay::domain::order::document::Order;
use order_relay::domain::order::intake_rules::IntakeRules;
use order_relay::domain::order_filter::OrderFilter;
use order_relay::ports::order_desk::{EditRequest, NotEdited};
use order_relay::ports::orders::{Admitted, FailureRequest};
use serde_json::json;

use super::{Ledger, act, at, failed_as, failure, key, placed};
use crate::world::{order, order_with};

on_every_ledger!(
    an_edited_order_is_sent_as_it_was_edited,
    the_original_stays_what_duplicates_are_compared_with,
    of_two_editors_the_second_is_told,
    only_a_lost_order_that_nobody_transfers_can_be_edited,
    lists_follow_what_an_order_says_now,
);

fn edit(id: &str, base_revision: u32, document: &str, seconds: i64) -> EditRequest {
    let edited =
        Order::parse(document.as_bytes(), &IntakeRules::of_bytes(1 << 20)).expect("a good order");
    EditRequest {
        key: key(id),
        base_revision,
        edited: Arc::new(edited),
        places: "/remark".to_owned(),
        act: act("mended", at(seconds)),
    }
}

fn remarked(id: &str, remark: &str) -> String {
    order_with(id, &json!({"remark": remark}))
}

fn sent(admitted: Admitted) -> (Admission, Arc<str>) {
    match admitted {
        Admitted::Known { admission, document, .. } => (admission, document),
        Admitted::Unknown | Admitted::Gone { .. } => panic!("the ledger does not know the order"),
    }
}

async fn an_edited_order_is_sent_as_it_was_edited(ledger: &Ledger) {
    ledger.parked("1", at(0)).await;
    for (base, text) in [(0, "first"), (1, "second")] {
        let edited = ledger.store.edit_order(edit("1", base, &remarked("1", text), 10)).await;
        let record = edited.expect("the ledger answers").expect("it may be edited");
        assert_eq!(record.revision, base + 1);
        assert_eq!(ledger.order("1").await.record, record, "told as it is kept");
    }
    let stored = ledger.order("1").await;
    assert_eq!(&*stored.document, order("1"), "what came stays");
    assert_eq!(&**stored.current(), remarked("1", "second"));
    let told: Vec<_> = stored.revisions.iter().map(|r| (r.revision, &*r.actor)).collect();
    assert_eq!(told, [(1, "test"), (2, "test")]);
    assert_eq!(stored.audit.len(), 2);
    assert_eq!(stored.audit[1].action, "order.edit");
    assert_eq!(stored.audit[1].before.as_deref(), Some("revision 1"));
    assert_eq!(stored.audit[1].after.as_deref(), Some("revision 2: /remark"));
    let (admission, document) = sent(ledger.again("1", 2, Trigger::Operator, at(20)).await);
    assert_eq!(admission, Admission::Send { attempt: 2 });
    assert_eq!(&*document, remarked("1", "second"));
    ledger.confirm("1", 2, "ERP-1", at(21)).await;
    let report = ledger.store.check_ledger(None).await.expect("the ledger answers");
    assert!(report.difference == 0 && report.violations.is_empty(), "{report:?}");
}

async fn the_original_stays_what_duplicates_are_compared_with(ledger: &Ledger) {
    ledger.parked("1", at(0)).await;
    let edited = ledger.store.edit_order(edit("1", 0, &remarked("1", "x"), 1)).await;
    edited.expect("the ledger answers").expect("it may be edited");
    let before = ledger.order("1").await.record;
    let spaced = order("1").replace(':', " : ");
    for original in [order("1"), spaced] {
        let admitted = ledger.admit_placed(placed(&original), "w2", at(2)).await;
        let Admitted::Known { admission, conflict, new, document, .. } = admitted else {
            panic!("it is known");
        };
        assert_eq!((admission, conflict, new), (Admission::Stale, false, false));
        assert_eq!(&*document, remarked("1", "x"), "the original is never sent any more");
    }
    let edited_again = ledger.admit_placed(placed(&remarked("1", "x")), "w3", at(3)).await;
    assert!(matches!(edited_again, Admitted::Known { conflict: true, .. }), "not what came first");
    assert_eq!(ledger.order("1").await.record, before);
}

async fn of_two_editors_the_second_is_told(ledger: &Ledger) {
    ledger.parked("1", at(0)).await;
    let other = ledger.opened_again();
    let (one, two) = join(
        ledger.store.edit_order(edit("1", 0, &remarked("1", "a"), 1)),
        other.edit_order(edit("1", 0, &remarked("1", "b"), 1)),
    )
    .await;
    let results = [one.expect("answers"), two.expect("answers")];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let newer = results.into_iter().find_map(Result::err).expect("one is refused");
    let NotEdited::Newer(newer) = newer else { panic!("{newer:?}") };
    assert_eq!((newer.revision, newer.actor.as_str(), newer.at), (1, "test", at(1)));
    assert_eq!(ledger.order("1").await.revisions.len(), 1);
    let ahead = ledger.store.edit_order(edit("1", 7, &remarked("1", "c"), 2)).await;
    assert!(matches!(ahead.expect("answers"), Err(NotEdited::Newer(newer)) if newer.revision == 1));
    let nobody = ledger.store.edit_order(edit("none", 0, &order("none"), 2)).await;
    assert!(matches!(nobody.expect("answers"), Err(NotEdited::Unknown)));
}

async fn only_a_lost_order_that_nobody_transfers_can_be_edited(ledger: &Ledger) {
    ledger.admit("queued", "w", at(0)).await;
    ledger.admit("confirmed", "w", at(0)).await;
    ledger.confirm("confirmed", 1, "ERP-1", at(1)).await;
    ledger.parked("claimed", at(0)).await;
    ledger.again("claimed", 2, Trigger::Operator, at(1)).await;
    ledger.admit("unknown", "w", at(0)).await;
    let unclear = failed_as(ErrorClass::UnknownOutcome, 1, at(1));
    ledger.fail(FailureRequest { failed: unclear, ..failure("unknown", 1, at(1)) }).await;
    let refused = async |id: &str, seconds| {
        let before = ledger.order(id).await.record;
        let edited = ledger.store.edit_order(edit(id, 0, &remarked(id, "x"), seconds)).await;
        assert_eq!(ledger.order(id).await.record, before, "{id} is as it was");
        match edited.expect("the ledger answers") {
            Err(NotEdited::Invalid(invalid)) => invalid,
            other => panic!("{id}: {other:?}"),
        }
    };
    for id in ["confirmed"] {
        let invalid = refused(id, 5).await;
        assert!(matches!(invalid, InvalidTransition::InvalidState { .. }), "{id}: {invalid:?}");
    }
    assert_eq!(refused("queued", 5).await, InvalidTransition::Busy);
    assert_eq!(refused("claimed", 5).await, InvalidTransition::Busy);
    assert_eq!(refused("claimed", 500).await, InvalidTransition::Unclear, "its holder died");
    assert_eq!(refused("unknown", 5).await, InvalidTransition::Unclear);
}

async fn lists_follow_what_an_order_says_now(ledger: &Ledger) {
    ledger.parked("1", at(0)).await;
    let document = order_with(
        "1",
        &json!({
            "currency": "CHF",
            "total": "12.50",
            "customer": {"number": "C-2", "name": "Kim", "email": "kim@example.com"},
            "payment": {"method": "invoice"},
            "lines": [{"sku": "4712", "quantity": 1, "unit_price": "12.50"}],
        }),
    );
    let edited = ledger.store.edit_order(edit("1", 0, &document, 1)).await;
    edited.expect("the ledger answers").expect("it may be edited");
    let facts = ledger.order("1").await.record.facts;
    assert_eq!((facts.currency.as_str(), facts.total.as_str()), ("CHF", "12.50"));
    assert_eq!(facts.customer.email.expect("it has one").as_str(), "kim@example.com");
    let found = async |pairs: &[(&str, &str)]| {
        let filter = OrderFilter::from_pairs(pairs.iter().copied(), at(0)).expect("a filter");
        ledger.store.count_orders(&filter).await.expect("the ledger answers")
    };
    assert_eq!(found(&[("sku", "4712"), ("payment", "invoice"), ("customer", "C-2")]).await, 1);
    assert_eq!(found(&[("sku", "4711")]).await, 0);
    let tally = ledger.store.tally(&Default::default()).await.expect("the ledger answers");
    let money: Vec<_> = tally.standing.iter().flat_map(|standing| &standing.money).collect();
    assert_eq!(money.len(), 1, "{money:?}");
    assert_eq!((money[0].currency.as_str(), money[0].amount.as_str()), ("CHF", "12.50"));
}
