//! What happens in a run and when: orders, faults, and what people do. All of it follows from the
//! seed before the run begins, so that single steps can be left out.

use std::fmt;
use std::time::Duration;

use crate::devtools::simulation::erp::turns::{Mood, Poison};
use crate::devtools::simulation::ledger_weather::LedgerTrouble;
use crate::devtools::simulation::traps::{Point, Spring};

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    pub at: Duration,
    /// For how long, if it is something that lasts.
    pub lasts: Duration,
    pub what: What,
}

impl Step {
    /// When it is over.
    pub fn end(&self) -> Duration {
        self.at + self.lasts
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)?;
        match self.lasts.is_zero() {
            true => Ok(()),
            false => write!(f, " for {:?}", self.lasts),
        }
    }
}

/// What happens.
#[derive(Debug, Clone)]
pub enum What {
    /// An order arrives.
    Place(Placement),
    Process(ProcessTrouble),
    Broker(BrokerTrouble),
    Ledger(LedgerTrouble),
    /// Of the default ERP, or of the other one.
    Erp {
        second: bool,
        mood: Mood,
        share: u32,
    },
    Post(PostTrouble),
    Person(Verb),
}

/// How an order arrives.
#[derive(Debug, Clone)]
pub struct Placement {
    pub shop: &'static str,
    pub number: u32,
    pub way: Way,
    /// What its ERP does with it for ever.
    pub poison: Option<Poison>,
}

impl Placement {
    /// Whether it is an order like any other, and its ERP has no reason not to take it.
    pub fn is_good(&self) -> bool {
        let is_plain = matches!(
            self.way,
            Way::Checkout | Way::CheckoutTwice | Way::CheckoutChanged | Way::Api
        );
        is_plain && self.poison.is_none()
    }
}

/// On which way an order arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Checkout publishes it until it is confirmed.
    Checkout,
    /// And then once more.
    CheckoutTwice,
    /// And then with another content.
    CheckoutChanged,
    /// Over the API.
    Api,
    /// With the failure that another service reports.
    ForeignFailure,
    /// A message that is no order.
    Garbage,
    /// An order with a value that the ledger refuses to store.
    Unstorable,
    /// A message with a routing key that nothing is bound to.
    Misrouted,
}

/// What befalls a process, by its number.
#[derive(Debug, Clone, Copy)]
pub enum ProcessTrouble {
    /// It dies where it stands, and starts again after that time.
    Dies(usize),
    /// It is not scheduled for that time, and then continues.
    Sleeps(usize),
    /// It finishes what it has in hand, and another one starts after that time.
    Restarts(usize),
    /// It dies or sleeps when it passes a point for the time after so many.
    Trapped(usize, Point, u32, Spring),
}

/// What befalls the broker.
#[derive(Debug, Clone)]
pub enum BrokerTrouble {
    /// It restarts.
    Away,
    /// The session of one process ends.
    SessionEnds(usize),
    /// The consumer of one process on one queue is cancelled.
    ConsumerEnds(usize, &'static str),
    ConfirmsLost(u32),
    Doubled(u32),
    /// Memory alarm: publishes hang.
    Alarm,
    /// No majority: nothing is confirmed.
    Minority,
    /// One of our queues refuses.
    Full(&'static str),
    /// A stranger's queue on our events refuses.
    StrangerFull,
}

/// What befalls the mail server.
#[derive(Debug, Clone, Copy)]
pub enum PostTrouble {
    Away,
    AnswersLost,
    /// It puts off the mails to one of them.
    OneReceiverBusy,
    /// It takes only small mails for one of them.
    OneReceiverNarrow,
}

/// What a person does; with which order is decided when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Transfer,
    Remove,
    Restore,
    Edit,
    Reconcile,
    DeclareAbsent,
    Hold,
    Release,
    Redrive,
    PauseRedrive,
    ResumeRedrive,
    CancelRedrive,
    ReplayDeadLetter,
}

/// Every verb.
pub const VERBS: [Verb; 13] = [
    Verb::Transfer,
    Verb::Remove,
    Verb::Restore,
    Verb::Edit,
    Verb::Reconcile,
    Verb::DeclareAbsent,
    Verb::Hold,
    Verb::Release,
    Verb::Redrive,
    Verb::PauseRedrive,
    Verb::ResumeRedrive,
    Verb::CancelRedrive,
    Verb::ReplayDeadLetter,
];
