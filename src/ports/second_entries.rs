//! Orders that the ERP has twice, under two numbers: what is known of them, and that a person settled it.

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::ShopFilter;
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// Further numbers that the ERP gave to orders; a receipt adds them (`OrderTransfers::confirm`).
#[async_trait]
pub trait SecondEntries: Send + Sync {
    /// The further numbers of one order, oldest first.
    async fn second_entries(&self, key: &OrderKey) -> Result<Vec<SecondEntry>, StoreError>;
    /// Orders of these shops that the ERP has twice and nobody has settled.
    async fn count_entered_twice(&self, shops: &ShopFilter) -> Result<u64, StoreError>;
    /// A person has dealt with it in the ERP: settles every open one of the order; how many.
    async fn settle_second_entries(&self, key: &OrderKey, act: &Act) -> Result<u64, StoreError>;
}

/// A number that the ERP gave to an order that it had already under another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecondEntry {
    /// The ERP's further number.
    pub number: String,
    /// The number that the ledger had.
    pub first_number: String,
    /// The attempt whose receipt named it.
    pub attempt: u32,
    /// The process that made it.
    pub worker: String,
    /// When it was found.
    #[schemars(with = "String")]
    pub found_at: Timestamp,
    /// Who dealt with it.
    pub settled: Option<Settlement>,
}

/// That a person has dealt with a second entry in the ERP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Settlement {
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// How.
    pub reason: String,
}
