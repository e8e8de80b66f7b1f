//! Several nodes of RabbitMQ and several servers of PostgreSQL: when one of them freezes, goes or cannot write, the work
//! goes on with another one. And a single server that falls silent keeps nobody for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use order_relay::adapters::store::connections::PoolRule;
use order_relay::adapters::store::db::Db;
use order_relay::adapters::store::postgres::PostgresDb;
use order_relay::app::store::Store;
use order_relay::ports::broker::Settle;
use order_relay::ports::store_error::StoreError;

use crate::proxy::{Line, Proxy};
use crate::store_contract::{Ledger, at, key, open_store, placed};
use crate::transport::{PATIENCE, Transport, Way};
use crate::world::{Place, World, amqp_url, order, postgres_url};

/// Everything that is placed is read, while the other node is as it is.
async fn flows(transport: &Transport, name: &str) {
    let ids: Vec<String> = (0..20).map(|n| format!("{name}-{n}")).collect();
    transport.place_all(&ids).await;
    let mut left: BTreeSet<String> = ids.into_iter().collect();
    while !left.is_empty() {
        let mut subscription = transport.read_again(&transport.names.submit(), 50).await;
        // What ends the subscription is a node that went; the next one reads on.
        while let Ok(Ok(Some(delivery))) = tokio::time::timeout(PATIENCE, subscription.next()).await
        {
            left.remove(&String::from_utf8_lossy(&delivery.body).into_owned());
            delivery.settler.settle(Settle::Ack).await;
            if left.is_empty() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_freezes_or_goes_is_left_for_another_one() {
    let (a, b) = (Proxy::start(&amqp_url()).await, Proxy::start(&amqp_url()).await);
    let way = Way { line: format!("{} {}", a.url(), b.url()), ..Way::to(&amqp_url()) };
    let transport = Transport::amqp(&way, &[]).await;
    flows(&transport, "both").await;
    for (node, other) in [(&a, &b), (&b, &a), (&a, &b)] {
        other.set(Line::Open);
        node.set(Line::Frozen);
        flows(&transport, "frozen").await;
        node.set(Line::Down);
        node.cut();
        flows(&transport, "down").await;
    }
    assert!(a.accepted() > 0 && b.accepted() > 0);
    transport.leave().await;
}

/// `url` with the place of each proxy as one of its hosts.
fn several(url: &str, proxies: &[&Proxy]) -> String {
    let host = |url: &str| url.split(['@', '/']).nth(3).expect("a host").to_owned();
    let hosts: Vec<String> = proxies.iter().map(|proxy| host(&proxy.url())).collect();
    url.replace(&host(url), &hosts.join(","))
}

/// Waits until an order can be written, as a worker does.
async fn until_accepted(store: &Arc<dyn Store>, id: &str) {
    for _ in 0..100 {
        match store.accept(placed(&order(id)), at(0)).await {
            Ok(_) => return,
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}"),
        }
    }
    panic!("{id} was never accepted");
}

#[tokio::test]
async fn a_server_that_freezes_or_goes_is_left_for_another_one() {
    let ledger = Ledger::open(Place::Services).await;
    let url = ledger.database().url.clone();
    let (a, b) = (Proxy::start(&url).await, Proxy::start(&url).await);
    let store = open_store(&several(&url, &[&a, &b]));
    until_accepted(&store, "both").await;
    assert!(b.accepted() == 0, "the first is used while it can write");
    let mut number = 0;
    for (server, other) in [(&a, &b), (&b, &a), (&a, &b)] {
        other.set(Line::Open);
        for line in [Line::Frozen, Line::Mute, Line::Down] {
            server.set(line);
            if line == Line::Down {
                server.cut();
            }
            number += 1;
            until_accepted(&store, &format!("N-{number}")).await;
        }
    }
    assert_eq!(ledger.store.count_received().await.expect("the ledger answers"), 1 + number);
    drop(store);
    ledger.end().await;
}

#[tokio::test]
async fn a_server_that_cannot_write_is_passed_over() {
    let ledger = Ledger::open(Place::Services).await;
    let url = ledger.database().url.clone();
    let mark = if url.contains('?') { '&' } else { '?' };
    let standby = format!("{url}{mark}options[default_transaction_read_only]=on");
    let store = open_store(&format!("{standby},{url}"));
    until_accepted(&store, "R-1").await;
    assert!(ledger.store.record(&key("R-1")).await.expect("an answer").is_some());
    drop(store);
    ledger.end().await;
}

fn rule(connections: u32) -> PoolRule {
    PoolRule {
        connections,
        patience: Duration::from_secs(2),
        deadline: Duration::from_secs(1),
        ends_statements: true,
    }
}

#[tokio::test]
async fn a_single_server_that_falls_silent_keeps_nobody_for_ever() {
    let proxy = Proxy::start(&postgres_url()).await;
    let db = PostgresDb::open(&[&proxy.url()], rule(4), rule(2)).expect("a good address");
    let sql = "SELECT CAST(1 AS BIGINT)".into();
    let one = || db.fetch(&sql, Vec::new());
    assert!(one().await.is_ok());
    proxy.set(Line::Frozen);
    // More often than there are connections: none of them stays lost.
    for _ in 0..3 {
        let silent = join_all((0..4).map(|_| one())).await;
        for answer in silent {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        }
    }
    let begun = db.begin().await;
    assert!(matches!(begun.err(), Some(StoreError::Unavailable(_))));
    proxy.set(Line::Open);
    assert!(one().await.is_ok());
}

#[tokio::test]
async fn slow_reads_of_people_end_and_keep_no_work_waiting() {
    let db = PostgresDb::open(&[&postgres_url()], rule(2), rule(2)).expect("a good address");
    let slow = "SELECT CAST(1 AS BIGINT) FROM pg_sleep(600)".into();
    let reads = join_all((0..8).map(|_| db.read(&slow, Vec::new())));
    let work = async {
        for _ in 0..20 {
            let answer = db.fetch(&"SELECT CAST(1 AS BIGINT)".into(), Vec::new()).await;
            assert!(answer.is_ok(), "{answer:?}");
        }
    };
    let (reads, ()) = tokio::join!(reads, work);
    for answer in reads {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn addresses_are_shown_without_any_password() {
    let mut world = World::new(Place::Embedded).await;
    for url in [
        "amqp://u:first-secret@127.0.0.1:1,127.0.0.1:2/v",
        "amqp://u:first-secret@127.0.0.1:1/v,amqp://u:second-secret@127.0.0.1:2/v",
        "amqp://u:first-secret@127.0.0.1:1/v;amqp://u:second-secret@127.0.0.1:2/v",
        "amqp://u:first-secret@127.0.0.1:1/v amqp://u:second-secret@127.0.0.1:2/v",
        "amqp://u:first-secret/second-secret@127.0.0.1:1/v",
    ] {
        world.set("amqp.url", url);
        for command in [&["config", "show"][..], &["check"], &["topology", "check"], &["serve"]] {
            let output = world.command(command).output().await.expect("it can be run");
            let shown = [output.stdout, output.stderr].concat();
            let shown = String::from_utf8_lossy(&shown);
            assert!(!shown.contains("-secret"), "{command:?} {url}: {shown}");
            assert!(!shown.contains("panicked"), "{command:?} {url}: {shown}");
        }
    }
    world.set("amqp.url", "");
    world.end().await;
}
