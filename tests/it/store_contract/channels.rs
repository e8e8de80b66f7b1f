//! Channels: what is given to whom, messages, leases, outcomes; and channels that were made on the page.

use std::time::Duration;

use futures_util::future::join;
use jiff::Timestamp;
use order_relay::domain::channel::{ChannelRule, ChannelWindow};
use order_relay::domain::notice::{DigestRule, DigestWindow, NoticeKind};
use order_relay::domain::permission::Grants;
use order_relay::domain::quiet_times::QuietTimes;
use order_relay::ports::audit::{Act, AuditFilter};
use order_relay::ports::channels::{
    ChannelDecision, ChannelState, ClaimedMessage, Incident, MessageClaim, MessageContent,
    MessageFate, MessageFilter, MessageStatus, NewMessage, Severity, StoredChannel,
};
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::mail::NoticeDetail;
use order_relay::ports::notices::Notice;
use uuid::Uuid;

use super::{Ledger, at};

on_every_ledger!(
    a_notice_is_given_once_to_each_channel_that_takes_it,
    notices_wait_for_each_channel_by_itself,
    what_is_decided_is_written_whole_or_not_at_all,
    of_two_who_decide_about_a_notice_one_is_told_no,
    a_message_is_taken_by_one_worker_at_a_time,
    that_it_is_over_waits_for_that_it_began,
    what_became_of_a_message_stays_visible,
    a_channel_that_is_away_is_left_alone,
    the_parts_of_a_message_take_its_notices,
    a_message_that_failed_is_sent_again_once,
    a_test_is_taken_by_nobody_else_while_it_is_sent,
    a_channel_of_the_page_is_changed_by_one_at_a_time,
    text_in_messages_comes_back_as_it_went_in,
);

fn rule(kinds: &[NoticeKind], shops: &[&str]) -> ChannelRule {
    ChannelRule {
        enabled: true,
        kinds: kinds.to_vec(),
        shops: shops.iter().map(|shop| (*shop).to_owned()).collect(),
        threshold: None,
        digest: DigestRule { after: 3, every: Duration::from_mins(5) },
        quiet: QuietTimes::default(),
    }
}

fn channels() -> Vec<(String, ChannelRule)> {
    vec![
        ("all".to_owned(), rule(&NoticeKind::ALL, &[])),
        ("at".to_owned(), rule(&[NoticeKind::OrderFailed], &["at"])),
    ]
}

fn notice(id: &str, kind: NoticeKind, shop: &str, now: Timestamp) -> Notice {
    let detail = NoticeDetail::of_erp("default", shop, "away", now);
    Notice { id: id.to_owned(), kind, detail, created_at: now }
}

async fn add(ledger: &Ledger, id: &str, shop: &str) {
    let notice = notice(id, NoticeKind::OrderFailed, shop, at(0));
    ledger.store.add_notice(notice).await.expect("the ledger answers");
}

async fn give(ledger: &Ledger, limit: u32) -> u32 {
    ledger.store.give_to_channels(&channels(), at(1), limit).await.expect("the ledger answers")
}

async fn waiting(ledger: &Ledger, channel: &str, now: i64) -> Vec<String> {
    let waiting = ledger.store.waiting_for_channel(channel, at(now), 100).await;
    waiting.expect("the ledger answers").into_iter().map(|notice| notice.id).collect()
}

fn content(title: &str) -> MessageContent {
    MessageContent {
        kind: "order_failed".to_owned(),
        severity: Severity::Error,
        title: title.to_owned(),
        link: "https://relay.example.com".to_owned(),
        incident: None,
        events: Vec::new(),
        failures: None,
        occurred_at: at(0),
    }
}

fn message(title: &str, notices: &[&str]) -> NewMessage {
    NewMessage {
        id: SystemClock.unique_id(),
        content: content(title),
        notices: notices.iter().map(|id| (*id).to_owned()).collect(),
        now: at(10),
    }
}

fn decision(messages: Vec<NewMessage>) -> ChannelDecision {
    ChannelDecision {
        messages,
        below: Vec::new(),
        later: Vec::new(),
        window: ChannelWindow::default(),
        now: at(10),
    }
}

async fn decide(ledger: &Ledger, channel: &str, decided: &ChannelDecision) -> bool {
    ledger.store.decide_for_channel(channel, decided).await.expect("the ledger answers")
}

/// A message to `all` with one notice.
async fn composed(ledger: &Ledger, id: &str) -> NewMessage {
    add(ledger, id, "de").await;
    give(ledger, 10).await;
    let new = message(id, &[id]);
    assert!(decide(ledger, "all", &decision(vec![new.clone()])).await);
    new
}

async fn claim(ledger: &Ledger, worker: &str, now: i64) -> Option<ClaimedMessage> {
    let claim = MessageClaim { worker: worker.to_owned(), now: at(now), until: at(now + 100) };
    let claimed = ledger.store.claim_channel_message("all", &claim).await;
    claimed.expect("the ledger answers")
}

async fn settle(ledger: &Ledger, id: Uuid, fate: MessageFate) {
    ledger.store.settle_channel_message(id, fate).await.expect("the ledger answers");
}

async fn status(ledger: &Ledger, id: Uuid) -> MessageStatus {
    let found = ledger.store.channel_message(id).await.expect("the ledger answers");
    found.expect("it is there").status
}

async fn state(ledger: &Ledger, channel: &str) -> ChannelState {
    let states = ledger.store.channel_states().await.expect("the ledger answers");
    states.into_iter().find(|state| state.channel == channel).unwrap_or_default()
}

fn act(action: &str) -> Act {
    Act {
        id: SystemClock.unique_id(),
        actor: "user:erika".to_owned(),
        from: None,
        grants: Grants::all(),
        reason: Some(action.to_owned()),
        now: at(500),
    }
}

async fn a_notice_is_given_once_to_each_channel_that_takes_it(ledger: &Ledger) {
    add(ledger, "a", "de").await;
    add(ledger, "b", "at").await;
    let customers = notice("c", NoticeKind::CustomerConfirmation, "at", at(0));
    ledger.store.add_notice(customers).await.expect("the ledger answers");
    assert_eq!(give(ledger, 1).await, 1);
    assert_eq!(give(ledger, 10).await, 1);
    assert_eq!(give(ledger, 10).await, 0, "a customer's is given to nobody");
    assert_eq!(waiting(ledger, "all", 1).await, ["a", "b"]);
    assert_eq!(waiting(ledger, "at", 1).await, ["b"]);
    let both = join(give(ledger, 10), give(ledger, 10)).await;
    assert_eq!(both, (0, 0));
    assert_eq!(state(ledger, "all").await.held, 2);
}

async fn notices_wait_for_each_channel_by_itself(ledger: &Ledger) {
    add(ledger, "a", "at").await;
    add(ledger, "b", "at").await;
    give(ledger, 10).await;
    let later = vec![("a".to_owned(), at(50)), ("b".to_owned(), at(60))];
    let decided = ChannelDecision { later, ..decision(Vec::new()) };
    assert!(decide(ledger, "all", &decided).await);
    assert!(waiting(ledger, "all", 49).await.is_empty());
    // One that is due brings the others along: a threshold counts all of them.
    assert_eq!(waiting(ledger, "all", 50).await, ["a", "b"]);
    assert_eq!(waiting(ledger, "at", 1).await, ["a", "b"]);
}

async fn what_is_decided_is_written_whole_or_not_at_all(ledger: &Ledger) {
    for id in ["a", "b", "c"] {
        add(ledger, id, "at").await;
    }
    give(ledger, 10).await;
    let window = ChannelWindow {
        digest: Some(DigestWindow { started_at: at(10), sent: 2 }),
        above_until: Some(at(900)),
    };
    let below = vec!["b".to_owned()];
    let decided = ChannelDecision { below, window, ..decision(vec![message("1", &["a"])]) };
    assert!(decide(ledger, "all", &decided).await);
    let kept = ledger.store.channel_window("all").await.expect("the ledger answers");
    assert_eq!(kept, window);
    assert_eq!(waiting(ledger, "all", 20).await, ["c"]);
    let broken = ChannelDecision {
        window: ChannelWindow::default(),
        ..decision(vec![message("2", &["c"]), message("3", &["b"])])
    };
    assert!(!decide(ledger, "all", &broken).await);
    assert_eq!(waiting(ledger, "all", 20).await, ["c"], "nothing of it was kept");
    assert_eq!(ledger.store.channel_window("all").await.expect("an answer"), window);
    let told = state(ledger, "all").await;
    assert_eq!((told.held, told.waiting, told.below), (1, 1, 1));
    assert_eq!(
        ledger.store.channel_window("at").await.expect("an answer"),
        ChannelWindow::default()
    );
}

async fn of_two_who_decide_about_a_notice_one_is_told_no(ledger: &Ledger) {
    add(ledger, "a", "de").await;
    give(ledger, 10).await;
    let (one, other) = (decision(vec![message("1", &["a"])]), decision(vec![message("2", &["a"])]));
    let done = join(decide(ledger, "all", &one), decide(ledger, "all", &other)).await;
    assert!(done.0 != done.1, "{done:?}");
    let all = ledger.store.list_channel_messages(&MessageFilter::default(), 10).await;
    assert_eq!(all.expect("the ledger answers").len(), 1);
}

async fn a_message_is_taken_by_one_worker_at_a_time(ledger: &Ledger) {
    let new = composed(ledger, "a").await;
    assert!(claim(ledger, "w1", 9).await.is_none(), "not before it is due");
    let both = join(claim(ledger, "w1", 10), claim(ledger, "w2", 10)).await;
    assert!(both.0.is_some() != both.1.is_some(), "{both:?}");
    assert!(claim(ledger, "w3", 109).await.is_none());
    let again = claim(ledger, "w3", 111).await.expect("the lease has ended");
    assert_eq!((again.id, again.tries, again.queued_at), (new.id, 2, at(10)));
    settle(ledger, new.id, MessageFate::Untried).await;
    let again = claim(ledger, "w3", 112).await.expect("it is free");
    assert_eq!(again.tries, 2, "no attempt was made");
}

async fn that_it_is_over_waits_for_that_it_began(ledger: &Ledger) {
    for id in ["began", "over", "other"] {
        add(ledger, id, "de").await;
    }
    give(ledger, 10).await;
    let of = |title: &str, is_over| {
        let mut new = message(title, &[title]);
        new.content.incident = Some(Incident { key: "circuit".to_owned(), is_over });
        new
    };
    let (began, over) = (of("began", false), of("over", true));
    let all = vec![began.clone(), over.clone(), message("other", &["other"])];
    assert!(decide(ledger, "all", &decision(all)).await);
    let first = claim(ledger, "w", 10).await.expect("it is due");
    assert_eq!(first.content.title, "began");
    let put_off = MessageFate::Later { at: at(60), error: "it answers 500".to_owned() };
    settle(ledger, first.id, put_off).await;
    let second = claim(ledger, "w", 11).await.expect("it is due");
    assert_eq!(second.content.title, "other");
    assert!(claim(ledger, "w", 12).await.is_none());
    let first = claim(ledger, "w", 60).await.expect("it is due");
    settle(ledger, first.id, MessageFate::Delivered(at(61))).await;
    let last = claim(ledger, "w", 62).await.expect("its turn has come");
    assert_eq!(last.content.title, "over");
}

async fn what_became_of_a_message_stays_visible(ledger: &Ledger) {
    let (a, b) = (composed(ledger, "a").await, composed(ledger, "b").await);
    settle(ledger, a.id, MessageFate::Failed { at: at(20), error: "it answers 410".to_owned() })
        .await;
    let refused = ledger.store.refused_channels().await.expect("the ledger answers");
    assert_eq!(
        (&*refused[0].channel, &*refused[0].error, refused[0].at),
        ("all", "it answers 410", at(20))
    );
    settle(ledger, b.id, MessageFate::Delivered(at(30))).await;
    assert!(ledger.store.refused_channels().await.expect("the ledger answers").is_empty());
    // What was delivered stays delivered, and counts once.
    settle(ledger, b.id, MessageFate::Failed { at: at(40), error: "late".to_owned() }).await;
    settle(ledger, b.id, MessageFate::Delivered(at(40))).await;
    assert_eq!(
        (status(ledger, a.id).await, status(ledger, b.id).await),
        (MessageStatus::Failed, MessageStatus::Delivered)
    );
    let told = state(ledger, "all").await;
    assert_eq!((told.delivered, told.failed, told.waiting, told.held), (1, 1, 0, 0));
    assert_eq!((told.delivered_at, told.error, told.is_refused), (Some(at(30)), None, false));
    let filter =
        |channel: &str, status| MessageFilter { channel: Some(channel.to_owned()), status };
    let list = async |filter| {
        let list = ledger.store.list_channel_messages(&filter, 10).await.expect("an answer");
        list.into_iter().map(|message| message.content.title).collect::<Vec<_>>()
    };
    assert_eq!(list(filter("all", Some(MessageStatus::Failed))).await, ["a"]);
    assert_eq!(list(filter("all", None)).await.len(), 2);
    assert!(list(filter("at", None)).await.is_empty());
}

async fn a_channel_that_is_away_is_left_alone(ledger: &Ledger) {
    composed(ledger, "a").await;
    composed(ledger, "b").await;
    let first = claim(ledger, "w", 10).await.expect("it is due");
    let away = MessageFate::ChannelAway { at: at(90), error: "connection refused".to_owned() };
    settle(ledger, first.id, away).await;
    assert!(claim(ledger, "w", 89).await.is_none());
    assert!(claim(ledger, "w", 90).await.is_some());
    assert!(claim(ledger, "w", 90).await.is_some());
    assert_eq!(state(ledger, "all").await.error.as_deref(), Some("connection refused"));
}

async fn the_parts_of_a_message_take_its_notices(ledger: &Ledger) {
    for id in ["a", "b"] {
        add(ledger, id, "de").await;
    }
    give(ledger, 10).await;
    let whole = message("whole", &["a", "b"]);
    assert!(decide(ledger, "all", &decision(vec![whole.clone()])).await);
    let parts = vec![message("1", &["a"]), message("2", &["b"])];
    let error = "it answers 413".to_owned();
    settle(ledger, whole.id, MessageFate::Split { at: at(20), error, parts: parts.clone() }).await;
    assert_eq!(status(ledger, whole.id).await, MessageStatus::Split);
    let notices = async |id| {
        let found = ledger.store.notices_in_message(id).await.expect("the ledger answers");
        found.into_iter().map(|notice| notice.id).collect::<Vec<_>>()
    };
    assert!(notices(whole.id).await.is_empty());
    assert_eq!(
        (notices(parts[0].id).await, notices(parts[1].id).await),
        (vec!["a".to_owned()], vec!["b".to_owned()])
    );
    assert_eq!(state(ledger, "all").await.waiting, 2);
}

async fn a_message_that_failed_is_sent_again_once(ledger: &Ledger) {
    let new = composed(ledger, "a").await;
    let resend = async || ledger.store.resend_channel_message(new.id, &act("again")).await;
    assert!(!resend().await.expect("an answer"), "it is under way");
    claim(ledger, "w", 10).await.expect("it is due");
    settle(ledger, new.id, MessageFate::Failed { at: at(20), error: "410".to_owned() }).await;
    let both = join(resend(), resend()).await;
    assert!(both.0.expect("an answer") != both.1.expect("an answer"));
    assert!(claim(ledger, "w", 499).await.is_none());
    let again = claim(ledger, "w", 500).await.expect("it is due");
    assert_eq!((again.id, again.tries, again.queued_at), (new.id, 1, at(500)));
    let audit = ledger.store.list_audit(&AuditFilter::default(), None, 10).await;
    let audit = audit.expect("the ledger answers");
    assert_eq!((audit.len(), &*audit[0].entry.action), (1, "channel.resend"));
}

async fn a_test_is_taken_by_nobody_else_while_it_is_sent(ledger: &Ledger) {
    let test = NewMessage { notices: Vec::new(), ..message("test", &[]) };
    let added = ledger.store.add_test_message("all", &test, at(200), &act("test")).await;
    added.expect("the ledger answers");
    assert!(claim(ledger, "w", 199).await.is_none());
    let taken = claim(ledger, "w", 200).await.expect("whoever sent it is gone");
    assert_eq!((taken.id, taken.tries), (test.id, 2));
    settle(ledger, test.id, MessageFate::Delivered(at(201))).await;
    assert_eq!(status(ledger, test.id).await, MessageStatus::Delivered);
    let audit = ledger.store.list_audit(&AuditFilter::default(), None, 10).await;
    assert_eq!(audit.expect("the ledger answers")[0].entry.target, "channel all");
}

async fn a_channel_of_the_page_is_changed_by_one_at_a_time(ledger: &Ledger) {
    let stored = |definition: &str, version| StoredChannel {
        name: "chat".to_owned(),
        definition: definition.to_owned(),
        version,
    };
    let save = async |channel: &StoredChannel, expected| {
        let saved = ledger.store.save_channel(channel, expected, &act("save")).await;
        saved.expect("the ledger answers")
    };
    assert!(save(&stored("{}", 1), 0).await);
    assert!(!save(&stored("{\"a\": 1}", 1), 0).await, "there is one");
    let (one, other) = (stored("{\"b\": 1}", 2), stored("{\"c\": 1}", 2));
    let both = join(save(&one, 1), save(&other, 1)).await;
    assert!(both.0 != both.1, "{both:?}");
    let kept = ledger.store.stored_channels().await.expect("the ledger answers");
    assert_eq!((kept.len(), kept[0].version), (1, 2));
    assert!(ledger.store.delete_channel("chat", &act("delete")).await.expect("an answer"));
    assert!(!ledger.store.delete_channel("chat", &act("delete")).await.expect("an answer"));
    assert!(ledger.store.stored_channels().await.expect("the ledger answers").is_empty());
    let audit = ledger.store.list_audit(&AuditFilter::default(), None, 10).await;
    assert_eq!(audit.expect("the ledger answers").len(), 3);
}

async fn text_in_messages_comes_back_as_it_went_in(ledger: &Ledger) {
    add(ledger, "a", "de").await;
    give(ledger, 10).await;
    let mut new = message("'; DROP TABLE channels; -- \u{1f4a5} \"\\\n\u{202e}", &["a"]);
    new.content.link = "https://relay.example.com/?a=1&b='2'".to_owned();
    assert!(decide(ledger, "all", &decision(vec![new.clone()])).await);
    let found =
        ledger.store.channel_message(new.id).await.expect("an answer").expect("it is there");
    assert_eq!(found.content, new.content);
    assert_eq!((found.channel, found.tries, found.error), ("all".to_owned(), 0, None));
}
