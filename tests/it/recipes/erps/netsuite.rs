//! NetSuite: an order that is put under its external id, waits for approval, and is approved when its total is right.

use bigdecimal::BigDecimal;
use serde_json::{Value as Json, json};

use crate::recipes::{Expected, Setting, holds, open};
use crate::stand_in::{Asked, Books, Says, StandIn};

use super::whole::{holds_values, known, list, number, percent, rate};
use super::{read, whole};

const SETTING: Setting =
    Setting { consts: &[("certificate", "cert")], secrets: &[("client_id", "client")] };

fn check(json: &Json) {
    known(
        json,
        &[
            "entity",
            "otherRefNum",
            "tranDate",
            "currency",
            "orderStatus",
            "subsidiary",
            "location",
            "shipDate",
            "memo",
            "billingAddress",
            "shippingAddress",
            "shipMethod",
            "shippingCost",
            "item",
        ],
    );
    for line in list(json, "/item/items") {
        known(&line, &["item", "quantity", "rate", "description"]);
    }
}

/// The last request that put the order there.
fn put(books: &Books, reference: &str) -> Json {
    let mut puts = books.asked.iter().rev().filter(|asked| asked.method == "PUT");
    puts.find(|asked| asked.path().ends_with(&format!("eid:{reference}"))).unwrap().json()
}

/// A discount has no quantity.
fn amount(line: &Json) -> BigDecimal {
    let quantity = line.get("quantity").map_or(BigDecimal::from(1), |_| number(line, "/quantity"));
    quantity * number(line, "/rate")
}

fn total(json: &Json) -> BigDecimal {
    let shipping = number(json, "/shippingCost");
    let with_tax = |line: &Json| {
        let amount = amount(line);
        percent(&amount, &rate(&read(line, "/item/externalId"))) + amount
    };
    let lines: BigDecimal = list(json, "/item/items").iter().map(with_tax).sum();
    lines + percent(&shipping, &rate("SHIPPING")) + shipping
}

pub(in crate::recipes) fn netsuite(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let path = asked.path();
    if path == "/services/rest/auth/oauth2/v1/token" {
        assert!(
            asked.body.contains("client_assertion_type=urn")
                && asked.body.contains("client_assertion=ey")
        );
        return (
            Says::json(200, &json!({"access_token": "s3cret-bearer", "expires_in": "3600"})),
            false,
        );
    }
    assert_eq!(asked.header("authorization"), "Bearer s3cret-bearer");
    if path == "/services/rest/query/v1/suiteql" {
        assert_eq!(asked.header("prefer"), "transient");
        let asks = read(&asked.json(), "/q");
        let is_known = match asks.strip_prefix("SELECT id FROM currency") {
            Some("") => books.failures == 0,
            symbol => symbol == Some(" WHERE symbol = 'EUR'"),
        };
        let items: Json = is_known.then(|| json!({"links": [], "id": "4"})).into_iter().collect();
        return (Says::json(200, &json!({"links": [], "count": 1, "items": items})), false);
    }
    let record = path.strip_prefix("/services/rest/record/v1/salesOrder/").unwrap();
    let error = |status: u16, detail: &str| {
        let detail = json!({"detail": detail, "o:errorCode": "INVALID_CONTENT"});
        Says::json(
            status,
            &json!({"title": "Bad Request", "status": status, "o:errorDetails": [detail]}),
        )
    };
    let Some(reference) = record.strip_prefix("eid:") else {
        assert_eq!(
            (asked.method.as_str(), &asked.json()),
            ("PATCH", &json!({"orderStatus": {"id": "B"}}))
        );
        let n: usize = record.parse().unwrap();
        books.states[n - 1] = "B".to_owned();
        return (Says::text(204, "text/plain", ""), false);
    };
    if asked.method == "PUT" {
        assert_eq!(asked.query("replace"), "item");
        let json = asked.json();
        check(&json);
        if read(&json, "/item/items/0/item/externalId") == "SKU-NOPE" {
            return (error(400, "Invalid value SKU-NOPE for item"), true);
        }
        let n = books.find(reference).unwrap_or_else(|| books.make(reference));
        books.states[n - 1] = read(&json, "/orderStatus/id");
        let place = format!("https://erp/services/rest/record/v1/salesOrder/{n}");
        return (Says::text(204, "text/plain", "").with("Location", &place), true);
    }
    let Some(n) = books.find(reference) else {
        return (error(404, "The record instance does not exist"), false);
    };
    let mut order = put(books, reference);
    let total: f64 = total(&order).to_string().parse().unwrap();
    for line in order["item"]["items"].as_array_mut().unwrap() {
        line["amount"] = amount(line).to_string().into();
    }
    let record = json!({"id": n.to_string(), "tranId": format!("SO{n}"), "orderStatus": {"id": books.states[n - 1]}, "total": total, "item": order["item"]});
    (Says::json(200, &record), false)
}

/// The recipe with a key of its own kind, and that key.
pub(in crate::recipes) fn netsuite_files(folder: &tempfile::TempDir) -> (String, String) {
    use base64::Engine;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    // ring makes no RSA keys: the signature is ES256 here, which NetSuite takes as well.
    let random = ring::rand::SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let body = base64::engine::general_purpose::STANDARD.encode(key.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let (key_file, recipe) = (folder.path().join("key.pem"), folder.path().join("netsuite.toml"));
    std::fs::write(&key_file, pem).unwrap();
    let text = include_str!("../../../../templates/erp/netsuite.toml").replace("PS256", "ES256");
    std::fs::write(&recipe, text).unwrap();
    let own = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    (own(&recipe), own(&key_file))
}

#[tokio::test]
async fn netsuite_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (recipe, key_file) = netsuite_files(&folder);
    let expected = Expected {
        number: "SO1",
        refusal: "Invalid value SKU-NOPE",
        reference: "O-1",
        is_once: true,
    };
    let more = [("account_url", "URL"), ("key_file", key_file.as_str())];
    holds(&recipe, netsuite, &SETTING, &more, &expected).await;
}

#[tokio::test]
async fn netsuite_books_what_was_paid_and_approves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (recipe, key_file) = netsuite_files(&folder);
    let stand_in = StandIn::start(netsuite).await;
    let url = stand_in.url.clone();
    let more = [
        ("account_url", url.as_str()),
        ("key_file", &key_file),
        ("subsidiary", "2"),
        ("location", "5"),
        ("ship_method", "77"),
    ];
    let erp = open(&recipe, &url, &SETTING, &more);
    whole::books(&erp, "O-1", "net").await;
    let told = whole::difference(&erp, "O-2").await;
    assert!(told.contains("line 1 SKU-19: 97.90 paid, 99.90 there"), "{told}");
    let books = stand_in.books.lock().unwrap();
    assert_eq!(books.states, ["B", "A"], "pending fulfillment, and pending approval");
    holds_values(
        &put(&books, "O-1"),
        &[
            ("/currency/id", "4"),
            ("/subsidiary/id", "2"),
            ("/location/id", "5"),
            ("/shipMethod/id", "77"),
            ("/shippingCost", "4.90"),
            ("/shipDate", "2026-11-30"),
            ("/memo", "ring twice\nPayment: card P-1\nReferences: marketplace 302-1"),
            ("/billingAddress/addressee", "Erika Muster"),
            ("/shippingAddress/addressee", "Lager GmbH"),
            ("/shippingAddress/attention", "Max (Lager) O'Neil"),
            ("/shippingAddress/country/id", "DE"),
            ("/item/items/0/description", "Lamp\nblue"),
            ("/item/items/1/rate", "-2.00"),
        ],
    );
}

#[tokio::test]
async fn netsuite_finds_a_role_that_sees_no_currencies() {
    let folder = tempfile::tempdir().unwrap();
    let (recipe, key_file) = netsuite_files(&folder);
    let stand_in = StandIn::start(netsuite).await;
    let url = stand_in.url.clone();
    let erp =
        open(&recipe, &url, &SETTING, &[("account_url", url.as_str()), ("key_file", &key_file)]);
    whole::finds(&erp, "nothing", "").await;
    stand_in.books.lock().unwrap().failures = 1;
    whole::finds(&erp, "currencies", "Lists > Currency").await;
}
