//! An ERP: what it has, what it will have, and what it says about it.
//!
//! A request that was written takes effect at its time, whether its caller still lives or not. What
//! the ERP does late, it does within the settle time that its recipe promises; within it the ERP says
//! "not there" although the order will come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::devtools::simulation::dice::Dice;
use crate::devtools::simulation::erp::turns::{ErpNature, Mood, Poison, Turn};
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::story::Story;
use crate::domain::order::values::OrderKey;

/// The ERP of one run.
pub struct ErpModel {
    pub name: String,
    pub nature: ErpNature,
    pub story: Arc<Story>,
    state: Shared<State>,
}

struct State {
    dice: Dice,
    mood: Option<(Mood, Duration, u32)>,
    poisons: BTreeMap<OrderKey, Poison>,
    entered: BTreeMap<OrderKey, Vec<String>>,
    /// Written requests that take effect later: when, its number, for which order.
    coming: Vec<(Duration, u64, OrderKey)>,
    /// The outcome of requests that took effect: the ERP's number, or that it exists already.
    outcomes: BTreeMap<u64, Outcome>,
    requests: u64,
    numbers: u32,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is there under this number.
    Entered(String),
    /// It was there before.
    Exists,
}

impl ErpModel {
    /// An ERP without orders.
    pub fn new(name: &str, nature: ErpNature, seed: u64, story: Arc<Story>) -> Self {
        let state = State {
            dice: Dice::new(seed, name),
            mood: None,
            poisons: BTreeMap::new(),
            entered: BTreeMap::new(),
            coming: Vec::new(),
            outcomes: BTreeMap::new(),
            requests: 0,
            numbers: 0,
        };
        Self { name: name.to_owned(), nature, story, state: Shared::new(state) }
    }

    /// For that long, so many of a hundred requests meet this mood.
    pub fn gets(&self, mood: Mood, share: u32, lasts: Duration) {
        self.state.get().mood = Some((mood, self.story.now() + lasts, share));
    }

    /// What it always does with one order.
    pub fn is_poisoned_by(&self, key: &OrderKey, poison: Poison) {
        self.state.get().poisons.insert(key.clone(), poison);
    }

    /// It is well again, also with orders that it stumbled over. What it refused it refuses.
    pub fn heal(&self) {
        let mut state = self.state.get();
        state.mood = None;
        state.poisons.retain(|_, poison| matches!(poison, Poison::Refused | Poison::Unbuildable));
    }

    /// It takes every order from now on.
    pub fn forgives(&self) {
        self.state.get().poisons.clear();
    }

    /// How often it has the order.
    pub fn has(&self, key: &OrderKey) -> usize {
        let mut state = self.state.get();
        self.pass_time(&mut state);
        state.entered.get(key).map_or(0, Vec::len)
    }

    /// Whether it will never have the order because of what was sent so far.
    pub fn is_surely_without(&self, key: &OrderKey) -> bool {
        self.has(key) == 0 && !self.state.get().coming.iter().any(|(_, _, other)| other == key)
    }

    /// A request about `key` is written now; what happens to it, and its number.
    pub fn receive(&self, key: &OrderKey) -> (u64, Turn) {
        let mut state = self.state.get();
        self.pass_time(&mut state);
        let (mood, poison) = (self.mood(&mut state), state.poisons.get(key).copied());
        let turn = Turn::draw(&mut state.dice, &self.nature, mood, poison);
        state.requests += 1;
        let number = state.requests;
        let taken = match turn {
            Turn::Taken(after) => Some(after),
            Turn::Unseen { taken, .. } | Turn::Gateway { taken, .. } => taken,
            _ => None,
        };
        if let Some(after) = taken {
            let at = self.story.now() + after;
            state.coming.push((at, number, key.clone()));
        }
        (number, turn)
    }

    /// What came of a request.
    pub fn outcome(&self, request: u64) -> Option<Outcome> {
        let mut state = self.state.get();
        self.pass_time(&mut state);
        state.outcomes.get(&request).cloned()
    }

    /// The mood in which a question meets it, and how long it thinks.
    pub fn hear(&self) -> (Option<Mood>, Duration) {
        let mut state = self.state.get();
        let mood = self.mood(&mut state);
        let thinks = state.dice.millis(5, 200);
        (mood, thinks)
    }

    /// The number under which it has the order.
    pub fn find(&self, key: &OrderKey) -> Option<String> {
        let mut state = self.state.get();
        self.pass_time(&mut state);
        state.entered.get(key).and_then(|numbers| numbers.first()).cloned()
    }

    fn mood(&self, state: &mut State) -> Option<Mood> {
        let (mood, until, share) = state.mood?;
        (self.story.now() < until && state.dice.chance(share)).then_some(mood)
    }

    /// Everything takes effect whose time has come, in its order.
    fn pass_time(&self, state: &mut State) {
        let now = self.story.now();
        let (mut due, coming): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.coming).into_iter().partition(|(at, _, _)| *at <= now);
        state.coming = coming;
        due.sort();
        for (_, request, key) in due {
            let known = state.entered.get(&key).and_then(|numbers| numbers.first()).cloned();
            let outcome = match known {
                Some(_) if self.nature.refuses_known => Outcome::Exists,
                Some(number) if self.nature.is_idempotent => Outcome::Entered(number),
                _ => self.enter(state, &key),
            };
            state.outcomes.insert(request, outcome);
        }
    }

    fn enter(&self, state: &mut State, key: &OrderKey) -> Outcome {
        state.numbers += 1;
        let number = format!("{}-{}", self.name, state.numbers);
        let times = state.entered.entry(key.clone()).or_default();
        times.push(number.clone());
        let twice = if times.len() > 1 { ", AGAIN" } else { "" };
        self.story.tell(&self.name, format_args!("enters {key} as {number}{twice}"));
        Outcome::Entered(number)
    }
}
