//! `erp.ask_before_first_send`: the ledger may have lost attempts (a restored backup), so the ERP is asked before
//! anything is sent.

use std::time::Duration;

use crate::erp::{Knowledge, Turn::*};
use crate::world::{Setup, World, key};

async fn restored() -> World {
    World::with(Setup { asks_first: true, ..Setup::default() }).await
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_there_is_confirmed_and_not_sent() {
    let world = restored().await;
    world.erp.enter(&key("1"), "ERP-7");
    world.place("1").await;
    world.until("1", "transferred").await;
    assert_eq!((world.erp.sends().len(), world.erp.asks()), (0, 1));
    assert!(world.end().await.contains("transferred, failed 0, attempts [1 found]"));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_not_there_is_sent_at_once() {
    let world = restored().await;
    world.place("1").await;
    world.until("1", "transferred").await;
    assert!(world.now_s() < 5, "after {} s", world.now_s());
    assert_eq!((world.erp.sends().len(), world.erp.asks()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn without_a_clear_answer_nothing_is_sent() {
    let world = restored().await;
    world.erp.says(Knowledge::Nothing);
    world.place("1").await;
    world.pass(Duration::from_mins(15)).await;
    assert_eq!((world.phase("1").await, world.fail_count("1").await), ("outcome_unknown", 1));
    assert_eq!(world.erp.sends().len(), 0);
    world.erp.says(Knowledge::Truth);
    world.until("1", "transferred").await;
    assert_eq!((world.erp.sends().len(), world.erp.has(&key("1"))), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_erp_that_knows_repeated_orders_is_asked_all_the_same() {
    let world =
        World::with(Setup { asks_first: true, is_idempotent: true, ..Setup::default() }).await;
    world.erp.enter(&key("1"), "ERP-7");
    world.erp.says(Knowledge::Nothing);
    world.place("1").await;
    world.pass(Duration::from_mins(15)).await;
    world.erp.says(Knowledge::Truth);
    world.until("1", "transferred").await;
    assert_eq!(world.erp.sends().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_between_the_question_and_the_send_leaves_no_doubt() {
    let mut world = restored().await;
    world.erp.may_take(Duration::from_secs(60));
    world.erp.has_steps_of(Duration::from_secs(20));
    world.place("1").await;
    world.seconds(5).await;
    assert_eq!((world.erp.sends().len(), world.erp.asks()), (0, 1));
    world.kill();
    world.start("w2").await;
    world.until("1", "transferred").await;
    assert_eq!((world.erp.sends().len(), world.erp.asks()), (1, 2));
    assert_eq!(world.fail_count("1").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_while_it_sends_is_not_repeated_before_the_erp_was_asked() {
    let mut world = restored().await;
    world.erp.may_take(Duration::from_secs(60));
    world.erp.will("1", &[Slow(Duration::from_secs(50))]);
    world.place("1").await;
    world.seconds(5).await;
    world.kill();
    world.erp.enter(&key("1"), "ERP-77");
    world.start("w2").await;
    world.until("1", "transferred").await;
    assert_eq!((world.erp.sends().len(), world.erp.has(&key("1"))), (1, 1));
}
