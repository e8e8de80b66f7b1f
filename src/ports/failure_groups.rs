//! Lost orders by the kind of their failure.

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::money::Money;
use crate::domain::order_filter::ShopFilter;
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// Lost orders that failed in the same way are one group.
#[async_trait]
pub trait FailureGroups: Send + Sync {
    /// Groups of lost orders, those with most orders first; or one group, also when none of its
    /// orders is lost any more.
    async fn failure_groups(
        &self,
        shops: &ShopFilter,
        fingerprint: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Group>, StoreError>;
    /// Stores a note about a group; `false` when there is none of that fingerprint.
    async fn note_group(
        &self,
        fingerprint: &str,
        note: Option<&str>,
        runbook: Option<&str>,
        act: &Act,
    ) -> Result<bool, StoreError>;
}

/// Most groups that are returned.
pub const MAX_GROUPS: u32 = 1_000;

/// Lost orders with the same kind of failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Group {
    /// What they share.
    pub fingerprint: String,
    /// Error class.
    pub class: String,
    /// Error code.
    pub code: String,
    /// The message of one of them.
    pub message: String,
    /// Orders that are lost now.
    pub orders: u64,
    /// Their totals.
    pub money: Vec<Money>,
    /// Their shops.
    pub shops: Vec<String>,
    /// When an order failed so for the first time.
    #[schemars(with = "String")]
    pub first_seen: Timestamp,
    /// And the last.
    #[schemars(with = "String")]
    pub last_seen: Timestamp,
    /// Failed attempts in each of the last 24 hours, oldest first.
    pub failures: Vec<u64>,
    /// Whether it was first seen within 24 hours.
    pub is_new: bool,
    /// What people wrote about it.
    pub note: Option<String>,
    /// Where it says what to do.
    pub runbook: Option<String>,
    /// Who wrote it.
    pub noted_by: Option<String>,
    /// When.
    #[schemars(with = "Option<String>")]
    pub noted_at: Option<Timestamp>,
}
