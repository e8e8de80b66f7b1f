//! The end of the alarm: an ERP that is usable again, types of failures that are new, come back and end.

use std::time::Duration;

use order_relay::domain::alarm::Damping;
use order_relay::domain::notice::{DigestRule, NoticeKind};
use order_relay::ports::mail::Mail;
use order_relay::workers::policies::AlarmPolicy;

use crate::erp::Turn::*;
use crate::world::{Setup, World};

const OPENED: NoticeKind = NoticeKind::CircuitOpened;
const CLOSED: NoticeKind = NoticeKind::CircuitClosed;
const UNSTABLE: NoticeKind = NoticeKind::CircuitUnstable;
const NEW: NoticeKind = NoticeKind::FailureTypeNew;
const BACK: NoticeKind = NoticeKind::FailureTypeBack;
const ENDED: NoticeKind = NoticeKind::FailureTypeEnded;

fn told(world: &World, kind: NoticeKind) -> usize {
    world.post.of(kind).len()
}

async fn until_told(world: &World, kind: NoticeKind, mails: usize) -> Mail {
    world.wait(kind.as_str(), async || told(world, kind) >= mails).await;
    assert_eq!(told(world, kind), mails);
    world.post.of(kind).pop().expect("it was told")
}

/// The ERP is away until the circuit opens and the mails about it have been sent.
async fn goes_away(world: &World, name: &str, orders: u32) {
    world.erp.always(Some(Away));
    for n in 0..orders {
        world.place(&format!("{name}{n:03}")).await;
    }
    let is_open = async || {
        let circuits = world.store.circuits().await.expect("the ledger answers");
        circuits.first().is_some_and(|circuit| circuit.opened_at.is_some())
    };
    world.wait("the circuit is open", is_open).await;
}

async fn comes_back(world: &World) {
    world.erp.always(None);
    let is_closed = async || {
        let circuits = world.store.circuits().await.expect("the ledger answers");
        circuits.first().is_some_and(|circuit| circuit.opened_at.is_none())
    };
    world.wait("the circuit is closed", is_closed).await;
}

/// Windows of minutes: every minute of virtual time costs some hundred steps.
fn quick() -> Setup {
    Setup {
        alarms: AlarmPolicy {
            audience: "default".to_owned(),
            damping: Damping { unstable_after: 3, window: Duration::from_mins(5) },
            back_within: Duration::from_mins(4),
            failure_types: false,
            ends_after: Duration::from_mins(12),
        },
        digest: DigestRule { after: 10, every: Duration::from_mins(1) },
        schedule: [5, 10, 20].map(Duration::from_secs).into(),
        max_count: None,
        ..Setup::default()
    }
}

async fn with_failure_types() -> World {
    let mut setup = quick();
    setup.alarms.failure_types = true;
    World::with(setup).await
}

/// Orders that the ERP refuses, each for another reason.
async fn refused(world: &World, orders: &[&str]) {
    world.erp.always(Some(Refuse));
    for id in orders {
        world.place(id).await;
        world.until(id, "parked").await;
    }
    world.erp.always(None);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_outage_is_told_when_the_orders_that_waited_are_through() {
    let world = World::with(quick()).await;
    goes_away(&world, "a", 40).await;
    world.pass(Duration::from_mins(6)).await;
    comes_back(&world).await;
    let mail = until_told(&world, CLOSED, 1).await;
    let waits = world.records().await.iter().filter(|r| r.phase.name() != "transferred").count();
    assert_eq!(waits, 0, "it was told before they were through");
    assert!(mail.subject.contains("is back"), "{}", mail.subject);
    assert!(mail.text.contains("40"), "the orders that waited: {}", mail.text);
    world.pass(Duration::from_mins(15)).await;
    assert_eq!((told(&world, OPENED), told(&world, CLOSED)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_takes_too_long_is_told_with_what_still_waits() {
    let schedule = vec![Duration::from_mins(30)];
    let world = World::with(Setup { schedule, ..quick() }).await;
    goes_away(&world, "a", 5).await;
    comes_back(&world).await;
    let mail = until_told(&world, CLOSED, 1).await;
    let waits = world.records().await.iter().filter(|r| r.phase.name() == "retrying").count();
    assert!(waits > 0, "they are retried later");
    let told = if waits == 1 { "1 still waits".to_owned() } else { format!("{waits} still wait") };
    assert!(mail.subject.contains(&told), "{}", mail.subject);
}

#[tokio::test(start_paused = true)]
async fn an_erp_that_comes_and_goes_is_told_as_unstable_and_then_as_back() {
    let world = World::with(quick()).await;
    for round in 0..6 {
        goes_away(&world, &format!("r{round}-"), 5).await;
        comes_back(&world).await;
        world.settle().await;
        world.seconds(30).await;
    }
    assert_eq!((told(&world, OPENED), told(&world, UNSTABLE)), (2, 1));
    assert_eq!(told(&world, CLOSED), 2, "those before it was unstable");
    let mail = until_told(&world, CLOSED, 3).await;
    assert!(mail.text.contains("4 times"), "the beginnings while it was unstable: {}", mail.text);
    world.pass(Duration::from_mins(20)).await;
    assert_eq!(told(&world, CLOSED), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_holds_and_releases_is_no_outage() {
    let world = World::with(quick()).await;
    world.ops.hold("default", &world.act("stocktaking")).await.expect("it is held");
    world.place("1").await;
    world.pass(Duration::from_mins(15)).await;
    world.ops.release("default", &world.act("done")).await.expect("it is released");
    world.until("1", "transferred").await;
    world.pass(Duration::from_mins(15)).await;
    assert_eq!((told(&world, OPENED), told(&world, CLOSED)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_one_tells_the_end() {
    let mut world = World::with(quick()).await;
    world.start("w2").await;
    goes_away(&world, "a", 30).await;
    world.pass(Duration::from_mins(5)).await;
    comes_back(&world).await;
    until_told(&world, CLOSED, 1).await;
    world.pass(Duration::from_mins(15)).await;
    assert_eq!((told(&world, OPENED), told(&world, CLOSED)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_between_closing_and_telling_loses_nothing() {
    let mut world = World::with(quick()).await;
    goes_away(&world, "a", 30).await;
    world.pass(Duration::from_mins(5)).await;
    comes_back(&world).await;
    world.kill();
    assert_eq!(told(&world, CLOSED), 0, "it has died before");
    world.start("w2").await;
    until_told(&world, CLOSED, 1).await;
}

#[tokio::test(start_paused = true)]
async fn many_new_types_of_failures_are_one_mail() {
    let world = with_failure_types().await;
    world.erp.always(Some(Refuse));
    for n in 0..5 {
        world.place(&format!("1{n}")).await;
    }
    world.erp.will("login", &[Unbuildable, Unbuildable, Unbuildable]);
    world.place("login").await;
    let mail = until_told(&world, NEW, 1).await;
    assert!(mail.subject.starts_with("2 types of failures"), "{}", mail.subject);
    world.pass(Duration::from_mins(5)).await;
    assert_eq!(told(&world, NEW), 1, "one mail for the change, none for each failure");
}

#[tokio::test(start_paused = true)]
async fn a_type_of_failures_has_ended_when_none_of_its_orders_is_lost_any_more() {
    let world = with_failure_types().await;
    refused(&world, &["1"]).await;
    until_told(&world, NEW, 1).await;
    world.pass(Duration::from_mins(8)).await;
    assert_eq!(told(&world, ENDED), 0, "an order is lost by it");
    let key = crate::world::key("1");
    world.ops.transfer(&key, &world.act("fixed")).await.expect("it is sent again");
    world.until("1", "transferred").await;
    let mail = until_told(&world, ENDED, 1).await;
    assert!(mail.subject.contains("has ended"), "{}", mail.subject);
}

#[tokio::test(start_paused = true)]
async fn a_type_of_failures_has_ended_when_none_failed_for_a_while_and_comes_back() {
    let world = with_failure_types().await;
    refused(&world, &["1"]).await;
    until_told(&world, ENDED, 1).await;
    refused(&world, &["2"]).await;
    let mail = until_told(&world, BACK, 1).await;
    assert!(mail.subject.contains("has come back"), "{}", mail.subject);
    assert_eq!(told(&world, NEW), 1);
}
