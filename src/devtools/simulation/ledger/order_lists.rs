//! Lists of orders: the filter of the domain held against every row, and pages by the domain's marks.

use std::cmp::Ordering;
use std::sync::Arc;

use async_trait::async_trait;

use super::memory::MemoryLedger;
use super::order_rows::erp_order_id;
use super::tables::{OrderRow, Tables};
use super::values::{rows, stored_text, stored_time};
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::{Email, OrderKey};
use crate::domain::order_filter::{Mark, OrderFilter, Sort, SortBy};
use crate::ports::order_lists::OrderLists;
use crate::ports::store_error::StoreError;

#[async_trait]
impl OrderLists for MemoryLedger {
    async fn page_orders(
        &self,
        filter: &OrderFilter,
        sort: Sort,
        after: Option<&Mark>,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, StoreError> {
        self.read(|tables| {
            let found = tables.listed(filter).map(|row| (Mark::of(&row.record, sort), row));
            let is_after =
                |mark: &Mark| after.is_none_or(|after| compare(after, mark, sort).is_lt());
            let mut found: Vec<_> = found.filter(|(mark, _)| is_after(mark)).collect();
            found.sort_by(|(a, _), (b, _)| compare(a, b, sort));
            found.into_iter().take(rows(limit)).map(|(_, row)| row.record.clone()).collect()
        })
        .await
    }

    async fn count_orders(&self, filter: &OrderFilter) -> Result<u64, StoreError> {
        self.read(|tables| tables.listed(filter).count() as u64).await
    }

    async fn documents(&self, keys: &[OrderKey]) -> Result<Vec<(OrderKey, Arc<str>)>, StoreError> {
        self.read(|tables| {
            let rows = tables.rows_of(keys);
            rows.map(|row| (row.record.key.clone(), row.document.clone())).collect()
        })
        .await
    }
}

impl Tables {
    fn listed<'a>(&'a self, filter: &'a OrderFilter) -> impl Iterator<Item = &'a OrderRow> {
        self.orders.values().filter(|row| is_placed(filter, &row.record) && matches(filter, row))
    }
}

/// The order of a list. Orders without a value come last, by the time they were received; but where attempts are
/// counted, none is the smallest number.
fn compare(a: &Mark, b: &Mark, sort: Sort) -> Ordering {
    let is_last = |mark: &Mark| match (sort.by, sort.descending) {
        (SortBy::Tries, false) => mark.value.is_some(),
        _ => mark.value.is_none(),
    };
    let place = |mark: &Mark| mark.value.unwrap_or_else(|| mark.received_at.as_millisecond());
    let ascending = (place(a), &a.key).cmp(&(place(b), &b.key));
    let within = if sort.descending { ascending.reverse() } else { ascending };
    is_last(a).cmp(&is_last(b)).then(within)
}

/// Whether state, phase and shop are those that the filter names.
fn is_placed(filter: &OrderFilter, order: &OrderRecord) -> bool {
    let shop = order.key.shop.as_str();
    filter.state.is_none_or(|state| order.phase.state() == state)
        && filter.phase.as_ref().is_none_or(|phase| phase == order.phase.name())
        && filter.shop.as_ref().is_none_or(|asked| asked == shop)
        && filter.shops.contains(shop)
}

fn matches(filter: &OrderFilter, row: &OrderRow) -> bool {
    let order = &row.record;
    let failure = order.last_failure.as_ref().map(|failure| &failure.summary);
    let is = |asked: &Option<String>, text: Option<&str>| {
        asked.as_ref().is_none_or(|asked| text == Some(stored_text(asked).as_str()))
    };
    let received = order.received_at;
    is(&filter.payment, order.facts.payment.as_deref())
        && is(&filter.class, failure.map(|f| f.class.as_str()))
        && is(&filter.code, failure.map(|f| f.code.as_str()))
        && is(&filter.fingerprint, failure.map(|f| f.fingerprint.as_str()))
        && filter.since.is_none_or(|since| received >= stored_time(since))
        && filter.until.is_none_or(|until| received < stored_time(until))
        && filter.sku.as_ref().is_none_or(|sku| has_article(row, sku))
        && filter.customer.as_ref().is_none_or(|customer| is_customer(order, customer))
        && filter.search.as_ref().is_none_or(|search| is_found(order, search))
}

fn is_customer(order: &OrderRecord, asked: &str) -> bool {
    let asked = stored_text(asked);
    order.facts.customer.number.as_deref() == Some(asked.as_str()) || email(order) == asked
}

fn email(order: &OrderRecord) -> &str {
    order.facts.customer.email.as_ref().map_or("", Email::as_str)
}

/// Articles are stored each between line breaks, so that one is found and never a part of another.
fn has_article(row: &OrderRow, sku: &str) -> bool {
    row.skus.contains(&format!("\n{}\n", stored_text(sku).replace('\n', " ")))
}

/// Number, name, address and error text are searched for a part, the numbers of ERP and customer as a whole.
fn is_found(order: &OrderRecord, search: &str) -> bool {
    let search = stored_text(search);
    let customer = &order.facts.customer;
    let failure = order.last_failure.as_ref();
    let parts = [
        order.key.order_id.as_str(),
        customer.name.as_deref().unwrap_or_default(),
        email(order),
        failure.map_or("", |failure| failure.summary.message.as_str()),
    ];
    let text = parts.join("\n").to_lowercase();
    text.contains(&search.to_lowercase())
        || erp_order_id(order) == Some(search.as_str())
        || customer.number.as_deref() == Some(search.as_str())
}
