//! Redrives on the whole service: many lost orders in growing steps, and what stops them.

use order_relay::cli::devtools::StubMode;
use order_relay::devtools::erp_stub::StubSettings;
use order_relay::domain::circuit::CircuitState;
use order_relay::domain::redrive::{ItemStatus, RedriveStatus, RedriveThrottle, RedriveVerb};
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::redrives::{NewRedrive, Redrive, RedriveItem, Selection};
use serde_json::Value;
use uuid::Uuid;

use crate::smtp::Received;
use crate::store_contract::{act, key};
use crate::world::{Place, World, in_both_places, order_that, texts};

in_both_places!(
    sixty_lost_orders_are_transferred_in_steps,
    a_failing_canary_stops_it_and_nothing_else_was_sent,
    one_that_nobody_works_off_says_so_and_goes_when_a_service_comes,
    a_failure_of_a_new_kind_stops_it,
    it_is_paused_resumed_slowed_down_and_cancelled,
    kills_in_the_middle_lose_and_double_nothing,
    what_changed_after_the_plan_is_skipped_with_its_reason,
    an_erp_that_goes_away_stops_it_and_the_rest_goes_later,
    a_hundred_failures_are_a_few_mails,
);

/// Parked orders that the ERP refuses once and accepts afterwards.
async fn lost(world: &mut World, ids: &[String], after: &str) {
    let orders: Vec<String> =
        ids.iter().map(|id| order_that(id, &format!("reject, {after}"))).collect();
    world.place(&orders).await;
    for id in ids {
        world.until_phase(id, "parked").await;
    }
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("R-{number:03}")).collect()
}

/// Plans a redrive on the command line; its id.
async fn plan(world: &World, arguments: &[&str]) -> String {
    let all = [&["redrive", "plan", "--output", "json"], arguments].concat();
    let told: Value = serde_json::from_str(&world.ok(&all).await).expect("JSON");
    told["id"].as_str().expect("an id").to_owned()
}

async fn start(world: &World, id: &str) {
    world.ok(&["redrive", "start", id, "--yes"]).await;
}

async fn redrive(world: &mut World, id: &str) -> Redrive {
    let id = id.parse().expect("a UUID");
    world.store().await.redrive(id).await.expect("the ledger answers").expect("it is there")
}

async fn until(world: &mut World, id: &str, what: &str, fits: impl Fn(&Redrive) -> bool) {
    let (store, id) = (world.store().await, id.parse().expect("a UUID"));
    world
        .until(what, async || match store.redrive(id).await.map_err(|error| error.to_string())? {
            Some(redrive) if fits(&redrive) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
}

fn is_quiet(redrive: &Redrive) -> bool {
    redrive.status != RedriveStatus::Running && redrive.count(ItemStatus::Sent) == 0
}

async fn sixty_lost_orders_are_transferred_in_steps(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    lost(&mut world, &ids(60), "ok").await;
    let dry = world.ok(&["redrive", "plan", "--all", "--dry-run"]).await;
    assert!(dry.contains("Orders       60") && dry.contains("7794.00 EUR"), "{dry}");
    assert!(world.ok(&["redrive", "list"]).await.contains("No redrives."), "nothing is kept");
    let id = plan(&world, &["--all", "--reason", "the article is there now"]).await;
    assert!(world.stub.orders().values().all(|order| order.documents.is_empty()), "only planned");
    start(&world, &id[id.len() - 6..]).await;
    world.ok(&["redrive", "show", &id, "--watch"]).await;
    let done = redrive(&mut world, &id).await;
    assert_eq!(done.status, RedriveStatus::Done);
    assert_eq!((done.planned(), done.count(ItemStatus::Transferred)), (60, 60));
    assert_eq!((done.wave, done.ramp_at), (4, 3), "1, 5, 20 and the rest");
    let csv = world
        .ok(&["redrive", "show", &id, "--items", "--status", "transferred", "--output", "csv"])
        .await;
    assert_eq!(csv.lines().count(), 61, "{csv}");
    assert!(csv.lines().skip(1).all(|line| line.contains(",ERP-")), "{csv}");
    world.until_settled(60).await;
    let attempts = world.order("R-000").await.attempts;
    assert_eq!(attempts.last().expect("tries").trigger, "redrive");
    world.end().await;
}

async fn a_failing_canary_stops_it_and_nothing_else_was_sent(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    lost(&mut world, &ids(10), "reject, ok").await;
    let id = plan(&world, &["--all"]).await;
    start(&world, &id).await;
    let watched = world.run(&["redrive", "show", &id, "--watch"]).await;
    assert_eq!(watched.status.code(), Some(1), "{:?}", texts(&watched));
    let stopped = redrive(&mut world, &id).await;
    assert_eq!(stopped.status, RedriveStatus::Stopped);
    assert_eq!(stopped.why.as_deref(), Some("the first order of the ramp failed"));
    assert_eq!((stopped.count(ItemStatus::Failed), stopped.count(ItemStatus::Waiting)), (1, 9));
    let tried = world.stub.orders().values().filter(|order| order.sent > 1).count();
    assert_eq!(tried, 1, "the canary alone");
    // The nine that are left, and the one that failed, with a plan of their own.
    let again = plan(&world, &["--failed-of", &id]).await;
    assert_eq!(redrive(&mut world, &again).await.planned(), 10);
    let refused = world.run(&["redrive", "start", &id, "--yes"]).await;
    assert_eq!(refused.status.code(), Some(1));
    world.ok(&["redrive", "resume", &id]).await;
    until(&mut world, &id, "it has halted again", is_quiet).await;
    assert_eq!(redrive(&mut world, &id).await.count(ItemStatus::Failed), 2, "the ramp began anew");
    world.until_settled(10).await;
    world.end().await;
}

async fn one_that_nobody_works_off_says_so_and_goes_when_a_service_comes(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    lost(&mut world, &ids(2), "ok").await;
    let id = plan(&world, &["--all", "--ramp", "2", "--rate", "1/m"]).await;
    world.stop().await;
    if place == Place::Services {
        // Without a submitter it is refused.
        world.start(&["serve", "--roles", "submitter,error-handler"]).await;
    }
    let alone = world.run(&["redrive", "start", &id, "--yes"]).await;
    assert!(alone.status.success(), "{:?}", texts(&alone));
    assert!(texts(&alone).1.contains("no service with the role sweeper"), "{:?}", texts(&alone));
    world.serve().await;
    until(&mut world, &id, "one went", |r| r.count(ItemStatus::Transferred) == 1).await;
    let attended = world.run(&["redrive", "rate", &id, "10/s"]).await;
    assert!(attended.status.success(), "{:?}", texts(&attended));
    assert!(!texts(&attended).1.contains("sweeper"), "{:?}", texts(&attended));
    until(&mut world, &id, "it is done", |r| r.status == RedriveStatus::Done).await;
    world.end().await;
}

async fn a_failure_of_a_new_kind_stops_it(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    lost(&mut world, &ids(3), "ok").await;
    lost(&mut world, &["R-100".to_owned()], "busy, ok").await;
    lost(&mut world, &ids(30).split_off(10), "ok").await;
    let arguments = ["--all", "--ramp", "3,1,100", "--stop-percent", "100", "--rate", "600/m"];
    let id = plan(&world, &arguments).await;
    start(&world, &id).await;
    until(&mut world, &id, "it has halted", is_quiet).await;
    let stopped = redrive(&mut world, &id).await;
    assert_eq!(stopped.status, RedriveStatus::Stopped, "{stopped:?}");
    let why = stopped.why.clone().unwrap_or_default();
    assert!(why.contains("of a new group") && why.contains("maintenance"), "{why}");
    assert_eq!(stopped.count(ItemStatus::Transferred), 3, "it was the one of the second step");
    world.ok(&["redrive", "resume", &id]).await;
    until(&mut world, &id, "it has ended", is_quiet).await;
    let done = redrive(&mut world, &id).await;
    assert_eq!(done.status, RedriveStatus::Done);
    assert_eq!((done.count(ItemStatus::Transferred), done.count(ItemStatus::Failed)), (23, 1));
    world.until_settled(24).await;
    world.end().await;
}

async fn it_is_paused_resumed_slowed_down_and_cancelled(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    lost(&mut world, &ids(30), "ok").await;
    let id = plan(&world, &["--all", "--ramp", "30", "--rate", "5/s"]).await;
    start(&world, &id).await;
    until(&mut world, &id, "three went", |r| r.count(ItemStatus::Transferred) >= 3).await;
    world.ok(&["redrive", "pause", &id]).await;
    until(&mut world, &id, "it is quiet", is_quiet).await;
    let paused = redrive(&mut world, &id).await;
    assert_eq!(paused.status, RedriveStatus::Paused);
    assert!(paused.count(ItemStatus::Transferred) < 30, "at 5 a second: {paused:?}");
    world.ok(&["redrive", "rate", &id, "1/m"]).await;
    world.ok(&["redrive", "resume", &id]).await;
    let before = paused.count(ItemStatus::Transferred);
    until(&mut world, &id, "one more went", |r| r.count(ItemStatus::Transferred) > before).await;
    let slow = redrive(&mut world, &id).await;
    assert_eq!(slow.count(ItemStatus::Transferred), before + 1, "no burst after the pause");
    assert_eq!(slow.wave, 1, "the same step");
    world.ok(&["redrive", "cancel", &id, "--yes"]).await;
    let cancelled = redrive(&mut world, &id).await;
    assert_eq!(cancelled.status, RedriveStatus::Cancelled);
    let refused = world.run(&["redrive", "resume", &id]).await;
    assert!(texts(&refused).1.contains("cancelled cannot be resumed"), "{:?}", texts(&refused));
    world.until_settled(30).await;
    world.end().await;
}

async fn kills_in_the_middle_lose_and_double_nothing(place: Place) {
    const ORDERS: usize = 120;
    let mut world = World::new(place).await;
    world.set_short_leases();
    world.stub.set(StubSettings { latency_ms: 20, ..Default::default() });
    world.set("erp.max_in_flight", "8");
    world.serve().await;
    lost(&mut world, &ids(ORDERS), "ok").await;
    let id = plan(&world, &["--all", "--ramp", "1,5,20", "--rate", "30/s"]).await;
    start(&world, &id).await;
    for kill in 1..=4u64 {
        let reached = kill * 20;
        until(&mut world, &id, "some went", |r| {
            r.settled() + r.count(ItemStatus::Sent) >= reached || is_quiet(r)
        })
        .await;
        world.kill().await;
        world.start(&["serve"]).await;
    }
    until(&mut world, &id, "it has ended", is_quiet).await;
    // An order in progress at a kill may be unclear, which counts as a failure and may stop it.
    for _ in 0..10 {
        world.until_settled(ORDERS as u64).await;
        if redrive(&mut world, &id).await.status == RedriveStatus::Done {
            break;
        }
        world.ok(&["redrive", "resume", &id]).await;
        until(&mut world, &id, "it has ended", is_quiet).await;
    }
    world.until_settled(ORDERS as u64).await;
    let done = redrive(&mut world, &id).await;
    assert_eq!(done.status, RedriveStatus::Done, "{done:?}");
    let lost = world.ok(&["lost-orders", "list", "--output", "json"]).await;
    assert_eq!(lost.trim(), "[]", "each is in the ERP");
    let documents: usize = world.stub.orders().values().map(|order| order.documents.len()).sum();
    assert_eq!(documents, ORDERS, "each exactly once");
    assert_eq!(done.counts.values().sum::<u64>(), ORDERS as u64);
    world.end().await;
}

async fn what_changed_after_the_plan_is_skipped_with_its_reason(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    lost(&mut world, &ids(4), "ok").await;
    let id = plan(&world, &["R-000", "R-001", "R-002", "R-003"]).await;
    let patch = r#"[{"op":"add","path":"/note","value":1.10}]"#;
    world.ok(&["lost-orders", "edit", "R-000", "--patch", patch]).await;
    world.ok(&["lost-orders", "remove", "R-001", "--reason", "test"]).await;
    world.ok(&["lost-orders", "process", "R-002"]).await;
    start(&world, &id).await;
    until(&mut world, &id, "it has ended", is_quiet).await;
    let done = redrive(&mut world, &id).await;
    assert_eq!(done.status, RedriveStatus::Done, "{done:?}");
    assert_eq!(done.count(ItemStatus::Transferred), 1);
    let reasons: Vec<_> = done.excluded.iter().map(|(why, n)| format!("{n} {why}")).collect();
    assert_eq!(reasons, ["1 confirmed", "1 newer_revision", "1 removed"]);
    let again = plan(&world, &["--failed-of", &id]).await;
    assert_eq!(redrive(&mut world, &again).await.planned(), 1, "only what is still lost");
    start(&world, &again).await;
    world.until_phase("R-000", "transferred").await;
    until_over(&mut world).await;
    world.until_settled(4).await;
    world.end().await;
}

async fn an_erp_that_goes_away_stops_it_and_the_rest_goes_later(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    lost(&mut world, &ids(20), "ok").await;
    world.ok(&["erp", "hold", "--reason", "update"]).await;
    let id = plan(&world, &["--all"]).await;
    let refused = world.run(&["redrive", "start", &id, "--yes"]).await;
    assert_eq!(refused.status.code(), Some(4), "{:?}", texts(&refused));
    assert_eq!(redrive(&mut world, &id).await.status, RedriveStatus::Planned);
    world.ok(&["erp", "release"]).await;
    until_released(&mut world).await;
    world.stub.set(StubSettings { mode: StubMode::Ok, latency_ms: 30, ..Default::default() });
    let ramp = ["redrive", "rate", &id, "5/s"];
    world.ok(&ramp).await;
    start(&world, &id).await;
    until(&mut world, &id, "some went", |r| r.count(ItemStatus::Transferred) >= 3).await;
    world.ok(&["erp", "hold", "--reason", "update again"]).await;
    until(&mut world, &id, "it has halted", is_quiet).await;
    let stopped = redrive(&mut world, &id).await;
    assert_eq!(stopped.status, RedriveStatus::Stopped, "{stopped:?}");
    assert!(stopped.why.unwrap_or_default().contains("ERP default is stopped"));
    world.ok(&["erp", "release"]).await;
    until_released(&mut world).await;
    // The first order of the ramp is the trial of the circuit.
    world.ok(&["redrive", "rate", &id, "none"]).await;
    world.ok(&["redrive", "resume", &id]).await;
    until(&mut world, &id, "it has ended", is_quiet).await;
    let done = redrive(&mut world, &id).await;
    assert_eq!((done.status, done.count(ItemStatus::Transferred)), (RedriveStatus::Done, 20));
    world.until_settled(20).await;
    world.end().await;
}

/// Waits until a released circuit waits for its trial.
async fn until_released(world: &mut World) {
    let store = world.store().await;
    world
        .until("the ERP may be tried", async || {
            let circuits = store.circuits().await.map_err(|error| error.to_string())?;
            let is_open = circuits.iter().any(|c| c.state == CircuitState::Open);
            if is_open { Err(format!("{circuits:?}")) } else { Ok(()) }
        })
        .await;
}

async fn a_hundred_failures_are_a_few_mails(place: Place) {
    let mut world = World::new(place).await;
    world.set("mail.digest_every", "3s");
    world.serve().await;
    lost(&mut world, &ids(100), "reject").await;
    world.until_settled(100).await;
    let before = world.admin_mails().len();
    let id = plan(&world, &["--all", "--ramp", "100", "--stop-percent", "100"]).await;
    start(&world, &id).await;
    until(&mut world, &id, "it has ended", is_quiet).await;
    assert_eq!(redrive(&mut world, &id).await.count(ItemStatus::Failed), 100);
    world.until_settled(100).await;
    let mails = world.admin_mails().split_off(before);
    assert!(mails.len() <= 4, "{} mails", mails.len());
    for id in ids(100) {
        let names = |mail: &&Received| (mail.text() + &mail.attachment()).contains(&id);
        let named = mails.iter().filter(names).count();
        assert_eq!(named, 1, "{id} is in exactly one mail");
    }
    world.end().await;
}

/// A redrive of these lost orders, started.
pub async fn redrive_of(world: &mut World, ids: &[&str]) -> Uuid {
    let (store, id) = (world.store().await, SystemClock.unique_id());
    let keys: Vec<_> = ids.iter().map(|id| key(id)).collect();
    let records = store.records(&keys).await.expect("the ledger answers");
    let items = (1u64..).zip(&records).map(|(seq, record)| RedriveItem {
        seq,
        key: record.key.clone(),
        revision: record.revision,
        status: ItemStatus::Waiting,
        why: None,
        attempt: None,
        failure: None,
        erp_order_id: None,
        currency: "EUR".to_owned(),
        total: "1".to_owned(),
        at: None,
    });
    let known =
        records.iter().filter_map(|record| Some(record.last_failure.clone()?.summary.fingerprint));
    let plan = NewRedrive {
        id,
        selection: Selection::Orders(keys.clone()),
        pace: RedriveThrottle::default(),
        known_fingerprints: known.collect(),
        money: Vec::new(),
        items: items.collect(),
    };
    store.add_redrive(plan, &act("test", SystemClock.now())).await.expect("it is kept");
    let start = act("test", SystemClock.now());
    let started = store.change_redrive(id, RedriveVerb::Start, &[], &start).await;
    started.expect("the ledger answers").expect("it is there").expect("it can be started");
    id
}

/// Waits until no redrive runs any more.
pub async fn until_over(world: &mut World) {
    let store = world.store().await;
    world
        .until("every redrive has ended", async || {
            let redrives = store.redrives(100).await.map_err(|error| error.to_string())?;
            match redrives.iter().find(|r| r.status == RedriveStatus::Running) {
                None => Ok(()),
                Some(running) => Err(format!("{running:?}")),
            }
        })
        .await;
}
