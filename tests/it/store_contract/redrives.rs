//! Redrives in the ledger: frozen lists, steps, and writes that repeat what was loaded.

use futures_util::future::join;
use order_relay::domain::failure::ErrorClass;
use order_relay::domain::failure_summary::FailureSummary;
use order_relay::domain::lifecycle::vocabulary::Trigger;
use order_relay::domain::redrive::{
    ItemStatus, RedriveStatus, RedriveThrottle, RedriveVerb, sent_version_of,
};
use order_relay::ports::audit::AuditFilter;
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::redrives::{
    NewRedrive, Redrive, RedriveItem, Selection, SentItem, SettledItem,
};
use uuid::Uuid;

use super::{Ledger, act, at, key};

on_every_ledger!(
    a_plan_is_kept_as_it_was_made,
    each_verb_is_done_once_and_audited,
    two_runners_never_send_the_same_order,
    what_a_person_has_halted_sends_nothing_more,
    a_step_counts_its_own_orders_and_goes_on_after_the_answers,
    orders_of_a_stopped_erp_are_left_out_at_the_start,
    a_plan_of_twenty_thousand_orders_is_kept_and_read,
);

fn item(seq: u64, id: &str) -> RedriveItem {
    RedriveItem {
        seq,
        key: key(id),
        revision: 0,
        status: ItemStatus::Waiting,
        why: None,
        attempt: None,
        failure: None,
        erp_order_id: None,
        currency: "EUR".to_owned(),
        total: "129.90".to_owned(),
        at: None,
    }
}

async fn planned(ledger: &Ledger, items: Vec<RedriveItem>) -> Uuid {
    let id = SystemClock.unique_id();
    let plan = NewRedrive {
        id,
        selection: Selection::Group("00ff".to_owned()),
        pace: RedriveThrottle { rate_per_minute: Some(60), ..RedriveThrottle::default() },
        known_fingerprints: vec!["00ff".to_owned()],
        money: Vec::new(),
        items,
    };
    ledger.store.add_redrive(plan, &act("after the outage", at(0))).await.expect("it is kept");
    id
}

async fn change(ledger: &Ledger, id: Uuid, verb: RedriveVerb) -> Result<Redrive, String> {
    let changed = ledger.store.change_redrive(id, verb, &[], &act("by hand", at(5))).await;
    let changed = changed.expect("the ledger answers").expect("it is there");
    changed.map_err(|invalid| invalid.to_string())
}

async fn of(ledger: &Ledger, id: Uuid) -> Redrive {
    ledger.store.redrive(id).await.expect("the ledger answers").expect("it is there")
}

fn sent(seq: u64) -> SentItem {
    SentItem { seq, attempt: 2, sent_version: 1 }
}

async fn a_plan_is_kept_as_it_was_made(ledger: &Ledger) {
    let left_out = RedriveItem {
        status: ItemStatus::Excluded,
        why: Some("confirmed".to_owned()),
        ..item(3, "c")
    };
    let items = vec![item(1, "a"), item(2, "de/b"), left_out];
    let id = planned(ledger, items.clone()).await;
    let redrive = of(ledger, id).await;
    assert_eq!(redrive.status, RedriveStatus::Planned);
    assert_eq!((redrive.planned(), redrive.settled()), (2, 0));
    assert_eq!(redrive.excluded.get("confirmed"), Some(&1));
    assert_eq!(redrive.selection, Selection::Group("00ff".to_owned()));
    assert_eq!(redrive.pace.ramp, [1, 5, 20, 100]);
    assert_eq!((redrive.created_by.as_str(), redrive.created_at), ("test", at(0)));
    assert_eq!(redrive.reason.as_deref(), Some("after the outage"));
    let kept = ledger.store.redrive_items(id, None, None, 10).await.expect("answers");
    assert_eq!(kept, items);
    let later = ledger.store.redrive_items(id, Some(ItemStatus::Waiting), Some(1), 10).await;
    assert_eq!(later.expect("answers"), items[1..2]);
    let shops = ledger.store.redrive_shops(id, None).await.expect("answers");
    assert_eq!(shops, ["de", "default"]);
    let all = ledger.store.redrives(10).await.expect("the ledger answers");
    assert_eq!(all, [redrive]);
}

async fn each_verb_is_done_once_and_audited(ledger: &Ledger) {
    let id = planned(ledger, vec![item(1, "a")]).await;
    assert!(change(ledger, id, RedriveVerb::Pause).await.is_err());
    let started = change(ledger, id, RedriveVerb::Start).await.expect("it starts");
    assert_eq!((started.status, started.wave, started.ramp_at), (RedriveStatus::Running, 1, 0));
    assert_eq!(started.started_at, Some(at(5)));
    let again = change(ledger, id, RedriveVerb::Start).await.expect_err("it runs already");
    assert_eq!(again, "a redrive that is running cannot be started");
    assert!(ledger.store.begin_step(&started, 1).await.expect("answers"));
    let paused = change(ledger, id, RedriveVerb::Pause).await.expect("it pauses");
    let resumed = change(ledger, id, RedriveVerb::Resume).await.expect("it goes on");
    assert_eq!((paused.wave, resumed.wave, resumed.ramp_at), (2, 2, 1), "where it was");
    let stopped = RedriveStatus::Stopped;
    assert!(ledger.store.end_redrive(&resumed, stopped, Some("x"), at(6)).await.expect("answers"));
    assert_eq!(of(ledger, id).await.why.as_deref(), Some("x"));
    let resumed = change(ledger, id, RedriveVerb::Resume).await.expect("it goes on");
    assert_eq!((resumed.wave, resumed.ramp_at, resumed.why.as_deref()), (3, 0, None), "from one");
    let rate = act("slower", at(7));
    assert!(ledger.store.set_redrive_rate(id, Some(5), &rate).await.expect("answers"));
    assert_eq!(of(ledger, id).await.pace.rate_per_minute, Some(5));
    let cancelled = change(ledger, id, RedriveVerb::Cancel).await.expect("it ends");
    assert_eq!((cancelled.status, cancelled.ended_at), (RedriveStatus::Cancelled, Some(at(5))));
    let rate = act("slower", at(8));
    assert!(!ledger.store.set_redrive_rate(id, None, &rate).await.expect("answers"));
    let of_plan = AuditFilter { target: Some(id.to_string()), ..AuditFilter::default() };
    let rows = ledger.store.list_audit(&of_plan, None, 100).await.expect("the ledger answers");
    assert_eq!(rows.len(), 7, "plan, start, pause, resume twice, rate, cancel");
    let nobody = SystemClock.unique_id();
    let none = act("x", at(0));
    let none = ledger.store.change_redrive(nobody, RedriveVerb::Start, &[], &none).await;
    assert!(none.expect("the ledger answers").is_none());
}

async fn two_runners_never_send_the_same_order(ledger: &Ledger) {
    let items = (1u64..).zip(["a", "b", "c"]).map(|(seq, id)| item(seq, id)).collect();
    let id = planned(ledger, items).await;
    let redrive = change(ledger, id, RedriveVerb::Start).await.expect("it starts");
    let other = ledger.opened_again();
    let all = [sent(1), sent(2), sent(3)];
    let (one, two) =
        join(ledger.store.mark_sent(&redrive, &all, at(6)), other.mark_sent(&redrive, &all, at(6)))
            .await;
    let mut marked = [one.expect("answers"), two.expect("answers")].concat();
    marked.sort_unstable();
    assert_eq!(marked, [1, 2, 3], "each by one of them");
    assert_eq!(ledger.store.open_redrives().await.expect("answers"), [id]);
}

async fn what_a_person_has_halted_sends_nothing_more(ledger: &Ledger) {
    let id = planned(ledger, vec![item(1, "a")]).await;
    let running = change(ledger, id, RedriveVerb::Start).await.expect("it starts");
    change(ledger, id, RedriveVerb::Pause).await.expect("it pauses");
    let marked = ledger.store.mark_sent(&running, &[sent(1)], at(6)).await.expect("answers");
    assert_eq!(marked, [0u64; 0]);
    assert!(!ledger.store.begin_step(&running, 1).await.expect("answers"));
    let done = RedriveStatus::Done;
    assert!(!ledger.store.end_redrive(&running, done, None, at(6)).await.expect("answers"));
    assert_eq!(of(ledger, id).await.status, RedriveStatus::Paused);
    assert!(ledger.store.open_redrives().await.expect("answers").is_empty());
}

async fn a_step_counts_its_own_orders_and_goes_on_after_the_answers(ledger: &Ledger) {
    for id in ["a", "b", "c"] {
        ledger.parked(id, at(0)).await;
    }
    let items = (1u64..).zip(["a", "b", "c"]).map(|(seq, id)| item(seq, id)).collect();
    let id = planned(ledger, items).await;
    let redrive = change(ledger, id, RedriveVerb::Start).await.expect("it starts");
    let store = &ledger.store;
    let turns = store.redrive_turns(id, ItemStatus::Waiting, None, 2).await.expect("answers");
    let seen: Vec<_> = turns.iter().map(|turn| turn.item.seq).collect();
    assert_eq!(seen, [1, 2]);
    let record = turns[0].record.as_ref().expect("the ledger has it");
    let first =
        SentItem { seq: 1, attempt: record.next_attempt(), sent_version: sent_version_of(record) };
    let marked = store.mark_sent(&redrive, &[first, sent(2)], at(6)).await.expect("answers");
    assert_eq!(marked, [1, 2]);
    ledger.again("a", 2, Trigger::Redrive, at(7)).await;
    ledger.confirm("a", 2, "ERP-1", at(8)).await;
    let turns = store.redrive_turns(id, ItemStatus::Sent, None, 10).await.expect("answers");
    assert_eq!(turns[0].sent_version, first.sent_version);
    assert_eq!(turns[0].record.as_ref().expect("there").phase.name(), "transferred");
    let refused = FailureSummary {
        class: ErrorClass::Rejected,
        code: "http_422".to_owned(),
        message: "unknown article".to_owned(),
        fingerprint: "beef".to_owned(),
    };
    let settled = [
        SettledItem {
            erp_order_id: Some("ERP-1".to_owned()),
            ..SettledItem::new(1, ItemStatus::Transferred)
        },
        SettledItem { failure: Some(refused.clone()), ..SettledItem::new(2, ItemStatus::Failed) },
    ];
    store.settle_items(id, ItemStatus::Sent, &settled, at(9)).await.expect("answers");
    let late = [SettledItem::new(1, ItemStatus::Failed)];
    store.settle_items(id, ItemStatus::Sent, &late, at(9)).await.expect("answers");
    let step = store.redrive_step(id, 1).await.expect("the ledger answers");
    assert_eq!((step.tally.transferred, step.tally.failed, step.tally.sent), (1, 1, 0));
    assert_eq!(step.waiting, 1);
    assert_eq!(step.failures, [("beef".to_owned(), "unknown article".to_owned())]);
    assert!(store.begin_step(&redrive, 1).await.expect("answers"));
    let next = store.redrive_step(id, 2).await.expect("the ledger answers");
    assert_eq!((next.tally.begun(), next.waiting), (0, 1), "a new step begins empty");
    let items = store.redrive_items(id, Some(ItemStatus::Failed), None, 10).await;
    let failed = &items.expect("answers")[0];
    assert_eq!(failed.failure, Some(refused));
    assert_eq!((failed.attempt, failed.at), (Some(2), Some(at(9))));
}

async fn orders_of_a_stopped_erp_are_left_out_at_the_start(ledger: &Ledger) {
    let id = planned(ledger, vec![item(1, "a"), item(2, "de/b")]).await;
    let stopped = ["de".to_owned()];
    let start = act("x", at(5));
    let started = ledger.store.change_redrive(id, RedriveVerb::Start, &stopped, &start).await;
    let started = started.expect("answers").expect("there").expect("it starts");
    assert_eq!((started.planned(), started.excluded.get("circuit_open")), (1, Some(&1)));
}

async fn a_plan_of_twenty_thousand_orders_is_kept_and_read(ledger: &Ledger) {
    let items = (1u64..=20_000).map(|seq| item(seq, &format!("N-{seq}"))).collect();
    let id = planned(ledger, items).await;
    assert_eq!(of(ledger, id).await.planned(), 20_000);
    let step = ledger.store.redrive_step(id, 1).await.expect("the ledger answers");
    assert_eq!(step.waiting, 1_000, "more are not counted");
    let turns = ledger.store.redrive_turns(id, ItemStatus::Waiting, Some(19_000), 500).await;
    let turns = turns.expect("the ledger answers");
    assert_eq!((turns.len(), turns[0].item.seq), (500, 19_001));
    assert!(turns.iter().all(|turn| turn.record.is_none()), "the ledger has none of them");
}
