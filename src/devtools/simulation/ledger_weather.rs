//! What befalls the ledger in a run, and what each call of each process meets of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::devtools::simulation::dice::Dice;
use crate::devtools::simulation::ledger::faults::{Access, Disturbance, LedgerFault};
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::story::Story;
use crate::devtools::simulation::traps::{MOMENT, Point, Traps};

/// How the ledger fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerTrouble {
    /// Nobody reaches it.
    Away,
    /// One process is connected to a node that does not write any more.
    ReadOnly(usize),
    /// Every call takes about that long, before or after it took effect.
    Slow(Duration),
    /// So many changes are made, and their callers see an error.
    AnswersLost(u32),
    /// So many changes are rolled back, because another one is in the way.
    Deadlocks(u32),
}

/// Share of the changes that a planned loss or deadlock hits, so that it hits different ones.
const HIT_PERCENT: u32 = 30;
/// Longest time that a call takes when all is well, in milliseconds.
const CALL_MS: u64 = 4;

/// The state of the ledger's troubles.
pub struct Weather {
    story: Arc<Story>,
    state: Shared<State>,
}

struct State {
    dice: Dice,
    away_until: Duration,
    read_only_until: BTreeMap<usize, Duration>,
    slow_until: Duration,
    slow: Duration,
    answers_lost: u32,
    deadlocks: u32,
}

impl Weather {
    /// A ledger that is well.
    pub fn new(seed: u64, story: Arc<Story>) -> Self {
        let state = State {
            dice: Dice::new(seed, "ledger"),
            away_until: Duration::ZERO,
            read_only_until: BTreeMap::new(),
            slow_until: Duration::ZERO,
            slow: Duration::ZERO,
            answers_lost: 0,
            deadlocks: 0,
        };
        Self { story, state: Shared::new(state) }
    }

    /// From now on for that long, if it is not about a number of changes.
    pub fn befall(&self, trouble: LedgerTrouble, lasts: Duration) {
        let (mut state, until) = (self.state.get(), self.story.now() + lasts);
        match trouble {
            LedgerTrouble::Away => state.away_until = until,
            LedgerTrouble::ReadOnly(process) => {
                state.read_only_until.insert(process, until);
            }
            LedgerTrouble::Slow(slow) => (state.slow, state.slow_until) = (slow, until),
            LedgerTrouble::AnswersLost(count) => state.answers_lost = count,
            LedgerTrouble::Deadlocks(count) => state.deadlocks = count,
        }
    }

    /// The ledger is well again.
    pub fn heal(&self) {
        let mut state = self.state.get();
        (state.away_until, state.slow_until) = (Duration::ZERO, Duration::ZERO);
        state.read_only_until.clear();
        (state.answers_lost, state.deadlocks) = (0, 0);
    }

    fn next(&self, process: usize, access: Access, shortest: Duration) -> LedgerFault {
        let (mut state, now) = (self.state.get(), self.story.now());
        if now < state.away_until {
            return LedgerFault::Unavailable;
        }
        if access == Access::Write {
            if state.read_only_until.get(&process).is_some_and(|until| now < *until) {
                return LedgerFault::ReadOnly;
            }
            if state.deadlocks > 0 && state.dice.chance(HIT_PERCENT) {
                state.deadlocks -= 1;
                return LedgerFault::Deadlock;
            }
            if state.answers_lost > 0 && state.dice.chance(HIT_PERCENT) {
                state.answers_lost -= 1;
                return LedgerFault::AnswerLost;
            }
        }
        let longest = match now < state.slow_until {
            true => u64::try_from(state.slow.as_millis()).unwrap_or(u64::MAX),
            false => CALL_MS,
        };
        let takes = state.dice.millis(0, longest).max(shortest);
        match state.dice.chance(50) {
            true => LedgerFault::Slow(takes),
            false => LedgerFault::LateAnswer(takes),
        }
    }
}

/// What the calls of one process meet.
pub struct ProcessWeather {
    pub weather: Arc<Weather>,
    pub traps: Arc<Traps>,
    pub process: usize,
}

impl Disturbance for ProcessWeather {
    fn next(&self, access: Access) -> Option<LedgerFault> {
        let is_trapped = self.traps.pass(self.process, Point::Ledger);
        let shortest = if is_trapped { MOMENT } else { Duration::ZERO };
        Some(self.weather.next(self.process, access, shortest))
    }
}
