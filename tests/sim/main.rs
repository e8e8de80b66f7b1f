//! The promises under faults: runs of the simulator, each from a seed (docs/architecture.md, "Simulation").
//!
//! `ORDER_RELAY_SIM_SEEDS=20000 cargo test --test sim` runs more of them, `ORDER_RELAY_SIM_FIRST` begins
//! elsewhere. What fails prints its seed, its shortest schedule and its story.

#![allow(clippy::panic, reason = "in a test that is how to say what went wrong")]

use order_relay::devtools::simulation::campaign::{one, search, shortest};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn no_promise_is_broken_whatever_happens() {
    let first = number("ORDER_RELAY_SIM_FIRST", 1);
    let count = number("ORDER_RELAY_SIM_SEEDS", 300);
    if let Some((plan, outcome)) = search(first, count, |_| {}) {
        let (plan, outcome) = shortest(&plan, &outcome);
        panic!("{}", outcome.report(&plan));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 7, 23, 99] {
        let (first, second) = (one(seed).1, one(seed).1);
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}
