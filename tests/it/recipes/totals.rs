//! The ERP's total is compared with what was paid, before the order is confirmed there.

use order_relay::adapters::erp::recipe::engine::RecipeErp;
use order_relay::domain::failure::{ErrorClass, Failure, Stage};
use order_relay::domain::total::Amount;
use order_relay::ports::erp::{Erp, OrderForErp, ProbeAnswer};
use serde_json::json;

use crate::stand_in::{Asked, Books, Says, StandIn};
use crate::world::{Place, World, order_that, texts};

use super::{Setting, engine, open, order};

const NOTHING: Setting = Setting { consts: &[], secrets: &[] };

/// Reads the total back, and the lines when it differs.
const TOTAL: &str = r#"
[total]
request   = "GET /totals/{{ result.id }}"
ok        = "status == 200"
amount    = "at('/sum')"
currency  = "at('/currency')"
tolerance = "0.01"
[total.lines]
request   = "GET /lines/{{ result.id }}"
ok        = "status == 200"
rows      = "/lines"
name      = "row.name"
amount    = "row.sum"
"#;

/// What the stand-in has booked for the order `O-SUM-CURRENCY`, whatever was sent.
fn erp(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let path = asked.path();
    let booked = |id: &str| {
        let number: usize = id.parse().unwrap();
        let parts: Vec<String> = books.orders[number - 1].split('-').map(str::to_owned).collect();
        (parts[1].clone(), parts.get(2).cloned().unwrap_or_else(|| "EUR".to_owned()))
    };
    if let Some(id) = path.strip_prefix("/totals/") {
        let (sum, currency) = booked(id);
        let told = match sum.as_str() {
            "none" => json!({"state": "draft"}),
            _ => serde_json::from_str(&format!("{{\"sum\": {sum}, \"currency\": \"{currency}\"}}"))
                .unwrap(),
        };
        return (Says::json(200, &told), false);
    }
    if let Some(id) = path.strip_prefix("/lines/") {
        let (sum, _) = booked(id);
        let lines = json!([{"name": "Lamp", "sum": sum}, {"name": "Delivery", "sum": "4.90"}]);
        return (Says::json(200, &json!({ "lines": lines })), false);
    }
    engine::erp(books, asked)
}

struct Shop {
    erp: RecipeErp,
    stand_in: StandIn,
    _folder: tempfile::TempDir,
}

async fn shop(recipe: &str) -> Shop {
    let (folder, path) = engine::file(recipe);
    let stand_in = StandIn::start(erp).await;
    Shop { erp: open(&path, &stand_in.url, &NOTHING, &[]), stand_in, _folder: folder }
}

fn differs(failure: &Failure) -> &str {
    assert_eq!((failure.class, failure.code.as_str()), (ErrorClass::Rejected, "total_differs"));
    assert_eq!(
        failure.stage,
        Some(Stage::At),
        "it is there: the ERP is asked before anything is sent"
    );
    &failure.message
}

#[tokio::test]
async fn an_order_with_another_total_or_currency_stays_a_draft() {
    let shop = shop(&format!("{}{TOTAL}", engine::RECIPE)).await;
    for good in ["O-19.00", "O-19", "O-19.01", "O-18.99-EUR"] {
        let receipt = shop.erp.submit(&order(good, "A")).await.unwrap();
        assert_eq!(receipt.taken["state"], "released", "{good}");
    }
    for (id, there) in
        [("O-22.61", "22.61 EUR"), ("O-19.00-USD", "19.00 USD"), ("O-18.98", "18.98 EUR")]
    {
        let failure = shop.erp.submit(&order(id, "SKU-1")).await.unwrap_err();
        let sum = there.split(' ').next().unwrap();
        let delivery = "line 2 Delivery: 4.90 there, not paid";
        let lines = match sum {
            "19.00" => delivery.to_owned(),
            _ => format!("line 1 SKU-1: 19.00 paid, {sum} there; {delivery}"),
        };
        let number = shop.stand_in.books.lock().unwrap().find(id).unwrap();
        let told = format!("paid 19.00 EUR, but in the ERP as {number} it is {there}: {lines}");
        assert_eq!(differs(&failure), told);
        let books = shop.stand_in.books.lock().unwrap();
        assert_eq!(books.states[number - 1], "draft", "{id}");
    }
}

#[tokio::test]
async fn what_a_person_accepted_is_completed_and_nothing_else() {
    let shop = shop(&format!("{}{TOTAL}", engine::RECIPE)).await;
    let sent = order("O-22.61", "A");
    let failure = shop.erp.submit(&sent).await.unwrap_err();
    let found = failure.total.unwrap().found;
    let with = |amount: &str, currency: &str| {
        let accepted = Amount { amount: amount.to_owned(), currency: Some(currency.to_owned()) };
        OrderForErp { accepted: Some(accepted), ..sent.clone() }
    };
    for other in [with("22.60", "EUR"), with("22.61", "USD")] {
        let ProbeAnswer::Found(receipt) = shop.erp.ask(&other).await else { panic!("not found") };
        differs(&shop.erp.finish(&other, receipt).await.unwrap_err());
    }
    let accepted = OrderForErp { accepted: Some(found), ..sent };
    let ProbeAnswer::Found(receipt) = shop.erp.ask(&accepted).await else { panic!("not found") };
    let finished = shop.erp.finish(&accepted, receipt).await.unwrap();
    assert_eq!(finished.taken["state"], "released");
}

#[tokio::test]
async fn a_total_that_cannot_be_read_is_no_good_total() {
    let shop = shop(&format!("{}{TOTAL}", engine::RECIPE)).await;
    let failure = shop.erp.submit(&order("O-none", "A")).await.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (ErrorClass::Unavailable, "total_unread"));
    assert_eq!(failure.stage, Some(Stage::At));
    assert!(
        failure.message.starts_with("in the ERP as 1, but its total could not be read"),
        "{failure:?}"
    );
    assert_eq!(shop.stand_in.books.lock().unwrap().states, ["draft"]);
}

#[tokio::test]
async fn a_total_is_compared_behind_the_step_that_the_recipe_names() {
    let behind = TOTAL.replace("[total]\n", "[total]\nafter = \"release\"\n");
    let shop = shop(&format!("{}{behind}", engine::RECIPE)).await;
    differs(&shop.erp.submit(&order("O-22.61", "A")).await.unwrap_err());
    assert_eq!(shop.stand_in.books.lock().unwrap().states, ["released"]);
    // Also when the step is skipped, because the order is further already.
    let found = order("O-22.61", "A");
    let ProbeAnswer::Found(receipt) = shop.erp.ask(&found).await else { panic!("not found") };
    differs(&shop.erp.finish(&found, receipt).await.unwrap_err());
}

/// An ERP that speaks plain JSON and books everything with 22.61 EUR, until somebody corrects it.
fn plain(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let booked = |books: &Books, n: usize| {
        let total = if books.session_over { "19.00" } else { "22.61" };
        Says::json(200, &json!({"id": n, "total": total, "currency": "EUR"}))
    };
    if asked.method == "GET" {
        let says = match books.find(asked.path().trim_start_matches('/')) {
            Some(n) => booked(books, n),
            None => Says::json(404, &json!({"error": "no such order"})),
        };
        return (says, false);
    }
    let n = books.make(asked.json()["order_id"].as_str().unwrap());
    (booked(books, n), true)
}

async fn plain_world() -> (World, StandIn) {
    let mut world = World::new(Place::Embedded).await;
    let stand_in = StandIn::start(plain).await;
    world.set("erp.url", &stand_in.url);
    // It never retries by itself, whatever refusals do.
    world.set("erp.rejected", "retry");
    world.serve().await;
    let paid = order_that("T-1", "ok").replace("129.90", "19.00");
    world.place(&[paid]).await;
    world.until_phase("T-1", "parked").await;
    (world, stand_in)
}

#[tokio::test]
async fn an_order_with_another_total_waits_for_a_decision_and_is_never_entered_twice() {
    let (mut world, stand_in) = plain_world().await;
    let again = world.run(&["lost-orders", "process", "T-1"]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(
        texts(&again).0.contains("paid 19.00 EUR, but in the ERP as 1 it is 22.61 EUR"),
        "{again:?}"
    );
    let without = world.run(&["lost-orders", "accept-total", "T-1"]).await;
    assert_eq!(without.status.code(), Some(2), "{:?}", texts(&without));
    let accept = ["lost-orders", "accept-total", "T-1", "--reason", "agreed on the phone"];
    assert!(world.ok(&accept).await.contains("22.61 EUR"));
    assert_eq!(world.order("T-1").await.record.phase.name(), "parked", "a person completes it");
    world.ok(&["lost-orders", "process", "T-1"]).await;
    let stored = world.order("T-1").await;
    assert_eq!(stored.record.phase.name(), "transferred");
    assert_eq!(stored.record.fail_count, 2);
    let accepted: Vec<bool> =
        stored.total_differences.iter().map(|found| found.accepted.is_some()).collect();
    assert_eq!(accepted, [false, true], "the one that the person saw");
    let shown = world.ok(&["orders", "show", "T-1"]).await;
    assert!(shown.contains("22.61 EUR (accepted by"), "{shown}");
    assert_eq!(stand_in.books.lock().unwrap().orders, ["T-1"]);
    let late = world.run(&accept).await;
    assert_eq!(late.status.code(), Some(1), "{:?}", texts(&late));
    world.leave().await;
}

#[tokio::test]
async fn an_order_that_was_corrected_in_the_erp_is_completed_by_a_transfer() {
    let (mut world, stand_in) = plain_world().await;
    stand_in.books.lock().unwrap().session_over = true;
    world.ok(&["lost-orders", "process", "T-1"]).await;
    assert_eq!(world.order("T-1").await.record.phase.name(), "transferred");
    assert_eq!(stand_in.books.lock().unwrap().orders, ["T-1"]);
    world.leave().await;
}
