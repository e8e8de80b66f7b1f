//! The gate in front of one ERP: how many calls at the same time, at which rate, and whether at
//! all.
//!
//! Every call to the ERP passes here, live orders before retries. The gate collects the evidence on
//! which the circuit opens; all workers share the state of the circuit through the ledger
//! (`circuit_watcher.rs`), and the gate obeys it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::Clock as RateClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{oneshot, watch};

use crate::domain::circuit::{Advice, Breaker, CircuitRule, Evidence};
use crate::domain::concurrency_limit::ConcurrencyLimit;
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
    /// An order of a redrive.
    Redriven,
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
    /// Of the whole fleet.
    max_in_flight: u32,
    /// Of the whole fleet, in calls per second.
    rate_limit: Option<NonZeroU32>,
    share: Mutex<Share>,
    /// How often the flow changed.
    changes: AtomicU64,
    /// Attempts that are changing the circuit in the ledger.
    deciding: Arc<AtomicU32>,
    turns: Arc<Turns>,
    clock: Stopwatch,
}

/// What this process may do of it.
struct Share {
    /// Processes that send, with this one.
    senders: u32,
    rate: Option<Arc<RateLimit>>,
}

/// Whose turn it is. Shared with every turn that was given, which comes back when it is dropped, wherever that
/// happens.
struct Turns {
    state: Mutex<State>,
    flow: watch::Sender<GateState>,
}

struct State {
    pace: ConcurrencyLimit,
    breaker: Breaker,
    in_flight: u32,
    live: VecDeque<oneshot::Sender<Turn>>,
    later: VecDeque<oneshot::Sender<Turn>>,
    redriven: VecDeque<oneshot::Sender<Turn>>,
    /// In time since the start of the gate.
    paused_until: Duration,
    asking: bool,
}

impl State {
    /// Who waits, in the order in which they pass.
    fn queues(&mut self) -> [&mut VecDeque<oneshot::Sender<Turn>>; 3] {
        [&mut self.live, &mut self.later, &mut self.redriven]
    }
}

/// The share of a rate limit of one of so many senders.
fn rate_among(limit: Option<NonZeroU32>, senders: u32, clock: Stopwatch) -> Option<Arc<RateLimit>> {
    let period = Duration::from_secs(1) * senders / limit?.get();
    // A burst of one: "5 a second" is one every 200 ms, not five at once.
    let quota = Quota::with_period(period)?.allow_burst(NonZeroU32::MIN);
    Some(Arc::new(RateLimiter::direct_with_clock(quota, SinceStart(clock))))
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
            max_in_flight,
            rate_limit,
            share: Mutex::new(Share { senders: 1, rate: rate_among(rate_limit, 1, clock) }),
            changes: AtomicU64::new(0),
            deciding: Arc::default(),
            turns: Arc::new(Turns {
                state: Mutex::new(State {
                    pace: ConcurrencyLimit::new(max_in_flight),
                    breaker: Breaker::default(),
                    in_flight: 0,
                    live: VecDeque::new(),
                    later: VecDeque::new(),
                    redriven: VecDeque::new(),
                    paused_until: Duration::ZERO,
                    asking: false,
                }),
                flow: watch::channel(GateState::Open).0,
            }),
            clock,
        }
    }

    /// So many processes send, with this one: each takes an equal share of the calls in flight, at least one, and
    /// of the rate.
    pub fn share_with(&self, senders: u32) {
        let senders = senders.max(1);
        {
            let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
            if share.senders == senders {
                return;
            }
            *share = Share { senders, rate: rate_among(self.rate_limit, senders, self.clock) };
        }
        let mut state = self.state();
        state.pace.set_max(self.max_in_flight / senders);
        self.turns.call_next(&mut state);
    }

    fn rate(&self) -> Option<Arc<RateLimit>> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner).rate.clone()
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
        self.turns.flow()
    }

    /// An attempt changes the circuit in the ledger until this is dropped.
    pub fn decide(&self) -> Deciding {
        self.deciding.fetch_add(1, Ordering::Relaxed);
        Deciding(self.deciding.clone())
    }

    /// How often the flow changed; `None` while an attempt changes the circuit. What was read from the ledger
    /// before a change, or during one, says nothing about now.
    pub fn changes(&self) -> Option<u64> {
        let is_quiet = self.deciding.load(Ordering::Relaxed) == 0;
        is_quiet.then(|| self.changes.load(Ordering::Relaxed))
    }

    /// Notifies of every change of [`Gate::flow`].
    pub fn watch_flow(&self) -> watch::Receiver<GateState> {
        self.turns.flow.subscribe()
    }

    /// Calls in progress, and their limit.
    pub fn load(&self) -> (u32, u32) {
        let state = self.state();
        (state.in_flight, self.turns.limit(&state))
    }

    /// A turn, if one is free now and nobody waits for it.
    pub fn try_enter(&self) -> Option<Pass> {
        let turn = {
            let mut state = self.state();
            let waits = state.queues().iter().any(|queue| !queue.is_empty());
            let is_paused = state.paused_until > self.clock.elapsed();
            if waits || is_paused || state.in_flight >= self.turns.limit(&state) {
                return None;
            }
            state.in_flight += 1;
            Turn::new(&self.turns)
        };
        let is_in_time = self.rate().is_none_or(|rate| rate.check().is_ok());
        is_in_time.then(|| self.pass(turn))
    }

    /// Whether the ERP wants a pause, or orders go no faster than its rate: a turn may be far away.
    pub fn is_paced(&self) -> bool {
        self.rate().is_some() || self.state().paused_until > self.clock.elapsed()
    }

    /// Waits for a turn; `None` if the circuit is open or opens.
    pub async fn enter(&self, priority: Priority) -> Option<Pass> {
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
                Priority::Redriven => state.redriven.push_back(turn),
            }
            self.turns.call_next(&mut state);
            my_turn
        };
        let turn = tokio::select! {
            biased;
            turn = turn => turn.ok()?,
            _ = flow.wait_for(|flow| *flow == GateState::Stopped) => return None,
        };
        tokio::select! {
            biased;
            () = self.wait_for_pace() => {}
            _ = flow.wait_for(|flow| *flow == GateState::Stopped) => return None,
        }
        (self.flow() != GateState::Stopped).then(|| self.pass(turn))
    }

    fn pass(&self, turn: Turn) -> Pass {
        Pass { is_trial: self.flow() == GateState::Trial, _turn: turn }
    }

    async fn wait_for_pace(&self) {
        loop {
            let pause = self.state().paused_until.saturating_sub(self.clock.elapsed());
            if pause.is_zero() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        // The share may change meanwhile.
        while let Some(Err(early)) = self.rate().map(|rate| rate.check()) {
            tokio::time::sleep(early.wait_time_from(self.clock.elapsed())).await;
        }
    }

    /// The ERP processed an order in `latency`.
    pub fn record_success(&self, latency: Duration) {
        let mut state = self.state();
        state.pace.record_answer(latency);
        state.breaker.record_alive(&self.rule);
        self.turns.call_next(&mut state);
    }

    /// The ERP answered a harmless question.
    pub fn record_answered(&self) {
        let mut state = self.state();
        state.asking = false;
        state.breaker.record_answered();
    }

    /// An attempt failed after `latency`; returns what to do. Only one caller at a time is told to
    /// ask.
    pub fn record_failure(&self, evidence: Evidence<'_>, latency: Duration) -> Advice {
        let failure = evidence.failure;
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
        match state.breaker.record_failure(evidence, &self.rule, self.erp().can_ask()) {
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
        let before = self.turns.flow.send_replace(flow);
        // The caller that was told to ask has finished, or its result is obsolete.
        state.asking = state.asking && flow == GateState::Open && before == GateState::Open;
        if flow == before {
            return;
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
        if flow == GateState::Stopped {
            state.queues().into_iter().for_each(VecDeque::clear);
        } else if before != GateState::Open {
            state.breaker.forget();
            state.pace.restart();
        }
        self.turns.call_next(&mut state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.turns.state()
    }
}

impl Turns {
    fn flow(&self) -> GateState {
        *self.flow.borrow()
    }

    fn limit(&self, state: &State) -> u32 {
        match self.flow() {
            GateState::Stopped => 0,
            GateState::Trial => 1,
            GateState::Open => state.pace.limit(),
        }
    }

    fn call_next(self: &Arc<Self>, state: &mut State) {
        while state.in_flight < self.limit(state) {
            let Some(waiting) = state.queues().into_iter().find_map(VecDeque::pop_front) else {
                return;
            };
            match waiting.send(Turn::new(self)) {
                Ok(()) => state.in_flight += 1,
                // Who waited has left.
                Err(mut turn) => turn.turns = None,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call in flight. It comes back when it is dropped, also by somebody who left while it was being given.
struct Turn {
    turns: Option<Arc<Turns>>,
}

impl Turn {
    fn new(turns: &Arc<Turns>) -> Self {
        Self { turns: Some(turns.clone()) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else { return };
        let mut state = turns.state();
        state.in_flight -= 1;
        turns.call_next(&mut state);
    }
}

/// A change of the circuit that is under way.
pub struct Deciding(Arc<AtomicU32>);

impl Drop for Deciding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to make one call; returned when dropped.
pub struct Pass {
    is_trial: bool,
    _turn: Turn,
}

impl Pass {
    /// Whether this call decides if the circuit closes.
    pub fn is_trial(&self) -> bool {
        self.is_trial
    }
}
