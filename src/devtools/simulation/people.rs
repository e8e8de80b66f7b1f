//! People: they do what the back office offers, at moments that nobody would choose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::devtools::simulation::dice::Dice;
use crate::devtools::simulation::erp::client::SimulatedErps;
use crate::devtools::simulation::ledger::memory::MemoryLedger;
use crate::devtools::simulation::schedule::Verb;
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::story::Story;
use crate::devtools::simulation::wiring::Parts;
use crate::domain::circuit::{Circuit, CircuitState};
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{OrderState, Phase};
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{MAX_PAGE, OrderFilter, Sort};
use crate::domain::permission::Grants;
use crate::domain::redrive::{RedriveStatus, RedriveThrottle};
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::circuits::Circuits;
use crate::ports::dead_letters::DeadLetterDesk;
use crate::ports::order_lists::OrderLists;
use crate::ports::redrives::Selection;

/// How long a person waits for anything.
const PATIENCE: Duration = Duration::from_mins(5);

/// Everybody with a login.
pub struct People {
    ops: Arc<Ops>,
    ledger: MemoryLedger,
    erps: Arc<SimulatedErps>,
    story: Arc<Story>,
    dice: Shared<Dice>,
    holds: Shared<Holds>,
}

/// What people hold, as far as that is certain.
#[derive(Default)]
struct Holds {
    erps: BTreeSet<String>,
    /// Releases that have begun, and those that have ended.
    released: (u32, u32),
    broken: Vec<String>,
}

impl People {
    /// The people of a run.
    pub fn new(parts: &Parts, ops: Arc<Ops>, seed: u64) -> Self {
        Self {
            ops,
            ledger: parts.ledger.clone(),
            erps: parts.erps.clone(),
            story: parts.story.clone(),
            dice: Shared::new(Dice::new(seed, "people")),
            holds: Shared::default(),
        }
    }

    /// Circuits that a person held and that were something else when they were released.
    pub fn circuits_that_did_not_stay_held(&self) -> Vec<String> {
        self.holds.get().broken.clone()
    }

    async fn hold(&self, act: &Act) -> Result<(), Refusal> {
        let erp = self.some_erp();
        let before = self.holds.get().released;
        self.ops.hold(erp, act).await?;
        let mut holds = self.holds.get();
        // Nobody released it meanwhile.
        if before.0 == before.1 && before == holds.released {
            holds.erps.insert(erp.to_owned());
        }
        Ok(())
    }

    async fn release(&self, erp: &str, act: &Act) -> Result<(), Refusal> {
        let was_held = {
            let mut holds = self.holds.get();
            holds.released.0 += 1;
            holds.erps.remove(erp)
        };
        if was_held {
            let circuits = self.ledger.circuits().await?;
            let is_held = |circuit: &&Circuit| {
                circuit.state == CircuitState::Open && circuit.trial_at.is_none()
            };
            let of_erp = circuits.iter().find(|circuit| circuit.erp == erp);
            if of_erp.filter(is_held).is_none() {
                self.holds.get().broken.push(format!("{erp} was held and became {of_erp:?}"));
            }
        }
        let released = self.ops.release(erp, act).await;
        self.holds.get().released.1 += 1;
        released.map(drop)
    }

    /// Somebody does this now, with whatever fits.
    pub async fn act(&self, verb: Verb) {
        let done = tokio::time::timeout(PATIENCE, self.try_act(verb)).await;
        match done {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(what))) => self.story.tell("people", format_args!("{verb:?}: {what}")),
            Ok(Err(refusal)) => self.story.tell("people", format_args!("{verb:?}: no, {refusal}")),
            Err(_) => self.story.tell("people", format_args!("{verb:?}: gave up waiting")),
        }
    }

    /// At the end nothing waits for a person who went home: circuits are released, redrives resumed.
    pub async fn tidy_up(&self) {
        for circuit in self.ops.circuits(&erika()).await.unwrap_or_default() {
            let is_held = self.holds.get().erps.contains(&circuit.erp);
            if circuit.state != CircuitState::Closed || is_held {
                drop(self.release(&circuit.erp, &self.action("all is well again")).await);
            }
        }
        for redrive in self.ops.redrives(&erika(), 100).await.unwrap_or_default() {
            let act = self.action("it was forgotten");
            match redrive.status {
                RedriveStatus::Paused => drop(self.ops.resume_redrive(redrive.id, &act).await),
                RedriveStatus::Planned => drop(self.ops.cancel_redrive(redrive.id, &act).await),
                _ => {}
            }
        }
    }

    fn action(&self, reason: &str) -> Act {
        self.ops.act(&erika(), Some(reason))
    }

    /// What was done, if there was something to do it with.
    async fn try_act(&self, verb: Verb) -> Result<Option<String>, Refusal> {
        let act = self.action("as it happens");
        match verb {
            Verb::Hold => {
                self.hold(&act).await?;
                return Ok(Some("held".to_owned()));
            }
            Verb::Release => {
                self.release(self.some_erp(), &act).await?;
                return Ok(Some("released".to_owned()));
            }
            Verb::Redrive => return self.redrive(&act).await,
            Verb::PauseRedrive | Verb::ResumeRedrive | Verb::CancelRedrive => {
                return self.steer(verb, &act).await;
            }
            Verb::ReplayDeadLetter => return self.replay(&act).await,
            _ => {}
        }
        let Some(record) = self.some_order(verb).await? else { return Ok(None) };
        let key = &record.key;
        let what = match verb {
            Verb::Transfer => told(&self.ops.transfer(key, &act).await?),
            Verb::Remove => self.ops.remove(key, &act).await.map(|_| "done".to_owned())?,
            Verb::Restore => self.ops.restore(key, &act).await.map(|_| "done".to_owned())?,
            Verb::Reconcile => told(&self.ops.reconcile(key, &act).await?),
            Verb::DeclareAbsent => {
                // They have looked: a wrong answer is theirs (README, "Limits").
                if !self.erps.of(key.shop.as_str()).is_surely_without(key) {
                    return Ok(None);
                }
                told(&self.ops.declare_absent(key, &act).await?)
            }
            _ => self.edit(key, &act).await?,
        };
        Ok(Some(format!("{key}: {what}")))
    }

    fn some_erp(&self) -> &str {
        let erps: Vec<_> = self.erps.all().collect();
        let index = self.dice.get().index(erps.len());
        &erps[index].name
    }

    /// An order that the verb fits, more or less.
    async fn some_order(&self, verb: Verb) -> Result<Option<OrderRecord>, Refusal> {
        let filter = OrderFilter::default();
        let mut all = self.ledger.page_orders(&filter, Sort::default(), None, MAX_PAGE).await?;
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.retain(|record| match verb {
            Verb::Restore => record.phase == Phase::Removed,
            Verb::Reconcile | Verb::DeclareAbsent => {
                record.phase.state() == OrderState::OrderedFailed
            }
            _ => record.phase.state() != OrderState::Confirmed,
        });
        if all.is_empty() {
            return Ok(None);
        }
        let index = self.dice.get().index(all.len());
        Ok(Some(all.swap_remove(index)))
    }

    async fn edit(&self, key: &OrderKey, act: &Act) -> Result<String, Refusal> {
        let detail = self.ops.show(&erika(), key).await?;
        let mut document: serde_json::Value =
            serde_json::from_str(detail.current()).unwrap_or_default();
        document["remark"] = format!("edited {}", detail.record.revision + 1).into();
        let revision = detail.record.revision;
        // They think about it, and meanwhile somebody else may have edited it.
        let thinks = self.dice.get().millis(0, 20_000);
        tokio::time::sleep(thinks).await;
        let edited = self.ops.edit(key, revision, &document.to_string(), act).await?;
        Ok(format!("revision {}", edited.revision))
    }

    async fn redrive(&self, act: &Act) -> Result<Option<String>, Refusal> {
        let rate = self.dice.get().pick(&[None, Some(6), Some(60)]);
        let throttle = RedriveThrottle { rate_per_minute: rate, ..RedriveThrottle::default() };
        let plan = self.ops.plan_redrive(Selection::Filter(BTreeMap::new()), throttle, act).await?;
        let thinks = self.dice.get().millis(0, 20_000);
        tokio::time::sleep(thinks).await;
        let started = self.ops.start_redrive(plan.id, &self.action("again")).await?;
        Ok(Some(format!("{} orders", started.planned())))
    }

    async fn steer(&self, verb: Verb, act: &Act) -> Result<Option<String>, Refusal> {
        let redrives = self.ops.redrives(&erika(), 10).await?;
        let ids: Vec<Uuid> = redrives.iter().map(|redrive| redrive.id).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let id = ids[self.dice.get().index(ids.len())];
        let redrive = match verb {
            Verb::PauseRedrive => self.ops.pause_redrive(id, act).await?,
            Verb::ResumeRedrive => self.ops.resume_redrive(id, act).await?,
            _ => self.ops.cancel_redrive(id, act).await?,
        };
        Ok(Some(redrive.status.as_str().to_owned()))
    }

    async fn replay(&self, act: &Act) -> Result<Option<String>, Refusal> {
        let letters = self.ledger.list_dead_letters(true, 100).await?;
        if letters.is_empty() {
            return Ok(None);
        }
        let letter = &letters[self.dice.get().index(letters.len())];
        Ok(Some(told(&self.ops.replay(letter, None, act).await?)))
    }
}

/// A person with every permission.
pub fn erika() -> Principal {
    Principal { name: "user:erika".to_owned(), from: None, grants: Grants::all() }
}

/// An outcome in a few words.
fn told(outcome: &impl std::fmt::Debug) -> String {
    let whole = format!("{outcome:?}");
    whole.split(['{', '(']).next().unwrap_or_default().trim().to_owned()
}
