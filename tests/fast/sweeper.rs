//! What lies about is found: lost messages, dead claims, notices that nobody sends.

use std::time::Duration;

use order_relay::domain::notice::NoticeKind;
use order_relay::domain::trace::Trace;
use order_relay::ports::orders::OrderSource;
use serde_json::json;

use crate::erp::Turn::*;
use crate::paused;
use crate::world::{Setup, World, document, key, operator, parsed};

async fn take_in(world: &World, id: &str) {
    let order = parsed(&document(id, &json!({})));
    world
        .ops
        .accept(&operator(), order, OrderSource::Api, &Trace::default())
        .await
        .expect("it is taken");
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_message_is_gone_is_sent_from_the_ledger() {
    let mut first = World::without_workers(Setup::default());
    take_in(&first, "1").await;
    first.forget_messages();
    first.start("w1").await;
    assert!(first.end().await.contains("transferred"));
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_message_is_gone_comes_when_it_is_due() {
    let mut world = World::new().await;
    world.erp.will("1", &[Busy]);
    world.place("1").await;
    world.until("1", "retrying").await;
    world.kill();
    world.forget_messages();
    world.start("w2").await;
    assert!(world.end().await.contains("2 ok"));
}

#[tokio::test(start_paused = true)]
async fn a_held_order_whose_message_is_gone_is_sent_after_the_release() {
    let mut world = World::new().await;
    take_in(&world, "0").await;
    world.until("0", "transferred").await;
    world.ops.hold("default", &world.act("x")).await.expect("it is held");
    world.seconds(2).await;
    take_in(&world, "1").await;
    world.seconds(60).await;
    world.kill();
    world.forget_messages();
    world.start("w2").await;
    world.ops.release("default", &world.act("x")).await.expect("it is released");
    world.until("1", "transferred").await;
    assert_eq!(world.fail_count("1").await, 0);
}

paused! {
    async fn an_order_in_progress_is_left_alone(world) {
        world.erp.will("1", &[Slow(Duration::from_secs(4))]);
        world.place("1").await;
        world.settle().await;
        assert_eq!(world.erp.sends(), ["1"]);
    }

    async fn a_confirmed_order_is_left_alone(world) {
        world.place("1").await;
        world.seconds(900).await;
        assert_eq!((world.erp.sends().len(), world.erp.asks()), (1, 0));
    }

    async fn a_claim_of_a_dead_process_is_cleared_up(world) {
        world.erp.will("1", &[Slow(Duration::from_secs(4))]);
        world.place("1").await;
        world.seconds(1).await;
        world.kill();
        world.forget_messages();
        world.start("w2").await;
        world.until("1", "transferred").await;
        assert_eq!(world.erp.has(&key("1")), 1);
        assert!(world.erp.asks() > 0, "it was asked about first");
    }

    async fn a_mail_that_nobody_was_nudged_for_is_sent(world) {
        world.erp.will("1", &[Refuse]);
        world.place("1").await;
        world.until("1", "parked").await;
        world.settle().await;
        assert_eq!(world.post.of(NoticeKind::OrderFailed).len(), 1);
    }

    async fn one_of_two_processes_sweeps(world) {
        world.start("w2").await;
        for n in 0..20 {
            take_in(&world, &n.to_string()).await;
        }
        assert_eq!(world.end().await.matches("attempts [1 ok]").count(), 20);
    }

    async fn the_levels_are_shown(world) {
        world.erp.will("1", &[Refuse]);
        world.place("1").await;
        world.until("1", "parked").await;
        world.seconds(12).await;
        let label = order_relay::telemetry::PhaseLabels::new("ordered_failed", "parked");
        assert_eq!(world.metrics.orders_open.get_or_create(&label).get(), 1);
        assert_eq!(world.metrics.ledger_difference.get(), 0);
    }

    async fn an_outage_of_the_database_ends_no_sweeping(world) {
        world.database_is_away(true);
        world.seconds(300).await;
        world.database_is_away(false);
        take_in(&world, "1").await;
        world.until("1", "transferred").await;
    }

    async fn what_was_taken_in_during_a_hold_is_sent_in_the_end(world) {
        world.ops.hold("default", &world.act("x")).await.expect("it is held");
        world.seconds(2).await;
        for n in 0..10 {
            take_in(&world, &n.to_string()).await;
        }
        world.seconds(900).await;
        assert_eq!(world.erp.sends().len(), 0);
        world.ops.release("default", &world.act("x")).await.expect("it is released");
        for n in 0..10 {
            world.until(&n.to_string(), "transferred").await;
        }
    }
}
