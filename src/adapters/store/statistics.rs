//! Statistics, lists, groups, workers. Counters and buckets are written by triggers on `orders`
//! (migration `0003_figures`); they are added up and read here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::adapters::store::back_office::insert_audit;
use crate::adapters::store::conditions::{Conditions, is_counted};
use crate::adapters::store::db::{Db, Row, Sql, Tx};
use crate::adapters::store::ledger::SqlStore;
use crate::adapters::store::orders::wrong_answer;
use crate::adapters::store::rows::{self, ORDER_COLUMNS};
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{OrderState, PHASES};
use crate::domain::money::{Purse, Sum};
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{Mark, OrderFilter, ShopFilter, Sort, SortBy};
use crate::ports::audit::Act;
use crate::ports::order_lists::OrderLists;
use crate::ports::statistics::{
    Flow, Group, MAX_GROUPS, Standing, Statistics, StatisticsFolding, Tally,
};
use crate::ports::store_error::StoreError;
use crate::ports::workers::{ALIVE, Worker, WorkerList, WorkerRegistry};
use crate::sql_args;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// How long a process that is not seen any more stays in the list.
const REMEMBERED: Duration = Duration::from_hours(24);
/// Which buckets of `activity` become wider when: what was just appended, in PostgreSQL one row for
/// each statement, becomes minutes, those hours, and those days.
const FOLDS: [(i64, i64, SignedDuration); 3] = [
    (0, 1, SignedDuration::ZERO),
    (1, 60, SignedDuration::from_hours(48)),
    (60, 1440, SignedDuration::from_hours(60 * 24)),
];

#[async_trait]
impl<D: Db> Statistics for SqlStore<D> {
    async fn tally(&self, shops: &ShopFilter) -> Result<Tally, StoreError> {
        let mut conditions = Conditions::default();
        conditions.shops(shops);
        // One statement: an order that changes in between is counted once.
        let sql = format!(
            "SELECT state, phase, currency, CAST(SUM(orders) AS BIGINT), CAST(SUM(units) AS BIGINT),
              CAST(SUM(nanos) AS BIGINT), CAST(SUM(unsummed) AS BIGINT)
            FROM order_counts
            WHERE {0}
            GROUP BY state, phase, currency
            UNION ALL
            SELECT '', '', '', CAST(COALESCE(SUM(received), 0) AS BIGINT), 0, 0, 0
            FROM tallies
            WHERE {0}",
            conditions.text
        );
        let mut tally = Tally::default();
        let mut purses = BTreeMap::<String, Purse>::new();
        for mut row in self.db.fetch(&Sql::Built(sql), conditions.args).await? {
            row.table = "order_counts";
            let (state, phase, currency) =
                (row.text("state")?, row.text("phase")?, row.text("currency")?);
            if state.is_empty() {
                tally.received = row.number("received")?;
            } else {
                purses.entry(phase).or_default().add(&currency, sum(&mut row)?);
            }
        }
        let mut oldest = self.oldest(shops).await?;
        for (state, phase) in PHASES {
            let purse = purses.remove(phase).unwrap_or_default();
            let orders = purse.orders();
            if orders > 0 {
                let (phase, oldest) = (phase.to_owned(), oldest.remove(phase));
                let money = purse.into_money();
                tally.standing.push(Standing { state, phase, orders, money, oldest });
            }
        }
        Ok(tally)
    }

    async fn flow(
        &self,
        shops: &ShopFilter,
        since: Timestamp,
        bucket: Duration,
    ) -> Result<Vec<Flow>, StoreError> {
        let width = i64::try_from(bucket.as_millis()).unwrap_or(HOUR_MS).max(1);
        let mut conditions = Conditions { args: sql_args![width], ..Conditions::default() };
        conditions.add("minutes IN (0, 1, 60, 1440) AND bucket_ms >= ?", sql_args![since]);
        conditions.shops(shops);
        let sql = format!(
            "SELECT bucket_ms - bucket_ms % $1 AS begins, what, CAST(SUM(orders) AS BIGINT)
            FROM activity
            WHERE {}
            GROUP BY begins, what
            ORDER BY begins",
            conditions.text
        );
        let mut flow: Vec<Flow> = Vec::new();
        for mut row in self.db.fetch(&Sql::Built(sql), conditions.args).await? {
            row.table = "activity";
            let at = row.time("bucket_ms")?;
            if flow.last().is_none_or(|last| last.at != at) {
                flow.push(Flow { at, received: 0, confirmed: 0, failed: 0 });
            }
            let what = row.text("what")?;
            let orders = row.number("orders")?;
            if let Some(last) = flow.last_mut() {
                match what.as_str() {
                    "received" => last.received = orders,
                    "confirmed" => last.confirmed = orders,
                    _ => last.failed = orders,
                }
            }
        }
        Ok(flow)
    }

    async fn failure_groups(
        &self,
        shops: &ShopFilter,
        fingerprint: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Group>, StoreError> {
        let lost = self.lost_by_group(shops, fingerprint).await?;
        let mut seen = self.failures_by_group(shops, fingerprint, now).await?;
        let mut groups = self.known_groups(shops, fingerprint, now).await?;
        for group in &mut groups {
            if let Some((shops, purse)) = lost.get(&group.fingerprint) {
                group.orders = purse.orders();
                group.money = purse.clone().into_money();
                group.shops = shops.iter().cloned().collect();
            }
            if let Some((last, failures)) = seen.remove(&group.fingerprint) {
                group.last_seen = last.max(group.first_seen);
                group.failures = failures;
            }
        }
        let is_theirs = |group: &Group| {
            group.orders > 0 || fingerprint.is_some() && group.failures.iter().any(|n| *n > 0)
        };
        // A reader of only some shops must not see what happened in others.
        groups.retain(|group| is_theirs(group) || fingerprint.is_some() && shops.is_all());
        groups.sort_by(|a, b| {
            b.orders.cmp(&a.orders).then_with(|| a.fingerprint.cmp(&b.fingerprint))
        });
        Ok(groups)
    }

    async fn note_group(
        &self,
        fingerprint: &str,
        note: Option<&str>,
        runbook: Option<&str>,
        act: &Act,
    ) -> Result<bool, StoreError> {
        let was = "SELECT note, runbook
            FROM failure_groups
            WHERE fingerprint = $1";
        let sql = "UPDATE failure_groups
            SET note = $2, runbook = $3, noted_by = $4, noted_at_ms = $5
            WHERE fingerprint = $1";
        let mut tx = self.db.begin().await?;
        let Some(mut row) = tx.fetch(&was.into(), sql_args![fingerprint]).await?.pop() else {
            return Ok(false);
        };
        let before = told(row.text_or_null("note")?, row.text_or_null("runbook")?);
        let after = told(note.map(str::to_owned), runbook.map(str::to_owned));
        let args = sql_args![fingerprint, note, runbook, &act.actor, act.now];
        tx.execute(&sql.into(), args).await?;
        insert_audit(&mut tx, act, "group.note", fingerprint, None, Some((before, after))).await?;
        tx.commit().await?;
        Ok(true)
    }
}

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
            for mut row in self.db.fetch(&Sql::Built(sql), conditions.args).await? {
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
            format!("SELECT COUNT(*) FROM orders WHERE {}", conditions.text)
        };
        let mut rows = self.db.fetch(&Sql::Built(sql), conditions.args).await?;
        rows.pop().ok_or_else(wrong_answer)?.number("count")
    }

    async fn documents(&self, keys: &[OrderKey]) -> Result<Vec<(OrderKey, Arc<str>)>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let places: Vec<String> =
            (0..keys.len()).map(|n| format!("(${}, ${})", 2 * n + 1, 2 * n + 2)).collect();
        let sql = format!(
            "SELECT shop, order_id, document
            FROM orders
            WHERE (shop, order_id) IN (VALUES {})",
            places.join(", ")
        );
        let args = keys
            .iter()
            .flat_map(|key| sql_args![key.shop.as_str(), key.order_id.as_str()])
            .collect();
        self.db.fetch(&Sql::Built(sql), args).await?.into_iter().map(rows::document).collect()
    }
}

#[async_trait]
impl<D: Db> StatisticsFolding for SqlStore<D> {
    async fn fold_statistics(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        for sql in D::FOLD_COUNTS {
            tx.execute(&(*sql).into(), Vec::new()).await?;
        }
        for (narrow, wide, kept) in FOLDS {
            let width = wide * MINUTE_MS;
            let until = now.checked_sub(kept).unwrap_or(Timestamp::MIN).as_millisecond();
            let until = until.div_euclid(width) * width;
            for sql in D::FOLD_ACTIVITY {
                tx.execute(&(*sql).into(), sql_args![narrow, wide, until]).await?;
            }
        }
        tx.commit().await
    }
}

#[async_trait]
impl<D: Db> WorkerRegistry for SqlStore<D> {
    async fn heartbeat(&self, worker: &Worker) -> Result<(), StoreError> {
        let sql = "INSERT INTO workers (name, roles, started_at_ms, seen_at_ms)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (name) DO UPDATE
            SET roles = excluded.roles, started_at_ms = excluded.started_at_ms,
              seen_at_ms = excluded.seen_at_ms";
        let roles = worker.roles.join(" ");
        let args = sql_args![&worker.name, roles, worker.started_at, worker.seen_at];
        self.db.execute(&sql.into(), args).await?;
        let stale = "DELETE FROM workers
            WHERE seen_at_ms < $1";
        let forgotten = worker.seen_at.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
        self.db.execute(&stale.into(), sql_args![forgotten]).await.map(|_| ())
    }

    async fn deregister(&self, name: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM workers
            WHERE name = $1";
        self.db.execute(&sql.into(), sql_args![name]).await.map(|_| ())
    }
}

#[async_trait]
impl<D: Db> WorkerList for SqlStore<D> {
    async fn workers(&self, now: Timestamp) -> Result<Vec<Worker>, StoreError> {
        let sql = "SELECT name, roles, started_at_ms, seen_at_ms
            FROM workers
            WHERE seen_at_ms >= $1
            ORDER BY name";
        let since = now.checked_sub(ALIVE).unwrap_or(Timestamp::MIN);
        let rows = self.db.fetch(&sql.into(), sql_args![since]).await?;
        rows.into_iter()
            .map(|mut row| {
                row.table = "workers";
                Ok(Worker {
                    name: row.id("name")?,
                    roles: row.text("roles")?.split_whitespace().map(str::to_owned).collect(),
                    started_at: row.time("started_at_ms")?,
                    seen_at: row.time("seen_at_ms")?,
                })
            })
            .collect()
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
        let found = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE {}", conditions.text);
        // A customer has few orders. They are found first and sorted then: with a limit in sight
        // PostgreSQL would scan all orders until it has found enough of theirs.
        let found = match filter.customer {
            Some(_) => {
                format!("WITH few AS MATERIALIZED ({found}) SELECT {ORDER_COLUMNS} FROM few")
            }
            None => found,
        };
        format!("{found} ORDER BY {column} {order}, shop {order}, order_id {order} LIMIT {limit}")
    }
}

impl<D: Db> SqlStore<D> {
    /// When the oldest open order of each phase was received, by an index.
    async fn oldest(&self, shops: &ShopFilter) -> Result<HashMap<String, Timestamp>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.shops(shops);
        let open = PHASES.iter().filter(|(state, _)| *state != OrderState::Confirmed);
        let parts: Vec<String> = open
            .map(|(_, phase)| {
                format!(
                    "SELECT '{phase}', MIN(received_at_ms)
                    FROM orders
                    WHERE state <> 'confirmed' AND phase = '{phase}' AND {}",
                    conditions.text
                )
            })
            .collect();
        let sql = parts.join(" UNION ALL ");
        let mut oldest = HashMap::new();
        for mut row in self.db.fetch(&Sql::Built(sql), conditions.args).await? {
            let phase = row.text("phase")?;
            if let Some(at) = row.time_or_null("received_at_ms")? {
                oldest.insert(phase, at);
            }
        }
        Ok(oldest)
    }

    /// Shops and money of the orders that are lost now.
    async fn lost_by_group(
        &self,
        shops: &ShopFilter,
        fingerprint: Option<&str>,
    ) -> Result<HashMap<String, (BTreeSet<String>, Purse)>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.add("state = 'ordered_failed'", Vec::new());
        conditions.shops(shops);
        if let Some(fingerprint) = fingerprint {
            conditions.add("fingerprint = ?", sql_args![fingerprint]);
        }
        let sql = format!(
            "SELECT fingerprint, shop, currency, CAST(SUM(orders) AS BIGINT),
              CAST(SUM(units) AS BIGINT), CAST(SUM(nanos) AS BIGINT), CAST(SUM(unsummed) AS BIGINT)
            FROM order_counts
            WHERE {}
            GROUP BY fingerprint, shop, currency
            HAVING SUM(orders) > 0",
            conditions.text
        );
        let mut lost = HashMap::<String, (BTreeSet<String>, Purse)>::new();
        for mut row in self.db.fetch(&Sql::Built(sql), conditions.args).await? {
            row.table = "order_counts";
            let (shops, purse) = lost.entry(row.text("fingerprint")?).or_default();
            shops.insert(row.text("shop")?);
            let currency = row.text("currency")?;
            purse.add(&currency, sum(&mut row)?);
        }
        Ok(lost)
    }

    /// When each group was seen last, and its failures in each of the last 24 hours.
    async fn failures_by_group(
        &self,
        shops: &ShopFilter,
        fingerprint: Option<&str>,
        now: Timestamp,
    ) -> Result<HashMap<String, (Timestamp, Vec<u64>)>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.shops(shops);
        let which = match fingerprint {
            Some(fingerprint) => {
                conditions.args.extend(sql_args![fingerprint]);
                format!("SELECT ${} AS fingerprint", conditions.args.len())
            }
            None => top(&conditions),
        };
        let of_shops = conditions.text.clone();
        let last = format!(
            "SELECT g.fingerprint, (
              SELECT a.last_ms
              FROM activity AS a
              WHERE a.what = 'failed' AND a.fingerprint = g.fingerprint AND {of_shops}
              ORDER BY a.last_ms DESC
              LIMIT 1)
            FROM ({which}) AS g"
        );
        let mut groups = HashMap::new();
        for mut row in self.db.fetch(&Sql::Built(last), conditions.args.clone()).await? {
            row.table = "activity";
            let name = row.text("fingerprint")?;
            if let Some(last) = row.time_or_null("last_ms")? {
                groups.insert(name, (last, vec![0; 24]));
            }
        }
        let begin = (now.as_millisecond().div_euclid(HOUR_MS) - 23) * HOUR_MS;
        conditions.args.extend(sql_args![begin]);
        let first = conditions.args.len();
        let hours = format!(
            "SELECT fingerprint, (bucket_ms - ${first}) / {HOUR_MS} AS hour,
              CAST(SUM(orders) AS BIGINT)
            FROM activity
            WHERE what = 'failed' AND minutes IN (0, 1, 60, 1440) AND bucket_ms >= ${first}
              AND fingerprint IN ({which}) AND {of_shops}
            GROUP BY fingerprint, hour"
        );
        for mut row in self.db.fetch(&Sql::Built(hours), conditions.args).await? {
            row.table = "activity";
            let name = row.text("fingerprint")?;
            let hour: usize = row.number("hour")?;
            let orders: u64 = row.number("orders")?;
            if let Some(bucket) = groups.get_mut(&name).and_then(|(_, hours)| hours.get_mut(hour)) {
                *bucket += orders;
            }
        }
        Ok(groups)
    }

    /// The notes and samples of groups.
    async fn known_groups(
        &self,
        shops: &ShopFilter,
        fingerprint: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Group>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.shops(shops);
        // The stored sample may be of a shop that the reader must not see.
        let message = match shops.is_all() {
            true => "g.message".to_owned(),
            false => format!(
                "COALESCE((SELECT o.error_message FROM orders AS o
                WHERE o.error_fingerprint = g.fingerprint AND o.state = 'ordered_failed' AND {}
                LIMIT 1), '')",
                conditions.text
            ),
        };
        let which = match fingerprint {
            Some(fingerprint) => {
                conditions.args.extend(sql_args![fingerprint]);
                format!("g.fingerprint = ${}", conditions.args.len())
            }
            None => format!("g.fingerprint IN ({})", top(&conditions)),
        };
        let sql = format!(
            "SELECT g.fingerprint, g.class, g.code, {message}, g.first_seen_ms, g.note, g.runbook,
              g.noted_by, g.noted_at_ms
            FROM failure_groups AS g
            WHERE {which}"
        );
        let rows = self.db.fetch(&Sql::Built(sql), conditions.args).await?;
        rows.into_iter().map(|row| group(row, now)).collect()
    }
}

/// The groups with most lost orders in the shops of these conditions.
fn top(shops: &Conditions) -> String {
    format!(
        "SELECT fingerprint
        FROM order_counts
        WHERE state = 'ordered_failed' AND {}
        GROUP BY fingerprint
        HAVING SUM(orders) > 0
        ORDER BY SUM(orders) DESC, fingerprint
        LIMIT {MAX_GROUPS}",
        shops.text
    )
}

fn group(mut row: Row, now: Timestamp) -> Result<Group, StoreError> {
    row.table = "failure_groups";
    let fingerprint = row.id("fingerprint")?;
    let (class, code, message) = (row.text("class")?, row.text("code")?, row.text("message")?);
    let first_seen = row.time("first_seen_ms")?;
    Ok(Group {
        fingerprint,
        class,
        code,
        message,
        orders: 0,
        money: Vec::new(),
        shops: Vec::new(),
        first_seen,
        last_seen: first_seen,
        failures: vec![0; 24],
        is_new: now.duration_since(first_seen) < SignedDuration::from_hours(24),
        note: row.text_or_null("note")?,
        runbook: row.text_or_null("runbook")?,
        noted_by: row.text_or_null("noted_by")?,
        noted_at: row.time_or_null("noted_at_ms")?,
    })
}

fn sum(row: &mut Row) -> Result<Sum, StoreError> {
    Ok(Sum {
        orders: row.int("orders")?,
        units: row.int("units")?,
        nanos: row.int("nanos")?,
        unsummed: row.int("unsummed")?,
    })
}

/// A note for the audit.
fn told(note: Option<String>, runbook: Option<String>) -> String {
    [note, runbook].into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::store::sqlite::SqliteDb;

    /// The query plan of SQLite for a page of orders.
    async fn plan(filter: &OrderFilter, sort: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
        let db = SqliteDb::open(&url, 1, Duration::from_secs(5)).unwrap();
        db.migrate().await.unwrap();
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
            (&shop, "changed", "orders_changed"),
            (&readable, "-received", "orders_received"),
            (&lost, "-received", "lost_received"),
            (&parked, "received", "orders_open"),
        ] {
            let told = plan(filter, sort).await;
            assert!(told.contains(&format!("USING INDEX {index}")), "{sort}: {told}");
            assert!(!told.contains("TEMP B-TREE"), "{sort}: {told}");
        }
    }
}
