//! Dolibarr: net prices, a tax rate on each line, contacts for other addresses.

use bigdecimal::BigDecimal;
use order_relay::ports::erp::{Erp, OrderForErp};
use serde_json::{Value as Json, json};

use crate::recipes::{Expected, holds, open};
use crate::stand_in::{Asked, Books, Says, StandIn};

use super::whole::{cents, commit_of, holds_values, known, list, number};
use super::{KEY, read, whole};

fn missing() -> Says {
    let error = json!({"code": 404, "message": "Not Found: no such object"});
    Says::json(404, &json!({"error": error, "debug": {}}))
}

/// Rows of a list; an empty one is "not found".
fn rows(rows: Vec<Json>) -> (Says, bool) {
    (if rows.is_empty() { missing() } else { Says::json(200, &Json::from(rows)) }, false)
}

fn with_tax(line: &Json) -> BigDecimal {
    let hundred = BigDecimal::from(100);
    let net = number(line, "/qty") * number(line, "/subprice");
    cents(&(net * (&hundred + number(line, "/tva_tx")) / &hundred))
}

fn lines(books: &Books, n: usize) -> Vec<Json> {
    let amounts = |line: Json| {
        let net = number(&line, "/qty") * number(&line, "/subprice");
        json!({"desc": line["desc"], "total_ht": net.to_string(), "total_ttc": with_tax(&line).to_string()})
    };
    list(&commit_of(books, n, "/ref_ext"), "/lines").into_iter().map(amounts).collect()
}

fn row(books: &Books, n: usize) -> Json {
    let total: BigDecimal = lines(books, n).iter().map(|line| number(line, "/total_ttc")).sum();
    let number = if books.states[n - 1] == "0" { format!("(PROV{n})") } else { format!("CO-{n}") };
    json!({"id": n, "ref": number, "ref_ext": books.orders[n - 1], "statut": books.states[n - 1], "socid": "2", "multicurrency_code": "EUR",
        "total_ttc": format!("{total}000000")})
}

fn check(json: &Json) {
    known(json, &["socid", "date", "ref_ext", "delivery_date", "note_private", "lines"]);
    for line in list(json, "/lines") {
        known(&line, &["fk_product", "qty", "tva_tx", "subprice", "desc"]);
        let digits = read(&line, "/subprice").split('.').nth(1).map_or(0, str::len);
        assert!(digits <= 5, "MAIN_MAX_DECIMALS_UNIT: {line}");
    }
}

/// The value of `t.FIELD` in a filter, which ends at a parenthesis.
fn filtered(asked: &Asked, field: &str) -> String {
    let filter = asked.query("sqlfilters");
    let value = filter.split(&format!("(t.{field}:")).nth(1).unwrap_or_else(|| panic!("{filter}"));
    value.split(')').next().unwrap().split('\'').nth(1).unwrap().to_owned()
}

pub(in crate::recipes) fn dolibarr(books: &mut Books, asked: &Asked) -> (Says, bool) {
    assert_eq!(asked.header("dolapikey"), "s3cret-key");
    let path = asked.path();
    let path: Vec<&str> = path.strip_prefix("/api/index.php/").unwrap().split('/').collect();
    match (asked.method.as_str(), path.as_slice()) {
        ("GET", ["thirdparties"]) => {
            let known = match filtered(asked, "code_client").as_str() {
                "C-1001" => vec![json!({"id": "2"})],
                "C-TWICE" => vec![json!({"id": "2"}), json!({"id": "3"})],
                _ => Vec::new(),
            };
            rows(known)
        }
        ("GET", ["products"]) => match filtered(asked, "ref").as_str() {
            "SKU-NOPE" => rows(Vec::new()),
            sku => rows(vec![json!({"id": "7", "ref": sku})]),
        },
        ("GET", ["orders"]) => {
            let found = books.find(&filtered(asked, "ref_ext"));
            rows(found.map(|n| row(books, n)).into_iter().collect())
        }
        ("POST", ["orders"]) => {
            let json = asked.json();
            check(&json);
            assert_eq!((&json["date"], &json["socid"]), (&json!(1_795_305_600), &json!(2)));
            let n = books.make(&read(&json, "/ref_ext"));
            books.states[n - 1] = "0".to_owned();
            (Says::json(200, &json!(n)), true)
        }
        ("GET", ["orders", n, "lines"]) => rows(lines(books, n.parse().unwrap())),
        ("GET", ["orders", n]) => (Says::json(200, &row(books, n.parse().unwrap())), false),
        ("POST", ["orders", n, "validate"]) => {
            let n: usize = n.parse().unwrap();
            books.states[n - 1] = "1".to_owned();
            (Says::json(200, &row(books, n)), false)
        }
        ("POST", ["orders", _, "contact", "5", "SHIPPING"]) => {
            (Says::json(200, &json!({"success": {"code": 200, "message": "linked"}})), false)
        }
        ("GET", ["contacts"]) => {
            assert_eq!(filtered(asked, "lastname"), "Max _Lager_ O_Neil");
            let is_there = books
                .asked
                .iter()
                .any(|asked| asked.method == "POST" && asked.path().ends_with("/contacts"));
            rows(is_there.then(|| json!({"id": "5"})).into_iter().collect())
        }
        ("POST", ["contacts"]) => {
            known(
                &asked.json(),
                &["socid", "lastname", "address", "zip", "town", "country_id", "phone_pro"],
            );
            assert_eq!(asked.json()["country_id"], 81);
            assert_eq!(asked.json()["address"], "Lager GmbH\nNebenstr. 2\n2nd floor");
            (Says::json(200, &json!(5)), false)
        }
        ("GET", ["setup", "dictionary", "countries", "byCode", "DE"]) => {
            (Says::json(200, &json!({"id": "81", "code": "DE"})), false)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn dolibarr_holds() {
    let refusal = "product 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "CO-1", refusal, reference: "O-1", is_once: false };
    holds("dolibarr", dolibarr, &KEY, &[], &expected).await;
}

#[tokio::test]
async fn dolibarr_books_what_was_paid() {
    let stand_in = StandIn::start(dolibarr).await;
    let erp = open("dolibarr", &stand_in.url, &KEY, &[]);
    whole::books(&erp, "O-1", "net").await;
    whole::books(&erp, "O-2", "gross").await;
    let told = whole::difference(&erp, "O-3").await;
    assert!(
        told.contains("line 1 SKU-19: 97.90 paid, 99.90 there; line 3 Lamp: -2.00 there"),
        "{told}"
    );
    let books = stand_in.books.lock().unwrap();
    assert_eq!(books.states, ["1", "1", "0"], "the third one stays a draft");
    holds_values(
        &commit_of(&books, 2, "/ref_ext"),
        &[
            ("/delivery_date", "1795996800"),
            ("/note_private", "ring twice<br>Payment: card P-1<br>References: marketplace 302-1"),
            ("/lines/0/subprice", "41.97479"),
            ("/lines/0/desc", "Lamp<br>blue"),
            ("/lines/2/subprice", "-1.68067"),
        ],
    );
    let made = |end: &str| {
        books
            .asked
            .iter()
            .filter(|asked| asked.method == "POST" && asked.path().ends_with(end))
            .count()
    };
    assert_eq!(
        (made("/contacts"), made("/contact/5/SHIPPING")),
        (1, 2),
        "the contact is there once"
    );
}

#[tokio::test]
async fn dolibarr_refuses_whom_it_does_not_know_and_another_currency() {
    let stand_in = StandIn::start(dolibarr).await;
    let erp = open("dolibarr", &stand_in.url, &KEY, &[]);
    assert_eq!(
        whole::refusal_of_customer(&erp, "C-NOPE").await,
        "customer 'C-NOPE' is unknown to the ERP"
    );
    assert_eq!(
        whole::refusal_of_customer(&erp, "C-TWICE").await,
        "customer 'C-TWICE' is more than once in the ERP"
    );
    let in_chf = whole::order("O-1", "net").document.replace("EUR", "CHF");
    let in_chf = OrderForErp { document: in_chf.into(), ..whole::order("O-1", "net") };
    let erp = open("dolibarr", &stand_in.url, &KEY, &[("currency", "CHF")]);
    let told = whole::refusal_of_customer(&erp, "C-1001").await;
    assert!(told.contains("'EUR'") && told.contains("'CHF' (erp.const.currency)"), "{told}");
    assert!(stand_in.books.lock().unwrap().orders.is_empty());
    let failure = erp.submit(&in_chf).await.unwrap_err();
    assert!(
        failure.message.contains("paid 150.86 CHF, but in the ERP as 1 it is 150.86000000 EUR"),
        "the setting is wrong: {failure:?}"
    );
}

#[tokio::test]
async fn dolibarr_finds_a_service_that_is_not_there() {
    let stand_in = StandIn::start(dolibarr).await;
    whole::finds(&open("dolibarr", &stand_in.url, &KEY, &[]), "nothing", "").await;
    let erp = open("dolibarr", &stand_in.url, &KEY, &[("sku_shipping", "SKU-NOPE")]);
    whole::finds(&erp, "shipping", "set erp.const.sku_shipping").await;
}
