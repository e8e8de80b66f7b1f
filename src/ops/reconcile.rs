//! What people do about orders whose outcome is unclear: ask the ERP now, or declare the result.
//!
//! A question takes the path of every order, through the queue to the submitter and under a claim:
//! while the ERP is asked, no other worker sends the order.

use crate::domain::lifecycle::vocabulary::{Phase, Trigger};
use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::ports::audit::Act;
use crate::ports::order_desk::OrderDetail;

use super::transfer::Transferred;
use crate::ops::principal::authorize_order;
use crate::ops::refusal::{Refusal, invalid};
use crate::ops::verbs::Ops;

/// The result of asking about an order.
#[derive(Debug, Clone)]
pub enum Reconciled {
    /// It is in the ERP, and confirmed now.
    Found {
        /// The ERP's number.
        erp_order_id: Option<String>,
    },
    /// It was not there, and has been sent.
    Sent(Transferred),
    /// Still unclear.
    Unclear {
        /// What the ERP said.
        said: String,
        /// The order now.
        detail: Box<OrderDetail>,
    },
    /// It is not there, and no automatic attempt is left.
    Parked,
    /// The circuit opened in the meantime.
    Held,
    /// No result in time; it continues automatically.
    StillWaiting,
}

impl Ops {
    /// Asks the ERP about an order with an unknown outcome; what follows is what the sweeper would
    /// have done when the next question was due.
    pub async fn reconcile(&self, key: &OrderKey, act: &Act) -> Result<Reconciled, Refusal> {
        authorize_order(act, Permission::Process, key)?;
        let before = self.record(key).await?;
        if !matches!(before.phase, Phase::OutcomeUnknown { .. }) {
            return Err(invalid(&before));
        }
        self.ask_for(&before, act, "order.reconcile", Trigger::Sweeper).await?;
        let became = self.wait_for(&before).await?;
        let detail = self.detail(key).await?;
        let last = detail.attempts.last();
        Ok(match (became, &detail.record.phase) {
            (Transferred::Done { erp_order_id }, _) if last.is_some_and(|last| last.found) => {
                Reconciled::Found { erp_order_id }
            }
            (done @ (Transferred::Done { .. } | Transferred::Failed { .. }), _) => {
                Reconciled::Sent(done)
            }
            (Transferred::StillWaiting, _) => Reconciled::StillWaiting,
            (_, Phase::Parked) => Reconciled::Parked,
            (Transferred::Unclear { .. }, _) => {
                Reconciled::Unclear { said: last_answer(&detail), detail: Box::new(detail) }
            }
            (Transferred::Held, _) => Reconciled::Held,
        })
    }

    /// A person states that the ERP does not have it. It is sent again, whatever the count is.
    pub async fn declare_absent(&self, key: &OrderKey, act: &Act) -> Result<Transferred, Refusal> {
        authorize_order(act, Permission::Process, key)?;
        let before = self.record(key).await?;
        self.refuse_when_stopped(&before, act).await?;
        self.refuse_when_nobody_reads().await?;
        let declared = self.store.declare_absent(key, act).await?;
        let record = declared.map_err(|invalid| Refusal::Invalid { key: key.clone(), invalid })?;
        // If the process dies here, the order is due and the sweeper publishes it.
        let again = Act { id: self.unique_id(), ..act.clone() };
        self.ask_for(&record, &again, "order.transfer", Trigger::Operator).await?;
        self.wait_for(&record).await
    }
}

/// The last message of the ERP, if there is one.
fn last_answer(detail: &OrderDetail) -> String {
    let mut exchanges = detail.exchanges.iter().map(|stored| &stored.exchange);
    match exchanges.rfind(|exchange| exchange.question) {
        Some(last) => match &last.message {
            Some(message) => format!("{}: {message}", last.meaning),
            None => last.meaning.clone(),
        },
        None => "it was not asked: this recipe has no probe".to_owned(),
    }
}
