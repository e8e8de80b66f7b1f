//! SAP S/4HANA: condition types, taxes of its own, a delivery block until the total is right.

use bigdecimal::BigDecimal;
use order_relay::ports::erp::Erp;
use serde_json::{Value as Json, json};

use crate::recipes::{Expected, holds, open, order};
use crate::stand_in::{Asked, Books, Says, StandIn};

use super::whole::{commit_of, holds_values, known, list, number, percent, rate};
use super::{USER, read, whole};

const SERVICE: &str = "/sap/opu/odata/sap/API_SALES_ORDER_SRV/";

fn check(json: &Json) {
    known(
        json,
        &[
            "SalesOrderType",
            "SalesOrganization",
            "DistributionChannel",
            "OrganizationDivision",
            "SoldToParty",
            "PurchaseOrderByCustomer",
            "CustomerPurchaseOrderDate",
            "TransactionCurrency",
            "RequestedDeliveryDate",
            "DeliveryBlockReason",
            "to_Text",
            "to_Partner",
            "to_PricingElement",
            "to_Item",
        ],
    );
    for item in list(json, "/to_Item/results") {
        known(
            &item,
            &[
                "Material",
                "SalesOrderItemText",
                "RequestedQuantity",
                "RequestedQuantityUnit",
                "to_Text",
                "to_PricingElement",
            ],
        );
        assert!(item["RequestedQuantity"].is_string(), "decimals are texts in OData V2");
    }
    for partner in list(json, "/to_Partner/results") {
        known(&partner, &["PartnerFunction", "Customer", "to_Address"]);
        for address in list(&partner, "/to_Address/results") {
            known(
                &address,
                &[
                    "AddressRepresentationCode",
                    "OrganizationName1",
                    "OrganizationName2",
                    "OrganizationName3",
                    "StreetName",
                    "StreetSuffixName1",
                    "PostalCode",
                    "CityName",
                    "Region",
                    "Country",
                    "PhoneNumber",
                ],
            );
        }
    }
}

/// Amounts of conditions of these types.
fn conditions(json: &Json, types: &[&str]) -> BigDecimal {
    let all = list(json, "/to_PricingElement/results");
    all.iter()
        .filter(|one| types.contains(&read(one, "/ConditionType").as_str()))
        .map(|one| number(one, "/ConditionRateValue"))
        .sum()
}

/// Its items with net amount and tax. Amounts of the whole order are in the first one.
fn items(json: &Json) -> Vec<Json> {
    let items = list(json, "/to_Item/results");
    let item = |(index, item): (usize, &Json)| {
        let mut net = number(item, "/RequestedQuantity") * conditions(item, &["PMP0"])
            + conditions(item, &["RB00"]);
        if index == 0 {
            net += conditions(json, &["HB00", "HD00"]);
        }
        let tax = percent(&net, &rate(&read(item, "/Material")));
        json!({"SalesOrderItemText": item["SalesOrderItemText"], "NetAmount": net.to_string(), "TaxAmount": tax.to_string()})
    };
    items.iter().enumerate().map(item).collect()
}

pub(in crate::recipes) fn sap(books: &mut Books, asked: &Asked) -> (Says, bool) {
    assert!(asked.header("authorization").starts_with("Basic "));
    let path = asked.path();
    let entity = path.strip_prefix(SERVICE).unwrap();
    if entity.is_empty() {
        assert_eq!(asked.header("x-csrf-token"), "Fetch");
        books.logins += 1;
        let says = Says::json(200, &json!({"d": {}})).with("x-csrf-token", "s3cret-csrf-token");
        let says = says
            .with("Set-Cookie", "SAP_SESSIONID_X=s3cret-cookie; path=/")
            .with("Set-Cookie", "odd=1");
        return (says, false);
    }
    assert_eq!(asked.header("cookie"), "SAP_SESSIONID_X=s3cret-cookie; odd=1");
    let is_write = asked.method != "GET";
    if is_write && (asked.header("x-csrf-token") != "s3cret-csrf-token" || books.session_over) {
        books.session_over = false;
        let says = Says::text(403, "text/plain", "CSRF token validation failed");
        return (says.with("x-csrf-token", "Required"), false);
    }
    let of = |id: &str| id.split('\'').nth(1).unwrap().parse::<usize>().unwrap();
    match (asked.method.as_str(), entity.split_once(')').map_or("", |(_, rest)| rest)) {
        ("POST", _) => post(books, &asked.json()),
        ("PATCH", _) => {
            assert_eq!(
                (asked.header("if-match"), &asked.json()),
                ("*", &json!({"DeliveryBlockReason": ""}))
            );
            books.states[of(entity) - 1] = String::new();
            (Says::text(204, "text/plain", ""), false)
        }
        (_, "/to_Item") => {
            let items = items(&commit_of(books, of(entity), "/PurchaseOrderByCustomer"));
            (Says::json(200, &json!({"d": {"results": items}})), false)
        }
        _ if entity.contains('(') => {
            let n = of(entity);
            let commit = commit_of(books, n, "/PurchaseOrderByCustomer");
            let items = items(&commit);
            let net: BigDecimal = items.iter().map(|item| number(item, "/NetAmount")).sum();
            let order = json!({"SalesOrder": n.to_string(), "TotalNetAmount": net.to_string(), "TransactionCurrency": commit["TransactionCurrency"],
                "to_Item": {"results": items}});
            (Says::json(200, &json!({ "d": order })), false)
        }
        _ => {
            let filter = asked.query("$filter");
            let reference = filter.split('\'').nth(1).unwrap();
            let row = |n: usize| {
                json!({"SalesOrder": n.to_string(), "OverallSDProcessStatus": "A", "PurchaseOrderByCustomer": reference,
                "DeliveryBlockReason": books.states[n - 1]})
            };
            let rows: Json = books.find(reference).map(row).into_iter().collect();
            (Says::json(200, &json!({"d": {"results": rows}})), false)
        }
    }
}

fn post(books: &mut Books, json: &Json) -> (Says, bool) {
    check(json);
    if read(json, "/to_Item/results/0/Material") == "SKU-NOPE" {
        let detail = json!({"code": "V1/382", "message": "Material SKU-NOPE is not defined", "severity": "error"});
        let error = json!({"code": "V1/302", "message": {"lang": "en", "value": "Error"}, "innererror": {"errordetails": [detail]}});
        return (Says::json(400, &json!({"error": error})), true);
    }
    assert_eq!(read(json, "/CustomerPurchaseOrderDate"), "/Date(1795305600000)/");
    let n = books.make(&read(json, "/PurchaseOrderByCustomer"));
    let block = json["DeliveryBlockReason"].as_str().unwrap_or_default();
    block.clone_into(&mut books.states[n - 1]);
    (
        Says::json(201, &json!({"d": {"SalesOrder": n.to_string(), "DeliveryBlockReason": block}})),
        true,
    )
}

#[tokio::test]
async fn sap_s4_holds() {
    let refusal = "Material SKU-NOPE is not defined";
    let expected = Expected { number: "1", refusal, reference: "O-1", is_once: false };
    holds("sap-s4", sap, &USER, &[], &expected).await;
}

#[tokio::test]
async fn sap_s4_books_what_was_paid() {
    let stand_in = StandIn::start(sap).await;
    let erp = open("sap-s4", &stand_in.url, &USER, &[("client", "100")]);
    whole::books(&erp, "O-1", "net").await;
    let books = stand_in.books.lock().unwrap();
    assert!(books.asked.iter().all(|asked| asked.query("sap-client") == "100"));
    holds_values(
        &commit_of(&books, 1, "/PurchaseOrderByCustomer"),
        &[
            ("/RequestedDeliveryDate", "/Date(1795996800000)/"),
            (
                "/to_Text/results/0/LongText",
                "ring twice\nPayment: card P-1\nReferences: marketplace 302-1",
            ),
            ("/to_Partner/results/0/PartnerFunction", "SH"),
            ("/to_Partner/results/0/to_Address/results/0/OrganizationName1", "Max (Lager) O'Neil"),
            ("/to_Partner/results/0/to_Address/results/0/OrganizationName3", "Lager GmbH"),
            ("/to_Item/results/0/RequestedQuantityUnit", "PC"),
            ("/to_Item/results/0/to_Text/results/0/LongText", "blue"),
            ("/to_Item/results/0/to_PricingElement/results/1/ConditionRateValue", "-2.00"),
            ("/to_PricingElement/results/0/ConditionType", "HD00"),
        ],
    );
}

#[tokio::test]
async fn sap_s4_delivers_nothing_before_the_total_is_right() {
    let stand_in = StandIn::start(sap).await;
    let erp = open("sap-s4", &stand_in.url, &USER, &[("delivery_block", "01")]);
    whole::books(&erp, "O-1", "net").await;
    let told = whole::difference(&erp, "O-2").await;
    let expected = "paid 150.85 EUR, but in the ERP as 2 it is 150.86 EUR: line 1 SKU-19: 97.90 paid, 99.80 there";
    assert_eq!(told, expected);
    assert_eq!(stand_in.books.lock().unwrap().states, ["", "01"]);
}

#[tokio::test]
async fn a_stale_csrf_token_is_fetched_again() {
    let stand_in = StandIn::start(sap).await;
    let erp = open("sap-s4", &stand_in.url, &USER, &[]);
    erp.submit(&order("O-1", "SKU-100")).await.unwrap();
    stand_in.books.lock().unwrap().session_over = true;
    erp.submit(&order("O-2", "SKU-100")).await.unwrap();
    let books = stand_in.books.lock().unwrap();
    assert_eq!((books.logins, books.orders.len()), (2, 2));
}
