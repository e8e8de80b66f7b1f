//! Many seeds, on every core, until a promise is broken.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::devtools::simulation::plan::Plan;
use crate::devtools::simulation::run::{Outcome, run};
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::shrink::shrink;

/// Runs `count` seeds from `first` on, and calls `done` after each. If a promise is broken, no further
/// seed is begun; the answer is the first such plan with its outcome.
pub fn search(first: u64, count: u64, done: impl Fn(u64) + Sync) -> Option<(Plan, Outcome)> {
    let (next, is_over) = (AtomicU64::new(first), AtomicBool::new(false));
    let found = Shared::new(Vec::new());
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first.saturating_add(count) {
                return;
            }
            let plan = Plan::new(seed);
            let outcome = run(&plan);
            if !outcome.broken.is_empty() {
                is_over.store(true, Ordering::Relaxed);
                found.get().push((plan, outcome));
            }
            done(seed);
        }
    };
    on_every_core(&work);
    let mut found = std::mem::take(&mut *found.get());
    found.sort_by_key(|(plan, _)| plan.seed);
    found.into_iter().next()
}

/// The shortest plan that still breaks the same promise.
pub fn shortest(plan: &Plan, outcome: &Outcome) -> (Plan, Outcome) {
    thread::scope(|scope| {
        let shortened = scope.spawn(|| shrink(plan, outcome)).join();
        shortened.expect("a run that ended once ends again")
    })
}

/// Runs `count` seeds from `first` on, and calls `done` with each plan and its outcome.
pub fn survey(first: u64, count: u64, done: impl Fn(&Plan, &Outcome) + Sync) {
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first.saturating_add(count) {
                return;
            }
            let plan = Plan::new(seed);
            done(&plan, &run(&plan));
        }
    };
    on_every_core(&work);
}

fn on_every_core(work: &(impl Fn() + Sync)) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

/// One seed.
pub fn one(seed: u64) -> (Plan, Outcome) {
    let plan = Plan::new(seed);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| run(&plan)).join().expect("a run reports its faults as an outcome")
    });
    (plan, outcome)
}
