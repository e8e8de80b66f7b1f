//! Intake on the broker and by the API: good, malformed, or hostile messages.
//!
//! Good orders pass, whatever is sent between them; a message that cannot be accepted becomes one
//! dead letter with its reason and place; and the ERP gets what checkout sent, to the byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode};
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use order_relay::domain::lifecycle::vocabulary::OrderState;
use order_relay::ports::dead_letters::{DeadLetter, LISTED_BYTES};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::{Place, World, in_both_places, order, order_that, order_with};

const MIB: usize = 1 << 20;
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

in_both_places!(
    malformed_messages_between_good_ones_become_dead_letters,
    an_order_of_exactly_the_limit_is_taken,
    every_byte_of_an_order_reaches_the_erp,
);

/// A message that cannot be accepted: its name, its bytes, the reason and the place.
type Bad = (&'static str, Vec<u8>, &'static str, &'static str);

fn malformed() -> Vec<Bad> {
    let with = |name: &str, changes: Value| order_with(name, &changes).into_bytes();
    let edited = |from: &str, to: &str| order("edited").replacen(from, to, 1).into_bytes();
    let line = json!({"sku": "4711", "quantity": 1, "unit_price": "1"});
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let without = |field: &str| {
        let mut document: Value = serde_json::from_str(&order("without")).expect("JSON");
        document.as_object_mut().expect("an object").remove(field);
        document.to_string().into_bytes()
    };
    vec![
        ("empty", Vec::new(), "not_json", "line 1, column 0"),
        ("not UTF-8", [order("x").as_bytes(), b"\xff\xfe"].concat(), "not_utf8", "byte "),
        ("no JSON", b"order_id=1".to_vec(), "not_json", "line 1, column 1"),
        ("a list", b"[]".to_vec(), "schema", "/"),
        ("cut off", order("cut").as_bytes()[..60].to_vec(), "not_json", "line 1, column 60"),
        ("two documents", [order("a"), order("b")].concat().into_bytes(), "not_json", "line 1"),
        ("deep", edited("{", &format!("{{\"x\":{deep},")), "not_json", "line 1, column "),
        ("huge", with("huge", json!({"remark": "x".repeat(MIB)})), "too_large", ""),
        ("total of another type", with("t", json!({"total": [1]})), "schema", "/total"),
        ("lines of another type", with("t", json!({"lines": "none"})), "schema", "/lines"),
        ("customer of another type", with("t", json!({"customer": "x"})), "schema", "/customer"),
        ("a key twice", edited("{", "{\"total\":\"1\","), "duplicate_key", "/total"),
        (
            "a key twice within",
            edited("[{", "[{\"a\":{\"b\":1,\"b\":1},"),
            "duplicate_key",
            "/lines/0/a/b",
        ),
        ("a new order", with("n", json!({"state": "new"})), "invalid_state", "/state"),
        ("a confirmed order", with("n", json!({"state": "confirmed"})), "invalid_state", "/state"),
        ("no total", without("total"), "schema", "/"),
        (
            "a wrong address",
            with("n", json!({"customer": {"email": "x"}})),
            "schema",
            "/customer/email",
        ),
        ("no lines", with("n", json!({"lines": []})), "schema", "/lines"),
        ("10,001 lines", with("n", json!({"lines": vec![line; 10_001]})), "schema", "/lines"),
        ("a number with blanks", with("no blanks", json!({})), "schema", "/order_id"),
        ("a number with a break", with("a\r\nb", json!({})), "schema", "/order_id"),
        ("a long number", with(&"9".repeat(129), json!({})), "schema", "/order_id"),
        ("half a surrogate", edited("Erika", "\\ud800"), "not_json", "line 1, column "),
    ]
}

async fn dead_letters(world: &mut World) -> Vec<DeadLetter> {
    world.store().await.list_dead_letters(false, 1_000).await.expect("the ledger answers")
}

async fn until_dead_letters(world: &mut World, count: usize) -> Vec<DeadLetter> {
    let store = world.store().await;
    world
        .until("every bad message is a dead letter", async || {
            let kept = store.list_dead_letters(false, 1_000).await.map_err(|e| e.to_string())?;
            if kept.len() == count { Ok(()) } else { Err(format!("{} of {count}", kept.len())) }
        })
        .await;
    dead_letters(world).await
}

async fn post(world: &World, token: &str, body: impl Into<reqwest::Body>) -> Response {
    let request = reqwest::Client::new().post(world.web("/api/v1/orders")).bearer_auth(token);
    request.body(body).send().await.expect("the API answers")
}

async fn problem(response: Response) -> Value {
    let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
    assert_eq!(kind, "application/problem+json", "{}", response.status());
    let status = response.status().as_u16();
    let problem: Value =
        serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
    assert_eq!(problem["status"], status);
    for field in ["type", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
    }
    problem
}

/// Submits good and bad ones in turn; with the API each refusal is checked.
async fn hand_in(world: &mut World, bad: &[Bad], good: &[String]) {
    if world.place == Place::Services {
        let mut messages = Vec::new();
        for (n, (_, bytes, ..)) in bad.iter().enumerate() {
            messages.extend([bytes.clone(), good[n].clone().into_bytes()]);
        }
        let exchange = world.settings().amqp.prefix;
        world.publish_bytes(&exchange, "order.placed", messages, &[]).await;
        return;
    }
    let token = world.token("orders:publish").await;
    for (n, (name, bytes, reason, place)) in bad.iter().enumerate() {
        let refused = post(world, &token, bytes.clone()).await;
        let expected = if *reason == "invalid_state" { 409 } else { 422 };
        assert_eq!(refused.status().as_u16(), expected, "{name}");
        let problem = problem(refused).await;
        assert_eq!(problem["type"], format!("urn:order-relay:problem:{reason}"), "{name}");
        let told = problem["place"].as_str().unwrap_or_default();
        assert!(told.starts_with(place), "{name}: {problem}");
        assert_eq!(post(world, &token, good[n].clone()).await.status().as_u16(), 202);
    }
}

async fn malformed_messages_between_good_ones_become_dead_letters(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    let bad = malformed();
    let good: Vec<String> = (0..bad.len()).map(|n| order(&format!("good-{n}"))).collect();
    hand_in(&mut world, &bad, &good).await;
    world.until_settled(good.len() as u64).await;
    let kept = until_dead_letters(&mut world, bad.len()).await;
    for (name, bytes, reason, place) in &bad {
        let begin = &bytes[..bytes.len().min(LISTED_BYTES)];
        let letter = kept.iter().find(|letter| letter.body == begin && letter.size == bytes.len());
        let letter = letter.unwrap_or_else(|| panic!("{name}: its bytes are not kept"));
        assert_eq!(letter.reason, *reason, "{name}: {}", letter.detail);
        let told = letter.place.as_deref().unwrap_or_default();
        assert!(told.starts_with(place), "{name}: {told}: {}", letter.detail);
        assert_eq!((letter.seen, letter.status.as_str()), (1, "open"), "{name}");
        assert!(letter.detail.chars().count() < 500, "{name}: {}", letter.detail);
    }
    assert_eq!(world.stub.orders().len(), good.len(), "the ERP saw the good ones only");
    world.end().await;
}

async fn an_order_of_exactly_the_limit_is_taken(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    let padded = |id: &str, bytes: usize| {
        let empty = order_with(id, &json!({"remark": ""})).len();
        order_with(id, &json!({"remark": "x".repeat(bytes - empty)}))
    };
    let (whole, larger) = (padded("whole", MIB), padded("larger", MIB + 1));
    assert_eq!((whole.len(), larger.len()), (MIB, MIB + 1));
    if place == Place::Services {
        world.place(&[larger, whole.clone()]).await;
    } else {
        let token = world.token("orders:publish").await;
        assert_eq!(post(&world, &token, larger).await.status().as_u16(), 422);
        assert_eq!(post(&world, &token, whole.clone()).await.status().as_u16(), 202);
    }
    world.until_settled(1).await;
    assert!(*world.order("whole").await.document == *whole);
    assert_eq!(until_dead_letters(&mut world, 1).await[0].reason, "too_large");
    world.end().await;
}

/// An ERP that records its requests: headers and bodies.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<(HeaderMap, Bytes)>>>);

impl Captured {
    async fn serve(tasks: &mut JoinSet<()>) -> (Self, SocketAddr) {
        let captured = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let kept = captured.clone();
        let answer = move |method: Method, headers: HeaderMap, body: Bytes| async move {
            if method != Method::POST {
                return (StatusCode::NOT_FOUND, "{}".to_owned());
            }
            let mut kept = kept.0.lock().expect("no test panics here");
            kept.push((headers, body));
            (StatusCode::CREATED, format!(r#"{{"erp_order_id":"C-{}"}}"#, kept.len()))
        };
        let app = axum::Router::new().fallback(answer);
        tasks.spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        (captured, address)
    }

    fn all(&self) -> Vec<(HeaderMap, Bytes)> {
        self.0.lock().expect("no test panics here").clone()
    }
}

async fn every_byte_of_an_order_reaches_the_erp(place: Place) {
    let mut world = World::new(place).await;
    let mut tasks = JoinSet::new();
    let (captured, address) = Captured::serve(&mut tasks).await;
    world.set("erp.url", &format!("http://{address}/orders"));
    world.serve().await;
    let total = "123456789012345678901234567890.120";
    let text = order("digits")
        .replace("\"129.90\"", total)
        .replace("\"49.95\"", "4.995e+1")
        .replace("\"2\"", "-0.000000000000000000000000000020")
        .replacen('{', "{ \"x_new\" : [1.0 , 1.00, 1E5, {\"\\u00e4\": \"ä\\/\\u0000\"} ],\t", 1);
    world.place(std::slice::from_ref(&text)).await;
    world.until_settled(1).await;
    let sent = captured.all();
    let [(headers, body)] = sent.as_slice() else { panic!("{} requests", sent.len()) };
    assert_eq!(std::str::from_utf8(body).expect("text"), text);
    assert_eq!(headers["idempotency-key"], "default/digits");
    assert_eq!(headers["content-type"], "application/json");
    let stored = world.order("digits").await;
    assert_eq!((&*stored.document, stored.record.facts.total.as_str()), (&*text, total));
    world.end().await;
}

#[tokio::test]
async fn without_the_right_token_nothing_is_taken_in() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let url = world.web("/api/v1/orders");
    let (reads, publishes) =
        (world.token("orders:read").await, world.token("orders:publish").await);
    let client = reqwest::Client::new();
    for (authorization, status) in [
        (None, 401),
        (Some("Bearer ".to_owned()), 401),
        (Some("Bearer orl_made_up".to_owned()), 401),
        (Some(format!("Basic {publishes}")), 401),
        (Some(format!("Bearer {reads}")), 403),
    ] {
        let mut request = client.post(&url).body(order("1"));
        if let Some(value) = &authorization {
            request = request.header("authorization", value);
        }
        let refused = request.send().await.expect("the API answers");
        let asks = refused.headers().contains_key("www-authenticate");
        assert_eq!((refused.status().as_u16(), asks), (status, status == 401), "{authorization:?}");
        problem(refused).await;
    }
    // An unauthenticated client cannot make us buffer megabytes.
    let stranger = client.post(&url).body(vec![b'x'; 17 * MIB]).send().await;
    assert!(stranger.map_or(true, |response| response.status().as_u16() == 401));
    assert_eq!(world.store().await.count_received().await.expect("the ledger answers"), 0);
    assert!(dead_letters(&mut world).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn refused_lines_are_named_and_the_others_taken() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let token = world.token("orders:publish").await;
    let lines = [
        order("1"),
        "{".to_owned(),
        String::new(),
        order("2"),
        order_with("3", &json!({"total": null})),
        order("1"),
    ];
    let request = reqwest::Client::new().post(world.web("/api/v1/orders")).bearer_auth(&token);
    let request = request.header("content-type", "application/x-ndjson").body(lines.join("\r\n"));
    let problem = problem(request.send().await.expect("the API answers")).await;
    assert_eq!(problem["status"], 422);
    let refused: Vec<_> = problem["refused"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| (line["line"].as_u64(), line["reason"].as_str(), line["place"].as_str()))
        .collect();
    let expected = [
        (Some(2), Some("not_json"), Some("line 1, column 1")),
        (Some(5), Some("schema"), Some("/total")),
    ];
    assert_eq!(refused, expected);
    let again = post(&world, &token, order("2")).await;
    let answer: Value =
        serde_json::from_slice(&again.bytes().await.expect("a body")).expect("JSON");
    assert_eq!(answer, json!({"accepted": 0, "duplicates": 1}));
    world.until_settled(2).await;
    assert_eq!(dead_letters(&mut world).await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused_with_a_problem_document() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let token = world.token("orders:publish").await;
    let body = vec![b'\n'; 16 * MIB + 1];
    let refused = post(&world, &token, body).await;
    assert_eq!(problem(refused).await["status"], 413);
    world.end().await;
}

#[tokio::test]
async fn what_came_over_the_api_is_counted() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let token = world.token("orders:publish").await;
    for body in [order("1"), order("1"), order_with("2", &json!({"shop": "at"})), "{}".to_owned()] {
        post(&world, &token, body).await;
    }
    world.until_settled(2).await;
    let metrics = reqwest::get(world.web("/metrics")).await.expect("it answers");
    let metrics = metrics.text().await.expect("text");
    for line in [
        "order_relay_orders_received_total{shop=\"default\"} 1",
        "order_relay_orders_received_total{shop=\"at\"} 1",
        "order_relay_orders_duplicate_total 1",
        "order_relay_dead_letters_total{reason=\"schema\"} 1",
    ] {
        assert!(metrics.lines().any(|own| own == line), "{line}\n{metrics}");
    }
    world.end().await;
}

/// A queue of the test's own that gets what these exchanges get.
async fn listen(connection: &Connection, bindings: &[(String, &str)]) -> (Channel, String) {
    let channel = connection.create_channel().await.expect("a channel");
    let exclusive =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let declared = channel.queue_declare("".into(), exclusive, FieldTable::default()).await;
    let queue = declared.expect("a queue").name().as_str().to_owned();
    for (exchange, key) in bindings {
        let bind = channel.queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            (*key).into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.expect("it is bound");
    }
    (channel, queue)
}

/// What arrived: routing key and traceparent.
async fn heard(channel: &Channel, queue: &str) -> Vec<(String, Option<String>)> {
    let mut heard = Vec::new();
    let no_ack = BasicGetOptions { no_ack: true };
    while let Some(message) = channel.basic_get(queue.into(), no_ack).await.expect("it answers") {
        let headers = message.delivery.properties.headers().as_ref();
        let trace = headers.and_then(|table| table.inner().get("traceparent"));
        let trace = trace.and_then(|value| Some(value.as_long_string()?.to_string()));
        heard.push((message.delivery.routing_key.to_string(), trace));
    }
    heard
}

#[tokio::test]
async fn the_trace_of_checkout_is_on_everything_that_follows() {
    let mut world = World::new(Place::Services).await;
    world.set("events.confirmed", "true");
    let prefix = world.settings().amqp.prefix;
    world.serve().await;
    let connection = world.connection().await;
    let bindings = [(format!("{prefix}.events"), "order.*"), (format!("{prefix}.retry"), "200")];
    let (channel, queue) = listen(&connection, &bindings).await;
    let orders =
        vec![order_that("T-1", "busy, ok").into_bytes(), order_that("T-2", "reject").into_bytes()];
    world.publish_bytes(&prefix, "order.placed", orders, &[("traceparent", TRACE)]).await;
    world.until_settled(2).await;
    let mut all = Vec::new();
    let mut expected =
        ["order.failed", "200", "order.confirmed", "order.failed", "order.parked"].to_vec();
    expected.sort_unstable();
    let gathered = Arc::new(Mutex::new(&mut all));
    world
        .until("every event was heard", async || {
            let more = heard(&channel, &queue).await;
            let mut all = gathered.lock().expect("no test panics here");
            all.extend(more);
            if all.len() >= 5 { Ok(()) } else { Err(format!("{all:?}")) }
        })
        .await;
    for (key, trace) in &all {
        assert_eq!(trace.as_deref(), Some(TRACE), "{key}");
    }
    let mut keys: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, expected);
    connection.close(200, "OK".into()).await.expect("it closes");
    world.end().await;
}

#[tokio::test]
async fn the_trace_of_checkout_reaches_the_erp() {
    let mut world = World::new(Place::Services).await;
    let mut tasks = JoinSet::new();
    let (captured, address) = Captured::serve(&mut tasks).await;
    world.set("erp.url", &format!("http://{address}/orders"));
    world.serve().await;
    let exchange = world.settings().amqp.prefix;
    let good = [("traceparent", TRACE), ("tracestate", "shop=1")];
    world.publish_bytes(&exchange, "order.placed", vec![order("1").into_bytes()], &good).await;
    world.until_settled(1).await;
    let forged = [("traceparent", "x\r\nAuthorization: forged")];
    world.publish_bytes(&exchange, "order.placed", vec![order("2").into_bytes()], &forged).await;
    world.until_settled(2).await;
    let sent = captured.all();
    assert_eq!(
        (&sent[0].0["traceparent"], &sent[0].0["tracestate"]),
        (&TRACE.parse().expect("a value"), &"shop=1".parse().expect("a value"))
    );
    assert!(!sent[1].0.contains_key("traceparent") && !sent[1].0.contains_key("authorization"));
    world.end().await;
}

/// An `order_failed` of another ERP service.
fn foreign(id: &str, attempt: u32, changes: &Value) -> Vec<u8> {
    let mut event = json!({
        "order_id": id, "attempt": attempt, "max_count": 3,
        "error": {"class": "unavailable", "code": "other", "message": "from another service"},
    });
    let fields = changes.as_object().expect("changes are an object");
    fields.iter().for_each(|(name, value)| event[name] = value.clone());
    event.to_string().into_bytes()
}

fn document(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[tokio::test]
async fn a_failure_from_another_service_is_counted_like_one_of_ours() {
    let mut world = World::new(Place::Services).await;
    world.serve().await;
    world.place(&[order_that("known", "reject")]).await;
    world.until_settled(1).await;
    let exchange = format!("{}.failures", world.settings().amqp.prefix);
    let failures = vec![
        foreign("known", 2, &json!({})),
        foreign("known", 2, &json!({})),
        foreign("unknown", 1, &json!({"max_count": 1, "order": document(&order("unknown"))})),
        foreign("endless", 7, &json!({"max_count": null, "order": document(&order("endless"))})),
    ];
    world.publish_bytes(&exchange, "order.failed", failures, &[]).await;
    world.until_settled(3).await;
    world.until_phase("endless", "transferred").await;
    world.until_settled(3).await;
    let mut standing = Vec::new();
    for id in ["known", "unknown", "endless"] {
        let record = world.order(id).await.record;
        standing.push((
            record.phase.name(),
            record.fail_count,
            record.max_count,
            record.last_attempt,
        ));
    }
    let expected =
        [("parked", 2, Some(3), 2), ("parked", 1, Some(1), 1), ("transferred", 1, None, 8)];
    assert_eq!(standing, expected);
    let subjects: Vec<String> = world.admin_mails().iter().map(|mail| mail.subject()).collect();
    assert_eq!(subjects.len(), 4, "one mail for each failure: {subjects:?}");
    world.end().await;
}

#[tokio::test]
async fn a_failure_that_cannot_be_is_a_dead_letter() {
    let mut world = World::new(Place::Services).await;
    world.serve().await;
    world.place(&[order("done")]).await;
    world.until_settled(1).await;
    let exchange = format!("{}.failures", world.settings().amqp.prefix);
    let other = document(&order("other"));
    let bad: Vec<(Vec<u8>, &str, &str)> = vec![
        (foreign("done", 2, &json!({})), "invalid_state", ""),
        (foreign("nobody", 1, &json!({})), "unknown_order", "/order"),
        (foreign("nobody", 1, &json!({"order": {}})), "unknown_order", "/order"),
        (foreign("nobody", 1, &json!({"order": other})), "schema", "/order"),
        (foreign("nobody", 1, &json!({"order": {"order_id": "nobody"}})), "schema", "/order"),
        (foreign("nobody", 0, &json!({})), "schema", "/attempt"),
        (foreign("nobody", 1, &json!({"error": {"class": "bad luck"}})), "schema", "/error/class"),
        (foreign("nobody", 1, &json!({"version": 2})), "schema", "/version"),
        (b"{\"order_id\":1}".to_vec(), "schema", "/order_id"),
        (b"\xff".to_vec(), "not_utf8", "byte 0"),
        (Vec::new(), "not_json", "line 1, column 0"),
    ];
    let bodies = bad.iter().map(|(body, ..)| body.clone()).collect();
    world.publish_bytes(&exchange, "order.failed", bodies, &[]).await;
    let kept = until_dead_letters(&mut world, bad.len()).await;
    for (body, reason, place) in &bad {
        let letter = kept.iter().find(|letter| letter.body == *body).expect("it is kept");
        let told = (letter.reason.as_str(), letter.place.as_deref().unwrap_or_default());
        assert_eq!(told, (*reason, *place), "{}", letter.detail);
    }
    let done = world.order("done").await.record;
    assert_eq!((done.phase.state(), done.fail_count), (OrderState::Confirmed, 0));
    world.end().await;
}
