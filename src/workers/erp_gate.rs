//! The gate in front of one ERP: how many calls at the same time, at which rate, and whether at
//! all.
//!
//! Every call to the ERP passes here, live orders before retries. The gate collects the evidence on
//! which the circuit opens; all workers share the state of the circuit through the ledger
//! (`circuit_watcher.rs`), and the gate obeys it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::Clock as RateClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{oneshot, watch};

use crate::domain::circuit::{Advice, Breaker, CircuitRule};
use crate::domain::concurrency_limit::ConcurrencyLimit;
use crate::domain::failure::Failure;
use crate::domain::order::values::OrderKey;
use crate::ports::clock::Stopwatch;
use crate::ports::erp::Erp;

/// An ERP that asks for a longer pause than this opens the circuit instead of the gate waiting.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What passes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// An order that was just received, or that a person waits for.
    Live,
    /// A retry, or an overdue order.
    Later,
}

/// What the circuit lets through here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateState {
    /// Everything.
    Open,
    /// One at a time, to test whether the ERP is back.
    Trial,
    /// Nothing.
    Stopped,
}

/// Opens an ERP with the secrets of now; `None` when that is not possible.
pub type Reopen = Box<dyn Fn() -> Option<Arc<dyn Erp>> + Send + Sync>;

type RateLimit = RateLimiter<NotKeyed, InMemoryState, SinceStart, NoOpMiddleware<Duration>>;

/// The rate limiter's clock: the same time by which everything else here waits.
#[derive(Debug, Clone)]
struct SinceStart(Stopwatch);

impl RateClock for SinceStart {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The gate.
pub struct Gate {
    name: String,
    erp: RwLock<Arc<dyn Erp>>,
    reopen: Option<Reopen>,
    rule: CircuitRule,
    rate: Option<RateLimit>,
    state: Mutex<State>,
    flow: watch::Sender<GateState>,
    clock: Stopwatch,
}

struct State {
    pace: ConcurrencyLimit,
    breaker: Breaker,
    in_flight: u32,
    live: VecDeque<oneshot::Sender<()>>,
    later: VecDeque<oneshot::Sender<()>>,
    /// In time since the start of the gate.
    paused_until: Duration,
    asking: bool,
}

impl Gate {
    /// A gate in front of `erp`, open. `rate_limit` is in calls per second.
    pub fn new(
        name: &str,
        erp: Arc<dyn Erp>,
        max_in_flight: u32,
        rate_limit: Option<NonZeroU32>,
        rule: CircuitRule,
    ) -> Self {
        let clock = Stopwatch::start();
        Self {
            name: name.to_owned(),
            erp: RwLock::new(erp),
            reopen: None,
            rule,
            // A burst of one: "5 a second" is one every 200 ms, not five at once.
            rate: rate_limit.map(|rate| {
                let quota = Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
                RateLimiter::direct_with_clock(quota, SinceStart(clock))
            }),
            state: Mutex::new(State {
                pace: ConcurrencyLimit::new(max_in_flight),
                breaker: Breaker::default(),
                in_flight: 0,
                live: VecDeque::new(),
                later: VecDeque::new(),
                paused_until: Duration::ZERO,
                asking: false,
            }),
            flow: watch::channel(GateState::Open).0,
            clock,
        }
    }

    /// The ERP's name in settings, metrics and circuits.
    pub fn erp_name(&self) -> &str {
        &self.name
    }

    /// The same gate, which can reopen its ERP.
    #[must_use]
    pub fn reopened_by(self, reopen: Reopen) -> Self {
        Self { reopen: Some(reopen), ..self }
    }

    /// The ERP behind it; callers must hold a pass.
    pub fn erp(&self) -> Arc<dyn Erp> {
        self.erp.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reopens the ERP: it refused our login and may have other secrets now; if that fails, the old
    /// one stays.
    pub fn reopen(&self) {
        if let Some(erp) = self.reopen.as_ref().and_then(|reopen| reopen()) {
            *self.erp.write().unwrap_or_else(PoisonError::into_inner) = erp;
        }
    }

    /// The rule of its circuit.
    pub fn rule(&self) -> &CircuitRule {
        &self.rule
    }

    /// What the circuit lets through now.
    pub fn flow(&self) -> GateState {
        *self.flow.borrow()
    }

    /// Notifies of every change of [`Gate::flow`].
    pub fn watch_flow(&self) -> watch::Receiver<GateState> {
        self.flow.subscribe()
    }

    /// Calls in progress, and their limit.
    pub fn load(&self) -> (u32, u32) {
        let state = self.state();
        (state.in_flight, self.limit(&state))
    }

    /// Waits for a turn; `None` if the circuit is open or opens.
    pub async fn enter(self: &Arc<Self>, priority: Priority) -> Option<Pass> {
        let mut flow = self.watch_flow();
        let turn = {
            let mut state = self.state();
            if self.flow() == GateState::Stopped {
                return None;
            }
            let (turn, my_turn) = oneshot::channel();
            match priority {
                Priority::Live => state.live.push_back(turn),
                Priority::Later => state.later.push_back(turn),
            }
            self.call_next(&mut state);
            my_turn
        };
        tokio::select! {
            biased;
            turn = turn => turn.ok()?,
            _ = flow.wait_for(|flow| *flow == GateState::Stopped) => return None,
        }
        // From here on we have the turn; it is returned when the pass is dropped.
        let pass = Pass { gate: self.clone(), is_trial: self.flow() == GateState::Trial };
        tokio::select! {
            biased;
            () = self.wait_for_pace() => {}
            _ = flow.wait_for(|flow| *flow == GateState::Stopped) => return None,
        }
        (self.flow() != GateState::Stopped).then_some(pass)
    }

    async fn wait_for_pace(&self) {
        loop {
            let pause = self.state().paused_until.saturating_sub(self.clock.elapsed());
            if pause.is_zero() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        if let Some(rate) = &self.rate {
            while let Err(early) = rate.check() {
                tokio::time::sleep(early.wait_time_from(self.clock.elapsed())).await;
            }
        }
    }

    /// The ERP processed an order in `latency`.
    pub fn record_success(&self, latency: Duration) {
        let mut state = self.state();
        state.pace.record_answer(latency);
        state.breaker.record_alive();
        self.call_next(&mut state);
    }

    /// The ERP answered a harmless question.
    pub fn record_answered(&self) {
        let mut state = self.state();
        state.asking = false;
        state.breaker.record_answered();
    }

    /// An attempt failed after `latency`; returns what to do. Only one caller at a time is told to
    /// ask.
    pub fn record_failure(&self, key: &OrderKey, failure: &Failure, latency: Duration) -> Advice {
        let mut state = self.state();
        if failure.is_outage() {
            state.pace.record_outage();
        } else {
            state.pace.record_answer(latency);
        }
        if let Some(wait) = failure.retry_after {
            let until = self.clock.elapsed() + wait.min(LONGEST_WAIT);
            state.paused_until = state.paused_until.max(until);
            if wait > LONGEST_WAIT {
                return Advice::Open;
            }
        }
        match state.breaker.record_failure(key, failure, &self.rule, self.erp().can_ask()) {
            Advice::AskTheErp if state.asking => Advice::CarryOn,
            Advice::AskTheErp => {
                state.asking = true;
                Advice::AskTheErp
            }
            advice => advice,
        }
    }

    /// Obeys the circuit. All callers that wait at a stopped gate are released.
    pub fn set_flow(&self, flow: GateState) {
        let mut state = self.state();
        let before = self.flow.send_replace(flow);
        // The caller that was told to ask has finished, or its result is obsolete.
        state.asking = state.asking && flow == GateState::Open && before == GateState::Open;
        if flow == before {
            return;
        }
        if flow == GateState::Stopped {
            state.live.clear();
            state.later.clear();
        } else if before != GateState::Open {
            state.breaker.record_alive();
            state.pace.restart();
        }
        self.call_next(&mut state);
    }

    fn limit(&self, state: &State) -> u32 {
        match self.flow() {
            GateState::Stopped => 0,
            GateState::Trial => 1,
            GateState::Open => state.pace.limit(),
        }
    }

    fn call_next(&self, state: &mut State) {
        while state.in_flight < self.limit(state) {
            let Some(turn) = state.live.pop_front().or_else(|| state.later.pop_front()) else {
                return;
            };
            if turn.send(()).is_ok() {
                state.in_flight += 1;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make one call; returned when dropped.
pub struct Pass {
    gate: Arc<Gate>,
    is_trial: bool,
}

impl Pass {
    /// Whether this call decides if the circuit closes.
    pub fn is_trial(&self) -> bool {
        self.is_trial
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.in_flight -= 1;
        self.gate.call_next(&mut state);
    }
}
