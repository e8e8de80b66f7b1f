//! SAP Business One, Service Layer.

use bigdecimal::{BigDecimal, Zero};
use order_relay::ports::erp::Erp;
use serde_json::{Value as Json, json};

use crate::stand_in::{Asked, Behaviour, Books, Says, StandIn};

use super::super::erps::USER;
use super::super::matrix::Subject;
use super::super::{Expected, Setting, holds, open, order};
use super::{cents, decimal, gross, keep, only, order_of, rate, whole_orders};

const SETTING: Setting = Setting { consts: &[("guest_customer", "C-SHOP")], secrets: USER.secrets };

const HEAD: [&str; 12] = [
    "CardCode",
    "CardName",
    "NumAtCard",
    "DocDate",
    "TaxDate",
    "DocDueDate",
    "DocCurrency",
    "Confirmed",
    "Comments",
    "AddressExtension",
    "DocumentLines",
    "DocumentStatus",
];
const LINE: [&str; 7] = [
    "ItemCode",
    "ItemDescription",
    "Quantity",
    "DiscountPercent",
    "FreeText",
    "PriceAfterVAT",
    "UnitPrice",
];

fn error(status: u16, code: &str, message: &str) -> Says {
    Says::json(status, &json!({"error": {"code": code, "message": message}}))
}

fn sap_b1(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let path = asked.path();
    let path = path.strip_prefix("/b1s/v2/").unwrap();
    if path == "Login" {
        let login = asked.json();
        assert_eq!(
            (&login["CompanyDB"], &login["UserName"]),
            (&json!("SBODEMODE"), &json!("relay"))
        );
        books.logins += 1;
        let session =
            json!({"SessionId": "s3cret-session", "Version": "1000190", "SessionTimeout": 30});
        let says = Says::json(200, &session)
            .with("Set-Cookie", "B1SESSION=s3cret-session; HttpOnly; Path=/");
        return (says.with("Set-Cookie", "ROUTEID=.node1; path=/"), false);
    }
    if books.session_over
        || !asked.header("cookie").contains("B1SESSION=s3cret-session; ROUTEID=.node1")
    {
        books.session_over = false;
        return (error(401, "301", "Invalid session or session already timeout."), false);
    }
    let filtered = || asked.query("$filter").split('\'').nth(1).unwrap().to_owned();
    let shown = |books: &Books, n: usize| {
        let mut order = order_of(books, n);
        order["DocEntry"] = json!(n);
        order["DocNum"] = json!(n + 500);
        order
    };
    if path == "BusinessPartners" {
        let code = filtered();
        let is_known = ["C-1001", "C-SHOP"].contains(&code.as_str());
        let rows: Vec<Json> = is_known
            .then(|| json!({"CardCode": code, "Frozen": "tNO", "Currency": "##"}))
            .into_iter()
            .collect();
        return (Says::json(200, &json!({ "value": rows })), false);
    }
    if let Some(n) = path.strip_prefix("Orders(").and_then(|rest| rest.strip_suffix(')')) {
        let n: usize = n.parse().unwrap();
        if asked.method == "PATCH" {
            let mut order = order_of(books, n);
            order["Confirmed"] = asked.json()["Confirmed"].clone();
            books.states[n - 1] = order.to_string();
            return (Says::text(204, "text/plain", ""), false);
        }
        return (Says::json(200, &shown(books, n)), false);
    }
    assert_eq!(path, "Orders");
    if asked.method == "GET" {
        let rows: Vec<Json> =
            books.find(&filtered()).map(|n| shown(books, n)).into_iter().collect();
        return (Says::json(200, &json!({ "value": rows })), false);
    }
    let mut sent = asked.json();
    only(&sent, &HEAD);
    if sent.to_string().contains("SKU-NOPE") {
        return (error(400, "-2028", "No matching records found (ODBC -2028)"), true);
    }
    let total: BigDecimal =
        sent["DocumentLines"].as_array_mut().unwrap().iter_mut().map(booked).sum();
    for (name, value) in [
        ("DocTotal", json!(total.to_string().parse::<f64>().unwrap())),
        ("DocTotalFc", json!(0)),
        ("DocumentStatus", json!("bost_Open")),
    ] {
        sent[name] = value;
    }
    let reference = sent["NumAtCard"].as_str().unwrap().to_owned();
    let n = keep(books, &reference, &sent);
    (Says::json(201, &shown(books, n)), true)
}

/// The amount of a line with its tax. A lamp for 10.00 costs 9.50 here.
fn booked(line: &mut Json) -> BigDecimal {
    only(line, &LINE);
    let (sku, quantity) =
        (line["ItemCode"].as_str().unwrap().to_owned(), decimal(&line["Quantity"]));
    assert!(!quantity.is_zero());
    let amount = match line.get("PriceAfterVAT") {
        Some(price) if decimal(price) == 10 => BigDecimal::from(19),
        Some(price) => decimal(price) * quantity,
        None => gross(&(decimal(&line["UnitPrice"]) * quantity), &rate(&sku)),
    };
    line["GrossTotal"] = json!(amount.to_string().parse::<f64>().unwrap());
    cents(&amount)
}

#[tokio::test]
async fn sap_b1_holds() {
    let expected = Expected {
        number: "501",
        refusal: "No matching records found",
        reference: "O-1",
        is_once: false,
    };
    holds("sap-b1", sap_b1, &SETTING, &[], &expected).await;
}

#[tokio::test]
async fn sap_b1_survives_every_wrong_answer() {
    let trouble =
        (400, json!({"error": {"code": "305", "message": "Switch company error: -1102"}}));
    Subject {
        recipe: "sap-b1",
        behaviour: sap_b1 as Behaviour,
        setting: &SETTING,
        more: &[],
        trouble,
    }
    .holds()
    .await;
}

#[tokio::test]
async fn sap_b1_gets_whole_orders() {
    let [with_tax, _] = whole_orders("sap-b1", sap_b1, &SETTING, &[]).await;
    assert_eq!(with_tax["Confirmed"], "tYES", "approved after its total was compared");
    assert_eq!(with_tax["DocDueDate"], "2026-11-30");
    assert_eq!(
        with_tax["Comments"],
        "ring <twice>\nPayment: card P-77\nReferences: marketplace 302-1"
    );
    assert_eq!(with_tax["AddressExtension"]["BillToCity"], "Berlin");
    assert_eq!(with_tax["AddressExtension"]["ShipToStreet"], "Platz 2");
    let lines: Vec<String> = with_tax["DocumentLines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{} {}", line["ItemCode"], line["GrossTotal"]))
        .collect();
    assert_eq!(
        lines,
        [
            "\"SKU-100\" 23.8",
            "\"SKU-200\" 16.05",
            "\"DISCOUNT\" -1.19",
            "\"SHIPPING\" 4.9",
            "\"SURCHARGE\" 2.38",
            "\"DISCOUNT\" -5.95"
        ]
    );
}

#[tokio::test]
async fn sap_b1_knows_guests_by_one_business_partner() {
    let stand_in = StandIn::start(sap_b1).await;
    let erp = open("sap-b1", &stand_in.url, &USER, &[]);
    let mut document: Json = serde_json::from_str(&order("O-1", "SKU-100").document).unwrap();
    document["customer"]["number"] = Json::Null;
    let failure = erp.submit(&super::for_erp("O-1", &document)).await.unwrap_err();
    assert!(
        failure.message.contains("erp.const.guest_customer names no business partner"),
        "{failure:?}"
    );
    let erp = open("sap-b1", &stand_in.url, &SETTING, &[]);
    erp.submit(&super::for_erp("O-1", &document)).await.unwrap();
    let kept = order_of(&stand_in.books.lock().unwrap(), 1);
    assert_eq!((&kept["CardCode"], &kept["CardName"]), (&json!("C-SHOP"), &json!("Erika")));
}

#[tokio::test]
async fn a_session_of_sap_b1_that_ended_is_begun_anew() {
    let stand_in = StandIn::start(sap_b1).await;
    let erp = open("sap-b1", &stand_in.url, &SETTING, &[]);
    erp.submit(&order("O-1", "SKU-100")).await.unwrap();
    stand_in.books.lock().unwrap().session_over = true;
    erp.submit(&order("O-2", "SKU-100")).await.unwrap();
    let books = stand_in.books.lock().unwrap();
    assert_eq!((books.logins, books.orders.len()), (2, 2));
}
