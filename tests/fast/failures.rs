//! What follows a failed attempt: retried, parked, counted.

use std::time::Duration;

use order_relay::domain::retry::OnRejected;
use serde_json::json;

use crate::erp::Turn::{self, *};
use crate::paused;
use crate::world::{Setup, World, document, key};

/// What the ERP does send after send, and what becomes of the order.
macro_rules! outcomes {
    ($($name:ident: [$($turn:expr),*] => $story:literal;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let world = World::new().await;
            world.erp.will("1", &[$($turn),*]);
            world.place("1").await;
            assert_eq!(world.end().await, concat!("default/1: ", $story, "\n"));
        }
    )*};
}

outcomes! {
    busy_once_then_in: [Busy] => "transferred, failed 1, attempts [1 unavailable http_503; 2 ok], in the ERP 1";
    busy_twice_then_in: [Busy, Busy] => "transferred, failed 2, attempts [1 unavailable http_503; 2 unavailable http_503; 3 ok], in the ERP 1";
    busy_three_times_is_parked: [Busy, Busy, Busy] => "parked, failed 3, attempts [1 unavailable http_503; 2 unavailable http_503; 3 unavailable http_503], in the ERP 0";
    refused_is_parked_at_once: [Refuse] => "parked, failed 1, attempts [1 rejected http_422], in the ERP 0";
    busy_then_refused_is_parked: [Busy, Refuse] => "parked, failed 2, attempts [1 unavailable http_503; 2 rejected http_422], in the ERP 0";
    away_then_in: [Away] => "transferred, failed 1, attempts [1 unavailable connect; 2 ok], in the ERP 1";
    unbuildable_is_parked_at_once: [Unbuildable] => "parked, failed 1, attempts [1 internal template], in the ERP 0";
    a_gateway_s_time_out_is_asked_about_and_sent_again: [Gateway] => "transferred, failed 1, attempts [1 unavailable http_504; 2 ok], in the ERP 1";
    a_lost_answer_is_found_by_asking: [LoseAnswer] => "transferred, failed 1, attempts [1 unknown_outcome no_answer; 2 found], in the ERP 1";
    a_lost_request_is_sent_again: [LoseRequest] => "transferred, failed 1, attempts [1 unknown_outcome no_answer; 2 ok], in the ERP 1";
    a_late_execution_is_waited_for: [Late(Duration::from_secs(15))] => "transferred, failed 1, attempts [1 unknown_outcome timeout; 2 found], in the ERP 1";
    two_lost_requests_are_sent_a_third_time: [LoseRequest, LoseRequest] => "transferred, failed 2, attempts [1 unknown_outcome no_answer; 2 unknown_outcome no_answer; 3 ok], in the ERP 1";
    three_lost_requests_are_parked: [LoseRequest, LoseRequest, LoseRequest] => "parked, failed 3, attempts [1 unknown_outcome no_answer; 2 unknown_outcome no_answer; 3 unknown_outcome no_answer], in the ERP 0";
    busy_then_a_lost_answer: [Busy, LoseAnswer] => "transferred, failed 2, attempts [1 unavailable http_503; 2 unknown_outcome no_answer; 3 found], in the ERP 1";
    a_lost_request_then_refused: [LoseRequest, Refuse] => "parked, failed 2, attempts [1 unknown_outcome no_answer; 2 rejected http_422], in the ERP 0";
    a_lost_request_then_busy: [LoseRequest, Busy] => "transferred, failed 2, attempts [1 unknown_outcome no_answer; 2 unavailable http_503; 3 ok], in the ERP 1";
    a_refused_login_is_tried_again: [Login] => "transferred, failed 1, attempts [1 unauthorized http_401; 2 ok], in the ERP 1";
    slow_within_its_time_is_no_failure: [Slow(Duration::from_secs(4))] => "transferred, failed 0, attempts [1 ok], in the ERP 1";
    our_own_panic_is_an_unclear_outcome: [Turn::Panic] => "transferred, failed 1, attempts [1 unknown_outcome panicked; 2 ok], in the ERP 1";
    the_last_attempt_may_be_the_good_one: [Away, Busy, Accept] => "transferred, failed 2, attempts [1 unavailable connect; 2 unavailable http_503; 3 ok], in the ERP 1";
}

paused! {
    async fn retries_wait_as_the_schedule_says(world) {
        world.erp.will("1", &[Busy, Busy]);
        world.place("1").await;
        world.settle().await;
        let at = world.erp.sent_at("1");
        assert!(at[0] == 0 && (30..33).contains(&at[1]) && (150..156).contains(&at[2]), "{at:?}");
    }

    async fn what_the_erp_asks_for_is_obeyed_where_it_is_longer(world) {
        world.erp.will("1", &[BusyFor(Duration::from_secs(45))]);
        world.place("1").await;
        world.settle().await;
        let at = world.erp.sent_at("1");
        assert!((45..121).contains(&at[1]), "{at:?}");
    }

    async fn what_the_erp_asks_for_shortens_no_wait(world) {
        world.erp.will("1", &[BusyFor(Duration::from_secs(1))]);
        world.place("1").await;
        world.settle().await;
        assert!(world.erp.sent_at("1")[1] >= 30);
    }

    async fn a_parked_order_is_left_alone(world) {
        world.erp.will("1", &[Refuse]);
        world.place("1").await;
        world.settle().await;
        world.pass(Duration::from_mins(15)).await;
        assert_eq!(world.erp.sends().len(), 1);
    }

    async fn an_order_message_does_not_wake_a_parked_order(world) {
        world.erp.will("1", &[Refuse]);
        world.place("1").await;
        world.settle().await;
        world.place("1").await;
        world.seconds(300).await;
        assert_eq!((world.phase("1").await, world.erp.sends().len()), ("parked", 1));
    }

    async fn an_order_message_does_not_hasten_a_retry(world) {
        world.erp.will("1", &[Busy]);
        world.place("1").await;
        world.seconds(1).await;
        world.place("1").await;
        world.settle().await;
        assert!(world.erp.sent_at("1")[1] >= 30);
    }

    async fn one_bad_order_delays_no_other(world) {
        world.erp.will("bad", &[Refuse]);
        world.place("bad").await;
        for n in 0..20 {
            world.place(&n.to_string()).await;
        }
        world.settle().await;
        assert!(world.erp.sends().len() == 21 && world.now_s() < 5, "{}", world.now_s());
    }

    async fn a_failure_of_another_service_counts(world) {
        world.place("1").await;
        world.settle().await;
        let order: serde_json::Value = serde_json::from_str(&document("2", &json!({}))).expect("JSON");
        world.report(&json!({
            "order_id": "2", "attempt": 1, "max_count": 3, "order": order,
            "error": {"class": "unavailable", "code": "x", "message": "y"}
        })).await;
        world.until("2", "retrying").await;
        assert_eq!(world.fail_count("2").await, 1);
        world.settle().await;
        assert_eq!(world.phase("2").await, "transferred");
    }

    async fn a_failure_that_is_reported_five_times_counts_once(world) {
        let order: serde_json::Value = serde_json::from_str(&document("2", &json!({}))).expect("JSON");
        for _ in 0..5 {
            world.report(&json!({
                "order_id": "2", "attempt": 1, "max_count": 3, "order": order,
                "error": {"class": "rejected", "code": "x", "message": "y"}
            })).await;
        }
        world.settle().await;
        assert_eq!((world.phase("2").await, world.fail_count("2").await), ("parked", 1));
        assert_eq!(world.post.mails().len(), 1);
    }

    async fn a_reported_failure_without_a_maximum_never_parks(world) {
        world.erp.always(Some(Busy));
        let order: serde_json::Value = serde_json::from_str(&document("2", &json!({}))).expect("JSON");
        world.report(&json!({
            "order_id": "2", "attempt": 9, "max_count": null, "order": order,
            "error": {"class": "unavailable", "code": "x", "message": "y"}
        })).await;
        world.until("2", "retrying").await;
        assert_eq!(world.order("2").await.record.max_count, None);
    }

    async fn a_reported_failure_of_a_confirmed_order_changes_nothing(world) {
        world.place("1").await;
        world.settle().await;
        world.report(&json!({
            "order_id": "1", "attempt": 2, "max_count": 3,
            "error": {"class": "unavailable", "code": "x", "message": "y"}
        })).await;
        world.seconds(5).await;
        assert_eq!((world.phase("1").await, world.fail_count("1").await), ("transferred", 0));
        assert_eq!(world.dead_letters().await.len(), 1);
    }

    async fn equal_failures_share_a_fingerprint(world) {
        for id in ["1", "2"] {
            world.erp.will(id, &[Refuse]);
            world.place(id).await;
        }
        world.settle().await;
        let print = async |id: &str| world.order(id).await.record.last_failure.map(|f| f.summary.fingerprint);
        assert_eq!(print("1").await, print("2").await);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_maximum_an_order_is_retried_for_ever() {
    let world = World::with(Setup { max_count: None, ..Setup::default() }).await;
    world.erp.will("1", &[const { Busy }; 12]);
    world.place("1").await;
    world.until("1", "transferred").await;
    assert_eq!(world.fail_count("1").await, 12);
}

#[tokio::test(start_paused = true)]
async fn a_maximum_of_one_parks_at_the_first_failure() {
    let world = World::with(Setup { max_count: Some(1), ..Setup::default() }).await;
    world.erp.will("1", &[Busy]);
    world.place("1").await;
    world.settle().await;
    assert_eq!((world.phase("1").await, world.erp.sends().len()), ("parked", 1));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_retried_where_the_setting_says_so() {
    let world = World::with(Setup { on_rejected: OnRejected::Retry, ..Setup::default() }).await;
    world.erp.will("1", &[Refuse]);
    world.place("1").await;
    assert!(world.end().await.contains("1 rejected http_422; 2 ok"));
}

#[tokio::test(start_paused = true)]
async fn the_last_delay_of_the_schedule_repeats() {
    let schedule = vec![Duration::from_secs(10)];
    let world = World::with(Setup { max_count: Some(4), schedule, ..Setup::default() }).await;
    world.erp.will("1", &[Busy, Busy, Busy]);
    world.place("1").await;
    world.settle().await;
    let at = world.erp.sent_at("1");
    assert!(at.windows(2).all(|pair| (10..14).contains(&(pair[1] - pair[0]))), "{at:?}");
    assert_eq!(world.erp.has(&key("1")), 1);
}
