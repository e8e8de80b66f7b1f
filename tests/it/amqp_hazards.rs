//! Faults of RabbitMQ, the network and lapin, and that the adapter survives them: each hazard of
//! docs/facts/rabbitmq.md 3 and 4 that can hit us, with the connection cut, frozen or deaf at
//! critical points.
//!
//! What both transports promise stands in `broker_contract`; whole services live through the same in
//! `amqp_outages`.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::QueueDeleteOptions;
use order_relay::adapters::amqp;
use order_relay::adapters::amqp::connection::{Address, PATIENCE as LIMIT};
use order_relay::domain::topology::{Names, ORDER_PLACED, Topology};
use order_relay::ports::broker::{Death, PublishError, Settle, Subscription};
use order_relay::ports::clock::Stopwatch;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, OnceCell};

use crate::node::{Node, shared_node};
use crate::proxy::{Line, Proxy};
use crate::transport::{
    LONG, PATIENCE, Transport, Way, body, ids, message, next, next_many, nothing_comes, until,
};
use crate::world::amqp_url;

const SHORT: Duration = Duration::from_millis(300);
/// A `basic.ack` on the wire.
const ACK_BYTES: usize = 21;

/// A transport over a connection that can fail.
async fn over_a_line(query: &str) -> (Proxy, Transport) {
    let proxy = Proxy::start(&amqp_url()).await;
    let way = Way { line: format!("{}{query}", proxy.url()), ..Way::to(&amqp_url()) };
    let transport = Transport::amqp(&way, &[SHORT, LONG]).await;
    (proxy, transport)
}

/// A node for tests that do to it what others would notice; one of them at a time.
async fn rough_node() -> tokio::sync::MutexGuard<'static, Node> {
    static NODE: OnceCell<Mutex<Node>> = OnceCell::const_new();
    NODE.get_or_init(async || Mutex::new(Node::start().await)).await.lock().await
}

#[tokio::test]
async fn whatever_was_confirmed_is_there_although_the_line_was_cut_again_and_again() {
    let (proxy, transport) = over_a_line("").await;
    let all = ids("m", 3_000);
    let publishing = all.iter().enumerate().map(async |(at, id)| {
        let taken = transport.place(id).await;
        if at % 500 == 250 {
            proxy.cut();
        }
        taken
    });
    for taken in join_all(publishing).await {
        assert_eq!(taken, Ok(()), "with patience each gets through");
    }
    let there = transport.take_out(&transport.names.submit()).await;
    let distinct: Vec<_> = there.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(distinct, all);
    transport.end().await;
}

#[tokio::test]
async fn a_message_whose_confirm_got_lost_is_published_again() {
    let (proxy, transport) = over_a_line("").await;
    let submit = transport.names.submit();
    transport.place("before").await.expect("it is taken");
    proxy.set(Line::Mute);
    let losing = async {
        transport.until_stored(&submit, 2).await;
        until_swallowed(&proxy, ACK_BYTES).await;
        proxy.set(Line::Open);
        proxy.cut();
    };
    let (taken, ()) = tokio::join!(transport.place("m"), losing);
    assert_eq!(taken, Ok(()));
    assert_eq!(transport.take_out(&submit).await, ["before", "m", "m"]);
    transport.end().await;
}

#[tokio::test]
async fn messages_whose_confirms_never_come_are_published_again() {
    let (proxy, transport) = over_a_line("?heartbeat=60").await;
    let submit = transport.names.submit();
    transport.place("before").await.expect("it is taken");
    proxy.set(Line::Frozen);
    let second = async {
        // So that the time limits of the two do not end together.
        tokio::time::sleep(Duration::from_secs(1)).await;
        transport.place("b").await
    };
    let opening = async {
        let known = proxy.accepted();
        until("it connects anew", async || match proxy.accepted() {
            more if more > known => Ok(()),
            same => Err(format!("{same} connections")),
        })
        .await;
        proxy.set(Line::Open);
    };
    let (first, second, ()) = tokio::join!(transport.place("a"), second, opening);
    assert_eq!((first, second), (Ok(()), Ok(())));
    let there = transport.take_out(&submit).await;
    assert_eq!(there.into_iter().collect::<BTreeSet<_>>().len(), 3);
    transport.leave().await;
}

#[tokio::test]
async fn a_publisher_that_loses_patience_is_told_and_others_go_on() {
    let (proxy, transport) = over_a_line("").await;
    transport.place("before").await.expect("it is taken");
    proxy.set(Line::Down);
    proxy.cut();
    let orders = transport.names.orders();
    let impatient = message(&orders, ORDER_PLACED, "impatient");
    let told = transport.broker.publish(impatient, Duration::from_millis(300)).await;
    assert!(matches!(told, Err(PublishError::Unavailable(_))), "{told:?}");
    let opening = async {
        until("it was tried several times", async || match proxy.refused() {
            tries @ 0..3 => Err(format!("{tries} times")),
            _ => Ok(()),
        })
        .await;
        proxy.set(Line::Open);
    };
    let (taken, ()) = tokio::join!(transport.place("patient"), opening);
    assert_eq!(taken, Ok(()));
    let there = transport.take_out(&transport.names.submit()).await;
    assert_eq!(there, ["before", "patient"], "an abandoned message is not sent later");
    transport.end().await;
}

#[tokio::test]
async fn a_frozen_line_is_noticed_by_its_heartbeat_and_replaced() {
    let (proxy, transport) = over_a_line("?heartbeat=1").await;
    let submit = transport.names.submit();
    let mut subscription = transport.read(&submit, 5).await;
    transport.place("m").await.expect("it is taken");
    let in_hand = next(&mut subscription).await;
    let watch = Stopwatch::start();
    proxy.set(Line::Frozen);
    let noticing = async {
        let ended = tokio::time::timeout(PATIENCE, subscription.next()).await;
        ended.expect("a frozen line is noticed").expect_err("it ends with an error");
        assert!(watch.elapsed() < LIMIT, "noticed after {:?}", watch.elapsed());
        proxy.cut();
        proxy.set(Line::Open);
    };
    let (taken, ()) = tokio::join!(transport.place("late"), noticing);
    assert_eq!(taken, Ok(()));
    in_hand.settler.settle(Settle::Ack).await;
    drop((in_hand, subscription));
    let mut subscription = transport.read_again(&submit, 5).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        let delivery = next(&mut subscription).await;
        delivery.settler.settle(Settle::Ack).await;
        seen.insert(body(&delivery));
    }
    assert_eq!(seen, BTreeSet::from(["late".to_owned(), "m".to_owned()]));
    drop(subscription);
    transport.leave().await;
}

#[tokio::test]
async fn a_peer_that_takes_the_connection_and_says_nothing_is_told_of() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let url = format!("amqp://guest:guest@{address}/%2f").into();
    let silent = Address::parse(&[url], "test".to_owned()).expect("a good address");
    let error = silent.connect("test").await.expect_err("nobody speaks AMQP there");
    assert!(error.0.contains("does not answer: is that port really AMQP? (amqp.url)"), "{error}");
    drop(listener);
}

#[tokio::test]
async fn what_is_wrong_with_the_address_is_told_in_one_sentence() {
    let node = shared_node().await;
    let stranger = node.add_user("stranger", "").await;
    node.ctl(&["clear_permissions", "stranger"]).await;
    for (url, sentence) in [
        (node.url.replace(":guest@", ":wrong@"), "refuses user `guest`: check user and password"),
        (node.url.replace("/%2f", "/nowhere"), "does not let user `guest` into that virtual host"),
        (stranger, "does not let user `stranger` into that virtual host"),
        ("amqp://guest:guest@127.0.0.1:9/%2f".to_owned(), "cannot be reached"),
    ] {
        let way = Way::to(&url);
        let error = way.address().connect("test").await.expect_err("it cannot be used");
        assert!(error.0.contains(sentence), "{error}");
        assert!(error.0.contains("amqp.url"), "it names what to look at: {error}");
        assert!(!error.0.contains("wrong") && !error.0.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn a_deleted_queue_ends_the_subscription_and_is_made_again_by_the_next() {
    let way = Way::to(&amqp_url());
    let transport = Transport::amqp(&way, &[]).await;
    let submit = transport.names.submit();
    let mut subscription = transport.read(&submit, 5).await;
    let connection = transport.connection().await;
    let channel = connection.create_channel().await.expect("a channel");
    let delete = channel.queue_delete(submit.as_str().into(), QueueDeleteOptions::default());
    delete.await.expect("it is deleted");
    let ended = tokio::time::timeout(PATIENCE, subscription.next()).await;
    let error = ended.expect("it ends").expect_err("and not in good order");
    assert!(error.0.contains("was the queue deleted?"), "{error}");
    drop(subscription);
    let mut subscription = transport.read(&submit, 5).await;
    transport.place("m").await.expect("it is taken");
    next(&mut subscription).await.settler.settle(Settle::Ack).await;
    drop((subscription, connection));
    transport.end().await;
}

#[tokio::test]
async fn who_asks_for_a_missing_queue_takes_nothing_away_from_other_readers() {
    let transport = Transport::amqp(&Way::to(&amqp_url()), &[]).await;
    let submit = transport.names.submit();
    transport.place_all(&ids("m", 2)).await;
    let mut subscription = transport.read(&submit, 1).await;
    let in_hand = next(&mut subscription).await;
    let missing = format!("{submit}.missing");
    transport.broker.subscribe(&missing, 1).await.err().expect("it is not there");
    let mut others = transport.read(&submit, 5).await;
    let second = next(&mut others).await;
    assert!(!second.redelivered, "the one in hand was not taken away");
    in_hand.settler.settle(Settle::Ack).await;
    second.settler.settle(Settle::Ack).await;
    nothing_comes(&mut subscription).await;
    drop((in_hand, second, subscription, others));
    transport.end().await;
}

#[tokio::test]
async fn a_settlement_from_before_a_reconnect_settles_nothing() {
    let (proxy, transport) = over_a_line("").await;
    let submit = transport.names.submit();
    transport.place_all(&ids("m", 6)).await;
    let mut subscription = transport.read(&submit, 6).await;
    let stale = next_many(&mut subscription, 3).await;
    proxy.cut();
    // What was buffered still comes; then the loss is told.
    until_lost(&mut subscription).await;
    let mut subscription = transport.read_again(&submit, 6).await;
    let fresh = next_many(&mut subscription, 6).await;
    for (at, delivery) in stale.iter().enumerate() {
        let how = [Settle::Ack, Settle::Reject, Settle::Requeue][at];
        delivery.settler.settle(how).await;
    }
    nothing_comes(&mut subscription).await;
    fresh[0].settler.settle(Settle::Ack).await;
    let settled = body(&fresh[0]);
    drop((stale, fresh, subscription));
    transport.until_ready(&submit, 5).await;
    let left = transport.take_out(&submit).await;
    assert_eq!(left, ids("m", 6).into_iter().filter(|id| *id != settled).collect::<Vec<_>>());
    assert!(transport.take_out(&transport.names.dead()).await.is_empty(), "nothing was rejected");
    transport.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_settlement_hangs_when_the_line_is_cut_in_the_middle_of_it() {
    let (proxy, transport) = over_a_line("").await;
    let submit = transport.names.submit();
    transport.place_all(&ids("m", 400)).await;
    for round in 0..60 {
        let mut subscription = transport.read_again(&submit, 400).await;
        let deliveries = next_many(&mut subscription, 20).await;
        let settling = deliveries.iter().enumerate().map(async |(at, delivery)| {
            if at == round % 20 {
                proxy.cut();
            }
            tokio::time::sleep(Duration::from_micros(100 * at as u64)).await;
            delivery.settler.settle(Settle::Requeue).await;
        });
        let settled = tokio::time::timeout(LIMIT * 2, join_all(settling)).await;
        assert!(settled.is_ok(), "a settlement hangs (round {round})");
    }
    transport.until_ready(&submit, 400).await;
    assert_eq!(transport.take_out(&submit).await, ids("m", 400));
    transport.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_thousand_messages_each_that_finds_no_queue_is_told_and_no_other() {
    let transport = Transport::amqp(&Way::to(&amqp_url()), &[SHORT, LONG]).await;
    let (retry, found) = (transport.names.retry(), LONG.as_millis().to_string());
    let mut taken = Vec::new();
    for (round, window) in [2, 20, 200, 500, 2_000].into_iter().enumerate() {
        let all: Vec<_> = ids(&round.to_string(), 2_000).into_iter().enumerate().collect();
        for some in all.chunks(window) {
            let publishing = some.iter().map(async |(at, id)| {
                let key = if at % 2 == 0 { &found } else { "7" };
                (at % 2 == 0, transport.publish(message(&retry, key, id)).await)
            });
            for ((fits, result), (_, id)) in join_all(publishing).await.into_iter().zip(some) {
                match (fits, result) {
                    (true, Ok(())) => taken.push(id.clone()),
                    (false, Err(PublishError::Unroutable { .. })) => {}
                    wrong => panic!("{id} in a window of {window}: {wrong:?}"),
                }
            }
        }
    }
    let waiting = transport.take_out(&transport.names.retry_queue(LONG)).await;
    assert!(waiting == taken, "{} wait, {} were taken", waiting.len(), taken.len());
    transport.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_messages_exactly_those_are_there_that_a_full_queue_took() {
    let node = shared_node().await;
    let way = Way::to(&node.url);
    node.set_policy(&way.prefix, r#"{"max-length": 300}"#).await;
    let transport = Transport::amqp(&way, &[]).await;
    let (orders, submit) = (transport.names.orders(), transport.names.submit());
    let mut subscription = transport.read(&submit, 50).await;
    let all = ids("m", 10_000);
    let published = Notify::new();
    let publishing = async {
        let mut taken = BTreeSet::new();
        let mut refused = 0;
        for some in all.chunks(500) {
            let messages = some.iter().map(|id| message(&orders, ORDER_PLACED, id)).collect();
            let (ok, errors) = transport.publish_all(messages).await;
            assert!(errors.iter().all(|error| *error == PublishError::Refused), "{errors:?}");
            refused += errors.len();
            taken.extend(ok);
        }
        published.notify_one();
        (taken, refused)
    };
    let mut there = Vec::new();
    let reading = async {
        loop {
            let delivery = tokio::select! {
                delivery = next(&mut subscription) => delivery,
                () = published.notified() => return,
            };
            delivery.settler.settle(Settle::Ack).await;
            there.push(body(&delivery));
            if there.len().is_multiple_of(50) {
                // Too slow for them all: the queue is full now and then, and takes again.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let ((taken, refused), ()) = tokio::join!(publishing, reading);
    assert!(refused > 0 && taken.len() > 300, "{} taken, {refused} refused", taken.len());
    while there.len() < taken.len() {
        let delivery = next(&mut subscription).await;
        delivery.settler.settle(Settle::Ack).await;
        there.push(body(&delivery));
    }
    nothing_comes(&mut subscription).await;
    there.sort();
    assert!(there.iter().eq(&taken), "{} there, {} taken", there.len(), taken.len());
    drop(subscription);
    transport.end().await;
}

#[tokio::test]
async fn a_message_that_no_exchange_takes_holds_up_no_other() {
    let transport = Transport::amqp(&Way::to(&amqp_url()), &[]).await;
    let missing = format!("{}.missing", transport.names.orders());
    let good = ids("good", 300);
    let bad = ids("bad", 20);
    let bad_ones = bad.iter().map(|id| message(&missing, "key", id)).collect();
    let (refused, ()) = tokio::join!(transport.publish_all(bad_ones), transport.place_all(&good));
    assert_eq!((refused.0.len(), refused.1.len()), (0, 20));
    let is_unroutable = |error: &PublishError| matches!(error, PublishError::Unroutable { .. });
    assert!(refused.1.iter().all(is_unroutable), "{:?}", refused.1);
    let there = transport.take_out(&transport.names.submit()).await;
    let distinct: Vec<_> = there.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(distinct, good);
    transport.end().await;
}

#[tokio::test]
async fn a_message_that_this_user_may_not_publish_holds_up_no_other() {
    let node = shared_node().await;
    let way = Way::to(&node.url);
    let writer = node.add_user(&way.prefix, "").await;
    let may_write = format!("^{}$", way.prefix);
    node.ctl(&["set_permissions", &way.prefix, "^$", &may_write, ".*"]).await;
    let transport = Transport::amqp(&Way { line: writer, ..way }, &[]).await;
    let forbidden = message(&transport.names.redrive(), "submit", "forbidden");
    let good = ids("good", 50);
    let (refused, ()) = tokio::join!(transport.publish(forbidden), transport.place_all(&good));
    let Err(PublishError::Unavailable(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("refused"), "{why}");
    let there = transport.take_out(&transport.names.submit()).await;
    assert_eq!(there.into_iter().collect::<BTreeSet<_>>().len(), 50);
    transport.end().await;
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_made_again() {
    let node = shared_node().await;
    let way = Way::to(&node.url);
    let transport = Transport::amqp(&way, &[]).await;
    let submit = transport.names.submit();
    transport.place("before").await.expect("it is taken");
    let mut subscription = transport.read(&submit, 5).await;
    let in_hand = next(&mut subscription).await;
    close_connections(node, &way.prefix).await;
    until_lost(&mut subscription).await;
    in_hand.settler.settle(Settle::Ack).await;
    transport.place("after").await.expect("it is taken");
    let mut subscription = transport.read_again(&submit, 5).await;
    let again = next_many(&mut subscription, 2).await;
    let mut seen: Vec<String> = again.iter().map(body).collect();
    seen.sort();
    assert_eq!(seen, ["after", "before"]);
    join_all(again.iter().map(|delivery| delivery.settler.settle(Settle::Ack))).await;
    drop((in_hand, again, subscription));
    transport.end().await;
}

#[tokio::test]
async fn a_blocked_broker_delays_publishes_and_nothing_else() {
    let node = rough_node().await;
    let transport = Transport::amqp(&Way::to(&node.url), &[]).await;
    let submit = transport.names.submit();
    let early = ids("early", 100);
    transport.place_all(&early).await;
    let mut subscription = transport.read(&submit, 100).await;
    node.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
    let late = ids("late", 300);
    let meanwhile = async {
        // The first publish is what makes the broker block; it gets no further.
        let settled = next_many(&mut subscription, 100).await;
        join_all(settled.iter().map(|delivery| delivery.settler.settle(Settle::Ack))).await;
        nothing_comes(&mut subscription).await;
        // Longer than a confirm may take without an alarm.
        for _ in 0..40 {
            assert_eq!(transport.broker.obstacle(), None, "an alarm is no reason to be unready");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        drop((settled, subscription));
        transport.until_ready(&submit, 0).await;
        node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    };
    tokio::join!(transport.place_all(&late), meanwhile);
    let there = transport.take_out(&submit).await;
    let distinct: Vec<_> = there.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(distinct, late, "the early ones are settled, the late ones have all arrived");
    transport.end().await;
}

#[tokio::test]
async fn a_broker_that_confirms_nothing_is_an_obstacle_until_it_does() {
    let proxy = Proxy::start(&amqp_url()).await;
    let way = Way { line: proxy.url(), ..Way::to(&amqp_url()) };
    let transport = Transport::amqp(&way, &[]).await;
    transport.place("before").await.expect("it is taken");
    drop(transport.read(&transport.names.failed(), 1).await);
    assert_eq!(transport.broker.obstacle(), None);
    proxy.set(Line::Mute);
    let publishing = transport.place("meanwhile");
    let told = async {
        until("it is told", async || match transport.broker.obstacle() {
            Some(why) if why.contains("confirms no messages") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        proxy.set(Line::Open);
        proxy.cut();
    };
    let (published, ()) = tokio::join!(publishing, told);
    published.expect("it gets through");
    drop(transport.read_again(&transport.names.failed(), 1).await);
    until("it is over", async || match transport.broker.obstacle() {
        None => Ok(()),
        Some(why) => Err(why),
    })
    .await;
    transport.take_out(&transport.names.submit()).await;
    transport.end().await;
}

#[tokio::test]
async fn a_delivery_that_is_held_too_long_ends_the_subscription_and_comes_again() {
    let node = rough_node().await;
    for setting in ["consumer_timeout, 1000", "channel_tick_interval, 500"] {
        node.ctl(&["eval", &format!("application:set_env(rabbit, {setting}).")]).await;
    }
    let transport = Transport::amqp(&Way::to(&node.url), &[]).await;
    let submit = transport.names.submit();
    transport.place("m").await.expect("it is taken");
    let mut subscription = transport.read(&submit, 5).await;
    let held = next(&mut subscription).await;
    until_lost(&mut subscription).await;
    for setting in ["consumer_timeout, 1800000", "channel_tick_interval, 60000"] {
        node.ctl(&["eval", &format!("application:set_env(rabbit, {setting}).")]).await;
    }
    let mut subscription = transport.read_again(&submit, 5).await;
    let again = next(&mut subscription).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("m", true));
    held.settler.settle(Settle::Reject).await;
    again.settler.settle(Settle::Ack).await;
    drop((held, again, subscription));
    transport.end().await;
}

#[tokio::test]
async fn what_safety_needs_stands_in_the_arguments_of_every_queue() {
    let node = shared_node().await;
    let way = Way::to(&node.url);
    let transport = Transport::amqp(&way, &[SHORT]).await;
    let list = node.ctl(&["list_queues", "name", "durable", "arguments"]).await;
    for queue in &transport.broker.topology().queues {
        let begin = format!("{}\ttrue\t", queue.name);
        let line = list.lines().find_map(|line| line.strip_prefix(&begin));
        let arguments = line.expect("the queue is there and durable");
        let route = match &queue.dead_letter {
            Some(route) => format!("\"x-dead-letter-exchange\",\"{}\"", route.exchange),
            // Nothing may ever be dropped where dead letters end.
            None => "\"x-delivery-limit\",1000000".to_owned(),
        };
        let has_route = queue.dead_letter.is_some();
        for needed in [
            "\"x-queue-type\",\"quorum\"",
            "\"x-overflow\",\"reject-publish\"",
            if has_route { "\"x-dead-letter-strategy\",\"at-least-once\"" } else { "" },
            &route,
        ] {
            assert!(arguments.contains(needed), "{}: {needed} is not in {arguments}", queue.name);
        }
    }
    transport.end().await;
}

#[tokio::test]
async fn an_operators_policy_takes_neither_delay_nor_dead_letters_away() {
    let node = shared_node().await;
    let way = Way::to(&node.url);
    let transport = Transport::amqp(&way, &[SHORT]).await;
    node.set_policy(&way.prefix, r#"{"max-length": 1000, "delivery-limit": 100}"#).await;
    let submit = transport.names.submit();
    until("the policy holds", async || {
        let all = node.ctl(&["list_queues", "name", "policy"]).await;
        let line = format!("{submit}\t{}", way.prefix);
        if all.lines().any(|found| found == line) { Ok(()) } else { Err(all) }
    })
    .await;
    let mut subscription = transport.read(&submit, 1).await;
    let watch = Stopwatch::start();
    transport.retry(SHORT, "m").await.expect("it is taken");
    let delivery = next(&mut subscription).await;
    assert!(watch.elapsed() >= SHORT, "it came back after {:?}", watch.elapsed());
    delivery.settler.settle(Settle::Reject).await;
    let mut dead = transport.read(&transport.names.dead(), 1).await;
    let died = next(&mut dead).await;
    assert_eq!(died.died, Some(Death { queue: submit, reason: "rejected".to_owned() }));
    died.settler.settle(Settle::Ack).await;
    drop((subscription, dead));
    transport.end().await;
}

#[tokio::test]
async fn retries_wait_while_the_queue_they_return_to_is_full_and_none_is_lost() {
    let node = shared_node().await;
    // Half a minute in deploy/rabbitmq/advanced.config; read when a queue is made.
    let again = "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 2000).";
    node.ctl(&["eval", again]).await;
    let way = Way::to(&node.url);
    let narrow = format!("^{}\\.submit$", way.prefix);
    let policy = ["set_policy", "--priority", "200", &way.prefix, &narrow, r#"{"max-length": 40}"#];
    node.ctl(&policy).await;
    let transport = Transport::amqp(&way, &[SHORT]).await;
    let submit = transport.names.submit();
    let all = ids("m", 60);
    for id in &all {
        transport.retry(SHORT, id).await.expect("it is taken");
    }
    until("the queue is full", async || match transport.broker.queue_status(&submit).await {
        Ok(status) if status.ready >= 40 => Ok(()),
        status => Err(format!("{status:?}")),
    })
    .await;
    let mut subscription = transport.read(&submit, 10).await;
    let mut seen = BTreeSet::new();
    while seen.len() < all.len() {
        let delivery = next(&mut subscription).await;
        delivery.settler.settle(Settle::Ack).await;
        seen.insert(body(&delivery));
    }
    drop(subscription);
    transport.leave().await;
}

#[tokio::test]
async fn declaring_twice_changes_nothing_and_a_difference_is_told_with_its_mend() {
    let way = Way::to(&amqp_url());
    let transport = Transport::amqp(&way, &[SHORT]).await;
    let topology = transport.broker.topology().clone();
    amqp::topology::declare(&way.address(), &topology).await.expect("the same again");
    let findings = amqp::topology::check(&way.address(), &topology).await.expect("it answers");
    assert!(findings.iter().all(|finding| finding.fault.is_none()), "{findings:?}");
    let mut other = Topology::new(Names::new(&way.prefix), &[SHORT]);
    for queue in &mut other.queues {
        queue.ttl = queue.ttl.map(|ttl| ttl * 2);
    }
    let error = amqp::topology::declare(&way.address(), &other).await.expect_err("it differs");
    let queue = transport.names.retry_queue(SHORT);
    assert!(error.0.contains(&format!("queue {queue} exists with other arguments")), "{error}");
    assert!(error.0.contains("delete it once it is empty, or choose another amqp.prefix"));
    let findings = amqp::topology::check(&way.address(), &other).await.expect("it answers");
    let faults: Vec<_> = findings.into_iter().filter(|finding| finding.fault.is_some()).collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].what, format!("queue {queue}"));
    transport.end().await;
}

async fn until_swallowed(proxy: &Proxy, bytes: usize) {
    until("confirms are swallowed", async || match proxy.swallowed() {
        swallowed if swallowed >= bytes => Ok(()),
        swallowed => Err(format!("{swallowed} bytes")),
    })
    .await;
}

/// Reads until the subscription says that it is lost.
async fn until_lost(subscription: &mut Box<dyn Subscription>) {
    let lost = async {
        while let Ok(delivery) = subscription.next().await {
            assert!(delivery.is_some(), "a loss is no good end");
        }
    };
    tokio::time::timeout(PATIENCE, lost).await.expect("the loss is told");
}

/// Closes every connection whose name begins with `name`, as an operator would.
async fn close_connections(node: &Node, name: &str) {
    let list = node.ctl(&["list_connections", "pid", "client_properties"]).await;
    let ours: Vec<&str> = list.lines().filter(|line| line.contains(name)).collect();
    assert_eq!(ours.len(), 2, "one to publish, one to read: {list}");
    for line in ours {
        let pid = line.split('\t').next().expect("a line has fields");
        node.ctl(&["close_connection", pid, "test"]).await;
    }
}
