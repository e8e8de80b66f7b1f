//! The ERP as a whole is away: work pauses, nothing is lost, one trial at a time, and it ramps up again.

use std::sync::Arc;
use std::time::Duration;

use order_relay::domain::circuit::CircuitState;
use order_relay::domain::lifecycle::transitions::OrderRecord;
use order_relay::domain::notice::NoticeKind;
use order_relay::workers::circuit_watcher::CircuitWatcher;
use order_relay::workers::consume::Handler;
use order_relay::workers::erp_gate::GateState;
use order_relay::workers::submitter::admit::Submitter;
use serde_json::json;

use crate::erp::Knowledge;
use crate::erp::Turn::*;
use crate::paused;
use crate::world::{Setup, World, key, operator};

async fn state(world: &World) -> CircuitState {
    world.ops.circuits(&operator()).await.expect("the ledger answers")[0].state
}

async fn until_open(world: &World) {
    world.wait("the circuit is open", async || state(world).await == CircuitState::Open).await;
}

/// Orders enough to see that the ERP is away.
async fn outage(world: &World, orders: u32) {
    world.erp.always(Some(Away));
    for n in 0..orders {
        world.place(&format!("{n:03}")).await;
    }
    until_open(world).await;
}

paused! {
    async fn an_erp_that_is_away_opens_the_circuit(world) {
        outage(&world, 10).await;
    }

    async fn an_outage_uses_up_few_attempts(world) {
        outage(&world, 40).await;
        world.pass(Duration::from_mins(15)).await;
        let failed: u32 = world.records().await.iter().map(|record| record.fail_count).sum();
        assert!(failed <= 16, "{failed} attempts failed");
    }

    async fn everything_goes_when_the_erp_is_back(world) {
        outage(&world, 40).await;
        world.pass(Duration::from_mins(10)).await;
        world.erp.always(None);
        let story = world.end().await;
        assert_eq!(story.matches("transferred").count(), 40, "{story}");
    }

    async fn one_mail_says_that_the_erp_is_away(world) {
        outage(&world, 40).await;
        world.pass(Duration::from_mins(15)).await;
        assert_eq!(world.post.of(NoticeKind::CircuitOpened).len(), 1);
    }

    async fn trials_are_few_and_become_rarer(world) {
        outage(&world, 10).await;
        let before = world.erp.sends().len() + world.erp.asks();
        world.pass(Duration::from_mins(10)).await;
        let trials = world.erp.sends().len() + world.erp.asks() - before;
        assert!((2..40).contains(&trials), "{trials}");
    }

    async fn new_orders_are_held_while_it_is_open(world) {
        outage(&world, 10).await;
        let before = world.erp.sends().len();
        world.place("late").await;
        world.seconds(2).await;
        assert!(world.erp.sends().len() <= before + 1);
        world.erp.always(None);
        world.until("late", "transferred").await;
        assert_eq!(world.fail_count("late").await, 0);
    }

    async fn a_refused_login_opens_it_at_once(world) {
        world.erp.will("1", &[Login]);
        world.place("1").await;
        until_open(&world).await;
        assert_eq!(world.erp.sends().len(), 1);
    }

    async fn refusals_of_orders_never_open_it(world) {
        world.erp.always(Some(Refuse));
        for n in 0..40 {
            world.place(&n.to_string()).await;
        }
        world.settle().await;
        assert_eq!(state(&world).await, CircuitState::Closed);
    }

    async fn one_order_that_always_fails_never_opens_it_while_the_erp_answers(world) {
        world.erp.will("1", &[Busy, Busy, Busy]);
        world.place("1").await;
        world.settle().await;
        assert_eq!(state(&world).await, CircuitState::Closed);
    }

    async fn a_person_holds_and_releases_it(world) {
        world.ops.hold("default", &world.act("stocktaking")).await.expect("it is held");
        world.seconds(2).await;
        world.place("1").await;
        world.pass(Duration::from_mins(15)).await;
        assert_eq!(world.erp.sends().len(), 0, "nothing is sent through a hold");
        world.ops.release("default", &world.act("done")).await.expect("it is released");
        world.until("1", "transferred").await;
        assert_eq!(world.fail_count("1").await, 0);
    }

    async fn a_held_erp_says_who_and_why(world) {
        world.ops.hold("default", &world.act("stocktaking")).await.expect("it is held");
        let circuits = world.ops.circuits(&operator()).await.expect("the ledger answers");
        assert_eq!(circuits[0].reason.as_deref(), Some("held by user:erika: stocktaking"));
    }

    async fn a_circuit_that_is_not_open_cannot_be_released(world) {
        let refused = world.ops.release("default", &world.act("?")).await.expect_err("it is not open");
        assert_eq!(refused.kind().status, 404);
    }

    async fn an_erp_that_does_not_exist_is_named_with_those_that_do(world) {
        let refused = world.ops.hold("other", &world.act("?")).await.expect_err("there is none");
        assert_eq!(refused.to_string(), "there is no ERP other; there is: default");
    }

    async fn a_transfer_through_an_open_circuit_is_refused(world) {
        outage(&world, 10).await;
        let refused = world.ops.transfer(&key("000"), &world.act("now")).await.expect_err("it is open");
        assert_eq!((refused.kind().status, refused.kind().exit), (409, 4));
    }

    async fn a_restarted_process_obeys_the_open_circuit(world) {
        world.ops.hold("default", &world.act("x")).await.expect("it is held");
        world.drain().await;
        world.start("w2").await;
        world.place("1").await;
        world.seconds(600).await;
        assert_eq!(world.erp.sends().len(), 0);
    }

    async fn a_long_retry_after_opens_it_until_then(world) {
        world.erp.will("1", &[BusyFor(Duration::from_secs(900))]);
        world.place("1").await;
        until_open(&world).await;
        world.place("2").await;
        world.seconds(600).await;
        assert_eq!(world.erp.sends(), ["1"], "nothing is sent before the time is over");
        world.settle().await;
        assert!(world.erp.sent_at("2")[0] >= 900);
    }
}

#[tokio::test(start_paused = true)]
async fn an_erp_that_is_away_does_not_stop_the_other_one() {
    let world = World::with(Setup { second_erp: true, ..Setup::default() }).await;
    world.erp.always(Some(Away));
    for n in 0..10 {
        world.place(&n.to_string()).await;
    }
    world
        .wait("the circuit is open", async || {
            let circuits = world.ops.circuits(&operator()).await.expect("the ledger answers");
            circuits.iter().any(|c| c.erp == "default" && c.state == CircuitState::Open)
        })
        .await;
    for n in 0..10 {
        world.place_with(&n.to_string(), &json!({"shop": "at"})).await;
    }
    world.seconds(120).await;
    assert_eq!(world.second.sends().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn orders_that_the_erp_stumbles_over_stop_no_good_ones() {
    let world = World::with(Setup { permits: 500, ..Setup::default() }).await;
    for n in 0..20 {
        let id = format!("bad-{n}");
        world.erp.will(&id, &vec![Busy; 50]);
        world.place(&id).await;
    }
    for n in 0..200 {
        world.place(&format!("good-{n}")).await;
    }
    world.seconds(60).await;
    let of_good = |record: &&OrderRecord| record.key.order_id.as_str().starts_with("good");
    let records = world.records().await;
    let waiting = records.iter().filter(of_good).filter(|r| r.phase.name() != "transferred");
    assert_eq!(waiting.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lone_order_in_an_outage_is_not_parked() {
    for turn in [Away, Busy] {
        let world = World::new().await;
        world.erp.always(Some(turn.clone()));
        world.erp.says(Knowledge::Nothing);
        world.place("1").await;
        world.pass(Duration::from_mins(13)).await;
        assert_eq!(world.phase("1").await, "retrying", "{turn:?}");
        assert_eq!(state(&world).await, CircuitState::Open);
        world.erp.always(None);
        world.erp.says(Knowledge::Truth);
        world.until("1", "transferred").await;
        assert!(world.fail_count("1").await <= 2, "{turn:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_process_dies_is_another_s() {
    let mut world = World::new().await;
    outage(&world, 5).await;
    world.erp.always(Some(Slow(Duration::from_secs(4))));
    let sent = world.erp.sends().len();
    world.wait("a trial runs", async || world.erp.sends().len() > sent).await;
    world.kill();
    world.erp.always(None);
    world.start("w2").await;
    let story = world.end().await;
    assert_eq!(story.matches("transferred").count(), 5, "{story}");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_ends_well_does_not_open_what_a_person_holds_meanwhile() {
    let world = World::new().await;
    outage(&world, 5).await;
    world.erp.always(Some(Slow(Duration::from_secs(4))));
    let sent = world.erp.sends().len();
    world.wait("a trial runs", async || world.erp.sends().len() > sent).await;
    world.ops.hold("default", &world.act("stocktaking")).await.expect("it is held");
    world.pass(Duration::from_mins(15)).await;
    assert_eq!(world.erp.sends().len(), sent + 1, "the trial was the last");
    assert_eq!(state(&world).await, CircuitState::Open);
    world.ops.release("default", &world.act("done")).await.expect("it is released");
    let story = world.end().await;
    assert_eq!(story.matches("transferred").count(), 5, "{story}");
}

/// What a trial fetches decides nothing: another process has the orders.
#[tokio::test(start_paused = true)]
async fn a_trial_that_decides_nothing_fetches_the_next_order() {
    let world = World::with(Setup { permits: 1, ..Setup::default() }).await;
    outage(&world, 12).await;
    world.erp.always(None);
    for n in 0..3 {
        let key = key(&format!("{n:03}"));
        world.claim_elsewhere(&key).await;
    }
    world.wait("it is closed", async || state(&world).await == CircuitState::Closed).await;
    let story = world.end().await;
    assert_eq!(story.matches("transferred").count(), 12, "{story}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_had_claimed_only_what_it_was_sending() {
    let mut world = World::with(Setup { permits: 100, ..Setup::default() }).await;
    world.erp.always(Some(Slow(Duration::from_secs(10))));
    for n in 0..100 {
        world.place(&format!("{n:03}")).await;
    }
    world.seconds(2).await;
    world.kill();
    let claimed = world.records().await.iter().filter(|record| record.claim.is_some()).count();
    assert_eq!(claimed, 8, "as many as are sent at the same time");
    world.erp.always(None);
    world.start("w2").await;
    world.seconds(10).await;
    let records = world.records().await;
    let through = records.iter().filter(|r| r.phase.name() == "transferred" && r.fail_count == 0);
    assert_eq!(through.count(), 92, "what was never sent goes on at once, and nothing was counted");
    let story = world.end().await;
    assert_eq!(story.matches("transferred").count(), 100, "{story}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_erp_makes_the_sweeper_no_busier() {
    let world = World::with(Setup { max_in_flight: 1, permits: 50, ..Setup::default() }).await;
    world.erp.always(Some(Slow(Duration::from_secs(4))));
    for n in 0..200 {
        world.place(&format!("{n:03}")).await;
    }
    world.pass(Duration::from_mins(20)).await;
    let nudges = world.wire.published("sweeper:").len();
    assert!(nudges <= 300, "{nudges} nudges for 200 orders that wait in the queue already");
    assert_eq!(world.erp.sends().len(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_the_circuit_opened_does_not_open_the_gate_again() {
    let world = World::without_workers(Setup::default());
    world.erp.always(Some(Login));
    let context = world.context("w1");
    let gate = context.policies.default.gate.clone();
    let submitter = Arc::new(Submitter::new(context.clone(), world.store.clone(), None));
    let (watcher, _read_mode) =
        CircuitWatcher::new(context, world.store.clone(), submitter.clone());
    world.database.holds_answers(true);
    let reads = watcher.round();
    let opens = async {
        while world.database.held_answers() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        submitter.handle(&world.delivery("1", false)).await;
        assert_eq!(gate.flow(), GateState::Stopped);
        world.database.holds_answers(false);
    };
    let (read, ()) = tokio::join!(reads, opens);
    read.expect("the ledger answers");
    assert_eq!(gate.flow(), GateState::Stopped, "the answer was older");
    watcher.round().await.expect("the ledger answers");
    assert_eq!(gate.flow(), GateState::Stopped, "it is open in the ledger, too");
}
