//! Lost orders by the kind of their failure: how many, worth how much, since when, and what people
//! noted about it.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::domain::money::Purse;
use crate::domain::order_filter::ShopFilter;
use crate::ports::audit::Act;
use crate::ports::failure_groups::{FailureGroups, Group, MAX_GROUPS};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::conditions::Conditions;
use super::db::{Db, Row, Sql, Tx};
use super::ledger::SqlStore;
use super::rows;

const HOUR_MS: i64 = 3_600_000;

#[async_trait]
impl<D: Db> FailureGroups for SqlStore<D> {
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

impl<D: Db> SqlStore<D> {
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
        for mut row in self.db.read(&Sql::Built(sql), conditions.args).await? {
            row.table = "order_counts";
            let (shops, purse) = lost.entry(row.text("fingerprint")?).or_default();
            shops.insert(row.text("shop")?);
            let currency = row.text("currency")?;
            purse.add(&currency, rows::sum(&mut row)?);
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
        for mut row in self.db.read(&Sql::Built(last), conditions.args.clone()).await? {
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
        for mut row in self.db.read(&Sql::Built(hours), conditions.args).await? {
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
                "COALESCE((SELECT o.error_message FROM order_states AS o
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
        let rows = self.db.read(&Sql::Built(sql), conditions.args).await?;
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

/// A note for the audit.
fn told(note: Option<String>, runbook: Option<String>) -> String {
    [note, runbook].into_iter().flatten().collect::<Vec<_>>().join(" · ")
}
