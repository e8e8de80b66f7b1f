//! The process dies at each point where an effect has just become durable, or just before; it is
//! restarted, and every order must end as without the crash.

use std::os::unix::process::ExitStatusExt;

use order_relay::crash::CrashPoint;

use crate::receiver::Receiver;
use crate::redrives::{redrive_of, until_over};
use crate::world::{Place, World, order, order_that};

const AT: &str = "ORDER_RELAY_CRASH_AT";

/// The order that is under way when the process dies at `point`: what the ERP does with it, and
/// where it must end.
fn victim(place: Place, point: CrashPoint) -> (&'static str, &'static str) {
    use CrashPoint as C;
    const FINE: &str = "confirmed/transferred, failed 0, tries [1 ok], mails [], in the ERP 1";
    match point {
        C::Received | C::Admitted | C::Confirmed | C::Swept | C::DeadLetterRecorded => ("ok", FINE),
        // It went to the ERP a while ago.
        C::OrdersNoted | C::OrdersDeleted => ("ok", FINE),
        // The answer was not written down: the ERP is asked, and nothing is sent again.
        C::Answered => {
            ("ok", "confirmed/transferred, failed 0, tries [1 found], mails [], in the ERP 1")
        }
        // With the in-process broker the failure is lost with the process, and the same attempt is
        // made again.
        C::FailurePublished if place == Place::Embedded => ("busy, ok", FINE),
        C::FailurePublished | C::FailureRecorded | C::RetryPublished => (
            "busy, ok",
            "confirmed/transferred, failed 1, tries [1 unavailable http_503; 2 ok], \
             mails [order_failed, customer_confirmation], in the ERP 1",
        ),
        C::RedriveMarked | C::RedriveSettled => (
            "reject, ok",
            "confirmed/transferred, failed 1, tries [1 rejected http_422; 2 ok], \
             mails [order_failed, customer_confirmation], in the ERP 1",
        ),
        C::MailsComposed | C::MailSent | C::ChannelMessageSent => (
            "reject",
            "ordered_failed/parked, failed 1, tries [1 rejected http_422], \
             mails [order_failed], in the ERP 0",
        ),
    }
}

/// Lets the process die at `point`, starts another, and waits until everything is settled.
async fn survive(place: Place, point: CrashPoint) -> World {
    let mut world = World::new(place).await;
    world.set_short_leases();
    world.make_ready().await;
    // A broker leaves nothing lying: only a ledger that knows more than the broker gives the sweeper
    // something to do.
    let amqp = world.amqp.clone();
    let is_beside = place == Place::Embedded || point == CrashPoint::Swept;
    if is_beside {
        world.set("amqp.url", "");
    }
    if point == CrashPoint::ChannelMessageSent {
        let receiver = Receiver::beside(&mut world).await;
        world.set("channels.ops.url", &receiver.url());
        world.set("channels.ops.allow_private", "true");
        world.set("channels.ops.patience", "500ms");
    }
    world.set_variable(AT, point.as_str());
    let arguments: &[&str] = match point {
        // Only a failure that this process does not count itself is published.
        CrashPoint::FailurePublished => &["serve", "--roles", "submitter,sweeper"],
        _ => &["serve"],
    };
    world.launch(arguments);
    let order = order_that("victim", victim(place, point).0);
    if point == CrashPoint::DeadLetterRecorded {
        let exchange = world.name.clone();
        world.publish_bytes(&exchange, "order.placed", vec![b"{".to_vec()], &[]).await;
    } else if is_beside {
        // Not over the API, which may die while it answers.
        std::fs::write(world.folder.path().join("order.json"), &order).expect("a file");
        world.ok(&["publish", "order.json"]).await;
    } else {
        world.place(std::slice::from_ref(&order)).await;
    }
    let is_redrive = matches!(point, CrashPoint::RedriveMarked | CrashPoint::RedriveSettled);
    if is_redrive {
        world.until_phase("victim", "parked").await;
        redrive_of(&mut world, &["victim"]).await;
    }
    let status = world.dies().await;
    assert_eq!(status.signal(), Some(6), "it died by its own hand at {point:?}: {status}");
    world.set_variable(AT, "");
    if place == Place::Services {
        world.set("amqp.url", &amqp);
    }
    world.start(&["serve"]).await;
    if point == CrashPoint::DeadLetterRecorded {
        world.place(&[order]).await;
    }
    if is_redrive {
        world.until_phase("victim", "transferred").await;
        until_over(&mut world).await;
    }
    world.until_settled(1).await;
    world
}

/// The process dies while it takes an old order out: the next one finishes that, and the order is never entered again.
async fn dies_while_an_order_goes(place: Place, point: CrashPoint) {
    let mut world = World::new(place).await;
    world.set_short_leases();
    world.make_ready().await;
    world.start(&["serve"]).await;
    let victim = order("victim");
    world.place(std::slice::from_ref(&victim)).await;
    world.until_phase("victim", "transferred").await;
    world.stop().await;
    world.tamper("UPDATE order_states SET updated_at_ms = 1000").await;
    world.tamper("DELETE FROM leases").await;
    world.set("retention.confirmed", "400d");
    world.set_variable(AT, point.as_str());
    world.launch(&["serve"]);
    let status = world.dies().await;
    assert_eq!(status.signal(), Some(6), "it died by its own hand at {point:?}: {status}");
    world.set_variable(AT, "");
    let sound = world.ok(&["ledger", "check"]).await;
    assert!(sound.contains("difference 0") && sound.contains("is sound"), "{sound}");
    // The lease of the dead process would end in two minutes.
    world.tamper("DELETE FROM leases").await;
    world.start(&["serve"]).await;
    world
        .until("the order is gone", async || {
            let left = world.ok(&["ledger", "check"]).await;
            if left.contains("confirmed 0 + lost 0 + queued 0 + held 0 + gone 1") {
                Ok(())
            } else {
                Err(left)
            }
        })
        .await;
    world.place(&[victim, order("next")]).await;
    world.until_phase("next", "transferred").await;
    let sound = world.ok(&["ledger", "check"]).await;
    assert!(sound.starts_with("received 2 = confirmed 1 + lost 0"), "not again: {sound}");
    assert!(sound.contains("gone 1, difference 0"), "{sound}");
    assert_eq!(world.stub.orders()["victim"].documents.len(), 1);
    world.end().await;
}

async fn dies_at(place: Place, point: CrashPoint) {
    if matches!(point, CrashPoint::OrdersNoted | CrashPoint::OrdersDeleted) {
        return dies_while_an_order_goes(place, point).await;
    }
    let mut world = survive(place, point).await;
    let end = format!("default/victim: {}\n", victim(place, point).1);
    assert_eq!(world.snapshot().await, end);
    if point == CrashPoint::DeadLetterRecorded {
        let store = world.store().await;
        let letters = store.list_dead_letters(false, 10).await.expect("the ledger answers");
        assert_eq!(letters.len(), 1, "kept once, however often it came");
    }
    world.end().await;
}

/// One test for each point, named like it.
macro_rules! points {
    ($module:ident, $place:expr, $($name:ident = $point:ident),+ $(,)?) => {
        mod $module {
            use order_relay::crash::CrashPoint;
            use crate::world::Place;
            $(
                #[tokio::test]
                async fn $name() {
                    super::dies_at($place, CrashPoint::$point).await;
                }
            )+
            /// The points that are tested here.
            pub const TESTED: &[CrashPoint] = &[$(CrashPoint::$point),+];
        }
    };
}

points!(
    on_services,
    Place::Services,
    dies_with_a_delivery_in_hand = Received,
    dies_when_the_order_is_claimed = Admitted,
    dies_when_the_erp_has_answered = Answered,
    dies_when_the_receipt_is_written = Confirmed,
    dies_when_order_failed_is_published = FailurePublished,
    dies_when_the_failure_is_counted = FailureRecorded,
    dies_when_the_retry_is_published = RetryPublished,
    dies_when_mails_are_written = MailsComposed,
    dies_when_a_mail_is_sent = MailSent,
    dies_when_a_channel_is_told = ChannelMessageSent,
    dies_when_overdue_orders_are_marked = Swept,
    dies_when_a_dead_letter_is_kept = DeadLetterRecorded,
    dies_when_orders_of_a_redrive_are_marked = RedriveMarked,
    dies_when_orders_of_a_redrive_are_answered = RedriveSettled,
    dies_when_old_orders_are_noted = OrdersNoted,
    dies_when_old_orders_are_deleted = OrdersDeleted,
);

points!(
    embedded,
    Place::Embedded,
    dies_with_a_delivery_in_hand = Received,
    dies_when_the_order_is_claimed = Admitted,
    dies_when_the_erp_has_answered = Answered,
    dies_when_the_receipt_is_written = Confirmed,
    dies_when_order_failed_is_published = FailurePublished,
    dies_when_the_failure_is_counted = FailureRecorded,
    dies_when_the_retry_is_published = RetryPublished,
    dies_when_mails_are_written = MailsComposed,
    dies_when_a_mail_is_sent = MailSent,
    dies_when_a_channel_is_told = ChannelMessageSent,
    dies_when_overdue_orders_are_marked = Swept,
    dies_when_orders_of_a_redrive_are_marked = RedriveMarked,
    dies_when_orders_of_a_redrive_are_answered = RedriveSettled,
    dies_when_old_orders_are_noted = OrdersNoted,
    dies_when_old_orders_are_deleted = OrdersDeleted,
);

#[test]
fn every_crash_point_has_its_test() {
    for point in CrashPoint::ALL {
        assert!(on_services::TESTED.contains(&point), "{point:?} has no test on services");
        let needs_a_broker = point == CrashPoint::DeadLetterRecorded;
        assert!(needs_a_broker || embedded::TESTED.contains(&point), "{point:?} has none embedded");
    }
}

#[tokio::test]
async fn a_mail_that_was_sent_but_not_marked_comes_again_with_the_same_message_id() {
    let world = survive(Place::Services, CrashPoint::MailSent).await;
    let mut ids: Vec<String> = world.post.mails().iter().map(|mail| mail.id()).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(all - ids.len(), 1, "one mail came twice");
    world.end().await;
}

#[tokio::test]
async fn a_try_that_was_interrupted_is_told_when_the_erp_cannot_tell_yet() {
    let mut world = World::new(Place::Services).await;
    world.set_short_leases();
    world.set("erp.settle", "3s");
    world.make_ready().await;
    world.set_variable(AT, CrashPoint::Admitted.as_str());
    world.launch(&["serve"]);
    world.place(&[order("cut-off")]).await;
    world.dies().await;
    world.set_variable(AT, "");
    world.start(&["serve"]).await;
    world.until_settled(1).await;
    let end = "default/cut-off: confirmed/transferred, failed 1, \
               tries [1 unknown_outcome interrupted; 2 ok], \
               mails [order_failed, customer_confirmation], in the ERP 1\n";
    assert_eq!(world.snapshot().await, end);
    world.end().await;
}
