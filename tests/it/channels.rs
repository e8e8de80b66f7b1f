//! Channels over real HTTP: what each answer leads to, signatures, addresses that must not be reached, secrets that must
//! not be seen, the commands, the pages and the API.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use order_relay::adapters::channels::compose::MessageComposer;
use order_relay::adapters::channels::http::HttpChannels;
use order_relay::config::settings::Settings;
use order_relay::config::sources::SettingsFile;
use order_relay::domain::channel::Channel;
use order_relay::ports::channels::{ChannelComposer, ChannelError, ChannelSender};
use order_relay::ports::clock::{Clock, SystemClock};
use reqwest::Method;
use ring::hmac;
use serde_json::json;
use tokio::task::JoinSet;

use crate::people::{Browser, add_user, client, log_in};
use crate::receiver::{Receiver, Request, Turn};
use crate::world::{Place, World, in_both_places, order_that, texts};

in_both_places!(
    a_failed_order_reaches_a_webhook_signed_and_once,
    a_refused_channel_is_loud_until_it_takes_a_message,
);

const KEY: [u8; 32] = *b"thirty-two bytes of a test's key";

fn secret() -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(KEY))
}

/// A channel as the settings describe it.
fn channel(settings: &[(&str, &str)]) -> Channel {
    let env = settings.iter().map(|(key, value)| {
        (format!("ORDER_RELAY__CHANNELS__OPS__{}", key.to_uppercase()), (*value).to_owned())
    });
    let settings = Settings::load(SettingsFile::None, env, &[]);
    settings.unwrap_or_else(|faults| panic!("{faults:?}")).channels.remove(0)
}

/// Sends a test message.
async fn send(channel: &Channel) -> Result<(), ChannelError> {
    order_relay::app::commands::install_tls();
    let channels = HttpChannels::new(Arc::new(SystemClock)).expect("a client");
    let id = SystemClock.unique_id();
    let composer = MessageComposer::new("https://relay.example.com");
    let message = composer.test(channel, id, SystemClock.now());
    channels.send(channel, id, &message.content).await
}

fn local(receiver: &Receiver, more: &[(&str, &str)]) -> Channel {
    let url = receiver.url();
    let mut settings =
        vec![("url", url.as_str()), ("allow_private", "true"), ("patience", "300ms")];
    settings.extend(more);
    channel(&settings)
}

/// Verifies a signature, by the specification alone.
fn is_signed(request: &Request) -> bool {
    let header = |name| request.header(name).expect("the header is there");
    let mut signed =
        format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(&request.body);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY);
    let expected = format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(&key, &signed)));
    header("webhook-signature").split(' ').any(|one| one == expected)
}

#[tokio::test]
async fn each_answer_leads_to_what_the_documentation_says() {
    let mut tasks = JoinSet::new();
    let receiver = Receiver::start(&mut tasks).await;
    let channel = local(&receiver, &[]);
    let answer = |status, headers: &str| Turn::Answer(status, headers.to_owned());
    let is_away = |told: &ChannelError| matches!(told, ChannelError::Away { .. });
    let is_later = |told: &ChannelError| matches!(told, ChannelError::Later(_));
    let is_never = |told: &ChannelError| matches!(told, ChannelError::Never(_));
    let is_large = |told: &ChannelError| matches!(told, ChannelError::TooLarge(_));
    let waits = |told: &ChannelError| matches!(told, ChannelError::Away { retry_after: Some(wait), .. } if wait.as_secs() == 7);
    let redirect = format!("location: http://{}/elsewhere\r\n", receiver.address);
    type Expected<'a> = (&'a str, Turn, &'a dyn Fn(&ChannelError) -> bool);
    let cases: [Expected<'_>; 12] = [
        ("500", answer(500, ""), &is_later),
        ("502", answer(502, ""), &is_later),
        ("429 with Retry-After", answer(429, "retry-after: 7\r\n"), &waits),
        ("503 with Retry-After", answer(503, "retry-after: 7\r\n"), &waits),
        ("hangs", Turn::Hang, &is_away),
        ("closes", Turn::Close, &is_away),
        ("302", answer(302, &redirect), &is_never),
        ("307", answer(307, &redirect), &is_never),
        ("410", answer(410, ""), &is_never),
        ("400", answer(400, ""), &is_never),
        ("404", answer(404, ""), &is_never),
        ("413", answer(413, ""), &is_large),
    ];
    for (name, turn, is_expected) in cases {
        receiver.next(turn);
        let told = send(&channel).await.expect_err(name);
        assert!(is_expected(&told), "{name}: {told:?}");
        assert!(!told.to_string().contains("s3cret"), "{name}: {told}");
    }
    assert_eq!(receiver.requests().len(), 12, "no redirect was followed");
    send(&channel).await.expect("it takes what follows");
}

#[tokio::test]
async fn nobody_listens_is_no_secret() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/s3cret", listener.local_addr().expect("a port"));
    drop(listener);
    let told = send(&channel(&[("url", &url), ("allow_private", "true")])).await.expect_err("away");
    assert!(matches!(told, ChannelError::Away { .. }), "{told:?}");
    assert!(!told.to_string().contains("s3cret"), "{told}");
}

#[tokio::test]
async fn an_address_that_is_not_public_is_never_connected_to() {
    let mut tasks = JoinSet::new();
    let receiver = Receiver::start(&mut tasks).await;
    let port = receiver.address.port();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0"] {
        let url = format!("https://{host}:{port}/hook");
        let told = send(&channel(&[("url", &url)])).await.expect_err(host);
        assert!(matches!(told, ChannelError::Never(_)), "{host}: {told:?}");
        assert!(told.to_string().contains("not on the public internet"), "{host}: {told}");
    }
    let told = send(&channel(&[("url", &receiver.url())])).await.expect_err("http");
    assert!(told.to_string().contains("http:// is not encrypted"), "{told}");
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn a_body_by_a_template_and_a_token_are_sent_as_ntfy_wants_them() {
    let mut tasks = JoinSet::new();
    let receiver = Receiver::start(&mut tasks).await;
    let body = r#"{"topic": "orders", "title": {{ title|tojson }}, "message": {{ text|tojson }}, "priority": {{ priority }}}"#;
    let channel = local(&receiver, &[("body", body), ("authorization", "Bearer tk_s3cret")]);
    send(&channel).await.expect("it is taken");
    let request = receiver.requests().remove(0);
    assert_eq!(request.header("authorization"), Some("Bearer tk_s3cret"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.json()["topic"], "orders");
    assert_eq!(request.json()["priority"], 2);
    assert!(request.header("webhook-signature").is_none());
    assert!(request.line.starts_with("POST /hook/"), "{}", request.line);
}

#[tokio::test]
async fn a_test_of_pagerduty_triggers_and_resolves() {
    let mut tasks = JoinSet::new();
    let receiver = Receiver::start(&mut tasks).await;
    let channel = local(&receiver, &[("type", "pagerduty"), ("key", "routing-s3cret")]);
    receiver.answers(202);
    send(&channel).await.expect("it is taken");
    let bodies: Vec<serde_json::Value> = receiver.requests().iter().map(Request::json).collect();
    let actions: Vec<&str> =
        bodies.iter().filter_map(|body| body["event_action"].as_str()).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    assert_eq!(bodies[0]["dedup_key"], bodies[1]["dedup_key"]);
    assert_eq!(bodies[0]["routing_key"], "routing-s3cret");
    assert_eq!(bodies[0]["payload"]["severity"], "info");
}

/// A world with one channel to a receiver.
async fn world_with(place: Place, tasks: &mut JoinSet<()>) -> (World, Receiver) {
    let mut world = World::new(place).await;
    let receiver = Receiver::start(tasks).await;
    world.set("channels.ops.url", &receiver.url());
    world.set("channels.ops.allow_private", "true");
    world.set("channels.ops.kinds", "order_failed");
    world.set(
        "channels.ops.secret",
        &format!("{},whsec_{}", secret(), BASE64_STANDARD.encode([1; 24])),
    );
    (world, receiver)
}

/// A page as its reader sees it.
async fn page(world: &World, browser: &Browser, path: &str) -> String {
    let answer = browser.request(Method::GET, &world.web(path)).send().await;
    answer.expect("the web port answers").text().await.expect("text")
}

/// What a command says that fails.
async fn fails(world: &World, arguments: &[&str]) -> String {
    let output = world.run(arguments).await;
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let (out, error) = texts(&output);
    out + &error
}

async fn until_got(world: &World, receiver: &Receiver, count: usize) {
    world
        .until("the channel is told", async || match receiver.requests().len() {
            got if got >= count => Ok(()),
            got => Err(format!("{got} requests")),
        })
        .await;
}

async fn a_failed_order_reaches_a_webhook_signed_and_once(place: Place) {
    let mut tasks = JoinSet::new();
    let (mut world, receiver) = world_with(place, &mut tasks).await;
    world.serve().await;
    world.place(&[order_that("1", "reject")]).await;
    until_got(&world, &receiver, 1).await;
    let request = receiver.requests().remove(0);
    assert!(is_signed(&request), "{request:?}");
    assert_eq!(request.header("webhook-signature").map(|all| all.split(' ').count()), Some(2));
    let body = request.json();
    assert_eq!(body["type"], "order_failed");
    assert_eq!(body["data"]["failures"]["orders"][0]["order_id"], "1");
    world.until_settled(1).await;
    let listed = world.ok(&["channels", "list", "--output", "json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((&listed[0]["state"], &listed[0]["delivered"]), (&json!("ok"), &json!(1)));
    let tested = world.ok(&["channels", "test", "ops"]).await;
    assert!(tested.contains("delivered"), "{tested}");
    let messages = world.ok(&["channels", "messages", "--channel", "ops"]).await;
    assert!(messages.contains("order_failed") && messages.contains("test"), "{messages}");
    assert_eq!(receiver.requests().len(), 2, "once, and the test");
    let shown = world.ok(&["config", "show"]).await;
    let everything = format!("{shown}{listed}{messages}{}", world.logs());
    for hidden in ["s3cret", &secret()[8..]] {
        assert!(!everything.contains(hidden), "{hidden} is seen");
    }
    world.end().await;
}

async fn a_refused_channel_is_loud_until_it_takes_a_message(place: Place) {
    let mut tasks = JoinSet::new();
    let (mut world, receiver) = world_with(place, &mut tasks).await;
    receiver.answers(410);
    world.serve().await;
    let token = world.token("admin").await;
    world.place(&[order_that("1", "reject")]).await;
    until_got(&world, &receiver, 1).await;
    let password = add_user(&world, "erika", &["admin"]).await;
    let erika = log_in(&world, "erika", &password).await;
    world
        .until("it is red on every page", async || {
            let page = page(&world, &erika, "/orders").await;
            match page.contains("Channels that refuse their messages: ops") {
                true => Ok(()),
                false => Err(page),
            }
        })
        .await;
    let checked = fails(&world, &["check"]).await;
    assert!(checked.contains("channel (ops)") && checked.contains("it answers 410"), "{checked}");
    let listed = fails(&world, &["channels", "list"]).await;
    assert!(listed.contains("refused"), "{listed}");
    assert!(world.logs().contains("channel.refused"));
    let failed =
        world.ok(&["channels", "messages", "--status", "failed", "--output", "json"]).await;
    let failed: serde_json::Value = serde_json::from_str(&failed).expect("JSON");
    let id = failed[0]["id"].as_str().expect("an id").to_owned();
    receiver.answers(204);
    let address = world.web(&format!("/api/v1/channel-messages/{id}/resend"));
    let resent = client().request(Method::POST, address).bearer_auth(&token).send().await;
    assert_eq!(resent.expect("an answer").status(), 200);
    until_got(&world, &receiver, 2).await;
    let ids: Vec<Option<String>> = receiver
        .requests()
        .iter()
        .map(|request| request.header("webhook-id").map(str::to_owned))
        .collect();
    assert_eq!(ids[0], ids[1], "it keeps its id");
    world
        .until("it is well again", async || {
            let page = page(&world, &erika, "/orders").await;
            match page.contains("refuse their messages") {
                true => Err(page),
                false => Ok(()),
            }
        })
        .await;
    let audit = world.ok(&["audit", "--action", "channel."]).await;
    assert!(audit.contains("channel.resend"), "{audit}");
    world.end().await;
}

#[tokio::test]
async fn a_channel_is_made_on_the_page_and_shows_no_secret_again() {
    let mut tasks = JoinSet::new();
    let mut world = World::new(Place::Embedded).await;
    let receiver = Receiver::start(&mut tasks).await;
    world.serve().await;
    let password = add_user(&world, "erika", &["admin"]).await;
    let erika = log_in(&world, "erika", &password).await;
    let url = receiver.url();
    let fields = [
        ("name", "chat"),
        ("version", "0"),
        ("type", "webhook"),
        ("enabled", "true"),
        ("url", &url),
    ];
    let save = async |fields: &[(&str, &str)]| {
        let answer = erika.post(&world.web("/channels"), fields).await;
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    // The page reaches the public internet only, whatever is typed.
    let (_, told) = save(&fields).await;
    assert!(told.contains("http:&#x2f;&#x2f; is not encrypted"), "{told}");
    let (_, told) =
        save(&[fields[0], fields[1], fields[2], fields[3], ("url", "https://127.0.0.1/s3cret")])
            .await;
    assert!(told.contains("not on the public internet"), "{told}");
    let good = [
        fields[0],
        fields[1],
        fields[2],
        fields[3],
        ("url", "https://hooks.example.com/s3cret"),
        ("secret", &secret()),
        ("threshold", "3 orders in 15m"),
    ];
    assert_eq!(save(&good).await.0, 303);
    let seen = [
        page(&world, &erika, "/channels").await,
        page(&world, &erika, "/channels/chat/edit").await,
    ]
    .concat();
    assert!(
        seen.contains("chat")
            && seen.contains("hooks.example.com")
            && seen.contains("3 orders in 15m")
    );
    assert!(!seen.contains("s3cret") && !seen.contains(&secret()), "{seen}");
    // What is left empty stays; the other fields change.
    let changed = [
        ("name", "chat"),
        ("version", "1"),
        ("type", "webhook"),
        ("enabled", "true"),
        ("threshold", "5 orders in 15m"),
    ];
    assert_eq!(save(&changed).await.0, 303);
    let (_, stale) = save(&changed).await;
    assert!(stale.contains("was changed meanwhile"), "{stale}");
    let stored = world.store().await.stored_channels().await.expect("the ledger answers");
    assert!(stored[0].definition.contains("hooks.example.com/s3cret"));
    let listed = world.ok(&["channels", "list"]).await;
    assert!(listed.contains("chat") && listed.contains("page"), "{listed}");
    let answer = erika.post(&world.web("/channels/chat/delete"), &[]).await;
    assert_eq!(answer.status().as_u16(), 303);
    assert!(world.store().await.stored_channels().await.expect("an answer").is_empty());
    let audit = world.ok(&["audit", "--action", "channel.", "--output", "json"]).await;
    for action in ["channel.create", "channel.change", "channel.delete"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
    assert!(!audit.contains("s3cret"), "{audit}");
    world.end().await;
}
