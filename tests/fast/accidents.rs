//! Messages that get lost, come twice or are refused, and transactions that fail or whose success is not seen:
//! what becomes of the order, with the second of each attempt.

use std::fmt::Write;
use std::time::Duration;

use order_relay::domain::outbound_messages::{Audience, Outgoing};
use order_relay::domain::trace::{TRACEPARENT, TRACESTATE};
use order_relay::workers::consume::Handler;
use order_relay::workers::submitter::admit::Submitter;
use serde_json::json;

use crate::erp::Turn::{self, *};
use crate::paused;
use crate::wire::Accident::{self, Full, Lost, Twice, Unconfirmed, Unroutable};
use crate::world::{Setup, World, document, key};

const SECOND: Duration = Duration::from_secs(1);

/// What became of order `1`: its phase, its attempts with their seconds, how often it was sent and asked about,
/// and its mails.
async fn line(world: &World) -> String {
    let order = world.order("1").await;
    let mut line = format!("{}:", order.record.phase.name());
    let begin = order.record.received_at;
    for attempt in &order.attempts {
        let how = match (&attempt.code, attempt.found) {
            (Some(code), _) => code,
            (None, true) => "found",
            (None, false) => "ok",
        };
        let second = attempt.occurred_at.duration_since(begin).as_secs();
        write!(line, " {} {how} @{second},", attempt.attempt).expect("text grows");
    }
    let (sent, asked) = (world.erp.sent_at("1").len(), world.erp.asked_at("1").len());
    write!(line, " sent {sent}, asked {asked}, mails {}", order.mails.len()).expect("text grows");
    line
}

/// Lets an accident happen to the first message that begins with `prefix`.
async fn survive(turns: &[Turn], prefix: &str, accident: Accident, expected: &str) {
    let counts_apart = prefix == "failed:";
    let world = World::with(Setup { counts_apart, ..Setup::default() }).await;
    world.erp.will("1", turns);
    world.wire.befalls(prefix, accident, 1);
    world.place("1").await;
    world.settle().await;
    assert_eq!(line(&world).await, expected);
    assert!(world.dead_letters().await.is_empty());
    world.end().await;
}

macro_rules! accidents {
    ($($name:ident: $turns:expr, $prefix:literal, $accident:expr => $expected:literal;)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            survive(&$turns, $prefix, $accident, $expected).await;
        }
    )+};
}

accidents! {
    a_failure_that_is_lost_ends_as_a_question_to_the_erp: [Busy], "failed:", Lost =>
        "transferred: 1 ok @45, sent 2, asked 1, mails 0";
    a_failure_that_comes_twice_is_counted_once: [Busy], "failed:", Twice =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
    a_failure_whose_queue_is_full_is_published_until_it_is_taken: [Busy], "failed:", Full =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
    a_failure_that_no_queue_accepts_is_cleared_up_by_asking: [Busy], "failed:", Unroutable =>
        "transferred: 1 ok @45, sent 2, asked 1, mails 0";
    a_failure_whose_confirm_is_lost_is_counted_once: [Busy], "failed:", Unconfirmed =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
    a_refusal_that_comes_twice_is_parked_once: [Refuse], "failed:", Twice =>
        "parked: 1 http_422 @0, sent 1, asked 0, mails 1";
    a_refusal_that_is_lost_is_made_again: [Refuse, Refuse], "failed:", Lost =>
        "parked: 1 http_422 @45, sent 2, asked 2, mails 1";
    an_unclear_outcome_that_comes_twice_is_counted_once: [LoseAnswer], "failed:", Twice =>
        "transferred: 1 no_answer @0, 2 found @5, sent 1, asked 1, mails 2";
    an_unclear_outcome_that_is_lost_is_asked_about_all_the_same: [LoseAnswer], "failed:", Lost =>
        "transferred: 1 found @45, sent 1, asked 1, mails 0";
    a_retry_that_is_lost_is_published_again_by_the_sweeper: [Busy], "retry:", Lost =>
        "transferred: 1 http_503 @0, 2 ok @60, sent 2, asked 0, mails 2";
    a_retry_that_comes_twice_is_one_attempt: [Busy], "retry:", Twice =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
    a_retry_whose_queue_is_full_is_left_to_the_sweeper: [Busy], "retry:", Full =>
        "transferred: 1 http_503 @0, 2 ok @60, sent 2, asked 0, mails 2";
    a_retry_that_no_queue_accepted_is_published_once_more: [Busy], "retry:", Unroutable =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
    a_retry_whose_confirm_is_lost_is_one_attempt: [Busy], "retry:", Unconfirmed =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
    a_question_that_is_lost_is_nudged_again: [LoseAnswer], "sweeper:", Lost =>
        "transferred: 1 no_answer @0, 2 found @65, sent 1, asked 1, mails 2";
    a_question_that_is_nudged_twice_is_asked_once: [LoseAnswer], "sweeper:", Twice =>
        "transferred: 1 no_answer @0, 2 found @5, sent 1, asked 1, mails 2";
    a_question_whose_queue_is_full_is_nudged_again: [LoseAnswer], "sweeper:", Full =>
        "transferred: 1 no_answer @0, 2 found @65, sent 1, asked 1, mails 2";
    a_nudge_to_the_notifier_that_is_lost_delays_the_mail_alone: [Busy], "notices:", Lost =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
    a_nudge_to_the_notifier_that_comes_twice_is_one_mail: [Busy], "notices:", Twice =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
    an_event_that_nobody_accepts_does_not_hold_up_its_order: [Busy], "order.confirmed", Unroutable =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
    an_event_whose_confirm_is_lost_changes_nothing: [Busy], "order.confirmed", Unconfirmed =>
        "transferred: 1 http_503 @0, 2 ok @30, sent 2, asked 0, mails 2";
}

/// More transactions than the life of one order has.
const TRANSACTIONS: u32 = 40;

/// Plants a fault into every transaction of the life of an order, one after the other.
async fn survive_everywhere(turns: &[Turn], plant: impl Fn(&World, u32)) {
    for counts_apart in [false, true] {
        survive_everywhere_counting(turns, &plant, counts_apart).await;
    }
}

async fn survive_everywhere_counting(
    turns: &[Turn],
    plant: &impl Fn(&World, u32),
    counts_apart: bool,
) {
    let phase = if turns.contains(&Refuse) { "parked" } else { "transferred" };
    for spared in 0..TRANSACTIONS {
        let world = World::with(Setup { counts_apart, ..Setup::default() }).await;
        world.erp.will("1", turns);
        plant(&world, spared);
        world.place("1").await;
        world.wait("it is known", async || world.phase("1").await != "unknown").await;
        world.settle().await;
        let is_planted = world.database.is_over();
        let story = world.end().await;
        assert!(story.contains(phase), "after {spared} transactions: {story}");
        assert!(story.contains("failed 1,"), "after {spared} transactions: {story}");
        if !is_planted {
            assert!(spared >= 3, "its life had {spared} transactions");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_rolled_back_anywhere_loses_and_doubles_nothing() {
    survive_everywhere(&[Busy], |world, spared| world.database.lose_commit_after(spared)).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_anywhere_loses_and_doubles_nothing() {
    survive_everywhere(&[Busy], |world, spared| world.database.lose_answer_after(spared)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_the_erp_survives_a_transaction_that_is_rolled_back_anywhere() {
    survive_everywhere(&[LoseAnswer], |world, spared| world.database.lose_commit_after(spared))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_the_erp_survives_a_lost_answer_of_the_database_anywhere() {
    survive_everywhere(&[LoseAnswer], |world, spared| world.database.lose_answer_after(spared))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_order_is_parked_once_wherever_the_database_fails() {
    survive_everywhere(&[Refuse], |world, spared| world.database.lose_commit_after(spared)).await;
    survive_everywhere(&[Refuse], |world, spared| world.database.lose_answer_after(spared)).await;
}

/// Failures are counted by error handlers of other processes.
macro_rules! apart {
    ($(async fn $name:ident($world:ident) $body:block)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            #[allow(unused_mut, reason = "not every test changes its world")]
            let mut $world = World::with(Setup { counts_apart: true, ..Setup::default() }).await;
            $body
        }
    )+};
}

paused! {
    async fn a_broker_that_is_away_for_an_hour_delays_retries_alone(world) {
        world.erp.will("1", &[Busy]);
        world.place("1").await;
        world.until("1", "retrying").await;
        world.wire.is_away(true);
        world.pass(Duration::from_hours(1)).await;
        world.wire.is_away(false);
        assert_eq!(world.end().await.matches("2 ok").count(), 1);
    }

    async fn a_receipt_is_kept_while_the_broker_is_away(world) {
        world.erp.will("1", &[Slow(Duration::from_secs(3))]);
        world.place("1").await;
        world.seconds(1).await;
        world.wire.is_away(true);
        world.seconds(30).await;
        assert_eq!(world.phase("1").await, "transferred", "the ledger needs no broker");
        assert!(world.wire.events().is_empty());
        world.wire.is_away(false);
        world.seconds(10).await;
        assert_eq!(world.wire.events(), ["order.confirmed:default/1#1"]);
        assert_eq!(world.erp.sends().len(), 1);
    }

    async fn a_failure_is_counted_while_the_broker_is_away(world) {
        fail_without_a_broker(world, 1).await;
    }

    async fn events_tell_the_life_of_an_order_in_its_order(world) {
        world.erp.will("1", &[LoseRequest, Busy, Refuse]);
        world.place("1").await;
        world.settle().await;
        assert_eq!(
            world.wire.events(),
            [
                "order.failed:default/1#1",
                "order.outcome_unknown:default/1#1",
                "order.failed:default/1#2",
                "order.failed:default/1#3",
                "order.parked:default/1#3",
            ]
        );
    }

    async fn people_s_verbs_are_events_too(world) {
        world.erp.will("1", &[Refuse]);
        world.place("1").await;
        world.settle().await;
        world.ops.remove(&key("1"), &world.act("a test order")).await.expect("it is removed");
        world.ops.restore(&key("1"), &world.act("it was none")).await.expect("it is restored");
        let events = world.wire.events();
        assert_eq!(events[2..], ["order.removed:default/1#0", "order.restored:default/1#0"]);
    }

    async fn a_failure_that_the_ledger_cannot_store_now_goes_to_the_broker(world) {
        world.erp.will("1", &[RefuseAfter(Duration::from_secs(5))]);
        world.place("1").await;
        world.seconds(1).await;
        world.database_is_away(true);
        world.seconds(60).await;
        assert_eq!(world.wire.published("failed:").len(), 1, "the broker keeps it");
        world.database_is_away(false);
        world.settle().await;
        assert_eq!(world.wire.published("failed:").len(), 1);
        assert_eq!((world.phase("1").await, world.fail_count("1").await), ("parked", 1));
        assert_eq!(world.erp.sent_at("1").len(), 1);
    }

    async fn a_redelivered_order_says_again_how_its_attempt_ended(world) {
        world.erp.will("refused", &[Refuse]);
        world.erp.will("unclear", &[LoseRequest]);
        let ends = [("refused", "order.parked"), ("unclear", "order.outcome_unknown")];
        for (order_id, event) in ends {
            world.place(order_id).await;
            world.wait("it is told", async || !world.wire.published(event).is_empty()).await;
            let context = world.context("w2");
            let submitter = Submitter::new(context.clone(), world.store.clone(), None);
            submitter.handle(&world.delivery(order_id, true)).await;
            drop(tokio::time::timeout(SECOND, context.publisher.run_events()).await);
            let told = world.wire.published(event);
            assert_eq!(told.len(), 2, "{order_id} is told again");
            let errors: Vec<serde_json::Value> = told
                .iter()
                .map(|event| serde_json::from_slice(&event.body).expect("an event is JSON"))
                .map(|event: serde_json::Value| event["error"]["code"].clone())
                .collect();
            assert_eq!(errors[0], errors[1]);
        }
    }

    async fn an_order_that_the_database_never_takes_delays_no_other_for_long(world) {
        world.database.never_takes("bad");
        world.seconds(1).await;
        world.database_is_away(true);
        for n in 0..10 {
            world.place(&n.to_string()).await;
        }
        world.place("bad").await;
        for n in 10..20 {
            world.place(&n.to_string()).await;
        }
        // Everybody repeats at the same moments by now, and so in the same batch.
        world.seconds(60).await;
        world.database_is_away(false);
        world.seconds(45).await;
        for n in 0..20 {
            assert_eq!(world.phase(&n.to_string()).await, "transferred", "order {n} waits for it");
        }
    }

    async fn an_order_that_the_database_never_takes_becomes_a_dead_letter(world) {
        world.database.never_takes("bad");
        world.place("bad").await;
        for n in 0..120 {
            world.place(&n.to_string()).await;
            world.seconds(1).await;
            assert_eq!(world.phase(&n.to_string()).await, "transferred", "order {n} waits for it");
        }
        let letters = world.dead_letters().await;
        assert_eq!(letters.len(), 1);
        assert!(String::from_utf8_lossy(&letters[0].body).contains("bad"));
    }

    async fn a_failure_needs_no_message_where_errors_are_handled(world) {
        world.erp.will("1", &[Busy]);
        world.place("1").await;
        world.settle().await;
        assert_eq!(world.phase("1").await, "transferred");
        assert!(world.wire.published("failed:").is_empty());
        assert_eq!(world.wire.published("retry:").len(), 1);
    }
}

/// An attempt fails while the broker is away; `counted` is the number of failures that the ledger has by then.
async fn fail_without_a_broker(world: World, counted: u32) {
    world.erp.always(Some(Busy));
    // Everybody reads by then.
    world.seconds(1).await;
    world.place("1").await;
    world.wire.is_away(true);
    world.seconds(20).await;
    assert_eq!(world.fail_count("1").await, counted);
    world.wire.is_away(false);
    world.erp.always(None);
    world.settle().await;
    let messages = world.wire.published("failed:").len();
    assert_eq!(messages == 0, counted == 1, "what is counted needs no message");
    assert!(world.end().await.contains("attempts [1 unavailable http_503; 2 ok]"));
}

apart! {
    async fn a_failure_is_kept_until_the_broker_is_back(world) {
        fail_without_a_broker(world, 0).await;
    }

    async fn a_stranger_s_full_queue_holds_nothing_up(world) {
        world.wire.befalls("order.", Accident::Full, u32::MAX);
        world.erp.will("1", &[Busy, Busy]);
        world.erp.will("2", &[Refuse]);
        world.place("1").await;
        world.place("2").await;
        world.settle().await;
        assert_eq!((world.phase("1").await, world.phase("2").await), ("transferred", "parked"));
        assert_eq!(world.wire.published("failed:").len(), 3, "nothing is repeated");
        assert_eq!(world.metrics.events_dropped.get(), 5, "three failures, parked and confirmed");
    }

    async fn the_trace_of_checkout_is_in_every_later_message(world) {
        world.erp.will("1", &[LoseRequest, Busy]);
        let headers = [(TRACEPARENT, "00-1-2-01"), (TRACESTATE, "shop=1")];
        let names = world.names();
        world.publish(Outgoing {
            exchange: names.orders(),
            routing_key: "order.placed".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            body: document("1", &json!({})).into_bytes(),
            message_id: "placed".to_owned(),
            audience: Audience::Required,
        })
        .await;
        world.settle().await;
        for prefix in ["failed:", "retry:", "sweeper:", "order."] {
            let published = world.wire.published(prefix);
            assert!(!published.is_empty(), "nothing begins with {prefix}");
            for message in published {
                let of = |name: &str| message.headers.get(name).map(String::as_str);
                let both = (of(TRACEPARENT), of(TRACESTATE));
                assert_eq!(both, (Some("00-1-2-01"), Some("shop=1")), "{}", message.message_id);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn others_hear_of_confirmed_orders_only_when_the_settings_say_so() {
    for (with_confirmed, count) in [(false, 1), (true, 2)] {
        let world = World::with(Setup { with_confirmed, ..Setup::default() }).await;
        world.erp.will("1", &[Busy]);
        world.place("1").await;
        world.settle().await;
        assert_eq!(world.wire.events().len(), count, "{:?}", world.wire.events());
    }
}
