//! Order data, ERP answers and messages full of markup, templates, formulas and terminal escapes
//! are shown as text everywhere: pages, exports, command line, mails, logs.

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use order_relay::domain::message::OrderFailed;
use order_relay::domain::order::intake_rules::IntakeRules;
use order_relay::domain::order_filter::{OrderFilter, Sort};
use order_relay::domain::text::is_unprintable;
use order_relay::ports::channels::{MessageFilter, StoredChannel};
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::web::pages::routes::page_routes;
use reqwest::Method;
use reqwest::header::CONTENT_DISPOSITION;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::people::{Browser, add_user, log_in};
use crate::receiver::Receiver;
use crate::store_contract::{act, failure};
use crate::world::{Place, World, order_with};

/// The start of a cell that a spreadsheet would execute.
const FORMULAS: [&str; 8] = [
    "=HYPERLINK(\"http://evil.example\",\"pay\")",
    "+cmd|' /C calc'!A0",
    "-1+1",
    "@SUM(1,1)",
    "\t=1+1",
    "\r\n=1+1",
    "x;=HYPERLINK(\"http://evil.example\",\"pay\")",
    "x; \"\t@SUM(1,1);-1+1",
];
/// Markup, two template languages, a mail header, terminal escapes, C1 controls, direction marks,
/// invisible characters, unusual line ends.
const REST: &str = " \"'><script>hostile()</script><img src=hostile onerror=hostile()>\
    {{7*7}}{{1234567*3}}{% raise %}{# #}${1234567*3}\r\nBcc: evil@example.com\r\n\
    \u{1b}[31mred\u{1b}]8;;http://evil.example\u{7}link\u{1b}]8;;\u{7}\u{9b}2J\u{9d}0;x\u{9c}\
    \u{202e}desrever\u{2066}\u{200b}\u{feff}\u{2028}\u{2029}end";

fn hostile(formula: usize) -> String {
    format!("{}{REST}", FORMULAS[formula % FORMULAS.len()])
}

/// An order whose every free text is hostile; also what only JSON can hold.
fn hostile_order(id: &str, formula: usize) -> String {
    let text = hostile(formula);
    let short: String = text.chars().take(200).collect();
    let address = json!({"name": text, "street": text, "city": text, "country": text, &text: text});
    order_with(
        id,
        &json!({
            "customer": {"email": "a@example.com", "name": text, "number": text, "phone": text},
            "remark": text, "payment": {"method": text, "reference": text},
            "billing_address": address, "shipping_address": address, &text: {&text: [text]},
            "lines": [{"sku": short, "name": text, "quantity": 1, "unit_price": 1}],
        }),
    )
}

/// An ERP with hostile answers. It accepts orders named OK at the second attempt.
async fn hostile_erp(world: &mut World) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let seen = std::sync::Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let take = move |Json(order): Json<Value>| async move {
        let id = order["order_id"].as_str().unwrap_or_default().to_owned();
        let again = !seen.lock().expect("nobody panics").insert(id.clone());
        if id.starts_with("OK") && again {
            return (StatusCode::CREATED, Json(json!({"erp_order_id": hostile(0)})));
        }
        let said = format!("{}\0", hostile(id.len() + usize::from(again)));
        (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": said, "message": said})))
    };
    let ask = async |Path(_): Path<String>| (StatusCode::NOT_FOUND, Json(json!({"error": "none"})));
    let lost = async |_: Request| StatusCode::NOT_FOUND.into_response();
    let router =
        Router::new().route("/orders", post(take)).route("/orders/{*id}", get(ask)).fallback(lost);
    world.run_beside(async move { drop(axum::serve(listener, router).await) });
    format!("http://{address}/orders")
}

async fn hostile_world() -> World {
    let mut world = World::new(Place::Embedded).await;
    let erp = hostile_erp(&mut world).await;
    for (key, value) in [
        ("erp.url", erp.as_str()),
        ("erp.exchanges", "all"),
        ("mail.customer_confirmation", "always"),
        ("mail.digest_after", "3"),
    ] {
        world.set(key, value);
    }
    let receiver = Receiver::beside(&mut world).await;
    world.set("channels.ops.url", &receiver.url());
    world.set("channels.ops.allow_private", "true");
    world.serve().await;
    let mut orders: Vec<String> =
        (0..FORMULAS.len()).map(|n| hostile_order(&format!("H-{n}"), n)).collect();
    orders.push(hostile_order("OK", 0));
    world.place(&orders).await;
    for n in 0..FORMULAS.len() {
        world.until_phase(&format!("H-{n}"), "parked").await;
    }
    world.until_phase("OK", "parked").await;
    let token = world.token("orders:publish").await;
    let bad = hostile_order("bad", 0).replace("\"total\":", "\"total_\":");
    for body in [REST.to_owned(), bad, json!({ hostile(0): hostile(1) }).to_string()] {
        let post = reqwest::Client::new().post(world.web("/api/v1/orders")).bearer_auth(&token);
        post.body(body).send().await.expect("the API answers");
    }
    reported(&mut world).await;
    let why = hostile(0);
    world.ok(&["lost-orders", "remove", "H-1", "--reason", &why]).await;
    world.ok(&["lost-orders", "process", "OK", "--reason", &why]).await;
    world.until_phase("OK", "transferred").await;
    world
}

/// What another service reports in `order.failed`, as the error handler takes it.
async fn reported(world: &mut World) {
    let store = world.store().await;
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    let event = json!({"order_id": "H-0", "attempt": 2, "trigger": "checkout", "error": {
        "class": "rejected", "code": hostile(0), "message": hostile(2), "request": hostile(3)}});
    let (event, _) =
        OrderFailed::parse(event.to_string().as_bytes(), &IntakeRules::of_bytes(1 << 20))
            .expect("good");
    let request = failure("H-0", 2, now);
    let failed = event.failed_attempt(None, now);
    let request = order_relay::ports::orders::FailureRequest { failed, ..request };
    store.record_failure(request).await.expect("the ledger answers");
}

/// What must never be part of any output.
fn unseen(what: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let found = text.char_indices().find(|(_, c)| is_unprintable(*c) && !"\n\r\t".contains(*c));
    if let Some((at, c)) = found {
        let begin: String = text[..at].chars().rev().take(90).collect();
        let begin: String = begin.chars().rev().collect();
        faults.push(format!("{what}: U+{:04X} after …{begin:?}", u32::from(c)));
    }
    if text.contains("3703701") {
        faults.push(format!("{what}: a template was run"));
    }
    faults
}

fn markup(what: &str, html: &str) -> Vec<String> {
    let mut faults = unseen(what, html);
    for raw in ["<script>hostile", "<img src=hostile", "\"'>"] {
        if let Some(at) = html.find(raw) {
            let from = html[..at].char_indices().rev().nth(90).map_or(0, |(at, _)| at);
            faults.push(format!("{what}: raw {raw} after {:?}", &html[from..at]));
        }
    }
    faults
}

/// A spreadsheet reads a file as its country is used to: split at `,`, at `;` or at tabs, and then quotes
/// stand where they mean nothing.
fn formulas(what: &str, text: &str) -> Vec<String> {
    let mut faults = unseen(what, text);
    for split_at in [b',', b';', b'\t'] {
        let mut reader = csv::ReaderBuilder::new();
        let reader = reader.delimiter(split_at).flexible(split_at != b',').has_headers(false);
        let rows: Result<Vec<_>, _> = reader.from_reader(text.as_bytes()).into_records().collect();
        let rows = rows.expect("every row has every column");
        if rows.len() < 2 {
            faults.push(format!("{what}: no rows, so nothing was looked at"));
        }
        for cell in rows.iter().flatten() {
            let begin = cell.trim_start_matches([' ', '"']);
            let is_number = begin.parse::<f64>().is_ok_and(f64::is_finite);
            if begin.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number {
                faults.push(format!("{what}: a spreadsheet would run {cell:?}"));
            }
        }
    }
    faults
}

/// What the channel was told, once it was told anything.
async fn messages_of(world: &mut World) -> Vec<String> {
    let store = world.store().await;
    let list = async || {
        let filter = MessageFilter::default();
        let list = store.list_channel_messages(&filter, 100).await.expect("the ledger answers");
        list.iter().map(|message| message.id.to_string()).collect::<Vec<_>>()
    };
    world
        .until("the channel is told", async || match list().await.is_empty() {
            true => Err("nothing yet".to_owned()),
            false => Ok(()),
        })
        .await;
    list().await
}

/// Every address of the back office, with everything there is.
async fn addresses(world: &mut World) -> Vec<String> {
    let store = world.store().await;
    let orders = store.page_orders(&OrderFilter::default(), Sort::default(), None, 100).await;
    let orders = orders.expect("the ledger answers");
    let mut groups: Vec<String> = orders
        .iter()
        .filter_map(|o| o.last_failure.as_ref())
        .map(|f| f.summary.fingerprint.clone())
        .collect();
    groups.sort();
    groups.dedup();
    let letters = store.list_dead_letters(false, 100).await.expect("the ledger answers");
    let mails = store.list_mails(None, 100).await.expect("the ledger answers");
    let redrives = store.redrives(100).await.expect("the ledger answers");
    let messages = messages_of(world).await;
    let definition =
        json!({"url": "https://hooks.example.com", "threshold": hostile(0), "body": hostile(1)});
    let chat =
        StoredChannel { name: "chat".to_owned(), definition: definition.to_string(), version: 1 };
    let act = act("a channel that cannot be used", SystemClock.now());
    assert!(store.save_channel(&chat, 0, &act).await.expect("the ledger answers"));
    assert!(!letters.is_empty() && !mails.is_empty() && !redrives.is_empty() && groups.len() > 1);
    let ids = |of: &str| -> Vec<String> {
        match of {
            "/orders" => orders.iter().map(|o| o.key.order_id.to_string()).collect(),
            "/groups" => groups.clone(),
            "/dead-letters" => letters.iter().map(|letter| letter.id.to_string()).collect(),
            "/mails" => mails.iter().map(|mail| mail.id.to_string()).collect(),
            "/channel-messages" => messages.clone(),
            "/channels" => vec!["chat".to_owned()],
            "/mail-previews" => vec!["order_failed".to_owned()],
            "/redrives" => redrives.iter().map(|redrive| redrive.id.to_string()).collect(),
            other => panic!("what stands in {other}?"),
        }
    };
    let mut all = Vec::new();
    for route in page_routes().iter().filter(|route| route.method == Method::GET) {
        let path = route.path.replace("{shop}", "default");
        match path.split_once("/{") {
            None => all.push(path),
            Some(("/assets" | "/language", _)) => {}
            Some((before, rest)) => {
                let after = rest.split_once('}').expect("a brace").1;
                let of = if before == "/orders/default" { "/orders" } else { before };
                all.extend(ids(of).iter().map(|id| format!("{before}/{id}{after}")));
            }
        }
    }
    let names = ["search", "sku", "payment", "customer", "sort", "after", "actor", "status"];
    let typed = names.map(|name| (name, hostile(0)));
    let typed = serde_html_form::to_string(typed).expect("a query");
    all.extend(["/orders", "/lost-orders", "/audit", "/mails"].map(|p| format!("{p}?{typed}")));
    let typed = serde_html_form::to_string([("q", hostile(0))]).expect("a query");
    all.push(format!("/find?{typed}"));
    all.extend(letters.iter().map(|letter| format!("/dead-letters/{}?as=hex", letter.id)));
    all
}

async fn look(world: &World, browser: &Browser, address: &str) -> Vec<String> {
    let request = browser.request(Method::GET, &world.web(address));
    let mut response = request.send().await.expect("the web port answers");
    let status = response.status().as_u16();
    if address.starts_with("/find") {
        // The search only leads to another page.
        let to = response.headers()["location"].to_str().expect("text");
        assert!(status == 303 && to.starts_with("/orders"), "{address}: {status} {to}");
        return Vec::new();
    }
    if address.ends_with("/failures.csv") && status == 404 {
        // Only digests have a list.
        return Vec::new();
    }
    assert!(status == 200 || address.contains('?') && status < 500, "{address}: {status}");
    let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
    if address.ends_with("/document") || address.ends_with("/bytes") {
        // As they came; a browser keeps them and shows nothing.
        let how = response.headers()[CONTENT_DISPOSITION].to_str().expect("text");
        assert!(how.starts_with("attachment"), "{address}: {how}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{address}");
        return Vec::new();
    }
    if kind.starts_with("text/event-stream") {
        let first = response.chunk().await.expect("it answers").expect("a first event");
        return markup(address, &String::from_utf8_lossy(&first));
    }
    let text = response.text().await.expect("text");
    match kind.starts_with("text/csv") {
        true => formulas(address, &text),
        false => markup(address, &text),
    }
}

#[tokio::test]
async fn what_orders_and_erps_say_is_text_on_every_page_in_every_export_and_mail() {
    let mut world = hostile_world().await;
    let plan = ["redrive", "plan", "--state", "ordered_failed", "--output", "json"];
    let plan: Value = serde_json::from_str(&world.ok(&plan).await).expect("JSON");
    let redrive = plan["id"].as_str().expect("an id").to_owned();
    world.ok(&["redrive", "start", &redrive, "--yes", "--reason", &hostile(0)]).await;
    let store = world.store().await;
    world
        .until("the canary has failed", async || {
            let found = store.redrive(redrive.parse().expect("a UUID")).await;
            let found = found.map_err(|error| error.to_string())?.ok_or("it is gone")?;
            if found.status.as_str() == "stopped" { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    let password = add_user(&world, "root", &["admin"]).await;
    let browser = log_in(&world, "root", &password).await;
    let mut faults = Vec::new();
    let addresses = addresses(&mut world).await;
    assert!(addresses.len() > 50, "{addresses:?}");
    for address in &addresses {
        faults.extend(look(&world, &browser, address).await);
    }
    world.until_settled(FORMULAS.len() as u64 + 1).await;
    let mails = world.post.mails();
    assert!(mails.iter().any(|mail| mail.receivers == ["a@example.com"]), "the customer is told");
    for mail in &mails {
        let subject = mail.subject();
        faults.extend(unseen("a subject", &subject));
        faults.extend(unseen("a mail's text", &mail.text()));
        faults.extend(markup("a mail's HTML", &mail.html()));
        assert!(mail.mail().bcc().is_none() && mail.receivers.len() == 1, "{subject}");
        faults.extend(unseen("a mail's bytes", &String::from_utf8_lossy(&mail.data)));
    }
    for line in world.processes[0].log().lines() {
        faults.extend(unseen("the log", line));
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    world.leave().await;
}

#[tokio::test]
async fn what_orders_and_erps_say_is_text_on_the_command_line() {
    let mut world = hostile_world().await;
    let plan = ["redrive", "plan", "--state", "ordered_failed", "--output", "json"];
    let plan: Value = serde_json::from_str(&world.ok(&plan).await).expect("JSON");
    let redrive = plan["id"].as_str().expect("an id").to_owned();
    let store = world.store().await;
    let letters = store.list_dead_letters(false, 100).await.expect("the ledger answers");
    let letters: Vec<String> = letters.iter().map(|letter| letter.id.to_string()).collect();
    let mails = store.list_mails(None, 100).await.expect("the ledger answers");
    let mails: Vec<String> = mails.iter().map(|mail| mail.id.to_string()).collect();
    let listings = [
        vec!["orders", "list"],
        vec!["lost-orders", "list"],
        vec!["lost-orders", "groups"],
        vec!["dead-letters", "list"],
        vec!["mails", "list"],
        vec!["channels", "list"],
        vec!["channels", "messages"],
        vec!["redrive", "list"],
        vec!["redrive", "show", &redrive, "--items"],
    ];
    let mut things = vec![vec!["orders", "show", "H-0"], vec!["orders", "show", "OK"]];
    things.extend(letters.iter().map(|id| vec!["dead-letters", "show", id]));
    things.extend(mails.iter().map(|id| vec!["mails", "show", id]));
    let messages = messages_of(&mut world).await;
    things.extend(messages.iter().map(|id| vec!["channels", "show", id]));
    let mut faults = Vec::new();
    for (command, is_listing) in
        listings.iter().map(|c| (c, true)).chain(things.iter().map(|c| (c, false)))
    {
        for format in ["table", "json", "ndjson", "csv"] {
            let out = world.ok(&[&command[..], &["--output", format]].concat()).await;
            let what = format!("{command:?} as {format}");
            faults.extend(unseen(&what, &out));
            if format == "csv" && is_listing {
                faults.extend(formulas(&what, &out));
            }
            if format == "json" {
                assert!(serde_json::from_str::<Value>(&out).is_ok(), "{what}");
            }
        }
    }
    for format in ["json", "ndjson", "csv"] {
        let out = world.ok(&["orders", "export", "--output", format]).await;
        faults.extend(unseen(&format!("orders export as {format}"), &out));
        if format == "csv" {
            faults.extend(formulas("orders export", &out));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    world.leave().await;
}
