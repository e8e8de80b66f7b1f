//! What people do with lost orders: transfer, remove, restore, edit, and what they may not.

use order_relay::domain::permission::{Grants, Role};
use order_relay::ops::principal::Principal;
use order_relay::ops::transfer::Transferred;
use serde_json::json;

use crate::erp::Turn::*;
use crate::paused;
use crate::world::{World, document, key, operator};

/// A lost order.
async fn lost(world: &World, id: &str) {
    world.erp.will(id, &[Refuse]);
    world.place(id).await;
    world.until(id, "parked").await;
}

fn with_role(role: Role) -> Principal {
    named_max(role, None)
}

fn named_max(role: Role, shop: Option<&str>) -> Principal {
    let mut grants = Grants::default();
    grants.add(role.permissions(), shop);
    Principal { name: "user:max".to_owned(), from: None, grants }
}

/// What each role may do with a lost order: transfer, remove, edit.
macro_rules! roles {
    ($($name:ident: $role:ident => $allowed:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let world = World::new().await;
            for id in ["t", "r", "e"] {
                lost(&world, id).await;
            }
            let act = || world.ops.act(&with_role(Role::$role), Some("x"));
            let edited = document("e", &json!({"remark": "new"}));
            let allowed = [
                world.ops.transfer(&key("t"), &act()).await.is_ok(),
                world.ops.remove(&key("r"), &act()).await.is_ok(),
                world.ops.edit(&key("e"), 0, &edited, &act()).await.is_ok(),
            ];
            assert_eq!(allowed, $allowed);
            for id in ["t", "r", "e"] {
                let changed = world.order(id).await.audit.len();
                assert!(changed <= 1, "a refused act leaves no trace of a change");
            }
        }
    )*};
}

roles! {
    a_viewer_changes_nothing: Viewer => [false, false, false];
    an_operator_transfers_and_removes: Operator => [true, true, false];
    an_editor_edits_too: Editor => [true, true, true];
    an_administrator_may_do_all: Admin => [true, true, true];
}

paused! {
    async fn a_transfer_brings_a_lost_order_into_the_erp(world) {
        lost(&world, "1").await;
        let became = world.ops.transfer(&key("1"), &world.act("fixed")).await.expect("it is done");
        assert!(matches!(became, Transferred::Done { erp_order_id: Some(_) }));
        assert_eq!(world.phase("1").await, "transferred");
    }

    async fn a_transfer_that_fails_tells_the_error_of_the_erp(world) {
        lost(&world, "1").await;
        world.erp.will("1", &[Refuse]);
        let became = world.ops.transfer(&key("1"), &world.act("again")).await.expect("it answers");
        let Transferred::Failed { attempt, record } = became else { panic!("{became:?}") };
        assert_eq!((attempt.attempt, attempt.message.as_deref()), (2, Some("product '4711' is unknown")));
        assert_eq!((record.fail_count, record.phase.name()), (2, "parked"));
    }

    async fn a_transfer_ignores_the_maximum(world) {
        world.erp.will("1", &[Busy, Busy, Busy, Busy]);
        world.place("1").await;
        world.until("1", "parked").await;
        drop(world.ops.transfer(&key("1"), &world.act("again")).await.expect("it answers"));
        assert_eq!((world.fail_count("1").await, world.phase("1").await), (4, "parked"));
    }

    async fn a_transfer_of_a_confirmed_order_is_refused(world) {
        world.place("1").await;
        world.settle().await;
        let refused = world.ops.transfer(&key("1"), &world.act("?")).await.expect_err("it is there");
        assert_eq!(refused.kind().status, 409);
        assert_eq!(world.erp.sends().len(), 1);
    }

    async fn two_transfers_at_once_send_it_once(world) {
        lost(&world, "1").await;
        let (key, act) = (key("1"), world.act("x"));
        let (one, two) = tokio::join!(world.ops.transfer(&key, &act), world.ops.transfer(&key, &act));
        assert!(one.is_ok() || two.is_ok());
        assert_eq!(world.erp.has(&key), 1);
    }

    async fn a_transfer_by_nobody_s_worker_says_so(world) {
        lost(&world, "1").await;
        world.drain().await;
        let refused = world.ops.transfer(&key("1"), &world.act("x")).await.expect_err("nobody reads");
        assert!(refused.to_string().contains("no submitter reads"), "{refused}");
    }

    async fn the_audit_says_who_transferred(world) {
        lost(&world, "1").await;
        drop(world.ops.transfer(&key("1"), &world.act("fixed")).await.expect("it is done"));
        let audit = world.order("1").await.audit;
        assert_eq!((audit[0].actor.as_str(), audit[0].reason.as_deref()), ("user:erika", Some("fixed")));
    }

    async fn a_removed_order_is_confirmed_and_not_sent(world) {
        lost(&world, "1").await;
        let record = world.ops.remove(&key("1"), &world.act("by hand")).await.expect("it is done");
        assert_eq!((record.phase.name(), record.phase.state().as_str()), ("removed", "confirmed"));
        world.seconds(1_200).await;
        assert_eq!(world.erp.sends().len(), 1);
    }

    async fn a_removed_order_is_not_retried(world) {
        world.erp.will("1", &[Busy]);
        world.place("1").await;
        world.until("1", "retrying").await;
        world.ops.remove(&key("1"), &world.act("x")).await.expect("it is done");
        world.seconds(1_200).await;
        assert_eq!((world.erp.sends().len(), world.phase("1").await), (1, "removed"));
    }

    async fn a_restored_order_waits_for_a_person(world) {
        lost(&world, "1").await;
        world.ops.remove(&key("1"), &world.act("x")).await.expect("it is done");
        let record = world.ops.restore(&key("1"), &world.act("back")).await.expect("it is done");
        assert_eq!(record.phase.name(), "parked");
        drop(world.ops.transfer(&key("1"), &world.act("now")).await.expect("it is done"));
        assert_eq!(world.phase("1").await, "transferred");
    }

    async fn what_was_not_removed_cannot_be_restored(world) {
        lost(&world, "1").await;
        let refused = world.ops.restore(&key("1"), &world.act("x")).await.expect_err("it is not removed");
        assert_eq!(refused.kind().problem, "invalid-state");
    }

    async fn what_is_confirmed_cannot_be_removed(world) {
        world.place("1").await;
        world.settle().await;
        assert!(world.ops.remove(&key("1"), &world.act("x")).await.is_err());
    }

    async fn an_order_that_is_being_sent_cannot_be_removed(world) {
        world.erp.will("1", &[Slow(std::time::Duration::from_secs(4))]);
        world.place("1").await;
        world.seconds(1).await;
        let refused = world.ops.remove(&key("1"), &world.act("x")).await.expect_err("it is being sent");
        assert!(refused.to_string().contains("being transferred"), "{refused}");
        world.until("1", "transferred").await;
    }

    async fn what_is_edited_is_what_is_sent(world) {
        lost(&world, "1").await;
        let edited = document("1", &json!({"remark": "new"}));
        world.ops.edit(&key("1"), 0, &edited, &world.act("fixed")).await.expect("it is kept");
        drop(world.ops.transfer(&key("1"), &world.act("now")).await.expect("it is done"));
        let sent = world.erp.documents(&key("1"));
        let sent: serde_json::Value = serde_json::from_str(&sent[1]).expect("JSON");
        assert_eq!(sent["remark"], "new");
    }

    async fn the_original_stays_beside_an_edit(world) {
        lost(&world, "1").await;
        let edited = document("1", &json!({"remark": "new"}));
        world.ops.edit(&key("1"), 0, &edited, &world.act("fixed")).await.expect("it is kept");
        let order = world.order("1").await;
        assert_eq!((&*order.document, order.revisions.len()), (document("1", &json!({})).as_str(), 1));
    }

    async fn a_late_copy_of_an_edited_order_is_a_duplicate(world) {
        lost(&world, "1").await;
        let edited = document("1", &json!({"remark": "new"}));
        world.ops.edit(&key("1"), 0, &edited, &world.act("fixed")).await.expect("it is kept");
        world.place("1").await;
        world.seconds(5).await;
        assert_eq!(world.order("1").await.conflicts.len(), 0);
    }

    async fn who_edits_an_old_revision_is_told(world) {
        lost(&world, "1").await;
        for (remark, works) in [("a", true), ("b", false)] {
            let edited = document("1", &json!({"remark": remark}));
            let kept = world.ops.edit(&key("1"), 0, &edited, &world.act("x")).await;
            assert_eq!(kept.is_ok(), works);
        }
    }

    async fn an_edit_cannot_change_the_number(world) {
        lost(&world, "1").await;
        let edited = document("2", &json!({}));
        let refused = world.ops.edit(&key("1"), 0, &edited, &world.act("x")).await.expect_err("no");
        assert_eq!(refused.kind().status, 422);
    }

    async fn an_edit_that_is_no_order_is_refused_with_its_place(world) {
        lost(&world, "1").await;
        let edited = document("1", &json!({"total": "much"}));
        let refused = world.ops.edit(&key("1"), 0, &edited, &world.act("x")).await.expect_err("no");
        assert!(refused.to_string().contains("/total"), "{refused}");
    }

    async fn an_unclear_order_cannot_be_edited(world) {
        world.erp.will("1", &[LoseRequest]);
        world.erp.says(crate::erp::Knowledge::Nothing);
        world.place("1").await;
        world.until("1", "outcome_unknown").await;
        let edited = document("1", &json!({"remark": "new"}));
        assert!(world.ops.edit(&key("1"), 0, &edited, &world.act("x")).await.is_err());
    }

    async fn an_order_is_found_by_its_number_alone(world) {
        lost(&world, "1").await;
        assert_eq!(world.ops.find(&operator(), "1").await.expect("it is there"), key("1"));
        assert_eq!(world.ops.find(&operator(), "default/1").await.expect("it is there"), key("1"));
    }

    async fn a_number_of_two_shops_asks_which(world) {
        world.place_with("1", &json!({"shop": "de"})).await;
        world.place_with("1", &json!({"shop": "at"})).await;
        world.settle().await;
        let refused = world.ops.find(&operator(), "1").await.expect_err("there are two");
        assert!(refused.to_string().contains("at/1") && refused.to_string().contains("de/1"), "{refused}");
    }

    async fn who_sees_one_shop_sees_no_other(world) {
        world.place_with("1", &json!({"shop": "de"})).await;
        world.settle().await;
        let max = named_max(Role::Viewer, Some("at"));
        let refused = world.ops.show(&max, &key("de/1")).await.expect_err("it is hidden");
        assert_eq!(refused.kind().status, 404);
    }
}
