//! Channels beside mail: each failure is told once to each of them, at the right time, whatever a receiver does.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZone;
use order_relay::domain::channel::{Channel, ChannelType};
use order_relay::domain::notice::NoticeKind;
use order_relay::domain::quiet_times::QuietTimes;
use order_relay::ops::refusal::Refusal;
use order_relay::ports::channels::{MessageFilter, MessageStatus, StoredMessage};
use order_relay::ports::clock::Clock;
use order_relay::ports::mail::NoticeDetail;
use order_relay::ports::notices::Notice;

use crate::erp::Turn::*;
use crate::receivers::{Mood, channel};
use crate::world::{Setup, World, operator};

async fn with(channels: Vec<Channel>) -> World {
    World::with(Setup { channels, ..Setup::default() }).await
}

fn id(n: u32) -> String {
    format!("F{n:05}")
}

async fn failures(world: &World, numbers: std::ops::Range<u32>) {
    for n in numbers {
        world.erp.will(&id(n), &[Refuse]);
        world.place(&id(n)).await;
    }
}

/// Waits until every notice was given to the channels, and nothing waits for one of them.
async fn told(world: &World) {
    world.settle().await;
    // A notice is given within two seconds.
    world.seconds(5).await;
    world
        .wait("every channel is told", async || {
            let states = world.store.channel_states().await.expect("the ledger answers");
            states.iter().all(|state| state.held + state.waiting == 0)
        })
        .await;
}

/// So many failures of different orders, as the error handler writes them.
async fn add_failures(world: &World, count: u32) {
    for n in 0..count {
        let now = world.clock.now();
        let detail = NoticeDetail {
            order_id: Some(id(n)),
            currency: Some("EUR".to_owned()),
            total: Some("129.90".to_owned()),
            attempt: 1,
            fail_count: 1,
            phase: "parked".to_owned(),
            class: Some("rejected".to_owned()),
            code: Some("http_422".to_owned()),
            erp: None,
            ..NoticeDetail::of_erp("default", "default", "article 4711 is locked", now)
        };
        let id = format!("order_failed:default/{}#1", id(n));
        add(world, Notice { id, kind: NoticeKind::OrderFailed, detail, created_at: now }).await;
    }
}

/// An ERP that went away and came back.
async fn add_circuit_notices(world: &World) {
    for kind in [NoticeKind::CircuitOpened, NoticeKind::CircuitClosed] {
        let now = world.clock.now();
        let detail = NoticeDetail::of_erp("default", "default", "5 of 6 requests failed", now);
        let id = format!("{}:default@0", kind.as_str());
        add(world, Notice { id, kind, detail, created_at: now }).await;
        world.seconds(3).await;
    }
}

async fn add(world: &World, notice: Notice) {
    world.store.add_notice(notice).await.expect("the ledger answers");
}

async fn messages(world: &World, status: MessageStatus) -> Vec<StoredMessage> {
    let filter = MessageFilter { channel: None, status: Some(status) };
    world.store.list_channel_messages(&filter, 100).await.expect("the ledger answers")
}

fn all(numbers: std::ops::Range<u32>) -> BTreeSet<String> {
    numbers.map(id).collect()
}

fn each_once(orders: &[String], expected: std::ops::Range<u32>) {
    let found: BTreeSet<String> = orders.iter().cloned().collect();
    assert_eq!(found, all(expected));
    assert_eq!(orders.len(), found.len(), "none is told twice");
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_told_to_each_channel_that_is_subscribed() {
    let mut of_at = channel("of_at");
    of_at.rule.shops = vec!["at".to_owned()];
    let mut circuits = channel("circuits");
    circuits.rule.kinds = vec![NoticeKind::CircuitOpened];
    let mut off = channel("off");
    off.rule.enabled = false;
    let world = with(vec![channel("all"), of_at, circuits, off]).await;
    failures(&world, 0..3).await;
    world.erp.will("A1", &[Refuse]);
    world.place_with("A1", &serde_json::json!({"shop": "at"})).await;
    world.seconds(30).await;
    told(&world).await;
    let all: BTreeSet<String> = world.receivers.orders("all").into_iter().collect();
    assert_eq!(all, ["A1", &id(0), &id(1), &id(2)].map(str::to_owned).into());
    assert_eq!(world.receivers.orders("of_at"), ["A1"]);
    assert!(world.receivers.taken("circuits").is_empty());
    assert!(world.receivers.attempts("off").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_ten_thousand_failures_is_a_few_messages_that_name_each_once() {
    let mut chat = channel("chat");
    chat.target.channel_type = ChannelType::Slack;
    let world = with(vec![channel("hook"), chat]).await;
    add_failures(&world, 10_000).await;
    told(&world).await;
    let hook = world.receivers.taken("hook");
    let bytes = |content| serde_json::to_vec(content).expect("it is JSON").len();
    assert!(hook.len() <= 40, "{} messages", hook.len());
    assert!(hook.iter().all(|taken| bytes(&taken.content) <= 256 * 1024));
    each_once(&world.receivers.orders("hook"), 0..10_000);
    let chat = world.receivers.taken("chat");
    assert!(chat.len() <= 5, "{} messages", chat.len());
    let counted: usize =
        chat.iter().filter_map(|taken| Some(taken.content.failures.as_ref()?.count)).sum();
    assert_eq!(counted, 10_000);
    let total: usize = hook.iter().map(|taken| bytes(&taken.content)).sum();
    println!("{} messages of {total} bytes to a webhook, {} to a chat", hook.len(), chat.len());
    let mut in_messages = 0;
    for taken in &chat {
        in_messages +=
            world.store.notices_in_message(taken.id).await.expect("the ledger answers").len();
    }
    assert_eq!(in_messages, 10_000, "the page behind the link lists every order once");
}

#[tokio::test(start_paused = true)]
async fn a_message_keeps_its_id_and_is_sent_again_by_the_schedule_of_mails() {
    let world = with(vec![channel("hook")]).await;
    world.receivers.are("hook", Mood::Broken);
    failures(&world, 0..1).await;
    world.seconds(200).await;
    let attempts = world.receivers.attempts("hook");
    let ids: BTreeSet<_> = attempts.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 1);
    let pauses: Vec<i64> =
        attempts.windows(2).map(|two| two[1].1.duration_since(two[0].1).as_secs()).collect();
    // Looked for every two seconds.
    for (pause, planned) in pauses.iter().zip([15, 30, 60]) {
        assert!((planned..planned + 4).contains(pause), "{pauses:?}");
    }
    assert_eq!(pauses.len(), 3, "{pauses:?}");
    world.receivers.are("hook", Mood::Takes);
    told(&world).await;
    each_once(&world.receivers.orders("hook"), 0..1);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_asks_for_a_pause_gets_it_and_nothing_else_meanwhile() {
    let world = with(vec![channel("hook")]).await;
    world.receivers.are("hook", Mood::Busy(Duration::from_secs(300)));
    failures(&world, 0..3).await;
    world.seconds(250).await;
    assert_eq!(world.receivers.attempts("hook").len(), 1, "the others wait with it");
    world.receivers.are("hook", Mood::Takes);
    told(&world).await;
    each_once(&world.receivers.orders("hook"), 0..3);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_hangs_delays_neither_another_channel_nor_a_mail() {
    let world = with(vec![channel("hangs"), channel("works")]).await;
    world.receivers.are("hangs", Mood::Hangs);
    failures(&world, 0..1).await;
    world.seconds(30).await;
    failures(&world, 1..2).await;
    world.seconds(8).await;
    each_once(&world.receivers.orders("works"), 0..2);
    assert_eq!(world.post.mails().len(), 2);
    assert!(world.receivers.taken("hangs").is_empty());
    world.receivers.are("hangs", Mood::Takes);
    told(&world).await;
    each_once(&world.receivers.orders("hangs"), 0..2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_means_the_same_id_again() {
    let world = with(vec![channel("hook")]).await;
    world.receivers.are("hook", Mood::LosesAnswers);
    failures(&world, 0..1).await;
    world.seconds(60).await;
    world.receivers.are("hook", Mood::Takes);
    told(&world).await;
    let taken = world.receivers.taken("hook");
    assert!(taken.len() > 1);
    assert!(taken.iter().all(|one| one.id == taken[0].id && one.content == taken[0].content));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_shown_and_sent_again_by_a_person_once() {
    let world = with(vec![channel("hook")]).await;
    world.receivers.are("hook", Mood::Gone);
    failures(&world, 0..1).await;
    world.seconds(60).await;
    assert_eq!(world.receivers.attempts("hook").len(), 1, "it is not tried for days");
    let failed = messages(&world, MessageStatus::Failed).await.remove(0);
    let refused = world.ops.refused_channels().await;
    assert_eq!((&*refused[0].channel, &*refused[0].error), ("hook", "it answers 410"));
    assert_eq!(world.metrics.channels_refused.get(), 1);
    world.receivers.are("hook", Mood::Takes);
    let act = world.ops.act(&operator(), Some("the address is right again"));
    let again = failed.id.to_string();
    world.ops.resend_channel_message(&again, &act).await.expect("it is queued");
    told(&world).await;
    each_once(&world.receivers.orders("hook"), 0..1);
    assert!(world.ops.refused_channels().await.is_empty());
    let act = world.ops.act(&operator(), None);
    let twice = world.ops.resend_channel_message(&again, &act).await;
    assert!(matches!(twice, Err(Refusal::Settled { .. })), "{twice:?}");
    assert_eq!(world.receivers.taken("hook").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_takes_for_seven_days_is_given_up() {
    let world = with(vec![channel("hook")]).await;
    world.receivers.are("hook", Mood::Away);
    failures(&world, 0..1).await;
    world.seconds(60).await;
    // Nobody looks meanwhile.
    tokio::time::advance(Duration::from_hours(7 * 24)).await;
    world.seconds(30 * 60).await;
    assert_eq!(messages(&world, MessageStatus::Failed).await.len(), 1);
    assert_eq!(world.ops.refused_channels().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_happens_in_a_quiet_time_arrives_as_one_message_when_it_ends() {
    let mut night = channel("night");
    // It is ten o'clock in UTC, and eleven in Berlin.
    night.rule.quiet = QuietTimes::parse(
        &["11:00-12:30".to_owned()],
        &[],
        TimeZone::get("Europe/Berlin").expect("a zone"),
    )
    .expect("hours");
    let world = with(vec![night, channel("always")]).await;
    failures(&world, 0..2).await;
    world.seconds(3_600).await;
    failures(&world, 2..4).await;
    world.seconds(25 * 60).await;
    assert!(world.receivers.attempts("night").is_empty(), "not before 12:30");
    assert_eq!(world.receivers.orders("always").len(), 4);
    let reports = world.ops.channels(&operator()).await.expect("the ledger answers");
    let held = reports.channels.iter().find(|report| report.channel.name == "night");
    assert_eq!(held.expect("it is there").state.held, 4, "it is shown");
    world.seconds(6 * 60).await;
    assert_eq!(world.receivers.taken("night").len(), 1);
    each_once(&world.receivers.orders("night"), 0..4);
}

#[tokio::test(start_paused = true)]
async fn below_its_threshold_a_channel_is_told_nothing_and_that_is_counted() {
    let mut dear = channel("dear");
    dear.rule.threshold = Some(">= 3 orders or 5,000 EUR in 15 min".parse().expect("it is one"));
    let world = with(vec![dear, channel("all")]).await;
    failures(&world, 0..2).await;
    world.seconds(16 * 60).await;
    told(&world).await;
    assert!(world.receivers.taken("dear").is_empty());
    assert_eq!(world.receivers.orders("all").len(), 2);
    let states = world.store.channel_states().await.expect("the ledger answers");
    assert_eq!(states.iter().find(|state| state.channel == "dear").map(|s| s.below), Some(2));
    failures(&world, 2..5).await;
    world.seconds(30).await;
    told(&world).await;
    each_once(&world.receivers.orders("dear"), 2..5);
}

#[tokio::test(start_paused = true)]
async fn a_digest_that_is_too_large_for_a_receiver_is_split() {
    let world = with(vec![channel("hook")]).await;
    world.receivers.are("hook", Mood::TakesFew(10));
    add_failures(&world, 100).await;
    told(&world).await;
    each_once(&world.receivers.orders("hook"), 0..100);
    let taken = world.receivers.taken("hook");
    assert!(taken.iter().all(|one| one.content.failures.as_ref().is_some_and(|f| f.count <= 10)));
    assert!(!messages(&world, MessageStatus::Split).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn that_an_erp_is_back_is_not_told_before_that_it_was_away() {
    let mut pager = channel("pager");
    pager.target.channel_type = ChannelType::Pagerduty;
    pager.rule.kinds = vec![NoticeKind::CircuitOpened, NoticeKind::CircuitClosed];
    let world = with(vec![pager]).await;
    world.receivers.are("pager", Mood::Broken);
    add_circuit_notices(&world).await;
    // The second message is due earlier than the first one is sent again.
    world.seconds(10).await;
    world.receivers.are("pager", Mood::Takes);
    told(&world).await;
    let taken = world.receivers.taken("pager");
    let over: Vec<bool> = taken
        .iter()
        .map(|one| one.content.incident.as_ref().expect("it is an incident").is_over)
        .collect();
    assert_eq!(over, [false, true]);
    let keys: BTreeSet<String> =
        taken.iter().filter_map(|one| Some(one.content.incident.clone()?.key)).collect();
    assert_eq!(keys.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_processes_tell_each_failure_once() {
    let mut world = with(vec![channel("hook")]).await;
    world.start("w2").await;
    failures(&world, 0..40).await;
    told(&world).await;
    each_once(&world.receivers.orders("hook"), 0..40);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_while_it_sends_loses_nothing() {
    let mut world = with(vec![channel("hook")]).await;
    world.receivers.are("hook", Mood::Hangs);
    failures(&world, 0..1).await;
    world.settle().await;
    world.wait("it is being sent", async || !world.receivers.attempts("hook").is_empty()).await;
    world.kill();
    world.receivers.are("hook", Mood::Takes);
    world.start("w2").await;
    told(&world).await;
    each_once(&world.receivers.orders("hook"), 0..1);
    let ids: BTreeSet<_> = world.receivers.attempts("hook").into_iter().map(|one| one.0).collect();
    assert_eq!(ids.len(), 1, "with the same id");
}

#[tokio::test(start_paused = true)]
async fn a_test_says_at_once_what_became_of_it_and_needs_an_administrator() {
    let mut off = channel("hook");
    off.rule.enabled = false;
    let world = with(vec![off]).await;
    let act = world.ops.act(&operator(), None);
    let report = world.ops.test_channel("hook", &act).await.expect("it is sent");
    assert_eq!(report.error, None);
    assert_eq!(world.receivers.taken("hook")[0].content.kind, "test");
    world.receivers.are("hook", Mood::Broken);
    let act = world.ops.act(&operator(), None);
    let report = world.ops.test_channel("hook", &act).await.expect("it is sent");
    assert_eq!(report.error.as_deref(), Some("it answers 500"));
    world.seconds(120).await;
    assert_eq!(world.receivers.attempts("hook").len(), 2, "a test is not repeated");
    let mut nobody = operator();
    nobody.grants = order_relay::domain::permission::Grants::default();
    let act = world.ops.act(&nobody, None);
    let refused = world.ops.test_channel("hook", &act).await;
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    let act = world.ops.act(&operator(), None);
    let missing = world.ops.test_channel("none", &act).await.expect_err("there is none");
    assert_eq!(missing.to_string(), "there is no channel none; there is: hook");
}
