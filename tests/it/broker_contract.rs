//! What the broker port promises, kept by RabbitMQ and by the transport within the process alike.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use order_relay::adapters::in_process::QUEUE_LIMIT;
use order_relay::domain::outbound_messages::Audience;
use order_relay::domain::topology::{NOTICE, ORDER_PLACED};
use order_relay::ports::broker::{Death, Delivery, PublishError, Settle, Subscription};
use order_relay::ports::clock::Stopwatch;

use crate::node::shared_node;
use crate::transport::{
    LONG, Transport, Way, body, ids, message, next, next_many, nothing_comes, until,
};
use crate::world::amqp_url;

const SHORT: Duration = Duration::from_millis(300);
/// Limits that a policy sets on RabbitMQ, where the transport within the process has its own.
const LIMITS: &str = r#"{"max-length": 200, "delivery-limit": 20}"#;
const MAX_LENGTH: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adapter {
    InProcess,
    Amqp,
}

impl Adapter {
    async fn open(self) -> Transport {
        match self {
            Self::InProcess => Transport::in_process(&[SHORT, LONG]),
            Self::Amqp => Transport::amqp(&Way::to(&amqp_url()), &[SHORT, LONG]).await,
        }
    }

    /// With queues that are full some time, and messages that are given up some time.
    async fn open_limited(self) -> (Transport, usize) {
        match self {
            Self::InProcess => (self.open().await, QUEUE_LIMIT),
            Self::Amqp => {
                let node = shared_node().await;
                let way = Way::to(&node.url);
                node.set_policy(&way.prefix, LIMITS).await;
                (Transport::amqp(&way, &[SHORT, LONG]).await, MAX_LENGTH)
            }
        }
    }
}

/// Each promise is kept by both.
macro_rules! by_both {
    ($($promise:ident),+ $(,)?) => {
        mod in_process {
            use super::Adapter;
            $(#[tokio::test] async fn $promise() { super::$promise(Adapter::InProcess).await; })+
        }
        mod amqp {
            use super::Adapter;
            $(#[tokio::test] async fn $promise() { super::$promise(Adapter::Amqp).await; })+
        }
    };
}

by_both!(
    a_confirmed_message_is_delivered_as_it_was_published,
    a_large_message_arrives_whole,
    a_message_published_twice_comes_twice,
    a_thousand_publishers_at_once_are_each_heard,
    a_delivery_that_nobody_settles_comes_again,
    a_requeued_delivery_comes_again,
    a_rejected_delivery_goes_to_the_dead_queue_with_its_reason,
    a_message_handed_back_too_often_becomes_a_dead_letter,
    a_dead_letter_is_kept_however_often_it_is_handed_back,
    a_retry_comes_back_after_its_delay_and_not_before,
    a_long_wait_does_not_hold_up_a_short_one,
    a_retry_that_is_published_afresh_goes_round_again_and_again,
    an_order_with_a_wrong_key_ends_in_unrouted,
    a_message_that_must_find_a_queue_and_does_not_is_an_error,
    an_event_that_nobody_listens_to_is_no_error,
    a_full_queue_refuses_and_takes_again_when_there_is_room,
    no_more_is_handed_out_than_the_prefetch_allows,
    a_cancelled_subscription_hands_out_what_was_delivered_and_ends,
    a_settlement_after_the_end_of_the_subscription_counts,
    settling_twice_settles_once,
    six_hundred_deliveries_settled_in_any_order_are_each_settled_once,
    two_readers_share_a_queue_and_a_full_one_does_not_starve_the_other,
    a_queue_that_does_not_exist_is_told,
);

async fn a_confirmed_message_is_delivered_as_it_was_published(adapter: Adapter) {
    let transport = adapter.open().await;
    let (orders, submit) = (transport.names.orders(), transport.names.submit());
    let mut sent = message(&orders, ORDER_PLACED, "Bestellung ü");
    sent.headers.insert("relay-attempt".to_owned(), "3".to_owned());
    sent.headers.insert("tracestate".to_owned(), "käse=1".to_owned());
    transport.publish(sent.clone()).await.expect("it is taken");
    let mut subscription = transport.read(&submit, 1).await;
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.body, sent.body);
    assert_eq!(delivery.headers, sent.headers);
    assert_eq!((&delivery.exchange, delivery.routing_key.as_str()), (&orders, ORDER_PLACED));
    assert_eq!((delivery.redelivered, &delivery.died), (false, &None));
    delivery.settler.settle(Settle::Ack).await;
    drop(subscription);
    transport.end().await;
}

async fn a_large_message_arrives_whole(adapter: Adapter) {
    let transport = adapter.open().await;
    let mut large = message(&transport.names.orders(), ORDER_PLACED, "large");
    large.body = (0..1_048_576u32).map(|at| at.to_le_bytes()[usize::from(at % 3 == 0)]).collect();
    transport.publish(large.clone()).await.expect("it is taken");
    let mut subscription = transport.read(&transport.names.submit(), 1).await;
    let delivery = next(&mut subscription).await;
    assert!(delivery.body == large.body, "{} bytes came", delivery.body.len());
    delivery.settler.settle(Settle::Ack).await;
    drop(subscription);
    transport.end().await;
}

async fn a_message_published_twice_comes_twice(adapter: Adapter) {
    let transport = adapter.open().await;
    transport.place("same").await.expect("it is taken");
    transport.place("same").await.expect("it is taken");
    assert_eq!(transport.take_out(&transport.names.submit()).await, ["same", "same"]);
    transport.end().await;
}

async fn a_thousand_publishers_at_once_are_each_heard(adapter: Adapter) {
    let transport = adapter.open().await;
    let all = ids("m", 1_000);
    transport.place_all(&all).await;
    assert_eq!(transport.take_out(&transport.names.submit()).await, all);
    transport.end().await;
}

async fn a_delivery_that_nobody_settles_comes_again(adapter: Adapter) {
    let transport = adapter.open().await;
    let submit = transport.names.submit();
    transport.place_all(&ids("m", 3)).await;
    let mut subscription = transport.read(&submit, 10).await;
    let in_hand = next_many(&mut subscription, 2).await;
    drop(subscription);
    drop(in_hand);
    let mut subscription = transport.read(&submit, 10).await;
    let again = next_many(&mut subscription, 3).await;
    assert_eq!(bodies(&again), ids("m", 3));
    let looked_at = again.iter().filter(|delivery| delivery.redelivered).count();
    assert!(looked_at >= 2, "two of them were delivered before: {again:?}");
    settle_all(&again, Settle::Ack).await;
    drop(subscription);
    transport.end().await;
}

async fn a_requeued_delivery_comes_again(adapter: Adapter) {
    let transport = adapter.open().await;
    transport.place("m").await.expect("it is taken");
    let mut subscription = transport.read(&transport.names.submit(), 1).await;
    let first = next(&mut subscription).await;
    assert!(!first.redelivered);
    first.settler.settle(Settle::Requeue).await;
    let second = next(&mut subscription).await;
    assert_eq!((body(&second).as_str(), second.redelivered), ("m", true));
    second.settler.settle(Settle::Ack).await;
    drop(subscription);
    transport.end().await;
}

async fn a_rejected_delivery_goes_to_the_dead_queue_with_its_reason(adapter: Adapter) {
    let transport = adapter.open().await;
    let submit = transport.names.submit();
    transport.place("poison").await.expect("it is taken");
    let mut subscription = transport.read(&submit, 1).await;
    next(&mut subscription).await.settler.settle(Settle::Reject).await;
    let dead = next_dead(&transport).await;
    assert_eq!(body(&dead), "poison");
    assert_eq!(dead.died, Some(Death { queue: submit, reason: "rejected".to_owned() }));
    assert_eq!(dead.headers.get("relay-origin").map(String::as_str), Some("test"));
    drop(subscription);
    transport.end().await;
}

async fn a_message_handed_back_too_often_becomes_a_dead_letter(adapter: Adapter) {
    let (transport, _) = adapter.open_limited().await;
    let submit = transport.names.submit();
    transport.place("poison").await.expect("it is taken");
    let mut subscription = transport.read(&submit, 1).await;
    let mut dead = transport.read(&transport.names.dead(), 1).await;
    let mut handed_back = 0;
    let died = loop {
        tokio::select! {
            delivery = next(&mut subscription) => {
                delivery.settler.settle(Settle::Requeue).await;
                handed_back += 1;
            }
            died = next(&mut dead) => break died,
        }
    };
    assert_eq!(died.died, Some(Death { queue: submit, reason: "delivery_limit".to_owned() }));
    assert!((20..=21).contains(&handed_back), "given up after {handed_back} times");
    died.settler.settle(Settle::Ack).await;
    drop((subscription, dead));
    transport.end().await;
}

async fn a_dead_letter_is_kept_however_often_it_is_handed_back(adapter: Adapter) {
    let transport = adapter.open().await;
    transport.place("poison").await.expect("it is taken");
    let mut subscription = transport.read(&transport.names.submit(), 1).await;
    next(&mut subscription).await.settler.settle(Settle::Reject).await;
    let mut dead = transport.read(&transport.names.dead(), 1).await;
    for _ in 0..50 {
        next(&mut dead).await.settler.settle(Settle::Requeue).await;
    }
    let kept = next(&mut dead).await;
    assert_eq!(body(&kept), "poison");
    kept.settler.settle(Settle::Ack).await;
    drop((subscription, dead));
    transport.end().await;
}

async fn a_retry_comes_back_after_its_delay_and_not_before(adapter: Adapter) {
    let transport = adapter.open().await;
    let mut subscription = transport.read(&transport.names.submit(), 1).await;
    let watch = Stopwatch::start();
    transport.retry(SHORT, "again").await.expect("it is taken");
    let delivery = next(&mut subscription).await;
    assert!(watch.elapsed() >= SHORT, "it came back after {:?}", watch.elapsed());
    assert_eq!(body(&delivery), "again");
    assert_eq!(delivery.exchange, transport.names.redrive());
    let death = delivery.died.clone().expect("it waited");
    let queue = transport.names.retry_queue(SHORT);
    assert_eq!(death, Death { queue, reason: "expired".to_owned() });
    delivery.settler.settle(Settle::Ack).await;
    drop(subscription);
    transport.end().await;
}

async fn a_long_wait_does_not_hold_up_a_short_one(adapter: Adapter) {
    let transport = adapter.open().await;
    let mut subscription = transport.read(&transport.names.submit(), 10).await;
    transport.retry(LONG, "long").await.expect("it is taken");
    transport.retry(SHORT, "short").await.expect("it is taken");
    let delivery = next(&mut subscription).await;
    assert_eq!(body(&delivery), "short");
    delivery.settler.settle(Settle::Ack).await;
    drop(subscription);
    transport.end().await;
}

async fn a_retry_that_is_published_afresh_goes_round_again_and_again(adapter: Adapter) {
    let transport = adapter.open().await;
    let mut subscription = transport.read(&transport.names.submit(), 1).await;
    for round in ids("round", 4) {
        transport.retry(SHORT, &round).await.expect("it is taken");
        let delivery = next(&mut subscription).await;
        assert_eq!(body(&delivery), round);
        delivery.settler.settle(Settle::Ack).await;
    }
    drop(subscription);
    transport.end().await;
}

async fn an_order_with_a_wrong_key_ends_in_unrouted(adapter: Adapter) {
    let transport = adapter.open().await;
    let lost = message(&transport.names.orders(), "order.plcaed", "lost");
    transport.publish(lost).await.expect("it is kept, so it counts as taken");
    let mut subscription = transport.read(&transport.names.unrouted(), 1).await;
    let delivery = next(&mut subscription).await;
    assert_eq!(body(&delivery), "lost");
    assert_eq!(delivery.routing_key, "order.plcaed");
    delivery.settler.settle(Settle::Ack).await;
    drop(subscription);
    transport.end().await;
}

async fn a_message_that_must_find_a_queue_and_does_not_is_an_error(adapter: Adapter) {
    let transport = adapter.open().await;
    let missing = format!("{}.missing", transport.names.orders());
    for (exchange, key) in [(transport.names.retry(), "7"), (missing, "7")] {
        let refused = transport.publish(message(&exchange, key, "lost")).await;
        let routing_key = key.to_owned();
        assert_eq!(refused, Err(PublishError::Unroutable { exchange, routing_key }));
    }
    transport.place("fine").await.expect("others go on");
    assert_eq!(transport.take_out(&transport.names.submit()).await, ["fine"]);
    transport.end().await;
}

async fn an_event_that_nobody_listens_to_is_no_error(adapter: Adapter) {
    let transport = adapter.open().await;
    let mut event = message(&transport.names.events(), "order.confirmed", "event");
    event.audience = Audience::Optional;
    transport.publish(event).await.expect("nobody has to listen");
    let mut nowhere = message(&transport.names.retry(), "7", "event");
    nowhere.audience = Audience::Optional;
    transport.publish(nowhere).await.expect("nobody has to listen");
    // What follows on the same channel has arrived, so the events would have, too.
    transport
        .publish(message(&transport.names.failures(), NOTICE, "n"))
        .await
        .expect("it is taken");
    assert_eq!(transport.take_out(&transport.names.notify()).await, ["n"]);
    transport.end().await;
}

async fn a_full_queue_refuses_and_takes_again_when_there_is_room(adapter: Adapter) {
    let (transport, limit) = adapter.open_limited().await;
    let submit = transport.names.submit();
    let mut taken = Vec::new();
    let refused = loop {
        assert!(taken.len() < limit * 3, "it takes more than {limit} and never refuses");
        let id = format!("m-{:06}", taken.len());
        match transport.place(&id).await {
            Ok(()) => taken.push(id),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, PublishError::Refused);
    assert!(taken.len() >= limit, "{} of {limit} were taken", taken.len());
    assert_eq!(transport.take_out(&submit).await, taken, "what was taken is there, no more");
    until("there is room again", async || {
        transport.place("after").await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(transport.take_out(&submit).await, ["after"]);
    transport.end().await;
}

async fn no_more_is_handed_out_than_the_prefetch_allows(adapter: Adapter) {
    let transport = adapter.open().await;
    transport.place_all(&ids("m", 5)).await;
    let mut subscription = transport.read(&transport.names.submit(), 3).await;
    let mut in_hand = next_many(&mut subscription, 3).await;
    nothing_comes(&mut subscription).await;
    in_hand.remove(1).settler.settle(Settle::Ack).await;
    in_hand.push(next(&mut subscription).await);
    nothing_comes(&mut subscription).await;
    settle_all(&in_hand, Settle::Ack).await;
    next(&mut subscription).await.settler.settle(Settle::Ack).await;
    drop(subscription);
    transport.end().await;
}

async fn a_cancelled_subscription_hands_out_what_was_delivered_and_ends(adapter: Adapter) {
    let transport = adapter.open().await;
    let submit = transport.names.submit();
    transport.place_all(&ids("m", 10)).await;
    let mut subscription = transport.read(&submit, 6).await;
    let mut seen = next_many(&mut subscription, 2).await;
    subscription.cancel().await.expect("it can be ended");
    transport.place("late").await.expect("it is taken");
    seen.extend(drain(&mut subscription).await);
    assert!(seen.len() <= 6, "more than the prefetch: {seen:?}");
    settle_all(&seen, Settle::Ack).await;
    drop(subscription);
    let mut all = bodies(&seen);
    all.extend(transport.take_out(&submit).await);
    all.sort();
    assert_eq!(all, [vec!["late".to_owned()], ids("m", 10)].concat());
    transport.end().await;
}

async fn a_settlement_after_the_end_of_the_subscription_counts(adapter: Adapter) {
    let transport = adapter.open().await;
    let (submit, dead) = (transport.names.submit(), transport.names.dead());
    transport.place_all(&ids("m", 3)).await;
    let mut subscription = transport.read(&submit, 3).await;
    let in_hand = next_many(&mut subscription, 3).await;
    subscription.cancel().await.expect("it can be ended");
    in_hand[1].settler.settle(Settle::Ack).await;
    drop(subscription);
    in_hand[0].settler.settle(Settle::Reject).await;
    in_hand[2].settler.settle(Settle::Requeue).await;
    drop(in_hand);
    transport.until_ready(&submit, 1).await;
    assert_eq!(transport.take_out(&submit).await, ["m-00002"]);
    transport.until_ready(&dead, 1).await;
    assert_eq!(transport.take_out(&dead).await, ["m-00000"]);
    transport.end().await;
}

async fn settling_twice_settles_once(adapter: Adapter) {
    let transport = adapter.open().await;
    let submit = transport.names.submit();
    transport.place_all(&ids("m", 3)).await;
    let mut subscription = transport.read(&submit, 3).await;
    let in_hand = next_many(&mut subscription, 3).await;
    for delivery in &in_hand[..2] {
        let twin = delivery.clone();
        delivery.settler.settle(Settle::Ack).await;
        twin.settler.settle(Settle::Requeue).await;
        twin.settler.settle(Settle::Ack).await;
    }
    nothing_comes(&mut subscription).await;
    in_hand[2].settler.settle(Settle::Ack).await;
    drop((in_hand, subscription));
    transport.end().await;
}

async fn six_hundred_deliveries_settled_in_any_order_are_each_settled_once(adapter: Adapter) {
    let transport = adapter.open().await;
    let (submit, dead) = (transport.names.submit(), transport.names.dead());
    transport.place_all(&ids("m", 600)).await;
    let mut subscription = transport.read(&submit, 600).await;
    let deliveries = next_many(&mut subscription, 600).await;
    let how = |at: usize| if at.is_multiple_of(7) { Settle::Reject } else { Settle::Ack };
    // 211 and 600 have no factor in common: every delivery once, far from the order they came in.
    let settling = (0..600).map(|step| step * 211 % 600).map(async |at| {
        tokio::task::yield_now().await;
        deliveries[at].settler.settle(how(at)).await;
    });
    join_all(settling).await;
    let mut rejected: Vec<String> =
        (0..600).filter(|at| how(*at) == Settle::Reject).map(|at| body(&deliveries[at])).collect();
    rejected.sort();
    transport.until_ready(&dead, u32::try_from(rejected.len()).expect("it is small")).await;
    assert_eq!(transport.take_out(&dead).await, rejected);
    nothing_comes(&mut subscription).await;
    drop((deliveries, subscription));
    transport.end().await;
}

async fn two_readers_share_a_queue_and_a_full_one_does_not_starve_the_other(adapter: Adapter) {
    let transport = adapter.open().await;
    let submit = transport.names.submit();
    let mut full = transport.read(&submit, 1).await;
    transport.place("first").await.expect("it is taken");
    let in_hand = next(&mut full).await;
    let mut other = transport.read(&submit, 10).await;
    let rest = ids("m", 5);
    let reading = async {
        let mut seen = BTreeSet::new();
        for id in &rest {
            // Both wait when it arrives: it must wake the one who has room.
            let (delivery, placed) = tokio::join!(next(&mut other), transport.place(id));
            placed.expect("it is taken");
            delivery.settler.settle(Settle::Ack).await;
            seen.insert(body(&delivery));
        }
        seen
    };
    let seen = tokio::select! {
        biased;
        more = full.next() => panic!("a full reader was given {more:?}"),
        seen = reading => seen,
    };
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), rest);
    in_hand.settler.settle(Settle::Ack).await;
    drop((full, other));
    transport.end().await;
}

async fn a_queue_that_does_not_exist_is_told(adapter: Adapter) {
    let transport = adapter.open().await;
    let missing = format!("{}.missing", transport.names.orders());
    let error = transport.broker.subscribe(&missing, 1).await.err().expect("it cannot be read");
    assert!(error.0.contains(&missing), "{error}");
    let error = transport.broker.queue_status(&missing).await.expect_err("it has no status");
    assert!(error.0.contains(&missing), "{error}");
    let submit = transport.names.submit();
    let status = transport.broker.queue_status(&submit).await.expect("others go on");
    assert_eq!((status.ready, status.consumers), (0, 0));
    transport.end().await;
}

/// The next dead letter, settled.
async fn next_dead(transport: &Transport) -> Delivery {
    let mut dead = transport.read(&transport.names.dead(), 1).await;
    let delivery = next(&mut dead).await;
    delivery.settler.settle(Settle::Ack).await;
    delivery
}

/// Reads a cancelled subscription to its end.
async fn drain(subscription: &mut Box<dyn Subscription>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while let Some(delivery) = subscription.next().await.expect("it ends in good order") {
        deliveries.push(delivery);
    }
    deliveries
}

async fn settle_all(deliveries: &[Delivery], how: Settle) {
    join_all(deliveries.iter().map(|delivery| delivery.settler.settle(how))).await;
}

/// Bodies, sorted.
fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    let mut bodies: Vec<String> = deliveries.iter().map(body).collect();
    bodies.sort();
    bodies
}
