//! Transferring an order to the ERP for a person: through the queue to the submitter, like every order, and
//! waiting for its outcome. One code path talks to the ERP.

use std::time::Duration;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{OrderState, Phase, Trigger};
use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::ops::principal::authorize_order;
use crate::ops::refusal::{Refusal, invalid};
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::clock::Stopwatch;
use crate::ports::order_desk::Attempt;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The outcome of a transfer.
#[derive(Debug, Clone)]
pub enum Transferred {
    /// It is in the ERP.
    Done {
        /// The ERP's number.
        erp_order_id: Option<String>,
    },
    /// The ERP's error.
    Failed {
        attempt: Box<Attempt>,
        /// The order now.
        record: Box<OrderRecord>,
    },
    /// Its outcome is unclear: the ERP was asked, and gave no usable answer or does not have it
    /// yet.
    Unclear {
        /// The order now.
        record: Box<OrderRecord>,
    },
    /// It is held: the circuit opened in the meantime.
    Held,
    /// No result in time; it continues automatically.
    StillWaiting,
}

impl Ops {
    /// Transfers one order to the ERP now, whatever its count of failures; one attempt.
    pub async fn transfer(&self, key: &OrderKey, act: &Act) -> Result<Transferred, Refusal> {
        authorize_order(act, Permission::Process, key)?;
        let before = self.record(key).await?;
        if before.phase.state() == OrderState::Confirmed {
            return Err(invalid(&before));
        }
        self.ask_for(&before, act, "order.transfer", Trigger::Operator).await?;
        self.wait_for(&before).await
    }

    /// Nudges the submitter, with an audit row of who requested it.
    pub(super) async fn ask_for(
        &self,
        before: &OrderRecord,
        act: &Act,
        action: &str,
        trigger: Trigger,
    ) -> Result<(), Refusal> {
        self.refuse_when_stopped(before, act).await?;
        self.refuse_when_nobody_reads().await?;
        self.store.audit_order(act, action, &before.key).await?;
        let trace = before.trace.clone();
        let nudge = self.outbound(&trace).nudge(&before.key, before.next_attempt(), trigger);
        self.publish(nudge).await
    }

    /// Waits for what becomes of the attempt that was asked for. Looks at the order's row alone, and at the
    /// attempt once it has ended.
    pub(super) async fn wait_for(&self, before: &OrderRecord) -> Result<Transferred, Refusal> {
        let watch = Stopwatch::start();
        while watch.elapsed() < self.transfer_patience {
            tokio::time::sleep(LOOK_EVERY).await;
            let record = self.record(&before.key).await?;
            if let Phase::Transferred { erp_order_id } = record.phase {
                return Ok(Transferred::Done { erp_order_id });
            }
            if record.last_attempt > before.last_attempt {
                let attempt = self.store.attempt(&record.key, record.last_attempt).await?;
                return Ok(attempt.map_or(Transferred::StillWaiting, |attempt| {
                    Transferred::Failed { attempt: Box::new(attempt), record: Box::new(record) }
                }));
            }
            if record.version > before.version && record.claim.is_none() {
                return Ok(handed_back(record));
            }
        }
        Ok(Transferred::StillWaiting)
    }
}

/// What it means that an order was claimed and handed back without an attempt.
fn handed_back(record: OrderRecord) -> Transferred {
    let in_doubt = record.last_failure.as_ref().is_some_and(|last| last.in_doubt);
    match record.phase {
        Phase::OutcomeUnknown { .. } => Transferred::Unclear { record: Box::new(record) },
        Phase::Retrying { .. } | Phase::Parked if in_doubt => {
            Transferred::Unclear { record: Box::new(record) }
        }
        _ => Transferred::Held,
    }
}
