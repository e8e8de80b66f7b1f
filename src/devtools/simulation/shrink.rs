//! Makes the schedule of a broken run as short as possible: leaves out steps while the same promise
//! is still broken.

use crate::devtools::simulation::plan::Plan;
use crate::devtools::simulation::run::{Outcome, run};

/// Most runs that shortening may take.
const MOST_RUNS: usize = 300;

/// The shortest plan that was found, and its outcome.
pub fn shrink(plan: &Plan, outcome: &Outcome) -> (Plan, Outcome) {
    let promises: Vec<&str> = outcome.broken.iter().map(|broken| broken.promise).collect();
    let is_same =
        |other: &Outcome| other.broken.iter().any(|broken| promises.contains(&broken.promise));
    let (mut plan, mut best) = (plan.clone(), outcome.clone());
    let (mut size, mut runs) = (plan.steps.len().div_ceil(2), 0);
    while size > 0 {
        let mut from = 0;
        while from < plan.steps.len() && runs < MOST_RUNS {
            let shorter = plan.without(|n| (from..from + size).contains(&n));
            let outcome = run(&shorter);
            runs += 1;
            if is_same(&outcome) {
                (plan, best) = (shorter, outcome);
            } else {
                from += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    (plan, best)
}
