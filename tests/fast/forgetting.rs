//! An order that was erased: what people are told, and what becomes of a message of it that comes again.

use order_relay::domain::permission::{Grants, Role};
use order_relay::ops::erasure::Erased;
use order_relay::ops::principal::Principal;
use serde_json::json;

use crate::erp::Turn::*;
use crate::paused;
use crate::world::{World, key, operator};

async fn transferred(world: &World, id: &str) {
    world.place(id).await;
    world.until(id, "transferred").await;
}

paused! {
    async fn an_erased_order_is_gone_and_never_sent_again(world) {
        transferred(&world, "1").await;
        let act = world.act("asked for");
        assert_eq!(world.ops.erase(&key("1"), &act).await.expect("done"), Erased::Now { elsewhere: 0 });
        assert_eq!(world.ops.show(&operator(), &key("1")).await.expect_err("gone").kind().status, 404);
        let duplicates = world.metrics.orders_duplicate.get();
        world.place("1").await;
        world.seconds(60).await;
        assert_eq!((world.erp.sends().len(), world.metrics.orders_duplicate.get()), (1, duplicates + 1));
        world.place_with("1", &json!({"total": "1.00"})).await;
        world.seconds(60).await;
        assert_eq!(world.erp.sends().len(), 1);
        let letters = world.store.list_dead_letters(true, 9).await.expect("the ledger answers");
        assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "number_taken"));
        let audit = world.store.list_audit(&Default::default(), None, 9).await.expect("answers");
        assert_eq!(audit[0].entry.action, "order.erase");
        assert_eq!(world.ops.erase(&key("1"), &world.act("again")).await.expect("done"), Erased::Before);
    }

    async fn an_order_that_is_not_finished_is_not_erased(world) {
        world.erp.will("lost", &[Refuse]);
        world.place("lost").await;
        world.until("lost", "parked").await;
        let refused = world.ops.erase(&key("lost"), &world.act("asked for")).await;
        assert_eq!(refused.expect_err("it is lost").kind().status, 409);
        assert_eq!(world.phase("lost").await, "parked");
    }

    async fn only_an_administrator_erases(world) {
        transferred(&world, "1").await;
        let mut grants = Grants::default();
        grants.add(Role::Editor.permissions(), None);
        grants.add(Role::Admin.permissions(), Some("default"));
        let max = Principal { name: "user:max".to_owned(), from: None, grants };
        let refused = world.ops.erase(&key("1"), &world.ops.act(&max, Some("?"))).await;
        assert_eq!(refused.expect_err("not his").kind().status, 403);
        assert_eq!(world.phase("1").await, "transferred");
    }
}
