//! Processes that die in the middle of an attempt are missed by their heartbeat, long before their leases end; what
//! follows depends on whether the request that enters the order was sent.

use std::time::Duration;

use order_relay::ports::clock::Clock;

use crate::erp::Turn::Slow;
use crate::world::{World, key};

/// Longest call, so that a lease is 125 seconds long.
const CALL: Duration = Duration::from_secs(60);
const LEASE_S: u64 = 125;
/// Silence, the sweeper's pause, a heartbeat and some time to send.
const NOTICED_S: u64 = 60;

/// A process that has begun with order 1 at an ERP with long calls.
async fn in_the_middle(steps: Option<Duration>) -> World {
    let world = World::new().await;
    world.erp.may_take(CALL);
    if let Some(steps) = steps {
        world.erp.has_steps_of(steps);
    }
    world.erp.will("1", &[Slow(Duration::from_secs(50))]);
    world.place("1").await;
    world.seconds(5).await;
    world
}

#[tokio::test(start_paused = true)]
async fn what_never_began_is_sent_by_another_process_without_failure_notice_or_mail() {
    let mut world = in_the_middle(Some(Duration::from_secs(20))).await;
    world.kill();
    world.start("w2").await;
    world.erp.will("1", &[]);
    world.until("1", "transferred").await;
    assert!(world.now_s() < 5 + NOTICED_S + 20, "after {} s", world.now_s());
    assert_eq!((world.erp.sends().len(), world.erp.asks()), (1, 0));
    assert!(world.stored_mails().await.is_empty());
    let story = world.end().await;
    assert!(story.starts_with("default/1: transferred, failed 0, attempts [1 ok]"), "{story}");
}

#[tokio::test(start_paused = true)]
async fn what_began_is_asked_about_as_soon_as_its_process_is_missed() {
    let mut world = in_the_middle(None).await;
    world.kill();
    world.erp.enter(&key("1"), "ERP-77");
    world.start("w2").await;
    world.until("1", "transferred").await;
    assert!(world.now_s() < 5 + NOTICED_S + 30, "after {} s", world.now_s());
    assert_eq!(world.erp.sends().len(), 1);
    assert!(world.end().await.contains("[1 found]"));
}

#[tokio::test(start_paused = true)]
async fn not_there_counts_only_when_the_call_must_have_ended() {
    let mut world = in_the_middle(None).await;
    world.kill();
    world.start("w2").await;
    world.until("1", "transferred").await;
    let (sent, asked) = (world.erp.sent_at("1"), world.erp.asked_at("1"));
    assert!(sent[1] >= LEASE_S + 20, "and believed late: {sent:?}");
    let early = asked.iter().filter(|at| **at < LEASE_S).count();
    assert_eq!(early, 1, "and not asked again and again: {asked:?}");
    assert_eq!(world.erp.has(&key("1")), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_thought_dead_begins_nothing() {
    let world = in_the_middle(Some(Duration::from_secs(20))).await;
    world.erp.will("1", &[]);
    world.store.abandon_claims("w1", world.clock.now()).await.expect("the ledger answers");
    world.until("1", "transferred").await;
    assert_eq!(world.erp.sends().len(), 1, "by whoever took it over, and by nobody else");
    assert_eq!(world.fail_count("1").await, 0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_nothing_begins_and_nothing_is_counted() {
    let world = in_the_middle(Some(Duration::from_secs(20))).await;
    world.erp.will("1", &[]);
    world.database_is_away(true);
    world.seconds(120).await;
    assert_eq!(world.erp.sends().len(), 0);
    world.database_is_away(false);
    world.until("1", "transferred").await;
    assert_eq!((world.erp.sends().len(), world.fail_count("1").await), (1, 0));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_ledger_makes_nobody_look_dead() {
    let mut world = in_the_middle(None).await;
    world.start("w2").await;
    world.database_is_away(true);
    world.seconds(100).await;
    world.database_is_away(false);
    world.settle().await;
    assert_eq!((world.erp.sends().len(), world.erp.asks()), (1, 0));
    let story = world.end().await;
    assert!(story.starts_with("default/1: transferred, failed 0, attempts [1 ok]"), "{story}");
}
