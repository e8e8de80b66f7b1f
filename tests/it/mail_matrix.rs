//! What a real mail server can answer, at each command, for each of three receivers: who gets the mail, what is
//! shown, and what is sent again.

use order_relay::ports::notices::{MailDelivery, MailStatus, StoredMail};

use crate::smtp::{Answer, Rule, Stage};
use crate::world::{Place, World, order_that};

const RECEIVERS: [&str; 3] = ["one@example.com", "two@example.com", "three@example.com"];

async fn world() -> World {
    let mut world = World::new(Place::Embedded).await;
    world.set("mail.receiver", &RECEIVERS.join(", "));
    world.set("mail.patience", "500ms");
    world.serve().await;
    world
}

/// The mail about this order, as soon as `is_so`.
async fn mail_about(world: &mut World, order: &str, is_so: fn(&StoredMail) -> bool) -> StoredMail {
    let store = world.store().await;
    let about = format!("Order {order} ");
    let found = async || {
        let mails = store.list_mails(None, 200).await.map_err(|error| error.to_string())?;
        let mail = mails.into_iter().find(|mail| mail.mail.subject.starts_with(&about));
        mail.filter(is_so).ok_or_else(|| "not yet".to_owned())
    };
    world
        .until(&format!("the mail about {order} is tried"), async || found().await.map(drop))
        .await;
    found().await.expect("it was there")
}

fn all_tried(mail: &StoredMail) -> bool {
    mail.deliveries.iter().all(|d| d.status != MailStatus::Waiting || d.error.is_some())
}

fn all_settled(mail: &StoredMail) -> bool {
    mail.deliveries.iter().all(|d| d.status != MailStatus::Waiting)
}

/// How often each receiver got the mail with this Message-ID.
fn got(world: &World, mail: &StoredMail) -> [usize; 3] {
    let mails = world.post.mails();
    RECEIVERS.map(|receiver| {
        let same = |id: String| format!("<{id}>") == mail.mail.message_id;
        mails.iter().filter(|m| m.receivers == [receiver] && same(m.id())).count()
    })
}

#[tokio::test]
async fn an_answer_about_one_receiver_concerns_that_receiver_alone() {
    use Answer::{Closes, Hangs, IsSlow, Says};
    let mut world = world().await;
    let answers = [
        (Says("450 4.2.0 mailbox busy"), MailStatus::Waiting, "450"),
        (Says("550 5.1.1 no such user"), MailStatus::Failed, "550"),
        (Hangs, MailStatus::Waiting, "did not answer in time"),
        (Closes, MailStatus::Waiting, ""),
        (IsSlow(50), MailStatus::Sent, ""),
    ];
    let mut number = 0;
    for stage in [Stage::RcptTo, Stage::Data, Stage::Content] {
        for (answer, status, told) in answers {
            for place in 0..RECEIVERS.len() {
                let cell = format!("{answer:?} at {stage:?} for receiver {place}");
                let receiver = Some(RECEIVERS[place].to_owned());
                world.post.rules(vec![Rule { stage, receiver, answer }]);
                let order = format!("M-{number:02}");
                number += 1;
                world.place(&[order_that(&order, "reject")]).await;
                let mail = mail_about(&mut world, &order, all_tried).await;
                for (at, delivery) in mail.deliveries.iter().enumerate() {
                    let error = delivery.error.as_deref().unwrap_or_default();
                    if at == place {
                        assert_eq!(delivery.status, status, "{cell}: {delivery:?}");
                        assert!(error.contains(told), "{cell}: {error}");
                    } else {
                        let expected = (MailStatus::Sent, "", 1);
                        assert_eq!((delivery.status, error, delivery.tries), expected, "{cell}");
                    }
                }
                world.post.rules(Vec::new());
                world.tamper("UPDATE mail_deliveries SET due_at_ms = 0").await;
                let mail = mail_about(&mut world, &order, all_settled).await;
                let mut expected = [1; 3];
                if status == MailStatus::Failed {
                    expected[place] = 0;
                }
                assert_eq!(got(&world, &mail), expected, "{cell}");
                assert_eq!(mail.status, MailStatus::Sent, "{cell}: somebody got it");
            }
        }
    }
    let counts = world.store().await.count_mails().await.expect("the ledger answers");
    assert_eq!((counts.failed, counts.unheard), (9, 0), "a 550 at each of three commands");
    world.end().await;
}

#[tokio::test]
async fn an_answer_about_the_server_delays_everybody_and_shows_no_stranger() {
    use Answer::{Closes, Hangs, Says};
    let mut world = world().await;
    let first = || Some(RECEIVERS[0].to_owned());
    let cases = [
        (Stage::Greeting, None, Says("554 no service here")),
        (Stage::Greeting, None, Says("421 come back later")),
        (Stage::Greeting, None, Hangs),
        (Stage::Greeting, None, Closes),
        (Stage::MailFrom, None, Says("421 closing")),
        (Stage::MailFrom, None, Says("530 5.7.0 authenticate first")),
        (Stage::RcptTo, first(), Says("421 4.7.0 too many for one@example.com")),
        (Stage::Data, first(), Says("421 4.3.2 one@example.com shuts down")),
        (Stage::Content, first(), Says("421 4.3.2 one@example.com shuts down")),
    ];
    for (number, (stage, receiver, answer)) in cases.into_iter().enumerate() {
        let cell = format!("{answer:?} at {stage:?}");
        world.post.rules(vec![Rule { stage, receiver, answer }]);
        let order = format!("S-{number:02}");
        world.place(&[order_that(&order, "reject")]).await;
        let mail = mail_about(&mut world, &order, all_tried).await;
        for delivery in &mail.deliveries {
            assert_ne!(delivery.status, MailStatus::Failed, "{cell}: {delivery:?}");
            let error = delivery.error.as_deref().unwrap_or_default();
            let is_strange = error.contains("one@") && delivery.receiver != RECEIVERS[0];
            assert!(!is_strange, "{cell}: {} is shown {error}", delivery.receiver);
        }
        assert_eq!(mail.status, MailStatus::Waiting, "{cell}");
        world.post.rules(Vec::new());
        world.tamper("UPDATE mail_deliveries SET due_at_ms = 0").await;
        let mail = mail_about(&mut world, &order, all_settled).await;
        assert_eq!(got(&world, &mail), [1, 1, 1], "{cell}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_alert_that_nobody_got_is_loud_on_every_page_and_in_check() {
    let mut world = world().await;
    let refuse = |receiver: &str| Rule {
        stage: Stage::RcptTo,
        receiver: Some(receiver.to_owned()),
        answer: Answer::Says("550 5.1.1 no such user"),
    };
    world.post.rules(vec![refuse(RECEIVERS[0])]);
    world.place(&[order_that("1", "reject")]).await;
    mail_about(&mut world, "1", all_settled).await;
    let (code, told) = check(&mut world).await;
    assert_eq!(code, Some(0), "others know: {told}");
    assert!(told.contains("one@example.com is refused") && told.contains("550"), "{told}");
    world.post.rules(RECEIVERS.map(refuse).to_vec());
    world.place(&[order_that("2", "reject")]).await;
    let mail = mail_about(&mut world, "2", all_settled).await;
    assert!(mail.is_unheard());
    let refused = |d: &MailDelivery| d.error.as_deref().unwrap_or_default().contains("RCPT TO");
    assert!(mail.deliveries.iter().all(refused), "{mail:?}");
    let (code, told) = check(&mut world).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("1 reached no administrator"), "{told}");
    assert!(world.logs().contains("mail.unheard"), "{}", world.logs());
    let listed = world.ok(&["mails", "list", "--status", "failed"]).await;
    assert!(listed.contains("one@example.com") && listed.contains("Order 1 failed"), "{listed}");
    let shown = world.ok(&["mails", "show", &mail.id.to_string()]).await;
    assert!(shown.contains("two@example.com failed (attempts: 1): RCPT TO"), "{shown}");
    world.end().await;
}

/// The exit code of `check`, and what it says.
async fn check(world: &mut World) -> (Option<i32>, String) {
    let output = world.run(&["check"]).await;
    let (said, _) = crate::world::texts(&output);
    (output.status.code(), said)
}

#[tokio::test]
async fn a_mail_that_the_release_before_has_written_is_sent() {
    let mut world = world().await;
    world.place(&[order_that("1", "reject")]).await;
    world.until_settled(1).await;
    let sent = world.post.mails().len();
    world
        .tamper(
            "INSERT INTO mails (id, audience, kind, sender, receivers, subject, text_body, html_body,
               message_id, status, due_at_ms, created_at_ms)
             SELECT '0198aaaa-0000-7000-8000-000000000000', audience, kind, sender, receivers,
               'From before', text_body, html_body, '<before@example.com>', 'waiting', 0, created_at_ms
             FROM mails",
        )
        .await;
    world.until_settled(1).await;
    let mails = world.post.mails();
    assert_eq!(mails.len(), sent + 3);
    assert!(mails[sent..].iter().all(|mail| mail.subject() == "From before"));
    world.end().await;
}

#[tokio::test]
async fn addresses_outside_ascii_go_where_the_server_takes_them() {
    const RECEIVERS: [&str; 3] = ["chef@bücher.example", "jürgen@example.com", "plain@example.com"];
    const A_LABEL: &str = "chef@xn--bcher-kva.example";
    let with: &'static [&'static str] = &["8BITMIME", "SMTPUTF8"];
    for (offers, takes_all) in [(with, true), (&with[..1], false)] {
        let mut world = World::new(Place::Embedded).await;
        world.post.offers(offers);
        world.set("mail.receiver", &RECEIVERS.join(", "));
        world.serve().await;
        world.place(&[order_that("1", "reject")]).await;
        let mail = mail_about(&mut world, "1", all_settled).await;
        let mails = world.post.mails();
        let mut to: Vec<String> = mails.iter().map(|mail| mail.header("To: ")).collect();
        to.sort_unstable();
        let mut got: Vec<String> = mails.into_iter().flat_map(|mail| mail.receivers).collect();
        got.sort_unstable();
        let mut expected = vec![A_LABEL, RECEIVERS[1], RECEIVERS[2]];
        if !takes_all {
            expected.remove(1);
            assert_eq!(mail.deliveries[1].status, MailStatus::Failed);
            let error = mail.deliveries[1].error.as_deref().unwrap_or_default();
            assert!(error.contains("does not offer SMTPUTF8"), "{error}");
        }
        assert_eq!(
            (got, to),
            (
                expected.iter().map(|one| (*one).to_owned()).collect(),
                expected.iter().map(|one| (*one).to_owned()).collect()
            )
        );
        world.end().await;
    }
}

#[tokio::test]
async fn a_digest_is_split_until_the_server_takes_it_and_names_every_order_once() {
    const ORDERS: usize = 300;
    const MOST: usize = 40_000;
    let mut world = World::new(Place::Embedded).await;
    world.set("mail.digest_after", "1");
    world.set("mail.digest_every", "5s");
    world.post.takes_at_most(MOST);
    world.serve().await;
    let orders: Vec<String> =
        (0..ORDERS).map(|n| order_that(&format!("D-{n:03}"), "reject")).collect();
    world.place(&orders).await;
    world.until_settled(ORDERS as u64).await;
    let mails = world.post.mails();
    assert!(mails.iter().all(|mail| mail.data.len() <= MOST));
    let lists: Vec<String> = mails.iter().map(|mail| mail.attachment() + &mail.subject()).collect();
    for n in 0..ORDERS {
        let id = format!("D-{n:03}");
        let naming = lists.iter().filter(|list| list.contains(&id)).count();
        assert_eq!(naming, 1, "{id}");
    }
    let split = world.ok(&["mails", "list", "--status", "split"]).await;
    assert!(split.contains("failed transfers"), "a digest was split: {split}");
    world.end().await;
}
