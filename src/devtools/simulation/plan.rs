//! The plan of a run: its settings and its schedule, both from the seed.
//!
//! Each seed leaves out most kinds of faults and has much of the others, so that rare combinations
//! come up. Everything ends well before the horizon: from there on all is well.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::SignedDuration;

use crate::devtools::simulation::dice::Dice;
use crate::devtools::simulation::erp::client::SECOND_ERP;
use crate::devtools::simulation::erp::turns::{ErpNature, MOODS, Mood, POISONS};
use crate::devtools::simulation::ledger_weather::LedgerTrouble;
use crate::devtools::simulation::schedule::{
    BrokerTrouble, Placement, PostTrouble, ProcessTrouble, Step, VERBS, Verb, Way, What,
};
use crate::devtools::simulation::traps::{POINTS, Spring};
use crate::domain::circuit::CircuitRule;
use crate::domain::notice::{CustomerConfirmation, DigestRule};
use crate::domain::order::values::DEFAULT_SHOP;
use crate::domain::retry::{OnRejected, RetryPolicy};

/// How much clocks of two processes differ at most.
const MAX_SKEW_S: i64 = 60;
/// Names on the broker begin so.
pub const PREFIX: &str = "orders";

/// A run that is about to happen.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub setup: Setup,
    pub steps: Vec<Step>,
}

/// What is set for a run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// By how much the clock of each process is ahead.
    pub skews: Vec<SignedDuration>,
    pub max_count: Option<u32>,
    pub retry: RetryPolicy,
    pub customer: CustomerConfirmation,
    pub digest: DigestRule,
    pub circuit: CircuitRule,
    pub permits: u16,
    pub max_in_flight: u32,
    pub rate: Option<NonZeroU32>,
    pub erp: ErpNature,
    /// Another ERP for the shop `at`.
    pub second_erp: Option<ErpNature>,
    /// Submitters leave the counting of failures to error handlers, as if these ran in other processes.
    pub counts_apart: bool,
}

impl Plan {
    /// What `seed` stands for.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let setup = Setup::draw(&mut dice);
        let mut steps = match dice.number(0, 19) {
            0 => a_plain_outage(&mut dice, &setup),
            1 => holds_in_trouble(&mut dice),
            2 => many_orders_for_a_slow_erp(&mut dice),
            _ => [orders(&mut dice, &setup), faults(&mut dice, &setup), verbs(&mut dice)].concat(),
        };
        steps.sort_by_key(|step| step.at);
        Self { seed, setup, steps }
    }

    /// Whether nothing happens but good orders, an ERP that cannot be reached, and processes that end.
    pub fn is_plain_outage(&self) -> bool {
        self.steps.iter().all(|step| match &step.what {
            What::Place(placement) => placement.is_good(),
            What::Erp { mood, share, .. } => (*mood, *share) == (Mood::Away, 100),
            What::Process(trouble) => matches!(trouble, ProcessTrouble::Restarts(_)),
            _ => false,
        })
    }

    /// From here on all is well.
    pub fn horizon(&self) -> Duration {
        let last = self.steps.iter().map(Step::end).max().unwrap_or_default();
        last + Duration::from_secs(1)
    }

    /// The same without some of its steps.
    #[must_use]
    pub fn without(&self, leave_out: impl Fn(usize) -> bool) -> Self {
        let kept = self.steps.iter().enumerate().filter(|(n, _)| !leave_out(*n));
        Self { steps: kept.map(|(_, step)| step.clone()).collect(), ..self.clone() }
    }
}

impl Setup {
    fn draw(dice: &mut Dice) -> Self {
        let processes = dice.number(2, 4);
        let has_skew = dice.chance(50);
        let mut skew = || {
            let ms = dice.millis(0, 1_000 * MAX_SKEW_S.unsigned_abs());
            let skew = SignedDuration::try_from(ms).unwrap_or_default();
            if has_skew {
                skew - SignedDuration::from_secs(MAX_SKEW_S / 2)
            } else {
                SignedDuration::ZERO
            }
        };
        let skews = (0..processes).map(|_| skew()).collect();
        let erp = nature(dice);
        let first = dice.seconds(2, 20);
        Self {
            skews,
            max_count: if dice.chance(15) { None } else { Some(dice.number(1, 5)) },
            retry: RetryPolicy {
                schedule: vec![first, first * 4, first * 12],
                on_rejected: dice.pick(&[OnRejected::Park, OnRejected::Park, OnRejected::Retry]),
                settle: erp.settle,
                ask_every: Duration::from_secs(2),
            },
            customer: dice
                .pick(&[CustomerConfirmation::AfterFailure, CustomerConfirmation::Always]),
            digest: DigestRule { after: dice.number(1, 10), every: dice.seconds(60, 300) },
            circuit: CircuitRule {
                suspect_after: dice.number(1, 4),
                open_after: dice.number(3, 20),
                pause: dice.seconds(2, 10),
                longest_pause: dice.seconds(60, 300),
            },
            permits: u16::try_from(dice.pick(&[1, 3, 10, 50])).unwrap_or(1),
            max_in_flight: dice.pick(&[1, 4, 16]),
            rate: dice.chance(20).then(|| NonZeroU32::new(dice.number(1, 20))).flatten(),
            counts_apart: dice.chance(40),
            second_erp: dice.chance(25).then(|| ErpNature { settle: erp.settle, ..nature(dice) }),
            erp,
        }
    }

    /// Number of processes.
    pub fn processes(&self) -> usize {
        self.skews.len()
    }
}

fn nature(dice: &mut Dice) -> ErpNature {
    let (can_ask, is_idempotent) = dice.pick(&[
        (true, false),
        (true, false),
        (true, false),
        (true, true),
        (false, true),
        (false, false),
    ]);
    let budget = dice.seconds(3, 35);
    let half = u64::try_from(budget.as_millis() / 2).unwrap_or(u64::MAX);
    ErpNature {
        can_ask,
        steps_before: dice.chance(40).then(|| dice.millis(20, half)),
        is_idempotent,
        refuses_known: dice.chance(20),
        budget,
        settle: dice.seconds(20, 60),
    }
}

/// When steps happen: in the first minutes, and often close together.
fn moment(dice: &mut Dice) -> Duration {
    match dice.chance(50) {
        true => dice.millis(0, 60_000),
        false => dice.millis(0, 600_000),
    }
}

fn orders(dice: &mut Dice, setup: &Setup) -> Vec<Step> {
    let (count, poisoned) = (dice.number(1, 25), dice.pick(&[0, 0, 10, 40]));
    let plain = dice.chance(30);
    let place = |number| {
        let shop = match setup.second_erp.is_some() && dice.chance(50) {
            true => SECOND_ERP,
            false => DEFAULT_SHOP,
        };
        let way = match dice.number(0, 19) {
            _ if plain => Way::Checkout,
            0 | 1 => Way::CheckoutTwice,
            2 => Way::CheckoutChanged,
            3 | 4 => Way::Api,
            5 => Way::ForeignFailure,
            6 => Way::Garbage,
            7 => Way::Misrouted,
            8 => Way::Unstorable,
            _ => Way::Checkout,
        };
        let poison = dice.chance(poisoned).then(|| dice.pick(&POISONS));
        let what = What::Place(Placement { shop, number, way, poison });
        Step { at: moment(dice), lasts: Duration::ZERO, what }
    };
    (1..=count).map(place).collect()
}

fn placed(number: u32, at: Duration) -> Step {
    let what = Placement { shop: DEFAULT_SHOP, number, way: Way::Checkout, poison: None };
    Step { at, lasts: Duration::ZERO, what: What::Place(what) }
}

/// A few orders come while the ERP cannot be reached.
fn a_plain_outage(dice: &mut Dice, setup: &Setup) -> Vec<Step> {
    let count = dice.number(1, 4);
    let mut steps: Vec<Step> =
        (1..=count).map(|number| placed(number, dice.millis(0, 60_000))).collect();
    let what = What::Erp { second: false, mood: Mood::Away, share: 100 };
    steps.push(Step { at: dice.millis(0, 5_000), lasts: dice.seconds(60, 1_500), what });
    for _ in 0..dice.number(0, 2) {
        let restarts = ProcessTrouble::Restarts(some_process(dice, setup));
        let what = What::Process(restarts);
        steps.push(Step { at: dice.millis(0, 600_000), lasts: dice.seconds(1, 30), what });
    }
    steps
}

/// More orders come than the ERP can take: they wait in the queue for minutes.
fn many_orders_for_a_slow_erp(dice: &mut Dice) -> Vec<Step> {
    let count = dice.number(25, 45);
    let mut steps: Vec<Step> =
        (1..=count).map(|number| placed(number, dice.millis(0, 30_000))).collect();
    let what = What::Erp { second: false, mood: Mood::Slow, share: 100 };
    steps.push(Step { at: NONE, lasts: dice.seconds(200, 600), what });
    steps
}

/// People hold and release the circuit of an ERP that comes and goes.
fn holds_in_trouble(dice: &mut Dice) -> Vec<Step> {
    let moment = |dice: &mut Dice| dice.millis(0, 180_000);
    let mut steps: Vec<Step> =
        (1..=dice.number(5, 20)).map(|number| placed(number, moment(dice))).collect();
    for _ in 0..dice.number(2, 8) {
        let mood = dice.pick(&[Mood::Away, Mood::Busy, Mood::Slow, Mood::Hangs]);
        let what = What::Erp { second: false, mood, share: 100 };
        steps.push(Step { at: moment(dice), lasts: dice.seconds(2, 30), what });
    }
    for _ in 0..dice.number(4, 20) {
        let verb = dice.pick(&[Verb::Hold, Verb::Release]);
        steps.push(Step { at: moment(dice), lasts: NONE, what: What::Person(verb) });
    }
    steps
}

/// A kind of fault that a run may have.
type Kind = fn(&mut Dice, &Setup) -> (What, Duration);

const NONE: Duration = Duration::ZERO;

fn some_process(dice: &mut Dice, setup: &Setup) -> usize {
    dice.index(setup.processes())
}

fn some_queue(dice: &mut Dice) -> &'static str {
    dice.pick(&["submit", "failed", "notify", "dead"])
}

const KINDS: &[Kind] = &[
    |d, s| (What::Process(ProcessTrouble::Dies(some_process(d, s))), d.seconds(1, 120)),
    |d, s| (What::Process(ProcessTrouble::Sleeps(some_process(d, s))), d.seconds(1, 400)),
    |d, s| (What::Process(ProcessTrouble::Restarts(some_process(d, s))), d.seconds(1, 30)),
    |d, s| trapped(d, s, Spring::Dies, 120),
    |d, s| trapped(d, s, Spring::Sleeps, 400),
    |d, s| trapped(d, s, Spring::Sleeps, 400),
    |d, _| (What::Broker(BrokerTrouble::Away), d.seconds(1, 120)),
    |d, s| (What::Broker(BrokerTrouble::SessionEnds(some_process(d, s))), NONE),
    |d, s| {
        let ends = BrokerTrouble::ConsumerEnds(some_process(d, s), some_queue(d));
        (What::Broker(ends), NONE)
    },
    |d, _| (What::Broker(BrokerTrouble::ConfirmsLost(d.number(1, 10))), NONE),
    |d, _| (What::Broker(BrokerTrouble::Doubled(d.number(1, 10))), NONE),
    |d, _| (What::Broker(BrokerTrouble::Alarm), d.seconds(1, 200)),
    |d, _| (What::Broker(BrokerTrouble::Minority), d.seconds(1, 120)),
    |d, _| (What::Broker(BrokerTrouble::Full(some_queue(d))), d.seconds(5, 200)),
    |d, _| (What::Broker(BrokerTrouble::StrangerFull), d.seconds(5, 300)),
    |d, _| (What::Ledger(LedgerTrouble::Away), d.seconds(1, 200)),
    |d, s| (What::Ledger(LedgerTrouble::ReadOnly(some_process(d, s))), d.seconds(1, 120)),
    |d, _| (What::Ledger(LedgerTrouble::Slow(d.millis(100, 5_000))), d.seconds(5, 120)),
    |d, _| (What::Ledger(LedgerTrouble::AnswersLost(d.number(1, 10))), NONE),
    |d, _| (What::Ledger(LedgerTrouble::Deadlocks(d.number(1, 10))), NONE),
    erp_mood,
    erp_mood,
    erp_mood,
    |d, _| (What::Post(PostTrouble::Away), d.seconds(10, 600)),
    |d, _| (What::Post(PostTrouble::AnswersLost), d.seconds(10, 600)),
    |d, _| (What::Post(PostTrouble::OneReceiverBusy), d.seconds(10, 600)),
    |d, _| (What::Post(PostTrouble::OneReceiverNarrow), d.seconds(10, 600)),
];

fn trapped(dice: &mut Dice, setup: &Setup, spring: Spring, longest_s: u64) -> (What, Duration) {
    let (process, spared) = (some_process(dice, setup), dice.pick(&[0, 0, 1, 3, 10, 40]));
    let trapped = ProcessTrouble::Trapped(process, dice.pick(&POINTS), spared, spring);
    (What::Process(trapped), dice.seconds(1, longest_s))
}

fn erp_mood(dice: &mut Dice, setup: &Setup) -> (What, Duration) {
    let second = setup.second_erp.is_some() && dice.chance(50);
    let (mood, share) = (dice.pick(&MOODS), dice.pick(&[20, 50, 100]));
    (What::Erp { second, mood, share }, dice.seconds(2, 300))
}

fn faults(dice: &mut Dice, setup: &Setup) -> Vec<Step> {
    let enabled: Vec<Kind> = KINDS.iter().copied().filter(|_| dice.chance(25)).collect();
    if enabled.is_empty() {
        return Vec::new();
    }
    let count = dice.number(1, 12);
    let fault = |_| {
        let kind = enabled[dice.index(enabled.len())];
        let (what, lasts) = kind(dice, setup);
        Step { at: moment(dice), lasts, what }
    };
    (0..count).map(fault).collect()
}

fn verbs(dice: &mut Dice) -> Vec<Step> {
    let count = dice.pick(&[0, 0, 3, 12]);
    let verb =
        |_| Step { at: moment(dice), lasts: Duration::ZERO, what: What::Person(dice.pick(&VERBS)) };
    (0..count).map(verb).collect()
}
