//! Numbers of orders, and what happened when. Every transaction writes what it moved (`moves.rs`); that is added
//! up and read here.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::domain::lifecycle::vocabulary::{OrderState, PHASES};
use crate::domain::money::Purse;
use crate::domain::order_filter::ShopFilter;
use crate::ports::statistics::{Flow, Standing, Statistics, StatisticsFolding, Tally};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::conditions::Conditions;
use super::db::{Db, Sql, Tx};
use super::ledger::SqlStore;
use super::rows;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Which buckets of `added_activity` become wider when: what was just added up becomes minutes, those hours, and
/// those days.
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
        for mut row in self.db.read(&Sql::Built(sql), conditions.args).await? {
            row.table = "order_counts";
            let (state, phase, currency) =
                (row.text("state")?, row.text("phase")?, row.text("currency")?);
            if state.is_empty() {
                tally.received = row.number("received")?;
            } else {
                purses.entry(phase).or_default().add(&currency, rows::sum(&mut row)?);
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
        for mut row in self.db.read(&Sql::Built(sql), conditions.args).await? {
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
                    FROM order_states
                    WHERE state <> 'confirmed' AND phase = '{phase}' AND {}",
                    conditions.text
                )
            })
            .collect();
        let in_hand = format!(
            "SELECT 'queued', MIN(received_at_ms)
            FROM in_hand_rows
            WHERE {}",
            conditions.text
        );
        let sql = format!("{} UNION ALL {in_hand}", parts.join(" UNION ALL "));
        let mut oldest = HashMap::new();
        for mut row in self.db.read(&Sql::Built(sql), conditions.args).await? {
            let phase = row.text("phase")?;
            if let Some(at) = row.time_or_null("received_at_ms")? {
                oldest
                    .entry(phase)
                    .and_modify(|oldest: &mut Timestamp| *oldest = at.min(*oldest))
                    .or_insert(at);
            }
        }
        Ok(oldest)
    }
}
