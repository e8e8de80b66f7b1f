//! What a real PostgreSQL does to the ledger: values that no index holds, servers that become read-only, and
//! processes that lock the same rows.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::SignedDuration;
use order_relay::app::store::Store;
use order_relay::domain::lifecycle::claim::{Admission, HandBack, Intent};
use order_relay::domain::lifecycle::vocabulary::Trigger;
use order_relay::domain::order::document::Order;
use order_relay::domain::order::intake_rules::IntakeRules;
use order_relay::domain::order_filter::ShopFilter;
use order_relay::domain::trace::Trace;
use order_relay::ports::orders::{
    AdmitRequest, HandBackRequest, Incoming, OrderSource, Placed, Sweep,
};
use order_relay::ports::store_error::StoreError;
use order_relay::ports::workers::Worker;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::private_postgres::PrivatePostgres;
use crate::store_contract::{Ledger, admission, at, key, open_store, placed};
use crate::world::{Place, World, order, order_with, postgres_url};

/// A customer's number that no index of PostgreSQL holds and that cannot be compressed.
fn endless_number() -> String {
    let bytes = (0u32..50).flat_map(|n| Sha256::digest(n.to_be_bytes()));
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn claimed(incoming: Incoming, worker: &str, second: i64) -> AdmitRequest {
    let until = at(second) + SignedDuration::from_secs(60);
    AdmitRequest {
        incoming,
        intent: Intent::Claim { worker: worker.to_owned(), until, begins: true },
        now: at(second),
    }
}

#[tokio::test]
async fn a_value_that_no_index_holds_is_refused_alone_in_its_batch() {
    let ledger = Ledger::open(Place::Services).await;
    let mut endless = Order::parse(order("N-17").as_bytes(), &IntakeRules::of_bytes(1 << 20))
        .expect("a good order");
    endless.facts.customer.number = Some(endless_number());
    let endless = Arc::new(endless);
    let admits = (0..50).map(|n| {
        let placed = match n {
            17 => Placed {
                order: endless.clone(),
                source: OrderSource::Broker,
                trace: Trace::default(),
            },
            _ => placed(&order(&format!("N-{n}"))),
        };
        ledger.store.admit(claimed(Incoming::Placed(placed), &format!("w-{n}"), 0))
    });
    for (n, result) in join_all(admits).await.into_iter().enumerate() {
        match result {
            Ok(admitted) => assert_eq!(admission(admitted), Admission::Send { attempt: 1 }, "{n}"),
            Err(error) => {
                assert!(n == 17 && matches!(error, StoreError::Refused(_)), "{n}: {error:?}");
            }
        }
    }
    assert_eq!(ledger.store.count_received().await.expect("the ledger answers"), 49);
    ledger.end().await;
}

#[tokio::test]
async fn an_endless_number_of_a_customer_stops_nobody() {
    let mut world = World::new(Place::Services).await;
    world.serve().await;
    let endless = json!({"customer": {"number": endless_number(), "email": "a@example.com"}});
    let mut orders: Vec<String> = (0..20).map(|n| order(&format!("G-{n}"))).collect();
    orders.insert(10, order_with("ENDLESS", &endless));
    world.place(&orders).await;
    for n in 0..20 {
        world.until_phase(&format!("G-{n}"), "transferred").await;
    }
    let store = world.store().await;
    world
        .until("the endless one is a dead letter", async || {
            let letters = store.list_dead_letters(true, 10).await;
            let letters = letters.map_err(|error| error.to_string())?;
            match letters.as_slice() {
                [letter] if letter.place.as_deref() == Some("/customer/number") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    drop(store);
    world.end().await;
}

fn worker() -> Worker {
    let (name, roles) = ("w".to_owned(), Vec::new());
    Worker { name, roles, started_at: at(0), seen_at: at(0) }
}

/// Waits until the order can be admitted.
async fn until_admitted(store: &Arc<dyn Store>, id: &str) {
    for _ in 0..100 {
        let incoming = Incoming::Placed(placed(&order(id)));
        match store.admit(claimed(incoming, id, 0)).await {
            Ok(_) => return,
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}"),
        }
    }
    panic!("{id} was never admitted");
}

#[tokio::test]
async fn the_flow_goes_on_after_a_server_was_read_only_for_a_while() {
    let database = PrivatePostgres::new();
    let url = database.run("start").await;
    let store = open_store(&url);
    store.migrate(&|_, _| {}).await.expect("the tables can be made");
    until_admitted(&store, "before").await;
    let admin = PgPool::connect(&url).await.expect("PostgreSQL");
    let set = async |value: &str| {
        // For sessions that are there already, too: as on a server that was demoted.
        for sql in [
            format!("ALTER SYSTEM SET default_transaction_read_only = {value}"),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            sqlx::query(&sql).execute(&admin).await.expect("it can be set");
        }
    };
    set("on").await;
    // Sessions hear of it when they are next scheduled.
    let mut still_taken = 0;
    loop {
        let document = order(&format!("still-{still_taken}"));
        let incoming = Incoming::Placed(placed(&document));
        if store.admit(claimed(incoming, "w", 0)).await.is_err() {
            break;
        }
        still_taken += 1;
    }
    assert!(store.heartbeat(&worker()).await.is_err());
    assert!(store.fault().is_some(), "what cannot write is not ready");
    for n in 0..5 {
        let incoming = Incoming::Placed(placed(&order(&format!("during-{n}"))));
        let refused = store.admit(claimed(incoming, "w", 0)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    let kept = "SELECT COUNT(*) FROM pg_stat_activity
        WHERE application_name = 'order-relay' AND backend_type = 'client backend'";
    let mut left = i64::MAX;
    for _ in 0..300 {
        left = sqlx::query_scalar(kept).fetch_one(&admin).await.expect("PostgreSQL");
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(left, 0, "what cannot write is not kept");
    sqlx::query("SET default_transaction_read_only = off").execute(&admin).await.expect("ours");
    set("off").await;
    until_admitted(&store, "after").await;
    store.heartbeat(&worker()).await.expect("it can be written again");
    assert!(store.fault().is_none());
    assert_eq!(store.count_received().await.expect("the ledger answers"), 2 + still_taken);
}

#[tokio::test]
async fn processes_that_lock_the_same_rows_never_wait_in_a_ring() {
    let ledger = Ledger::open(Place::Services).await;
    let ids: Vec<String> = (0..60).map(|n| format!("D-{n:03}")).collect();
    // The last key came first: by age the rows are in the opposite order.
    for (second, id) in (0..).zip(ids.iter().rev()) {
        let accepted = ledger.store.accept(placed(&order(id)), at(second)).await;
        accepted.expect("the ledger answers");
    }
    let deadlocks = async || -> i64 {
        let admin = PgPool::connect(&postgres_url()).await.expect("PostgreSQL");
        let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        sqlx::query_scalar(sql).fetch_one(&admin).await.expect("PostgreSQL")
    };
    let before = deadlocks().await;
    let works = async |worker: &str, reversed: bool| {
        let store = ledger.opened_again();
        for round in 0..15i64 {
            let names: Vec<String> = match reversed {
                true => ids.iter().rev().cloned().collect(),
                false => ids.clone(),
            };
            let claims = names.iter().map(|id| {
                let incoming =
                    Incoming::Again { key: key(id), attempt: 1, trigger: Trigger::Sweeper };
                store.admit(claimed(incoming, worker, 100 + round))
            });
            let backs = names.iter().map(|id| {
                let (key, worker) = (key(id), worker.to_owned());
                let (how, now) = (HandBack::Hold, at(100 + round));
                store.hand_back(HandBackRequest { key, worker, how, now })
            });
            let (claimed, back) = tokio::join!(join_all(claims), join_all(backs));
            claimed.into_iter().for_each(|result| drop(result.expect("no deadlock")));
            back.into_iter().for_each(|result| result.expect("no deadlock"));
        }
    };
    let sweeps = async {
        let store = ledger.opened_again();
        for round in 0..60 {
            let sweep = Sweep {
                now: at(1_000 + round),
                grace: Duration::ZERO,
                again_after: Duration::ZERO,
                shops: ShopFilter::default(),
                limit: 60,
                fresh_first: false,
            };
            store.take_overdue(sweep).await.expect("no deadlock");
        }
    };
    tokio::join!(works("a", false), works("b", true), sweeps);
    // The statistics of PostgreSQL come late; another test's deadlock would be a fault as well.
    assert_eq!(deadlocks().await, before);
    ledger.end().await;
}
