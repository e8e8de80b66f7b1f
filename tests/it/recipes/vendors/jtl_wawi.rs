//! JTL-Wawi, JTL Cloud API v2 (GraphQL).

use base64::Engine;
use bigdecimal::BigDecimal;
use order_relay::ports::erp::Erp;
use serde_json::{Value as Json, json};

use crate::stand_in::{Asked, Behaviour, Books, Says, StandIn};

use super::super::matrix::Subject;
use super::super::{Expected, Setting, for_erp, holds, open};
use super::{cents, decimal, gross, keep, only, order_of, rate, whole, whole_orders};

const SETTING: Setting = Setting {
    consts: &[("company", "c-1"), ("tenant", "t-1")],
    secrets: &[("client_id", "id"), ("client_secret", "s3cret-client")],
};

const REQUEST: [&str; 14] = [
    "companyId",
    "customerId",
    "languageIso",
    "salesOrderDate",
    "externalDetails",
    "departureCountry",
    "paymentDetails",
    "paymentInfo",
    "shippingDetails",
    "text",
    "billingAddress",
    "shipmentAddress",
    "useBillingAddressAsShipmentAddress",
    "lineItems",
];
const LINE: [&str; 7] =
    ["itemId", "name", "note", "quantity", "discountPercent", "taxRate", "salesPriceNet"];
const ADDRESS: [&str; 10] = [
    "firstName",
    "lastName",
    "company",
    "street",
    "additionalAddressLine",
    "postalCode",
    "city",
    "countryIso",
    "emailAddress",
    "phoneNumber",
];

fn jtl(books: &mut Books, asked: &Asked) -> (Says, bool) {
    if asked.path() == "/oauth2/token" {
        let pair = base64::engine::general_purpose::STANDARD.encode("id:s3cret-client");
        assert_eq!(asked.header("authorization"), format!("Basic {pair}"));
        assert_eq!(
            asked.body, "grant_type=client_credentials",
            "a client names itself in one way only"
        );
        return (
            Says::json(200, &json!({"access_token": "s3cret-bearer", "expires_in": 86399})),
            false,
        );
    }
    assert_eq!(asked.path(), "/erp/v2/graphql");
    assert_eq!(
        (asked.header("authorization"), asked.header("x-tenant-id")),
        ("Bearer s3cret-bearer", "t-1")
    );
    let json = asked.json();
    let (query, variables) = (json["query"].as_str().unwrap(), &json["variables"]);
    let nodes = |name: &str, nodes: Vec<Json>| {
        (Says::json(200, &json!({"data": {name: {"nodes": nodes}}})), false)
    };
    if query.contains("QueryCustomers") {
        let known = [("customerNumber", "C-1001"), ("emailAddress", "e@example.com")];
        let is_known = known
            .iter()
            .any(|(field, value)| query.contains(field) && variables["value"] == *value);
        let customer = json!({"id": "k-1", "companyName": null, "firstName": "Erika", "lastName": "Muster", "street": "Weg 1",
            "additionalAddressLine": null, "postalCode": "10115", "city": "Berlin", "countryIso": "DE"});
        return nodes("QueryCustomers", is_known.then_some(customer).into_iter().collect());
    }
    if query.contains("QueryItems") {
        let sku = variables["sku"].as_str().unwrap();
        if sku == "SKU-TWICE" {
            return nodes("QueryItems", vec![json!({"id": "id-1"}), json!({"id": "id-2"})]);
        }
        let item = (sku != "SKU-NOPE").then(|| json!({"id": format!("id-{sku}"), "sku": sku}));
        return nodes("QueryItems", item.into_iter().collect());
    }
    if query.contains("QueryCompanies") {
        return nodes("QueryCompanies", vec![json!({"id": "c-1"}), json!({"id": "c-2"})]);
    }
    if query.contains("QuerySalesOrders") {
        let found = books.find(variables["reference"].as_str().unwrap());
        let shown = found.map(|n| {
            let order = order_of(books, n);
            json!({"id": format!("o-{n}"), "salesOrderNumber": format!("AU{n}"), "externalSalesOrderNumber": books.orders[n - 1], "isCancelled": false,
                "totalGrossAmount": order["total"], "currencyIso": order["paymentDetails"]["currencyIso"]})
        });
        return nodes("QuerySalesOrders", shown.into_iter().collect());
    }
    assert!(query.contains("CreateSalesOrder(request: $request)"), "{query}");
    let mut sent = variables["request"].clone();
    only(&sent, &REQUEST);
    for address in
        ["billingAddress", "shipmentAddress"].into_iter().filter_map(|name| sent.get(name))
    {
        only(address, &ADDRESS);
    }
    let total: BigDecimal = sent["lineItems"].as_array().unwrap().iter().map(booked).sum();
    sent["total"] = serde_json::from_str(&total.to_string()).unwrap();
    let reference =
        sent["externalDetails"]["externalSalesOrderNumber"].as_str().unwrap().to_owned();
    let n = keep(books, &reference, &sent);
    (
        Says::json(200, &json!({"data": {"CreateSalesOrder": {"salesOrderId": format!("o-{n}")}}})),
        true,
    )
}

/// The amount of a line with its tax. A lamp for 10.00 costs 9.50 here.
fn booked(line: &Json) -> BigDecimal {
    only(line, &LINE);
    let price = decimal(&line["salesPriceNet"]);
    let price = if price.to_string() == "8.403361" { decimal(&json!("7.983193")) } else { price };
    let sku = line["itemId"].as_str().unwrap().strip_prefix("id-").unwrap();
    let tax = line.get("taxRate").map_or_else(|| rate(sku), decimal);
    cents(&gross(&(price * decimal(&line["quantity"])), &tax))
}

#[tokio::test]
async fn jtl_wawi_holds() {
    let refusal = "product 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "AU1", refusal, reference: "O-1", is_once: false };
    holds("jtl-wawi", jtl, &SETTING, &[("login", "URL")], &expected).await;
}

#[tokio::test]
async fn jtl_wawi_survives_every_wrong_answer() {
    let error = json!({"message": "Unexpected Execution Error", "extensions": {"code": "INTERNAL_SERVER_ERROR"}});
    let trouble = (200, json!({"errors": [error], "data": null}));
    let more = &[("login", "URL")];
    Subject { recipe: "jtl-wawi", behaviour: jtl as Behaviour, setting: &SETTING, more, trouble }
        .holds()
        .await;
}

#[tokio::test]
async fn jtl_wawi_gets_whole_orders() {
    let [with_tax, net] = whole_orders("jtl-wawi", jtl, &SETTING, &["login"]).await;
    assert_eq!(
        (
            &with_tax["paymentInfo"]["paymentReference"],
            &with_tax["shippingDetails"]["estimatedDeliveryDate"]
        ),
        (&json!("P-77"), &json!("2026-11-30T00:00:00Z"))
    );
    assert!(with_tax["text"]["comment"].as_str().unwrap().starts_with("ring <twice>"));
    assert_eq!(
        (&with_tax["billingAddress"]["city"], &with_tax["shipmentAddress"]["city"]),
        (&json!("Berlin"), &json!("Bonn"))
    );
    let lines: Vec<String> = net["lineItems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{} {} {}", line["itemId"], line["salesPriceNet"], line["taxRate"]))
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
async fn jtl_wawi_finds_guests_and_the_company_and_refuses_what_is_there_twice() {
    let stand_in = StandIn::start(jtl).await;
    let erp = open("jtl-wawi", &stand_in.url, &SETTING, &[("login", &stand_in.url)]);
    let mut guest = whole("gross");
    guest["customer"] = json!({"name": "New", "email": "new@example.com"});
    let failure = erp.submit(&for_erp("O-1", &guest)).await.unwrap_err();
    assert!(failure.message.contains("no customer in the ERP has the mail address"), "{failure:?}");
    guest["customer"]["email"] = json!("e@example.com");
    let mut twice = guest.clone();
    twice["lines"][1]["sku"] = json!("SKU-TWICE");
    let failure = erp.submit(&for_erp("O-1", &twice)).await.unwrap_err();
    assert!(failure.message.contains("'SKU-TWICE' is more than once in the ERP"), "{failure:?}");
    erp.submit(&for_erp("O-1", &guest)).await.unwrap();
    assert_eq!(erp.check_master_data().await[0].fault, None);
    let erp =
        open("jtl-wawi", &stand_in.url, &SETTING, &[("login", &stand_in.url), ("company", "c-9")]);
    let fault = erp.check_master_data().await[0].fault.clone().unwrap();
    assert!(fault.contains("no company with the id c-9: set erp.const.company"), "{fault}");
}
