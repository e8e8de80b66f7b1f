//! The circuit watcher: keeps the gates of this process in step with the circuits in the ledger,
//! and begins the trial of an open one when it is due.
//!
//! One process makes the trial, one order after the other until one decides; all others wait for the result.
//! It hands the orders to its own submitter, because a message could reach a process that must not send.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::circuit::{Circuit, CircuitState};
use crate::domain::retry::later;
use crate::ports::circuits::Circuits;
use crate::ports::clock::Stopwatch;
use crate::ports::orders::{Overdue, OverdueOrders, Sweep};
use crate::ports::store_error::StoreError;
use crate::telemetry::ErpLabel;
use crate::workers::consume::ReadMode;
use crate::workers::context::WorkerContext;
use crate::workers::erp_gate::{Gate, GateState};
use crate::workers::submitter::admit::Submitter;

/// How long a trial that has decided nothing waits before it fetches the next order.
const FETCH_AGAIN: Duration = Duration::from_secs(5);
/// Orders that may decide nothing before the trial is left to another process: they are held by people or sent
/// by others, or this process cannot send.
const UNDECIDED_ORDERS: u32 = 6;
/// Orders of trials that wait for the one before.
const MOST_ORDERS: usize = 16;
/// How often circuits are checked.
const EVERY: Duration = Duration::from_millis(500);
/// How much longer than the calls themselves a trial may take.
const TRIAL_MARGIN: Duration = Duration::from_secs(15);

crate::combined_port! {
    /// What the circuit watcher asks of the ledger.
    pub trait CircuitWatcherLedger: Circuits, OverdueOrders
}

/// Watches the circuits for the submitter of this process.
pub struct CircuitWatcher {
    context: Arc<WorkerContext>,
    ledger: Arc<dyn CircuitWatcherLedger>,
    read_mode: watch::Sender<ReadMode>,
    every: Duration,
    submitter: Arc<Submitter>,
    /// By ERP.
    trials: Mutex<HashMap<String, Trial>>,
    /// Orders of trials, on their way to the submitter.
    orders: mpsc::Sender<Overdue>,
    attempted: tokio::sync::Mutex<mpsc::Receiver<Overdue>>,
}

/// A trial of this process that has decided nothing yet.
#[derive(Clone, Copy)]
struct Trial {
    since: Stopwatch,
    fetched: Stopwatch,
    /// Orders that were fetched for it.
    orders: u32,
}

impl CircuitWatcher {
    /// A circuit watcher, and the read mode that the submitter's loop obeys.
    pub fn new(
        context: Arc<WorkerContext>,
        ledger: Arc<dyn CircuitWatcherLedger>,
        submitter: Arc<Submitter>,
    ) -> (Self, watch::Receiver<ReadMode>) {
        let (read_mode, obeyed) = watch::channel(ReadMode::Full);
        let (orders, attempted) = mpsc::channel(MOST_ORDERS);
        let watcher = Self {
            context,
            ledger,
            read_mode,
            every: EVERY,
            submitter,
            trials: Mutex::default(),
            orders,
            attempted: tokio::sync::Mutex::new(attempted),
        };
        (watcher, obeyed)
    }

    /// Keeps the gates up to date until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::join!(self.watch(&stop), self.attempt(&stop));
    }

    async fn watch(&self, stop: &CancellationToken) {
        loop {
            if let Err(error) = self.round().await {
                tracing::debug!(%error, "circuit_watcher.skipped");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    /// Attempts the orders of trials; one that has begun is finished.
    async fn attempt(&self, stop: &CancellationToken) {
        let mut orders = self.attempted.lock().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(order) = orders.recv() => self.submitter.attempt_overdue(order).await,
            }
        }
    }

    /// A process that has just started may have other secrets than the one whose login was refused:
    /// such a circuit gets a trial at once. To be called once, before the first
    /// [`CircuitWatcher::round`].
    pub async fn welcome_new_secrets(&self) -> Result<(), StoreError> {
        let store = &self.ledger;
        for circuit in store.circuits().await? {
            if circuit.state == CircuitState::Open && circuit.is_login_refused() {
                store.hasten_trial(&circuit.erp, self.context.now()).await?;
            }
        }
        Ok(())
    }

    /// Obeys every circuit once. Called before the first order is taken, so that a process that
    /// starts during an outage does not begin with a burst.
    pub async fn round(&self) -> Result<(), StoreError> {
        let gates = self.context.policies.gates();
        let changes: Vec<Option<u64>> = gates.iter().map(|gate| gate.changes()).collect();
        let circuits = self.ledger.circuits().await?;
        for (gate, changes) in gates.iter().zip(changes) {
            if changes.is_none() || gate.changes() != changes {
                // An attempt opens or closes the circuit, or has done so since it was read.
                continue;
            }
            let circuit = circuits.iter().find(|circuit| circuit.erp == gate.erp_name());
            let state = circuit.map_or(CircuitState::Closed, |circuit| circuit.state);
            match circuit {
                Some(circuit) if state != CircuitState::Closed => self.obey(gate, circuit).await?,
                _ => gate.set_flow(GateState::Open),
            }
            let erp = ErpLabel::new(gate.erp_name());
            self.context.metrics.circuit_state.get_or_create(&erp).set(state as i64);
        }
        let flows: Vec<GateState> = gates.iter().map(|gate| gate.flow()).collect();
        let read_mode = if flows.contains(&GateState::Open) {
            ReadMode::Full
        } else if flows.contains(&GateState::Trial) {
            ReadMode::One
        } else {
            ReadMode::None
        };
        self.read_mode.send_if_modified(|now| std::mem::replace(now, read_mode) != read_mode);
        Ok(())
    }

    /// A circuit that is not closed: wait, or acquire the trial.
    async fn obey(&self, gate: &Arc<Gate>, circuit: &Circuit) -> Result<(), StoreError> {
        let now = self.context.now();
        let is_due = match circuit.state {
            CircuitState::Open => circuit.trial_at.is_some_and(|at| at <= now),
            // Our own trial, or one of another process that may have died.
            _ => true,
        };
        if !is_due {
            gate.set_flow(GateState::Stopped);
            return Ok(());
        }
        let until = later(now, gate.erp().call_budget() * 2 + TRIAL_MARGIN);
        let (erp, worker) = (gate.erp_name(), &self.context.worker);
        if !self.ledger.begin_trial(erp, worker, until, now).await? {
            gate.set_flow(GateState::Stopped);
            return Ok(());
        }
        if gate.flow() != GateState::Trial {
            tracing::info!(erp, "circuit.trial");
            if circuit.is_login_refused() {
                gate.reopen();
            }
            gate.set_flow(GateState::Trial);
            let now = Stopwatch::start();
            self.trials().insert(erp.to_owned(), Trial { since: now, fetched: now, orders: 0 });
            return self.fetch_one(gate).await;
        }
        // Nothing may have been due at that moment, or what was fetched decided nothing.
        let (in_flight, _) = gate.load();
        let trial = self.trials().get(erp).copied();
        match trial {
            Some(trial) if in_flight > 0 || trial.fetched.elapsed() < FETCH_AGAIN => Ok(()),
            Some(trial) if trial.orders >= UNDECIDED_ORDERS => self.give_up(gate, circuit).await,
            _ => self.fetch_one(gate).await,
        }
    }

    fn trials(&self) -> MutexGuard<'_, HashMap<String, Trial>> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves an undecided trial to another process, or to a later one of ours.
    async fn give_up(&self, gate: &Gate, circuit: &Circuit) -> Result<(), StoreError> {
        gate.set_flow(GateState::Stopped);
        let erp = gate.erp_name();
        self.trials().remove(erp);
        tracing::info!(erp, "circuit.trial_undecided");
        let reason = circuit.reason.as_deref().unwrap_or_default();
        let at = later(self.context.now(), FETCH_AGAIN);
        self.ledger.fail_trial(erp, &self.context.worker, reason, at).await
    }

    /// Attempts one order that is held or overdue, in case none arrives: each order once in a trial, and those
    /// that never failed first.
    async fn fetch_one(&self, gate: &Arc<Gate>) -> Result<(), StoreError> {
        let erp = gate.erp_name();
        let again_after = {
            let mut trials = self.trials();
            let now = Stopwatch::start();
            let trial = trials.entry(erp.to_owned());
            let trial = trial.or_insert(Trial { since: now, fetched: now, orders: 0 });
            trial.fetched = now;
            trial.since.elapsed()
        };
        let sweep = Sweep {
            now: self.context.now(),
            grace: Duration::ZERO,
            again_after,
            shops: self.context.policies.shops_of_erp(erp),
            fresh_first: true,
            limit: 1,
        };
        for order in self.ledger.take_overdue(sweep).await? {
            if let Some(trial) = self.trials().get_mut(erp) {
                trial.orders += 1;
            }
            if self.orders.try_send(order).is_err() {
                tracing::debug!(erp, "circuit.trial_is_late");
            }
        }
        Ok(())
    }
}
