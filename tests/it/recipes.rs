//! Every shipped recipe against a stand-in of its ERP: a good order, a refused one, a lost answer, a
//! duplicate; and what no recipe alone shows: sessions, resumed steps, awkward values, hostile text.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it is surprised")]

mod erps;
mod json_replies;
mod matrix;
mod engine;
mod totals;
mod cached;
mod refreshing;
mod jobs;
mod creating;
mod carried;
mod guests;
mod tls;
mod hostile;
mod service;
mod vendors;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use order_relay::adapters::erp::http::Limits;
use order_relay::adapters::erp::recipe::engine::RecipeErp;
use order_relay::adapters::erp::recipe::open::{Overrides, load};
use order_relay::domain::failure::{ErrorClass, Stage};
use order_relay::domain::order::values::OrderKey;
use order_relay::domain::trace::Trace;
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::erp::{CommitPermit, Erp, Journal, OrderForErp, ProbeAnswer};
use secrecy::SecretString;
use serde_json::{Value as Json, json};

use crate::stand_in::{Behaviour, Fate, StandIn};

/// What a recipe is opened with.
struct Setting {
    consts: &'static [(&'static str, &'static str)],
    secrets: &'static [(&'static str, &'static str)],
}

fn limits() -> Limits {
    Limits { connect: Duration::from_secs(2), total: Duration::from_secs(5) }
}

fn open(recipe: &str, url: &str, setting: &Setting, more: &[(&str, &str)]) -> RecipeErp {
    open_at(recipe, url, setting, more, Arc::new(SystemClock))
}

fn open_at(
    recipe: &str,
    url: &str,
    setting: &Setting,
    more: &[(&str, &str)],
    clock: Arc<dyn Clock>,
) -> RecipeErp {
    order_relay::app::commands::install_tls();
    let own = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let mut consts = own(setting.consts);
    consts.extend(own(more));
    let secrets = own(setting.secrets).into_iter();
    let overrides = Overrides {
        url: Some(url.to_owned()),
        consts,
        secrets: secrets.map(|(name, value)| (name, SecretString::from(value))).collect(),
        keeps: true,
        timeout: Some(limits().total),
        ..Overrides::default()
    };
    let loaded = load(recipe).unwrap_or_else(|faults| panic!("{faults}"));
    let opened = loaded.open(&overrides, limits(), clock);
    opened.unwrap_or_else(|faults| panic!("{faults}"))
}

fn order(id: &str, sku: &str) -> OrderForErp {
    let document = json!({
        "order_id": id, "placed_at": "2026-11-22T10:00:00Z", "currency": "EUR", "total": "19.00",
        "customer": {"number": "C-1001", "name": "Erika", "email": "e@example.com"},
        "lines": [{"sku": sku, "name": "Lamp", "quantity": "2", "unit_price": "9.50", "tax_rate": "19"}],
    });
    for_erp(id, &document)
}

fn for_erp(id: &str, document: &Json) -> OrderForErp {
    OrderForErp {
        key: OrderKey::new("default", id).unwrap(),
        document: Arc::from(document.to_string()),
        received_at: "2026-11-22T10:00:00Z".parse().unwrap(),
        trace: Trace::default(),
        journal: Journal::default(),
        permit: CommitPermit::default(),
        accepted: None,
        settled_from: None,
    }
}

/// What an ERP does in the four situations.
struct Expected {
    /// The number of the first order.
    number: &'static str,
    /// Part of the refusal of an order with article SKU-NOPE.
    refusal: &'static str,
    /// How the ERP names the order `O-1`.
    reference: &'static str,
    /// Whether a second submit of the same order leaves one order.
    is_once: bool,
}

async fn holds(
    recipe: &str,
    behaviour: Behaviour,
    setting: &Setting,
    more: &[(&str, &str)],
    expected: &Expected,
) {
    let stand_in = StandIn::start(behaviour).await;
    let mut more = more.to_vec();
    let with_url: Vec<(&str, &str)> = more
        .iter()
        .map(|(k, v)| (*k, if *v == "URL" { stand_in.url.as_str() } else { *v }))
        .collect();
    more = with_url;
    let erp = open(recipe, &stand_in.url, setting, &more);
    good_order(&erp, &stand_in, expected).await;
    refused_order(&erp, expected).await;
    lost_answers(&erp, &stand_in).await;
    if expected.is_once {
        let again = erp.submit(&order("O-1", "SKU-100")).await;
        let number = again.unwrap_or_else(|failure| panic!("{failure:?}")).erp_order_id;
        assert_eq!(number.as_deref(), Some(expected.number));
        assert_eq!(stand_in.books.lock().unwrap().count(expected.reference), 1);
    }
}

async fn good_order(erp: &RecipeErp, stand_in: &StandIn, expected: &Expected) {
    let first = order("O-1", "SKU-100");
    if erp.can_ask() {
        assert_eq!(erp.ask(&first).await, ProbeAnswer::Absent);
    }
    let receipt = erp.submit(&first).await.unwrap_or_else(|failure| {
        panic!("{failure:?}\n{:#?}", first.journal.take());
    });
    assert_eq!(receipt.erp_order_id.as_deref(), Some(expected.number));
    assert!(!receipt.found);
    assert_eq!(stand_in.books.lock().unwrap().count(expected.reference), 1);
    let noted = first.journal.take();
    let text = serde_json::to_string(&noted).unwrap();
    assert!(!text.contains("s3cret"), "a secret was noted: {text}");
    assert!(noted.iter().any(|exchange| exchange.step == "commit"), "{noted:#?}");
    if erp.can_ask() {
        let ProbeAnswer::Found(found) = erp.ask(&first).await else { panic!("not found") };
        let finished = erp.finish(&first, found).await.unwrap();
        assert_eq!(finished.erp_order_id.as_deref(), Some(expected.number));
    }
}

async fn refused_order(erp: &RecipeErp, expected: &Expected) {
    let failure = erp.submit(&order("O-bad", "SKU-NOPE")).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Rejected, "{failure:?}");
    assert!(failure.message.contains(expected.refusal), "{failure:?}");
}

async fn lost_answers(erp: &RecipeErp, stand_in: &StandIn) {
    for (id, fate) in [("O-lost", Fate::Lost), ("O-half", Fate::Half)] {
        stand_in.books.lock().unwrap().next_commit = Some(fate);
        let lost = order(id, "SKU-100");
        let failure = match erp.submit(&lost).await {
            Err(failure) => failure,
            // An answer without a body has no half.
            Ok(_) if fate == Fate::Half => continue,
            Ok(receipt) => panic!("{receipt:?}"),
        };
        assert_eq!(failure.class, ErrorClass::UnknownOutcome, "{failure:?}");
        assert_eq!(failure.stage, Some(Stage::At));
        match erp.ask(&lost).await {
            ProbeAnswer::Found(receipt) => {
                let finished = erp.finish(&lost, receipt).await.unwrap();
                assert!(finished.found && finished.erp_order_id.is_some(), "{finished:?}");
            }
            ProbeAnswer::Unclear(failure) if !erp.can_ask() => assert_eq!(failure.code, "no_probe"),
            answer => panic!("{answer:?}"),
        }
    }
}
