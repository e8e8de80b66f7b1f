//! One transaction in progress on the hot path: loading and locking orders, inserting and saving them.
//!
//! The domain decides; a batch loads, calls it, and writes back. What each kind of work does is in
//! `admitting.rs` and `outcomes.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::Phase;
use crate::domain::order::values::OrderKey;
use crate::ports::orders::Placed;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::Tx;
use super::moves::{Moves, Place};
use super::rows;
use super::sorting::raced;
use super::work::Work;

/// One transaction in progress.
pub(super) struct Batch<T> {
    pub(super) tx: T,
    /// What it does to the numbers of orders.
    pub(super) moves: Moves,
}

/// Orders loaded and locked, and which of them changed.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) records: HashMap<OrderKey, (OrderRecord, Vec<u8>)>,
    pub(super) changed: HashSet<OrderKey>,
    /// Where they stood, and their failed attempts.
    before: HashMap<OrderKey, (Place, u32)>,
}

impl Loaded {
    fn add(&mut self, record: OrderRecord, digest: Vec<u8>) {
        let before = (Place::of(&record), record.fail_count);
        self.before.insert(record.key.clone(), before);
        self.records.insert(record.key.clone(), (record, digest));
    }
}

impl<T: Tx> Batch<T> {
    /// A batch in `tx`.
    pub(super) fn new(tx: T) -> Self {
        Self { tx, moves: Moves::default() }
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

    /// Makes it durable.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        self.moves.write(&mut self.tx).await?;
        self.tx.commit().await
    }

    /// Inserts orders; of those that are new and not plain, the state too.
    pub(super) async fn insert_orders(
        &mut self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        if rows.is_empty() {
            return Ok(HashSet::new());
        }
        let inserted = self.tx.insert_orders(rows).await?;
        let mut states = Loaded::default();
        for (placed, record) in rows {
            if record.phase != Phase::Queued && inserted.contains(&record.key) {
                states.add(OrderRecord::received(&placed.order, record.received_at), Vec::new());
                states.changed.insert(record.key.clone());
                if let Some((state, _)) = states.records.get_mut(&record.key) {
                    // It came like this: nothing has changed yet.
                    *state = OrderRecord { version: -1, ..(*record).clone() };
                }
            }
        }
        self.save(&states).await?;
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
            loaded.add(record, digest);
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
        if written != changed.len() as u64 {
            // Rows that were there are locked since they were loaded: somebody else wrote a first state.
            return Err(raced());
        }
        let mut failed: Vec<&OrderRecord> = Vec::new();
        for record in changed {
            let Some((place, failures)) = loaded.before.get(&record.key) else { continue };
            let failures = record.fail_count.saturating_sub(*failures);
            self.moves.change(place, record, failures);
            if failures > 0 {
                failed.push(record);
            }
        }
        self.add_failure_groups(&failed).await
    }

    /// Failures of a kind that was not seen before.
    async fn add_failure_groups(&mut self, failed: &[&OrderRecord]) -> Result<(), StoreError> {
        let mut groups = BTreeMap::new();
        for record in failed {
            if let Some(failure) = &record.last_failure {
                groups.entry(failure.summary.fingerprint.as_str()).or_insert((failure, record));
            }
        }
        // In the order of their fingerprints, so that two processes never wait for each other in a ring.
        for (fingerprint, (failure, record)) in groups {
            let sql =
                "INSERT INTO failure_groups (fingerprint, class, code, message, first_seen_ms)
                SELECT $1, $2, $3, $4, CAST($5 AS BIGINT)
                WHERE NOT EXISTS (SELECT 1 FROM failure_groups WHERE fingerprint = $1)
                ON CONFLICT DO NOTHING";
            let summary = &failure.summary;
            let args = sql_args![
                fingerprint,
                summary.class.as_str(),
                &summary.code,
                &summary.message,
                record.updated_at
            ];
            self.tx.execute(&sql.into(), args).await?;
        }
        Ok(())
    }
}
