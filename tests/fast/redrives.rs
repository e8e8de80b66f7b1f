//! Many lost orders at once: planned, stepped, stopped, resumed.

use std::time::Duration;

use order_relay::domain::redrive::{ItemStatus, RedriveStatus, RedriveThrottle};
use order_relay::ports::redrives::{Redrive, Selection};
use uuid::Uuid;

use crate::erp::Turn::*;
use crate::paused;
use crate::world::{World, key, operator};

/// Lost orders, and a plan for all of them.
async fn planned(world: &World, count: u32, throttle: RedriveThrottle) -> Uuid {
    let ids: Vec<String> = (0..count).map(|n| format!("L{n:03}")).collect();
    for id in &ids {
        world.erp.will(id, &[Refuse]);
        world.place(id).await;
    }
    world.settle().await;
    let orders = Selection::Orders(ids.iter().map(|id| key(id)).collect());
    let redrive = world.ops.plan_redrive(orders, throttle, &world.act("fixed")).await;
    redrive.expect("it is planned").id
}

async fn redrive(world: &World, id: Uuid) -> Redrive {
    world.ops.redrive(&operator(), id).await.expect("it is there")
}

async fn until(world: &World, id: Uuid, status: RedriveStatus) {
    world.wait(&format!("{status:?}"), async || redrive(world, id).await.status == status).await;
}

fn at_once() -> RedriveThrottle {
    RedriveThrottle { rate_per_minute: None, ..RedriveThrottle::default() }
}

paused! {
    async fn a_plan_alone_sends_nothing(world) {
        let id = planned(&world, 5, at_once()).await;
        world.seconds(600).await;
        assert_eq!(world.erp.sends().len(), 5);
        assert_eq!(redrive(&world, id).await.status, RedriveStatus::Planned);
    }

    async fn a_redrive_brings_every_order_into_the_erp(world) {
        let id = planned(&world, 30, at_once()).await;
        world.ops.start_redrive(id, &world.act("go")).await.expect("it starts");
        until(&world, id, RedriveStatus::Done).await;
        assert_eq!(redrive(&world, id).await.count(ItemStatus::Transferred), 30);
        assert_eq!(world.end().await.matches("in the ERP 1").count(), 30);
    }

    async fn it_begins_with_one_order(world) {
        let id = planned(&world, 30, at_once()).await;
        world.erp.always(Some(Slow(Duration::from_secs(4))));
        world.ops.start_redrive(id, &world.act("go")).await.expect("it starts");
        world.seconds(3).await;
        assert_eq!(world.erp.sends().len(), 31);
        until(&world, id, RedriveStatus::Done).await;
    }

    async fn it_stops_by_itself_when_the_first_one_fails(world) {
        let id = planned(&world, 30, at_once()).await;
        world.erp.always(Some(Refuse));
        world.ops.start_redrive(id, &world.act("go")).await.expect("it starts");
        until(&world, id, RedriveStatus::Stopped).await;
        assert_eq!(world.erp.sends().len(), 31, "the others were spared");
    }

    async fn a_stopped_one_goes_on_when_the_fault_is_fixed(world) {
        let id = planned(&world, 10, at_once()).await;
        world.erp.always(Some(Refuse));
        world.ops.start_redrive(id, &world.act("go")).await.expect("it starts");
        until(&world, id, RedriveStatus::Stopped).await;
        world.erp.always(None);
        world.ops.resume_redrive(id, &world.act("fixed")).await.expect("it goes on");
        until(&world, id, RedriveStatus::Done).await;
        assert_eq!(redrive(&world, id).await.count(ItemStatus::Transferred), 9);
    }

    async fn a_paused_one_sends_nothing_more(world) {
        let slow = RedriveThrottle { rate_per_minute: Some(6), ..RedriveThrottle::default() };
        let id = planned(&world, 20, slow).await;
        world.ops.start_redrive(id, &world.act("go")).await.expect("it starts");
        world.seconds(30).await;
        world.ops.pause_redrive(id, &world.act("wait")).await.expect("it pauses");
        world.seconds(5).await;
        let sent = world.erp.sends().len();
        world.seconds(600).await;
        assert_eq!(world.erp.sends().len(), sent);
        world.ops.resume_redrive(id, &world.act("go on")).await.expect("it goes on");
        until(&world, id, RedriveStatus::Done).await;
    }

    async fn a_cancelled_one_leaves_the_rest_lost(world) {
        let slow = RedriveThrottle { rate_per_minute: Some(6), ..RedriveThrottle::default() };
        let id = planned(&world, 20, slow).await;
        world.ops.start_redrive(id, &world.act("go")).await.expect("it starts");
        world.seconds(20).await;
        world.ops.cancel_redrive(id, &world.act("no")).await.expect("it ends");
        world.settle().await;
        let lost = world.records().await.iter().filter(|r| r.phase.name() == "parked").count();
        assert!((10..20).contains(&lost), "{lost}");
    }

    async fn the_rate_is_kept(world) {
        let slow = RedriveThrottle { rate_per_minute: Some(12), ..RedriveThrottle::default() };
        let id = planned(&world, 12, slow).await;
        let begin = world.now_s();
        world.ops.start_redrive(id, &world.act("go")).await.expect("it starts");
        until(&world, id, RedriveStatus::Done).await;
        assert!(world.now_s() - begin >= 50, "{}", world.now_s() - begin);
    }

    async fn a_process_that_dies_is_taken_over(world) {
        let slow = RedriveThrottle { rate_per_minute: Some(30), ..RedriveThrottle::default() };
        let id = planned(&world, 20, slow).await;
        world.ops.start_redrive(id, &world.act("go")).await.expect("it starts");
        world.seconds(10).await;
        world.kill();
        world.start("w2").await;
        until(&world, id, RedriveStatus::Done).await;
        assert_eq!(world.end().await.matches("in the ERP 1").count(), 20);
    }

    async fn an_order_that_was_removed_meanwhile_is_passed_over(world) {
        let id = planned(&world, 3, at_once()).await;
        world.ops.remove(&key("L002"), &world.act("x")).await.expect("it is removed");
        world.ops.start_redrive(id, &world.act("go")).await.expect("it starts");
        until(&world, id, RedriveStatus::Done).await;
        assert_eq!(world.erp.has(&key("L002")), 0);
    }

    async fn a_rate_of_zero_is_no_rate(world) {
        let none = RedriveThrottle { rate_per_minute: Some(0), ..RedriveThrottle::default() };
        let orders = Selection::Orders(vec![key("x")]);
        assert!(world.ops.plan_redrive(orders, none, &world.act("x")).await.is_err());
    }
}
