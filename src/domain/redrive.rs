//! The rules of a redrive: many lost orders, transferred in steps that grow while the ERP accepts
//! them.
//!
//! A plan is a fixed list. The runner (`workers::redriver`) sends a step, waits until every order
//! of it is answered, and begins the next. This file has the allowed transitions, the size of a
//! step, the rules that stop a redrive, the rate, and the outcome of an order.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{OrderState, Phase};

/// The default steps; the rest is the last step.
pub const DEFAULT_RAMP: [u32; 4] = [1, 5, 20, 100];
/// Percentage of a step that may fail, by default.
pub const DEFAULT_STOP_PERCENT: u32 = 10;
/// Most orders in one plan.
pub const MAX_ORDERS: u32 = 100_000;
/// Most steps in a ramp.
const MAX_STEPS: usize = 20;
/// Fastest rate per minute.
const MAX_RATE: u32 = 60_000;
/// Answers after which the share of failures in a large step is significant.
const ENOUGH_ANSWERS: u64 = 100;
/// The longest delay of the runner that is caught up.
const MAX_CATCH_UP: Duration = Duration::from_secs(1);

/// The status of a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedriveStatus {
    /// Planned, nothing was sent.
    Planned,
    /// Orders are sent.
    Running,
    /// A person paused it.
    Paused,
    /// It stopped automatically.
    Stopped,
    /// Nothing is left to be sent.
    Done,
    /// A person ended it.
    Cancelled,
}

/// What a person can do to a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedriveVerb {
    /// Begin.
    Start,
    /// Pause.
    Pause,
    /// Resume.
    Resume,
    /// End.
    Cancel,
}

/// Why a redrive was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a redrive that is {} cannot be {}", .status.as_str(), .verb.done())]
pub struct InvalidRedrive {
    /// Its status.
    pub status: RedriveStatus,
    /// What was asked for.
    pub verb: RedriveVerb,
}

impl RedriveVerb {
    /// The name in the audit.
    pub fn action(self) -> &'static str {
        match self {
            Self::Start => "redrive.start",
            Self::Pause => "redrive.pause",
            Self::Resume => "redrive.resume",
            Self::Cancel => "redrive.cancel",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Cancel => "cancelled",
        }
    }
}

crate::names!(RedriveStatus {
    Planned = "planned",
    Running = "running",
    Paused = "paused",
    Stopped = "stopped",
    Done = "done",
    Cancelled = "cancelled",
});

impl RedriveStatus {
    /// Whether it is final.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }

    /// The status after `verb`.
    pub fn after(self, verb: RedriveVerb) -> Result<Self, InvalidRedrive> {
        match (verb, self) {
            (RedriveVerb::Start, Self::Planned)
            | (RedriveVerb::Resume, Self::Paused | Self::Stopped) => Ok(Self::Running),
            (RedriveVerb::Pause, Self::Running) => Ok(Self::Paused),
            (RedriveVerb::Cancel, status) if !status.is_over() => Ok(Self::Cancelled),
            _ => Err(InvalidRedrive { status: self, verb }),
        }
    }
}

/// The status of one order of a redrive.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// Not sent yet.
    Waiting,
    /// Its attempt was requested; the answer is pending.
    Sent,
    /// In the ERP.
    Transferred,
    /// The attempt failed.
    Failed,
    /// Unknown: the ERP is asked first.
    Unclear,
    /// It was planned, but could not be sent any more when its turn came.
    Skipped,
    /// It was left out of the plan.
    Excluded,
}

crate::names!(ItemStatus {
    Waiting = "waiting",
    Sent = "sent",
    Transferred = "transferred",
    Failed = "failed",
    Unclear = "unclear",
    Skipped = "skipped",
    Excluded = "excluded",
});

/// Why an order is not sent by a redrive.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// It is already in the ERP.
    Confirmed,
    /// A person removed it from the list.
    Removed,
    /// It was edited after the plan was made.
    NewerRevision,
    /// The ERP may have it: the ERP is asked first.
    OutcomeUnknown,
    /// Its ERP is stopped.
    CircuitOpen,
    /// It never failed: it is queued or held, and is sent automatically.
    Held,
    /// It is being transferred right now.
    InProgress,
    /// The ledger has no such order.
    UnknownOrder,
}

crate::names!(Exclusion {
    Confirmed = "confirmed",
    Removed = "removed",
    NewerRevision = "newer_revision",
    OutcomeUnknown = "outcome_unknown",
    CircuitOpen = "circuit_open",
    Held = "held",
    InProgress = "in_progress",
    UnknownOrder = "unknown_order",
});

impl Exclusion {
    /// Why an order is not sent now; `None`: it is a lost order that can be sent.
    pub fn of(record: &OrderRecord) -> Option<Self> {
        match &record.phase {
            Phase::Transferred { .. } => Some(Self::Confirmed),
            Phase::Removed => Some(Self::Removed),
            Phase::Queued | Phase::Held => Some(Self::Held),
            Phase::OutcomeUnknown { .. } => Some(Self::OutcomeUnknown),
            Phase::Retrying { .. } | Phase::Parked if record.claim.is_some() => {
                Some(Self::InProgress)
            }
            Phase::Retrying { .. } | Phase::Parked => {
                record.unclear_since.map(|_| Self::OutcomeUnknown)
            }
        }
    }

    /// The same for an order that was planned with that revision.
    pub fn of_planned(record: &OrderRecord, revision: u32) -> Option<Self> {
        let newer = (record.revision != revision).then_some(Self::NewerRevision);
        match Self::of(record) {
            None => newer,
            settled => settled,
        }
    }
}

/// The rate and the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RedriveThrottle {
    /// Orders per minute; none: as fast as the ERP answers.
    #[serde(default)]
    pub rate_per_minute: Option<u32>,
    /// Sizes of the steps; the rest is the last step.
    #[serde(default = "default_ramp")]
    pub ramp: Vec<u32>,
    /// Percent of a step that may fail; a step of one stops at any failure.
    #[serde(default = "default_stop_percent")]
    pub stop_percent: u32,
}

fn default_ramp() -> Vec<u32> {
    DEFAULT_RAMP.to_vec()
}

fn default_stop_percent() -> u32 {
    DEFAULT_STOP_PERCENT
}

impl Default for RedriveThrottle {
    fn default() -> Self {
        Self { rate_per_minute: None, ramp: default_ramp(), stop_percent: DEFAULT_STOP_PERCENT }
    }
}

impl RedriveThrottle {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        check_rate(self.rate_per_minute)?;
        if self.ramp.len() > MAX_STEPS || self.ramp.iter().any(|n| !(1..=MAX_ORDERS).contains(n)) {
            return Err(format!(
                "a ramp has at most {MAX_STEPS} steps of 1 to {MAX_ORDERS} orders"
            ));
        }
        if !(1..=100).contains(&self.stop_percent) {
            return Err("the share that may fail is 1 to 100 percent".to_owned());
        }
        Ok(())
    }

    /// How many orders the step at `ramp_at` has when `left` are to be sent.
    pub fn step_size(&self, ramp_at: usize, left: u64) -> u64 {
        self.ramp.get(ramp_at).map_or(left, |size| u64::from(*size).min(left))
    }

    /// The sizes of all steps for that many orders.
    pub fn steps(&self, orders: u64) -> Vec<u64> {
        let (mut left, mut steps) = (orders, Vec::new());
        while left > 0 {
            let size = self.step_size(steps.len(), left);
            steps.push(size);
            left -= size;
        }
        steps
    }

    /// The least time that many orders take at this rate; `None` without one.
    pub fn expected_duration(&self, orders: u64) -> Option<Duration> {
        let gaps = u32::try_from(orders.saturating_sub(1)).unwrap_or(u32::MAX);
        Some(interval(self.rate_per_minute?).saturating_mul(gaps))
    }
}

/// Whether the rate is allowed; otherwise a sentence.
pub fn check_rate(rate_per_minute: Option<u32>) -> Result<(), String> {
    match rate_per_minute {
        Some(rate) if !(1..=MAX_RATE).contains(&rate) => {
            Err(format!("a rate is 1 to {MAX_RATE} orders a minute"))
        }
        _ => Ok(()),
    }
}

fn interval(rate_per_minute: u32) -> Duration {
    Duration::from_mins(1) / rate_per_minute.max(1)
}

/// What is known of the current step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepTally {
    /// Orders that are in the ERP now.
    pub transferred: u64,
    /// Orders whose attempt failed, or whose outcome is unclear.
    pub failed: u64,
    /// Orders that were sent and not answered yet.
    pub sent: u64,
}

impl StepTally {
    /// Orders that the step has so far.
    pub fn begun(&self) -> u64 {
        self.transferred + self.failed + self.sent
    }

    /// Why the redrive has to stop, when too many of a step of `size` orders failed.
    ///
    /// It is evaluated after every answer. In a step of up to 100 the share is that of the whole
    /// step, so that it stops as soon as no pending answer could bring it below; in a larger one
    /// the first 100 answers are used in the same way.
    pub fn too_many_failed(&self, size: u64, stop_percent: u32) -> Option<String> {
        if self.failed == 0 {
            return None;
        }
        if size <= 1 {
            return Some("the first order of the ramp failed".to_owned());
        }
        let answered = self.transferred + self.failed;
        let of = answered.max(size.min(ENOUGH_ANSWERS));
        (self.failed * 100 > u64::from(stop_percent) * of).then(|| {
            let failed = self.failed;
            format!("{failed} of {answered} answered orders of a step of {size} failed, more than {stop_percent} %")
        })
    }
}

/// Releases orders at a rate, without a burst after a pause.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    due: Option<Duration>,
}

impl Meter {
    /// How many of `wanted` may be sent at `now`, on any monotonic clock.
    pub fn allow(&mut self, now: Duration, rate_per_minute: Option<u32>, wanted: u64) -> u64 {
        let Some(rate) = rate_per_minute else {
            self.due = None;
            return wanted;
        };
        let earliest = now.saturating_sub(MAX_CATCH_UP);
        let mut due = self.due.map_or(now, |due| due.max(earliest));
        let mut allowed = 0;
        while due <= now && allowed < wanted {
            due += interval(rate);
            allowed += 1;
        }
        self.due = Some(due);
        allowed
    }

    /// Applies a new rate from now on.
    pub fn restart(&mut self) {
        self.due = None;
    }
}

/// The outcome of an order that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemOutcome {
    /// Not known yet; no worker has started it.
    Untouched,
    /// It is being transferred right now.
    UnderWay,
    /// It was started and handed back without an attempt.
    GivenBack,
    /// In the ERP.
    Transferred {
        /// The ERP's number.
        erp_order_id: Option<String>,
    },
    /// The attempt failed; the order's last failure says how.
    Failed,
    /// Unknown.
    Unclear,
    /// A person removed it from the list.
    Removed,
}

/// The outcome of attempt `attempt`, requested when the order's version minus its revision was
/// `sent_version`: editing an order does not mean that it was started.
pub fn item_outcome(
    record: &OrderRecord,
    attempt: u32,
    sent_version: i64,
    now: Timestamp,
) -> ItemOutcome {
    if let Phase::Transferred { erp_order_id } = &record.phase {
        return ItemOutcome::Transferred { erp_order_id: erp_order_id.clone() };
    }
    if record.phase == Phase::Removed {
        return ItemOutcome::Removed;
    }
    if record.claim.as_ref().is_some_and(|claim| claim.until > now) {
        return ItemOutcome::UnderWay;
    }
    if matches!(record.phase, Phase::OutcomeUnknown { .. }) {
        return ItemOutcome::Unclear;
    }
    if record.last_attempt >= attempt && record.phase.state() == OrderState::OrderedFailed {
        return ItemOutcome::Failed;
    }
    if record.claim.is_some() {
        // Its worker died during the attempt: the sweeper lets the ERP be asked.
        return ItemOutcome::UnderWay;
    }
    match sent_version_of(record) > sent_version {
        true if record.may_be_there() => ItemOutcome::Unclear,
        true => ItemOutcome::GivenBack,
        false => ItemOutcome::Untouched,
    }
}

/// How often a worker has changed the order.
pub fn sent_version_of(record: &OrderRecord) -> i64 {
    record.version - i64::from(record.revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tally(transferred: u64, failed: u64) -> StepTally {
        StepTally { transferred, failed, sent: 0 }
    }

    #[test]
    fn the_canary_stops_at_any_failure() {
        assert!(tally(0, 1).too_many_failed(1, 100).is_some());
        assert!(tally(1, 0).too_many_failed(1, 1).is_none());
    }

    #[test]
    fn a_step_stops_as_soon_as_its_share_of_failures_is_certain_to_be_passed() {
        assert!(tally(0, 2).too_many_failed(20, 10).is_none(), "2 of 20 are 10 %");
        assert!(tally(0, 3).too_many_failed(20, 10).is_some());
        assert!(tally(0, 10).too_many_failed(4_000, 10).is_none());
        assert!(tally(0, 11).too_many_failed(4_000, 10).is_some(), "not after 400 failures");
        assert!(tally(900, 100).too_many_failed(4_000, 10).is_none());
        assert!(tally(899, 101).too_many_failed(4_000, 10).is_some());
    }

    #[test]
    fn each_verb_leads_only_where_it_may() {
        use RedriveStatus as S;
        use RedriveVerb as V;
        let arrows = [
            (V::Start, vec![S::Planned]),
            (V::Pause, vec![S::Running]),
            (V::Resume, vec![S::Paused, S::Stopped]),
            (V::Cancel, vec![S::Planned, S::Running, S::Paused, S::Stopped]),
        ];
        for (verb, from) in arrows {
            for status in S::ALL {
                assert_eq!(
                    status.after(verb).is_ok(),
                    from.contains(&status),
                    "{verb:?} {status:?}"
                );
            }
        }
        let refused = S::Done.after(V::Resume).unwrap_err();
        assert_eq!(refused.to_string(), "a redrive that is done cannot be resumed");
    }

    #[test]
    fn a_pace_is_checked_and_its_time_is_known() {
        let slow = RedriveThrottle { rate_per_minute: Some(60), ..RedriveThrottle::default() };
        assert_eq!(slow.expected_duration(301), Some(Duration::from_mins(5)));
        assert_eq!(RedriveThrottle::default().expected_duration(301), None);
        assert!(
            RedriveThrottle { rate_per_minute: Some(0), ..RedriveThrottle::default() }
                .check()
                .is_err()
        );
        assert!(RedriveThrottle { ramp: vec![0], ..RedriveThrottle::default() }.check().is_err());
        assert!(
            RedriveThrottle { stop_percent: 101, ..RedriveThrottle::default() }.check().is_err()
        );
        assert_eq!(RedriveThrottle::default().steps(300), [1, 5, 20, 100, 174]);
        assert_eq!(RedriveThrottle::default().steps(4), [1, 3]);
    }

    proptest! {
        #[test]
        fn the_steps_are_all_orders(
            ramp in prop::collection::vec(1u32..500, 0..10), orders in 0u64..10_000,
        ) {
            let pace = RedriveThrottle { ramp, ..RedriveThrottle::default() };
            let steps = pace.steps(orders);
            prop_assert_eq!(steps.iter().sum::<u64>(), orders);
            prop_assert!(steps.iter().all(|size| *size > 0));
        }

        #[test]
        fn never_more_go_than_the_rate_allows_however_the_runner_is_delayed(
            rate in 1u32..5_000, pauses in prop::collection::vec(1u64..30_000, 1..200),
        ) {
            let (mut meter, mut now) = (Meter::default(), Duration::ZERO);
            let mut went: Vec<(Duration, u64)> = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                went.push((now, meter.allow(now, Some(rate), 1_000_000)));
            }
            for (from, (begin, _)) in went.iter().enumerate() {
                let mut sum = 0;
                for (end, count) in &went[from..] {
                    sum += count;
                    let window = (*end - *begin + MAX_CATCH_UP).as_secs_f64();
                    let most = window * f64::from(rate) / 60.0 + 2.0;
                    #[allow(clippy::cast_precision_loss, reason = "a small count")]
                    let sum = sum as f64;
                    prop_assert!(sum <= most, "{sum} in {window} s at {rate} a minute");
                }
            }
        }

        #[test]
        fn a_rate_is_reached_when_the_runner_is_in_time(rate in 1u32..3_000) {
            let (mut meter, mut sum) = (Meter::default(), 0);
            for tick in 0..=240u64 {
                sum += meter.allow(Duration::from_millis(tick * 250), Some(rate), 1_000);
            }
            prop_assert!(sum >= u64::from(rate) && sum <= u64::from(rate) + 2, "{sum} of {rate}");
        }
    }
}
