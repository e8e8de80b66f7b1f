//! Hostile recipes and replies: nothing panics, everything ends, nothing grows without bound.

use std::sync::Mutex;

use order_relay::adapters::erp::recipe::check::{faults, remarks};
use order_relay::adapters::erp::recipe::model::Recipe;
use order_relay::adapters::erp::recipe::open::SHIPPED;
use order_relay::config::erp::RECIPES;
use order_relay::ports::erp::Erp;
use proptest::prelude::*;

use crate::stand_in::{Says, StandIn};

use super::{Setting, open, order};

/// A recipe with one of its characters, lines or values changed.
fn mutated() -> impl Strategy<Value = String> {
    let places = (0..SHIPPED.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>());
    (places, "[ -~ü\n]{0,12}|\\PC{0,4}").prop_map(|((which, from, to), text)| {
        let source = SHIPPED[which].1;
        let bounds: Vec<usize> = source.char_indices().map(|(at, _)| at).collect();
        let (a, b) = (bounds[from.index(bounds.len())], bounds[to.index(bounds.len())]);
        let (a, b) = (a.min(b), a.max(b).min(a.min(b) + 40));
        let b = bounds.iter().copied().find(|at| *at >= b).unwrap_or(source.len());
        format!("{}{text}{}", &source[..a], &source[b..])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_changed_recipe_is_good_or_says_what_is_wrong(source in mutated()) {
        match Recipe::parse("a.toml", &source) {
            Ok(recipe) => {
                let found = faults(&recipe);
                prop_assert!(found.iter().all(|fault| fault.line >= 1 && !fault.detail.is_empty()));
                drop(remarks(&recipe));
            }
            Err(faults) => prop_assert!(!faults.is_empty()),
        }
    }

    #[test]
    fn any_text_as_a_recipe_ends(source in "[\\[\\]a-z =\"'{}.\n#%~|]{0,200}") {
        drop(Recipe::parse("a.toml", &source).map(|recipe| faults(&recipe)));
    }
}

#[test]
fn every_shipped_recipe_says_what_it_must_in_its_head() {
    let shipped: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    assert_eq!(shipped, RECIPES[1..], "the settings know the same ones");
    for (name, text) in SHIPPED {
        for word in ["Verified", "Needs", "Reference", "Window", "Set"] {
            let begin = format!("# {word}");
            assert!(text.lines().any(|line| line.starts_with(&begin)), "{name}: no {word}");
        }
    }
}

static REPLY: Mutex<(u16, String)> = Mutex::new((200, String::new()));

#[test]
fn no_reply_makes_a_recipe_panic() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    let stand_in = runtime.block_on(StandIn::start(|_, _| {
        let (status, body) = REPLY.lock().unwrap().clone();
        (Says::text(status, "application/json", &body), false)
    }));
    let key = Setting { consts: &[], secrets: &[("key", "k"), ("secret", "s")] };
    let erps = ["erpnext", "odoo", "dolibarr", "tryton-rest"].map(|name| {
        let secrets: &[(&str, &str)] =
            if name == "erpnext" { key.secrets } else { &key.secrets[..1] };
        open(name, &stand_in.url, &Setting { consts: &[], secrets }, &[])
    });
    let json = prop_oneof![
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("[[[]]]".to_owned()),
        Just("17".to_owned()),
        Just("[".repeat(50_000)),
        Just("{\"data\":{\"name\":[1e999]}}".to_owned()),
        "\\{\"(error|data|name|message|0|id)\":(1|\"x\"|null|\\[\\{\"id\":1\\}\\])\\}",
        ".{0,40}",
    ];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
    let statuses = prop::sample::select(vec![200u16, 201, 304, 400, 404, 417, 429, 500, 503]);
    let ran = runner.run(&(statuses, json), |(status, body)| {
        *REPLY.lock().unwrap() = (status, body);
        for erp in &erps {
            runtime.block_on(async {
                drop(erp.submit(&order("O-1", "A")).await);
                drop(erp.ask(&order("O-1", "A")).await);
            });
        }
        Ok(())
    });
    ran.unwrap();
}
