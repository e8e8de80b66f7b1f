//! Business Central: a deep insert, lines for shipping and discounts, comments for texts; totals that are summed up later.

use bigdecimal::BigDecimal;
use serde_json::{Value as Json, json};

use crate::recipes::{Expected, Setting, holds, open};
use crate::stand_in::{Asked, Books, Says, StandIn};

use super::whole::{commit_of, holds_values, known, list, number, percent, rate};
use super::{read, whole};

const SETTING: Setting = Setting {
    consts: &[("tenant", "T")],
    secrets: &[("client_id", "id"), ("client_secret", "s3cret-client")],
};

fn check(json: &Json) {
    known(
        json,
        &[
            "externalDocumentNumber",
            "orderDate",
            "customerNumber",
            "currencyCode",
            "pricesIncludeTax",
            "shipToName",
            "shipToContact",
            "shipToAddressLine1",
            "shipToAddressLine2",
            "shipToPostCode",
            "shipToCity",
            "shipToState",
            "shipToCountry",
            "requestedDeliveryDate",
            "salesOrderLines",
        ],
    );
    for line in list(json, "/salesOrderLines") {
        known(
            &line,
            &[
                "lineType",
                "lineObjectNumber",
                "description",
                "unitOfMeasureCode",
                "quantity",
                "unitPrice",
                "discountAmount",
            ],
        );
        assert!(read(&line, "/description").chars().count() <= 100, "{line}");
        assert!(number(&line, "/unitPrice") >= 0, "{line}");
    }
}

/// Its lines with their amounts.
fn lines(json: &Json) -> Vec<Json> {
    let line = |line: Json| {
        let amount = number(&line, "/quantity") * number(&line, "/unitPrice")
            - number(&line, "/discountAmount");
        let tax = match json["pricesIncludeTax"] == false {
            true => percent(&amount, &rate(line["lineObjectNumber"].as_str().unwrap_or("SKU-100"))),
            false => BigDecimal::from(0),
        };
        json!({"description": line["description"], "amountExcludingTax": amount.to_string(), "amountIncludingTax": (tax + amount).to_string()})
    };
    list(json, "/salesOrderLines").into_iter().map(line).collect()
}

fn total(json: &Json) -> BigDecimal {
    lines(json).iter().map(|line| number(line, "/amountIncludingTax")).sum()
}

fn order(books: &Books, n: usize) -> Json {
    let commit = commit_of(books, n, "/externalDocumentNumber");
    json!({"id": format!("g-{n}"), "number": format!("BC-{n}"), "status": "Draft", "externalDocumentNumber": books.orders[n - 1].to_uppercase(),
        "totalAmountIncludingTax": total(&commit).to_string().parse::<f64>().unwrap(), "currencyCode": commit["currencyCode"]})
}

pub(in crate::recipes) fn business_central(books: &mut Books, asked: &Asked) -> (Says, bool) {
    if asked.path() == "/T/oauth2/v2.0/token" {
        assert!(
            asked.body.contains("client_secret=s3cret-client")
                && asked.body.contains("scope=https")
        );
        books.logins += 1;
        return (
            Says::json(200, &json!({"access_token": "s3cret-bearer", "expires_in": 3599})),
            false,
        );
    }
    assert_eq!(asked.header("authorization"), "Bearer s3cret-bearer");
    assert_eq!(asked.header("accept-language"), "en-US");
    let path = asked.path();
    if path.ends_with("/api/v2.0/companies") {
        let known = json!({"id": "00000000-0000-0000-0000-000000000000", "name": "CRONUS"});
        return (Says::json(200, &json!({"value": [known]})), false);
    }
    let entity = path
        .strip_prefix(
            "/v2.0/T/production/api/v2.0/companies(00000000-0000-0000-0000-000000000000)/",
        )
        .unwrap();
    let filter = asked.query("$filter");
    let named = filter.split('\'').nth(1).unwrap_or_default();
    // The first order has been shipped and invoiced.
    let in_set = |n: usize, set: &str| (n == 1) == set.starts_with("salesInvoices");
    let rows = |rows: Vec<Json>| {
        let context = format!("https://bc/$metadata#companies(1)/{entity}(id,number)");
        (Says::json(200, &json!({"@odata.context": context, "value": rows})), false)
    };
    match (asked.method.as_str(), entity) {
        ("GET", "customers") => match named {
            "C-NOPE" => rows(Vec::new()),
            number => rows(vec![
                json!({"number": number, "blocked": if number == "C-OLD" { "All" } else { " " }}),
            ]),
        },
        ("GET", "items") => match named {
            "SKU-NOPE" => rows(Vec::new()),
            number => rows(vec![json!({"number": number, "blocked": false})]),
        },
        ("POST", "salesOrders") => {
            let json = asked.json();
            check(&json);
            let n = books.make(&read(&json, "/externalDocumentNumber"));
            let mut made = order(books, n);
            // The lines are not in it yet.
            made["totalAmountIncludingTax"] = json!(0);
            made["@odata.context"] = json!("https://bc/$metadata#companies(1)/salesOrders/$entity");
            (Says::json(201, &made), true)
        }
        ("GET", "salesOrders" | "salesInvoices") => {
            let found = books.find(named).filter(|n| in_set(*n, entity));
            rows(found.map(|n| order(books, n)).into_iter().collect())
        }
        ("GET", entity) => {
            let n: usize =
                entity.split("(g-").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
            match entity.ends_with("Lines") {
                true => rows(lines(&commit_of(books, n, "/externalDocumentNumber"))),
                false => (Says::json(200, &order(books, n)), false),
            }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn business_central_holds() {
    let refusal = "item 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "BC-1", refusal, reference: "O-1", is_once: false };
    holds("business-central", business_central, &SETTING, &[("login", "URL")], &expected).await;
}

#[tokio::test]
async fn business_central_books_what_was_paid() {
    let stand_in = StandIn::start(business_central).await;
    let url = stand_in.url.clone();
    let erp = open("business-central", &url, &SETTING, &[("login", &url)]);
    whole::books(&erp, "O-1", "net").await;
    whole::books(&erp, "O-2", "gross").await;
    let told = whole::difference(&erp, "O-3").await;
    assert!(told.contains("150.86 EUR: line 3 parcel: 4.90 there, not paid"), "{told}");
    let books = stand_in.books.lock().unwrap();
    holds_values(
        &commit_of(&books, 2, "/externalDocumentNumber"),
        &[
            ("/pricesIncludeTax", "true"),
            ("/requestedDeliveryDate", "2026-11-30"),
            ("/shipToName", "Lager GmbH"),
            ("/shipToContact", "Max (Lager) O'Neil"),
            ("/salesOrderLines/0/unitOfMeasureCode", "PCS"),
            ("/salesOrderLines/0/discountAmount", "2.00"),
            ("/salesOrderLines/2/lineObjectNumber", "SHIPPING"),
            ("/salesOrderLines/4/quantity", "-1"),
            ("/salesOrderLines/4/unitPrice", "5.00"),
            ("/salesOrderLines/5/description", "Line 1: blue"),
            ("/salesOrderLines/6/description", "ring twice"),
            ("/salesOrderLines/8/description", "References: marketplace 302-1"),
        ],
    );
}

#[tokio::test]
async fn business_central_gets_long_remarks_whole() {
    let stand_in = StandIn::start(business_central).await;
    let url = stand_in.url.clone();
    let erp = open("business-central", &url, &SETTING, &[("login", &url)]);
    let remark = "ü".repeat(230);
    let document = whole::order("O-1", "net").document.replace("ring twice", &remark);
    let sent = order_relay::ports::erp::OrderForErp {
        document: document.into(),
        ..whole::order("O-1", "net")
    };
    order_relay::ports::erp::Erp::submit(&erp, &sent).await.unwrap();
    let commit = commit_of(&stand_in.books.lock().unwrap(), 1, "/externalDocumentNumber");
    let lines = list(&commit, "/salesOrderLines");
    let texts: String = lines.iter().map(|line| read(line, "/description")).collect();
    assert!(texts.contains(&remark), "{texts}");
}

#[tokio::test]
async fn business_central_refuses_customers_that_are_unknown_or_blocked() {
    let stand_in = StandIn::start(business_central).await;
    let url = stand_in.url.clone();
    let erp = open("business-central", &url, &SETTING, &[("login", &url)]);
    assert_eq!(
        whole::refusal_of_customer(&erp, "C-NOPE").await,
        "customer 'C-NOPE' is unknown to the ERP"
    );
    assert_eq!(
        whole::refusal_of_customer(&erp, "C-OLD").await,
        "customer 'C-OLD' is blocked in the ERP"
    );
}

#[tokio::test]
async fn business_central_finds_a_company_that_is_not_there() {
    let stand_in = StandIn::start(business_central).await;
    let url = stand_in.url.clone();
    let open = |consts: &[(&str, &str)]| {
        open("business-central", &url, &SETTING, &[&[("login", url.as_str())], consts].concat())
    };
    whole::finds(&open(&[]), "nothing", "").await;
    whole::finds(&open(&[("company", "1")]), "company", "set erp.const.company").await;
}
