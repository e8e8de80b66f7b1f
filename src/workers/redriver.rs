//! The redriver: runs redrives, step by step (docs/architecture.md, "The life of a redrive").
//!
//! Every decision depends only on the ledger, so that after a crash another process continues: an
//! order is marked as sent before its message is published, a message that is published twice asks
//! for the same attempt and is stale the second time, and whether an attempt was made is read from
//! the order itself. One process at a time is active.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::crash::{CrashPoint, reach};
use crate::domain::circuit::{Circuit, CircuitState};
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::Phase;
use crate::domain::order::values::OrderKey;
use crate::domain::redrive::{
    Exclusion, ItemOutcome, ItemStatus, Meter, RedriveStatus, item_outcome, sent_version_of,
};
use crate::domain::retry::later;
use crate::domain::trace::Trace;
use crate::ports::circuits::Circuits;
use crate::ports::clock::Stopwatch;
use crate::ports::order_desk::OrderRecords;
use crate::ports::redrives::{Redrive, RedriveRunner, SentItem, SettledItem, StepState, Turn};
use crate::ports::store_error::StoreError;
use crate::ports::workers::Leases;
use crate::workers::context::WorkerContext;

/// Pause between two checks while a redrive is open, and while none is.
const BUSY: Duration = Duration::from_millis(200);
const IDLE: Duration = Duration::from_millis(500);
/// Most orders that are sent and not answered: a live order does not wait behind thousands.
const MAX_IN_FLIGHT: u32 = 500;
/// Nudges published at once.
const NUDGES_AT_ONCE: usize = 100;
/// How long the lease of this process lasts without renewal.
const LEASE: Duration = Duration::from_secs(4);
const RENEW_AFTER: Duration = Duration::from_secs(1);
/// An order that no worker has started for this long is nudged again.
const NUDGE_AGAIN_AFTER: Duration = Duration::from_secs(30);

crate::combined_port! {
    /// What the redriver asks of the ledger.
    pub trait RedriverLedger: RedriveRunner, OrderRecords, Leases, Circuits
}

/// Runs beside the sweeper.
pub struct Redriver {
    context: Arc<WorkerContext>,
    ledger: Arc<dyn RedriverLedger>,
}

/// What this process keeps in memory between two checks; only the ledger is authoritative.
#[derive(Default)]
struct Memory {
    led_since: Option<Stopwatch>,
    courses: HashMap<Uuid, Course>,
}

/// One running redrive.
struct Course {
    meter: Meter,
    rate_per_minute: Option<u32>,
    /// Whether this process has checked its orders: messages of a process before it may be lost.
    is_known: bool,
}

/// An attempt that is requested from the submitter.
struct Nudge {
    key: OrderKey,
    attempt: u32,
    trace: Trace,
}

impl Nudge {
    fn new(record: &OrderRecord, attempt: u32) -> Self {
        let trace = record.trace.clone();
        Self { key: record.key.clone(), attempt, trace }
    }
}

impl Redriver {
    /// A worker over `context`.
    pub fn new(context: Arc<WorkerContext>, ledger: Arc<dyn RedriverLedger>) -> Self {
        Self { context, ledger }
    }

    /// Runs redrives until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let (watch, mut memory) = (Stopwatch::start(), Memory::default());
        while !stop.is_cancelled() {
            let is_open = match self.round(&mut memory, &watch).await {
                Ok(is_open) => is_open,
                Err(error) => {
                    if error.is_unavailable() {
                        tracing::debug!(%error, "redriver.skipped");
                    } else {
                        tracing::error!(%error, "redriver.failed");
                    }
                    true
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(if is_open { BUSY } else { IDLE }) => {}
            }
        }
    }

    /// Checks every open redrive; returns whether there is one.
    async fn round(&self, memory: &mut Memory, watch: &Stopwatch) -> Result<bool, StoreError> {
        let open = self.ledger.open_redrives().await?;
        memory.courses.retain(|id, _| open.contains(id));
        if open.is_empty() {
            return Ok(false);
        }
        if !self.leads(memory).await? {
            memory.courses.clear();
            return Ok(true);
        }
        for id in open {
            if let Some(redrive) = self.ledger.redrive_head(id).await? {
                let course = memory.courses.entry(id).or_insert_with(|| Course {
                    meter: Meter::default(),
                    rate_per_minute: redrive.pace.rate_per_minute,
                    is_known: false,
                });
                self.advance(&redrive, course, watch).await?;
            }
        }
        Ok(true)
    }

    async fn leads(&self, memory: &mut Memory) -> Result<bool, StoreError> {
        if memory.led_since.is_some_and(|since| since.elapsed() < RENEW_AFTER) {
            return Ok(true);
        }
        let (context, now) = (&self.context, self.context.now());
        let asked = Stopwatch::start();
        let leads =
            self.ledger.acquire_lease("redriver", &context.worker, later(now, LEASE), now).await?;
        memory.led_since = leads.then_some(asked);
        Ok(leads)
    }

    /// Answers first, then the rules, then the next orders.
    async fn advance(
        &self,
        redrive: &Redrive,
        course: &mut Course,
        watch: &Stopwatch,
    ) -> Result<(), StoreError> {
        let circuits = self.ledger.circuits().await?;
        let held_back = self.settle_sent(redrive, course, &circuits).await?;
        course.is_known = true;
        if redrive.status != RedriveStatus::Running {
            return Ok(());
        }
        let step = self.ledger.redrive_step(redrive.id, redrive.wave).await?;
        if let Some(why) = held_back.or_else(|| why_to_stop(redrive, &step)) {
            return self.halt(redrive, &why).await;
        }
        if step.waiting == 0 && step.tally.sent == 0 {
            return self.end(redrive).await;
        }
        let begun = step.tally.begun();
        let size = redrive.pace.step_size(redrive.ramp_at, u64::MAX);
        if begun >= size {
            if step.tally.sent == 0 {
                let next = redrive.ramp_at + 1;
                tracing::info!(redrive = %redrive.id, step = next + 1, "redrive.step");
                self.ledger.begin_step(redrive, next).await?;
            }
            return Ok(());
        }
        // A half-open circuit waits for a trial: one of our orders is enough, and not more.
        let is_trial = circuits.iter().any(|circuit| circuit.state == CircuitState::HalfOpen);
        let at_once = if is_trial { 1 } else { u64::from(MAX_IN_FLIGHT) };
        let room = (size - begun).min(at_once.saturating_sub(step.tally.sent));
        if course.rate_per_minute != redrive.pace.rate_per_minute {
            course.rate_per_minute = redrive.pace.rate_per_minute;
            course.meter.restart();
        }
        let allowed = course.meter.allow(
            watch.elapsed(),
            redrive.pace.rate_per_minute,
            room.min(step.waiting),
        );
        self.send(redrive, allowed, &circuits).await
    }

    /// The outcomes of the orders that were sent; the reason to stop, if their ERP is stopped.
    async fn settle_sent(
        &self,
        redrive: &Redrive,
        course: &Course,
        circuits: &[Circuit],
    ) -> Result<Option<String>, StoreError> {
        let context = &self.context;
        let now = context.now();
        let turns =
            self.ledger.redrive_turns(redrive.id, ItemStatus::Sent, None, MAX_IN_FLIGHT).await?;
        let is_running = redrive.status == RedriveStatus::Running;
        // Whoever leads may change every few seconds while the broker is slow; it keeps what it has confirmed.
        let may_be_lost = !course.is_known && !context.broker.is_durable();
        let (mut settled, mut again, mut why) = (Vec::new(), Vec::new(), None);
        for turn in &turns {
            let seq = turn.item.seq;
            let (Some(record), Some(attempt)) = (&turn.record, turn.item.attempt) else {
                settled.push(skipped(seq, Exclusion::UnknownOrder));
                continue;
            };
            match item_outcome(record, attempt, turn.sent_version, now) {
                ItemOutcome::UnderWay => {}
                outcome @ (ItemOutcome::Untouched | ItemOutcome::GivenBack) => {
                    let stopped = self.stopped(record, circuits);
                    let is_late = is_late(turn, now);
                    let comes_back = stopped.is_some()
                        || outcome == ItemOutcome::GivenBack
                        || is_late && !is_running;
                    why = why.or(stopped);
                    if comes_back {
                        settled.push(SettledItem::new(seq, ItemStatus::Waiting));
                    } else if is_running && (is_late || may_be_lost) {
                        settled.push(SettledItem::new(seq, ItemStatus::Sent));
                        again.push(Nudge::new(record, attempt));
                    }
                }
                outcome => settled.push(answered(seq, record, outcome)),
            }
        }
        self.ledger.settle_items(redrive.id, ItemStatus::Sent, &settled, now).await?;
        if !settled.is_empty() {
            reach(CrashPoint::RedriveSettled);
        }
        self.nudge_all(redrive.id, again).await;
        Ok(why.filter(|_| is_running))
    }

    /// Sends the next orders that can still be sent; the others are skipped.
    async fn send(
        &self,
        redrive: &Redrive,
        allowed: u64,
        circuits: &[Circuit],
    ) -> Result<(), StoreError> {
        if allowed == 0 {
            return Ok(());
        }
        let store = &self.ledger;
        let turns =
            store.redrive_turns(redrive.id, ItemStatus::Waiting, None, MAX_IN_FLIGHT).await?;
        let (mut passed, mut sent, mut stopped) = (Vec::new(), Vec::new(), None);
        let mut nudges = HashMap::new();
        for turn in &turns {
            if sent.len() as u64 >= allowed {
                break;
            }
            let seq = turn.item.seq;
            let Some(record) = &turn.record else {
                passed.push(skipped(seq, Exclusion::UnknownOrder));
                continue;
            };
            if let Some(why) = Exclusion::of_planned(record, turn.item.revision) {
                passed.push(not_sent(turn, record, why));
                continue;
            }
            if let Some(why) = self.stopped(record, circuits) {
                stopped = Some(why);
                break;
            }
            let attempt = record.next_attempt();
            sent.push(SentItem { seq, attempt, sent_version: sent_version_of(record) });
            nudges.insert(seq, Nudge::new(record, attempt));
        }
        let now = self.context.now();
        store.settle_items(redrive.id, ItemStatus::Waiting, &passed, now).await?;
        if !sent.is_empty() {
            let marked = store.mark_sent(redrive, &sent, now).await?;
            if !marked.is_empty() {
                reach(CrashPoint::RedriveMarked);
            }
            let marked = marked.iter().filter_map(|seq| nudges.remove(seq)).collect();
            self.nudge_all(redrive.id, marked).await;
        }
        match stopped {
            Some(why) => self.halt(redrive, &why).await,
            None => Ok(()),
        }
    }

    /// Publishes the requests for attempts. A lost one is published again later.
    async fn nudge_all(&self, id: Uuid, orders: Vec<Nudge>) {
        let context = &self.context;
        let nudges = stream::iter(orders).map(|nudge| async move {
            context.publisher.nudge_for_redrive(&nudge.key, nudge.attempt, id, &nudge.trace).await
        });
        let mut nudges = nudges.buffer_unordered(NUDGES_AT_ONCE);
        while let Some(nudged) = nudges.next().await {
            if let Err(error) = nudged {
                tracing::debug!(%error, "redriver.not_published");
            }
        }
    }

    /// Why the ERP of an order accepts nothing now.
    fn stopped(&self, record: &OrderRecord, circuits: &[Circuit]) -> Option<String> {
        let policy = self.context.policies.of(&record.key.shop);
        let erp = policy.gate.erp_name();
        let is_open =
            |circuit: &&Circuit| circuit.erp == erp && circuit.state == CircuitState::Open;
        let circuit = circuits.iter().find(is_open)?;
        let reason = circuit.reason.as_deref().unwrap_or("no reason known");
        Some(format!("ERP {erp} is stopped: {reason}"))
    }

    async fn halt(&self, redrive: &Redrive, why: &str) -> Result<(), StoreError> {
        let now = self.context.now();
        let status = RedriveStatus::Stopped;
        if self.ledger.end_redrive(redrive, status, Some(why), now).await? {
            // The reason may be the ERP's own text: it is in `redrive show`, not in the log.
            tracing::warn!(redrive = %redrive.id, "redrive.stopped");
        }
        Ok(())
    }

    async fn end(&self, redrive: &Redrive) -> Result<(), StoreError> {
        let now = self.context.now();
        if self.ledger.end_redrive(redrive, RedriveStatus::Done, None, now).await? {
            tracing::info!(redrive = %redrive.id, "redrive.done");
        }
        Ok(())
    }
}

/// The rules that stop a redrive automatically, from durable data only.
fn why_to_stop(redrive: &Redrive, step: &StepState) -> Option<String> {
    let is_new = |kind: &&(String, String)| !redrive.known_fingerprints.contains(&kind.0);
    if let Some((fingerprint, message)) = step.failures.iter().find(is_new) {
        return Some(format!(
            "a failure of a new group, {fingerprint}, that no planned order had: {message}"
        ));
    }
    let size = redrive.pace.step_size(redrive.ramp_at, step.tally.begun() + step.waiting);
    step.tally.too_many_failed(size, redrive.pace.stop_percent)
}

fn is_late(turn: &Turn, now: Timestamp) -> bool {
    turn.item.at.is_none_or(|at| now >= later(at, NUDGE_AGAIN_AFTER))
}

fn skipped(seq: u64, why: Exclusion) -> SettledItem {
    SettledItem::because(seq, ItemStatus::Skipped, why.as_str())
}

/// An order that cannot be sent any more when its turn comes. One that was sent before a stop may
/// have been transferred after it.
fn not_sent(turn: &Turn, record: &OrderRecord, why: Exclusion) -> SettledItem {
    match (&record.phase, turn.item.attempt) {
        (Phase::Transferred { erp_order_id }, Some(_)) => SettledItem {
            erp_order_id: erp_order_id.clone(),
            ..SettledItem::new(turn.item.seq, ItemStatus::Transferred)
        },
        _ => skipped(turn.item.seq, why),
    }
}

fn answered(seq: u64, record: &OrderRecord, outcome: ItemOutcome) -> SettledItem {
    let failure = record.last_failure.as_ref().map(|last| last.summary.clone());
    match outcome {
        ItemOutcome::Transferred { erp_order_id } => {
            SettledItem { erp_order_id, ..SettledItem::new(seq, ItemStatus::Transferred) }
        }
        ItemOutcome::Removed => skipped(seq, Exclusion::Removed),
        ItemOutcome::Failed => SettledItem { failure, ..SettledItem::new(seq, ItemStatus::Failed) },
        _ => SettledItem {
            failure,
            ..SettledItem::because(
                seq,
                ItemStatus::Unclear,
                "the ERP may have it: it is asked before anything is sent again",
            )
        },
    }
}
