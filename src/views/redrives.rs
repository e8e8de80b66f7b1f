//! A redrive, and the orders of one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::money::Money;
use crate::domain::redrive::{ItemStatus, RedriveStatus, RedriveThrottle};
use crate::ports::redrives::{Redrive, RedriveItem};

/// A redrive.
#[derive(Serialize, JsonSchema)]
pub struct RedriveView {
    pub id: String,
    pub status: RedriveStatus,
    #[serde(flatten)]
    pub pace: RedriveThrottle,
    /// The step under way in the ramp, from 0.
    pub step: usize,
    /// Why it stopped automatically.
    pub why: Option<String>,
    pub created_by: String,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub reason: Option<String>,
    /// Orders by status.
    #[schemars(with = "BTreeMap<String, u64>")]
    pub counts: BTreeMap<ItemStatus, u64>,
    /// Orders that are not sent, by reason.
    pub excluded: BTreeMap<String, u64>,
    /// The sums of money of the planned orders.
    pub money: Vec<Money>,
    /// The least time that what is left takes at the rate.
    pub expected_duration_s: Option<u64>,
}

impl RedriveView {
    pub fn of(redrive: &Redrive) -> Self {
        Self {
            expected_duration_s: redrive.expected_duration().map(|time| time.as_secs()),
            id: redrive.id.to_string(),
            status: redrive.status,
            pace: redrive.pace.clone(),
            step: redrive.ramp_at,
            why: redrive.why.clone(),
            created_by: redrive.created_by.clone(),
            created_at: redrive.created_at.to_string(),
            started_at: redrive.started_at.map(|at| at.to_string()),
            ended_at: redrive.ended_at.map(|at| at.to_string()),
            reason: redrive.reason.clone(),
            counts: redrive.counts.clone(),
            excluded: redrive.excluded.clone(),
            money: redrive.money.clone(),
        }
    }
}

impl RedriveView {
    /// Orders with that status.
    pub fn count(&self, status: ItemStatus) -> u64 {
        self.counts.get(&status).copied().unwrap_or(0)
    }

    /// Orders that were planned to be sent.
    pub fn planned(&self) -> u64 {
        self.counts.values().sum::<u64>() - self.count(ItemStatus::Excluded)
    }
}

/// An order of a redrive.
#[derive(Serialize, JsonSchema)]
pub struct ItemView {
    /// Its turn.
    pub seq: u64,
    pub shop: String,
    pub order_id: String,
    /// The revision that was planned.
    pub revision: u32,
    pub status: ItemStatus,
    /// Why it is not sent, or what is unclear.
    pub why: Option<String>,
    pub attempt: Option<u32>,
    pub error_class: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub error_fingerprint: Option<String>,
    pub erp_order_id: Option<String>,
    pub currency: String,
    pub total: String,
    pub at: Option<String>,
}

impl ItemView {
    pub fn of(item: &RedriveItem) -> Self {
        let failure = item.failure.as_ref();
        Self {
            seq: item.seq,
            shop: item.key.shop.to_string(),
            order_id: item.key.order_id.to_string(),
            revision: item.revision,
            status: item.status,
            why: item.why.clone(),
            attempt: item.attempt,
            error_class: failure.map(|f| f.class.as_str().to_owned()),
            error_code: failure.map(|f| f.code.clone()),
            error_message: failure.map(|f| f.message.clone()),
            error_fingerprint: failure.map(|f| f.fingerprint.clone()),
            erp_order_id: item.erp_order_id.clone(),
            currency: item.currency.clone(),
            total: item.total.clone(),
            at: item.at.map(|at| at.to_string()),
        }
    }
}
