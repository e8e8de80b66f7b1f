//! The API as a script sees it: the document that describes it, pages, verbs, and asking twice.

use order_relay::cli::devtools::StubMode;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::people::{client, try_login};
use crate::world::{Place, World, order, order_that, order_with};

struct Api<'a> {
    world: &'a World,
    token: String,
}

impl Api<'_> {
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let url = self.world.web(&format!("/api/v1{path}"));
        let mut request = client().request(method, url).bearer_auth(&self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body.to_owned()).send().await.expect("the web port answers")
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        read(self.send(Method::GET, path, &[], "").await).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let json = [("content-type", "application/json")];
        read(self.send(Method::POST, path, &json, &body.to_string()).await).await
    }
}

async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
    let expected = if status < 400 { "application/json" } else { "application/problem+json" };
    assert_eq!(kind, expected, "{status}");
    (status, serde_json::from_str(&response.text().await.expect("text")).expect("JSON"))
}

#[tokio::test]
async fn the_document_describes_every_operation_with_what_it_needs() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let response = client().get(world.web("/api/openapi.json")).send().await.expect("an answer");
    let text = response.text().await.expect("text");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let list = &document["paths"]["/api/v1/orders"]["get"];
    assert_eq!(list["description"], "Needs `orders:read`.");
    let names: Vec<_> =
        list["parameters"].as_array().expect("some").iter().map(|p| &p["name"]).collect();
    assert!(
        names.contains(&&json!("fingerprint")) && names.contains(&&json!("after")),
        "{names:?}"
    );
    let text = document.to_string();
    // Whatever is referred to is there.
    for (at, _) in text.match_indices("\"#/components/") {
        let pointer = text[at + 2..].split('"').next().expect("an end");
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    world.leave().await;
}

#[tokio::test]
async fn orders_are_listed_page_by_page_and_shown_whole() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let documents: Vec<String> = (0..5).map(|n| order(&format!("a/{n}"))).collect();
    world.place(&documents).await;
    world.until_settled(5).await;
    let token = world.token("orders:read").await;
    let api = Api { world: &world, token };
    let (mut seen, mut path) = (Vec::new(), "/orders?limit=2&shop=default".to_owned());
    loop {
        let (status, page) = api.get(&path).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().expect("a list");
        seen.extend(items.iter().map(|o| o["order_id"].as_str().expect("a number").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/orders?limit=2&shop=default&after={next}");
    }
    seen.sort();
    assert_eq!(seen, ["a/0", "a/1", "a/2", "a/3", "a/4"]);
    let (status, detail) = api.get("/orders/default/a%2F3").await;
    assert_eq!((status, &detail["order"]["phase"]), (200, &json!("transferred")));
    assert_eq!(detail["document"]["order_id"], "a/3");
    for (path, expected) in [
        ("/orders?sate=payed", 422),
        ("/orders?state=lost", 422),
        ("/orders?limit=0", 422),
        ("/orders?after=x", 422),
        ("/orders/default/nothing", 404),
        ("/orders/%FF/1", 404),
        ("/nothing", 404),
    ] {
        let (status, problem) = api.get(path).await;
        assert_eq!(status, expected, "{path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty()), "{problem}");
    }
    world.end().await;
}

#[tokio::test]
async fn the_command_line_shows_the_same_as_the_api() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_that("a/1", "reject, ok"), order_that("a/2", "reject, reject")]).await;
    world.until_settled(2).await;
    let token = world.token("admin").await;
    let api = Api { world: &world, token };
    // Everything that an order can have: an edit, a conflict, mails, actions of people.
    let conflict = order_with("a/1", &json!({"remark": "another one"}));
    api.send(Method::POST, "/orders", &[("content-type", "application/json")], &conflict).await;
    api.send(Method::POST, "/orders", &[("content-type", "application/json")], "{}").await;
    let edited = order_with("a/2", &json!({"remark": "stub: reject", "payment": {"type": "cash"}}));
    let headers = [("content-type", "application/json"), ("if-match", "\"r0\"")];
    let put = api.send(Method::PUT, "/orders/default/a%2F2/payload", &headers, &edited).await;
    assert_eq!(put.status().as_u16(), 200);
    assert_eq!(api.post("/orders/default/a%2F2/transfer", &json!({})).await.0, 200);
    let (_, redrive) = api.post("/redrives", &json!({"filter": {"phase": "parked"}})).await;
    let redrive = redrive["id"].as_str().expect("an id").to_owned();
    let (_, letters) = api.get("/dead-letters").await;
    let letter = letters["items"][0]["id"].as_str().expect("an id").to_owned();
    let (_, mails) = api.get("/mails").await;
    let mail = mails["items"][0]["id"].as_str().expect("an id").to_owned();
    for (command, path, is_list) in [
        ("orders list", "/orders".to_owned(), true),
        ("orders show default/a/1", "/orders/default/a%2F1".to_owned(), false),
        ("orders show default/a/2", "/orders/default/a%2F2".to_owned(), false),
        ("lost-orders groups", "/groups".to_owned(), true),
        ("dead-letters list", "/dead-letters".to_owned(), true),
        (&format!("dead-letters show {letter}"), format!("/dead-letters/{letter}"), false),
        ("mails list", "/mails".to_owned(), true),
        (&format!("mails show {mail}"), format!("/mails/{mail}"), false),
        ("redrive list", "/redrives".to_owned(), true),
        (&format!("redrive show {redrive}"), format!("/redrives/{redrive}"), false),
        (&format!("redrive show {redrive} --items"), format!("/redrives/{redrive}/items"), true),
        ("audit", "/audit".to_owned(), true),
        ("erp circuits", "/circuits".to_owned(), true),
        ("tokens list", "/tokens".to_owned(), true),
        ("ledger check", "/ledger".to_owned(), false),
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--output", "json"]).collect();
        let printed: Value = serde_json::from_str(&world.ok(&words).await).expect("JSON");
        let (status, answer) = api.get(&path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let shown = if is_list { &answer["items"] } else { &answer };
        assert_ne!(shown, &json!([]), "{path} shows nothing");
        assert_eq!(&printed, shown, "{command} and {path}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_lost_order_is_removed_with_a_reason_restored_and_transferred() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_that("a/1", "reject, reject, ok")]).await;
    world.until_settled(1).await;
    let token = world.token("admin").await;
    let api = Api { world: &world, token };
    let at = |verb: &str| format!("/orders/default/a%2F1/{verb}");
    let (status, problem) = api.post(&at("remove"), &json!({"kind": "duplicate"})).await;
    assert_eq!(status, 422, "{problem}");
    let reason = json!({"kind": "entered_by_hand", "erp_order_id": "4711"});
    let (status, removed) = api.post(&at("remove"), &reason).await;
    assert_eq!((status, &removed["phase"]), (200, &json!("removed")));
    let (status, problem) = api.post(&at("transfer"), &json!({})).await;
    assert_eq!((status, &problem["title"]), (409, &json!("invalid_state")));
    assert_eq!(api.post(&at("restore"), &json!({"reason": "a mistake"})).await.0, 200);
    let (status, failed) = api.post(&at("transfer"), &json!({})).await;
    assert_eq!((status, &failed["outcome"]), (200, &json!("failed")), "{failed}");
    assert_eq!(failed["attempt"]["class"], "rejected");
    let (status, done) = api.post(&at("transfer"), &json!({})).await;
    assert_eq!((status, &done["outcome"]), (200, &json!("transferred")), "{done}");
    let (_, audit) = api.get("/audit?target=default/a/1").await;
    let told: Vec<String> = audit["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| format!("{} {}", row["action"], row["reason"]).replace('"', ""))
        .collect();
    let expected = [
        "order.transfer null",
        "order.transfer null",
        "order.restore a mistake",
        "order.remove entered by hand in the ERP, number 4711",
    ];
    assert_eq!(told, expected);
    world.end().await;
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer_and_does_nothing_twice() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_that("1", "reject"), order_that("2", "reject")]).await;
    world.until_settled(2).await;
    let token = world.token("admin").await;
    let other = world.token("admin").await;
    let api = Api { world: &world, token };
    let key = [("idempotency-key", "\"k-1\""), ("content-type", "application/json")];
    let path = "/orders/default/1/remove";
    let body = r#"{"reason": "a test"}"#;
    let first = api.send(Method::POST, path, &key, body).await;
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let first = read(first).await;
    assert_eq!(first.0, 200, "{first:?}");
    let second = api.send(Method::POST, path, &key, body).await;
    assert_eq!(second.headers()["idempotency-replayed"], "true");
    assert_eq!(read(second).await, first, "word for word");
    let again = api.post(path, &json!({"reason": "a test"})).await;
    assert_eq!(again.0, 409, "without the key it is another removal");
    for (path, body) in [(path, r#"{"reason": "other"}"#), ("/orders/default/2/remove", body)] {
        let other = read(api.send(Method::POST, path, &key, body).await).await;
        assert_eq!(other.0, 422, "{other:?}");
    }
    let someone_else = Api { world: &world, token: other };
    let theirs = read(someone_else.send(Method::POST, path, &key, body).await).await;
    assert_eq!(theirs.0, 409, "keys of different people never meet: {theirs:?}");
    let bad = [("idempotency-key", "a b")];
    assert_eq!(read(api.send(Method::POST, path, &bad, body).await).await.0, 422);
    world.leave().await;
}

#[tokio::test]
async fn a_token_for_a_shop_hands_in_and_sees_orders_of_that_shop_only() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let scopes = ["--scope", "orders:publish", "--scope", "orders:read"];
    let create = [&["tokens", "create", "de-only", "--shop", "de"][..], &scopes].concat();
    let token = world.ok(&create).await.trim().to_owned();
    let at = |shop: &str| order_with(&format!("of-{shop}"), &json!({"shop": shop}));
    world.place(&[at("at")]).await;
    let api = Api { world: &world, token };
    let json = [("content-type", "application/json")];
    let of = async |shop| read(api.send(Method::POST, "/orders", &json, &at(shop)).await).await.0;
    assert_eq!((of("de").await, of("ch").await), (202, 403));
    let ndjson = [("content-type", "application/x-ndjson")];
    let lines = format!("{}\n{}\n", at("de"), at("ch"));
    let told = read(api.send(Method::POST, "/orders", &ndjson, &lines).await).await;
    assert_eq!(told.0, 403, "{}", told.1);
    let (_, page) = api.get("/orders").await;
    let items = page["items"].as_array().expect("a list");
    assert_eq!(items.len(), 1, "{page}");
    assert_eq!(api.get("/orders/at/of-at").await.0, 404);
    assert_eq!(api.get("/dead-letters").await.0, 403);
    world.until_settled(2).await;
    world.end().await;
}

#[tokio::test]
async fn an_order_is_edited_by_whoever_has_seen_the_last_revision() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_that("1", "reject, ok")]).await;
    world.until_settled(1).await;
    let token = world.token("admin").await;
    let api = Api { world: &world, token };
    let shown = api.send(Method::GET, "/orders/default/1", &[], "").await;
    assert_eq!(shown.headers()["etag"], "\"r0\"");
    let edited = |sku: &str| {
        let line = json!({"sku": sku, "quantity": 1.50, "unit_price": "10.00"});
        order_with("1", &json!({"lines": [line], "remark": "stub: ok"}))
    };
    let put = async |seen: &[(&str, &str)], body: &str| {
        let headers = [seen, &[("content-type", "application/json")]].concat();
        api.send(Method::PUT, "/orders/default/1/payload", &headers, body).await
    };
    let seen = |etag| [("if-match", etag)];
    assert_eq!(put(&[], &edited("A")).await.status().as_u16(), 428);
    assert_eq!(put(&seen("\"r7\""), &edited("A")).await.status().as_u16(), 412);
    assert_eq!(put(&seen("W/x"), &edited("A")).await.status().as_u16(), 412);
    let (status, problem) = read(put(&seen("\"r0\""), r#"{"order_id": "1"}"#).await).await;
    assert_eq!(status, 422, "{problem}");
    let first = put(&seen("\"r0\""), &edited("A")).await;
    assert_eq!(
        (first.status().as_u16(), &first.headers()["etag"]),
        (200, &"\"r1\"".parse().unwrap())
    );
    assert_eq!(put(&seen("\"r0\""), &edited("B")).await.status().as_u16(), 412, "too late");
    let (_, detail) = api.get("/orders/default/1").await;
    assert_eq!(detail["current"]["lines"][0]["sku"], "A");
    assert_eq!(detail["document"]["lines"][0]["sku"], "4711", "the original stays");
    let (status, done) = api.post("/orders/default/1/transfer", &json!({})).await;
    assert_eq!((status, &done["outcome"]), (200, &json!("transferred")), "{done}");
    world.end().await;
}

#[tokio::test]
async fn many_lost_orders_are_planned_started_and_watched() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let documents: Vec<String> = (0..3).map(|n| order_that(&n.to_string(), "reject, ok")).collect();
    world.place(&documents).await;
    world.until_settled(3).await;
    let token = world.token("admin").await;
    let elsewhere = ["tokens", "create", "x", "--scope", "admin", "--shop", "at"];
    let elsewhere = Api { world: &world, token: world.ok(&elsewhere).await.trim().to_owned() };
    let api = Api { world: &world, token };
    assert_eq!(api.post("/redrives", &json!({"group": "x", "filter": {}})).await.0, 422);
    let plan = json!({"filter": {"shop": "default"}, "reason": "mended"}).to_string();
    let kind = [("content-type", "application/json")];
    let planned = api.send(Method::POST, "/redrives", &kind, &plan).await;
    assert_eq!(planned.status().as_u16(), 201);
    let location = planned.headers()["location"].to_str().expect("text").to_owned();
    let path = location.strip_prefix("/api/v1").expect("ours").to_owned();
    let (_, plan) = read(planned).await;
    assert_eq!((&plan["status"], &plan["counts"]["waiting"]), (&json!("planned"), &json!(3)));
    assert_eq!(elsewhere.get(&path).await.0, 404, "orders of other shops");
    let started = api.send(Method::POST, &format!("{path}/start"), &[], "").await;
    assert_eq!(
        (started.status().as_u16(), started.headers()["location"].to_str().unwrap()),
        (202, &*location)
    );
    world
        .until("it is done", async || {
            let (_, redrive) = api.get(&path).await;
            if redrive["status"] == "done" { Ok(()) } else { Err(redrive.to_string()) }
        })
        .await;
    let (_, items) = api.get(&format!("{path}/items?status=transferred&limit=2")).await;
    assert_eq!(
        (items["items"].as_array().map(Vec::len), items["next"].is_string()),
        (Some(2), true)
    );
    assert_eq!(api.post(&format!("{path}/start"), &json!({})).await.0, 409);
    world.end().await;
}

#[tokio::test]
async fn many_lost_orders_are_changed_by_one_patch_after_a_look() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let lost =
        |id: &str, shop: &str| order_with(id, &json!({"shop": shop, "remark": "stub: reject, ok"}));
    world.place(&[lost("1", "de"), lost("2", "de"), lost("3", "at")]).await;
    world.until_settled(3).await;
    let token = world.token("admin").await;
    let of_de = ["tokens", "create", "de", "--scope", "lostorder_edit", "--scope", "orders:read"];
    let of_de = world.ok(&[&of_de[..], &["--shop", "de"]].concat()).await.trim().to_owned();
    let (api, of_de) = (Api { world: &world, token }, Api { world: &world, token: of_de });
    let path = "/lost-orders/patch";
    let swap = json!([{"op": "replace", "path": "/lines/0/sku", "value": "A-1"}]);
    let orders = json!([
        {"shop": "de", "order_id": "1"},
        {"shop": "at", "order_id": "3"},
        {"shop": "de", "order_id": "none"},
    ]);
    let named = |dry_run: bool, patch: &Value| json!({"selection": {"orders": orders}, "patch": patch, "dry_run": dry_run, "reason": "sku"});
    let (status, seen) = of_de.post(path, &named(true, &swap)).await;
    assert_eq!((status, &seen["changed"], &seen["refused"]), (200, &json!(1), &json!(2)), "{seen}");
    let first = &seen["items"][0];
    assert_eq!((&first["order_id"], &first["revision"]), (&json!("1"), &json!(0)));
    assert_eq!(first["differences"][0]["place"], "/lines/0/sku");
    let why: Vec<&str> = seen["items"].as_array().expect("a list")[1..]
        .iter()
        .map(|item| item["refused"].as_str().expect("why"))
        .collect();
    // An order of another shop is told like one that is not there.
    assert!(why.contains(&"there is no order at/3"), "{why:?}");
    assert!(why.contains(&"there is no order de/none"), "{why:?}");
    assert_eq!(api.get("/orders/de/1").await.1["order"]["revision"], 0, "it was only looked at");

    let locked = json!([{"op": "replace", "path": "/total", "value": "1"}]);
    let (_, refused) = of_de.post(path, &named(false, &locked)).await;
    assert_eq!(refused["changed"], 0, "{refused}");
    assert!(refused["items"][0]["refused"].as_str().is_some_and(|w| w.contains("edit_locked")));
    let without_why = json!({"selection": {"filter": {}}, "patch": swap});
    assert_eq!(api.post(path, &without_why).await.0, 422);
    assert_eq!(api.post(path, &named(false, &json!([]))).await.0, 422);
    let all = json!({"selection": {"filter": {"shop": "de"}}, "patch": swap, "reason": "sku"});
    let (status, done) = of_de.post(path, &all).await;
    assert_eq!((status, &done["changed"], &done["refused"]), (200, &json!(2), &json!(0)), "{done}");
    assert_eq!(done["items"][1]["revision"], 1);
    let (_, detail) = api.get("/orders/de/2").await;
    assert_eq!(detail["current"]["lines"][0]["sku"], "A-1");
    assert_eq!(detail["revisions"][0]["reason"], "sku");
    let (_, again) = of_de.post(path, &all).await;
    assert_eq!((&again["changed"], &again["refused"]), (&json!(0), &json!(2)), "nothing changes");
    world.end().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_declared_absent_with_a_reason() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_with("1", &json!({"shop": "de"}))]).await;
    world.until_settled(1).await;
    // The stub is asked by number alone, and has one: the other shop's. So it stays unknown.
    world.stub.script("1", &[StubMode::Cut]);
    world.place(&[order_with("1", &json!({"shop": "at"}))]).await;
    world.until_phase("at/1", "outcome_unknown").await;
    let path = "/orders/at/1/declare-absent";
    let why = json!({"reason": "looked it up"});
    for (scope, expected) in [("orders:read", 403), ("lostorder_process", 404)] {
        let token = world.token(scope).await;
        assert_eq!(Api { world: &world, token }.post(path, &why).await.0, expected, "{scope}");
    }
    let token = world.token("admin").await;
    let api = Api { world: &world, token };
    for unsaid in [json!({}), json!({"reason": "  "})] {
        assert_eq!(api.post(path, &unsaid).await.0, 422);
    }
    world
        .until("it is declared while nobody asks the ERP about it", async || {
            let (status, sent) = api.post(path, &why).await;
            if status == 200 { Ok(()) } else { Err(format!("{status}: {sent}")) }
        })
        .await;
    let (_, audit) = api.get("/audit?target=at/1&action=order.declare_absent").await;
    assert_eq!(audit["items"][0]["reason"], "looked it up", "{audit}");
    assert_eq!(audit["items"].as_array().map(Vec::len), Some(1), "{audit}");
    assert_eq!(api.post("/orders/de/1/declare-absent", &why).await.0, 409, "it is confirmed");
    world.leave().await;
}

#[tokio::test]
async fn users_and_tokens_are_made_changed_and_ended_and_no_secret_is_kept() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let token = world.token("admin").await;
    let api = Api { world: &world, token };
    let viewer = json!({"name": "Kim", "roles": [{"role": "viewer"}]});
    let key = [("idempotency-key", "k-1"), ("content-type", "application/json")];
    let body = viewer.to_string();
    let (status, added) = read(api.send(Method::POST, "/users", &key, &body).await).await;
    assert_eq!((status, &added["name"]), (201, &json!("kim")), "{added}");
    let first = added["password"].as_str().expect("a password").to_owned();
    let again = read(api.send(Method::POST, "/users", &key, &body).await).await;
    assert_eq!(again.0, 409, "the password is not kept, nor shown again: {}", again.1);
    let enters =
        async |password: &str| try_login(&world, "kim", password).await.status().as_u16() == 303;
    assert!(enters(&first).await);
    let (_, list) = api.get("/users").await;
    assert_eq!(list["items"][0]["roles"], json!([{"role": "viewer"}]));
    assert!(!list.to_string().contains(&first), "{list}");
    let roles = json!({"roles": [{"role": "operator", "shop": "de"}]}).to_string();
    let kind = [("content-type", "application/json")];
    let set = read(api.send(Method::PUT, "/users/kim/roles", &kind, &roles).await).await;
    assert_eq!(set.0, 200, "{}", set.1);
    assert_eq!(api.get("/users").await.1["items"][0]["roles"][0]["shop"], "de");
    let (_, changed) = api.post("/users/kim/password", &json!({})).await;
    let second = changed["password"].as_str().expect("a password").to_owned();
    assert!(!enters(&first).await && enters(&second).await);
    assert_eq!(api.post("/users/kim/disable", &json!({})).await.0, 200);
    assert!(api.get("/users").await.1["items"][0]["disabled_at"].is_string());
    assert!(!enters(&second).await);
    assert_eq!(api.post("/users/kim/enable", &json!({})).await.0, 200);
    assert!(api.get("/users").await.1["items"][0]["disabled_at"].is_null());
    assert_eq!(read(api.send(Method::DELETE, "/users/kim", &[], "").await).await.0, 200);
    assert_eq!(read(api.send(Method::DELETE, "/users/kim", &[], "").await).await.0, 404);

    let desk = json!({"name": "desk", "scopes": ["orders:read"], "shops": ["de"]});
    let (status, made) = api.post("/tokens", &desk).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["token"].as_str().expect("a token").to_owned();
    let holder = Api { world: &world, token: secret.clone() };
    assert_eq!((holder.get("/orders").await.0, holder.get("/tokens").await.0), (200, 403));
    assert_eq!(api.post("/tokens", &desk).await.0, 409);
    for wrong in [
        json!({"name": "x", "scopes": ["everything"]}),
        json!({"name": "x", "scopes": ["admin"], "expires_at": "soon"}),
        json!({"name": "x", "scopes": ["admin"], "expires_at": "2001-01-01T00:00:00Z"}),
    ] {
        assert_eq!(api.post("/tokens", &wrong).await.0, 422, "{wrong}");
    }
    let (_, list) = api.get("/tokens").await;
    assert!(list.to_string().contains("desk") && !list.to_string().contains(&secret), "{list}");
    assert_eq!(read(api.send(Method::DELETE, "/tokens/desk", &[], "").await).await.0, 200);
    assert_eq!(holder.get("/orders").await.0, 401);
    let bytes = std::fs::read(world.folder.path().join("ledger.db")).expect("the ledger");
    let wal = std::fs::read(world.folder.path().join("ledger.db-wal")).unwrap_or_default();
    for secret in [&first, &second, &secret] {
        let holds =
            |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!holds(&bytes) && !holds(&wal), "the ledger holds a secret");
    }
    world.leave().await;
}
