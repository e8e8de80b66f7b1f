//! Mails over real SMTP: encrypted and with a password, hostile data, templates, languages,
//! digests, and sending again without duplicates.

use order_relay::ports::notices::{MailStatus, StoredMail};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::smtp::{MailServer, Mood, Received, Security};
use crate::world::{Place, World, order, order_that, order_with};

const USER: &str = "relay";
const PASSWORD: &str = "s3cret/with:signs@";
const IN_URL: &str = "relay:s3cret%2Fwith%3Asigns%40";

/// An authority of the test's own, as PEM, and a server that it vouches for.
fn authority() -> (String, TlsAcceptor) {
    order_relay::app::commands::install_tls();
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&key).expect("it signs itself").pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let names = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = names.signed_by(&key, &issuer).expect("it is signed");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let chain = vec![certificate.der().clone()];
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    (pem, TlsAcceptor::from(std::sync::Arc::new(config.expect("it fits"))))
}

/// A world with a mail server of this kind; `url` says how it is reached at `localhost:PORT`.
async fn world_with(
    tasks: &mut JoinSet<()>,
    security: Security,
    url: impl Fn(u16) -> String,
) -> World {
    let mut world = World::new(Place::Embedded).await;
    world.post = MailServer::start(tasks, security).await;
    let url = url(world.post.address.port());
    world.set("mail.smtp_url", &url);
    world
}

fn trust(world: &mut World, pem: &str) {
    let path = world.folder.path().join("authority.pem");
    std::fs::write(&path, pem).expect("it can be written");
    world.set_variable("SSL_CERT_FILE", &path.display().to_string());
}

async fn mails(world: &mut World) -> Vec<StoredMail> {
    world.store().await.list_mails(None, 100).await.expect("the ledger answers")
}

/// Lets one order fail and waits until its mail is delayed.
async fn delayed(world: &mut World) -> StoredMail {
    world.serve().await;
    world.place(&[order_that("1", "reject")]).await;
    let store = world.store().await;
    world
        .until("the mail is delayed", async || {
            let mails = store.list_mails(None, 10).await.map_err(|error| error.to_string())?;
            match mails.first().and_then(StoredMail::error) {
                Some(_) => Ok(()),
                None => Err(format!("{mails:?}")),
            }
        })
        .await;
    let mail = mails(world).await.remove(0);
    assert_eq!(mail.status, MailStatus::Waiting, "{:?}", mail.error());
    assert!(world.post.mails().is_empty());
    let listed = world.ok(&["mails", "list", "--status", "waiting"]).await;
    assert!(listed.contains("Order 1 failed"), "it is visible: {listed}");
    assert!(!format!("{listed}{}", world.logs()).contains("s3cret"), "the password is in no log");
    mail
}

#[tokio::test]
async fn starttls_and_a_password_are_used() {
    let mut tasks = JoinSet::new();
    let (pem, tls) = authority();
    let security = Security::StartTls(tls, USER, PASSWORD);
    let url = |port| format!("smtp://{IN_URL}@localhost:{port}?tls=required");
    let mut world = world_with(&mut tasks, security, url).await;
    trust(&mut world, &pem);
    world.serve().await;
    world.place(&[order_that("1", "reject"), order_that("2", "busy, ok")]).await;
    world.until_settled(2).await;
    assert_eq!(world.post.mails().len(), 3);
    let checked = world.ok(&["check"]).await;
    assert!(checked.contains("mail server (default)") && !checked.contains("s3cret"), "{checked}");
    world.end().await;
}

#[tokio::test]
async fn tls_from_the_first_byte_is_spoken() {
    let mut tasks = JoinSet::new();
    let (pem, tls) = authority();
    let url = |port| format!("smtps://localhost:{port}");
    let mut world = world_with(&mut tasks, Security::Wrapped(tls), url).await;
    trust(&mut world, &pem);
    world.serve().await;
    world.place(&[order_that("1", "reject")]).await;
    world.until_settled(1).await;
    assert_eq!(world.post.mails().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_wrong_password_delays_mails_and_is_told() {
    let mut tasks = JoinSet::new();
    let (pem, tls) = authority();
    let security = Security::StartTls(tls, USER, PASSWORD);
    let url = |port| format!("smtp://relay:s3cret-but-wrong@localhost:{port}?tls=required");
    let mut world = world_with(&mut tasks, security, url).await;
    trust(&mut world, &pem);
    let error = delayed(&mut world).await.error().expect("it failed").to_owned();
    assert!(error.contains("535"), "{error}");
    world.end().await;
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_not_trusted() {
    let mut tasks = JoinSet::new();
    let (_, tls) = authority();
    let security = Security::StartTls(tls, USER, PASSWORD);
    let url = |port| format!("smtp://{IN_URL}@localhost:{port}?tls=required");
    let mut world = world_with(&mut tasks, security, url).await;
    let error = delayed(&mut world).await.error().expect("it failed").to_owned();
    assert!(error.contains("certificate") && error.contains("UnknownIssuer"), "{error}");
    world.end().await;
}

#[tokio::test]
async fn a_password_is_never_sent_in_the_clear() {
    let mut tasks = JoinSet::new();
    let url = |port| format!("smtp://{IN_URL}@localhost:{port}?tls=required");
    let mut world = world_with(&mut tasks, Security::None, url).await;
    let error = delayed(&mut world).await.error().expect("it failed").to_owned();
    assert!(error.to_ascii_uppercase().contains("STARTTLS"), "{error}");
    world.end().await;
}

/// The header part of a mail, folded lines joined.
fn headers(mail: &Received) -> Vec<String> {
    let text = String::from_utf8_lossy(&mail.data).into_owned();
    let (head, _) = text.split_once("\r\n\r\n").expect("a mail has a head");
    head.replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n").map(str::to_owned).collect()
}

#[tokio::test]
async fn order_data_cannot_write_headers_or_markup() {
    let mut world = World::new(Place::Embedded).await;
    world.set("mail.order_failed.subject", "{{ n.customer_name }} {{ n.message }}");
    world.serve().await;
    let hostile = "<script>alert(1)</script>{{ 70007*7 }}\r\nBcc: evil@example.com\r\n\r\nbody";
    let customer = json!({"email": "a@example.com", "name": hostile, "number": hostile});
    let lines = json!([{"sku": hostile, "quantity": 1, "unit_price": 1}]);
    let remark = "stub: reject, ok";
    let changes = json!({"customer": customer, "lines": lines, "remark": remark});
    world.place(&[order_with("1", &changes)]).await;
    world.until_settled(1).await;
    world.ok(&["lost-orders", "process", "1"]).await;
    world.until_settled(1).await;
    let mails = world.post.mails();
    assert_eq!(mails.len(), 2, "one to the administrators, one to the customer");
    for mail in mails {
        let heads = headers(&mail);
        let named = |name: &str| heads.iter().filter(|line| line.starts_with(name)).count();
        assert_eq!(
            (named("Bcc"), named("Subject:"), named("To:"), named("Message-ID:")),
            (0, 1, 1, 1),
            "{heads:?}"
        );
        assert_eq!(mail.receivers.len(), 1, "{:?}", mail.receivers);
        let html = mail.html();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
        for text in [&html, &mail.text()] {
            // A product that no time of day contains: the mail shows when it happened.
            assert!(text.contains("{{ 70007*7 }}") && !text.contains("490049"), "{text}");
            assert!(!text.contains("\nBcc:"), "{text}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn templates_of_a_folder_are_used_and_a_broken_one_is_replaced() {
    let mut world = World::new(Place::Embedded).await;
    let folder = world.folder.path().join("mail-templates");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("order_failed.txt"), "Own text of {{ n.order_id }}.")
        .expect("a file");
    std::fs::write(folder.join("order_failed.html"), "{{ n.nothing.at.all }}").expect("a file");
    world.set("mail.templates", &folder.display().to_string());
    world.serve().await;
    world.place(&[order_that("1", "reject")]).await;
    world.until_settled(1).await;
    let mail = world.admin_mails().remove(0);
    assert_eq!(mail.text().trim(), "Own text of 1.");
    assert!(mail.html().contains("Order 1 could not be transferred"), "{}", mail.html());
    let log = world.processes[0].log();
    let line = log.lines().find(|line| line.contains("mail.template_failed"));
    assert!(line.is_some_and(|line| line.contains("order_failed.html")), "the log says why: {log}");
    world.end().await;
}

#[tokio::test]
async fn a_template_that_cannot_be_read_is_named_at_the_start() {
    let mut world = World::new(Place::Embedded).await;
    let folder = world.folder.path().join("mail-templates");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("digest.txt"), "{% for x in %}").expect("a file");
    world.set("mail.templates", &folder.display().to_string());
    let output = world.run(&["serve"]).await;
    let (_, told) = crate::world::texts(&output);
    assert!(output.status.code() == Some(1) && told.contains("digest.txt"), "{told}");
    world.end().await;
}

#[tokio::test]
async fn customers_are_written_to_in_their_language() {
    let mut world = World::new(Place::Embedded).await;
    world.set("mail.customer_confirmation", "always");
    world.serve().await;
    let locales = [
        ("de", "de"),
        ("de-AT", "de"),
        ("DE_ch", "de"),
        ("en", "en"),
        ("fr", "en"),
        ("", "en"),
        ("german", "en"),
        ("den", "en"),
    ];
    let orders: Vec<String> = locales
        .iter()
        .enumerate()
        .map(|(n, (locale, _))| {
            let customer = json!({"email": format!("c{n}@example.com"), "locale": locale});
            order_with(&format!("C-{n}"), &json!({"customer": customer}))
        })
        .collect();
    world.place(&orders).await;
    world.until_settled(orders.len() as u64).await;
    let mails = world.post.mails();
    assert_eq!(mails.len(), locales.len(), "everybody is told");
    for (n, (locale, language)) in locales.iter().enumerate() {
        let to = format!("c{n}@example.com");
        let mail = mails.iter().find(|mail| mail.receivers == [to.as_str()]).expect("it came");
        let german = mail.subject().contains("Ihre Bestellung");
        assert_eq!(german, *language == "de", "{locale}: {}", mail.subject());
        assert!(mail.text().contains(&format!("C-{n}")), "{}", mail.text());
    }
    world.end().await;
}

#[tokio::test]
async fn customers_are_told_as_the_shop_wants_it() {
    let mut world = World::new(Place::Embedded).await;
    for (shop, when) in [("a", "always"), ("f", "after_failure"), ("n", "never")] {
        world.set(&format!("shops.{shop}.mail.customer_confirmation"), when);
    }
    world.serve().await;
    let mut orders = Vec::new();
    for shop in ["a", "f", "n"] {
        for (fate, modes) in [("smooth", "ok"), ("bumpy", "busy, ok")] {
            let customer = json!({"email": format!("{shop}-{fate}@example.com")});
            let remark = format!("stub: {modes}");
            orders.push(order_with(
                &format!("{shop}-{fate}"),
                &json!({"shop": shop, "customer": customer, "remark": remark}),
            ));
        }
    }
    world.place(&orders).await;
    world.until_settled(6).await;
    let mails = world.post.mails();
    let mut told: Vec<&str> = mails
        .iter()
        .map(|mail| mail.receivers[0].as_str())
        .filter(|to| !to.starts_with("admin"))
        .collect();
    told.sort_unstable();
    assert_eq!(told, ["a-bumpy@example.com", "a-smooth@example.com", "f-bumpy@example.com"]);
    world.end().await;
}

#[tokio::test]
async fn every_administrator_gets_the_mail_under_the_subject_that_was_set() {
    let mut world = World::new(Place::Embedded).await;
    world.set("mail.receiver", "admin-1@example.com, Admin Two <admin-2@example.com>");
    let subject =
        "[{{ n.shop }}] {{ n.order_id }}: {{ n.class }} {{ n.fail_count }}/{{ n.max_count }}";
    world.set("mail.order_failed.subject", subject);
    world.serve().await;
    world.place(&[order_with("1", &json!({"shop": "at", "remark": "stub: reject"}))]).await;
    world.until_settled(1).await;
    let mails = world.admin_mails();
    let mut receivers: Vec<&str> = mails.iter().map(|mail| &*mail.receivers[0]).collect();
    receivers.sort_unstable();
    assert_eq!(receivers, ["admin-1@example.com", "admin-2@example.com"], "each on its own");
    assert_eq!(mails[0].id(), mails[1].id());
    for mail in &mails {
        assert_eq!((mail.receivers.len(), &*mail.subject()), (1, "[at] 1: rejected 1/3"));
    }
    world.end().await;
}

#[tokio::test]
async fn what_fails_while_a_window_runs_arrives_in_its_digest() {
    let mut world = World::new(Place::Embedded).await;
    world.set("mail.digest_after", "2");
    world.set("mail.digest_every", "5s");
    world.serve().await;
    let failing = |range: std::ops::Range<u32>| -> Vec<String> {
        range.map(|n| order_that(&format!("D-{n:02}"), "reject")).collect()
    };
    world.place(&failing(0..1)).await;
    world.until_settled(1).await;
    world.place(&failing(1..12)).await;
    world.until_settled(12).await;
    let mails = world.admin_mails();
    for n in 0..12 {
        let id = format!("D-{n:02}");
        let names =
            |mail: &&Received| format!("{}{}", mail.attachment(), mail.subject()).contains(&id);
        assert_eq!(mails.iter().filter(names).count(), 1, "{id}");
    }
    let digests = mails.iter().filter(|mail| mail.subject().contains("failed transfers"));
    assert!(digests.count() >= 1 && mails.len() <= 6, "{} mails", mails.len());
    world.end().await;
}

#[tokio::test]
async fn a_mail_that_was_put_off_is_sent_under_the_same_id() {
    let mut world = World::new(Place::Embedded).await;
    world.post.set(Mood::Busy);
    let waiting = delayed(&mut world).await;
    assert!(waiting.error().is_some_and(|error| error.contains("451")), "{waiting:?}");
    world.post.set(Mood::Fine);
    world.tamper("UPDATE mail_deliveries SET due_at_ms = 0").await;
    world.until_settled(1).await;
    let sent = world.post.mails();
    assert_eq!(sent.len(), 1);
    assert_eq!(format!("<{}>", sent[0].id()), waiting.mail.message_id);
    let stored = mails(&mut world).await.remove(0);
    assert_eq!((stored.status, stored.error()), (MailStatus::Sent, None));
    assert!(stored.tries() >= 2, "{} tries", stored.tries());
    world.end().await;
}

#[tokio::test]
async fn a_mail_whose_sender_died_goes_out_again_under_the_same_id() {
    let mut world = World::new(Place::Embedded).await;
    world.set_variable("ORDER_RELAY_CRASH_AT", "mail_sent");
    world.serve().await;
    world.place(&[order_that("1", "reject")]).await;
    assert!(!world.dies().await.success());
    assert_eq!(world.post.mails().len(), 1, "the server has it, the ledger does not know");
    world.set_variable("ORDER_RELAY_CRASH_AT", "");
    world.tamper("UPDATE mail_deliveries SET claimed_until_ms = 0").await;
    world.serve().await;
    world.until_settled(1).await;
    let sent = world.post.mails();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].id(), sent[1].id(), "a mail program shows it once");
    assert_eq!(mails(&mut world).await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn without_a_mail_server_mails_are_kept_to_be_read() {
    let mut world = World::new(Place::Embedded).await;
    world.set("mail.smtp_url", "");
    world.serve().await;
    world.place(&[order_that("1", "reject"), order("2")]).await;
    world.until_settled(2).await;
    let kept = mails(&mut world).await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].status, MailStatus::Kept);
    let shown = world.ok(&["mails", "show", &kept[0].id.to_string()]).await;
    assert!(shown.contains("https://relay.example.com/orders/default/1"), "{shown}");
    world.end().await;
}
