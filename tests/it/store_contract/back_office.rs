//! What people look at and do by hand: lists, pages, search, removing, dead letters.

use jiff::Timestamp;
use order_relay::domain::failure::{ErrorClass, Stage};
use order_relay::domain::lifecycle::claim::Admission;
use order_relay::domain::lifecycle::transitions::InvalidTransition;
use order_relay::domain::lifecycle::vocabulary::{OrderState, Trigger};
use order_relay::domain::order::fault::{Fault, Reason};
use order_relay::domain::order_filter::{OrderFilter, Sort};
use order_relay::domain::trace::Headers;
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::dead_letters::{NewDeadLetter, Resolution};
use order_relay::ports::erp::Exchange;
use order_relay::ports::orders::KeepRequest;
use serde_json::json;

use super::{Ledger, act, at, failure, key, placed};
use crate::world::order_with;

on_every_ledger!(
    every_filter_finds_what_it_names,
    a_search_takes_every_character_for_itself,
    a_search_finds_letters_of_any_alphabet_in_either_case,
    removing_deletes_nothing_and_can_be_undone,
    an_order_under_way_is_not_removed,
    a_person_can_say_that_an_unclear_order_is_not_there,
    exchanges_are_kept_once_and_a_later_question_replaces_an_earlier_one,
    a_number_is_found_in_every_shop,
    a_dead_letter_that_comes_again_is_counted,
    a_dead_letter_is_settled_once,
    a_list_holds_the_begin_of_large_dead_letters,
    any_bytes_can_be_a_dead_letter,
    a_dead_letter_keeps_its_bytes_and_the_beginning_of_what_surrounds_them,
);

async fn listed(ledger: &Ledger, filter: OrderFilter) -> Vec<String> {
    let orders = ledger
        .store
        .page_orders(&filter, Sort::default(), None, 1_000)
        .await
        .expect("the ledger answers");
    orders.into_iter().map(|order| order.key.order_id.to_string()).collect()
}

fn search(text: &str) -> OrderFilter {
    OrderFilter { search: Some(text.to_owned()), ..Default::default() }
}

async fn every_filter_finds_what_it_names(ledger: &Ledger) {
    let customer = json!({"email": "kim@example.com", "number": "C-7", "name": "Kim"});
    let other = order_with("1", &json!({"shop": "at", "customer": customer}));
    ledger.store.accept(placed(&other), at(0)).await.expect("the ledger answers");
    ledger.parked("2", at(10)).await;
    ledger.admit("3", "w", at(20)).await;
    ledger.confirm("3", 1, "ERP-3", at(21)).await;
    let all = OrderFilter::default;
    for (filter, expected) in [
        (all(), vec!["3", "2", "1"]),
        (OrderFilter { state: Some(OrderState::OrderedFailed), ..all() }, vec!["2"]),
        (OrderFilter { phase: Some("queued".to_owned()), ..all() }, vec!["1"]),
        (OrderFilter { shop: Some("at".to_owned()), ..all() }, vec!["1"]),
        (OrderFilter { customer: Some("C-7".to_owned()), ..all() }, vec!["1"]),
        (OrderFilter { customer: Some("erika@example.com".to_owned()), ..all() }, vec!["3", "2"]),
        (OrderFilter { class: Some("rejected".to_owned()), ..all() }, vec!["2"]),
        (OrderFilter { since: Some(at(10)), ..all() }, vec!["3", "2"]),
        (OrderFilter { until: Some(at(10)), ..all() }, vec!["1"]),
        (search("KIM@"), vec!["1"]),
        (search("MAINTEN"), vec!["2"]),
        (search("ERP-3"), vec!["3"]),
        (search("C-7"), vec!["1"]),
        // A part of those would find too much.
        (search("ERP-"), vec![]),
        (OrderFilter { shop: Some("at".to_owned()), ..search("erika") }, vec![]),
    ] {
        assert_eq!(listed(ledger, filter.clone()).await, expected, "{filter:?}");
    }
}

async fn a_search_takes_every_character_for_itself(ledger: &Ledger) {
    let names = [
        "50% off",
        "50x off",
        "snake_case",
        "snakeXcase",
        "wow!",
        "O'Hara \"x\"",
        "back\\slash",
        "🦀",
    ];
    for (n, name) in names.into_iter().enumerate() {
        let customer = json!({"email": "a@example.com", "name": name});
        let document = order_with(&format!("S-{n}"), &json!({"customer": customer}));
        ledger.store.accept(placed(&document), at(0)).await.expect("the ledger answers");
    }
    for (text, expected) in [
        ("50%", vec!["S-0"]),
        ("e_c", vec!["S-2"]),
        ("w!", vec!["S-4"]),
        ("o'hara \"", vec!["S-5"]),
        ("k\\s", vec!["S-6"]),
        ("🦀", vec!["S-7"]),
        ("%", vec!["S-0"]),
        ("\0", vec![]),
        ("'; DROP TABLE orders; --", vec![]),
    ] {
        assert_eq!(listed(ledger, search(text)).await, expected, "{text:?}");
    }
}

async fn a_search_finds_letters_of_any_alphabet_in_either_case(ledger: &Ledger) {
    let customer = json!({"email": "a@example.com", "name": "ÜBEL & Söhne"});
    let document = order_with("1", &json!({"customer": customer}));
    ledger.store.accept(placed(&document), at(0)).await.expect("the ledger answers");
    for text in ["ÜBEL", "Söhne", "söhne"] {
        assert_eq!(listed(ledger, search(text)).await, ["1"], "{text}");
    }
}

async fn removing_deletes_nothing_and_can_be_undone(ledger: &Ledger) {
    ledger.parked("1", at(0)).await;
    let removed = ledger.store.remove_order(&key("1"), &act("entered by hand", at(5))).await;
    assert_eq!(removed.expect("answers").expect("may").phase.name(), "removed");
    let again = ledger.store.remove_order(&key("1"), &act("x", at(6))).await.expect("answers");
    assert!(matches!(again, Err(InvalidTransition::InvalidState { .. })), "{again:?}");
    let sent = super::admission(ledger.again("1", 2, Trigger::Operator, at(7)).await);
    assert_eq!(sent, order_relay::domain::lifecycle::claim::Admission::Stale);
    let restored = ledger.store.restore_order(&key("1"), &act("it was not", at(8))).await;
    assert_eq!(restored.expect("answers").expect("may").phase.name(), "parked");
    let again = ledger.store.restore_order(&key("1"), &act("x", at(9))).await.expect("answers");
    assert!(again.is_err(), "only what was removed is restored");
    let stored = ledger.order("1").await;
    assert_eq!((stored.record.fail_count, stored.attempts.len()), (1, 1));
    let trail: Vec<String> = stored
        .audit
        .into_iter()
        .map(|e| {
            format!(
                "{} {} {}>{}",
                e.action,
                e.reason.unwrap_or_default(),
                e.before.unwrap_or_default(),
                e.after.unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        trail,
        [
            "order.remove entered by hand ordered_failed/parked>confirmed/removed",
            "order.restore it was not confirmed/removed>ordered_failed/parked",
        ]
    );
    let nobody = ledger.store.remove_order(&key("nobody"), &act("x", at(9))).await;
    assert!(nobody.expect("answers").is_err());
}

async fn an_order_under_way_is_not_removed(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    let busy = ledger.store.remove_order(&key("1"), &act("x", at(9))).await.expect("answers");
    assert_eq!(busy.expect_err("it is under way"), InvalidTransition::Busy);
    let dead = ledger.store.remove_order(&key("1"), &act("x", at(10))).await.expect("answers");
    assert_eq!(dead.expect("its worker is gone").unclear_since, Some(at(10)));
    ledger.store.restore_order(&key("1"), &act("x", at(11))).await.expect("answers").expect("may");
    assert_eq!(ledger.phase("1").await, "queued");
    let admitted = ledger.admit("1", "z", at(12)).await;
    let doubt = order_relay::domain::lifecycle::claim::Doubt::Unclear { since: at(10) };
    let asks = order_relay::domain::lifecycle::claim::Admission::AskFirst { attempt: 1, doubt };
    assert_eq!(admitted, asks, "what nobody saw is not forgotten by removing and restoring");
}

async fn a_number_is_found_in_every_shop(ledger: &Ledger) {
    for shop in ["de", "at", "ch"] {
        let document = order_with("1", &json!({"shop": shop}));
        ledger.store.accept(placed(&document), at(0)).await.expect("the ledger answers");
    }
    let found = ledger.store.find_orders("1").await.expect("the ledger answers");
    let shops: Vec<String> = found.into_iter().map(|key| key.shop.to_string()).collect();
    assert_eq!(shops, ["at", "ch", "de"]);
    assert!(ledger.store.find_orders("' OR 1=1 --").await.expect("answers").is_empty());
}

fn letter(body: &[u8], now: Timestamp) -> NewDeadLetter {
    NewDeadLetter {
        id: SystemClock.unique_id(),
        source: "orders.submit".to_owned(),
        fault: Fault::at(Reason::Schema, "/total", "missing"),
        body: body.to_vec(),
        headers: Headers::from([("traceparent".to_owned(), "00-1".to_owned())]),
        exchange: "orders".to_owned(),
        routing_key: "order.placed".to_owned(),
        now,
    }
}

async fn a_dead_letter_that_comes_again_is_counted(ledger: &Ledger) {
    for now in 0..3 {
        ledger.store.record_dead_letter(letter(b"{}", at(now))).await.expect("the ledger answers");
    }
    ledger.store.record_dead_letter(letter(b"[]", at(3))).await.expect("the ledger answers");
    let elsewhere = NewDeadLetter { source: "api".to_owned(), ..letter(b"{}", at(4)) };
    ledger.store.record_dead_letter(elsewhere).await.expect("the ledger answers");
    let kept = ledger.store.list_dead_letters(true, 10).await.expect("the ledger answers");
    let seen: Vec<_> = kept.iter().map(|l| (l.source.as_str(), l.seen, l.last_seen_at)).collect();
    assert_eq!(seen, [("api", 1, at(4)), ("orders.submit", 1, at(3)), ("orders.submit", 3, at(2))]);
    assert_eq!(kept[2].first_seen_at, at(0));
    assert_eq!((kept[2].reason.as_str(), kept[2].place.as_deref()), ("schema", Some("/total")));
    assert_eq!(kept[2].headers["traceparent"], "00-1");
}

async fn a_list_holds_the_begin_of_large_dead_letters(ledger: &Ledger) {
    let body = "ü".repeat(50_001);
    ledger.store.record_dead_letter(letter(body.as_bytes(), at(0))).await.expect("answers");
    let listed = ledger.store.list_dead_letters(true, 10).await.expect("answers").remove(0);
    assert_eq!((listed.body.as_slice(), listed.size), (&body.as_bytes()[..4096], 100_002));
    let whole = ledger.store.dead_letter(listed.id).await.expect("answers").expect("it is there");
    assert_eq!((whole.body.as_slice(), whole.size), (body.as_bytes(), 100_002));
}

async fn a_dead_letter_is_settled_once(ledger: &Ledger) {
    ledger.store.record_dead_letter(letter(b"{}", at(0))).await.expect("the ledger answers");
    let id = ledger.store.list_dead_letters(true, 10).await.expect("answers")[0].id;
    let resolve = async |resolution| {
        let by = act("mended", at(1));
        ledger.store.resolve_dead_letter(id, resolution, &by).await.expect("the ledger answers")
    };
    assert!(resolve(Resolution::Discarded).await);
    assert!(!resolve(Resolution::Replayed).await);
    let kept = ledger.store.dead_letter(id).await.expect("answers").expect("it stays readable");
    assert_eq!(
        (kept.status.as_str(), kept.resolution.as_deref()),
        ("discarded", Some("test: mended"))
    );
    ledger.store.record_dead_letter(letter(b"{}", at(5))).await.expect("the ledger answers");
    assert_eq!(ledger.store.list_dead_letters(true, 10).await.expect("answers").len(), 1);
    assert_eq!(ledger.store.list_dead_letters(false, 10).await.expect("answers").len(), 2);
}

async fn any_bytes_can_be_a_dead_letter(ledger: &Ledger) {
    let bodies = [Vec::new(), vec![0, 255, 0], "🦀\0'".as_bytes().to_vec(), vec![b'x'; 2 << 20]];
    for body in bodies {
        let mut new = letter(&body, at(0));
        new.headers.insert("nul\0\u{202e}".to_owned(), "\0'\"".to_owned());
        new.routing_key = "a\0b".to_owned();
        let id = new.id;
        ledger.store.record_dead_letter(new).await.expect("the ledger answers");
        let kept = ledger.store.dead_letter(id).await.expect("answers").expect("it is kept");
        assert!(kept.body == body && kept.routing_key == "a\u{fffd}b");
        assert_eq!(kept.headers["nul\0\u{202e}"], "\0'\"");
    }
}

async fn a_person_can_say_that_an_unclear_order_is_not_there(ledger: &Ledger) {
    ledger.parked("clear", at(0)).await;
    let refused = ledger.store.declare_absent(&key("clear"), &act("x", at(1))).await;
    assert!(refused.expect("answers").is_err(), "nothing is unclear about it");
    ledger.admit("1", "w", at(0)).await;
    let early = ledger.store.declare_absent(&key("1"), &act("x", at(1))).await.expect("answers");
    assert_eq!(early.expect_err("an attempt is in progress"), InvalidTransition::Busy);
    let mut unclear = failure("1", 1, at(2));
    unclear.failed.failure.class = ErrorClass::UnknownOutcome;
    unclear.failed.failure.stage = Some(Stage::At);
    ledger.store.record_failure(unclear).await.expect("the ledger answers");
    let declared = ledger.store.declare_absent(&key("1"), &act("looked: not there", at(3))).await;
    let record = declared.expect("answers").expect("may");
    assert_eq!((record.phase.name(), record.unclear_since), ("retrying", None));
    let admitted = ledger.admit("1", "w2", at(4)).await;
    assert_eq!(admitted, Admission::Stale, "checkout does not send it again");
    let order = ledger.store.order(&key("1")).await.expect("answers").expect("is there");
    let audit = order.audit.last().expect("an audit row");
    assert_eq!(audit.action, "order.declare_absent");
    assert_eq!(audit.reason.as_deref(), Some("looked: not there"));
}

async fn exchanges_are_kept_once_and_a_later_question_replaces_an_earlier_one(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    let exchange = |step: &str, question| Exchange {
        step: step.to_owned(),
        question,
        method: "POST".to_owned(),
        url: "http://erp/x?a=1".to_owned(),
        request_headers: "a: b".to_owned(),
        request_body: "{\"n\": \"ü🙂'\"}".to_owned(),
        status: Some(200),
        stage: Stage::After,
        meaning: "ok".to_owned(),
        message: None,
        reply: "\0[]".to_owned(),
        duration_ms: 7,
    };
    let keep = |worker: &str, attempt, exchanges, only_asked| KeepRequest {
        key: key("1"),
        attempt,
        worker: worker.to_owned(),
        exchanges,
        only_asked,
        now: at(1),
    };
    let sent = || keep("w.1", 1, vec![exchange("before", false), exchange("commit", false)], false);
    ledger.store.keep_exchanges(sent()).await.expect("kept");
    ledger.store.keep_exchanges(sent()).await.expect("kept again");
    for worker in ["w.2", "w.3", "w.4"] {
        let asked = keep(worker, 2, vec![exchange(worker, true)], true);
        ledger.store.keep_exchanges(asked).await.expect("kept");
    }
    let order = ledger.store.order(&key("1")).await.expect("answers").expect("is there");
    let steps: Vec<(u32, &str)> =
        order.exchanges.iter().map(|kept| (kept.attempt, kept.exchange.step.as_str())).collect();
    assert_eq!(steps, [(1, "before"), (1, "commit"), (2, "w.4")]);
    let mut expected = exchange("commit", false);
    expected.reply = "\u{fffd}[]".to_owned();
    assert_eq!(order.exchanges[1].exchange, expected);
}

async fn a_dead_letter_keeps_its_bytes_and_the_beginning_of_what_surrounds_them(ledger: &Ledger) {
    let long = "x".repeat(100_000);
    let endless = NewDeadLetter {
        source: long.clone(),
        fault: Fault::at(Reason::Schema, long.clone(), long.clone()),
        headers: (0..1_000).map(|n| (format!("{n}-{long}"), long.clone())).collect(),
        exchange: long.clone(),
        routing_key: long.clone(),
        ..letter(long.as_bytes(), at(1))
    };
    for _ in 0..2 {
        let kept = ledger.store.record_dead_letter(endless.clone()).await;
        kept.expect("the ledger answers");
    }
    let kept = ledger.store.list_dead_letters(true, 10).await.expect("the ledger answers");
    assert_eq!((kept.len(), kept[0].seen, kept[0].size), (1, 2, 100_000));
    let chars = |text: &str| text.chars().count();
    let names = [&kept[0].source, &kept[0].exchange, &kept[0].routing_key].map(|text| chars(text));
    assert_eq!(names, [255; 3]);
    assert_eq!(kept[0].place.as_deref().map(chars), Some(500));
    assert_eq!((chars(&kept[0].detail), kept[0].headers.len()), (2_000, 100));
    assert!(
        kept[0].headers.iter().all(|(name, value)| chars(name) == 255 && chars(value) == 2_000)
    );
}
