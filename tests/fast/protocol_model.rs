//! The protocol of one order as a small model, checked in every state that it can reach: claim, ask, send,
//! settle, with two workers, a sweeper, an ERP that executes late or never, answers that get lost, crashes and
//! processes that stop for any time between two steps or are thought dead while they work.
//!
//! The model checks two promises: the ERP gets an order at most once though it offers no key, and
//! every order ends in the ERP unless somebody still has to act. [`Rules`] are the protocol's; each
//! test that breaks one shows the double entry which that rule prevents. The assumptions, and so
//! the remaining risk, are those of README, "Limits":
//!
//! 1. an ERP executes a request within `LATE` ticks or never (`erp.settle` is at least that long);
//! 2. between the check of the claim and the first byte, and while the bytes are written, a process does not
//!    stop for longer than the rest of its lease (`Rules::stops_before_first_byte` takes this away);
//! 3. time is the ledger's: one clock that never runs backwards.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model, Property};

/// Ticks until a request that was sent is executed at the latest.
const LATE: u8 = 2;
/// Ticks that a claim lasts.
const LEASE: u8 = 2;
/// Ticks that the whole run lasts: three attempts with their settling.
const END: u8 = 9;
const WORKERS: usize = 2;
const MOST_REQUESTS: usize = 3;

/// The rules of the protocol, each of which can be broken.
#[derive(Clone, Copy)]
struct Rules {
    /// Ticks that "not there" does not count after an unclear send.
    settle: u8,
    /// Whether a dead claim means "ask first".
    asks_after_dead_claim: bool,
    /// Whether the claim is checked again right before the first byte.
    checks_before_send: bool,
    /// Whether a renewal takes effect only while the claim still holds.
    renews_only_live: bool,
    /// Whether the ERP is asked for other things before the order is entered, so that a claim does not mean that
    /// it may have been sent.
    has_steps: bool,
    /// Whether a process may stop between that check and the first byte.
    stops_before_first_byte: bool,
    /// Whether the ledger hears, and agrees, before what was claimed for steps is sent.
    begins_in_the_ledger: bool,
    /// Whether "not there" about what a process that is thought dead had begun counts from the end of its lease.
    waits_for_the_lease: bool,
}

const KEPT: Rules = Rules {
    settle: LATE + 1,
    asks_after_dead_claim: true,
    checks_before_send: true,
    renews_only_live: true,
    has_steps: false,
    stops_before_first_byte: false,
    begins_in_the_ledger: true,
    waits_for_the_lease: true,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Open,
    Confirmed,
}

/// The order's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    phase: Phase,
    claim: Option<Claim>,
    /// Since when an outcome is unclear.
    unclear_since: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Claim {
    worker: usize,
    until: u8,
    /// Whether it may have been sent.
    begun: bool,
}

/// What one process does with the order now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    /// Holds a claim until then, has yet to ask or to send.
    Claimed {
        until: u8,
        must_ask: bool,
        begun: bool,
    },
    /// Asks the database for a longer claim; `until` was computed before the call.
    Renewing {
        until: u8,
        begun: bool,
    },
    /// Has checked its claim and will write the first byte now.
    Sending,
    /// Waits for the answer of this request.
    Waiting {
        request: usize,
    },
    /// Knows that the ERP has the order.
    Accepted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Request {
    UnderWay { sent_at: u8 },
    Executed,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: u8,
    row: Row,
    workers: [Worker; WORKERS],
    requests: Vec<Request>,
}

impl State {
    fn entered(&self) -> usize {
        self.requests.iter().filter(|request| **request == Request::Executed).count()
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Tick,
    /// A message reaches a worker: placed, retried, swept or delivered twice, it is the same.
    Admit(usize),
    Ask(usize),
    BeginRenewal(usize),
    EndRenewal(usize),
    Check(usize),
    Send(usize),
    Execute(usize),
    Lose(usize),
    Answer(usize),
    GiveUpWaiting(usize),
    Confirm(usize),
    Crash(usize),
    /// The sweeper ends the claim of a process that it thinks dead, rightly or not.
    Abandon,
}

struct Protocol(Rules);

impl Protocol {
    /// A worker takes the order's claim, or finds that another one has it.
    fn admit(&self, state: &mut State, worker: usize) -> bool {
        if state.row.phase == Phase::Confirmed {
            return false;
        }
        if let Some(claim) = state.row.claim {
            if claim.until > state.now {
                return false;
            }
            if self.0.asks_after_dead_claim && claim.begun {
                state.row.unclear_since = state.row.unclear_since.max(Some(claim.until));
            }
        }
        let until = state.now + LEASE;
        let must_ask = state.row.unclear_since.is_some();
        let begun = !self.0.has_steps && !must_ask;
        state.row.claim = Some(Claim { worker, until, begun });
        state.workers[worker] = Worker::Claimed { until, must_ask, begun };
        true
    }

    fn abandon(&self, state: &mut State) -> bool {
        let now = state.now;
        let Some(claim) = state.row.claim.as_mut().filter(|claim| claim.until > now) else {
            return false;
        };
        if claim.begun {
            let since = if self.0.waits_for_the_lease { claim.until } else { now };
            state.row.unclear_since = state.row.unclear_since.max(Some(since));
        }
        claim.until = now;
        true
    }

    /// The ERP says whether it has the order; "not there" counts once the unclear send has settled.
    fn ask(&self, state: &mut State, worker: usize) {
        if state.entered() > 0 {
            state.workers[worker] = Worker::Accepted;
            return;
        }
        let settled = state.row.unclear_since.is_none_or(|at| state.now >= at + self.0.settle);
        state.workers[worker] = match state.workers[worker] {
            Worker::Claimed { until, begun, .. } if settled => {
                Worker::Claimed { until, must_ask: false, begun }
            }
            _ => {
                self.release(state, worker);
                Worker::Idle
            }
        };
    }

    fn release(&self, state: &mut State, worker: usize) {
        if state.row.claim.is_some_and(|claim| claim.worker == worker) {
            state.row.claim = None;
        }
    }

    /// A renewal that was asked for at `until - LEASE` reaches the database now.
    fn end_renewal(&self, state: &mut State, worker: usize, until: u8, begun: bool) {
        if !holds(state, worker, self.0.renews_only_live) {
            state.workers[worker] = Worker::Idle;
            return;
        }
        // The broken protocol uses the end that it computed before the call, even if it is in the
        // past.
        let until = if self.0.renews_only_live { state.now + LEASE } else { until };
        state.row.claim = Some(Claim { worker, until, begun });
        state.workers[worker] = match self.0.renews_only_live {
            true => Worker::Claimed { until, must_ask: false, begun },
            false => Worker::Sending,
        };
    }

    /// What is sent at once knows the end of its claim; what is sent after steps asks the ledger.
    fn may_send(&self, state: &mut State, worker: usize) -> bool {
        let Worker::Claimed { until, begun, .. } = state.workers[worker] else { return false };
        if begun || !self.0.begins_in_the_ledger {
            return until > state.now || !self.0.checks_before_send;
        }
        let may_begin = holds(state, worker, true) || !self.0.checks_before_send;
        if may_begin {
            state.row.claim = Some(Claim { worker, until: state.now + LEASE, begun: true });
        }
        may_begin
    }
}

/// Whether the ledger knows a claim of this worker, live or not.
fn holds(state: &State, worker: usize, live: bool) -> bool {
    let is_its = |claim: Claim| claim.worker == worker && (!live || claim.until > state.now);
    state.row.claim.is_some_and(is_its)
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            row: Row { phase: Phase::Open, claim: None, unclear_since: None },
            workers: [Worker::Idle, Worker::Idle],
            requests: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // The check and the first byte are one step unless processes may stop between them.
        let is_sending = state.workers.iter().position(|worker| *worker == Worker::Sending);
        if let Some(worker) = is_sending
            && !self.0.stops_before_first_byte
        {
            actions.push(Action::Send(worker));
            return;
        }
        if state.now < END {
            actions.push(Action::Tick);
        }
        for (worker, doing) in state.workers.iter().enumerate() {
            match doing {
                Worker::Idle => actions.push(Action::Admit(worker)),
                Worker::Claimed { must_ask: true, .. } => actions.push(Action::Ask(worker)),
                Worker::Claimed { must_ask: false, .. } => {
                    actions.push(Action::Check(worker));
                    actions.push(Action::BeginRenewal(worker));
                }
                Worker::Renewing { .. } => actions.push(Action::EndRenewal(worker)),
                Worker::Sending => actions.push(Action::Send(worker)),
                Worker::Waiting { request } => {
                    if state.requests[*request] == Request::Executed {
                        actions.push(Action::Answer(worker));
                    }
                    actions.push(Action::GiveUpWaiting(worker));
                }
                Worker::Accepted => actions.push(Action::Confirm(worker)),
            }
            if *doing != Worker::Idle {
                actions.push(Action::Crash(worker));
            }
        }
        if state.row.claim.is_some_and(|claim| claim.until > state.now) {
            actions.push(Action::Abandon);
        }
        for (request, how) in state.requests.iter().enumerate() {
            if let Request::UnderWay { sent_at } = how {
                actions.push(Action::Lose(request));
                if state.now <= sent_at + LATE {
                    actions.push(Action::Execute(request));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => {
                state.now += 1;
                // A request that was not executed in time never is.
                for request in &mut state.requests {
                    if matches!(request, Request::UnderWay { sent_at } if state.now > *sent_at + LATE)
                    {
                        *request = Request::Lost;
                    }
                }
            }
            Action::Admit(worker) => {
                if !self.admit(&mut state, worker) {
                    return None;
                }
            }
            Action::Abandon => {
                if !self.abandon(&mut state) {
                    return None;
                }
            }
            Action::Ask(worker) => self.ask(&mut state, worker),
            Action::BeginRenewal(worker) => {
                let Worker::Claimed { begun, .. } = state.workers[worker] else { return None };
                state.workers[worker] = Worker::Renewing { until: state.now + LEASE, begun };
            }
            Action::EndRenewal(worker) => {
                let Worker::Renewing { until, begun } = state.workers[worker] else { return None };
                self.end_renewal(&mut state, worker, until, begun);
            }
            Action::Check(worker) => {
                state.workers[worker] = match self.may_send(&mut state, worker) {
                    true => Worker::Sending,
                    false => Worker::Idle,
                };
            }
            Action::Send(worker) => {
                if state.requests.len() == MOST_REQUESTS {
                    return None;
                }
                state.requests.push(Request::UnderWay { sent_at: state.now });
                state.workers[worker] = Worker::Waiting { request: state.requests.len() - 1 };
            }
            Action::Execute(request) => state.requests[request] = Request::Executed,
            Action::Lose(request) => state.requests[request] = Request::Lost,
            Action::Answer(worker) => state.workers[worker] = Worker::Accepted,
            Action::GiveUpWaiting(worker) => {
                // A time-out after the send: unclear, counted, and the claim goes back.
                let now = state.now;
                state.row.unclear_since = state.row.unclear_since.max(Some(now));
                self.release(&mut state, worker);
                state.workers[worker] = Worker::Idle;
            }
            Action::Confirm(worker) => {
                state.row.phase = Phase::Confirmed;
                state.row.claim = None;
                state.workers[worker] = Worker::Idle;
            }
            Action::Crash(worker) => state.workers[worker] = Worker::Idle,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("entered at most once", |_, state: &State| state.entered() <= 1),
            Property::always("confirmed means entered", |_, state: &State| {
                state.row.phase == Phase::Open || state.entered() > 0
            }),
            Property::always(
                "an open order can be taken again",
                |protocol: &Protocol, state: &State| {
                    // Nothing but a live claim keeps the next worker from it, and claims end.
                    let mut later = state.clone();
                    later.now += LEASE;
                    later.row.phase == Phase::Confirmed || protocol.admit(&mut later, 0)
                },
            ),
            Property::sometimes("confirmed after a lost answer", |_, state: &State| {
                state.row.phase == Phase::Confirmed && state.row.unclear_since.is_some()
            }),
            Property::sometimes("sent again after a lost request", |_, state: &State| {
                state.row.phase == Phase::Confirmed && state.requests.contains(&Request::Lost)
            }),
        ]
    }
}

/// Names of the properties that do not hold.
fn broken(rules: Rules) -> BTreeSet<&'static str> {
    let first = HasDiscoveries::AnyFailures;
    let checker = Protocol(rules).checker().threads(1).finish_when(first).spawn_bfs().join();
    let found = checker.discoveries();
    let always = |name: &&str| {
        !matches!(*name, "confirmed after a lost answer" | "sent again after a lost request")
    };
    found.into_keys().filter(always).collect()
}

#[test]
fn no_order_is_entered_twice_and_none_is_lost_in_any_state_of_the_protocol() {
    for has_steps in [false, true] {
        let protocol = Protocol(Rules { has_steps, ..KEPT });
        let checker = protocol.checker().threads(1).spawn_bfs().join();
        checker.assert_properties();
        // A model with hardly any behaviour proves nothing.
        assert!(checker.unique_state_count() > 10_000, "{}", checker.unique_state_count());
    }
}

/// A rule that is broken lets an order be entered twice.
macro_rules! needed {
    ($($name:ident: $($field:ident = $value:expr),+;)*) => {$(
        #[test]
        fn $name() {
            let found = broken(Rules { $($field: $value,)+ ..KEPT });
            assert_eq!(found, BTreeSet::from(["entered at most once"]));
        }
    )*};
}

needed! {
    without_a_question_after_a_dead_claim_an_order_is_entered_twice: asks_after_dead_claim = false;
    without_time_to_settle_an_order_is_entered_twice: settle = 0;
    without_a_look_at_the_claim_before_the_send_an_order_is_entered_twice: checks_before_send = false;
    a_renewal_that_ends_in_the_past_enters_an_order_twice: renews_only_live = false;
    a_process_that_begins_without_the_ledger_enters_an_order_twice: has_steps = true, begins_in_the_ledger = false;
    a_process_that_is_thought_dead_may_be_in_a_call: waits_for_the_lease = false;
    a_stop_before_the_first_byte_is_the_window_that_is_left: stops_before_first_byte = true;
}
