//! Forty orders of every kind through one service, and the same embedded: each ends where the
//! contract says, none is in the ERP twice, and every failed one is named in a mail.

use crate::world::{Place, World, order_that};

/// What the ERP does with an order, and where the order must end: phase, failed attempts, documents.
const KINDS: [(&str, &str, &str, u32, usize); 10] = [
    ("takes", "ok", "transferred", 0, 1),
    ("fails-once", "busy, ok", "transferred", 1, 1),
    ("fails-twice", "busy, busy, ok", "transferred", 2, 1),
    ("always-fails", "busy, busy, busy, busy, busy", "parked", 3, 0),
    ("refuses", "reject", "parked", 1, 0),
    ("cuts-before", "cut, ok", "transferred", 1, 1),
    ("cuts-after", "accept_then_cut, ok", "transferred", 1, 1),
    ("gateway", "gateway_timeout, ok", "transferred", 1, 1),
    ("silent", "silent, ok", "transferred", 1, 1),
    ("slow", "slow", "transferred", 0, 1),
];

async fn forty_orders(place: Place) {
    let mut world = World::new(place).await;
    world.set("erp.timeout", "5s");
    // Orders of many kinds fail side by side here; the ERP answers questions all the while.
    world.set("circuit.open_after", "1000");
    world.serve().await;
    let orders: Vec<String> = (0..4)
        .flat_map(|round| {
            KINDS.map(|(name, modes, ..)| order_that(&format!("{name}-{round}"), modes))
        })
        .collect();
    world.place(&orders).await;
    world.until_settled(40).await;
    let mails = world.admin_mails();
    for round in 0..4 {
        for (name, modes, phase, failed, documents) in KINDS {
            let id = format!("{name}-{round}");
            let stored = world.order(&id).await;
            let in_erp = &world.stub.orders()[&id];
            let now =
                (stored.record.phase.name(), stored.record.fail_count, in_erp.documents.len());
            assert_eq!(now, (phase, failed, documents), "{id} ({modes}): {:#?}", stored.attempts);
            assert_eq!(in_erp.keys.iter().collect::<Vec<_>>(), [&format!("default/{id}")]);
            let told = mails.iter().filter(|mail| mail.text().contains(&id)).count();
            assert_eq!(told, failed as usize, "{id}: one mail for each failed try");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn forty_orders_through_rabbitmq_and_postgresql_end_as_they_must() {
    forty_orders(Place::Services).await;
}

#[tokio::test]
async fn forty_orders_embedded_end_as_they_must() {
    forty_orders(Place::Embedded).await;
}
