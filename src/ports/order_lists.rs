//! Lists of orders, a page at a time.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{Mark, OrderFilter, Sort};
use crate::ports::store_error::StoreError;

/// Lists of orders, quick however many there are.
#[async_trait]
pub trait OrderLists: Send + Sync {
    /// Orders that match, after that mark.
    async fn page_orders(
        &self,
        filter: &OrderFilter,
        sort: Sort,
        after: Option<&Mark>,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, StoreError>;
    /// How many orders match.
    async fn count_orders(&self, filter: &OrderFilter) -> Result<u64, StoreError>;
    /// The original documents of orders; unknown orders are left out.
    async fn documents(&self, keys: &[OrderKey]) -> Result<Vec<(OrderKey, Arc<str>)>, StoreError>;
}
