//! Every page over a ledger with something of every kind, in both languages, through the real router.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
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
            check: Arc::new(|| async { Vec::new() }.boxed()),
            previews: Arc::new(world.templates()),
            draining: Arc::default(),
            access: Arc::new(Access::new("http://relay", 0)),
            needs_broker: true,
        };
        Self { router: router(web), cookie: format!("order_relay_session={token}"), csrf }
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, String) {
        let answer = self.router.clone().oneshot(request).await.expect("it answers");
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
        && !path.starts_with("/language");
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
