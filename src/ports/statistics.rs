//! Statistics about orders, kept up to date by the database.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::money::Money;
use crate::domain::order_filter::ShopFilter;
use crate::ports::store_error::StoreError;

/// Statistics that the database keeps up to date. Nothing here counts rows one by one.
#[async_trait]
pub trait Statistics: Send + Sync {
    /// The number of orders by state, in one snapshot.
    async fn tally(&self, shops: &ShopFilter) -> Result<Tally, StoreError>;
    /// What happened since, in buckets of that width; only those in which something happened.
    async fn flow(
        &self,
        shops: &ShopFilter,
        since: Timestamp,
        bucket: Duration,
    ) -> Result<Vec<Flow>, StoreError>;
}

/// Keeps the tables of the statistics small.
#[async_trait]
pub trait StatisticsFolding: Send + Sync {
    /// Adds up what was appended since; changes no result, and is safe if two processes do it.
    async fn fold_statistics(&self, now: Timestamp) -> Result<(), StoreError>;
}

/// The number of orders by state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Orders received, counted when they arrived.
    pub received: u64,
    /// Their states now.
    pub standing: Vec<Standing>,
}

impl Tally {
    /// Orders in that state, and phase if one is named.
    pub fn orders(&self, state: OrderState, phase: Option<&str>) -> u64 {
        let here = self.standing.iter().filter(|s| s.state == state);
        here.filter(|s| phase.is_none_or(|phase| s.phase == phase)).map(|s| s.orders).sum()
    }
}

/// Orders of one state and phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Standing {
    /// The state.
    #[schemars(with = "String")]
    pub state: OrderState,
    /// The phase.
    pub phase: String,
    /// How many.
    pub orders: u64,
    /// Their totals.
    pub money: Vec<Money>,
    /// When the oldest was received; `None` for confirmed ones.
    #[schemars(with = "Option<String>")]
    pub oldest: Option<Timestamp>,
}

/// What happened in one bucket of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Flow {
    /// Its begin.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Orders received.
    pub received: u64,
    /// Orders confirmed.
    pub confirmed: u64,
    /// attempts that failed.
    pub failed: u64,
}
