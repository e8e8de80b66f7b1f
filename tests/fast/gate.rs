//! The gate in front of an ERP: how many at once, how fast, who first.

use std::num::NonZeroU32;
use std::time::Duration;

use order_relay::ports::broker::Settle;
use order_relay::workers::consume::Handler;
use order_relay::workers::erp_gate::{Gate, Priority};
use order_relay::workers::heartbeat::HEARTBEAT;
use order_relay::workers::submitter::admit::Submitter;

use crate::erp::FakeErp;
use crate::erp::Turn::*;
use crate::paused;
use crate::world::{Setup, World, key};

const SECOND: Duration = Duration::from_secs(1);

async fn slow_world(max_in_flight: u32, permits: u16) -> World {
    let world = World::with(Setup { max_in_flight, permits, ..Setup::default() }).await;
    world.erp.always(Some(Slow(SECOND)));
    world
}

#[tokio::test(start_paused = true)]
async fn never_more_calls_at_once_than_the_setting_says() {
    for limit in [1, 2, 5] {
        let world = slow_world(limit, 50).await;
        for n in 0..30 {
            world.place(&n.to_string()).await;
        }
        world.settle().await;
        assert!(world.erp.most_in_flight() <= limit, "{} of {limit}", world.erp.most_in_flight());
    }
}

#[tokio::test(start_paused = true)]
async fn never_more_in_progress_than_there_are_permits() {
    let world = slow_world(50, 3).await;
    for n in 0..20 {
        world.place(&n.to_string()).await;
    }
    world.settle().await;
    assert!(world.erp.most_in_flight() <= 3);
}

#[tokio::test(start_paused = true)]
async fn orders_are_sent_side_by_side() {
    let world = slow_world(8, 50).await;
    for n in 0..40 {
        world.place(&n.to_string()).await;
    }
    world.settle().await;
    assert!(world.now_s() < 20, "40 orders of a second each took {} s", world.now_s());
}

#[tokio::test(start_paused = true)]
async fn a_slow_order_holds_up_no_other() {
    let world = World::new().await;
    world.erp.will("slow", &[Slow(Duration::from_secs(4))]);
    world.place("slow").await;
    for n in 0..10 {
        world.place(&n.to_string()).await;
    }
    world.seconds(2).await;
    assert_eq!(
        world.records().await.iter().filter(|r| r.phase.name() == "transferred").count(),
        10
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_spreads_the_orders() {
    let world = World::with(Setup { rate: NonZeroU32::new(2), ..Setup::default() }).await;
    for n in 0..10 {
        world.place(&n.to_string()).await;
    }
    world.settle().await;
    assert_eq!(world.erp.sends().len(), 10);
    assert!((4..8).contains(&world.now_s()), "ten orders at two a second took {} s", world.now_s());
}

#[tokio::test(start_paused = true)]
async fn new_orders_go_before_retries() {
    let world = slow_world(1, 50).await;
    world.erp.will("old", &[Busy]);
    world.place("old").await;
    world.seconds(29).await;
    for n in 0..5 {
        world.place(&n.to_string()).await;
    }
    world.settle().await;
    let sends = world.erp.sends();
    assert_eq!(sends.last().map(String::as_str), Some("old"), "{sends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_person_s_transfer_goes_with_the_new_orders() {
    let world = slow_world(1, 50).await;
    world.erp.will("1", &[Refuse]);
    world.place("1").await;
    world.settle().await;
    drop(world.ops.transfer(&key("1"), &world.act("again")).await.expect("it is done"));
    assert_eq!(world.erp.has(&key("1")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_person_s_transfer_of_a_retry_that_waits_for_its_turn_is_the_person_s() {
    let world = slow_world(1, 50).await;
    world.erp.will("old", &[Busy]);
    world.place("old").await;
    world.seconds(29).await;
    for n in 0..10 {
        world.place(&n.to_string()).await;
    }
    // The retry is due, and waits behind the new orders.
    world.seconds(3).await;
    drop(world.ops.transfer(&key("old"), &world.act("now")).await.expect("it is done"));
    let attempts = world.order("old").await.attempts;
    assert_eq!(attempts[1].trigger, "operator");
    world.settle().await;
    assert_eq!(world.erp.has(&key("old")), 1);
}

paused! {
    async fn an_erp_that_was_away_is_not_flooded_when_it_is_back(world) {
        world.erp.always(Some(Away));
        for n in 0..40 {
            world.place(&n.to_string()).await;
        }
        world.seconds(600).await;
        world.erp.always(Some(Slow(SECOND)));
        world.settle().await;
        assert!(world.erp.most_in_flight() <= 8);
    }

    async fn nothing_is_in_flight_at_the_end(world) {
        for n in 0..10 {
            world.place(&n.to_string()).await;
        }
        world.settle().await;
        let label = order_relay::telemetry::ErpLabel::new("default");
        assert_eq!(world.metrics.erp_in_flight.get_or_create(&label).get(), 0);
    }
}

#[tokio::test]
async fn a_turn_that_is_given_to_somebody_who_leaves_is_not_lost() {
    let rule = Setup::default().circuit;
    let gate = Gate::new("default", FakeErp::new(true, false), 1, None, rule);
    let first = gate.try_enter().expect("nobody is there");
    let mut second = Box::pin(gate.enter(Priority::Live));
    assert!(futures_util::poll!(&mut second).is_pending());
    // The turn is given, and nobody has seen it yet.
    drop(first);
    drop(second);
    assert!(gate.try_enter().is_some());
    assert_eq!(gate.load().0, 0);
}

/// Processes of one fleet, which all have started before the first order comes.
async fn fleet(setup: Setup, processes: u32) -> World {
    let mut world = World::without_workers(setup);
    for n in 1..=processes {
        world.start(&format!("w{n}")).await;
    }
    // Every one has seen the others.
    world.pass(HEARTBEAT).await;
    world.seconds(1).await;
    world
}

#[tokio::test(start_paused = true)]
async fn the_calls_at_once_are_those_of_the_whole_fleet() {
    for (processes, limit) in [(1, 6), (2, 6), (3, 6), (4, 4)] {
        // Few permits: no process fetches all of them.
        let setup = Setup { max_in_flight: 6, permits: 8, ..Setup::default() };
        let world = fleet(setup, processes).await;
        world.erp.always(Some(Slow(SECOND)));
        for n in 0..60 {
            world.place(&n.to_string()).await;
        }
        world.settle().await;
        assert_eq!(world.erp.most_in_flight(), limit, "{processes} processes");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_share_of_a_process_that_ends_goes_to_the_others() {
    let mut world = fleet(Setup { max_in_flight: 6, ..Setup::default() }, 2).await;
    world.drain().await;
    world.pass(HEARTBEAT).await;
    world.erp.always(Some(Slow(SECOND)));
    for n in 0..30 {
        world.place(&n.to_string()).await;
    }
    world.settle().await;
    assert_eq!(world.erp.most_in_flight(), 6);
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_is_that_of_the_whole_fleet() {
    let setup = Setup { rate: NonZeroU32::new(2), ..Setup::default() };
    let world = fleet(setup, 3).await;
    let started = world.now_s();
    for n in 0..40 {
        world.place(&n.to_string()).await;
    }
    world.settle().await;
    let took = world.now_s() - started;
    assert!(took >= 18, "40 orders at two a second took {took} s");
}

#[tokio::test]
async fn live_orders_pass_before_retries_and_retries_before_redrives() {
    let rule = Setup::default().circuit;
    let gate = Gate::new("default", FakeErp::new(true, false), 1, None, rule);
    let mut first = gate.try_enter();
    let order = [Priority::Redriven, Priority::Later, Priority::Live];
    let mut waiting = order.map(|priority| Box::pin(gate.enter(priority)));
    for waits in &mut waiting {
        assert!(futures_util::poll!(waits).is_pending());
    }
    for n in [2, 1, 0] {
        drop(first.take());
        for earlier in &mut waiting[..n] {
            assert!(futures_util::poll!(earlier).is_pending(), "before {:?}", order[n]);
        }
        first = waiting[n].as_mut().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_its_turn_no_longer_than_the_broker_lets_it() {
    let world = World::without_workers(Setup { max_in_flight: 1, ..Setup::default() });
    let context = world.context("w1");
    let gate = context.policies.default.gate.clone();
    let occupied = gate.try_enter().expect("nobody is there");
    let submitter = Submitter::new(context, world.store.clone(), None);
    let delivery = world.delivery("1", false);
    let started = world.now_s();
    assert_eq!(submitter.handle(&delivery).await, Settle::Ack);
    let waited = world.now_s() - started;
    assert!((60..30 * 60).contains(&waited), "RabbitMQ takes it back after 30 min: {waited} s");
    // It is in the ledger, unclaimed, so that the sweeper finds it.
    let record = world.order("1").await.record;
    assert_eq!((record.phase.name(), record.claim), ("queued", None));
    drop(occupied);
    assert_eq!(gate.load().0, 0);
}
