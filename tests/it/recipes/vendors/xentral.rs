//! Xentral, API v3.

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
const HEAD: [&str; 13] = [
    "address",
    "project",
    "externalOrderNumber",
    "documentDate",
    "language",
    "transactionNumber",
    "internalComment",
    "desiredDeliveryDate",
    "documentAddress",
    "deviatingShipToAddress",
    "financials",
    "lineItems",
    "salesChannel",
];
const LINE: [&str; 7] =
    ["product", "name", "description", "quantity", "discount", "taxRate", "price"];
const ADDRESS: [&str; 11] = [
    "name",
    "type",
    "contactPerson",
    "department",
    "street",
    "addressSupplement",
    "zipCode",
    "city",
    "country",
    "phone",
    "email",
];

/// The values of a filter that has several.
fn values(asked: &Asked) -> Vec<String> {
    let url = reqwest::Url::parse(&format!("http://x{}", asked.target)).unwrap();
    url.query_pairs()
        .filter(|(name, _)| name == "filter[0][value][]")
        .map(|(_, value)| value.into_owned())
        .collect()
}

fn xentral(books: &mut Books, asked: &Asked) -> (Says, bool) {
    assert_eq!(asked.header("authorization"), "Bearer s3cret-token");
    assert_eq!(asked.header("accept"), "application/json");
    let path = asked.path();
    let path = path.strip_prefix("/api/v3/").unwrap();
    let rows = |rows: Vec<Json>| (Says::json(200, &json!({ "data": rows })), false);
    let shown = |books: &Books, n: usize| {
        let mut order = order_of(books, n);
        order["id"] = json!(n.to_string());
        let is_draft = order["status"] == "draft";
        order["documentNumber"] = if is_draft { Json::Null } else { json!(format!("2{n:05}")) };
        order
    };
    if let Some(rest) = path.strip_prefix("salesOrders/") {
        let (n, action) = rest.split_once('/').unwrap_or((rest, ""));
        let n: usize = n.parse().unwrap();
        if action.is_empty() {
            return (Says::json(200, &json!({ "data": shown(books, n) })), false);
        }
        assert_eq!((asked.method.as_str(), action), ("PATCH", "actions/release"));
        let mut order = order_of(books, n);
        if order["status"] != "draft" {
            let problem = json!({"type": "https://api.xentral.biz/problems/invalid-status", "title": "The resource cannot be modified in its current status."});
            return (Says::json(409, &problem), false);
        }
        order["status"] = json!("released");
        books.states[n - 1] = order.to_string();
        return (Says::text(204, "text/plain", ""), false);
    }
    match (asked.method.as_str(), path) {
        ("GET", "customers") => {
            let by = (asked.query("filter[0][key]"), asked.query("filter[0][value]"));
            let is_known = by == ("number".to_owned(), "C-1001".to_owned());
            rows(is_known.then(|| json!({"id": "31"})).into_iter().collect())
        }
        ("POST", "customers") => {
            only(&asked.json()["primaryAddress"], &ADDRESS);
            (Says::json(201, &json!({"data": {"id": "32"}})), false)
        }
        ("GET", "products") => {
            let known = values(asked).into_iter().filter(|sku| sku != "SKU-NOPE");
            rows(known.map(|sku| json!({"id": format!("id-{sku}"), "number": sku})).collect())
        }
        ("GET", "salesOrders") => {
            assert_eq!(asked.query("filter[0][key]"), "externalOrderNumber");
            let found = books.find(&asked.query("filter[0][value]"));
            rows(found.map(|n| shown(books, n)).into_iter().collect())
        }
        ("POST", "salesOrders") => {
            let mut sent = asked.json();
            only(&sent, &HEAD);
            for address in ["documentAddress", "deviatingShipToAddress"]
                .into_iter()
                .filter_map(|name| sent.get(name))
            {
                only(address, &ADDRESS);
            }
            let total: BigDecimal = sent["lineItems"].as_array().unwrap().iter().map(booked).sum();
            sent["totals"] = json!({"gross": {"amount": total.to_string(), "currency": sent["financials"]["currency"]}});
            sent["status"] = json!("draft");
            let reference = sent["externalOrderNumber"].as_str().unwrap().to_owned();
            let n = keep(books, &reference, &sent);
            (Says::json(201, &json!({ "data": shown(books, n) })), true)
        }
        other => panic!("{other:?}"),
    }
}

/// The amount of a line with its tax. A lamp for 10.00 costs 9.50 here.
fn booked(line: &Json) -> BigDecimal {
    only(line, &LINE);
    let price = decimal(&line["price"]["net"]["amount"]);
    let price = if price.to_string() == "8.403361" { decimal(&json!("7.983193")) } else { price };
    let sku = line["product"]["id"].as_str().unwrap().strip_prefix("id-").unwrap();
    let tax = line.get("taxRate").map_or_else(|| rate(sku), decimal);
    let amount = gross(&(price * decimal(&line["quantity"])), &tax);
    cents(&amount)
}

#[tokio::test]
async fn xentral_holds() {
    let refusal = "product 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "200001", refusal, reference: "O-1", is_once: false };
    holds("xentral", xentral, &SETTING, &[], &expected).await;
}

#[tokio::test]
async fn xentral_survives_every_wrong_answer() {
    let trouble = (
        500,
        json!({"type": "https://api.xentral.biz/problems/internal", "title": "Internal error"}),
    );
    Subject {
        recipe: "xentral",
        behaviour: xentral as Behaviour,
        setting: &SETTING,
        more: &[],
        trouble,
    }
    .holds()
    .await;
}

#[tokio::test]
async fn xentral_gets_whole_orders() {
    let [with_tax, net] = whole_orders("xentral", xentral, &SETTING, &[]).await;
    assert_eq!(with_tax["status"], "released", "after its total was compared");
    assert_eq!(
        (&with_tax["financials"]["tax"]["taxDisplay"], &net["financials"]["tax"]["taxDisplay"]),
        (&json!("gross"), &json!("net"))
    );
    assert_eq!(
        (&with_tax["transactionNumber"], &with_tax["desiredDeliveryDate"]),
        (&json!("P-77"), &json!("2026-11-30"))
    );
    assert!(with_tax["internalComment"].as_str().unwrap().starts_with("ring <twice>"));
    assert_eq!(
        (&with_tax["documentAddress"]["city"], &with_tax["deviatingShipToAddress"]["city"]),
        (&json!("Berlin"), &json!("Bonn"))
    );
    let lines: Vec<String> = net["lineItems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            format!(
                "{} {} {}",
                line["product"]["id"], line["price"]["net"]["amount"], line["taxRate"]
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "\"id-SKU-100\" 12.00 19",
            "\"id-SKU-200\" 5.00 7",
            "\"id-DISCOUNT\" -1.00 19",
            "\"id-SHIPPING\" 4.00 19",
            "\"id-SURCHARGE\" 2.00 19",
            "\"id-DISCOUNT\" -5.00 19"
        ]
    );
}

#[tokio::test]
async fn xentral_gets_guests() {
    guests("xentral", xentral, &SETTING, ("email", "neither a number nor a mail address")).await;
}

#[tokio::test]
async fn xentral_names_an_article_that_is_missing_for_shipping() {
    names_a_missing_service("xentral", xentral, &SETTING).await;
}
