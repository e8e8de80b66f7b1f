//! What an ERP can do with one request, and which of it happens while it is in which mood.

use std::time::Duration;

use crate::devtools::simulation::dice::Dice;

/// What kind of ERP it is.
#[derive(Debug, Clone, Copy)]
pub struct ErpNature {
    /// Whether it can be asked about an order.
    pub can_ask: bool,
    /// How long the steps before the one that enters an order take, if there are some.
    pub steps_before: Option<Duration>,
    /// Whether it recognises an order that it has.
    pub is_idempotent: bool,
    /// Whether it answers "exists already" to an order that it has.
    pub refuses_known: bool,
    /// Longest time of one call.
    pub budget: Duration,
    /// How long "not there" proves nothing; what the ERP does late, it does within this time.
    pub settle: Duration,
}

/// How an ERP is for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Cannot be reached.
    Away,
    /// Answers 503.
    Busy,
    /// Refuses our login.
    RefusesLogin,
    /// Answers 429 and how long to wait.
    LimitsRate,
    /// A gateway answers 504 or 500 in its place, and it may have the order nevertheless.
    BehindGateway,
    /// Takes longer than anybody waits.
    Slow,
    /// Takes orders, and its answers get lost.
    LosesAnswers,
    /// Gets nothing of what was sent.
    LosesRequests,
    /// Takes connections and never answers.
    Hangs,
    /// A bit of everything.
    Moody,
}

/// Every mood.
pub const MOODS: [Mood; 10] = [
    Mood::Away,
    Mood::Busy,
    Mood::RefusesLogin,
    Mood::LimitsRate,
    Mood::BehindGateway,
    Mood::Slow,
    Mood::LosesAnswers,
    Mood::LosesRequests,
    Mood::Hangs,
    Mood::Moody,
];

/// What an ERP always does with one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// Refuses it: 422.
    Refused,
    /// Stumbles over it: 503.
    Stumbles,
    /// Breaks over it: 500.
    Breaks,
    /// Its request cannot be built.
    Unbuildable,
}

/// Every poison.
pub const POISONS: [Poison; 4] =
    [Poison::Refused, Poison::Stumbles, Poison::Breaks, Poison::Unbuildable];

/// What happens to one request. Times are from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Taken after that time, and answered then.
    Taken(Duration),
    /// Taken after that time if at all, and nothing is heard of it: the caller sees that its request was
    /// written, and at that time that there will be no answer.
    Unseen {
        taken: Option<Duration>,
        noticed: Duration,
    },
    /// Answered for an ERP that takes it after that time, if at all.
    Gateway {
        status: u16,
        taken: Option<Duration>,
    },
    Unreachable,
    Busy,
    Login,
    TooMany {
        wait: Duration,
    },
    Refused,
    Unbuildable,
}

impl Turn {
    /// What befalls a request.
    pub fn draw(
        dice: &mut Dice,
        nature: &ErpNature,
        mood: Option<Mood>,
        poison: Option<Poison>,
    ) -> Self {
        match poison {
            Some(Poison::Refused) => return Self::Refused,
            Some(Poison::Stumbles) => return Self::Busy,
            Some(Poison::Breaks) => return Self::Gateway { status: 500, taken: None },
            Some(Poison::Unbuildable) => return Self::Unbuildable,
            None => {}
        }
        let quick = dice.millis(5, 400);
        match mood {
            None => Self::Taken(quick),
            Some(Mood::Moody) => {
                let mood = MOODS[dice.index(MOODS.len() - 1)];
                let is_well = dice.chance(40);
                Self::draw(dice, nature, (!is_well).then_some(mood), None)
            }
            Some(Mood::Away) => Self::Unreachable,
            Some(Mood::Busy) => Self::Busy,
            Some(Mood::RefusesLogin) => Self::Login,
            Some(Mood::LimitsRate) => Self::TooMany { wait: dice.seconds(1, 90) },
            Some(Mood::BehindGateway) => Self::Gateway {
                status: dice.pick(&[500, 502, 504]),
                taken: dice.chance(50).then(|| within(dice, nature.settle)),
            },
            Some(Mood::Slow) => {
                let takes = within(dice, nature.budget + nature.settle);
                match takes < nature.budget {
                    true => Self::Taken(takes),
                    false => Self::Unseen { taken: Some(takes), noticed: nature.budget },
                }
            }
            Some(Mood::LosesAnswers) => {
                let noticed = within(dice, nature.budget);
                Self::Unseen { taken: Some(noticed.min(quick)), noticed }
            }
            Some(Mood::LosesRequests) => {
                Self::Unseen { taken: None, noticed: within(dice, nature.budget) }
            }
            Some(Mood::Hangs) => Self::Unseen { taken: None, noticed: nature.budget },
        }
    }
}

/// A time clearly below `limit`: what the recipe promises holds with a margin.
fn within(dice: &mut Dice, limit: Duration) -> Duration {
    let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    dice.millis(ms / 100, ms * 7 / 10)
}
