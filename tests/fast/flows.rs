//! The main way: from checkout into the ERP, what comes twice, and processes that end.

use std::time::Duration;

use order_relay::domain::notice::{CustomerConfirmation, NoticeKind};
use order_relay::domain::trace::Trace;
use order_relay::ops::intake::Taken;
use order_relay::ports::orders::OrderSource;
use serde_json::json;

use crate::erp::Turn;
use crate::paused;
use crate::world::{Setup, World, document, key, operator, parsed};

paused! {
    async fn an_order_goes_into_the_erp_once(world) {
        world.place("1").await;
        assert_eq!(world.end().await, "default/1: transferred, failed 0, attempts [1 ok], in the ERP 1\n");
    }

    async fn the_erp_gets_the_document_byte_for_byte(world) {
        let text = r#"{"order_id":"1","currency":"EUR","total":129.900,"lines":[{"sku":"4711","quantity":2.0,"unit_price":1e2}],"customer":{"email":"a@b.example"},"own":[1,{"a":null}]}"#;
        world.send("order.placed", text.as_bytes()).await;
        world.settle().await;
        assert_eq!(world.erp.documents(&key("1")).iter().map(|d| &**d).collect::<Vec<_>>(), [text]);
    }

    async fn a_hundred_orders_all_arrive(world) {
        for n in 0..100 {
            world.place(&format!("{n:03}")).await;
        }
        let story = world.end().await;
        assert_eq!(story.lines().filter(|line| line.ends_with("in the ERP 1")).count(), 100);
    }

    async fn an_order_that_comes_twice_is_sent_once(world) {
        world.place("1").await;
        world.place("1").await;
        assert_eq!(world.end().await, "default/1: transferred, failed 0, attempts [1 ok], in the ERP 1\n");
    }

    async fn an_order_that_comes_again_later_is_a_duplicate(world) {
        world.place("1").await;
        world.settle().await;
        world.place("1").await;
        world.seconds(90).await;
        assert_eq!(world.erp.sends(), ["1"]);
        assert_eq!(world.metrics.orders_duplicate.get(), 1);
    }

    async fn the_same_order_spaced_differently_is_a_duplicate(world) {
        world.place("1").await;
        world.settle().await;
        let spaced = document("1", &json!({})).replace("\":", "\" : ");
        world.send("order.placed", spaced.as_bytes()).await;
        world.seconds(5).await;
        assert_eq!(world.order("1").await.conflicts.len(), 0);
        assert_eq!(world.erp.sends(), ["1"]);
    }

    async fn another_content_under_a_known_number_is_kept_beside_and_not_sent(world) {
        world.place("1").await;
        world.settle().await;
        world.place_with("1", &json!({"total": "1.00"})).await;
        world.seconds(5).await;
        assert_eq!(world.order("1").await.conflicts.len(), 1);
        assert_eq!(world.erp.sends(), ["1"]);
    }

    async fn another_content_twice_is_kept_once(world) {
        world.place("1").await;
        for _ in 0..3 {
            world.place_with("1", &json!({"total": "1.00"})).await;
        }
        world.settle().await;
        assert_eq!(world.order("1").await.conflicts.len(), 1);
    }

    async fn two_shops_may_use_the_same_number(world) {
        world.place_with("1", &json!({"shop": "de"})).await;
        world.place_with("1", &json!({"shop": "at"})).await;
        assert_eq!(
            world.end().await,
            "at/1: transferred, failed 0, attempts [1 ok], in the ERP 1\n\
             de/1: transferred, failed 0, attempts [1 ok], in the ERP 1\n"
        );
    }

    async fn an_order_that_the_checkout_calls_failed_is_sent_too(world) {
        world.place_with("1", &json!({"state": "ordered_failed"})).await;
        assert_eq!(world.end().await, "default/1: transferred, failed 0, attempts [1 ok], in the ERP 1\n");
    }

    async fn an_order_that_was_only_taken_in_is_sent(world) {
        let order = parsed(&document("1", &json!({})));
        let taken = world.ops.accept(&operator(), order, OrderSource::Api, &Trace::default()).await.expect("it is taken");
        assert_eq!(taken, Taken::Accepted);
        assert_eq!(world.end().await, "default/1: transferred, failed 0, attempts [1 ok], in the ERP 1\n");
    }

    async fn what_is_taken_in_twice_is_told_so(world) {
        let order = || parsed(&document("1", &json!({})));
        let trace = Trace::default();
        world.ops.accept(&operator(), order(), OrderSource::Api, &trace).await.expect("it is taken");
        let again = world.ops.accept(&operator(), order(), OrderSource::Api, &trace).await.expect("it answers");
        assert_eq!(again, Taken::Duplicate);
        let other = parsed(&document("1", &json!({"total": "2"})));
        let other = world.ops.accept(&operator(), other, OrderSource::Api, &trace).await.expect("it answers");
        assert_eq!(other, Taken::Conflict);
        world.end().await;
    }

    async fn the_erp_number_is_kept(world) {
        world.place("1").await;
        world.settle().await;
        let order = world.order("1").await;
        assert_eq!(order.attempts[0].erp_order_id.as_deref(), Some("ERP-1"));
    }

    async fn the_trace_context_stays_with_the_order(world) {
        let trace = Trace { parent: Some("00-1-2-01".to_owned()), state: Some("shop=1".to_owned()) };
        let order = parsed(&document("1", &json!({})));
        world.ops.accept(&operator(), order, OrderSource::Api, &trace).await.expect("it is taken");
        world.settle().await;
        assert_eq!(world.order("1").await.record.trace, trace);
    }

    async fn a_process_that_dies_while_the_erp_works_sends_nothing_twice(world) {
        world.erp.will("1", &[Turn::Slow(Duration::from_secs(4))]);
        world.place("1").await;
        world.seconds(1).await;
        world.kill();
        world.start("w2").await;
        // The call died with its process, so the ERP never took it: asked about, and sent again.
        assert!(world.end().await.starts_with("default/1: transferred, failed 0"));
    }

    async fn a_process_that_dies_after_the_erp_took_it_is_cleared_up_by_asking(world) {
        world.erp.will("1", &[Turn::Slow(Duration::from_secs(4))]);
        world.place("1").await;
        world.seconds(1).await;
        world.kill();
        world.erp.enter(&key("1"), "ERP-77");
        world.start("w2").await;
        let story = world.end().await;
        assert!(story.contains("; 2 found]") || story.contains("[1 found]"), "{story}");
    }

    async fn a_process_that_drains_finishes_what_it_has_in_progress(world) {
        world.erp.will("1", &[Turn::Slow(Duration::from_secs(4))]);
        world.place("1").await;
        world.seconds(1).await;
        world.drain().await;
        assert_eq!(world.phase("1").await, "transferred");
        assert_eq!(world.fail_count("1").await, 0);
    }

    async fn an_outage_of_the_database_loses_nothing(world) {
        world.database_is_away(true);
        for n in 0..5 {
            world.place(&n.to_string()).await;
        }
        world.seconds(600).await;
        assert_eq!(world.erp.sends().len(), 0, "nothing is sent that is not in the ledger");
        world.database_is_away(false);
        for n in 0..5 {
            world.until(&n.to_string(), "transferred").await;
        }
        let story = world.end().await;
        assert_eq!(story.matches("transferred, failed 0").count(), 5, "{story}");
    }

    async fn an_outcome_that_cannot_be_written_is_written_when_the_database_is_back(world) {
        world.erp.will("1", &[Turn::Slow(Duration::from_secs(4))]);
        world.place("1").await;
        world.seconds(1).await;
        world.database_is_away(true);
        world.seconds(8).await;
        world.database_is_away(false);
        assert_eq!(world.end().await, "default/1: transferred, failed 0, attempts [1 ok], in the ERP 1\n");
    }
}

#[tokio::test(start_paused = true)]
async fn orders_that_came_before_the_workers_are_sent_when_they_come() {
    let mut world = World::without_workers(Setup::default());
    world.place("1").await;
    world.place("2").await;
    world.seconds(300).await;
    world.start("w1").await;
    assert_eq!(world.end().await.matches("transferred").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_processes_share_the_work_and_send_each_order_once() {
    let mut world = World::without_workers(Setup::default());
    world.start("w1").await;
    world.start("w2").await;
    for n in 0..60 {
        world.place(&n.to_string()).await;
        world.place(&n.to_string()).await;
    }
    assert_eq!(world.end().await.matches("attempts [1 ok], in the ERP 1").count(), 60);
}

#[tokio::test(start_paused = true)]
async fn each_shop_goes_to_its_own_erp() {
    let world = World::with(Setup { second_erp: true, ..Setup::default() }).await;
    world.place_with("1", &json!({"shop": "at"})).await;
    world.place_with("2", &json!({"shop": "de"})).await;
    world.settle().await;
    assert_eq!(
        (world.second.sends(), world.erp.sends()),
        (vec!["1".to_owned()], vec!["2".to_owned()])
    );
}

/// Who gets a confirmation, by the setting and by what happened.
macro_rules! confirmations {
    ($($name:ident: $setting:ident, $turns:expr => $mails:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let customer = CustomerConfirmation::$setting;
            let world = World::with(Setup { customer, ..Setup::default() }).await;
            world.erp.will("1", &$turns);
            world.place("1").await;
            world.settle().await;
            let mails = world.post.of(NoticeKind::CustomerConfirmation);
            let receivers: Vec<&str> = mails.iter().flat_map(|mail| &mail.receivers).map(String::as_str).collect();
            assert_eq!(receivers, $mails as [&str; _]);
        }
    )*};
}

confirmations! {
    a_customer_is_not_told_of_what_went_well: AfterFailure, [Turn::Accept] => [];
    a_customer_is_told_when_a_failed_order_is_in: AfterFailure, [Turn::Busy, Turn::Accept] => ["erika@example.com"];
    a_customer_is_always_told_if_that_is_wanted: Always, [Turn::Accept] => ["erika@example.com"];
    a_customer_is_always_told_once: Always, [Turn::Busy, Turn::Busy, Turn::Accept] => ["erika@example.com"];
    a_customer_is_never_told_if_that_is_wanted: Never, [Turn::Busy, Turn::Accept] => [];
    a_customer_of_a_parked_order_is_told_nothing: Always, [Turn::Refuse] => [];
    a_customer_of_an_order_that_was_found_is_told: AfterFailure, [Turn::LoseAnswer] => ["erika@example.com"];
}
