//! One transaction in progress on the hot path: loading and locking orders, inserting and saving them.
//!
//! The domain decides; a batch loads, calls it, and writes back. What each kind of work does is in
//! `admitting.rs` and `outcomes.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::OrderKey;
use crate::ports::orders::Placed;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::Tx;
use super::rows;
use super::work::Work;

/// One transaction in progress.
pub(super) struct Batch<T> {
    pub(super) tx: T,
    /// Shard of the received tally that it counts in.
    shard: i64,
    /// Orders inserted, by shop.
    received: BTreeMap<String, i64>,
}

/// Orders loaded and locked, and which of them changed.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) records: HashMap<OrderKey, (OrderRecord, Vec<u8>)>,
    pub(super) changed: HashSet<OrderKey>,
}

impl<T: Tx> Batch<T> {
    /// A batch in `tx` that counts in `shard`.
    pub(super) fn new(tx: T, shard: i64) -> Self {
        Self { tx, shard, received: BTreeMap::new() }
    }

    /// Locks the rows that several kinds of work are about, in the order of their keys.
    ///
    /// Each statement locks its rows in that order, but one transaction has several statements: without
    /// this, two processes could wait for each other. One kind alone needs no more than its own statement,
    /// and an order that comes for the first time has no row yet.
    pub(super) async fn lock(&mut self, works: &[Work]) -> Result<(), StoreError> {
        let mut kinds = HashSet::new();
        let mut keys = Vec::new();
        for work in works {
            if let Some(key) = work.locks() {
                kinds.insert(work.kind());
                keys.push(key.clone());
            }
        }
        if kinds.len() < 2 {
            return Ok(());
        }
        keys.sort_unstable();
        keys.dedup();
        self.tx.lock(&keys).await
    }

    /// Makes it durable; the tally comes last, because others may wait for its rows.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        let sql = "INSERT INTO tallies (shop, shard, received)
            VALUES ($1, $2, $3)
            ON CONFLICT (shop, shard) DO UPDATE SET received = tallies.received + excluded.received";
        for (shop, received) in &self.received {
            self.tx.execute(&sql.into(), sql_args![shop, self.shard, *received]).await?;
        }
        self.tx.commit().await
    }

    /// Inserts rows and counts those that are new in the tally.
    pub(super) async fn insert_orders(
        &mut self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        if rows.is_empty() {
            return Ok(HashSet::new());
        }
        let inserted = self.tx.insert_orders(rows).await?;
        for key in &inserted {
            *self.received.entry(key.shop.to_string()).or_default() += 1;
        }
        Ok(inserted)
    }

    pub(super) async fn load<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k OrderKey>,
    ) -> Result<Loaded, StoreError> {
        let mut keys: Vec<OrderKey> = keys.cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut loaded = Loaded::default();
        if keys.is_empty() {
            return Ok(loaded);
        }
        for mut row in self.tx.load(&keys).await? {
            let record = rows::order_record(&mut row)?;
            let digest = row.bytes("digest")?;
            loaded.records.insert(record.key.clone(), (record, digest));
        }
        Ok(loaded)
    }

    pub(super) async fn save(&mut self, loaded: &Loaded) -> Result<(), StoreError> {
        let mut changed: Vec<&OrderRecord> =
            loaded.changed.iter().filter_map(|key| Some(&loaded.records.get(key)?.0)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        changed.sort_by(|a, b| a.key.cmp(&b.key));
        let written = self.tx.save(&changed).await?;
        if written == changed.len() as u64 {
            return Ok(());
        }
        // The rows were locked when they were loaded, so nobody can have changed them since.
        Err(StoreError::Corrupt {
            table: "orders",
            column: "version",
            row: changed.iter().map(|r| r.key.to_string()).collect::<Vec<_>>().join(", "),
            detail: format!(
                "{written} of {} rows were unchanged since they were loaded",
                changed.len()
            ),
        })
    }
}
