//! Finding orders: by number, one with everything that happened to it, or many.

use std::sync::Arc;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{MAX_PAGE, Mark, OrderFilter, Sort};
use crate::domain::permission::Permission;
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::order_desk::OrderDetail;

impl Ops {
    /// The order that `text` means: `ORDER_ID` if only one shop that they may see has it, else
    /// `SHOP/ORDER_ID`.
    pub async fn find(&self, person: &Principal, text: &str) -> Result<OrderKey, Refusal> {
        if let Some((shop, order_id)) = text.split_once('/')
            && let Ok(key) = OrderKey::new(shop, order_id)
            && person.see(&key).is_ok()
            && self.store.record(&key).await?.is_some()
        {
            return Ok(key);
        }
        let mut keys = self.store.find_orders(text).await?;
        keys.retain(|key| person.see(key).is_ok());
        match (keys.len(), keys.pop()) {
            (1, Some(key)) => Ok(key),
            (0, _) | (_, None) => Err(Refusal::not_found("order", text)),
            (_, Some(last)) => {
                keys.push(last);
                Err(Refusal::Ambiguous { order_id: text.to_owned(), keys })
            }
        }
    }

    /// The order of this key, for a person who may do that to it.
    pub async fn find_for(
        &self,
        person: &Principal,
        needs: Permission,
        key: &OrderKey,
    ) -> Result<OrderRecord, Refusal> {
        person.see(key)?;
        let record = self.record(key).await?;
        person.authorize(needs, Some(key.shop.as_str()))?;
        Ok(record)
    }

    pub(super) async fn record(&self, key: &OrderKey) -> Result<OrderRecord, Refusal> {
        let record = self.store.record(key).await?;
        record.ok_or_else(|| Refusal::not_found("order", key))
    }

    pub(super) async fn detail(&self, key: &OrderKey) -> Result<OrderDetail, Refusal> {
        let order = self.store.order(key).await?;
        order.ok_or_else(|| Refusal::not_found("order", key))
    }

    /// One order with its history. Orders that the person may not see do not exist for them.
    pub async fn show(&self, person: &Principal, key: &OrderKey) -> Result<OrderDetail, Refusal> {
        person.see(key)?;
        self.detail(key).await
    }

    /// The same, for a person who may do that to it.
    pub async fn show_for(
        &self,
        person: &Principal,
        needs: Permission,
        key: &OrderKey,
    ) -> Result<OrderDetail, Refusal> {
        let detail = self.show(person, key).await?;
        person.authorize(needs, Some(key.shop.as_str()))?;
        Ok(detail)
    }

    /// Orders that match, newest first; as many pages as it takes to get `limit` of them.
    pub async fn list(
        &self,
        person: &Principal,
        filter: &OrderFilter,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, Refusal> {
        self.list_sorted(person, filter, Sort::default(), limit).await
    }

    /// The same in another order.
    pub async fn list_sorted(
        &self,
        person: &Principal,
        filter: &OrderFilter,
        sort: Sort,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, Refusal> {
        let filter = person.narrowed(filter);
        let mut orders: Vec<OrderRecord> = Vec::new();
        loop {
            let left = limit.saturating_sub(u32::try_from(orders.len()).unwrap_or(u32::MAX));
            let size = left.min(MAX_PAGE);
            if size == 0 {
                return Ok(orders);
            }
            let after = orders.last().map(|last| Mark::of(last, sort));
            let page = self.store.page_orders(&filter, sort, after.as_ref(), size).await?;
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
        person: &Principal,
        keys: &[OrderKey],
    ) -> Result<Vec<(OrderRecord, Arc<str>)>, Refusal> {
        Ok(self.store.current(&seen(person, keys)).await?)
    }

    /// The documents of these keys as they came.
    pub async fn documents(
        &self,
        person: &Principal,
        keys: &[OrderKey],
    ) -> Result<Vec<(OrderKey, Arc<str>)>, Refusal> {
        Ok(self.store.documents(&seen(person, keys)).await?)
    }
}

fn seen(person: &Principal, keys: &[OrderKey]) -> Vec<OrderKey> {
    keys.iter().filter(|key| person.see(key).is_ok()).cloned().collect()
}
