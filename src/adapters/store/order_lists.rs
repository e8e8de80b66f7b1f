//! Lists of orders, a page at a time: each page walks an index and sorts nothing.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{OrderState, PHASES};
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{Mark, OrderFilter, Sort, SortBy};
use crate::ports::order_lists::OrderLists;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::conditions::{Conditions, is_counted};
use super::db::{Db, Sql};
use super::ledger::SqlStore;
use super::rows::{self, ORDER_COLUMNS, these_orders};

#[async_trait]
impl<D: Db> OrderLists for SqlStore<D> {
    async fn page_orders(
        &self,
        filter: &OrderFilter,
        sort: Sort,
        after: Option<&Mark>,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, StoreError> {
        let mut after = after;
        let mut orders: Vec<OrderRecord> = Vec::new();
        for section in Section::of(sort) {
            // A lost order has failed (`failed_means_counted`): searching for others would mean
            // reading every order.
            if section.is_of_missing
                && sort.by == SortBy::Tries
                && filter.state == Some(OrderState::OrderedFailed)
            {
                continue;
            }
            if after.is_some_and(|mark| mark.value.is_none() != section.is_of_missing) {
                continue;
            }
            let left = limit.saturating_sub(u32::try_from(orders.len()).unwrap_or(u32::MAX));
            if left == 0 {
                break;
            }
            let mut conditions = Conditions::of(filter, D::SHOP_IN_LISTS);
            let sql = section.sql(filter, &mut conditions, after.take(), left);
            for mut row in self.db.read(&Sql::Built(sql), conditions.args).await? {
                orders.push(rows::order_record(&mut row)?);
            }
        }
        Ok(orders)
    }

    async fn count_orders(&self, filter: &OrderFilter) -> Result<u64, StoreError> {
        let mut conditions = Conditions::default();
        let counted = is_counted(filter);
        let sql = if counted {
            conditions.place(filter);
            if let Some(fingerprint) = &filter.fingerprint {
                conditions.add("fingerprint = ?", sql_args![fingerprint]);
            }
            // A fingerprint is made of class, code and text: it has one of each.
            for (column, text) in [("class", &filter.class), ("code", &filter.code)] {
                if let Some(text) = text {
                    let part = format!(
                        "fingerprint IN (SELECT fingerprint FROM failure_groups WHERE {column} = ?)"
                    );
                    conditions.add(&part, sql_args![text]);
                }
            }
            let sums = "SELECT CAST(COALESCE(SUM(orders), 0) AS BIGINT) FROM order_counts";
            format!("{sums} WHERE {}", conditions.text)
        } else {
            conditions = Conditions::of(filter, D::SHOP_IN_LISTS);
            let sources = sources(filter, None).iter();
            let counts: Vec<String> = sources
                .map(|rows| format!("(SELECT COUNT(*) FROM {rows} WHERE {})", conditions.text))
                .collect();
            format!("SELECT {}", counts.join(" + "))
        };
        let rows = self.db.read(&Sql::Built(sql), conditions.args).await?;
        rows::only(rows)?.number("count")
    }

    async fn documents(&self, keys: &[OrderKey]) -> Result<Vec<(OrderKey, Arc<str>)>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (these, args) = these_orders(keys);
        let sql = format!("SELECT shop, order_id, document FROM orders WHERE {these}");
        self.db.read(&Sql::Built(sql), args).await?.into_iter().map(rows::document).collect()
    }
}

/// Orders sorted by one column, or those without a value in it, as received.
struct Section {
    column: &'static str,
    condition: &'static str,
    is_of_missing: bool,
    order: &'static str,
}

impl Section {
    /// The sections of a sorted list, in their order: orders without a value come last, except for
    /// the number of attempts, where none is the smallest.
    fn of(sort: Sort) -> Vec<Self> {
        let order = if sort.descending { "DESC" } else { "ASC" };
        let some = |column, condition| Self { column, condition, is_of_missing: false, order };
        let none =
            |condition| Self { column: "received_at_ms", condition, is_of_missing: true, order };
        let (some, none) = match sort.by {
            SortBy::Received => return vec![some("received_at_ms", "TRUE")],
            SortBy::Changed => return vec![some("updated_at_ms", "TRUE")],
            SortBy::Failed => {
                (some("failed_at_ms", "failed_at_ms IS NOT NULL"), none("failed_at_ms IS NULL"))
            }
            SortBy::Due => (some("due_at_ms", "due_at_ms IS NOT NULL"), none("due_at_ms IS NULL")),
            SortBy::Tries => (some("fail_count", "fail_count > 0"), none("fail_count = 0")),
        };
        match (sort.by, sort.descending) {
            (SortBy::Tries, false) => vec![none, some],
            _ => vec![some, none],
        }
    }

    fn sql(
        &self,
        filter: &OrderFilter,
        conditions: &mut Conditions,
        after: Option<&Mark>,
        limit: u32,
    ) -> String {
        let Self { column, condition, order, .. } = self;
        conditions.add(condition, Vec::new());
        if let Some(mark) = after {
            let than = if *order == "DESC" { "<" } else { ">" };
            let value = mark.value.unwrap_or_else(|| mark.received_at.as_millisecond());
            let (shop, order_id) = (mark.key.shop.as_str(), mark.key.order_id.as_str());
            let part = format!("({column}, shop, order_id) {than} (?, ?, ?)");
            conditions.add(&part, sql_args![value, shop, order_id]);
        }
        let sources = sources(filter, Some(self));
        let by = format!("ORDER BY {column} {order}, shop {order}, order_id {order} LIMIT {limit}");
        let found =
            |rows: &str| format!("SELECT {ORDER_COLUMNS} FROM {rows} WHERE {}", conditions.text);
        match sources {
            // A customer has few orders. They are found first and sorted then: with a limit in sight
            // PostgreSQL would scan all orders until it has found enough of theirs.
            [rows] if filter.customer.is_some() => {
                let found = found(rows);
                format!("WITH few AS MATERIALIZED ({found}) SELECT {ORDER_COLUMNS} FROM few {by}")
            }
            [rows] => format!("{} {by}", found(rows)),
            all => {
                let parts: Vec<String> = all
                    .iter()
                    .map(|rows| format!("SELECT * FROM ({} {by}) AS of_{rows}", found(rows)))
                    .collect();
                format!(
                    "SELECT {ORDER_COLUMNS} FROM ({}) AS all_rows {by}",
                    parts.join(" UNION ALL ")
                )
            }
        }
    }
}

/// Where the orders of a filter are: the views of migration 0010. Whatever can be asked of `order_states` alone is
/// asked there, because it is small and has an index for each list.
fn sources(filter: &OrderFilter, section: Option<&Section>) -> &'static [&'static str] {
    let phase = filter.phase.as_deref();
    let state = PHASES.into_iter().find(|(_, name)| phase == Some(*name)).map(|(state, _)| state);
    let state = filter.state.or(state);
    let has_value = section.is_some_and(|s| !s.is_of_missing && s.column != "received_at_ms");
    match state {
        _ if filter.customer.is_some() => &["order_rows"],
        Some(OrderState::OrderedFailed) => &["state_rows"],
        // A type of failure has an index; a class is found soon enough among all.
        _ if filter.fingerprint.is_some() || phase == Some("held") => &["state_rows"],
        Some(OrderState::Payed) => &["state_rows", "in_hand_rows"],
        Some(OrderState::Confirmed) if has_value => &["state_rows"],
        None if section.is_some_and(|s| s.column == "updated_at_ms") => {
            &["state_rows", "in_hand_rows"]
        }
        None if has_value => &["state_rows"],
        Some(OrderState::Confirmed) | None => &["order_rows"],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::domain::order_filter::ShopFilter;

    use super::*;
    use crate::adapters::store::sqlite::SqliteDb;

    /// The query plan of SQLite for a page of orders.
    async fn plan(filter: &OrderFilter, sort: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
        let db = SqliteDb::open(&url, 1, Duration::from_secs(5)).unwrap();
        db.migrate(&|_, _| {}).await.unwrap();
        let mut told = String::new();
        for section in Section::of(sort.parse().unwrap()) {
            let mut conditions = Conditions::of(filter, SqliteDb::SHOP_IN_LISTS);
            let sql = section.sql(filter, &mut conditions, None, 50);
            let explained = Sql::Built(format!("EXPLAIN QUERY PLAN {sql}"));
            for mut row in db.fetch(&explained, conditions.args).await.unwrap() {
                for column in ["id", "parent", "notused"] {
                    row.int(column).unwrap();
                }
                told.push_str(&row.text("detail").unwrap());
                told.push('\n');
            }
        }
        told
    }

    #[tokio::test]
    async fn a_list_of_one_shop_walks_an_index_and_sorts_nothing() {
        let shop = OrderFilter { shop: Some("de".to_owned()), ..OrderFilter::default() };
        let readable = ShopFilter::Only(vec!["de".to_owned(), "at".to_owned()]);
        let readable = OrderFilter { shops: readable, ..OrderFilter::default() };
        let lost = OrderFilter { state: Some(OrderState::OrderedFailed), ..shop.clone() };
        let parked = OrderFilter { phase: Some("parked".to_owned()), ..shop.clone() };
        for (filter, sort, index) in [
            (&shop, "-received", "orders_received"),
            (&shop, "changed", "states_changed"),
            (&readable, "-received", "orders_received"),
            (&lost, "-received", "states_lost_received"),
            (&parked, "received", "states_open"),
        ] {
            let told = plan(filter, sort).await;
            assert!(told.contains(&format!("USING INDEX {index}")), "{sort}: {told}");
            // What two parts found is merged, at most two pages.
            let (found, _) = told.split_once("SCAN all_rows").unwrap_or((&told, ""));
            assert!(!found.contains("TEMP B-TREE"), "{sort}: {told}");
        }
    }
}
