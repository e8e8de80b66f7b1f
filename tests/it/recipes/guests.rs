//! Customers without a number: one contact or party for each mail address, however often it is sent.

use order_relay::domain::failure::ErrorClass;
use order_relay::ports::erp::{Erp, OrderForErp};
use serde_json::{Value as Json, json};

use crate::stand_in::{Asked, Behaviour, Books, Fate, Says, StandIn};

use super::erps::{KEY, USER, tryton, tryton_rest};
use super::{for_erp, open};

fn of_guest(id: &str, email: &str) -> OrderForErp {
    for_erp(id, &document(id, email))
}

fn document(id: &str, email: &str) -> Json {
    json!({
        "order_id": id, "placed_at": "2026-11-22T10:00:00Z", "currency": "EUR", "total": "19.00",
        "customer": {"name": "Gerd Gast", "email": email},
        "lines": [{"sku": "SKU-100", "name": "Lamp", "quantity": "2", "unit_price": "9.50"}],
    })
}

/// The codes of the parties that were created by then.
fn codes(books: &Books) -> Vec<String> {
    let created = |asked: &Asked| {
        let json = asked.json();
        let is_creating = json["method"] == "model.party.party.create"
            || (asked.method == "POST" && asked.path().ends_with("/party.party"));
        let party = json.pointer("/params/0/0").unwrap_or(&json);
        is_creating.then(|| party["code"].as_str().unwrap().to_owned())
    };
    let mut codes: Vec<String> = books.asked.iter().filter_map(created).collect();
    codes.dedup();
    codes
}

fn json_rpc(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let json = asked.json();
    let says = |result: Json| Says::json(200, &json!({"id": 1, "result": result}));
    match json["method"].as_str().unwrap() {
        "model.party.party.search_read" => {
            let wanted = json.pointer("/params/0/0/2").unwrap();
            let found = codes(books).into_iter().filter(|code| wanted == code);
            let row = |_| json!({"id": 300, "addresses": [400], "customer_payment_term": null, "active": true});
            (says(found.map(row).collect()), false)
        }
        // Only the answer to what creates can be lost.
        "model.party.party.create" => (says(json!([300])), true),
        "model.party.address.search_read" => (says(json!([{"id": 400}])), false),
        _ => tryton(books, asked),
    }
}

fn rest(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let row = json!({"id": 300, "addresses": [{"id": 400}], "customer_payment_term": null, "active": true});
    match (asked.method.as_str(), asked.path().ends_with("/party.party")) {
        ("GET", true) => {
            let found = codes(books).len();
            (Says::json(200, &Json::from(vec![row; found])), false)
        }
        ("POST", true) => (Says::json(200, &row), true),
        _ => tryton_rest(books, asked),
    }
}

#[tokio::test]
async fn a_guest_in_tryton_is_one_party_however_often_it_is_sent() {
    let recipes = [("tryton-jsonrpc", json_rpc as Behaviour, &USER), ("tryton-rest", rest, &KEY)];
    for (recipe, behaviour, setting) in recipes {
        let stand_in = StandIn::start(behaviour).await;
        let erp = open(recipe, &stand_in.url, setting, &[]);
        stand_in.books.lock().unwrap().next_commit = Some(Fate::Lost);
        let lost = erp.submit(&of_guest("O-1", "gast@example.com")).await.unwrap_err();
        assert_eq!(lost.class, ErrorClass::Unavailable, "{lost:?}");
        for (id, email) in [("O-1", "gast@example.com"), ("O-2", "Gast@Example.com")] {
            erp.submit(&of_guest(id, email)).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        }
        let books = stand_in.books.lock().unwrap();
        assert_eq!(books.orders, ["O-1", "O-2"]);
        let creating = |asked: &&Asked| asked.body.contains("contact_mechanisms\": [[\"create");
        assert_eq!(books.asked.iter().filter(creating).count(), 1, "{recipe}");
        assert_eq!(codes(&books), ["GUEST-gast@example.com"]);
        let sale =
            books.asked.iter().rfind(|asked| asked.body.contains("web_id\": \"O-2")).unwrap();
        assert!(sale.body.contains("\"party\": 300, \"invoice_address\": 400"), "{}", sale.body);
    }
}

#[tokio::test]
async fn guests_are_refused_or_only_matched_where_the_settings_say_so() {
    let recipes = [("tryton-jsonrpc", json_rpc as Behaviour, &USER), ("tryton-rest", rest, &KEY)];
    for (recipe, behaviour, setting) in recipes {
        for (guests, sentence) in [
            ("refuse", "the customer has no number, and erp.const.guests refuses guests"),
            ("match", "no party in the ERP has the mail address 'gast@example.com'"),
        ] {
            let stand_in = StandIn::start(behaviour).await;
            let erp = open(recipe, &stand_in.url, setting, &[("guests", guests)]);
            let refused = erp.submit(&of_guest("O-1", "gast@example.com")).await.unwrap_err();
            assert_eq!(refused.class, ErrorClass::Rejected, "{refused:?}");
            assert!(refused.message.contains(sentence), "{refused:?}");
            assert_eq!(codes(&stand_in.books.lock().unwrap()), [""; 0]);
        }
    }
}

/// `_` and `%` stand for any character in such a search: another customer would get the order.
#[test]
fn a_mail_address_matches_no_other_one() {
    let place = "http://127.0.0.1:9";
    let erps = [
        ("odoo", open("odoo", place, &KEY, &[])),
        ("odoo-jsonrpc", open("odoo-jsonrpc", place, &USER, &[])),
        ("tryton-jsonrpc", open("tryton-jsonrpc", place, &USER, &[("guests", "match")])),
    ];
    for (recipe, erp) in erps {
        let order = document("O-1", r"a_b%c\d@example.com");
        // Without addresses, so that several steps are skipped.
        let steps = erp.rehearse(&for_erp("O-1", &order)).unwrap();
        let search = steps.iter().find(|step| step.step == "customer").unwrap();
        let escaped = r#""a\\_b\\%c\\\\d@example.com""#;
        assert!(search.request_body.contains(escaped), "{recipe}: {}", search.request_body);
    }
}
