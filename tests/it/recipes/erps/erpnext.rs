//! ERPNext: rows of taxes by account, item tax templates, addresses as documents.

use bigdecimal::BigDecimal;
use serde_json::{Value as Json, json};

use crate::recipes::{Expected, Setting, holds, open};
use crate::stand_in::{Asked, Books, Says, StandIn};

use super::whole::{commit_of, decimal, holds_values, known, list, number, percent};
use super::{read, whole};

const SETTING: Setting =
    Setting { consts: &[], secrets: &[("key", "s3cret-key"), ("secret", "s3cret-secret")] };

fn check(json: &Json) {
    known(
        json,
        &[
            "customer",
            "company",
            "order_type",
            "po_no",
            "po_date",
            "transaction_date",
            "delivery_date",
            "currency",
            "ignore_pricing_rule",
            "disable_rounded_total",
            "selling_price_list",
            "set_warehouse",
            "customer_address",
            "shipping_address_name",
            "terms",
            "taxes",
            "items",
        ],
    );
    for item in list(json, "/items") {
        known(
            &item,
            &["item_code", "item_name", "qty", "rate", "uom", "item_tax_template", "description"],
        );
    }
    for tax in list(json, "/taxes") {
        known(
            &tax,
            &["charge_type", "account_head", "description", "included_in_print_rate", "rate"],
        );
    }
}

/// The rate that an account or a template is named by: `VAT 19% - C`.
fn named_rate(name: &str) -> BigDecimal {
    decimal(name.strip_prefix("VAT ").unwrap().strip_suffix("% - C").unwrap())
}

/// What ERPNext calculates: each row of taxes over the items whose template names its account, or else with its own rate.
fn total(json: &Json) -> BigDecimal {
    let items = list(json, "/items");
    let amount = |item: &Json| number(item, "/qty") * number(item, "/rate");
    let mut total: BigDecimal = items.iter().map(amount).sum();
    for tax in list(json, "/taxes").iter().filter(|tax| tax["included_in_print_rate"] == 0) {
        let account = read(tax, "/account_head");
        let rate = |item: &Json| match item["item_tax_template"].as_str() {
            Some(template) if template == account => named_rate(template),
            Some(_) | None => number(tax, "/rate"),
        };
        let hundred = BigDecimal::from(100);
        let sum: BigDecimal = items.iter().map(|item| amount(item) * rate(item) / &hundred).sum();
        total += percent(&sum, &hundred);
    }
    total
}

fn row(books: &Books, n: usize) -> Json {
    let commit = commit_of(books, n, "/po_no");
    let submitted = i32::from(books.states[n - 1] == "1");
    json!({"name": format!("SAL-ORD-{n}"), "po_no": books.orders[n - 1], "docstatus": submitted,
        "grand_total": total(&commit).to_string().parse::<f64>().unwrap(), "currency": commit["currency"]})
}

fn data(data: &Json) -> (Says, bool) {
    (Says::json(200, &json!({ "data": data })), false)
}

pub(in crate::recipes) fn erpnext(books: &mut Books, asked: &Asked) -> (Says, bool) {
    assert_eq!(asked.header("authorization"), "token s3cret-key:s3cret-secret");
    assert_eq!(asked.header("accept"), "application/json");
    let (path, json) = (asked.path(), asked.json());
    let filters: Json = serde_json::from_str(&asked.query("filters")).unwrap_or_default();
    let rows = |rows: Vec<Json>| data(&Json::from(rows));
    if path == "/api/method/frappe.client.get_list" {
        holds_values(&json, &[("/doctype", "Item"), ("/filters/0/0", "item_code")]);
        let codes = list(&json, "/filters/0/2").into_iter().filter(|code| code != "SKU-NOPE");
        let rows: Json = codes.map(|code| json!({ "item_code": code })).collect();
        return (Says::json(200, &json!({ "message": rows })), false);
    }
    match (asked.method.as_str(), path.strip_prefix("/api/resource/").unwrap()) {
        ("GET", "Customer") => match read(&filters, "/0/2").as_str() {
            "C-NOPE" => rows(Vec::new()),
            name => rows(vec![json!({"name": name, "disabled": i32::from(name == "C-OLD")})]),
        },
        ("GET", kind @ ("Company" | "Warehouse")) => {
            let name = read(&filters, "/0/2");
            let is_there = name == if kind == "Company" { "Company" } else { "Stores - C" };
            rows(is_there.then(|| json!({ "name": name })).into_iter().collect())
        }
        ("GET", "Country") => {
            assert_eq!(filters, json!([["code", "in", ["de"]]]));
            rows(vec![json!({"name": "Germany", "code": "de"})])
        }
        ("GET", "Address") => {
            let title = read(&filters, "/1/2");
            let posted = |one: &&Asked| {
                one.method == "POST" && one.json()["address_title"] == title.as_str()
            };
            rows(
                books
                    .asked
                    .iter()
                    .find(posted)
                    .map(|_| json!({ "name": title }))
                    .into_iter()
                    .collect(),
            )
        }
        ("POST", "Address") => {
            known(
                &json,
                &[
                    "address_title",
                    "address_type",
                    "address_line1",
                    "address_line2",
                    "pincode",
                    "city",
                    "state",
                    "country",
                    "phone",
                    "links",
                ],
            );
            holds_values(&json, &[("/country", "Germany"), ("/links/0/link_name", "C-1001")]);
            data(&json!({"name": json["address_title"]}))
        }
        ("GET", "Sales Order") => {
            rows(books.find(&read(&filters, "/0/2")).map(|n| row(books, n)).into_iter().collect())
        }
        ("POST", "Sales Order") => {
            check(&json);
            let n = books.make(&read(&json, "/po_no"));
            (Says::json(200, &json!({"data": row(books, n)})), true)
        }
        ("GET", order) => {
            let n: usize = order.rsplit('-').next().unwrap().parse().unwrap();
            let mut order = commit_of(books, n, "/po_no");
            for item in order["items"].as_array_mut().unwrap() {
                item["amount"] = (number(item, "/qty") * number(item, "/rate")).to_string().into();
            }
            data(&order)
        }
        (_, order) => {
            let n: usize = order.rsplit('-').next().unwrap().parse().unwrap();
            books.states[n - 1] = "1".to_owned();
            data(&json!({"name": format!("SAL-ORD-{n}"), "docstatus": 1}))
        }
    }
}

#[tokio::test]
async fn erpnext_holds() {
    let refusal = "product 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "SAL-ORD-1", refusal, reference: "O-1", is_once: false };
    holds("erpnext", erpnext, &SETTING, &[], &expected).await;
}

#[tokio::test]
async fn erpnext_books_what_was_paid() {
    let stand_in = StandIn::start(erpnext).await;
    let erp = open("erpnext", &stand_in.url, &SETTING, &[("warehouse", "Stores - C")]);
    whole::books(&erp, "O-1", "net").await;
    whole::books(&erp, "O-2", "gross").await;
    let told = whole::difference(&erp, "O-3").await;
    assert!(
        told.contains("line 1 SKU-19: 97.90 paid, 99.90 there; line 3 DISCOUNT: -2.00 there"),
        "{told}"
    );
    let books = stand_in.books.lock().unwrap();
    assert_eq!(books.states, ["1", "1", "draft"]);
    holds_values(
        &commit_of(&books, 2, "/po_no"),
        &[
            ("/delivery_date", "2026-11-30"),
            ("/set_warehouse", "Stores - C"),
            ("/customer_address", "Erika Muster"),
            ("/shipping_address_name", "Lager GmbH, Max (Lager) O'Neil"),
            ("/terms", "ring twice<br>Payment: card P-1<br>References: marketplace 302-1"),
            ("/taxes/0/account_head", "VAT 19% - C"),
            ("/taxes/0/rate", "0"),
            ("/taxes/0/included_in_print_rate", "1"),
            ("/items/0/uom", "Nos"),
            ("/items/0/item_tax_template", "VAT 19% - C"),
            ("/items/1/item_tax_template", "VAT 7% - C"),
            ("/items/2/item_code", "DISCOUNT"),
        ],
    );
    let made = books
        .asked
        .iter()
        .filter(|asked| asked.method == "POST" && asked.path().ends_with("/Address"))
        .count();
    assert_eq!(made, 2, "each address is there once");
}

#[tokio::test]
async fn erpnext_refuses_customers_that_are_unknown_or_disabled() {
    let stand_in = StandIn::start(erpnext).await;
    let erp = open("erpnext", &stand_in.url, &SETTING, &[]);
    assert_eq!(
        whole::refusal_of_customer(&erp, "C-NOPE").await,
        "customer 'C-NOPE' is unknown to the ERP"
    );
    assert_eq!(
        whole::refusal_of_customer(&erp, "C-OLD").await,
        "customer 'C-OLD' is disabled in the ERP"
    );
}

#[tokio::test]
async fn erpnext_finds_settings_that_name_nothing() {
    let stand_in = StandIn::start(erpnext).await;
    let open = |consts: &[(&str, &str)]| open("erpnext", &stand_in.url, &SETTING, consts);
    whole::finds(&open(&[]), "nothing", "").await;
    whole::finds(&open(&[("company", "Nord")]), "company", "set erp.const.company").await;
    whole::finds(&open(&[("warehouse", "Stores")]), "warehouse", "set erp.const.warehouse").await;
}
