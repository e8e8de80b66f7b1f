//! weclapp, REST API v2.

use bigdecimal::BigDecimal;
use serde_json::{Value as Json, json};

use crate::stand_in::{Asked, Behaviour, Books, Says};

use super::super::matrix::Subject;
use super::super::{Expected, Setting, holds};
use super::{
    cents, decimal, gross, guests, keep, names_a_missing_service, only, order_of, rate,
    whole_orders,
};

const SETTING: Setting = Setting { consts: &[], secrets: &[("token", "s3cret-token")] };

/// Fields of a sales order that can be written, of those that a recipe may want.
const HEAD: [&str; 14] = [
    "customerId",
    "orderNumberAtCustomer",
    "orderDate",
    "recordCurrencyId",
    "salesChannel",
    "status",
    "plannedDeliveryDate",
    "description",
    "recordComment",
    "invoiceAddress",
    "deliveryAddress",
    "shippingCostItems",
    "orderItems",
    "note",
];
const ITEM: [&str; 8] = [
    "articleId",
    "title",
    "description",
    "quantity",
    "unitPrice",
    "manualUnitPrice",
    "discountPercentage",
    "taxId",
];
const ADDRESS: [&str; 8] =
    ["lastName", "company", "street1", "street2", "zipcode", "city", "countryCode", "phoneNumber"];

fn problem(status: u16, kind: &str, title: &str) -> Says {
    let kind = format!("/webapp/view/api/errors.html#!/errors/{kind}");
    Says::json(status, &json!({"type": kind, "title": title, "status": status}))
}

fn weclapp(books: &mut Books, asked: &Asked) -> (Says, bool) {
    if asked.header("authenticationtoken") != "s3cret-token" {
        return (problem(401, "unauthorized", "unauthorized"), false);
    }
    let path = asked.path();
    let path = path.strip_prefix("/webapp/api/v2/").unwrap();
    let rows = |rows: Vec<Json>| (Says::json(200, &json!({ "result": rows })), false);
    let shown = |books: &Books, n: usize| {
        let mut order = order_of(books, n);
        order["id"] = json!(n.to_string());
        order["orderNumber"] = json!(format!("A-{n}"));
        order
    };
    if let Some(n) = path.strip_prefix("salesOrder/id/") {
        let n: usize = n.parse().unwrap();
        if asked.method == "PUT" {
            assert_eq!(asked.query("ignoreMissingProperties"), "true");
            let mut order = order_of(books, n);
            order["status"] = asked.json()["status"].clone();
            books.states[n - 1] = order.to_string();
        }
        return (Says::json(200, &shown(books, n)), false);
    }
    match (asked.method.as_str(), path) {
        ("GET", "currency") => {
            let is_euro = asked.query("name-eq") == "EUR";
            rows(is_euro.then(|| json!({"id": "256", "name": "EUR"})).into_iter().collect())
        }
        ("GET", "currency/id/256") => {
            (Says::json(200, &json!({"id": "256", "name": "EUR"})), false)
        }
        ("GET", "party") => {
            let is_known = asked.query("customerNumber-eq") == "C-1001";
            rows(is_known.then(|| json!({"id": "31"})).into_iter().collect())
        }
        ("POST", "party") => {
            only(&asked.json(), &["partyType", "customer", "email", "lastName", "addresses"]);
            (Says::json(201, &json!({"id": "32"})), false)
        }
        ("GET", "article") => {
            let skus: Vec<String> = serde_json::from_str(&asked.query("articleNumber-in")).unwrap();
            let known = skus.into_iter().filter(|sku| sku != "SKU-NOPE");
            rows(
                known.map(|sku| json!({"id": format!("id-{sku}"), "articleNumber": sku})).collect(),
            )
        }
        ("GET", "salesOrder") => {
            let found = books.find(&asked.query("orderNumberAtCustomer-eq"));
            rows(found.map(|n| shown(books, n)).into_iter().collect())
        }
        ("POST", "salesOrder") => {
            let mut sent = asked.json();
            only(&sent, &HEAD);
            for address in
                ["invoiceAddress", "deliveryAddress"].into_iter().filter_map(|name| sent.get(name))
            {
                only(address, &ADDRESS);
            }
            let is_net = sent["salesChannel"] == "NET1";
            let mut total = BigDecimal::from(0);
            for list in ["orderItems", "shippingCostItems"] {
                total += sent[list]
                    .as_array_mut()
                    .unwrap()
                    .iter_mut()
                    .map(|item| booked(item, is_net))
                    .sum::<BigDecimal>();
            }
            sent["grossAmount"] = json!(total.to_string());
            let reference = sent["orderNumberAtCustomer"].as_str().unwrap().to_owned();
            let n = keep(books, &reference, &sent);
            (Says::json(201, &shown(books, n)), true)
        }
        other => panic!("{other:?}"),
    }
}

/// The amount of an item with its tax. A lamp for 10.00 costs 9.50 here.
fn booked(item: &mut Json, is_net: bool) -> BigDecimal {
    only(item, &ITEM);
    assert!(item["unitPrice"].is_string() && item["manualUnitPrice"] == true, "{item}");
    let quantity = item.get("quantity").map_or(BigDecimal::from(1), decimal);
    let sku = item["articleId"].as_str().unwrap().strip_prefix("id-").unwrap().to_owned();
    let amount = match item["unitPrice"].as_str() {
        Some("10.00") => BigDecimal::from(19),
        Some(price) => price.parse::<BigDecimal>().unwrap() * quantity,
        None => panic!("{item}"),
    };
    let amount = if is_net { gross(&amount, &rate(&sku)) } else { cents(&amount) };
    item["grossAmount"] = json!(amount.to_string());
    amount
}

#[tokio::test]
async fn weclapp_holds() {
    let refusal = "product 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "A-1", refusal, reference: "O-1", is_once: false };
    holds("weclapp", weclapp, &SETTING, &[], &expected).await;
}

#[tokio::test]
async fn weclapp_survives_every_wrong_answer() {
    let kind = "/webapp/view/api/errors.html#!/errors/persistence";
    let trouble = (409, json!({"type": kind, "title": "persistence error", "status": 409}));
    Subject {
        recipe: "weclapp",
        behaviour: weclapp as Behaviour,
        setting: &SETTING,
        more: &[],
        trouble,
    }
    .holds()
    .await;
}

#[tokio::test]
async fn weclapp_gets_whole_orders() {
    let [with_tax, net] = whole_orders("weclapp", weclapp, &SETTING, &[]).await;
    assert_eq!(
        (&with_tax["salesChannel"], &net["salesChannel"]),
        (&json!("GROSS1"), &json!("NET1"))
    );
    assert_eq!(
        with_tax["status"], "ORDER_CONFIRMATION_PRINTED",
        "confirmed after its total was compared"
    );
    assert_eq!(with_tax["plannedDeliveryDate"], 1_795_996_800_000_u64);
    let description = with_tax["description"].as_str().unwrap();
    assert!(description.contains("&lt;twice&gt;") && description.contains("P-77"), "{description}");
    assert_eq!(
        (&with_tax["invoiceAddress"]["city"], &with_tax["deliveryAddress"]["city"]),
        (&json!("Berlin"), &json!("Bonn"))
    );
    assert_eq!(with_tax["shippingCostItems"][0]["articleId"], "id-SHIPPING");
    let items: Vec<String> = with_tax["orderItems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| format!("{} {}", item["articleId"], item["grossAmount"]))
        .collect();
    assert_eq!(
        items,
        [
            "\"id-SKU-100\" \"23.80\"",
            "\"id-SKU-200\" \"16.05\"",
            "\"id-DISCOUNT\" \"-1.19\"",
            "\"id-SURCHARGE\" \"2.38\"",
            "\"id-DISCOUNT\" \"-5.95\""
        ]
    );
}

#[tokio::test]
async fn weclapp_gets_guests() {
    guests("weclapp", weclapp, &SETTING, ("email", "neither a number nor a mail address")).await;
}

#[tokio::test]
async fn weclapp_names_an_article_that_is_missing_for_shipping() {
    names_a_missing_service("weclapp", weclapp, &SETTING).await;
}
