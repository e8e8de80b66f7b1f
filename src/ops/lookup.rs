//! Finding orders: by number, one with everything that happened to it, or many.

use std::sync::Arc;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{MAX_PAGE, Mark, OrderFilter, Sort};
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::order_desk::OrderDetail;

impl Ops {
    /// The order that `text` means: `ORDER_ID` if only one shop has it, else `SHOP/ORDER_ID`.
    pub async fn find(&self, text: &str) -> Result<OrderKey, Refusal> {
        if let Some((shop, order_id)) = text.split_once('/')
            && let Ok(key) = OrderKey::new(shop, order_id)
            && self.store.record(&key).await?.is_some()
        {
            return Ok(key);
        }
        let mut keys = self.store.find_orders(text).await?;
        match (keys.len(), keys.pop()) {
            (1, Some(key)) => Ok(key),
            (0, _) | (_, None) => Err(Refusal::not_found("order", text)),
            (_, Some(last)) => {
                keys.push(last);
                Err(Refusal::Ambiguous { order_id: text.to_owned(), keys })
            }
        }
    }

    /// One order's row.
    pub async fn record(&self, key: &OrderKey) -> Result<OrderRecord, Refusal> {
        let record = self.store.record(key).await?;
        record.ok_or_else(|| Refusal::not_found("order", key))
    }

    /// One order with its history.
    pub async fn show(&self, key: &OrderKey) -> Result<OrderDetail, Refusal> {
        let order = self.store.order(key).await?;
        order.ok_or_else(|| Refusal::not_found("order", key))
    }

    /// One order for a caller who may not see every shop: other orders do not exist for them.
    pub async fn show_to(
        &self,
        person: &Principal,
        key: &OrderKey,
    ) -> Result<OrderDetail, Refusal> {
        if !person.readable().contains(key.shop.as_str()) {
            return Err(Refusal::not_found("order", key));
        }
        self.show(key).await
    }

    /// Orders that match, newest first; as many pages as it takes to get `limit` of them.
    pub async fn list(
        &self,
        filter: &OrderFilter,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, Refusal> {
        self.list_sorted(filter, Sort::default(), limit).await
    }

    /// The same in another order.
    pub async fn list_sorted(
        &self,
        filter: &OrderFilter,
        sort: Sort,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, Refusal> {
        let mut orders: Vec<OrderRecord> = Vec::new();
        loop {
            let left = limit.saturating_sub(u32::try_from(orders.len()).unwrap_or(u32::MAX));
            let size = left.min(MAX_PAGE);
            if size == 0 {
                return Ok(orders);
            }
            let after = orders.last().map(|last| Mark::of(last, sort));
            let page = self.store.page_orders(filter, sort, after.as_ref(), size).await?;
            let is_last = page.len() < usize::try_from(size).unwrap_or(usize::MAX);
            orders.extend(page);
            if is_last {
                return Ok(orders);
            }
        }
    }

    /// The orders of these keys with the documents that would be sent now.
    pub async fn current_documents(
        &self,
        keys: &[OrderKey],
    ) -> Result<Vec<(OrderRecord, Arc<str>)>, Refusal> {
        Ok(self.store.current(keys).await?)
    }

    /// The documents of these keys as they came.
    pub async fn documents(&self, keys: &[OrderKey]) -> Result<Vec<(OrderKey, Arc<str>)>, Refusal> {
        Ok(self.store.documents(keys).await?)
    }
}
