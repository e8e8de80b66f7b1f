//! An ERP: send one order, ask about one order.
//!
//! This port answers "did it happen?": a [`Failure`] contains how far the call got, and
//! [`ProbeAnswer::Absent`] is only returned when the ERP itself said so.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::order::values::OrderKey;
use crate::domain::total::Amount;
use crate::domain::trace::Trace;

/// Most exchanges of one attempt that are stored: the first ones and the last ones.
const MAX_EXCHANGES: usize = 60;
const FIRST_EXCHANGES: usize = 20;

/// An order to be sent to the ERP.
#[derive(Debug, Clone)]
pub struct OrderForErp {
    /// Who; also the idempotency key.
    pub key: OrderKey,
    /// The document.
    pub document: Arc<str>,
    /// When it was received.
    pub received_at: Timestamp,
    /// The trace context that checkout sent.
    pub trace: Trace,
    /// Where every exchange about it is recorded.
    pub journal: Journal,
    /// Whether it may be entered.
    pub permit: CommitPermit,
    /// The sum in the ERP that a person has accepted instead of what was paid.
    pub accepted: Option<Amount>,
    /// From when on nothing that an earlier attempt sent can be executed any more; `None`: nothing was sent.
    pub settled_from: Option<Timestamp>,
}

/// Code of the failure of an order that is in the ERP, and whose parts cannot be told from late ones yet: nothing
/// was sent, and it goes on when [`OrderForErp::settled_from`] has come.
pub const NOT_SETTLED: &str = "not_settled";

/// Asked right before the first byte of the request that enters the order: the time for steps before it may have
/// cost the claim, and from then on the order may be in the ERP.
#[derive(Clone, Default)]
pub struct CommitPermit(Option<Arc<dyn CommitGuard>>);

/// Who gives that permit.
#[async_trait]
pub trait CommitGuard: Send + Sync {
    /// Whether the order may be entered now; the ledger knows by then that it has begun.
    async fn begin(&self) -> bool;
}

impl CommitPermit {
    /// A permit that `guard` gives.
    pub fn of(guard: Arc<dyn CommitGuard>) -> Self {
        Self(Some(guard))
    }

    /// Fails if the order must not be entered any more; nothing was sent then.
    pub async fn begin(&self) -> Result<(), Failure> {
        match &self.0 {
            Some(guard) if !guard.begin().await => {
                let why = "another process has taken the order over";
                Err(Failure::new(ErrorClass::Unavailable, "claim_lost", why, Stage::Before))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for CommitPermit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("CommitPermit")
    }
}

/// The ERP has the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The ERP's number of it, if it gave one.
    pub erp_order_id: Option<String>,
    /// Method and address that were called.
    pub request: String,
    /// Status of the answer.
    pub status: u16,
    /// Whether it was found by asking and not sent by this call.
    pub found: bool,
    /// Further values from the ERP; [`Erp::finish`] uses them.
    pub taken: serde_json::Map<String, serde_json::Value>,
}

/// The answer of the ERP about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It is there.
    Found(Receipt),
    /// It is certainly not there now.
    Absent,
    /// No usable answer; the order stays unclear.
    Unclear(Failure),
}

/// What one read-only check of the ERP's master data found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterDataCheck {
    /// What was checked, e.g. `company`.
    pub name: String,
    /// What is wrong, in a sentence with the fix; `None` if nothing is.
    pub fault: Option<String>,
}

/// One request to an ERP and its reply, as it may be stored and shown: without secrets, shortened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Exchange {
    /// Which step of the recipe.
    pub step: String,
    /// Whether it belongs to a question about the order.
    pub question: bool,
    /// Method.
    pub method: String,
    /// Address with its query.
    pub url: String,
    /// Headers that were sent, one `name: value` a line.
    pub request_headers: String,
    /// Body that was sent.
    pub request_body: String,
    /// Status of the answer, if there was one.
    pub status: Option<u16>,
    /// How far the request got.
    pub stage: Stage,
    /// What the answer meant, e.g. `ok`, `absent`, `permanent`.
    pub meaning: String,
    /// The ERP's error text, or ours.
    pub message: Option<String>,
    /// The body of the reply.
    pub reply: String,
    /// How long it took.
    pub duration_ms: u64,
}

/// Exchanges of one attempt, recorded while it runs, so that they are kept if the attempt is
/// aborted.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    noted: Arc<Mutex<Vec<Exchange>>>,
    has_all: bool,
}

impl Journal {
    /// A journal for a person who asks: every exchange is recorded, whatever the settings keep.
    pub fn of_everything() -> Self {
        Self { has_all: true, ..Self::default() }
    }

    /// Whether every exchange is to be recorded.
    pub fn has_all(&self) -> bool {
        self.has_all
    }

    /// Records one.
    pub fn note(&self, exchange: Exchange) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= MAX_EXCHANGES {
            noted.remove(FIRST_EXCHANGES);
        }
        noted.push(exchange);
    }

    /// Takes out what was recorded.
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One ERP. Calls are bounded by [`Erp::call_budget`] and never retried inside.
#[async_trait]
pub trait Erp: Send + Sync {
    /// Sends one order, once; asks its permit right before the request that enters it.
    async fn submit(&self, order: &OrderForErp) -> Result<Receipt, Failure>;
    /// Asks whether it is there. Changes nothing.
    async fn ask(&self, order: &OrderForErp) -> ProbeAnswer;
    /// Runs the remaining steps for an order that was found by asking; none is done twice.
    async fn finish(&self, _order: &OrderForErp, receipt: Receipt) -> Result<Receipt, Failure> {
        Ok(receipt)
    }
    /// Checks what the settings name in the ERP (a company, a price list, rights). Changes nothing. Ends with
    /// the first check that gets no answer.
    async fn check_master_data(&self) -> Vec<MasterDataCheck> {
        Vec::new()
    }
    /// The requests that [`Erp::submit`] would send, without sending any.
    fn rehearse(&self, order: &OrderForErp) -> Result<Vec<Exchange>, Failure>;
    /// Whether [`Erp::submit`] makes requests before the one that enters the order.
    fn has_steps_before(&self) -> bool {
        false
    }
    /// Whether [`Erp::ask`] can answer at all.
    fn can_ask(&self) -> bool;
    /// Why the ERP's total is not compared with what was paid; `None` where it is.
    fn why_totals_are_not_compared(&self) -> Option<String> {
        None
    }
    /// Whether sending an order again creates no second one, so that the ERP need not be asked
    /// first.
    fn is_idempotent(&self) -> bool {
        false
    }
    /// Whether [`Erp::ask`] asks by something that no other order has, so that its answer is about
    /// this order and no other.
    fn tells_shops_apart(&self) -> bool {
        false
    }
    /// Longest time one call can take.
    fn call_budget(&self) -> Duration;
}
