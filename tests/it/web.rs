//! The web port as monitoring, a browser and an attacker see it.

use std::collections::{BTreeMap, BTreeSet};

use order_relay::ports::clock::{Clock, SystemClock};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::world::{Place, World, drop_postgres_schema, order, order_that, order_with};

async fn get(world: &World, path: &str) -> Response {
    reqwest::get(world.web(path)).await.expect("the web port answers")
}

async fn text(world: &World, path: &str) -> (u16, String) {
    let response = get(world, path).await;
    (response.status().as_u16(), response.text().await.expect("text"))
}

async fn is_ready(world: &World, expected: u16) -> Result<(), String> {
    match text(world, "/readyz").await {
        (status, _) if status == expected => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[tokio::test]
async fn readiness_follows_the_database_and_health_does_not() {
    let mut world = World::new(Place::Services).await;
    world.serve().await;
    world.until("it is ready", async || is_ready(&world, 200).await).await;
    drop_postgres_schema(&world.postgres, &world.name).await;
    world.until("it is not ready", async || is_ready(&world, 503).await).await;
    let (_, told) = text(&world, "/readyz").await;
    assert!(!told.contains("postgres://"), "{told}");
    assert_eq!(text(&world, "/healthz").await, (200, "ok\n".to_owned()));
    world.leave().await;
}

#[tokio::test]
async fn a_process_that_drains_is_not_ready_any_more() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_that("1", "slow")]).await;
    let stub = world.stub.clone();
    world
        .until("the order is under way", async || {
            if stub.orders().contains_key("1") { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
    // A connection that is open when the signal comes is still answered.
    let client = reqwest::Client::new();
    let before = client.get(world.web("/readyz")).send().await.expect("it answers");
    assert_eq!(before.status().as_u16(), 200);
    let store = world.store().await;
    let alive = async || store.workers(SystemClock.now()).await.expect("the ledger answers");
    assert_eq!(alive().await.len(), 1);
    world.processes[0].signal("TERM").await;
    let url = world.web("/readyz");
    world
        .until("it says so or hangs up", async || match client.get(&url).send().await {
            Ok(response) if response.status().as_u16() == 200 => Err("ready".to_owned()),
            Ok(response) => {
                assert_eq!(response.status().as_u16(), 503);
                Ok(())
            }
            Err(_) => Ok(()),
        })
        .await;
    let status = world.dies().await;
    assert!(status.success(), "{status}");
    assert!(alive().await.is_empty(), "it is off the list of workers at once");
    assert_eq!(
        world.order("1").await.record.phase.name(),
        "transferred",
        "it finished what it had"
    );
    world.end().await;
}

/// Every metric of the contract with its type.
const METRICS: [(&str, &str); 27] = [
    ("orders_received", "counter"),
    ("orders_confirmed", "counter"),
    ("orders_failed", "counter"),
    ("orders_duplicate", "counter"),
    ("events_dropped", "counter"),
    ("entered_twice", "counter"),
    ("orders_open", "gauge"),
    ("orders_oldest_open_seconds", "gauge"),
    ("erp_requests", "counter"),
    ("erp_request_duration_seconds", "histogram"),
    ("erp_in_flight", "gauge"),
    ("erp_in_flight_limit", "gauge"),
    ("circuit_state", "gauge"),
    ("outcome_unknown", "counter"),
    ("duplicates_prevented", "counter"),
    ("dead_letters", "counter"),
    ("notices_sent", "counter"),
    ("notices_failed", "counter"),
    ("notices_waiting", "gauge"),
    ("alerts_unheard", "gauge"),
    ("mail_receivers_refused", "gauge"),
    ("channels_refused", "gauge"),
    ("settle_duration_seconds", "histogram"),
    ("sweeper_remade", "counter"),
    ("ledger_difference", "gauge"),
    ("clock_skew_seconds", "gauge"),
    ("build", "info"),
];

/// Samples by name with their labels; panics on a line that is no OpenMetrics.
fn samples(metrics: &str) -> BTreeMap<String, Vec<(String, f64)>> {
    let mut samples = BTreeMap::<String, Vec<(String, f64)>>::new();
    assert!(metrics.ends_with("# EOF\n"), "it is whole");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        let name = name.strip_prefix("order_relay_").unwrap_or_else(|| panic!("{line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        samples.entry(name.to_owned()).or_default().push((labels.to_owned(), value));
    }
    samples
}

async fn metrics_of(world: &World) -> String {
    let response = get(world, "/metrics").await;
    let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    response.text().await.expect("text")
}

#[tokio::test]
async fn every_metric_of_the_contract_is_there_and_moves() {
    let mut world = World::new(Place::Services).await;
    world.serve().await;
    world
        .place(&[
            order("1"),
            order_that("2", "busy, ok"),
            order_that("3", "accept_then_cut"),
            order_that("4", "reject"),
            order("1"),
        ])
        .await;
    world.publish_bytes(&world.name, "order.placed", vec![b"{}".to_vec()], &[]).await;
    world.until_settled(4).await;
    let wanted = [
        "orders_received_total",
        "orders_confirmed_total",
        "orders_failed_total",
        "orders_duplicate_total",
        "orders_open",
        "orders_oldest_open_seconds",
        "erp_requests_total",
        "erp_request_duration_seconds_count",
        "erp_in_flight_limit",
        "outcome_unknown_total",
        "duplicates_prevented_total",
        "dead_letters_total",
        "notices_sent_total",
        "settle_duration_seconds_count",
        "build_info",
    ];
    world
        .until("everything that happened was counted", async || {
            let samples = samples(&metrics_of(&world).await);
            let missing: Vec<&&str> = wanted
                .iter()
                .filter(|name| {
                    samples.get(**name).is_none_or(|all| all.iter().all(|(_, value)| *value == 0.0))
                })
                .collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} never moved")) }
        })
        .await;
    let metrics = metrics_of(&world).await;
    for (name, kind) in METRICS {
        let line = format!("# TYPE order_relay_{name} {kind}");
        assert!(metrics.lines().any(|own| own == line), "{line}\n{metrics}");
    }
    let typed = metrics.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(typed, METRICS.len(), "and no other that nobody knows of");
    let samples = samples(&metrics);
    assert_eq!(samples["ledger_difference"], [(String::new(), 0.0)]);
    let labels = |name: &str| -> BTreeSet<&str> {
        let all = samples[name].iter().flat_map(|(labels, _)| labels.split(','));
        all.filter_map(|label| Some(label.split_once('=')?.0)).collect()
    };
    for (name, expected) in [
        ("orders_received_total", vec!["shop"]),
        ("orders_failed_total", vec!["class"]),
        ("orders_open", vec!["phase", "state"]),
        ("erp_requests_total", vec!["erp", "outcome", "step"]),
        ("dead_letters_total", vec!["reason"]),
        ("notices_sent_total", vec!["kind"]),
        ("build_info", vec!["commit", "version"]),
    ] {
        assert_eq!(labels(name), expected.into_iter().collect(), "{name}");
    }
    assert!(!metrics.contains("erika") && !metrics.contains("order_id"), "no personal data");
    world.end().await;
}

#[tokio::test]
async fn a_loss_shows_in_the_metrics() {
    let mut world = World::new(Place::Embedded).await;
    world.store().await;
    world
        .tamper("INSERT INTO added_tallies (shop, shard, received) VALUES ('default', 99, 3)")
        .await;
    world.serve().await;
    world
        .until("the loss is seen", async || {
            let samples = samples(&metrics_of(&world).await);
            match samples["ledger_difference"].first() {
                Some((_, difference)) if *difference == 3.0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    world.tamper("DELETE FROM added_tallies WHERE shard = 99").await;
    world.end().await;
}

#[tokio::test]
async fn pages_show_nothing_before_the_login_and_lead_back_after_it() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let customer = json!({"email": "zaphod@example.com", "name": "Zaphod"});
    world
        .place(&[order_with("P-1", &json!({"customer": customer, "remark": "stub: reject"}))])
        .await;
    world.until_settled(1).await;
    let store = world.store().await;
    let mail = store.list_mails(None, 1).await.expect("the ledger answers")[0].id;
    let mail = format!("/mails/{mail}");
    let policy = reqwest::redirect::Policy::none();
    let client = reqwest::Client::builder().redirect(policy).build().expect("a client");
    for path in ["/", "/lost-orders", "/orders/default/P-1", "/orders.csv", &mail] {
        let response = client.get(world.web(path)).send().await.expect("it answers");
        assert_eq!(response.status().as_u16(), 303, "{path}");
        let to = response.headers()["location"].to_str().expect("text").to_owned();
        assert!(to.starts_with("/login?return_to=%2F"), "{path}: {to}");
        let page = response.text().await.expect("text");
        assert!(!page.contains("aphod") && !page.contains("P-1"), "{path} shows {page}");
    }
    world.end().await;
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_keep_browsers_calm() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    for path in [
        "/",
        "/lost-orders",
        "/healthz",
        "/metrics",
        "/nowhere",
        "/orders/default/none",
        "/api/v1/orders",
    ] {
        let response = get(&world, path).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            let own = response.headers().get(name).map(|value| value.to_str().expect("text"));
            assert_eq!(own, Some(value), "{path}: {name}");
        }
        let policy = response.headers()["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_is_not_there_is_told_in_a_problem_document() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let client = reqwest::Client::new();
    for (method, path, status) in [
        (Method::GET, "/nowhere", 404),
        (Method::DELETE, "/api/v1/orders", 405),
        (Method::POST, "/healthz", 405),
        (Method::POST, "/nowhere", 404),
    ] {
        let request = client.request(method.clone(), world.web(path));
        let response = request.send().await.expect("it answers");
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{method} {path}"
        );
        let allows = response.headers().contains_key("allow");
        assert_eq!(allows, status == 405, "{method} {path}");
        let problem: Value =
            serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
        assert_eq!(problem["status"], status, "{method} {path}: {problem}");
    }
    world.end().await;
}

#[tokio::test]
async fn without_the_web_role_nobody_listens() {
    let mut world = World::new(Place::Embedded).await;
    world.make_ready().await;
    let at = world.start(&["serve", "--roles", "submitter,error-handler,notifier,sweeper"]).await;
    assert_eq!(world.processes[at].web, None);
    world.end().await;
}

#[tokio::test]
async fn without_the_web_role_health_and_metrics_have_a_port_of_their_own() {
    let mut world = World::new(Place::Embedded).await;
    world.make_ready().await;
    world.set("metrics.listen", "127.0.0.1:0");
    let at = world.start(&["serve", "--roles", "submitter,error-handler,notifier,sweeper"]).await;
    let log = world.processes[at].log();
    let (_, rest) = log.split_once(r#""listen":""#).expect("it says where it listens");
    let place = rest.split('"').next().unwrap_or_default().to_owned();
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{place}{path}")).await.expect("it answers");
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    };
    assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
    world
        .until("it is ready", async || match get("/readyz").await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    let (status, metrics) = get("/metrics").await;
    assert!(status == 200 && metrics.contains("order_relay_circuit_state"), "{metrics}");
    for path in ["/", "/login", "/api/openapi.json"] {
        assert_eq!(get(path).await.0, 404, "{path}");
    }
    world.end().await;
}
