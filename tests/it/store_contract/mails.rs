//! Notices, mails, digest windows, circuits and leases: what several workers share.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use order_relay::domain::alarm::Damping;
use order_relay::domain::circuit::CircuitState;
use order_relay::domain::notice::{DigestWindow, NoticeKind};
use order_relay::domain::order_filter::ShopFilter;
use order_relay::domain::permission::Grants;
use order_relay::ports::audit::{Act, AuditFilter};
use order_relay::ports::circuits::CircuitTelling;
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::mail::{Mail, NoticeDetail};
use order_relay::ports::notices::{
    ClaimedDelivery, MailFate, MailStatus, NewMail, Notice, RefusedReceiver,
};

use super::{Ledger, at};

on_every_ledger!(
    a_notice_is_told_once_and_can_wait,
    mails_take_their_notices_all_or_nothing,
    of_two_who_compose_the_same_mail_one_is_told_no,
    a_digest_window_is_kept_per_audience,
    a_mail_is_taken_by_one_worker_at_a_time,
    what_became_of_a_mail_stays_visible,
    each_receiver_has_its_own_account,
    a_receiver_counts_as_refused_until_it_gets_a_later_mail,
    outcomes_of_one_mail_at_the_same_time_add_up,
    what_is_too_large_for_one_receiver_becomes_parts_for_it,
    a_mail_is_queued_again_for_whoever_has_not_got_it,
    an_alert_that_nobody_got_is_acknowledged_once,
    due_mail_is_noticed,
    a_circuit_is_opened_by_one_and_tried_by_one,
    one_worker_leads_until_its_lease_ends,
    text_in_mails_comes_back_as_it_went_in,
);

fn notice(id: &str, now: Timestamp) -> Notice {
    let detail = NoticeDetail::of_erp("default", "default", "away", now);
    Notice { id: id.to_owned(), kind: NoticeKind::CircuitOpened, detail, created_at: now }
}

fn mail(id: &str, notices: &[&str]) -> NewMail {
    NewMail {
        id: SystemClock.unique_id(),
        audience: "default".to_owned(),
        mail: Mail {
            kind: NoticeKind::CircuitOpened,
            sender: "shop@example.com".to_owned(),
            receivers: vec!["a@example.com".to_owned(), "b@example.com".to_owned()],
            subject: format!("Subject {id}"),
            text: "text".to_owned(),
            html: "<p>html</p>".to_owned(),
            attachment: Some("a,b\r\n".to_owned()),
            message_id: format!("<{id}@example.com>"),
            in_reply_to: Some("<root@example.com>".to_owned()),
            list_id: Some("<alerts.example.com>".to_owned()),
        },
        notices: notices.iter().map(|id| (*id).to_owned()).collect(),
        keep_only: false,
        now: at(10),
    }
}

async fn add(ledger: &Ledger, ids: &[&str]) {
    for id in ids {
        ledger.store.add_notice(notice(id, at(0))).await.expect("the ledger answers");
    }
}

async fn waiting(ledger: &Ledger, now: i64) -> Vec<String> {
    let due = ledger.store.due_notices(at(now), 100).await.expect("the ledger answers");
    due.into_iter().map(|notice| notice.id).collect()
}

async fn compose(ledger: &Ledger, mails: Vec<NewMail>) -> bool {
    ledger.store.compose_mails(mails, None).await.expect("the ledger answers")
}

async fn taken(ledger: &Ledger, worker: &str, now: i64) -> Vec<ClaimedDelivery> {
    let (now, until) = (at(now), at(now + 100));
    ledger.store.claim_deliveries(worker, now, until, 10).await.expect("the ledger answers")
}

async fn settle(ledger: &Ledger, delivery: &ClaimedDelivery, fate: MailFate) -> MailStatus {
    let (id, receiver) = (delivery.mail_id, &delivery.receiver);
    ledger.store.settle_delivery(id, receiver, fate).await.expect("the ledger answers")
}

async fn a_notice_is_told_once_and_can_wait(ledger: &Ledger) {
    add(ledger, &["a", "b", "a"]).await;
    assert_eq!(waiting(ledger, 0).await, ["a", "b"]);
    let store = &ledger.store;
    store.postpone_notices(&["a".to_owned()], at(50)).await.expect("the ledger answers");
    assert_eq!(waiting(ledger, 49).await, ["b"]);
    assert_eq!(waiting(ledger, 50).await, ["a", "b"]);
    assert_eq!(store.due_notices(at(50), 1).await.expect("the ledger answers").len(), 1);
    let told = &store.due_notices(at(50), 1).await.expect("the ledger answers")[0];
    assert_eq!(told, &notice("a", at(0)), "everything in it comes back");
}

async fn mails_take_their_notices_all_or_nothing(ledger: &Ledger) {
    add(ledger, &["a", "b", "c"]).await;
    assert!(compose(ledger, vec![mail("1", &["a"])]).await);
    let window = Some(("default".to_owned(), DigestWindow { started_at: at(0), sent: 2 }));
    let both = vec![mail("2", &["b"]), mail("3", &["c", "a"])];
    assert!(!ledger.store.compose_mails(both, window).await.expect("the ledger answers"));
    assert_eq!(waiting(ledger, 9).await, ["b", "c"], "nothing of it was kept");
    assert_eq!(ledger.store.digest_window("default").await.expect("the ledger answers"), None);
    let mails = ledger.store.list_mails(None, 10).await.expect("the ledger answers");
    assert_eq!(mails.len(), 1);
    assert_eq!(
        (mails[0].mail.clone(), mails[0].status),
        (mail("1", &[]).mail, MailStatus::Waiting)
    );
}

async fn of_two_who_compose_the_same_mail_one_is_told_no(ledger: &Ledger) {
    add(ledger, &["a"]).await;
    let other = ledger.opened_again();
    let both =
        [&ledger.store, &other].map(|store| store.compose_mails(vec![mail("1", &["a"])], None));
    let mut written: Vec<bool> =
        join_all(both).await.into_iter().map(|done| done.expect("the ledger answers")).collect();
    written.sort_unstable();
    assert_eq!(written, [false, true]);
    assert_eq!(ledger.store.list_mails(None, 10).await.expect("the ledger answers").len(), 1);
}

async fn a_digest_window_is_kept_per_audience(ledger: &Ledger) {
    add(ledger, &["a", "b", "c"]).await;
    for (id, audience, sent) in [("a", "one", 1), ("b", "two", 7), ("c", "one", 2)] {
        let window = DigestWindow { started_at: at(5), sent };
        let composed =
            ledger.store.compose_mails(vec![mail(id, &[id])], Some((audience.to_owned(), window)));
        assert!(composed.await.expect("the ledger answers"));
    }
    for (audience, sent) in [("one", Some(2)), ("two", Some(7)), ("three", None)] {
        let window = ledger.store.digest_window(audience).await.expect("the ledger answers");
        assert_eq!(window, sent.map(|sent| DigestWindow { started_at: at(5), sent }));
    }
}

async fn a_mail_is_taken_by_one_worker_at_a_time(ledger: &Ledger) {
    add(ledger, &["a", "b"]).await;
    assert!(compose(ledger, vec![mail("1", &["a"]), mail("2", &["b"])]).await);
    assert!(taken(ledger, "early", 9).await.is_empty(), "they are due at 10");
    let other = ledger.opened_again();
    let race = join_all((0..8).map(|n| {
        let store = if n % 2 == 0 { &ledger.store } else { &other };
        store.claim_deliveries("w", at(10), at(110), 10)
    }))
    .await;
    let got: usize = race.into_iter().map(|mails| mails.expect("the ledger answers").len()).sum();
    assert_eq!(got, 4, "two receivers each");
    assert!(taken(ledger, "b", 109).await.is_empty());
    let after = taken(ledger, "b", 110).await;
    assert_eq!(after.len(), 4, "a lease that ended is anybody's");
    assert!(after.iter().all(|mail| mail.tries == 2));
}

async fn what_became_of_a_mail_stays_visible(ledger: &Ledger) {
    add(ledger, &["a", "b", "c", "d"]).await;
    let kept = NewMail { keep_only: true, ..mail("4", &["d"]) };
    assert!(
        compose(ledger, vec![mail("1", &["a"]), mail("2", &["b"]), mail("3", &["c"]), kept]).await
    );
    let mut taken_now = taken(ledger, "w", 20).await;
    taken_now.sort_by(|a, b| a.mail.subject.cmp(&b.mail.subject));
    assert_eq!(taken_now.len(), 6, "what is only kept is never sent");
    let failed = |at, error: &str| MailFate::Failed { at, error: error.to_owned() };
    let later = MailFate::Later { at: at(500), error: "451 later".to_owned() };
    for (deliveries, fate) in
        taken_now.chunks(2).zip([MailFate::Sent(at(21)), later, failed(at(22), "550")])
    {
        for delivery in deliveries {
            settle(ledger, delivery, fate.clone()).await;
        }
    }
    let of = async |status| {
        let mails = ledger.store.list_mails(Some(status), 10).await.expect("the ledger answers");
        let [mail] = mails.as_slice() else { panic!("{mails:?}") };
        (mail.mail.subject.clone(), mail.error().map(str::to_owned), mail.sent_at())
    };
    assert_eq!(of(MailStatus::Sent).await, ("Subject 1".to_owned(), None, Some(at(21))));
    assert_eq!(
        of(MailStatus::Waiting).await,
        ("Subject 2".to_owned(), Some("451 later".to_owned()), None)
    );
    assert_eq!(
        of(MailStatus::Failed).await,
        ("Subject 3".to_owned(), Some("550".to_owned()), None)
    );
    assert_eq!(of(MailStatus::Kept).await.0, "Subject 4");
    let counts = ledger.store.count_mails().await.expect("the ledger answers");
    assert_eq!((counts.waiting, counts.failed, counts.unheard), (2, 2, 1));
    // A failure that is told too late does not undo that the mail was taken.
    settle(ledger, &taken_now[0], failed(at(30), "late")).await;
    assert_eq!(of(MailStatus::Sent).await.1, None);
    assert!(taken(ledger, "w", 499).await.is_empty());
    assert_eq!(taken(ledger, "w", 500).await.len(), 2);
    let one = ledger.store.mail(taken_now[0].mail_id).await.expect("the ledger answers");
    assert_eq!(one.map(|mail| mail.status), Some(MailStatus::Sent));
}

async fn each_receiver_has_its_own_account(ledger: &Ledger) {
    add(ledger, &["a", "b"]).await;
    assert!(compose(ledger, vec![mail("1", &["a"])]).await);
    let both = taken(ledger, "w", 10).await;
    let refused = MailFate::Failed { at: at(11), error: "550 gone".to_owned() };
    assert_eq!(settle(ledger, &both[0], refused).await, MailStatus::Waiting, "one waits");
    let later = MailFate::Later { at: at(40), error: "450 busy".to_owned() };
    assert_eq!(settle(ledger, &both[1], later).await, MailStatus::Waiting);
    let again = taken(ledger, "w", 40).await;
    assert_eq!(again.len(), 1, "the refused one is done");
    assert_eq!((&again[0].receiver, again[0].tries), (&both[1].receiver, 2));
    assert_eq!(settle(ledger, &again[0], MailFate::Untried).await, MailStatus::Waiting);
    let again = taken(ledger, "w", 40).await;
    assert_eq!(again[0].tries, 2, "an attempt that was not made is not counted");
    assert_eq!(settle(ledger, &again[0], MailFate::Sent(at(41))).await, MailStatus::Sent);
    let stored = ledger.store.mail(both[0].mail_id).await.expect("the ledger answers");
    let accounts: Vec<String> = stored
        .expect("it is there")
        .deliveries
        .iter()
        .map(|d| format!("{} {:?} {} {:?} {:?}", d.receiver, d.status, d.tries, d.error, d.sent_at))
        .collect();
    let expected = [
        "a@example.com Failed 1 Some(\"550 gone\") None".to_owned(),
        format!("b@example.com Sent 2 None Some({:?})", at(41)),
    ];
    assert_eq!(accounts, expected);
    let list = |status| ledger.store.list_mails(Some(status), 10);
    for status in [MailStatus::Failed, MailStatus::Sent] {
        assert_eq!(list(status).await.expect("the ledger answers").len(), 1, "{status:?}");
    }
    assert!(list(MailStatus::Waiting).await.expect("the ledger answers").is_empty());
    let counts = ledger.store.count_mails().await.expect("the ledger answers");
    assert_eq!((counts.waiting, counts.failed, counts.unheard), (1, 1, 0), "notice b waits");
}

async fn a_receiver_counts_as_refused_until_it_gets_a_later_mail(ledger: &Ledger) {
    add(ledger, &["a", "b"]).await;
    let refused = async || {
        let refused = ledger.store.refused_receivers(at(-1_000)).await.expect("the ledger answers");
        let show =
            |one: &RefusedReceiver| format!("{} {}: {}", one.audience, one.receiver, one.error);
        refused.iter().map(show).collect::<Vec<_>>()
    };
    assert!(compose(ledger, vec![mail("1", &["a"])]).await);
    for delivery in taken(ledger, "w", 10).await {
        let error = format!("550 {}", delivery.receiver);
        settle(ledger, &delivery, MailFate::Failed { at: at(11), error }).await;
    }
    let all =
        ["default a@example.com: 550 a@example.com", "default b@example.com: 550 b@example.com"];
    assert_eq!(refused().await, all);
    let later = ledger.store.refused_receivers(at(12)).await.expect("the ledger answers");
    assert_eq!(later, [], "what was refused long ago is not shown for ever");
    assert!(compose(ledger, vec![mail("2", &["b"])]).await);
    for delivery in taken(ledger, "w", 20).await {
        let fate = match delivery.receiver.starts_with('a') {
            true => MailFate::Sent(at(21)),
            false => MailFate::Failed { at: at(21), error: "552 full".to_owned() },
        };
        settle(ledger, &delivery, fate).await;
    }
    assert_eq!(refused().await, ["default b@example.com: 552 full"]);
}

async fn a_mail_is_queued_again_for_whoever_has_not_got_it(ledger: &Ledger) {
    add(ledger, &["a"]).await;
    assert!(compose(ledger, vec![mail("1", &["a"])]).await);
    let both = taken(ledger, "w", 10).await;
    let id = both[0].mail_id;
    settle(ledger, &both[0], MailFate::Sent(at(11))).await;
    settle(ledger, &both[1], MailFate::Failed { at: at(11), error: "550".to_owned() }).await;
    let resend = async |receivers: &[&str], now| {
        let receivers: Vec<String> = receivers.iter().map(|one| (*one).to_owned()).collect();
        let done = ledger.store.resend_mail(id, &receivers, &act(now)).await;
        done.expect("the ledger answers")
    };
    let all = ["a@example.com", "b@example.com", "new@example.com"];
    assert_eq!(resend(&all, 20).await, 2, "one has it");
    assert_eq!(resend(&all, 21).await, 0, "it is on its way");
    assert!(taken(ledger, "w", 19).await.is_empty());
    let again = taken(ledger, "w", 20).await;
    let to: Vec<(&str, u32)> = again.iter().map(|d| (&*d.receiver, d.tries)).collect();
    assert_eq!(to, [("b@example.com", 1), ("new@example.com", 1)]);
    for delivery in &again {
        assert_eq!(delivery.queued_at, at(20), "it has its whole time again");
        settle(ledger, delivery, MailFate::Failed { at: at(22), error: "550".to_owned() }).await;
    }
    let acknowledged = ledger.store.acknowledge_mail(id, &act(30)).await;
    assert!(!acknowledged.expect("the ledger answers"), "somebody got it");
    let rows =
        ledger.store.list_audit(&AuditFilter::default(), None, 10).await.expect("it answers");
    let told: Vec<&str> = rows.iter().map(|row| &*row.entry.action).collect();
    assert_eq!(told, ["mail.resend"]);
}

async fn an_alert_that_nobody_got_is_acknowledged_once(ledger: &Ledger) {
    add(ledger, &["a"]).await;
    assert!(compose(ledger, vec![mail("1", &["a"])]).await);
    let both = taken(ledger, "w", 10).await;
    for delivery in &both {
        settle(ledger, delivery, MailFate::Failed { at: at(11), error: "550".to_owned() }).await;
    }
    let acknowledge = async |now| {
        let done = ledger.store.acknowledge_mail(both[0].mail_id, &act(now)).await;
        done.expect("the ledger answers")
    };
    assert_eq!((acknowledge(20).await, acknowledge(21).await), (true, false));
    let counts = ledger.store.count_mails().await.expect("the ledger answers");
    assert_eq!((counts.failed, counts.unheard), (2, 0));
    let stored = ledger.store.mail(both[0].mail_id).await.expect("the ledger answers");
    assert_eq!(stored.and_then(|mail| mail.acknowledged_at), Some(at(20)));
}

fn act(now: i64) -> Act {
    Act {
        id: SystemClock.unique_id(),
        actor: "cli:test".to_owned(),
        from: None,
        grants: Grants::all(),
        reason: Some("a test".to_owned()),
        now: at(now),
    }
}

async fn what_is_too_large_for_one_receiver_becomes_parts_for_it(ledger: &Ledger) {
    add(ledger, &["a", "b", "c"]).await;
    assert!(compose(ledger, vec![mail("whole", &["a", "b", "c"])]).await);
    let both = taken(ledger, "w", 10).await;
    let notices = async |id| {
        let notices = ledger.store.notices_of(id).await.expect("the ledger answers");
        notices.into_iter().map(|notice| notice.id).collect::<Vec<_>>()
    };
    assert_eq!(notices(both[0].mail_id).await, ["a", "b", "c"]);
    let split = |receiver: &str| {
        let part = |id: &str, notices: &[&str]| {
            let mut part = mail(id, notices);
            part.mail.receivers = vec![receiver.to_owned()];
            part
        };
        let parts = vec![part("first", &["a"]), part("rest", &["b", "c"])];
        MailFate::Split { at: at(11), error: "552".to_owned(), parts }
    };
    let fate = split(&both[0].receiver);
    assert_eq!(settle(ledger, &both[0], fate.clone()).await, MailStatus::Waiting);
    settle(ledger, &both[0], fate).await;
    let parts = taken(ledger, "w", 12).await;
    let to: Vec<(&str, &str)> =
        parts.iter().map(|part| (&*part.mail.subject, &*part.receiver)).collect();
    let mut sorted = to.clone();
    sorted.sort_unstable();
    let a = "a@example.com";
    assert_eq!(sorted, [("Subject first", a), ("Subject rest", a)], "once, and for it alone");
    let rest = parts.iter().find(|part| part.mail.subject == "Subject rest").expect("it is there");
    assert_eq!(notices(rest.mail_id).await, ["b", "c"], "it can be split again");
    // The other receiver needs parts, too: the same mails.
    assert_eq!(settle(ledger, &both[1], split(&both[1].receiver)).await, MailStatus::Sent);
    let more = taken(ledger, "w", 13).await;
    assert!(more.iter().all(|part| part.receiver == "b@example.com") && more.len() == 2);
    let mails = ledger.store.list_mails(None, 10).await.expect("the ledger answers");
    assert_eq!(mails.len(), 3);
    let list = ledger.store.list_mails(Some(MailStatus::Split), 10).await;
    assert_eq!(list.expect("the ledger answers").len(), 1);
}

async fn outcomes_of_one_mail_at_the_same_time_add_up(ledger: &Ledger) {
    add(ledger, &["a"]).await;
    let mut new = mail("1", &["a"]);
    new.mail.receivers = (0..8).map(|n| format!("r{n}@example.com")).collect();
    assert!(compose(ledger, vec![new]).await);
    let all = taken(ledger, "w", 10).await;
    let other = ledger.opened_again();
    let settled = all.iter().enumerate().map(|(n, delivery)| {
        let store = if n % 2 == 0 { &ledger.store } else { &other };
        store.settle_delivery(delivery.mail_id, &delivery.receiver, MailFate::Sent(at(11)))
    });
    for status in join_all(settled).await {
        status.expect("the ledger answers");
    }
    let stored = ledger.store.mail(all[0].mail_id).await.expect("the ledger answers");
    assert_eq!(stored.map(|mail| mail.status), Some(MailStatus::Sent));
}

async fn due_mail_is_noticed(ledger: &Ledger) {
    let due = async |now: i64| ledger.store.has_due_mail(at(now)).await.expect("answers");
    assert!(!due(1_000).await);
    add(ledger, &["a"]).await;
    assert!(due(0).await);
    assert!(compose(ledger, vec![mail("1", &["a"])]).await);
    assert_eq!((due(9).await, due(10).await), (false, true));
    taken(ledger, "w", 10).await;
    assert_eq!((due(109).await, due(110).await), (false, true));
}

async fn a_circuit_is_opened_by_one_and_tried_by_one(ledger: &Ledger) {
    let (store, other) = (&ledger.store, ledger.opened_again());
    let damping = Damping { unstable_after: 3, window: Duration::from_secs(1_000) };
    let telling = CircuitTelling { shop: "default".to_owned(), damping };
    let opens = join_all((0..6).map(|n| {
        let store = if n % 2 == 0 { store } else { &other };
        store.open_circuit("erp", "away", at(10), Some(&telling), at(0))
    }))
    .await;
    let opened =
        opens.into_iter().filter(|open| *open.as_ref().expect("the ledger answers")).count();
    assert_eq!((opened, waiting(ledger, 0).await.len()), (1, 1), "one opens it and tells");
    let begin = async |worker: &str, now: i64| {
        store.begin_trial("erp", worker, at(now + 20), at(now)).await.expect("the ledger answers")
    };
    assert!(!begin("a", 9).await, "it is not due");
    assert_eq!(
        (begin("a", 10).await, begin("b", 11).await, begin("a", 12).await),
        (true, false, true)
    );
    store.fail_trial("erp", "b", "not mine", at(1)).await.expect("the ledger answers");
    assert!(begin("b", 32).await, "a trial whose worker died is anybody's");
    store.fail_trial("erp", "b", "still away", at(90)).await.expect("the ledger answers");
    let circuits = store.circuits().await.expect("the ledger answers");
    let [circuit] = circuits.as_slice() else { panic!("{circuits:?}") };
    assert_eq!((circuit.state, circuit.trials), (CircuitState::Open, 1));
    assert_eq!((circuit.reason.as_deref(), circuit.trial_at), (Some("still away"), Some(at(90))));
    assert_eq!(circuit.opened_at, Some(at(0)));
    assert!(begin("a", 90).await);
    store.close_circuit("erp", &ShopFilter::default(), at(91)).await.expect("the ledger answers");
    let circuits = store.circuits().await.expect("the ledger answers");
    assert_eq!((circuits[0].state, circuits[0].trials), (CircuitState::Closed, 0));
    assert!(!begin("a", 200).await, "there is nothing to try");
    let again = store.open_circuit("erp", "away", at(300), None, at(250)).await;
    assert!(again.expect("the ledger answers"));
    assert!(!store.begin_trial("nobody", "a", at(9), at(1)).await.expect("the ledger answers"));
}

async fn one_worker_leads_until_its_lease_ends(ledger: &Ledger) {
    let other = ledger.opened_again();
    let race =
        join_all(
            (0..6).map(|n| {
                let (store, worker) = if n % 2 == 0 { (&ledger.store, "a") } else { (&other, "b") };
                let worker = format!("{worker}{n}");
                async move {
                    store.acquire_lease("sweeper", &worker, at(10), at(0)).await.expect("answers")
                }
            }),
        )
        .await;
    assert_eq!(race.iter().filter(|leads| **leads).count(), 1);
    let lead = async |worker: &str, now: i64| {
        ledger.store.acquire_lease("sweeper", worker, at(now + 10), at(now)).await.expect("answers")
    };
    assert!(!lead("z", 9).await);
    assert_eq!(
        (lead("z", 10).await, lead("z", 15).await, lead("y", 20).await),
        (true, true, false)
    );
    assert!(ledger.store.acquire_lease("other task", "y", at(30), at(20)).await.expect("answers"));
}

async fn text_in_mails_comes_back_as_it_went_in(ledger: &Ledger) {
    add(ledger, &["a"]).await;
    let mut new = mail("1", &["a"]);
    new.mail.subject = "'; DROP TABLE mails; -- 🦀".to_owned();
    new.mail.text = "x".repeat(100_000) + "\r\n.\r\n";
    new.mail.receivers = vec!["\"a, b\" <a@example.com>".to_owned()];
    let expected = new.mail.clone();
    assert!(compose(ledger, vec![new]).await);
    assert_eq!(taken(ledger, "w", 10).await[0].mail, expected);
}
