//! One run: a plan is carried out on virtual time, then all is well, and then the promises are
//! looked at.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::devtools::simulation::plan::Plan;
use crate::devtools::simulation::promises::{Broken, broken, unsettled};
use crate::devtools::simulation::story::Story;
use crate::devtools::simulation::world::World;

/// How long after the last fault everything is settled at the latest.
const SETTLED_WITHIN: Duration = Duration::from_hours(2);
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The promises that were broken.
    pub broken: Vec<Broken>,
    /// The same for the same run.
    pub digest: u64,
    /// Virtual time that passed.
    pub took: Duration,
    /// The story of what was broken; of everything, if nothing was.
    pub story: String,
}

impl Outcome {
    /// Everything that a person needs to look for the cause.
    pub fn report(&self, plan: &Plan) -> String {
        let mut text = String::new();
        writeln!(text, "seed {}", plan.seed).expect("a text can grow");
        for broken in &self.broken {
            writeln!(text, "broken: {}: {}", broken.promise, broken.detail)
                .expect("a text can grow");
        }
        writeln!(text, "settings: {:?}", plan.setup).expect("a text can grow");
        writeln!(text, "schedule:").expect("a text can grow");
        for step in &plan.steps {
            let at = step.at.as_secs_f64();
            writeln!(text, "{at:>9.3}s  {step}").expect("a text can grow");
        }
        writeln!(text, "story:\n{}", self.story).expect("a text can grow");
        text
    }
}

/// Carries out a plan. Must not be called on a runtime.
pub fn run(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread needs nothing");
    runtime.block_on(carry_out(plan))
}

async fn carry_out(plan: &Plan) -> Outcome {
    let story = Arc::new(Story::new());
    let world = World::new(plan, &story);
    world.start();
    for step in &plan.steps {
        wait_until(&story, step.at).await;
        world.befall(step);
    }
    wait_until(&story, plan.horizon()).await;
    world.heal();
    world.people.tidy_up().await;
    let found = settle_and_look(&world).await;
    let took = story.now();
    world.end();
    let mut subjects: Vec<String> =
        found.iter().flat_map(|broken| broken.orders.iter().cloned()).collect();
    subjects.sort();
    subjects.dedup();
    Outcome { broken: found, digest: story.digest(), took, story: story.about(&subjects) }
}

async fn wait_until(story: &Story, at: Duration) {
    tokio::time::sleep(at.saturating_sub(story.now())).await;
}

async fn settle_and_look(world: &World) -> Vec<Broken> {
    let healed = world.parts.story.now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let is_late = world.parts.story.now() > healed + SETTLED_WITHIN;
        match unsettled(world).await {
            Ok(waiting) if waiting.is_empty() => break,
            Ok(mut waiting) if is_late => {
                waiting.extend(broken(world).await.unwrap_or_default());
                return waiting;
            }
            _ => {}
        }
    }
    broken(world).await.expect("the ledger is well")
}
