//! Redrives in the ledger: a fixed list of orders, and the status of each.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::failure_summary::FailureSummary;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::money::Money;
use crate::domain::order::values::OrderKey;
use crate::domain::redrive::{
    InvalidRedrive, ItemStatus, RedriveStatus, RedriveThrottle, RedriveVerb, StepTally,
};
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// Redrives as people plan and steer them.
#[async_trait]
pub trait RedriveDesk: Send + Sync {
    /// Stores a plan with its orders and its audit row.
    async fn add_redrive(&self, plan: NewRedrive, act: &Act) -> Result<(), StoreError>;
    async fn redrive(&self, id: Uuid) -> Result<Option<Redrive>, StoreError>;
    /// Redrives, newest first.
    async fn redrives(&self, limit: u32) -> Result<Vec<Redrive>, StoreError>;
    /// Orders of a redrive in their order, those after `after`.
    async fn redrive_items(
        &self,
        id: Uuid,
        status: Option<ItemStatus>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RedriveItem>, StoreError>;
    /// The shops of a redrive's orders, also of those that it leaves out; only of one status, or of all.
    async fn redrive_shops(
        &self,
        id: Uuid,
        status: Option<ItemStatus>,
    ) -> Result<Vec<String>, StoreError>;
    /// Applies a person's request, with an audit row. Waiting orders of `stopped` shops, whose ERP
    /// accepts none now, are left out when it starts or resumes. `None`: there is none.
    async fn change_redrive(
        &self,
        id: Uuid,
        verb: RedriveVerb,
        stopped: &[String],
        act: &Act,
    ) -> Result<Option<Result<Redrive, InvalidRedrive>>, StoreError>;
    /// Changes the rate of a redrive that is not over, with an audit row; `false` when there is none
    /// or it is over.
    async fn set_redrive_rate(
        &self,
        id: Uuid,
        rate_per_minute: Option<u32>,
        act: &Act,
    ) -> Result<bool, StoreError>;
}

/// What the redriver needs to continue after another process died.
#[async_trait]
pub trait RedriveRunner: Send + Sync {
    /// Redrives that the runner has to handle: running, or with unanswered orders.
    async fn open_redrives(&self) -> Result<Vec<Uuid>, StoreError>;
    /// One redrive without the counts of its orders.
    async fn redrive_head(&self, id: Uuid) -> Result<Option<Redrive>, StoreError>;
    /// What is known of the step `wave`.
    async fn redrive_step(&self, id: Uuid, wave: u32) -> Result<StepState, StoreError>;
    /// Orders with that status in their order, each as it is in the ledger now.
    async fn redrive_turns(
        &self,
        id: Uuid,
        status: ItemStatus,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Turn>, StoreError>;
    /// Marks orders that wait as sent in that step, if the redrive is still running as it was
    /// loaded; those that are marked.
    async fn mark_sent(
        &self,
        redrive: &Redrive,
        items: &[SentItem],
        now: Timestamp,
    ) -> Result<Vec<u64>, StoreError>;
    /// Writes the outcome of orders that have status `was`.
    async fn settle_items(
        &self,
        id: Uuid,
        was: ItemStatus,
        items: &[SettledItem],
        now: Timestamp,
    ) -> Result<(), StoreError>;
    /// Begins the next step, if the redrive is still running as it was loaded.
    async fn begin_step(&self, redrive: &Redrive, ramp_at: usize) -> Result<bool, StoreError>;
    /// Ends or stops a running redrive, if it is still as it was loaded.
    async fn end_redrive(
        &self,
        redrive: &Redrive,
        status: RedriveStatus,
        why: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// Which orders a plan is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Those that match a filter, by the names that a list's address has; lost ones unless it names
    /// another state.
    Filter(BTreeMap<String, String>),
    /// These. A stored plan names only the first ones: its items are authoritative.
    Orders(Vec<OrderKey>),
    /// Those whose last failure has this fingerprint.
    Group(String),
    /// Those of another redrive that are still lost: failed, unclear, skipped, left out or waiting.
    FailedOf(Uuid),
}

/// A stored redrive.
#[derive(Debug, Clone, PartialEq)]
pub struct Redrive {
    pub id: Uuid,
    pub status: RedriveStatus,
    /// What it was planned from.
    pub selection: Selection,
    /// The rate and the steps.
    pub pace: RedriveThrottle,
    /// Steps that were begun, also those before a stop.
    pub wave: u32,
    /// Place of the step under way in the ramp, from 0.
    pub ramp_at: usize,
    /// Why it stopped automatically.
    pub why: Option<String>,
    /// Who planned it.
    pub created_by: String,
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Why it was planned.
    pub reason: Option<String>,
    /// Orders by status.
    pub counts: BTreeMap<ItemStatus, u64>,
    /// Orders that are not sent, by reason: left out of the plan, or skipped before they were sent.
    pub excluded: BTreeMap<String, u64>,
    /// The kinds of failure that its orders had when it was planned; another one stops it.
    pub known_fingerprints: Vec<String>,
    /// The sums of money of the planned orders.
    pub money: Vec<Money>,
    /// Rises with every change.
    pub version: i64,
}

impl Redrive {
    /// Orders with that status.
    pub fn count(&self, status: ItemStatus) -> u64 {
        self.counts.get(&status).copied().unwrap_or(0)
    }

    /// Orders that were planned to be sent.
    pub fn planned(&self) -> u64 {
        let all: u64 = self.counts.values().sum();
        all - self.count(ItemStatus::Excluded)
    }

    /// Finished orders of these.
    pub fn settled(&self) -> u64 {
        self.planned() - self.count(ItemStatus::Waiting) - self.count(ItemStatus::Sent)
    }

    /// The least time that what is left takes, when there is a rate.
    pub fn expected_duration(&self) -> Option<Duration> {
        self.pace.expected_duration(self.count(ItemStatus::Waiting))
    }
}

/// A plan to be stored.
#[derive(Debug, Clone)]
pub struct NewRedrive {
    pub id: Uuid,
    /// What it was planned from.
    pub selection: Selection,
    /// The rate and the steps.
    pub pace: RedriveThrottle,
    /// The kinds of failure that its orders have.
    pub known_fingerprints: Vec<String>,
    /// The sums of money of the orders that will be sent.
    pub money: Vec<Money>,
    /// Its orders in the order of their turn, then those that are left out.
    pub items: Vec<RedriveItem>,
}

/// One order of a redrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedriveItem {
    /// Its turn.
    pub seq: u64,
    pub key: OrderKey,
    /// The revision that was planned.
    pub revision: u32,
    pub status: ItemStatus,
    /// Why it is not sent, or what is unclear.
    pub why: Option<String>,
    /// The attempt that was asked for.
    pub attempt: Option<u32>,
    /// How its attempt failed.
    pub failure: Option<FailureSummary>,
    /// The ERP's number.
    pub erp_order_id: Option<String>,
    /// Currency when it was planned.
    pub currency: String,
    /// Total when it was planned.
    pub total: String,
    /// When it was sent or answered last.
    pub at: Option<Timestamp>,
}

/// An order of a redrive with its row in the ledger.
#[derive(Debug, Clone)]
pub struct Turn {
    /// As the redrive knows it.
    pub item: RedriveItem,
    /// The order's version minus its revision when it was sent.
    pub sent_version: i64,
    /// Its row in the ledger; `None`: it does not exist any more.
    pub record: Option<OrderRecord>,
}

/// What is known of the current step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepState {
    pub tally: StepTally,
    /// Orders of the redrive that wait, counted up to [`MANY_WAIT`].
    pub waiting: u64,
    /// The kinds of its failures, each with one of their texts.
    pub failures: Vec<(String, String)>,
}

/// Waiting orders are counted up to this number: enough to fill everything that may be in progress.
pub const MANY_WAIT: u32 = 1_000;

/// An order that is about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentItem {
    /// Its turn.
    pub seq: u64,
    /// The attempt that is asked for.
    pub attempt: u32,
    /// The order's version minus its revision.
    pub sent_version: i64,
}

/// The outcome of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledItem {
    /// Its turn.
    pub seq: u64,
    /// Its status now; `Waiting` removes it from its step, `Sent` only records the time.
    pub status: ItemStatus,
    pub why: Option<String>,
    /// How its attempt failed.
    pub failure: Option<FailureSummary>,
    /// The ERP's number.
    pub erp_order_id: Option<String>,
}

impl SettledItem {
    /// Only a status.
    pub fn new(seq: u64, status: ItemStatus) -> Self {
        Self { seq, status, why: None, failure: None, erp_order_id: None }
    }

    /// A status with its reason.
    pub fn because(seq: u64, status: ItemStatus, why: &str) -> Self {
        Self { why: Some(why.to_owned()), ..Self::new(seq, status) }
    }
}
