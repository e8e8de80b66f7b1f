//! What the attempts say about the ERP as a whole: asking it, opening its circuit, ending a trial.
//!
//! The rule is in the domain (`domain/circuit.rs`), the evidence in the gate; the result is written
//! to the ledger here, for all workers.

use std::time::Duration;

use crate::domain::circuit::{Advice, Evidence, reason_of};
use crate::domain::failure::{ErrorClass, Failure};
use crate::domain::retry::later;
use crate::ports::circuits::CircuitTelling;
use crate::ports::erp::ProbeAnswer;
use crate::workers::erp_gate::{GateState, Pass};
use crate::workers::submitter::admit::{Submitter, Work};

impl Submitter {
    /// The ERP is there: if this was the trial of an open circuit, it closes.
    pub(super) async fn heard_from(&self, work: &Work, pass: &Pass) {
        if !pass.is_trial() {
            return;
        }
        let (context, gate) = (&self.context, &work.policy.gate);
        let _deciding = gate.decide();
        let shops = context.policies.shops_of_erp(gate.erp_name());
        let closed = context
            .availability
            .retry_until_available(|| {
                self.ledger.close_circuit(gate.erp_name(), &shops, context.now())
            })
            .await;
        match closed {
            Ok(true) => {
                gate.set_flow(GateState::Open);
                tracing::info!(erp = gate.erp_name(), "circuit.closed");
            }
            // A person holds it by now; the circuit watcher obeys.
            Ok(false) => {}
            Err(error) => tracing::error!(%error, erp = gate.erp_name(), "circuit.not_closed"),
        }
    }

    /// Weighs a failure as evidence about the ERP as a whole.
    pub(super) async fn suspect(
        &self,
        work: &Work,
        failure: &Failure,
        latency: Duration,
        pass: &Pass,
    ) {
        let gate = &work.policy.gate;
        if pass.is_trial() {
            match failure.class {
                ErrorClass::Rejected | ErrorClass::Internal => self.heard_from(work, pass).await,
                _ => self.fail_trial(work, failure).await,
            }
            return;
        }
        let evidence = Evidence {
            key: &work.record.key,
            failure,
            failures_before: work.record.fail_count,
            max_count: work.policy.max_count,
        };
        match gate.record_failure(evidence, latency) {
            Advice::CarryOn => {}
            Advice::Open => self.open_circuit(work, failure).await,
            Advice::AskTheErp => match self.ask(work).await {
                ProbeAnswer::Found(_) | ProbeAnswer::Absent => gate.record_answered(),
                ProbeAnswer::Unclear(answer) if answer.class == ErrorClass::Rejected => {
                    gate.record_answered();
                }
                ProbeAnswer::Unclear(answer) => self.open_circuit(work, &answer).await,
            },
        }
    }

    pub(super) async fn open_circuit(&self, work: &Work, failure: &Failure) {
        let (context, gate) = (&self.context, &work.policy.gate);
        let _deciding = gate.decide();
        gate.set_flow(GateState::Stopped);
        let now = context.now();
        let pause = gate.rule().pause_for(failure, 0);
        let reason = reason_of(failure);
        let erp = gate.erp_name();
        let telling = CircuitTelling {
            shop: work.record.key.shop.to_string(),
            damping: work.policy.alarms.damping,
        };
        let opened = context
            .availability
            .retry_until_available(|| {
                self.ledger.open_circuit(erp, &reason, later(now, pause), Some(&telling), now)
            })
            .await;
        match opened {
            Ok(true) => {
                // The ERP's text may contain names: it is in the mail and in `erp circuits`, not in
                // the log.
                tracing::warn!(erp, code = failure.code, "circuit.opened");
                context.publisher.notices_wait();
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, erp, "circuit.not_opened"),
        }
    }

    pub(super) async fn fail_trial(&self, work: &Work, failure: &Failure) {
        let (context, gate) = (&self.context, &work.policy.gate);
        let _deciding = gate.decide();
        gate.set_flow(GateState::Stopped);
        let (erp, reason) = (gate.erp_name(), reason_of(failure));
        let failed = context
            .availability
            .retry_until_available(|| async {
                let circuits = self.ledger.circuits().await?;
                let trials = circuits.iter().find(|c| c.erp == erp).map_or(0, |c| c.trials);
                let at = later(context.now(), gate.rule().pause_for(failure, trials + 1));
                self.ledger.fail_trial(erp, &context.worker, &reason, at).await
            })
            .await;
        match failed {
            Ok(()) => tracing::info!(erp, code = failure.code, "circuit.trial_failed"),
            Err(error) => tracing::error!(%error, erp, "circuit.trial_not_ended"),
        }
    }
}
