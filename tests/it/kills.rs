//! `kill -9` in the middle of many orders, a database that dies, a polite end under load.

use order_relay::devtools::erp_stub::StubSettings;
use order_relay::domain::order_filter::{OrderFilter, Sort};

use crate::private_postgres::PrivatePostgres;
use crate::world::{Place, World, amqp_url, order, order_that};

const ORDERS: usize = 2_000;
const KILLS: usize = 8;

/// Two thousand orders: most are fine, some fail once, some are accepted without an answer, some
/// refused.
fn orders() -> Vec<String> {
    (0..ORDERS)
        .map(|number| {
            let id = format!("K-{number:04}");
            match number % 100 {
                7 | 37 | 67 => order_that(&id, "busy, ok"),
                17 | 57 => order_that(&id, "accept_then_cut"),
                // As often as it takes: a kill may swallow the refusal, and it is sent again.
                97 => order_that(&id, &["reject"; KILLS + 1].join(", ")),
                _ => order(&id),
            }
        })
        .collect()
}

async fn eight_kills(place: Place) {
    let mut world = World::new(place).await;
    world.set_short_leases();
    world.set("mail.digest_after", "5");
    world.set("erp.max_in_flight", "16");
    // Each kill may interrupt the same order once more, which counts as a failed attempt.
    world.set("max_failed_order", "20");
    world.stub.set(StubSettings { latency_ms: 10, ..Default::default() });
    world.serve().await;
    match place {
        Place::Services => world.place(&orders()).await,
        // The process is killed at any moment, so the orders go into the ledger beside it.
        Place::Embedded => {
            std::fs::write(world.folder.path().join("orders.ndjson"), orders().join("\n"))
                .expect("a file");
            world.ok(&["publish", "orders.ndjson"]).await;
        }
    }
    for kill in 1..=KILLS {
        let reached = (ORDERS * kill / (KILLS + 1)) as u64;
        let stub = world.stub.clone();
        world
            .until(&format!("{reached} orders were sent"), async || {
                let sent = stub.requests();
                if sent >= reached { Ok(()) } else { Err(format!("{sent}")) }
            })
            .await;
        world.kill().await;
        world.start(&["serve"]).await;
    }
    world.until_settled(ORDERS as u64).await;
    let store = world.store().await;
    let parked = OrderFilter { phase: Some("parked".to_owned()), ..Default::default() };
    let parked =
        store.page_orders(&parked, Sort::default(), None, 5_000).await.expect("the ledger answers");
    assert_eq!(parked.len(), ORDERS / 100, "exactly the refused ones are left");
    assert!(parked.iter().all(|order| order.key.order_id.as_str().ends_with("97")));
    world.end().await;
}

#[tokio::test]
async fn eight_kills_during_two_thousand_orders_lose_nothing_on_services() {
    eight_kills(Place::Services).await;
}

#[tokio::test]
async fn eight_kills_during_two_thousand_orders_lose_nothing_embedded() {
    eight_kills(Place::Embedded).await;
}

#[tokio::test]
async fn a_polite_end_under_load_finishes_what_is_in_hand() {
    let mut world = World::new(Place::Services).await;
    world.set("erp.max_in_flight", "8");
    world.set("amqp.prefetch", "40");
    world.stub.set(StubSettings { latency_ms: 50, ..Default::default() });
    world.serve().await;
    let orders: Vec<String> = (0..300).map(|number| order(&format!("T-{number}"))).collect();
    world.place(&orders).await;
    for _ in 0..3 {
        let (stub, before) = (world.stub.clone(), world.stub.requests());
        world
            .until("it works", async || {
                if stub.requests() > before + 20 { Ok(()) } else { Err("too little".to_owned()) }
            })
            .await;
        world.stop().await;
        let store = world.store().await;
        let all = store
            .page_orders(&OrderFilter::default(), Sort::default(), None, 1_000)
            .await
            .expect("the ledger");
        let in_hand = all.iter().filter(|order| order.claim.is_some()).count();
        assert_eq!(in_hand, 0, "everything in hand was finished");
        world.start(&["serve"]).await;
    }
    world.until_settled(300).await;
    let sent_twice = world.stub.orders().into_iter().find(|(_, order)| order.sent != 1);
    assert!(sent_twice.is_none(), "{sent_twice:?}");
    world.end().await;
}

#[tokio::test]
async fn a_second_signal_cuts_and_the_order_is_asked_about_later() {
    let mut world = World::new(Place::Services).await;
    world.set("erp.timeout", "4s");
    world.serve().await;
    world.place(&[order_that("silent", "silent, ok")]).await;
    let stub = world.stub.clone();
    world
        .until(
            "it is sent",
            async || if stub.requests() == 1 { Ok(()) } else { Err("no".to_owned()) },
        )
        .await;
    let mut process = world.processes.pop().expect("it runs");
    process.signal("TERM").await;
    world
        .until("it drains", async || {
            let log = process.log();
            if log.contains("service.draining") { Ok(()) } else { Err(log) }
        })
        .await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(1), "{}", process.log());
    world.start(&["serve"]).await;
    world.until_settled(1).await;
    assert_eq!(world.stub.orders()["silent"].documents.len(), 1);
    assert!(world.stub.orders()["silent"].asked > 0, "it was asked about before it was sent again");
    world.end().await;
}

#[tokio::test]
async fn a_database_that_dies_in_the_middle_loses_and_doubles_nothing() {
    let database = PrivatePostgres::new();
    let url = database.run("start").await;
    let mut world = World::with(Place::Services, amqp_url(), url).await;
    world.set("database.patience", "500ms");
    world.set("erp.max_in_flight", "16");
    world.stub.set(StubSettings { latency_ms: 20, ..Default::default() });
    world.serve().await;
    let orders: Vec<String> = (0..600)
        .map(|number| match number % 20 {
            3 => order_that(&format!("B-{number}"), "busy, ok"),
            _ => order(&format!("B-{number}")),
        })
        .collect();
    let (before, meanwhile) = orders.split_at(400);
    world.place(before).await;
    let stub = world.stub.clone();
    let until_sent = async |world: &World, reached| {
        world
            .until("some orders are sent", async || {
                if stub.requests() >= reached { Ok(()) } else { Err("too few".to_owned()) }
            })
            .await;
    };
    let until_logged = async |world: &World, line| {
        world
            .until(line, async || {
                let log = world.processes[0].log();
                if log.contains(line) { Ok(()) } else { Err("it is not logged".to_owned()) }
            })
            .await;
    };
    until_sent(&world, 120).await;
    database.run("kill").await;
    // However far it has got: these find no database.
    world.place(meanwhile).await;
    until_logged(&world, "store.unavailable").await;
    database.run("start").await;
    until_logged(&world, "store.available").await;
    until_sent(&world, 420).await;
    database.run("restart").await;
    world.until_settled(600).await;
    world.end().await;
}

#[tokio::test]
async fn an_order_comes_through_while_the_sweeper_is_the_only_one_who_knows_of_it() {
    let mut world = World::new(Place::Services).await;
    world.make_ready().await;
    // Into the ledger without any message: as if the broker had lost everything.
    let amqp = world.amqp.clone();
    world.set("amqp.url", "");
    std::fs::write(world.folder.path().join("orders.ndjson"), order("forgotten")).expect("a file");
    world.ok(&["publish", "orders.ndjson"]).await;
    world.set("amqp.url", &amqp);
    world.start(&["serve"]).await;
    world.until_settled(1).await;
    assert_eq!(world.order("forgotten").await.attempts[0].trigger, "sweeper");
    world.end().await;
}
