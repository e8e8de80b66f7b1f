//! Claims: who may attempt an order now, and how a claim is given back.

use jiff::Timestamp;

use crate::domain::lifecycle::vocabulary::Trigger;

/// A lease on one attempt: as long as it lives nobody else touches the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The process that took it.
    pub worker: String,
    /// The attempt it was taken for.
    pub attempt: u32,
    /// When it dies; its holder sends nothing any more that would end after this.
    pub until: Timestamp,
}

/// A wish to try an order now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The attempt that is meant; `None`: whichever is next (an order message from checkout).
    pub attempt: Option<u32>,
    /// Who asks.
    pub trigger: Trigger,
}

/// What the caller of [`OrderRecord::admit`] is ready to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Send it now, under a lease.
    Claim {
        /// The process and the delivery it works on: asking twice with the same name is asking
        /// once, should the first answer have got lost.
        worker: String,
        /// When the lease dies.
        until: Timestamp,
    },
    /// Only keep it: the circuit is open.
    Hold,
}

/// What became of a wish to try an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Claimed, and certainly not in the ERP because of us: send it.
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
    /// Kept for when the circuit closes.
    Held,
    /// Another worker has a living lease; the sweeper looks after it should that worker die.
    Busy,
    /// Nothing to do: this attempt was made already, or the order is done.
    Stale,
}

/// Why an order may be in the ERP although nobody saw it take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Something may have been sent whose outcome nobody saw, last at that time. "Not there" counts
    /// only when `erp.settle` has passed since: until then the ERP may still be working on it.
    Unclear {
        /// Nothing can have been sent after this time.
        since: Timestamp,
    },
    /// The last attempt was answered by something in front of the ERP, or by an error in the middle of
    /// its work (500, 502, 504): who knows what it left. "Not there" counts when `erp.settle` has
    /// passed, as the next automatic attempt waits for; a person may be earlier.
    Answered {
        /// When the answer came.
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
    /// The ERP does not have it, and no automatic attempt is left.
    Park,
}
