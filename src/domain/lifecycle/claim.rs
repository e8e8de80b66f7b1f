//! Claims: who may attempt an order now, and how a claim is given back.

use jiff::Timestamp;

use crate::domain::lifecycle::vocabulary::Trigger;

/// A lease on one attempt: until it ends, no other worker touches the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The process that took it.
    pub worker: String,
    /// The attempt it was taken for.
    pub attempt: u32,
    /// When it ends; its holder starts no call that would end later. A claim is taken only when the call can
    /// start, so it means "being sent now".
    pub until: Timestamp,
    /// Whether the request that enters the order may have been sent. What never began can be claimed again
    /// without a question.
    pub begun: bool,
}

impl Claim {
    /// Whether its time is over, and nothing was sent.
    pub fn has_ended_unbegun(&self, now: Timestamp) -> bool {
        !self.begun && self.until <= now
    }

    /// Its name as long as nothing can have been sent.
    pub fn preparing(&self) -> Option<&str> {
        (!self.begun).then_some(&self.worker)
    }
}

/// A request for an attempt now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The requested attempt; `None`: the next one (an order message from checkout).
    pub attempt: Option<u32>,
    /// Who asks.
    pub trigger: Trigger,
}

/// What the caller of [`OrderRecord::admit`] can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Send it now, under a lease.
    Claim {
        /// The process and its delivery: a second request with the same name is the same request,
        /// in case the first answer was lost.
        worker: String,
        /// When the lease ends.
        until: Timestamp,
        /// Whether the order is sent at once, without steps before it that the ledger hears about.
        begins: bool,
    },
    /// Only store it: the circuit is open.
    Hold,
    /// Only store it: it waits here for its turn, and is claimed when that comes.
    Wait,
}

/// The answer to a request for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Claimed, and no earlier attempt can have entered it: send it.
    Send {
        /// Number of this attempt.
        attempt: u32,
    },
    /// Claimed, but it may be in the ERP: ask before sending.
    AskFirst {
        /// Number of this attempt.
        attempt: u32,
        /// Why it may be there.
        doubt: Doubt,
    },
    /// Waits until the circuit closes.
    Held,
    /// It may be attempted when its turn comes.
    Waits,
    /// Another worker has a live lease; if that worker dies, the sweeper publishes the order again.
    Busy,
    /// Nothing to do: this attempt was already made, or the order is settled.
    Stale,
}

/// Why an order may be in the ERP although no receipt was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Something may have been sent whose outcome was not seen, last at that time. "Not there"
    /// counts only when `erp.settle` has passed since: until then the ERP may still be working on
    /// it.
    Unclear {
        /// Nothing can have been sent after this time.
        since: Timestamp,
    },
    /// The last attempt was answered by something in front of the ERP, or by an error in the middle
    /// of its work (500, 502, 504), so its effect is unknown. "Not there" counts when `erp.settle`
    /// has passed; the next automatic attempt waits for that, but a person may ask earlier.
    Answered {
        /// When the answer was received.
        at: Timestamp,
    },
}

/// How a claim is handed back without an attempt having been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandBack {
    /// The circuit opened before it was sent.
    Hold,
    /// The ERP gave no usable answer, or it is too early to believe "not there": ask then.
    AskAt(Timestamp),
    /// The call of a process that is gone may be in progress until then: nobody else looks before.
    LookAt(Timestamp),
    /// The ERP does not have it, and no automatic attempt is left.
    Park,
}
