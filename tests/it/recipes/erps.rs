//! The ten shipped recipes. Stand-ins that calculate totals themselves have a file each.

mod business_central;
mod dolibarr;
mod erpnext;
mod netsuite;
mod sap;
mod ubl;
mod whole;

use serde_json::{Value as Json, json};

use order_relay::ports::erp::Erp;

use crate::stand_in::{Asked, Behaviour, Books, Says, StandIn};

use super::{Expected, Setting, holds, open};

pub(super) use business_central::business_central;
pub(super) use dolibarr::dolibarr;
pub(super) use erpnext::erpnext;
pub(super) use netsuite::{netsuite, netsuite_files};
pub(super) use sap::sap;
pub(super) use ubl::soap;

pub(super) const USER: Setting =
    Setting { consts: &[], secrets: &[("user", "relay"), ("password", "s3cret-pw")] };
pub(super) const KEY: Setting = Setting { consts: &[], secrets: &[("key", "s3cret-key")] };

fn read(json: &Json, at: &str) -> String {
    let found = json.pointer(at).unwrap_or_else(|| panic!("nothing at {at} in {json}"));
    found.as_str().map_or_else(|| found.to_string(), str::to_owned)
}

pub(super) fn tryton(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let json = asked.json();
    let result = |result: Json| (Says::json(200, &json!({"id": 1, "result": result})), false);
    let error = |error: Json| Says::json(200, &json!({"id": 1, "error": error}));
    let method = read(&json, "/method");
    if method == "common.db.login" {
        books.logins += 1;
        return result(json!([37, "s3cret-token-of-the-session", null]));
    }
    if !asked.header("authorization").starts_with("Session ") || books.session_over {
        books.session_over = false;
        return (Says::text(401, "text/html", ""), false);
    }
    match method.as_str() {
        "model.party.party.search_read" => {
            result(json!([{"id": 215, "addresses": [119], "customer_payment_term": null}]))
        }
        "model.currency.currency.search_read" => result(json!([{"id": 9, "code": "EUR"}])),
        "model.product.product.search_read" => {
            let asked = json.pointer("/params/0/0/2").unwrap().as_array().unwrap().clone();
            let known = asked.into_iter().filter(|sku| sku != "SKU-NOPE");
            result(known.map(|sku| json!({"id": 87, "code": sku, "sale_uom": 284, "template.": {"account_category.": {"customer_taxes_used": [4]}}})).collect())
        }
        "model.sale.sale.create" => {
            let reference = read(&json, "/params/0/0/web_id");
            let says = match books.find(&reference) {
                Some(_) => error(json!([
                    "UserError",
                    ["The web ID on the sale must be unique per shop.", "", null]
                ])),
                None => Says::json(200, &json!({"id": 1, "result": [books.make(&reference)]})),
            };
            (says, true)
        }
        "model.sale.sale.search_read" => {
            let reference = read(&json, "/params/0/1/2");
            let row = books.find(&reference).map(
                |n| json!({"id": n, "number": format!("S{n}"), "state": books.states[n - 1], "web_id": reference}),
            );
            result(row.into_iter().collect())
        }
        "model.sale.sale.quote" | "model.sale.sale.confirm" => {
            let index: usize = read(&json, "/params/0/0").parse().unwrap();
            let state = if method.ends_with("quote") { "quotation" } else { "confirmed" };
            books.states[index - 1] = state.to_owned();
            result(Json::Null)
        }
        "model.sale.sale.read" => {
            let number: usize = read(&json, "/params/0/0").parse().unwrap();
            result(
                json!([{"id": number, "number": format!("S{number}"), "state": books.states[number - 1],
                    "total_amount": {"__class__": "Decimal", "decimal": "19.00"}, "currency.": {"id": 9, "code": "EUR"}}]),
            )
        }
        "model.sale.line.search_read" => result(json!([
            {"id": 1, "description": "Lamp", "amount": {"__class__": "Decimal", "decimal": "19.00"}}
        ])),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn tryton_jsonrpc_holds() {
    let refusal = "product 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "S1", refusal, reference: "O-1", is_once: true };
    holds("tryton-jsonrpc", tryton, &USER, &[], &expected).await;
}

/// A JSON text in base64url.
fn decoded(text: &str) -> Json {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE.decode(text).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

pub(super) fn tryton_rest(books: &mut Books, asked: &Asked) -> (Says, bool) {
    assert_eq!(asked.header("authorization"), "Bearer s3cret-key");
    assert_eq!(decoded(asked.header("x-tryton-context"))["company"], 1);
    let path = asked.path();
    let sale = |books: &Books, n: usize| json!({"id": n, "number": format!("S{n}"), "state": books.states[n - 1], "web_id": books.orders[n - 1], "total_amount": {"__class__": "Decimal", "decimal": "19.00"}, "currency": {"code": "EUR"}});
    if let Some(rest) = path.strip_prefix("/tryton/rest/model/sale.sale/") {
        let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
        let n: usize = id.parse().unwrap();
        match action {
            "quote" => books.states[n - 1] = "quotation".to_owned(),
            "confirm" => books.states[n - 1] = "confirmed".to_owned(),
            _ => {}
        }
        return (Says::json(200, &sale(books, n)), false);
    }
    let domain = || decoded(&asked.query("d"));
    match (asked.method.as_str(), path.rsplit('/').next().unwrap()) {
        ("GET", "party.party") => (
            Says::json(
                200,
                &json!([{"id": 215, "addresses": [{"id": 119}], "customer_payment_term": null}]),
            ),
            false,
        ),
        ("GET", "currency.currency") => (Says::json(200, &json!([{"id": 9}])), false),
        ("GET", "product.product") => {
            let skus = domain().pointer("/0/2").unwrap().as_array().unwrap().clone();
            let known = skus.into_iter().filter(|sku| sku != "SKU-NOPE");
            let rows: Json =
                known.map(|sku| json!({"id": 87, "code": sku, "sale_uom": {"id": 284}, "template": {"account_category": {"customer_taxes_used": [{"id": 4}]}}})).collect();
            (Says::json(200, &rows), false)
        }
        ("GET", "sale.sale") => {
            let found = books.find(&read(&domain(), "/1/2"));
            let rows: Json = found.map(|n| sale(books, n)).into_iter().collect();
            (Says::json(200, &rows), false)
        }
        ("GET", "sale.line") => {
            let amount = json!({"__class__": "Decimal", "decimal": "19.00"});
            let line = json!({"id": 1, "description": "Lamp", "amount": amount});
            (Says::json(200, &json!([line])), false)
        }
        ("POST", "sale.sale") => {
            let reference = read(&asked.json(), "/web_id");
            let says = match books.find(&reference) {
                Some(_) => Says::json(
                    400,
                    &json!({"status": 400, "message": "The web ID on the sale must be unique per shop.", "description": ""}),
                ),
                None => {
                    let n = books.make(&reference);
                    Says::json(200, &json!({"id": n, "number": null, "state": "draft"}))
                }
            };
            (says, true)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tryton_rest_holds() {
    let refusal = "product 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "S1", refusal, reference: "O-1", is_once: true };
    holds("tryton-rest", tryton_rest, &KEY, &[], &expected).await;
}

pub(super) fn odoo(books: &mut Books, asked: &Asked) -> (Says, bool) {
    assert_eq!(asked.header("authorization"), "bearer s3cret-key");
    let json = asked.json();
    let path = asked.path();
    let (model, method) = path.strip_prefix("/json/2/").unwrap().split_once('/').unwrap();
    odoo_model(books, model, method, &json).unwrap_or_else(|(name, message)| {
        let error = json!({"name": name, "message": message, "arguments": [], "context": {}, "debug": "Traceback"});
        (Says::json(422, &error), false)
    })
}

type OdooError = (&'static str, &'static str);

fn odoo_model(
    books: &mut Books,
    model: &str,
    method: &str,
    json: &Json,
) -> Result<(Says, bool), OdooError> {
    let rows = |books: &Books, found: Option<usize>| -> Json {
        found
            .map(|n| {
                json!({"id": n, "name": format!("S0000{n}"), "state": books.states[n - 1], "client_order_ref": books.orders[n - 1],
                    "date_order": "2026-11-22 00:00:00", "amount_total": 19.0, "currency_id": [1, "EUR"]})
            })
            .into_iter()
            .collect()
    };
    let result: Json = match (model, method) {
        ("res.partner", "search_read") => json!([{"id": 6}]),
        ("product.pricelist", "search_read") => json!([{"id": 3}]),
        ("product.product", "search_read") => {
            let skus = json.pointer("/domain/0/2").unwrap().as_array().unwrap().clone();
            skus.into_iter().map(|sku| json!({"id": 1, "default_code": sku})).collect()
        }
        ("sale.order", "create") => {
            if json.to_string().contains("SKU-NOPE") {
                return Err(("odoo.exceptions.ValidationError", "SKU-NOPE cannot be sold"));
            }
            let n = books.make(&read(json, "/vals_list/0/client_order_ref"));
            return Ok((Says::json(200, &json!([n])), true));
        }
        ("sale.order", "search_read") => {
            let found = books.find(&read(json, "/domain/0/2"));
            rows(books, found)
        }
        ("sale.order", "action_confirm") => {
            let n: usize = read(json, "/ids/0").parse().unwrap();
            if books.states[n - 1] == "sale" {
                return Err((
                    "odoo.exceptions.UserError",
                    "Some orders are not in a state requiring confirmation.",
                ));
            }
            books.states[n - 1] = "sale".to_owned();
            Json::Bool(true)
        }
        ("sale.order", "write") => Json::Bool(true),
        ("sale.order.line", "search_read") => {
            json!([{"id": 1, "name": "Lamp", "price_total": 19.0, "price_subtotal": 19.0}])
        }
        ("sale.order", "read") => rows(books, read(json, "/ids/0").parse().ok()),
        other => panic!("{other:?}"),
    };
    Ok((Says::json(200, &result), false))
}

#[tokio::test]
async fn odoo_holds() {
    let refusal = "SKU-NOPE cannot be sold";
    let expected = Expected { number: "S00001", refusal, reference: "O-1", is_once: false };
    // The article is known, and Odoo refuses the order that holds it by its description.
    holds(
        "odoo",
        |books, asked| {
            let mut asked = asked.clone();
            if asked.target.ends_with("sale.order/create")
                && books.asked.iter().rev().take(2).any(|a| a.body.contains("SKU-NOPE"))
            {
                asked.body = asked.body.replace("\"Lamp\"", "\"SKU-NOPE\"");
            }
            odoo(books, &asked)
        },
        &KEY,
        &[],
        &expected,
    )
    .await;
}

pub(super) fn odoo_jsonrpc(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let json = asked.json();
    let says =
        |result: Json| Says::json(200, &json!({"jsonrpc": "2.0", "id": 1, "result": result}));
    if read(&json, "/params/service") == "common" {
        books.logins += 1;
        let is_right = read(&json, "/params/args/2") == "s3cret-pw";
        return (says(if is_right { json!(2) } else { json!(false) }), false);
    }
    let args = json.pointer("/params/args").unwrap();
    let (model, method) = (read(args, "/3"), read(args, "/4"));
    let named = match (model.as_str(), method.as_str()) {
        ("sale.order", "create") => json!({"vals_list": [args.pointer("/5/0").unwrap()]}),
        (_, "search_read") => json!({"domain": args.pointer("/5/0").unwrap()}),
        _ => json!({"ids": args.pointer("/5/0").unwrap()}),
    };
    if method == "search_read"
        && model == "product.product"
        && named.to_string().contains("SKU-NOPE")
    {
        return (says(json!([])), false);
    }
    match odoo_model(books, &model, &method, &named) {
        Ok((answer, is_commit)) => {
            let result: Json = serde_json::from_str(&answer.body).unwrap();
            (says(if is_commit { result[0].clone() } else { result }), is_commit)
        }
        Err((name, message)) => {
            let data = json!({"name": name, "message": message, "debug": "Traceback"});
            let error = json!({"code": 0, "message": "Odoo Server Error", "data": data});
            (Says::json(200, &json!({"jsonrpc": "2.0", "id": 1, "error": error})), false)
        }
    }
}

#[tokio::test]
async fn odoo_jsonrpc_holds() {
    let refusal = "product 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "S00001", refusal, reference: "O-1", is_once: false };
    holds("odoo-jsonrpc", odoo_jsonrpc, &USER, &[], &expected).await;
}

#[tokio::test]
async fn a_session_that_ended_is_begun_anew_once_and_a_refused_login_is_not_repeated() {
    use super::{open, order};
    use crate::stand_in::StandIn;
    use order_relay::domain::failure::ErrorClass;
    use order_relay::ports::erp::Erp;
    let stand_in = StandIn::start(tryton).await;
    let erp = open("tryton-jsonrpc", &stand_in.url, &USER, &[]);
    erp.submit(&order("O-1", "SKU-100")).await.unwrap();
    stand_in.books.lock().unwrap().session_over = true;
    erp.submit(&order("O-2", "SKU-100")).await.unwrap();
    assert_eq!(stand_in.books.lock().unwrap().logins, 2);
    let refusing = StandIn::start(|books, _| {
        books.logins += 1;
        (Says::html(401), false)
    })
    .await;
    let erp = open("tryton-jsonrpc", &refusing.url, &USER, &[]);
    for _ in 0..5 {
        let failure = erp.submit(&order("O-1", "SKU-100")).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.code.as_str()),
            (ErrorClass::Unauthorized, "login_refused")
        );
    }
    assert_eq!(refusing.books.lock().unwrap().logins, 1);
}

/// A Tryton whose company, web shop and rights are not what the settings say.
fn tryton_without_master_data(_: &mut Books, asked: &Asked) -> (Says, bool) {
    let result = match asked.json()["method"].as_str().unwrap() {
        "common.db.login" => json!([37, "token", null]),
        "model.ir.model.access.get_access" => {
            let none = json!({"read": 0, "write": 0, "create": 0, "delete": 0});
            json!({"sale.sale": none, "sale.line": none, "party.party": none})
        }
        _ => json!([]),
    };
    (Says::json(200, &json!({"id": 1, "result": result})), false)
}

/// The same of Odoo's JSON-2 API.
fn odoo_without_master_data(_: &mut Books, asked: &Asked) -> (Says, bool) {
    let answer = if asked.path().ends_with("/has_access") { json!(false) } else { json!([]) };
    (Says::json(200, &answer), false)
}

#[tokio::test]
async fn wrong_master_data_is_found_and_the_setting_named() {
    let faults = async |recipe: &str, behaviour, setting: &Setting, more: &[(&str, &str)]| {
        let stand_in = StandIn::start(behaviour).await;
        let found = open(recipe, &stand_in.url, setting, more).check_master_data().await;
        found
            .into_iter()
            .map(|check| (check.name, check.fault.unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let tryton = faults(
        "tryton-jsonrpc",
        tryton_without_master_data as Behaviour,
        &USER,
        &[("company", "99")],
    )
    .await;
    let odoo =
        faults("odoo", odoo_without_master_data as Behaviour, &KEY, &[("pricelist", "99")]).await;
    let expected = [
        ("company", "company with the id 99: set erp.const.company"),
        ("web_shop", "the company 99 has no web shop with the id 1: set erp.const.web_shop"),
        ("rights", "the user may not enter sales"),
        ("guests", "the user may not create parties"),
        ("rights", "the user of this API key may not enter orders"),
        ("contacts", "the user of this API key may not create contacts"),
        (
            "pricelist",
            "no active price list with the id 99 that this user can see: set erp.const.pricelist",
        ),
    ];
    let found: Vec<_> = tryton.into_iter().chain(odoo).collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((name, fault), (expected_name, part)) in found.iter().zip(expected) {
        assert!(name == expected_name && fault.contains(part), "{name}: {fault}");
    }
    let without = faults("odoo", odoo_without_master_data as Behaviour, &KEY, &[]).await;
    assert_eq!(without[2], ("pricelist".to_owned(), String::new()), "0 is the customer's own");
}
