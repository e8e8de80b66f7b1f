//! Redrives on the whole service: many lost orders in growing steps, and what stops them.

use order_relay::domain::redrive::{ItemStatus, Pace, RedriveStatus, RedriveVerb};
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::redrives::{NewRedrive, RedriveItem, Selection};
use uuid::Uuid;

use crate::store_contract::{act, key};
use crate::world::World;

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
        class: None,
        code: None,
        message: None,
        fingerprint: None,
        erp_order_id: None,
        currency: "EUR".to_owned(),
        total: "1".to_owned(),
        at: None,
    });
    let known = records.iter().filter_map(|record| Some(record.last_failure.clone()?.fingerprint));
    let plan = NewRedrive {
        id,
        selection: Selection::Orders(keys.clone()),
        pace: Pace::default(),
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
