//! Outcomes that nobody saw: the ERP is asked before anything is sent again.

use std::time::Duration;

use crate::erp::{Knowledge, Turn::*};
use crate::paused;
use crate::world::{Setup, World, key};

paused! {
    async fn nothing_is_sent_again_before_the_erp_was_asked(world) {
        world.erp.will("1", &[LoseRequest]);
        world.place("1").await;
        world.until("1", "transferred").await;
        let (sent, asked) = (world.erp.sent_at("1"), world.erp.asked_at("1"));
        assert!(sent.len() == 2 && asked.iter().any(|at| *at < sent[1]), "{sent:?} {asked:?}");
    }

    async fn not_there_does_not_count_before_it_has_settled(world) {
        world.erp.will("1", &[LoseRequest]);
        world.place("1").await;
        world.until("1", "transferred").await;
        let sent = world.erp.sent_at("1");
        assert!(sent[1] >= sent[0] + 20, "{sent:?}");
    }

    async fn an_erp_that_executes_late_gets_no_second_order(world) {
        world.erp.will("1", &[Late(Duration::from_secs(19))]);
        world.place("1").await;
        assert!(world.end().await.ends_with("2 found], in the ERP 1\n"));
    }

    async fn an_erp_that_says_nothing_is_asked_again_and_again(world) {
        world.erp.will("1", &[LoseAnswer]);
        world.erp.says(Knowledge::Nothing);
        world.place("1").await;
        world.pass(Duration::from_mins(15)).await;
        assert_eq!((world.phase("1").await, world.erp.sends().len()), ("outcome_unknown", 1));
        assert!(world.erp.asks() > 2, "{:?}", world.erp.asked_at("1"));
        world.erp.says(Knowledge::Truth);
        assert!(world.end().await.contains("2 found"));
    }

    async fn asking_uses_up_no_attempt(world) {
        world.erp.will("1", &[LoseAnswer]);
        world.erp.says(Knowledge::Nothing);
        world.place("1").await;
        world.pass(Duration::from_mins(15)).await;
        assert_eq!(world.fail_count("1").await, 1);
    }

    async fn questions_become_rarer(world) {
        world.erp.will("1", &[LoseAnswer]);
        world.erp.says(Knowledge::Nothing);
        world.place("1").await;
        world.pass(Duration::from_mins(40)).await;
        assert!(world.erp.asked_at("1").len() < 30, "{}", world.erp.asked_at("1").len());
    }

    async fn an_unclear_outcome_is_reported_to_administrators(world) {
        world.erp.will("1", &[LoseRequest]);
        world.place("1").await;
        world.settle().await;
        assert_eq!(world.post.subjects()[0], "Order 1 failed (1)");
    }

    async fn an_order_message_does_not_send_an_unclear_order(world) {
        world.erp.will("1", &[LoseRequest]);
        world.erp.says(Knowledge::Nothing);
        world.place("1").await;
        world.until("1", "outcome_unknown").await;
        world.place("1").await;
        world.seconds(300).await;
        assert_eq!(world.erp.sends().len(), 1);
    }

    async fn an_exhausted_unclear_order_is_parked_when_it_is_certainly_not_there(world) {
        world.erp.will("1", &[Busy, Busy, LoseRequest]);
        world.place("1").await;
        assert!(world.end().await.starts_with("default/1: parked, failed 3"));
    }

    async fn an_exhausted_unclear_order_that_is_there_is_confirmed(world) {
        world.erp.will("1", &[Busy, Busy, LoseAnswer]);
        world.place("1").await;
        assert!(world.end().await.contains("transferred, failed 3"));
    }

    async fn a_gateway_s_time_out_whose_order_is_there_is_found(world) {
        world.erp.will("1", &[Gateway]);
        world.place("1").await;
        world.seconds(2).await;
        world.erp.enter(&key("1"), "ERP-9");
        assert!(world.end().await.contains("2 found"));
    }

    async fn many_unclear_orders_are_all_settled(world) {
        for n in 0..20 {
            let id = n.to_string();
            world.erp.will(&id, &[if n % 2 == 0 { LoseAnswer } else { LoseRequest }]);
            world.place(&id).await;
        }
        let story = world.end().await;
        assert_eq!(story.matches("transferred").count(), 20, "{story}");
    }

    async fn a_person_s_transfer_of_an_unclear_order_asks_first(world) {
        world.erp.will("1", &[LoseAnswer]);
        world.erp.says(Knowledge::Nothing);
        world.place("1").await;
        world.until("1", "outcome_unknown").await;
        world.erp.says(Knowledge::Truth);
        drop(world.ops.transfer(&key("1"), &world.act("now")).await.expect("it is done"));
        assert_eq!(world.erp.sends().len(), 1);
    }

    async fn a_person_may_say_that_it_is_not_there(world) {
        world.erp.will("1", &[LoseRequest]);
        world.erp.says(Knowledge::Nothing);
        world.place("1").await;
        world.until("1", "outcome_unknown").await;
        drop(world.ops.declare_absent(&key("1"), &world.act("looked")).await.expect("it is done"));
        world.until("1", "transferred").await;
        assert_eq!(world.erp.has(&key("1")), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_erp_that_cannot_be_asked_waits_for_a_person() {
    let world = World::with(Setup { can_ask: false, ..Setup::default() }).await;
    world.erp.will("1", &[LoseRequest]);
    world.place("1").await;
    world.until("1", "outcome_unknown").await;
    world.pass(Duration::from_mins(15)).await;
    assert_eq!((world.phase("1").await, world.erp.sends().len()), ("outcome_unknown", 1));
}

#[tokio::test(start_paused = true)]
async fn an_erp_that_honours_the_key_is_sent_it_again_without_asking() {
    let world = World::with(Setup { is_idempotent: true, ..Setup::default() }).await;
    world.erp.will("1", &[LoseRequest]);
    world.place("1").await;
    world.until("1", "transferred").await;
    assert_eq!((world.erp.sends().len(), world.erp.asks()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_could_not_be_sent_again_ends_no_doubt() {
    let setup = Setup { is_idempotent: true, max_count: Some(2), ..Setup::default() };
    let world = World::with(setup).await;
    world.erp.will("1", &[LoseAnswer, Away]);
    world.erp.says(Knowledge::Nothing);
    world.place("1").await;
    world.pass(Duration::from_mins(10)).await;
    let record = world.order("1").await.record;
    assert_eq!((record.phase.name(), record.may_be_there()), ("outcome_unknown", true));
    world.erp.says(Knowledge::Truth);
    world.until("1", "transferred").await;
    assert_eq!(world.erp.has(&key("1")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_cannot_be_asked_about_is_no_new_failure_each_time() {
    let setup = Setup { can_ask: false, is_idempotent: true, max_count: None, ..Setup::default() };
    let world = World::with(setup).await;
    let mut turns = vec![Refuse; 200];
    turns.insert(0, LoseAnswer);
    world.erp.will("1", &turns);
    world.place("1").await;
    world.pass(Duration::from_hours(2)).await;
    assert_eq!((world.phase("1").await, world.fail_count("1").await), ("outcome_unknown", 1));
    let sends = world.erp.sends().len();
    assert!((5..40).contains(&sends), "{sends} times in two hours");
}
