//! Circuits, shared by all workers. Every change depends on the state that it expects, so that exactly one of
//! several workers succeeds.

use async_trait::async_trait;
use jiff::Timestamp;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{CircuitRow, Tables};
use super::values::{stored_text, stored_time};
use crate::domain::circuit::{Circuit, CircuitState};
use crate::domain::order_filter::ShopFilter;
use crate::ports::audit::Act;
use crate::ports::circuits::{CircuitDesk, CircuitTelling, Circuits};
use crate::ports::store_error::StoreError;

#[async_trait]
impl Circuits for MemoryLedger {
    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        self.read(|tables| tables.circuits.values().map(|row| row.circuit.clone()).collect()).await
    }

    async fn open_circuit(
        &self,
        erp: &str,
        reason: &str,
        trial_at: Timestamp,
        telling: Option<&CircuitTelling>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let open = Circuit {
            state: CircuitState::Open,
            reason: Some(stored_text(reason)),
            opened_at: Some(stored_time(now)),
            trial_at: Some(stored_time(trial_at)),
            ..Circuit::closed(erp)
        };
        self.write(|tables| {
            let opened = tables.open_circuit(open);
            if opened && let Some(telling) = telling {
                tables.open_alarm(erp, telling, reason, now);
            }
            Ok(opened)
        })
        .await
    }

    async fn begin_trial(
        &self,
        erp: &str,
        worker: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let begin = |row: &mut CircuitRow| {
                row.circuit.state = CircuitState::HalfOpen;
                row.trial = Some((worker.to_owned(), stored_time(until)));
            };
            Ok(tables.circuits.update_if(&erp.to_owned(), |row| may_try(row, worker, now), begin))
        })
        .await
    }

    async fn fail_trial(
        &self,
        erp: &str,
        worker: &str,
        reason: &str,
        trial_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|tables| {
            let is_theirs = |row: &CircuitRow| {
                row.circuit.state == CircuitState::HalfOpen
                    && row.trial.as_ref().is_some_and(|(tries, _)| tries == worker)
            };
            tables.circuits.update_if(&erp.to_owned(), is_theirs, |row| {
                row.circuit.state = CircuitState::Open;
                row.circuit.reason = Some(stored_text(reason));
                row.circuit.trial_at = Some(stored_time(trial_at));
                row.circuit.trials += 1;
                row.trial = None;
            });
            Ok(())
        })
        .await
    }

    async fn hasten_trial(&self, erp: &str, at: Timestamp) -> Result<(), StoreError> {
        let at = stored_time(at);
        self.write(|tables| {
            let is_later = |row: &CircuitRow| {
                row.circuit.state == CircuitState::Open
                    && row.circuit.trial_at.is_some_and(|trial| trial > at)
            };
            let hasten = |row: &mut CircuitRow| row.circuit.trial_at = Some(at);
            tables.circuits.update_if(&erp.to_owned(), is_later, hasten);
            Ok(())
        })
        .await
    }

    async fn close_circuit(
        &self,
        erp: &str,
        shops: &ShopFilter,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let is_tried = |row: &CircuitRow| row.circuit.state == CircuitState::HalfOpen;
            let closed = CircuitRow { circuit: Circuit::closed(erp), trial: None };
            let closed = tables.circuits.update_if(&erp.to_owned(), is_tried, |row| *row = closed);
            if closed {
                tables.close_alarm(erp, shops, now);
            }
            Ok(closed)
        })
        .await
    }
}

#[async_trait]
impl CircuitDesk for MemoryLedger {
    async fn hold_circuit(&self, erp: &str, reason: &str, act: &Act) -> Result<(), StoreError> {
        self.write(|tables| {
            tables.hold_circuit(erp, reason, act.now);
            tables.write_audit(act, Deed::new("circuit.hold", erp))
        })
        .await
    }

    async fn release_circuit(&self, erp: &str, act: &Act) -> Result<bool, StoreError> {
        self.write(|tables| {
            let is_open = |row: &CircuitRow| row.circuit.state == CircuitState::Open;
            let released = tables.circuits.update_if(&erp.to_owned(), is_open, |row| {
                row.circuit.trial_at = Some(stored_time(act.now));
                row.circuit.trials = 0;
            });
            if released {
                tables.write_audit(act, Deed::new("circuit.release", erp))?;
            }
            Ok(released)
        })
        .await
    }
}

impl Tables {
    fn open_circuit(&mut self, open: Circuit) -> bool {
        let known = self.circuits.get(&open.erp);
        let is_closed = known.is_none_or(|row| row.circuit.state == CircuitState::Closed);
        if is_closed {
            self.circuits.put(open.erp.clone(), CircuitRow { circuit: open, trial: None });
        }
        is_closed
    }

    /// No trial is due until somebody releases it. How long it has been open and how often it was tried stay.
    fn hold_circuit(&mut self, erp: &str, reason: &str, now: Timestamp) {
        let known = self.circuits.get(erp).map(|row| row.circuit.clone());
        let before = known.unwrap_or_else(|| Circuit::closed(erp));
        let circuit = Circuit {
            state: CircuitState::Open,
            reason: Some(stored_text(reason)),
            opened_at: before.opened_at.or(Some(stored_time(now))),
            trial_at: None,
            ..before
        };
        self.circuits.put(erp.to_owned(), CircuitRow { circuit, trial: None });
    }
}

/// Whether that worker may try the ERP: a trial is due, or the one under way is its own or has ended.
fn may_try(row: &CircuitRow, worker: &str, now: Timestamp) -> bool {
    let is_over = |at: Timestamp| at.as_millisecond() <= now.as_millisecond();
    match row.circuit.state {
        CircuitState::Closed => false,
        CircuitState::Open => row.circuit.trial_at.is_some_and(is_over),
        CircuitState::HalfOpen => {
            row.trial.as_ref().is_some_and(|(tries, until)| tries == worker || is_over(*until))
        }
    }
}
