//! The circuit watcher: keeps the gates of this process in step with the circuits in the ledger,
//! and begins the trial of an open one when it is due.
//!
//! One process makes the trial, with one order; all others wait for the result. Without a waiting
//! order it fetches one that is held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::circuit::{Circuit, CircuitState};
use crate::domain::lifecycle::vocabulary::Trigger;
use crate::domain::order_filter::ShopFilter;
use crate::domain::retry::later;
use crate::ports::circuits::Circuits;
use crate::ports::clock::Stopwatch;
use crate::ports::orders::{OverdueOrders, Sweep};
use crate::ports::store_error::StoreError;
use crate::telemetry::ErpLabel;
use crate::workers::consume::ReadMode;
use crate::workers::context::WorkerContext;
use crate::workers::erp_gate::{Gate, GateState};

/// How often circuits are checked.
/// How long a trial that has decided nothing waits before it fetches the next order.
const FETCH_AGAIN: Duration = Duration::from_secs(5);
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
    /// When an order was fetched last for the trial of an ERP.
    fetched: Mutex<HashMap<String, Stopwatch>>,
}

impl CircuitWatcher {
    /// A circuit watcher, and the read mode that the submitter's loop obeys.
    pub fn new(
        context: Arc<WorkerContext>,
        ledger: Arc<dyn CircuitWatcherLedger>,
    ) -> (Self, watch::Receiver<ReadMode>) {
        let (read_mode, obeyed) = watch::channel(ReadMode::Full);
        (Self { context, ledger, read_mode, every: EVERY, fetched: Mutex::default() }, obeyed)
    }

    /// Keeps the gates up to date until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
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
        let circuits = self.ledger.circuits().await?;
        let gates = self.context.policies.gates();
        for gate in &gates {
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
            return self.fetch_one(gate, Duration::ZERO).await;
        }
        // Nothing may have been due at that moment, or what was fetched decided nothing.
        let (in_flight, _) = gate.load();
        if in_flight == 0 && self.may_fetch_again(erp) {
            self.fetch_one(gate, FETCH_AGAIN).await?;
        }
        Ok(())
    }

    /// Whether an undecided trial has waited long enough for its next order.
    fn may_fetch_again(&self, erp: &str) -> bool {
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.get(erp).is_none_or(|since| since.elapsed() >= FETCH_AGAIN)
    }

    /// Nudges one held or overdue order, in case none arrives.
    async fn fetch_one(&self, gate: &Arc<Gate>, again_after: Duration) -> Result<(), StoreError> {
        let erp = gate.erp_name().to_owned();
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(erp, Stopwatch::start());
        let policies = &self.context.policies;
        let names = |mine: bool| {
            let shops = policies.shops.iter();
            let of_gate =
                shops.filter(|(_, policy)| (policy.gate.erp_name() == gate.erp_name()) == mine);
            of_gate.map(|(name, _)| name.clone()).collect()
        };
        let is_default = policies.default.gate.erp_name() == gate.erp_name();
        let shops = if is_default {
            ShopFilter::Except(names(false))
        } else {
            ShopFilter::Only(names(true))
        };
        let sweep =
            Sweep { now: self.context.now(), grace: Duration::ZERO, again_after, shops, limit: 1 };
        for order in self.ledger.take_overdue(sweep).await? {
            let trace = order.trace;
            if let Err(error) = self
                .context
                .publisher
                .nudge(&order.key, order.attempt, Trigger::Sweeper, &trace)
                .await
            {
                tracing::debug!(%error, "circuit.nothing_to_try");
            }
        }
        Ok(())
    }
}
