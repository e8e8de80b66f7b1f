//! Every page over a ledger with something of every kind, in both languages, through the real router.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use futures_util::FutureExt;
use order_relay::domain::permission::{Role, RoleGrant};
use order_relay::domain::redrive::RedriveThrottle;
use order_relay::ops::people::NewUser;
use order_relay::ports::mail::MailPreviews;
use order_relay::ports::redrives::Selection;
use order_relay::web::auth::access::Access;
use order_relay::web::html::templates::Pages;
use order_relay::web::pages::routes::page_routes;
use order_relay::web::router::router;
use order_relay::web::state::Web;
use serde_json::json;
use tower::ServiceExt;

use crate::erp::Turn::*;
use crate::receivers::channel;
use crate::world::{Setup, World, key, operator};

const NAME: &str = "erika";
const PASSWORD: &str = "correct horse battery";

/// A logged-in browser without a socket.
struct Browser {
    router: Router,
    cookie: String,
    csrf: String,
}

impl Browser {
    async fn new(world: &World) -> Self {
        let roles = vec![RoleGrant { role: Role::Admin, shop: None }];
        let user =
            NewUser { name: NAME.to_owned(), password: PASSWORD.to_owned(), roles, language: None };
        world.ops.add_user(user, &world.act("new")).await.expect("the user is made");
        let begun = world.ops.log_in(NAME, PASSWORD, None).await.expect("the ledger answers");
        let token = begun.expect("the password fits").token;
        let session = world.ops.session(&token, None).await.expect("the ledger answers");
        let csrf = session.expect("it has begun").csrf;
        let web = Web {
            ops: world.ops.clone(),
            metrics: world.metrics.clone(),
            pages: Arc::new(Pages::new().expect("good templates")),
            counts: Arc::default(),
            check: Arc::new(|| async { Vec::new() }.boxed()),
            previews: Arc::new(world.templates()),
            draining: Arc::default(),
            access: Arc::new(Access::new("http://relay", 0)),
            needs_broker: true,
        };
        Self { router: router(web), cookie: format!("order_relay_session={token}"), csrf }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.expect("it answers")
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, String) {
        let answer = self.send(request).await;
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 24).await.expect("a body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn get(&self, address: &str, language: &str) -> (StatusCode, String) {
        let request = Request::get(address)
            .header(header::COOKIE, &self.cookie)
            .header(header::ACCEPT_LANGUAGE, language);
        self.ask(request.body(Body::empty()).expect("a request")).await
    }

    async fn post(&self, address: &str, form: &str) -> (StatusCode, String) {
        let request = Request::post(address)
            .header(header::COOKIE, &self.cookie)
            .header(header::ORIGIN, "http://relay")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = Body::from(format!("csrf={}&{form}", self.csrf));
        self.ask(request.body(body).expect("a request")).await
    }
}

/// An order of every phase, a dead letter, a mail, a group and a redrive.
async fn full_world() -> (World, BTreeMap<&'static str, String>) {
    let world = World::with(Setup { channels: vec![channel("ops")], ..Setup::default() }).await;
    world.erp.will("lost", &[Refuse]);
    world.erp.will("late", &vec![Busy; 9]);
    world.erp.will("unclear", &[LoseRequest]);
    for id in ["done", "lost", "late", "unclear"] {
        world.place(id).await;
    }
    world.place_with("other", &json!({"lines": []})).await;
    world.until("lost", "parked").await;
    world.seconds(5).await;
    let letters = world.ops.dead_letters(&operator(), true, 1).await.expect("the ledger answers");
    let mails = world.ops.mails(&operator(), None, 1).await.expect("the ledger answers");
    let groups = world.ops.groups(&operator()).await.expect("the ledger answers");
    let selection = Selection::Orders(vec![key("lost")]);
    let throttle = RedriveThrottle::default();
    let redrive = world.ops.plan_redrive(selection, throttle, &world.act("again")).await;
    let test = world.ops.test_channel("ops", &world.act("")).await.expect("it is sent");
    let stored = world.ops.save_channel("chat", "{}".to_owned(), 0, &world.act("")).await;
    stored.expect("it is saved");
    let ids = BTreeMap::from([
        ("/channel-messages/", test.message.to_string()),
        ("/dead-letters/", letters[0].id.to_string()),
        ("/mails/", mails[0].id.to_string()),
        ("/groups/", groups[0].fingerprint.clone()),
        ("/redrives/", redrive.expect("it is planned").id.to_string()),
    ]);
    (world, ids)
}

/// The address of a page with something in the place of its braces; none for streams.
fn address(path: &str, ids: &BTreeMap<&str, String>) -> Option<String> {
    let is_page = !path.ends_with("/live")
        && !path.ends_with("/failures.csv")
        && !path.starts_with("/assets")
        && !path.starts_with("/language")
        && path != "/find";
    let id = ids.iter().find(|(prefix, _)| path.starts_with(**prefix)).map(|(_, id)| id.as_str());
    let with_order = path.replace("{shop}", "default").replace("{order_id}", "lost");
    let filled = with_order
        .replace("{name}", "chat")
        .replace("{id}", id.unwrap_or_default())
        .replace("{fingerprint}", id.unwrap_or_default())
        .replace("{kind}", "circuit_closed");
    is_page.then_some(filled)
}

#[tokio::test(start_paused = true)]
async fn every_page_is_shown_in_both_languages() {
    let (world, ids) = full_world().await;
    let browser = Browser::new(&world).await;
    let mut shown = 0;
    for route in page_routes().into_iter().filter(|route| route.method == Method::GET) {
        let Some(address) = address(route.path, &ids) else { continue };
        for (language, navigation) in [("en", "Lost orders"), ("de", "Verlorene Bestellungen")] {
            let (status, page) = browser.get(&address, language).await;
            assert_eq!(status, StatusCode::OK, "{address} in {language}: {page}");
            if page.contains("<nav") {
                assert!(page.contains(&format!("<html lang=\"{language}\"")), "{address}");
                assert!(page.contains(navigation), "{address} in {language}");
                shown += 1;
            }
        }
    }
    assert!(shown >= 30, "{shown} pages were shown");
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_mail_is_previewed_in_a_frame_that_runs_nothing() {
    let (world, _) = full_world().await;
    let browser = Browser::new(&world).await;
    let (_, list) = browser.get("/mail-previews", "en").await;
    for kind in world.templates().kinds() {
        let address = format!("/mail-previews/{kind}");
        assert!(list.contains(&format!("href=\"{address}\"")), "{kind}: {list}");
        let (status, page) = browser.get(&format!("{address}?language=de"), "en").await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(page.contains("<iframe class=\"mail\" sandbox"), "{page}");
        let (status, mail) = browser.get(&format!("{address}/html?language=de"), "en").await;
        assert_eq!(status, StatusCode::OK, "{mail}");
        assert!(mail.contains("<html lang=\"de\">"), "{mail}");
    }
    let (status, _) = browser.get("/mail-previews/nothing", "en").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_a_conflict_on_a_page() {
    let (world, _) = full_world().await;
    let browser = Browser::new(&world).await;
    world.ops.hold("default", &world.act("maintenance")).await.expect("it is held");
    world.pass(Duration::from_secs(2)).await;
    let (status, page) = browser.post("/orders/default/lost/transfer", "reason=now").await;
    assert_eq!(status, StatusCode::CONFLICT, "{page}");
    assert!(page.contains("maintenance"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn the_page_of_an_order_shows_everything_that_was_ordered_and_paid() {
    let world = World::new().await;
    let whole = json!({
        "prices": "gross", "delivery_date": "2026-12-24", "remark": "ring twice",
        "customer": {"email": "a@example.com", "company": "Alpha GmbH", "vat_id": "DE123"},
        "lines": [{"sku": "4711", "name": "Cable", "quantity": "2.5", "unit": "m", "unit_price": "4.00", "discount": "1.50", "tax_rate": "19", "remark": "in blue"}],
        "invoice_address": {"city": "Köln"}, "delivery_address": {"city": "Bonn"},
        "shipping": {"method": "dhl", "price": "4.90", "tax_rate": "19"},
        "surcharges": [{"name": "Express", "amount": "3.10"}],
        "discounts": [{"name": "Welcome", "code": "NEW10", "amount": "0.77"}],
        "payments": [{"method": "gift_card", "reference": "G-77", "amount": "9.99"}],
        "references": {"marketplace": "302-1"},
    });
    world.place_with("1", &whole).await;
    world.place("2").await;
    world.until("2", "transferred").await;
    let browser = Browser::new(&world).await;
    let (_, page) = browser.get("/orders/default/1", "en").await;
    let shown = page.split("<h2>Documents</h2>").next().expect("what is before the documents");
    for part in [
        "Prices include the tax",
        "2026-12-24",
        "ring twice",
        "Alpha GmbH",
        "DE123",
        "2.5 m",
        "1.50",
        "in blue",
        "Köln",
        "Bonn",
        "dhl",
        "4.90",
        "Express",
        "3.10",
        "Welcome",
        "NEW10",
        "0.77",
        "gift_card",
        "G-77",
        "9.99",
        "marketplace",
        "302-1",
    ] {
        assert!(shown.contains(part), "{part} is missing: {shown}");
    }
    let (_, german) = browser.get("/orders/default/1", "de").await;
    for caption in [
        "Preise enthalten die Steuer",
        "USt-IdNr.",
        "Rabatt",
        "Zuschlag",
        "Zahlungen",
        "Referenzen",
    ] {
        assert!(german.contains(caption), "{caption} is missing");
    }
    let (_, plain) = browser.get("/orders/default/2", "en").await;
    for caption in ["Prices include", "<h2>Payments", "surcharges and discounts", "Discount</th>"] {
        assert!(!plain.contains(caption), "{caption} is shown for an order without it");
    }
}

const PERSON: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// The text of an answer; the templates escape the slashes of addresses.
async fn body_of(answer: Response) -> String {
    let body = axum::body::to_bytes(answer.into_body(), 1 << 24).await.expect("a body");
    String::from_utf8_lossy(&body).replace("&#x2f;", "/")
}

fn header_of(answer: &Response, name: header::HeaderName) -> String {
    let value = answer.headers().get(name).map(|value| value.to_str().expect("text"));
    value.unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_is_a_page_for_people_and_a_problem_for_programs() {
    let (world, _) = full_world().await;
    let browser = Browser::new(&world).await;
    let large = "a".repeat((16 << 20) + 1);
    for (method, address, body, status, back) in [
        (Method::GET, "/users", "", 404, "/"),
        (Method::GET, "/orders/default/none", "", 404, "/orders"),
        (Method::GET, "/redrives/none", "", 404, "/redrives"),
        (Method::GET, "/mails/none", "", 404, "/mails"),
        (Method::GET, "/dead-letters/none", "", 404, "/dead-letters"),
        (Method::GET, "/groups/none", "", 404, "/"),
        (Method::GET, "/api/v1/nothing", "", 404, "/"),
        (Method::GET, "/people/users", "", 405, "/people"),
        (Method::GET, "/lost-orders/remove", "", 405, "/lost-orders"),
        (Method::PUT, "/orders", "", 405, "/"),
        (Method::DELETE, "/api/v1/orders", "", 405, "/"),
        (Method::GET, "/orders/%ff/1", "", 400, "/orders"),
        (Method::GET, "/lost-orders.csv?since=nonsense", "", 400, "/"),
        (Method::POST, "/people/users", "csrf=00", 403, "/people"),
        (Method::POST, "/dead-letters/none/discard", "csrf=00", 403, "/dead-letters/none"),
        (Method::POST, "/people/users", large.as_str(), 413, "/people"),
    ] {
        for (accept, kind) in [
            (PERSON, "text/html; charset=utf-8"),
            ("application/problem+json", "application/problem+json"),
            ("*/*", "application/problem+json"),
        ] {
            let request = Request::builder()
                .method(method.clone())
                .uri(address)
                .header(header::COOKIE, &browser.cookie)
                .header(header::ACCEPT, accept)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Body::from(body.to_owned()))
                .expect("a request");
            let answer = browser.send(request).await;
            let case = format!("{method} {address} for {accept}");
            assert_eq!(answer.status().as_u16(), status, "{case}");
            assert_eq!(header_of(&answer, header::CONTENT_TYPE), kind, "{case}");
            assert_eq!(answer.headers().contains_key(header::ALLOW), status == 405, "{case}");
            let told = body_of(answer).await;
            if accept == PERSON {
                assert!(told.contains("<nav") && told.contains("<h1>"), "{case}: {told}");
                let link = format!("href=\"{back}\" data-back");
                assert!(told.contains(&link), "{case} leads back to {back}: {told}");
            } else {
                let problem: serde_json::Value = serde_json::from_str(&told).expect("JSON");
                assert_eq!(problem["status"], status, "{case}: {problem}");
                let kind = problem["type"].as_str().unwrap_or_default();
                assert!(kind.starts_with("urn:order-relay:problem:"), "{case}: {problem}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_after_the_end_of_a_session_leads_to_the_login_and_back_to_its_page() {
    let (world, _) = full_world().await;
    let browser = Browser::new(&world).await;
    for (address, page) in [
        ("/orders/default/lost/edit", "/orders/default/lost/edit"),
        ("/orders/default/lost/remove", "/orders/default/lost"),
        ("/dead-letters/1/replay", "/dead-letters/1"),
        ("/people/tokens", "/people"),
        ("/channels", "/channels"),
        ("/password", "/me"),
        ("/erps/default/hold", "/"),
    ] {
        let request = |accept: &str| {
            let request = Request::post(address).header(header::ACCEPT, accept);
            request.body(Body::from("reason=typed")).expect("a request")
        };
        let answer = browser.send(request(PERSON)).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{address}");
        let encoded = page.replace('/', "%2F");
        let wanted = format!("/login?ended=1&return_to={encoded}");
        assert_eq!(header_of(&answer, header::LOCATION), wanted, "{address}");
        let program = browser.send(request("*/*")).await;
        assert_eq!(program.status(), StatusCode::UNAUTHORIZED, "{address}");
        let kind = header_of(&program, header::CONTENT_TYPE);
        assert_eq!(kind, "application/problem+json", "{address}");
    }
    let login = Request::get("/login?ended=1&return_to=%2Fpeople");
    let page = body_of(browser.send(login.body(Body::empty()).expect("a request")).await).await;
    assert!(
        page.contains("Your session has ended.") && page.contains("value=\"/people\""),
        "{page}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_form_of_another_site_is_refused_on_a_page_in_the_readers_language() {
    let (world, _) = full_world().await;
    let browser = Browser::new(&world).await;
    let request = Request::post("/orders/default/lost/transfer")
        .header(header::COOKIE, &browser.cookie)
        .header(header::ACCEPT, PERSON)
        .header(header::ACCEPT_LANGUAGE, "de")
        .header(header::ORIGIN, "https://evil.example")
        .body(Body::from(format!("csrf={}", browser.csrf)));
    let answer = browser.send(request.expect("a request")).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let page = body_of(answer).await;
    assert!(page.contains("von der Seite einer anderen Website"), "{page}");
    assert!(page.contains("href=\"/orders/default/lost\" data-back"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn the_counts_of_what_waits_are_on_every_page_and_in_its_title() {
    let (world, _) = full_world().await;
    let browser = Browser::new(&world).await;
    let attention = world.ops.attention(&operator()).await.expect("the ledger answers");
    assert!(attention.lost > 0 && attention.dead_letters > 0, "{attention:?}");
    for address in ["/", "/orders", "/status", "/me"] {
        let page = browser.get(address, "en").await.1.replace("&#x2f;", "/");
        let title = format!("<title>({}) ", attention.lost);
        assert!(page.contains(&title), "{address}: {page}");
        for (to, count) in
            [("/lost-orders", attention.lost), ("/dead-letters", attention.dead_letters)]
        {
            let (_, link) = page.split_once(&format!("<a href=\"{to}\"")).expect("an entry");
            let link = link.split("</a>").next().unwrap_or_default();
            assert!(link.ends_with(&format!(">{count}</span>")), "{address}: {link}");
        }
    }
    let empty = World::new().await;
    let (_, page) = Browser::new(&empty).await.get("/", "en").await;
    assert!(page.contains("<title>Overview – order-relay"), "{page}");
    assert!(page.contains("No order has come in yet."), "{page}");
}

#[tokio::test(start_paused = true)]
async fn the_search_of_every_page_finds_orders_by_number_customer_and_article() {
    let (world, _) = full_world().await;
    let lamp = json!([{"sku": "LAMP-9", "name": "Lamp", "quantity": "2", "unit_price": "49.95"}]);
    world.place_with("lit", &json!({ "lines": lamp })).await;
    world.until("lit", "transferred").await;
    let browser = Browser::new(&world).await;
    for (typed, to) in [
        ("default%2Flost", "/orders/default/lost"),
        ("lost", "/orders?search=lost"),
        ("LAMP-9", "/orders?sku=LAMP-9"),
        ("nothing%20of%20that%20name", "/orders?search=nothing%20of%20that%20name"),
        ("default%2Fnone", "/orders?search=default%2Fnone"),
        ("", "/orders"),
    ] {
        let request = Request::get(format!("/find?q={typed}"));
        let request = request.header(header::COOKIE, &browser.cookie).body(Body::empty());
        let answer = browser.send(request.expect("a request")).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{typed}");
        assert_eq!(header_of(&answer, header::LOCATION), to, "{typed}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_compressed_and_hold_no_secret_that_their_length_could_tell() {
    let (world, _) = full_world().await;
    let browser = Browser::new(&world).await;
    for (address, encoding) in
        [("/orders", "gzip"), ("/lost-orders.csv", "gzip"), ("/healthz", ""), ("/live", "")]
    {
        let request = Request::get(address)
            .header(header::COOKIE, &browser.cookie)
            .header(header::ACCEPT_ENCODING, "gzip, br");
        let answer = browser.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status(), StatusCode::OK, "{address}");
        assert_eq!(header_of(&answer, header::CONTENT_ENCODING), encoding, "{address}");
    }
    // The value of the forms is another text on each page, and each of them is taken.
    let mut values = Vec::new();
    for _ in 0..2 {
        let (_, page) = browser.get("/orders/default/lost", "en").await;
        let (_, rest) = page.split_once("name=\"csrf\" value=\"").expect("a form");
        values.push(rest.split('"').next().unwrap_or_default().to_owned());
        assert!(!page.contains(&browser.csrf), "the value itself is on no page");
    }
    assert_ne!(values[0], values[1]);
    for value in values {
        let request = Request::post("/orders/default/lost/remove")
            .header(header::COOKIE, &browser.cookie)
            .body(Body::from(format!("csrf={value}")));
        let (status, page) = browser.ask(request.expect("a request")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "the reason is what lacks: {page}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_of_ten_thousand_lines_is_shown_in_pages() {
    let world = World::new().await;
    let line = |n: usize| json!({"sku": format!("A-{n:05}"), "name": "Lamp", "quantity": "1", "unit_price": "1"});
    let lines: Vec<_> = (0..10_000).map(line).collect();
    world.place_with("long", &json!({"lines": lines})).await;
    world.until("long", "transferred").await;
    let browser = Browser::new(&world).await;
    let (_, page) = browser.get("/orders/default/long", "en").await;
    assert!(page.len() < 250_000, "{} bytes", page.len());
    assert!(
        page.contains("Lines 1 to 100 of 10,000") && page.contains("kB more"),
        "the rest is told"
    );
    assert!(page.contains("?lines=100#lines") && page.contains("?lines=all#lines"));
    let (_, last) = browser.get("/orders/default/long?lines=9900", "en").await;
    assert!(last.contains("Lines 9,901 to 10,000 of 10,000") && last.contains("A-09999"));
    assert!(!last.contains("rel=\"next\""), "it is the last page");
    let (_, all) = browser.get("/orders/default/long?lines=all", "en").await;
    assert!(all.contains("A-00000</td>") && all.contains("A-09999</td>"), "all on one page");
}
