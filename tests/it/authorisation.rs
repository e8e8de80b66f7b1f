//! Who may do what, walked exhaustively: every route with every role, without a login, with a token
//! that has ended, and with one of another shop. A route that is missing here fails.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use order_relay::domain::permission::{Permission, Role};
use order_relay::web::api::routes::operations;
use reqwest::Method;

use crate::people::{Browser, add_user, client, log_in};
use crate::world::{Place, World, order_that, order_with};

/// A request that means something, and what it is answered where it is allowed and in another shop.
/// The order is confirmed: nothing can be done to it, so that the walk leaves all as it was.
struct Case {
    method: Method,
    path: &'static str,
    concrete: &'static str,
    body: &'static str,
    allowed: u16,
    elsewhere: u16,
}

fn case(
    method: Method,
    (path, concrete): (&'static str, &'static str),
    body: &'static str,
    (allowed, elsewhere): (u16, u16),
) -> Case {
    Case { method, path, concrete, body, allowed, elsewhere }
}

const ORDER: &str = r#"{"order_id": "1", "shop": "de", "currency": "EUR", "total": "1",
    "customer": {"email": "a@example.com"},
    "lines": [{"sku": "1", "quantity": 1, "unit_price": "1"}]}"#;

const PATCH: &str = r#"{"selection": {"orders": [{"shop": "de", "order_id": "1"}]},
    "patch": [{"op": "remove", "path": "/remark"}], "reason": "a test"}"#;

fn cases() -> Vec<Case> {
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    macro_rules! at {
        ($path:literal) => {
            (concat!("/api/v1", $path), concat!("/api/v1", $path))
        };
        ($path:literal, $concrete:literal) => {
            (concat!("/api/v1", $path), concat!("/api/v1", $concrete))
        };
    }
    let why = r#"{"reason": "a test"}"#;
    vec![
        case(post.clone(), at!("/orders"), ORDER, (202, 403)),
        case(get.clone(), at!("/orders"), "", (200, 200)),
        case(get.clone(), at!("/orders/{shop}/{order_id}", "/orders/de/1"), "", (200, 404)),
        case(
            post.clone(),
            at!("/orders/{shop}/{order_id}/transfer", "/orders/de/1/transfer"),
            "",
            (409, 404),
        ),
        case(
            post.clone(),
            at!("/orders/{shop}/{order_id}/reconcile", "/orders/de/1/reconcile"),
            "",
            (409, 404),
        ),
        case(
            post.clone(),
            at!("/orders/{shop}/{order_id}/remove", "/orders/de/1/remove"),
            why,
            (409, 404),
        ),
        case(
            post.clone(),
            at!("/orders/{shop}/{order_id}/restore", "/orders/de/1/restore"),
            "",
            (409, 404),
        ),
        case(
            put.clone(),
            at!("/orders/{shop}/{order_id}/payload", "/orders/de/1/payload"),
            ORDER,
            (428, 404),
        ),
        case(
            post.clone(),
            at!("/orders/{shop}/{order_id}/declare-absent", "/orders/de/1/declare-absent"),
            why,
            (409, 404),
        ),
        case(
            post.clone(),
            at!("/orders/{shop}/{order_id}/settle-double", "/orders/de/1/settle-double"),
            why,
            (404, 404),
        ),
        case(
            post.clone(),
            at!("/orders/{shop}/{order_id}/accept-total", "/orders/de/1/accept-total"),
            why,
            (409, 404),
        ),
        case(
            post.clone(),
            at!("/orders/{shop}/{order_id}/erase", "/orders/de/none/erase"),
            why,
            (404, 403),
        ),
        case(post.clone(), at!("/lost-orders/patch"), PATCH, (200, 200)),
        case(get.clone(), at!("/redrives"), "", (200, 200)),
        case(post.clone(), at!("/redrives"), "{}", (422, 422)),
        case(get.clone(), at!("/redrives/{id}", "/redrives/x"), "", (404, 404)),
        case(get.clone(), at!("/redrives/{id}/items", "/redrives/x/items"), "", (404, 404)),
        case(post.clone(), at!("/redrives/{id}/start", "/redrives/x/start"), "", (404, 404)),
        case(post.clone(), at!("/redrives/{id}/pause", "/redrives/x/pause"), "", (404, 404)),
        case(post.clone(), at!("/redrives/{id}/resume", "/redrives/x/resume"), "", (404, 404)),
        case(post.clone(), at!("/redrives/{id}/cancel", "/redrives/x/cancel"), "", (404, 404)),
        case(
            Method::PATCH,
            at!("/redrives/{id}/rate", "/redrives/x/rate"),
            r#"{"rate_per_minute": 1}"#,
            (404, 404),
        ),
        case(get.clone(), at!("/groups"), "", (200, 200)),
        case(get.clone(), at!("/groups/{fingerprint}", "/groups/00"), "", (404, 404)),
        case(put.clone(), at!("/groups/{fingerprint}/note", "/groups/00/note"), "{}", (404, 403)),
        case(get.clone(), at!("/dead-letters"), "", (200, 403)),
        case(
            get.clone(),
            at!("/dead-letters/{id}", "/dead-letters/00000000-0000-7000-8000-000000000000"),
            "",
            (404, 403),
        ),
        case(
            post.clone(),
            at!("/dead-letters/{id}/replay", "/dead-letters/x/replay"),
            "",
            (404, 403),
        ),
        case(
            post.clone(),
            at!("/dead-letters/{id}/discard", "/dead-letters/x/discard"),
            "",
            (404, 403),
        ),
        case(get.clone(), at!("/circuits"), "", (200, 200)),
        case(post.clone(), at!("/circuits/{erp}/hold", "/circuits/none/hold"), why, (404, 403)),
        case(
            post.clone(),
            at!("/circuits/{erp}/release", "/circuits/none/release"),
            "",
            (404, 403),
        ),
        case(get.clone(), at!("/users"), "", (200, 403)),
        case(post.clone(), at!("/users"), r#"{"name": "x", "roles": []}"#, (422, 403)),
        case(
            put.clone(),
            at!("/users/{name}/roles", "/users/none/roles"),
            r#"{"roles": [{"role": "viewer"}]}"#,
            (404, 403),
        ),
        case(post.clone(), at!("/users/{name}/password", "/users/none/password"), "", (404, 403)),
        case(
            post.clone(),
            at!("/users/{name}/end-sessions", "/users/none/end-sessions"),
            "",
            (200, 403),
        ),
        case(post.clone(), at!("/users/{name}/disable", "/users/none/disable"), "", (404, 403)),
        case(post.clone(), at!("/users/{name}/enable", "/users/none/enable"), "", (404, 403)),
        case(Method::DELETE, at!("/users/{name}", "/users/none"), "", (404, 403)),
        case(get.clone(), at!("/tokens"), "", (200, 403)),
        case(post.clone(), at!("/tokens"), r#"{"name": "x", "scopes": []}"#, (422, 403)),
        case(Method::DELETE, at!("/tokens/{name}", "/tokens/none"), "", (404, 403)),
        case(get.clone(), at!("/audit"), "", (200, 200)),
        case(get.clone(), at!("/ledger"), "", (200, 403)),
        case(get.clone(), at!("/mails"), "", (200, 403)),
        case(get.clone(), at!("/channels"), "", (200, 403)),
        case(get.clone(), at!("/channel-messages"), "", (200, 403)),
        case(get.clone(), at!("/channel-messages/{id}", "/channel-messages/x"), "", (404, 403)),
        case(
            post.clone(),
            at!("/channel-messages/{id}/resend", "/channel-messages/x/resend"),
            "",
            (404, 403),
        ),
        case(post.clone(), at!("/channels/{name}/test", "/channels/none/test"), "", (404, 403)),
        case(get, at!("/mails/{id}", "/mails/x"), "", (404, 403)),
        case(post.clone(), at!("/mails/{id}/resend", "/mails/x/resend"), "", (404, 403)),
        case(post.clone(), at!("/mails/{id}/acknowledge", "/mails/x/acknowledge"), why, (404, 403)),
    ]
}

/// A caller.
enum Who {
    Nobody,
    Token(String),
    Session(Browser),
}

struct Actor {
    name: String,
    who: Who,
    permissions: Vec<Permission>,
    place: Where,
}

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Nowhere,
    Everywhere,
    AnotherShop,
}

async fn actors(world: &mut World) -> Vec<Actor> {
    let actor = |name: &str, who, permissions: &[Permission], place| Actor {
        name: name.to_owned(),
        who,
        permissions: permissions.to_vec(),
        place,
    };
    let mut actors = vec![
        actor("nobody", Who::Nobody, &[], Where::Nowhere),
        actor("a made-up token", Who::Token("orl_00".to_owned()), &[], Where::Nowhere),
    ];
    let mut every = vec!["tokens", "create", "elsewhere", "--shop", "at"];
    every.extend(Permission::ALL.iter().flat_map(|p| ["--scope", p.as_str()]));
    let elsewhere = world.ok(&every).await.trim().to_owned();
    let all = &Permission::ALL;
    actors.push(actor("another shop", Who::Token(elsewhere), all, Where::AnotherShop));
    let revoked = world.token("admin").await;
    let listed = world.ok(&["tokens", "list", "--output", "json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let last = listed.as_array().and_then(|all| all.last()).expect("a token");
    world.ok(&["tokens", "revoke", last["name"].as_str().expect("a name")]).await;
    actors.push(actor("a token that has ended", Who::Token(revoked), &[], Where::Nowhere));
    let brief = ["tokens", "create", "brief", "--scope", "admin", "--expires-in", "1ms"];
    let expired = world.ok(&brief).await.trim().to_owned();
    actors.push(actor("an expired token", Who::Token(expired), &[], Where::Nowhere));
    for permission in Permission::ALL {
        let token = world.token(permission.as_str()).await;
        let allows = if permission == Permission::Admin { all.to_vec() } else { vec![permission] };
        let name = format!("a token with {}", permission.as_str());
        actors.push(actor(&name, Who::Token(token), &allows, Where::Everywhere));
    }
    for role in Role::ALL {
        let password = add_user(world, role.as_str(), &[role.as_str()]).await;
        let browser = log_in(world, role.as_str(), &password).await;
        let (who, may) = (Who::Session(browser), role.permissions());
        actors.push(actor(role.as_str(), who, may, Where::Everywhere));
    }
    actors
}

async fn knock(world: &World, actor: &Actor, method: &Method, path: &str, body: &str) -> u16 {
    let url = world.web(path);
    let request = match &actor.who {
        Who::Nobody => client().request(method.clone(), url),
        Who::Token(token) => client().request(method.clone(), url).bearer_auth(token),
        Who::Session(browser) => {
            browser.request(method.clone(), &url).header("x-csrf-token", browser.csrf())
        }
    };
    let request = request.header("content-type", "application/json").body(body.to_owned());
    request.send().await.expect("the web port answers").status().as_u16()
}

fn expected(actor: &Actor, needs: Permission, case: &Case) -> u16 {
    // Whoever may not read at all does not even learn whether an order is there.
    let reads = actor.permissions.contains(&Permission::Read);
    let is_order = case.path.contains("{order_id}");
    match actor.place {
        Where::Nowhere => 401,
        _ if !actor.permissions.contains(&needs) => 403,
        Where::AnotherShop => case.elsewhere,
        Where::Everywhere if is_order && !reads => 404,
        Where::Everywhere if !reads && is_of_all_shops(case.path) => 403,
        Where::Everywhere => case.allowed,
    }
}

#[tokio::test]
async fn every_route_answers_every_role_as_it_must() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_with("1", &serde_json::json!({"shop": "de"}))]).await;
    world.until_settled(1).await;
    let (cases, operations) = (cases(), operations());
    let known: BTreeSet<_> = cases.iter().map(|c| (c.method.as_str(), c.path)).collect();
    let all: BTreeSet<_> =
        operations.iter().map(|o| (o.method.as_str(), o.path.as_str())).collect();
    assert_eq!(known, all, "every operation stands in the table, and nothing else");
    let actors = actors(&mut world).await;
    let mut faults = String::new();
    for case in &cases {
        let operation = operations.iter().find(|o| o.method == case.method && o.path == case.path);
        let needs = operation.expect("it was compared").needs;
        for actor in &actors {
            let expected = expected(actor, needs, case);
            // The order is there already, in other words.
            let told = knock(&world, actor, &case.method, case.concrete, case.body).await;
            let same = told == expected || (case.body == ORDER && expected == 202 && told == 409);
            if !same {
                let (method, path) = (&case.method, case.concrete);
                let line = format!("{method} {path} by {}: {told}, not {expected}", actor.name);
                writeln!(faults, "{line}").expect("text grows");
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
    world.end().await;
}

#[tokio::test]
async fn a_token_without_lostorder_process_cannot_transfer_and_a_viewer_changes_nothing() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_that("1", "reject, ok")]).await;
    world.until_settled(1).await;
    let before = world.order("1").await.record;
    assert_eq!(before.phase.name(), "parked");
    let transfer = "/api/v1/orders/default/1/transfer";
    for permission in Permission::ALL {
        if matches!(permission, Permission::Process | Permission::Admin) {
            continue;
        }
        let who = Who::Token(world.token(permission.as_str()).await);
        let name = permission.as_str().to_owned();
        let actor = Actor { name, who, permissions: Vec::new(), place: Where::Everywhere };
        assert_eq!(knock(&world, &actor, &Method::POST, transfer, "").await, 403, "{}", actor.name);
    }
    let password = add_user(&world, "kim", &["viewer"]).await;
    let who = Who::Session(log_in(&world, "kim", &password).await);
    let name = "kim".to_owned();
    let viewer = Actor { name, who, permissions: Vec::new(), place: Where::Everywhere };
    for operation in operations().iter().filter(|o| o.method != Method::GET) {
        let path = operation.path.replace("{shop}", "default").replace("{order_id}", "1");
        let path = path.replace("{erp}", "default").replace(['{', '}'], "x");
        let told = knock(&world, &viewer, &operation.method, &path, "{}").await;
        assert_eq!(told, 403, "{} {path}", operation.method);
    }
    assert_eq!(world.order("1").await.record, before, "nothing was changed");
    assert_eq!(world.stub.orders()["1"].sent, 1, "nothing was sent");

    // Whoever may in this shop only, may here and not in the next.
    let tokens = [
        "tokens",
        "create",
        "desk",
        "--scope",
        "orders:read",
        "--scope",
        "lostorder_process",
        "--shop",
        "default",
    ];
    let who = Who::Token(world.ok(&tokens).await.trim().to_owned());
    let name = "desk".to_owned();
    let desk = Actor { name, who, permissions: Vec::new(), place: Where::Everywhere };
    assert_eq!(knock(&world, &desk, &Method::POST, transfer, "").await, 200);
    let other = "/api/v1/orders/at/1/transfer";
    assert_eq!(knock(&world, &desk, &Method::POST, other, "").await, 404);
    assert_eq!(world.order("1").await.record.phase.name(), "transferred");
    world.end().await;
}

/// What belongs to no shop has to be readable for whoever changes it.
fn is_of_all_shops(path: &str) -> bool {
    ["/dead-letters", "/mails", "/channel-messages"].iter().any(|part| path.contains(part))
}
