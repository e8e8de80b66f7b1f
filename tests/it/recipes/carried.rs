//! What of an order reaches the ERP: nothing is dropped without a word, and no digit is rounded away.

use order_relay::adapters::erp::recipe::open::load;
use order_relay::domain::failure::ErrorClass;
use order_relay::ports::erp::Erp;
use serde_json::json;

use crate::stand_in::StandIn;
use crate::world::{Place, World, order_with, texts};

use super::{Setting, engine, for_erp, open};

const NOTHING: Setting = Setting { consts: &[], secrets: &[] };

fn carrying(what: &str) -> String {
    engine::RECIPE.replace("error = \"/error\"", &format!("error = \"/error\"\n{what}"))
}

fn document(more: &serde_json::Value) -> serde_json::Value {
    let mut document = json!({
        "order_id": "O-1", "currency": "EUR", "total": "9.50", "customer": {"number": "C-1"},
        "lines": [{"sku": "A", "quantity": "1.000", "unit_price": "9.50"}],
    });
    json_patch::merge(&mut document, more);
    document
}

#[tokio::test]
async fn more_digits_than_the_erp_keeps_are_refused_before_the_send() {
    let recipe = carrying(
        "carries = []\n[digits]\nquantity = \"const.most\"\nunit_price = \"2\"\n[const]\nmost = 2",
    );
    let (_folder, path) = engine::file(&recipe);
    let stand_in = StandIn::start(engine::erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    let with = |quantity: &str, price: &str| {
        let line = json!({"sku": "A", "quantity": quantity, "unit_price": price});
        for_erp("O-1", &document(&json!({ "lines": [line] })))
    };
    for good in [with("1.000", "9.50"), with("0.25", "9.5000"), with("3", "9")] {
        assert!(erp.rehearse(&good).is_ok());
    }
    for (bad, place) in
        [(with("0.125", "9.50"), "/lines/0/quantity"), (with("1", "9.505"), "/lines/0/unit_price")]
    {
        let failure = erp.submit(&bad).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.code.as_str()),
            (ErrorClass::Internal, "too_many_digits")
        );
        assert!(failure.message.starts_with(place), "{failure:?}");
    }
    assert!(stand_in.books.lock().unwrap().asked.is_empty());
}

#[test]
fn a_key_that_would_do_nothing_is_a_fault() {
    let faults = |recipe: String| {
        let (_folder, path) = engine::file(&recipe);
        load(&path).expect_err("it has a fault").to_string()
    };
    for without in ["drops = [\"remark\"]", "[digits]\nquantity = \"2\""] {
        let told = faults(carrying(without));
        assert!(told.contains("carries"), "{told}");
    }
    let refusing =
        "unless  = \"result.state == 'released'\"\nrefuse  = [{ when = \"true\", text = \"no\" }]";
    let told = faults(engine::RECIPE.replace("unless  = \"result.state == 'released'\"", refusing));
    assert!(told.contains("only a step of [[before]] can refuse an order"), "{told}");
}

#[tokio::test]
async fn a_recipe_says_what_it_carries_and_people_what_may_be_dropped() {
    let mut world = World::new(Place::Embedded).await;
    let stand_in = StandIn::start(engine::erp).await;
    let path = world.folder.path().join("recipe.toml");
    std::fs::write(&path, carrying("carries = [\"payment\"]\ndrops = [\"customer.guest\"]"))
        .unwrap();
    world.set("erp.recipe", path.to_str().unwrap());
    world.set("erp.url", &stand_in.url);
    world.set("erp.drop", "lines.unit");
    world.serve().await;
    let line = |more: serde_json::Value| {
        let mut line = json!({"sku": "A", "quantity": "1", "unit_price": "9.50"});
        json_patch::merge(&mut line, &more);
        json!({ "remark": null, "lines": [line] })
    };
    let orders = [
        order_with("D-1", &line(json!({"unit": "m"}))),
        order_with("D-2", &line(json!({"unit": "m", "discount": "1.00"}))),
    ];
    world.place(&orders).await;
    world.until_phase("D-1", "transferred").await;
    world.until_phase("D-2", "parked").await;
    let last = world.order("D-2").await.record.last_failure.unwrap().summary;
    assert_eq!(last.code, "not_carried");
    assert_eq!(
        last.message,
        "/lines/0/discount is `1.00`, and the recipe `test` does not carry `lines.discount` to the ERP: add it to the \
         recipe, remove it from the order, or allow that it is dropped: erp.drop = [\"lines.discount\"]"
    );
    assert_eq!(stand_in.books.lock().unwrap().orders, ["D-1"]);
    world.leave().await;
    let mut world = World::new(Place::Embedded).await;
    world.set("erp.drop", "remarks");
    let refused = world.run(&["config", "show"]).await;
    assert_eq!(refused.status.code(), Some(2), "{:?}", texts(&refused));
    assert!(
        texts(&refused).1.contains("`remarks` is not one of prices.gross"),
        "{:?}",
        texts(&refused)
    );
    world.leave().await;
}
