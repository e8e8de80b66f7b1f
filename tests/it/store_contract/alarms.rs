//! Alarms: what people were told of ERPs and of types of failures.

use std::time::Duration;

use futures_util::future::join_all;
use order_relay::domain::alarm::{Alarm, Damping};
use order_relay::domain::failure::ErrorClass;
use order_relay::domain::notice::NoticeKind;
use order_relay::domain::order_filter::ShopFilter;
use order_relay::ports::alarms::{StoredAlarm, Subject, SubjectKind, UnfinishedOrders};
use order_relay::ports::circuits::CircuitTelling;
use order_relay::ports::orders::FailureRequest;
use serde_json::json;

use super::{Ledger, at, failed_as, failure, key, placed};
use crate::world::order_with;

on_every_ledger!(
    an_opening_is_stored_with_its_notice_and_its_end_waits,
    of_two_that_change_an_alarm_one_is_told_no,
    an_alarm_comes_back_as_it_went_in,
    failures_are_seen_once_they_are_added_up_until_they_are_noted,
    orders_that_are_not_through_are_counted,
);

fn telling() -> CircuitTelling {
    let damping = Damping { unstable_after: 2, window: Duration::from_secs(1_000) };
    CircuitTelling { shop: "at".to_owned(), damping }
}

async fn opens(ledger: &Ledger, now: i64) -> bool {
    let store = &ledger.store;
    let opened = store.open_circuit("erp", "away", at(now), Some(&telling()), at(now)).await;
    opened.expect("the ledger answers")
}

async fn closes(ledger: &Ledger, now: i64) -> bool {
    let store = &ledger.store;
    let until = at(now + 10);
    assert!(store.begin_trial("erp", "w", until, at(now)).await.expect("the ledger answers"));
    let closed = store.close_circuit("erp", &ShopFilter::default(), at(now)).await;
    closed.expect("the ledger answers")
}

async fn due(ledger: &Ledger, now: i64) -> Vec<StoredAlarm> {
    let due = ledger.store.due_alarms(SubjectKind::Circuit, at(now), 10).await;
    due.expect("the ledger answers")
}

async fn admit_in_at(ledger: &Ledger, id: &str, now: i64) {
    let order = placed(&order_with(id, &json!({"shop": "at"})));
    ledger.admit_placed(order, "w", at(now)).await;
}

async fn an_opening_is_stored_with_its_notice_and_its_end_waits(ledger: &Ledger) {
    let notices = async || {
        let due = ledger.store.due_notices(at(10_000), 10).await.expect("the ledger answers");
        due.into_iter().map(|notice| (notice.kind, notice.detail.shop)).collect::<Vec<_>>()
    };
    assert!(opens(ledger, 0).await);
    assert!(!opens(ledger, 1).await, "it is open");
    assert_eq!(notices().await, [(NoticeKind::CircuitOpened, "at".to_owned())]);
    ledger.admit("1", "w", at(2)).await;
    assert!(closes(ledger, 60).await);
    let alarm = due(ledger, 60).await.remove(0);
    assert_eq!((alarm.alarm.on_since, alarm.alarm.off_at), (None, Some(at(60))));
    assert_eq!((alarm.alarm.lasted.as_secs(), alarm.alarm.waited, alarm.version), (60, 1, 2));
    assert!(opens(ledger, 100).await);
    let kinds: Vec<NoticeKind> = notices().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [NoticeKind::CircuitOpened, NoticeKind::CircuitUnstable]);
    let alarm = due(ledger, 100).await.remove(0);
    assert_eq!((alarm.alarm.times, alarm.alarm.is_unstable), (2, true));
}

async fn of_two_that_change_an_alarm_one_is_told_no(ledger: &Ledger) {
    opens(ledger, 0).await;
    closes(ledger, 60).await;
    let alarm = due(ledger, 60).await.remove(0);
    let other = ledger.opened_again();
    let ends = (0..6).map(|n| {
        let store = if n % 2 == 0 { &ledger.store } else { &other };
        let mut alarm = alarm.clone();
        let notice = alarm.notice_of_circuit(NoticeKind::CircuitClosed, "erp", "", at(61));
        alarm.alarm.ends();
        store.write_alarm(alarm, Some(notice))
    });
    let written = join_all(ends).await;
    let written = written.into_iter().filter(|w| *w.as_ref().expect("the ledger answers")).count();
    assert_eq!((written, due(ledger, 1_000).await.len()), (1, 0));
    let notices = ledger.store.due_notices(at(1_000), 10).await.expect("the ledger answers");
    assert_eq!(notices.len(), 2, "{notices:?}");
    // What opens meanwhile is not ended by what was read before.
    opens(ledger, 100).await;
    closes(ledger, 110).await;
    assert!(!ledger.store.write_alarm(alarm, None).await.expect("the ledger answers"));
}

async fn an_alarm_comes_back_as_it_went_in(ledger: &Ledger) {
    let (audience, fingerprint) = ("a/b".to_owned(), "0123456789abcdef".to_owned());
    let subject = Subject::FailureType { audience, fingerprint };
    let read = async || ledger.store.alarm(&subject).await.expect("the ledger answers");
    assert_eq!(read().await, None);
    let alarm = Alarm {
        began_at: at(1),
        on_since: None,
        off_at: Some(at(5)),
        lasted: Duration::from_millis(4_321),
        times: 7,
        recent: vec![at(1), at(3)],
        is_unstable: true,
        waited: 1_310,
        is_over: false,
    };
    let new = StoredAlarm {
        subject: subject.clone(),
        shop: "at".to_owned(),
        alarm,
        look_at: at(50),
        version: 0,
    };
    assert!(ledger.store.write_alarm(new.clone(), None).await.expect("the ledger answers"));
    assert!(!ledger.store.write_alarm(new.clone(), None).await.expect("the ledger answers"));
    let stored = StoredAlarm { version: 1, ..new };
    assert_eq!(read().await, Some(stored.clone()));
    let looked = async |kind, now| {
        let due = ledger.store.due_alarms(kind, at(now), 10).await;
        due.expect("the ledger answers").len()
    };
    assert_eq!(looked(SubjectKind::FailureType, 49).await, 0);
    assert_eq!(looked(SubjectKind::FailureType, 50).await, 1);
    assert_eq!(looked(SubjectKind::Circuit, 50).await, 0);
}

async fn failures_are_seen_once_they_are_added_up_until_they_are_noted(ledger: &Ledger) {
    ledger.parked("1", at(0)).await;
    admit_in_at(ledger, "2", 5).await;
    let refused = failed_as(ErrorClass::Rejected, 1, at(5));
    let request = FailureRequest { key: key("at/2"), failed: refused, ..failure("2", 1, at(5)) };
    ledger.fail(request).await;
    ledger.store.fold_statistics(at(6)).await.expect("the ledger answers");
    let seen = async || ledger.store.seen_failure_types(10).await.expect("the ledger answers");
    let both = seen().await;
    let shops: Vec<(&str, bool)> = both.iter().map(|s| (s.shop.as_str(), s.is_known)).collect();
    assert_eq!(shops, [("default", false), ("at", false)]);
    assert_eq!(both[0].fingerprint, both[1].fingerprint);
    assert_eq!((both[0].class.as_str(), both[0].first_seen), ("rejected", both[0].last_seen));
    let note = async |n: usize| {
        let (shop, name, until) = (&both[n].shop, &both[n].fingerprint, both[n].last_seen);
        ledger.store.note_failure_type(shop, name, until).await.expect("the ledger answers");
    };
    note(0).await;
    assert_eq!(seen().await, [both[1].clone()]);
    note(1).await;
    assert_eq!(seen().await, []);
    ledger.parked("3", at(60)).await;
    ledger.store.fold_statistics(at(61)).await.expect("the ledger answers");
    let again = seen().await;
    assert!(again.len() == 1 && again[0].is_known, "{again:?}");
    assert_eq!(again[0].first_seen, both[0].first_seen);
    // A note about what was seen before hides nothing.
    note(0).await;
    assert_eq!(seen().await, again);
}

async fn orders_that_are_not_through_are_counted(ledger: &Ledger) {
    ledger.parked("parked", at(0)).await;
    ledger.admit("claimed", "w", at(10)).await;
    admit_in_at(ledger, "other", 10).await;
    ledger.admit("done", "w", at(10)).await;
    ledger.confirm("done", 1, "4711", at(11)).await;
    ledger.admit("late", "w", at(30)).await;
    let count = async |shops: ShopFilter, since: i64, until: i64| {
        let left = ledger.store.unfinished_orders(&shops, at(since), at(until)).await;
        left.expect("the ledger answers")
    };
    let of = |waiting, parked| UnfinishedOrders { waiting, unclear: 0, parked };
    assert_eq!(count(ShopFilter::default(), -100, 20).await, of(2, 1));
    assert_eq!(count(ShopFilter::default(), -100, 30).await, of(3, 1));
    assert_eq!(count(ShopFilter::default(), 100, 30).await, of(3, 0), "it failed before");
    assert_eq!(count(ShopFilter::Only(vec!["at".to_owned()]), -100, 30).await, of(1, 0));
    assert_eq!(count(ShopFilter::Except(vec!["at".to_owned()]), -100, 30).await, of(2, 1));
}
