//! Who may do what in the back office, walked exhaustively: every page and every form with every role,
//! without a login, of another shop, and with the secret or the origin of a form that is not ours.
//! A route that is missing here fails.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use order_relay::domain::permission::{Permission, Role};
use order_relay::web::pages::routes::page_routes;
use reqwest::Method;

use crate::people::{Browser, add_user, client, log_in};
use crate::world::{Place, World, order_with};

const LETTER: &str = "/dead-letters/00000000-0000-7000-8000-000000000000";
const MESSAGE: &str = "/channel-messages/00000000-0000-7000-8000-000000000000";
const MAIL: &str = "/mails/00000000-0000-7000-8000-000000000000";

/// A valid form, and its answer.
struct Case {
    method: Method,
    path: &'static str,
    /// The parts of the path, as they are asked for; the rest is as it stands in `path`.
    concrete: String,
    form: &'static str,
    /// For users with the permission for all shops.
    allowed: u16,
    /// For users with the permission in another shop only.
    elsewhere: u16,
    /// For users who may read all shops and have the permission in another one only.
    reads_only: u16,
}

fn page(path: &'static str, concrete: &str, (allowed, elsewhere): (u16, u16)) -> Case {
    let concrete = concrete.to_owned();
    Case { method: Method::GET, path, concrete, form: "", allowed, elsewhere, reads_only: allowed }
}

fn form(
    path: &'static str,
    concrete: &str,
    form: &'static str,
    (allowed, elsewhere, reads_only): (u16, u16, u16),
) -> Case {
    let concrete = concrete.to_owned();
    Case { method: Method::POST, path, concrete, form, allowed, elsewhere, reads_only }
}

/// The order is confirmed and the redrive has nothing to send: nothing can be done to them, so that
/// the walk leaves all as it was. Forms with a fault are there to see that the permission comes first.
fn cases(redrive: &str) -> Vec<Case> {
    let order = |verb: &str| format!("/orders/de/1{verb}");
    let of_redrive = |rest: &str| format!("/redrives/{redrive}{rest}");
    let of_letter = |rest: &str| format!("{LETTER}{rest}");
    let mut cases = vec![
        page("/", "/", (200, 200)),
        page("/live", "/live", (200, 200)),
        page("/find", "/find?q=1", (303, 303)),
        page("/lost-orders", "/lost-orders", (200, 200)),
        page("/lost-orders.csv", "/lost-orders.csv", (200, 200)),
        page("/groups/{fingerprint}", "/groups/00", (404, 404)),
        page("/orders", "/orders", (200, 200)),
        page("/orders.csv", "/orders.csv", (200, 200)),
        page("/orders/{shop}/{order_id}", &order(""), (200, 404)),
        page("/orders/{shop}/{order_id}/document", &order("/document"), (200, 404)),
        Case {
            reads_only: 403,
            ..page("/orders/{shop}/{order_id}/edit", &order("/edit"), (200, 404))
        },
        page("/redrives", "/redrives", (200, 200)),
        page("/redrives/{id}", &of_redrive(""), (200, 404)),
        page("/redrives/{id}/live", &of_redrive("/live"), (200, 404)),
        page("/redrives/{id}/items.csv", &of_redrive("/items.csv"), (200, 404)),
        page("/dead-letters", "/dead-letters", (200, 403)),
        page("/dead-letters/{id}", LETTER, (404, 403)),
        page("/dead-letters/{id}/bytes", &of_letter("/bytes"), (404, 403)),
        page("/mails", "/mails", (200, 403)),
        page("/mail-previews", "/mail-previews", (200, 403)),
        page("/mail-previews/{kind}", "/mail-previews/digest", (200, 403)),
        page("/mail-previews/{kind}/html", "/mail-previews/digest/html", (200, 403)),
        page("/mails/{id}", MAIL, (404, 403)),
        page("/mails/{id}/html", &format!("{MAIL}/html"), (404, 403)),
        page("/mails/{id}/failures.csv", &format!("{MAIL}/failures.csv"), (404, 403)),
        page("/channels", "/channels", (200, 403)),
        page("/channel-messages", "/channel-messages", (200, 403)),
        page("/channel-messages/{id}", MESSAGE, (404, 403)),
        Case { reads_only: 403, ..page("/new-channel", "/new-channel", (200, 403)) },
        Case {
            reads_only: 403,
            ..page("/channels/{name}/edit", "/channels/none/edit", (404, 403))
        },
        page("/audit", "/audit", (200, 200)),
        page("/audit.csv", "/audit.csv", (200, 200)),
        page("/status", "/status", (200, 403)),
        Case { reads_only: 403, ..page("/people", "/people", (200, 403)) },
        page("/me", "/me", (200, 200)),
        page("/assets/{build}/{name}", "/assets/x/icon.svg", (200, 200)),
        page("/language/{code}", "/language/xx", (303, 303)),
        form("/erps/{erp}/hold", "/erps/none/hold", "reason=a+test", (404, 403, 403)),
        form("/erps/{erp}/release", "/erps/none/release", "", (404, 403, 403)),
        // What is done to many is told for each of them.
        form("/lost-orders/remove", "/lost-orders/remove", "order=de/1&kind=test", (200, 200, 200)),
        form(
            "/lost-orders/change",
            "/lost-orders/change",
            "order=de/1&do=apply&reason=a+test&patch=%5B%7B%22op%22%3A%22remove%22%2C%22path%22%3A%22%2Fremark%22%7D%5D",
            (200, 200, 200),
        ),
        form("/groups/{fingerprint}/note", "/groups/00/note", "note=x", (404, 403, 403)),
        form("/redrives", "/redrives", "failed_of=x", (404, 404, 404)),
        form("/redrives/{id}/{verb}", &of_redrive("/rate"), "rate=many", (422, 404, 403)),
        form("/dead-letters/{id}/replay", &of_letter("/replay"), "", (404, 403, 403)),
        form("/dead-letters/{id}/discard", &of_letter("/discard"), "", (404, 403, 403)),
        form("/mails/{id}/resend", &format!("{MAIL}/resend"), "", (404, 403, 403)),
        form(
            "/mails/{id}/acknowledge",
            &format!("{MAIL}/acknowledge"),
            "reason=a+test",
            (404, 403, 403),
        ),
        form("/channel-messages/{id}/resend", &format!("{MESSAGE}/resend"), "", (404, 403, 403)),
        form("/channels/{name}/test", "/channels/none/test", "", (404, 403, 403)),
        form("/channels", "/channels", "name=x&version=many", (422, 403, 403)),
        form("/channels/{name}/delete", "/channels/none/delete", "", (404, 403, 403)),
        form("/people/users", "/people/users", "", (422, 403, 403)),
        form(
            "/people/users/{name}/{verb}",
            "/people/users/nobody/roles",
            "role=none",
            (422, 403, 403),
        ),
        form("/people/tokens", "/people/tokens", "days=many", (422, 403, 403)),
        form("/people/tokens/{name}/revoke", "/people/tokens/none/revoke", "", (404, 403, 403)),
    ];
    let verbs = [
        ("/orders/{shop}/{order_id}/transfer", "/transfer", "", 409),
        ("/orders/{shop}/{order_id}/ask", "/ask", "", 409),
        ("/orders/{shop}/{order_id}/absent", "/absent", "", 422),
        ("/orders/{shop}/{order_id}/remove", "/remove", "", 422),
        ("/orders/{shop}/{order_id}/restore", "/restore", "", 422),
        ("/orders/{shop}/{order_id}/settle-double", "/settle-double", "", 422),
        ("/orders/{shop}/{order_id}/accept-total", "/accept-total", "", 422),
        ("/orders/{shop}/{order_id}/edit", "/edit", "", 422),
    ];
    cases.extend(
        verbs.map(|(path, verb, typed, told)| form(path, &order(verb), typed, (told, 404, 403))),
    );
    cases
}

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Nowhere,
    Everywhere,
    AnotherShop,
    /// Sees every shop, does something in another one.
    ReadsOnly,
}

struct Actor {
    name: String,
    browser: Option<Browser>,
    role: Role,
    place: Where,
}

impl Actor {
    async fn of(world: &World, name: &str, roles: &[&str], role: Role, place: Where) -> Self {
        let password = add_user(world, name, roles).await;
        let browser = Some(log_in(world, name, &password).await);
        Self { name: name.to_owned(), browser, role, place }
    }

    fn may(&self, needs: Permission) -> bool {
        self.role.permissions().contains(&needs)
    }
}

async fn actors(world: &World) -> Vec<Actor> {
    let nobody = "nobody".to_owned();
    let mut actors =
        vec![Actor { name: nobody, browser: None, role: Role::Viewer, place: Where::Nowhere }];
    for role in Role::ALL {
        let name = role.as_str();
        actors.push(Actor::of(world, name, &[name], role, Where::Everywhere).await);
        let (limited, at) = (format!("{name}-at"), format!("{name}:at"));
        actors.push(Actor::of(world, &limited, &[&at], role, Where::AnotherShop).await);
        let both = format!("{name}-reads");
        let roles = ["viewer", at.as_str()];
        actors.push(Actor::of(world, &both, &roles, role, Where::ReadsOnly).await);
    }
    actors
}

fn expected(actor: &Actor, needs: Option<Permission>, case: &Case) -> u16 {
    let is_page = case.method == Method::GET;
    match (actor.place, needs) {
        (_, None) => case.allowed,
        (Where::Nowhere, _) => {
            if is_page {
                303
            } else {
                401
            }
        }
        (_, Some(needs)) if !actor.may(needs) => 403,
        (Where::Everywhere, _) => case.allowed,
        (Where::AnotherShop, _) => case.elsewhere,
        (Where::ReadsOnly, _) => case.reads_only,
    }
}

/// The status, and where it leads to.
async fn knock(world: &World, actor: &Actor, case: &Case) -> (u16, String) {
    let url = world.web(&case.concrete);
    let request = match &actor.browser {
        None => client().request(case.method.clone(), url).body(case.form),
        Some(browser) if case.method == Method::GET => browser.request(Method::GET, &url),
        Some(browser) => {
            let typed = format!("{}&csrf={}", case.form, browser.csrf());
            browser.request(Method::POST, &url).body(typed)
        }
    };
    let response = request.send().await.expect("the web port answers");
    let location = response.headers().get("location").and_then(|to| to.to_str().ok());
    (response.status().as_u16(), location.unwrap_or_default().to_owned())
}

/// A confirmed order of shop `de` and a plan with it, in which nothing is to be sent; its id.
async fn furnished() -> (World, String) {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_with("1", &serde_json::json!({"shop": "de"}))]).await;
    world.until_settled(1).await;
    let plan = world.ok(&["redrive", "plan", "de/1", "--output", "json"]).await;
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let id = plan["id"].as_str().expect("an id").to_owned();
    (world, id)
}

#[tokio::test]
async fn every_page_and_every_form_answers_every_role_as_it_must() {
    let (mut world, redrive) = furnished().await;
    let (cases, routes) = (cases(&redrive), page_routes());
    let known: BTreeSet<_> = cases.iter().map(|c| (c.method.as_str(), c.path)).collect();
    let all: BTreeSet<_> = routes.iter().map(|r| (r.method.as_str(), r.path)).collect();
    assert_eq!(known, all, "every route stands in the table, and nothing else");
    let before = world.order("de/1").await;
    let actors = actors(&world).await;
    let mut faults = String::new();
    for case in &cases {
        let route = routes.iter().find(|r| r.method == case.method && r.path == case.path);
        let needs = route.expect("it was compared").needs;
        for actor in &actors {
            let expected = expected(actor, needs, case);
            let (told, location) = knock(&world, actor, case).await;
            let leads_to_login = location.starts_with("/login?return_to=");
            let must_log_in = needs.is_some() && actor.place == Where::Nowhere && expected == 303;
            if told != expected || leads_to_login != must_log_in {
                let (method, path, name) = (&case.method, &case.concrete, &actor.name);
                let line = format!("{method} {path} by {name}: {told} {location}, not {expected}");
                writeln!(faults, "{line}").expect("text grows");
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
    let after = world.order("de/1").await;
    assert_eq!(after.record, before.record, "nothing was changed");
    assert_eq!(after.audit.len(), before.audit.len(), "nothing was done");
    world.end().await;
}

#[tokio::test]
async fn every_form_of_another_site_or_without_its_secret_is_refused() {
    let (world, redrive) = furnished().await;
    let password = add_user(&world, "erika", &["admin"]).await;
    let browser = log_in(&world, "erika", &password).await;
    let other = log_in(&world, "erika", &password).await;
    let own = browser.csrf();
    let mut faults = String::new();
    for case in cases(&redrive).iter().filter(|case| case.method == Method::POST) {
        let url = world.web(&case.concrete);
        for (header, csrf) in [
            (("accept", "text/html"), ""),
            (("accept", "text/html"), "00"),
            (("accept", "text/html"), other.csrf().as_str()),
            (("origin", "https://evil.example"), own.as_str()),
            (("origin", "null"), own.as_str()),
            (("sec-fetch-site", "cross-site"), own.as_str()),
            (("sec-fetch-site", "same-site"), own.as_str()),
        ] {
            let typed = format!("{}&csrf={csrf}", case.form);
            let request = browser.request(Method::POST, &url).header(header.0, header.1);
            let told = request.body(typed).send().await.expect("the web port answers").status();
            if told.as_u16() != 403 {
                let path = &case.concrete;
                writeln!(faults, "{path} with {header:?} and csrf {csrf}: {told}").expect("text");
            }
        }
        let request = browser.request(Method::POST, &url);
        let right = request.header("origin", "https://relay.example.com");
        let right = right.body(format!("{}&csrf={own}", case.form)).send().await;
        let told = right.expect("the web port answers").status().as_u16();
        if told != case.allowed {
            writeln!(faults, "{} of our own: {told}", case.concrete).expect("text grows");
        }
    }
    assert!(faults.is_empty(), "{faults}");
    world.end().await;
}
