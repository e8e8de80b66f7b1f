//! Who is told what: one mail for a failure, a digest for many, nothing twice, nothing lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use order_relay::domain::notice::{CustomerConfirmation, DigestRule, NoticeKind};
use order_relay::domain::order::values::OrderKey;
use order_relay::ports::mail::{Mail, NoticeDetail};
use order_relay::ports::notices::{MailStatus, Notice, StoredMail};
use serde_json::json;

use crate::erp::Turn::*;
use crate::paused;
use crate::post::Service;
use crate::world::{Setup, World, operator};

async fn failures(world: &World, count: u32) {
    for n in 0..count {
        let id = format!("F{n:03}");
        world.erp.will(&id, &[Refuse]);
        world.place(&id).await;
    }
}

/// How often each failed order is named in the mails that the server took.
fn named(world: &World, order_id: &str) -> usize {
    world.post.of(NoticeKind::OrderFailed).iter().filter(|mail| is_named(mail, order_id)).count()
}

/// A digest names every order in its list.
fn is_named(mail: &Mail, order_id: &str) -> bool {
    let list = mail.attachment.as_deref().unwrap_or(&mail.text);
    list.contains(order_id)
}

/// How often each of the orders is named in the mails that one receiver got.
fn named_to(world: &World, receiver: &str, order_id: &str) -> usize {
    let mails = world.post.mails().into_iter().zip(world.post.receivers());
    mails.filter(|(mail, to)| to == receiver && is_named(mail, order_id)).count()
}

paused! {
    async fn each_failure_is_one_mail(world) {
        failures(&world, 3).await;
        world.settle().await;
        assert_eq!(world.post.of(NoticeKind::OrderFailed).len(), 3);
    }

    async fn a_mail_names_order_error_and_link(world) {
        failures(&world, 1).await;
        world.settle().await;
        let mail = world.post.mails().remove(0);
        for part in ["F000", "product '4711' is unknown", "https://relay.example.com/orders/default/F000"] {
            assert!(mail.text.contains(part), "{part}: {}", mail.text);
        }
        assert_eq!((mail.receivers, mail.sender), (vec!["admin@example.com".to_owned()], "shop@example.com".to_owned()));
    }

    async fn many_failures_are_one_digest_after_the_first_ten(world) {
        failures(&world, 60).await;
        world.settle().await;
        let mails = world.post.of(NoticeKind::OrderFailed);
        assert!(mails.len() <= 12, "{}", mails.len());
        for n in 0..60 {
            assert_eq!(named(&world, &format!("F{n:03}")), 1, "F{n:03} is named once");
        }
    }

    async fn a_failure_that_is_retried_is_told_each_time(world) {
        world.erp.will("1", &[Busy, Busy, Busy]);
        world.place("1").await;
        world.settle().await;
        assert_eq!(world.post.subjects(), ["Order 1 failed (1)", "Order 1 failed (2)", "Order 1 failed (3)"]);
    }

    async fn mails_wait_while_the_server_is_away_and_go_when_it_is_back(world) {
        world.post.is(Service::Away);
        failures(&world, 3).await;
        world.seconds(600).await;
        assert_eq!(world.post.mails().len(), 0);
        world.post.is(Service::Takes);
        world.settle().await;
        for n in 0..3 {
            assert_eq!(named(&world, &format!("F{n:03}")), 1);
        }
    }

    async fn a_server_that_is_away_is_not_hammered(world) {
        world.post.is(Service::Away);
        failures(&world, 1).await;
        world.seconds(1_800).await;
        assert!(world.post.attempts() < 60, "{}", world.post.attempts());
    }

    async fn a_refused_mail_is_shown_as_failed(world) {
        world.post.is(Service::Refuses);
        failures(&world, 1).await;
        world.seconds(120).await;
        let mails = world.stored_mails().await;
        assert_eq!(mails.iter().map(|mail| mail.status).collect::<Vec<_>>(), [MailStatus::Failed]);
        assert!(mails[0].error().unwrap_or_default().contains("550"));
    }

    async fn a_mail_server_that_is_away_holds_up_no_order(world) {
        world.post.is(Service::Away);
        failures(&world, 1).await;
        world.place("good").await;
        world.until("good", "transferred").await;
        assert!(world.now_s() < 10);
    }

    async fn mails_survive_a_process_that_dies(world) {
        world.post.is(Service::Away);
        failures(&world, 2).await;
        world.seconds(60).await;
        world.kill();
        world.post.is(Service::Takes);
        world.start("w2").await;
        world.settle().await;
        for n in 0..2 {
            assert_eq!(named(&world, &format!("F{n:03}")), 1);
        }
    }

    async fn two_processes_send_no_mail_twice(world) {
        world.start("w2").await;
        failures(&world, 8).await;
        world.settle().await;
        for n in 0..8 {
            assert_eq!(named(&world, &format!("F{n:03}")), 1);
        }
    }

    async fn the_same_mail_has_the_same_id(world) {
        failures(&world, 2).await;
        world.settle().await;
        let mut ids: Vec<String> = world.post.mails().into_iter().map(|mail| mail.message_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2);
    }

    async fn order_data_stays_text_in_a_mail(world) {
        world.erp.will("1", &[Refuse]);
        let hostile = "<script>alert(1)</script>\r\nBcc: all@example.com";
        world.place_with("1", &json!({"customer": {"email": "a@b.example", "name": hostile}})).await;
        world.settle().await;
        let mail = world.post.mails().remove(0);
        assert!(!mail.html.contains("<script>") && !mail.subject.contains('\n'));
    }

    async fn a_parked_order_s_mail_says_that_nobody_tries_again(world) {
        failures(&world, 1).await;
        world.settle().await;
        let mails = world.stored_mails().await;
        assert_eq!((mails.len(), mails[0].status), (1, MailStatus::Sent));
    }

    async fn mails_are_seen_by_who_may_see_all_shops(world) {
        failures(&world, 1).await;
        world.settle().await;
        let mails = world.ops.mails(&operator(), None, 10).await.expect("all is allowed");
        assert_eq!(mails.len(), 1);
        let missing = world.ops.mail(&operator(), "nonsense").await.expect_err("no id");
        assert_eq!(missing.to_string(), "there is no mail nonsense");
    }
}

const TWO: [&str; 2] = ["first@example.com", "last@example.com"];

async fn with_two_receivers() -> World {
    World::with(Setup { receivers: TWO.map(str::to_owned).to_vec(), ..Setup::default() }).await
}

#[tokio::test(start_paused = true)]
async fn a_refused_address_silences_nobody_else_wherever_it_stands() {
    for (refused, other) in [(TWO[0], TWO[1]), (TWO[1], TWO[0])] {
        let world = with_two_receivers().await;
        world.post.is(Service::RefusesOnly(refused));
        failures(&world, 2).await;
        world.settle().await;
        assert_eq!(world.post.receivers(), [other, other]);
        for mail in world.stored_mails().await {
            assert_eq!(mail.status, MailStatus::Sent, "somebody got it");
            let of = |receiver| mail.deliveries.iter().find(|d| d.receiver == receiver).unwrap();
            let (bad, good) = (of(refused), of(other));
            assert_eq!((bad.status, good.status), (MailStatus::Failed, MailStatus::Sent));
            assert!(bad.error.as_deref().is_some_and(|error| error.contains("550")));
            assert_eq!((&good.error, good.tries), (&None, 1));
        }
        let refusals =
            world.store.refused_receivers(Timestamp::UNIX_EPOCH).await.expect("the ledger answers");
        assert_eq!(refusals.iter().map(|one| &*one.receiver).collect::<Vec<_>>(), [refused]);
        let counts = world.store.count_mails().await.expect("the ledger answers");
        assert_eq!((counts.failed, counts.unheard), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_taken_again_is_no_longer_shown_as_refused() {
    let world = with_two_receivers().await;
    world.post.is(Service::RefusesOnly(TWO[0]));
    world.erp.always(Some(Refuse));
    world.place("1").await;
    world.settle().await;
    world.post.is(Service::Takes);
    world.place("2").await;
    world.settle().await;
    assert_eq!(
        world.store.refused_receivers(Timestamp::UNIX_EPOCH).await.expect("the ledger answers"),
        []
    );
}

#[tokio::test(start_paused = true)]
async fn one_busy_address_delays_only_itself() {
    let world = with_two_receivers().await;
    world.post.is(Service::IsBusyFor(TWO[0]));
    failures(&world, 6).await;
    world.seconds(60).await;
    assert_eq!(world.post.receivers(), [TWO[1]; 6], "the other one waits for nothing");
    for mail in world.stored_mails().await {
        let busy = &mail.deliveries[0];
        assert_eq!((busy.status, mail.status), (MailStatus::Waiting, MailStatus::Waiting));
        assert!(mail.deliveries[1].error.is_none(), "no stranger's error");
    }
    world.post.is(Service::Takes);
    world.settle().await;
    assert_eq!(world.post.receivers().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_nobody_got_is_counted_as_unheard() {
    let world = with_two_receivers().await;
    world.post.is(Service::Refuses);
    failures(&world, 1).await;
    world.settle().await;
    let counts = world.store.count_mails().await.expect("the ledger answers");
    assert_eq!((counts.failed, counts.unheard), (2, 1));
    assert!(world.stored_mails().await[0].is_unheard());
    assert_eq!(world.ops.count_unheard().await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_sent_again_once_to_whoever_has_not_got_it() {
    let world = with_two_receivers().await;
    world.post.is(Service::RefusesOnly(TWO[0]));
    failures(&world, 1).await;
    world.settle().await;
    world.post.is(Service::Takes);
    let id = world.stored_mails().await[0].id.to_string();
    let act = world.ops.act(&operator(), Some("the address was corrected"));
    assert_eq!(world.ops.resend_mail(&id, &act).await.expect("it failed for one"), 1);
    let twice = world.ops.resend_mail(&id, &act).await.expect_err("it is on its way");
    assert!(twice.to_string().contains("on its way"), "{twice}");
    world.settle().await;
    assert_eq!(world.post.receivers(), [TWO[1], TWO[0]], "nobody twice");
    assert_eq!(world.post.mails()[0].message_id, world.post.mails()[1].message_id);
    world.ops.resend_mail(&id, &act).await.expect_err("everybody has it");
}

#[tokio::test(start_paused = true)]
async fn an_unheard_alert_is_quiet_when_it_is_acknowledged_or_sent_again() {
    let world = with_two_receivers().await;
    world.post.is(Service::Refuses);
    failures(&world, 2).await;
    world.settle().await;
    world.post.is(Service::Takes);
    let mails = world.stored_mails().await;
    let act = || world.ops.act(&operator(), Some("read on the page"));
    let (first, second) = (mails[0].id.to_string(), mails[1].id.to_string());
    assert_eq!(world.ops.count_unheard().await, 2);
    world.ops.acknowledge_mail(&first, &act()).await.expect("nobody got it");
    world.ops.acknowledge_mail(&first, &act()).await.expect_err("it is acknowledged");
    assert_eq!(world.ops.count_unheard().await, 1);
    assert_eq!(world.ops.resend_mail(&second, &act()).await.expect("nobody got it"), 2);
    world.settle().await;
    assert_eq!((world.ops.count_unheard().await, world.post.receivers().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn an_address_with_an_unseen_character_gets_no_mail_and_is_shown() {
    let world =
        World::with(Setup { customer: CustomerConfirmation::Always, ..Setup::default() }).await;
    for (id, email) in [("1", "erika\u{200b}@example.com"), ("2", "erika@example.com")] {
        world.place_with(id, &json!({"customer": {"email": email}})).await;
    }
    world.settle().await;
    assert_eq!(world.post.receivers(), ["erika@example.com"]);
    let key = OrderKey::new("default", "1").expect("a key");
    let order = world.store.order(&key).await.expect("the ledger answers").expect("it is there");
    let email = order.record.facts.customer.email.expect("kept as it came");
    assert_eq!((email.as_str(), email.unseen()), ("erika\u{200b}@example.com", Some('\u{200b}')));
}

/// Many failures at once, so that they are one digest.
async fn digest_of(world: &World, count: u32) {
    world.post.is(Service::Takes);
    failures(world, count).await;
}

fn one_digest() -> Setup {
    let digest = DigestRule { after: 1, every: Duration::from_mins(5) };
    Setup { digest, receivers: TWO.map(str::to_owned).to_vec(), ..Setup::default() }
}

#[tokio::test(start_paused = true)]
async fn a_digest_shows_numbers_and_the_newest_orders_and_attaches_the_list() {
    let world = World::with(one_digest()).await;
    digest_of(&world, 120).await;
    world.settle().await;
    let digests: Vec<Mail> =
        world.post.mails().into_iter().filter(|mail| mail.attachment.is_some()).collect();
    let largest = digests.iter().max_by_key(|mail| mail.bytes()).expect("there is one");
    let list = largest.attachment.as_deref().expect("it is a digest");
    let orders = list.lines().count() - 1;
    assert!(orders > 60, "{orders}");
    for part in [largest.text.clone(), largest.html.replace("&#x2f;", "/")] {
        assert!(part.contains("/groups/") && part.contains("/lost-orders"), "{part}");
        assert!(part.contains('€') && part.contains("The newest 50 orders"), "{part}");
        assert_eq!(
            part.matches("/orders/default/").count() + part.matches("  default/F").count(),
            50
        );
    }
    for n in 0..120 {
        let id = format!("F{n:03}");
        for receiver in TWO {
            assert_eq!(named_to(&world, receiver, &id), 1, "{id} to {receiver}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_digest_that_is_too_large_is_split() {
    let max_bytes = 64 * 1024;
    let world = World::with(Setup { max_bytes, ..one_digest() }).await;
    digest_of(&world, 400).await;
    world.settle().await;
    let mails = world.post.mails();
    assert!(mails.iter().all(|mail| mail.bytes() <= max_bytes), "none is larger");
    assert!(mails.len() < 30, "{} mails", mails.len());
    for n in 0..400 {
        let id = format!("F{n:03}");
        for receiver in TWO {
            assert_eq!(named_to(&world, receiver, &id), 1, "{id} to {receiver}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_who_takes_only_small_mails_gets_parts_and_the_other_the_whole() {
    let world = World::with(one_digest()).await;
    let most = 45_000;
    world.post.is(Service::TakesSmall(TWO[0], most));
    failures(&world, 120).await;
    world.settle().await;
    let sizes = |receiver: &str| {
        let mails = world.post.mails().into_iter().zip(world.post.receivers());
        mails.filter(|(_, to)| to == receiver).map(|(mail, _)| mail.bytes()).collect::<Vec<_>>()
    };
    assert!(sizes(TWO[0]).iter().all(|bytes| *bytes <= most), "{:?}", sizes(TWO[0]));
    assert!(sizes(TWO[1]).iter().any(|bytes| *bytes > most), "{:?}", sizes(TWO[1]));
    for n in 0..120 {
        let id = format!("F{n:03}");
        for receiver in TWO {
            assert_eq!(named_to(&world, receiver, &id), 1, "{id} to {receiver}");
        }
    }
    let counts = world.store.count_mails().await.expect("the ledger answers");
    assert_eq!((counts.failed, counts.unheard), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_order_shows_the_part_of_a_digest_that_names_it() {
    let receivers = vec![TWO[0].to_owned()];
    let world = World::with(Setup { receivers, ..one_digest() }).await;
    world.post.is(Service::TakesSmall(TWO[0], 30_000));
    failures(&world, 120).await;
    world.settle().await;
    let is_split = |mail: &StoredMail| mail.is_only_in_parts();
    assert!(world.stored_mails().await.iter().any(is_split), "a digest was too large");
    for n in [0, 60, 119] {
        let id = format!("F{n:03}");
        let mails = world.order(&id).await.mails;
        assert!(!mails.is_empty() && !mails.iter().any(is_split), "{id}: {}", mails.len());
        for mail in mails.iter().map(|stored| &stored.mail) {
            let named =
                format!("{}{}", mail.subject, mail.attachment.as_deref().unwrap_or_default());
            assert!(named.contains(&id), "{id}: {named}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_mail_that_is_too_large_is_shown_as_failed() {
    let world = with_two_receivers().await;
    world.post.is(Service::TakesSmall(TWO[0], 10));
    failures(&world, 1).await;
    world.settle().await;
    let mail = world.stored_mails().await.remove(0);
    assert_eq!(mail.deliveries[0].status, MailStatus::Failed);
    assert!(mail.error().is_some_and(|error| error.contains("552")), "{mail:?}");
}

#[tokio::test(start_paused = true)]
async fn order_data_in_the_list_of_a_digest_is_no_formula() {
    let world = World::with(one_digest()).await;
    world.erp.always(Some(Refuse));
    for n in 0..30 {
        world.place(&format!("-G{n:02}")).await;
    }
    world.settle().await;
    let digests = world.post.mails();
    let list = digests.iter().find_map(|mail| mail.attachment.as_deref()).expect("a digest");
    assert!(list.contains("\"'-G29\"") && !list.contains("\"-G"), "{list}");
}

#[tokio::test(start_paused = true)]
async fn the_news_that_the_erp_is_away_goes_past_a_refused_address_too() {
    let world = with_two_receivers().await;
    world.post.is(Service::RefusesOnly(TWO[0]));
    world.erp.always(Some(Away));
    for id in ["1", "2", "3", "4"] {
        world.place(id).await;
    }
    world
        .wait("the circuit is told", async || !world.post.of(NoticeKind::CircuitOpened).is_empty())
        .await;
    let mails = world.stored_mails().await;
    let mail = mails.iter().find(|m| m.mail.kind == NoticeKind::CircuitOpened).expect("told");
    assert_eq!(mail.deliveries[1].status, MailStatus::Sent);
}

#[tokio::test(start_paused = true)]
async fn a_customer_s_refused_mail_is_no_alert_and_holds_up_no_administrator() {
    let world =
        World::with(Setup { customer: CustomerConfirmation::Always, ..Setup::default() }).await;
    world.post.is(Service::RefusesOnly("erika@example.com"));
    world.place("good").await;
    failures(&world, 1).await;
    world.settle().await;
    assert_eq!(world.post.receivers(), ["admin@example.com"]);
    let counts = world.store.count_mails().await.expect("the ledger answers");
    assert_eq!((counts.failed, counts.unheard), (1, 0));
    assert_eq!(
        world.store.refused_receivers(Timestamp::UNIX_EPOCH).await.expect("the ledger answers"),
        []
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_mail_server_mails_are_kept() {
    let world = World::with(Setup { keep_only: true, ..Setup::default() }).await;
    failures(&world, 1).await;
    world.settle().await;
    let mails = world.stored_mails().await;
    assert_eq!((mails.len(), mails[0].status, world.post.attempts()), (1, MailStatus::Kept, 0));
}

#[tokio::test(start_paused = true)]
async fn a_digest_comes_when_its_window_ends() {
    let digest = DigestRule { after: 1, every: Duration::from_mins(5) };
    let world = World::with(Setup { digest, ..Setup::default() }).await;
    world.erp.always(Some(Refuse));
    // Alone: those that fail together may be one digest at once.
    world.place("1").await;
    world.settle().await;
    assert_eq!(world.post.mails().len(), 1, "the first is told at once");
    for id in ["2", "3", "4", "5"] {
        world.place(id).await;
    }
    world.settle().await;
    assert_eq!(world.post.mails().len(), 2, "the others as one");
    assert!(world.now_s() >= 280, "{}", world.now_s());
}

/// The notice about a failure as the error handler writes it.
fn failed(world: &World, n: usize) -> Notice {
    let now = world.context("writer").now();
    let id = format!("B-{n:05}");
    let message =
        ["maintenance until 04:00", "article 4711 is locked", "credit limit reached"][n % 3];
    let detail = NoticeDetail {
        order_id: Some(id.clone()),
        currency: Some("EUR".to_owned()),
        total: Some("129.90".to_owned()),
        customer_number: Some("C-1001".to_owned()),
        customer_name: Some("Erika Muster".to_owned()),
        attempt: 1,
        fail_count: 1,
        max_count: Some(3),
        phase: "parked".to_owned(),
        class: Some("rejected".to_owned()),
        code: Some("http_422".to_owned()),
        erp: None,
        ..NoticeDetail::of_erp("default", "default", message, now)
    };
    Notice {
        id: format!("order_failed:default/{id}#1"),
        kind: NoticeKind::OrderFailed,
        detail,
        created_at: now,
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_failures_are_a_few_mails_that_name_each_order_once() {
    const FAILURES: usize = 2_000;
    const MOST: usize = 256 * 1024;
    let world = World::with(Setup {
        receivers: TWO.map(str::to_owned).to_vec(),
        max_bytes: MOST,
        digest: DigestRule { after: 1, every: Duration::from_mins(5) },
        ..Setup::default()
    })
    .await;
    for n in 0..FAILURES {
        world.store.add_notice(failed(&world, n)).await.expect("the ledger answers");
    }
    world.settle().await;
    let mut named = BTreeMap::<(String, String), usize>::new();
    let (mails, receivers) = (world.post.mails(), world.post.receivers());
    for (mail, receiver) in mails.iter().zip(receivers) {
        // A digest names each order in a row of its list, and its link names it again. On a busy machine the
        // first failures may go out before the others are there, each in a mail of its own.
        let ids: BTreeSet<&str> = match &mail.attachment {
            Some(list) => {
                let rows: Vec<&str> = list
                    .lines()
                    .skip(1)
                    .map(|row| row.split('"').nth(3).unwrap_or_default())
                    .collect();
                let ids = rows.iter().copied().collect::<BTreeSet<_>>();
                assert_eq!(rows.len(), ids.len(), "once in its digest");
                ids
            }
            None => {
                let words = mail.subject.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                words.filter(|word| word.starts_with("B-")).collect()
            }
        };
        for id in ids {
            *named.entry((receiver.clone(), id.to_owned())).or_default() += 1;
        }
    }
    assert_eq!(named.len(), FAILURES * TWO.len());
    assert!(named.values().all(|count| *count == 1), "each once");
    let bytes: Vec<usize> = mails.iter().map(Mail::bytes).collect();
    let (largest, all) = (bytes.iter().max(), bytes.iter().sum::<usize>() / TWO.len());
    println!(
        "{} mails for each receiver, {all} bytes, the largest {largest:?}",
        mails.len() / TWO.len()
    );
    assert!(mails.len() / TWO.len() <= 12, "{} mails", mails.len());
    assert!(largest.is_some_and(|bytes| *bytes <= MOST));
}
