//! The queue of the ledger's hot path, for both databases.
//!
//! Each caller puts its work into the queue; the caller that acquires the writer lock writes the
//! whole queue as one transaction and answers the others. So the load sets the size of a batch: one
//! row when there is little to do, hundreds under load, and never a wait for a batch to fill. What
//! a batch does is in `batch.rs`, `admitting.rs` and `outcomes.rs`.

use std::sync::{Mutex, PoisonError};

use crate::ports::ledger::LedgerHealth;
use crate::ports::store_error::StoreError;

use super::admitting::Entry;
use super::batch::Batch;
use super::db::Db;
use super::fault_watch::FaultWatch;
use super::outage_watch::OutageWatch;
use super::plain;
use super::sorting::lost_a_race;
use super::work::{Pending, Work, given_up};

/// Most items in one transaction; measured: more gains nothing (docs/facts/rabbitmq.md 6).
const MAX_BATCH: usize = 400;
/// Most document bytes in one transaction, and so in one message to the database.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How often a transaction that lost against another one is repeated before the caller has to.
const MAX_RACES: u32 = 3;
/// Orders in a row that the database does not take one by one before it is an outage after all.
const OUTAGES_OF_ONE: usize = 3;

/// Work that waits for its batch, and who writes one.
#[derive(Default)]
struct Queue {
    works: Mutex<Vec<Work>>,
    writer_lock: tokio::sync::Mutex<()>,
}

/// A ledger in a database.
pub struct SqlStore<D> {
    pub(super) db: D,
    /// New orders apart from everything else where the database writes both at once.
    queues: [Queue; 2],
    pub(super) watch: FaultWatch,
    outages: OutageWatch,
}

impl<D: Db> LedgerHealth for SqlStore<D> {
    fn fault(&self) -> Option<StoreError> {
        self.watch.fault()
    }
}

impl<D: Db> SqlStore<D> {
    /// A ledger in `db`.
    pub fn new(db: D) -> Self {
        let (watch, outages) = (FaultWatch::default(), OutageWatch::default());
        Self { db, queues: <[Queue; 2]>::default(), watch, outages }
    }

    /// Queues a request as `kind` of work and waits until it is durable.
    ///
    /// The loop ends: our work stays in the queue until a batch takes it, batches take the oldest
    /// first, and the holder of the writer lock answers everybody in its batch before it releases
    /// the lock.
    pub(super) async fn run<R, A>(
        &self,
        request: R,
        kind: fn(Pending<R, A>) -> Work,
    ) -> Result<A, StoreError> {
        let (pending, mut answer) = Pending::new(request);
        let work = kind(pending);
        let queue = self.queue_of(&work);
        queue.works.lock().unwrap_or_else(PoisonError::into_inner).push(work);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(given_up())),
                _writer = queue.writer_lock.lock() => self.write_batch(queue).await,
            }
        }
    }

    fn queue_of(&self, work: &Work) -> &Queue {
        let is_claim = matches!(work, Work::Admit(_) | Work::Accept(_));
        let [claims, outcomes] = &self.queues;
        if is_claim && self.db.plain().is_some() { claims } else { outcomes }
    }

    async fn write_batch(&self, queue: &Queue) {
        let works: Vec<Work> = {
            let mut queue = queue.works.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = 0;
            let fits = queue.iter().take(MAX_BATCH).take_while(|work| {
                bytes += work.bytes();
                bytes <= MAX_BATCH_BYTES
            });
            let size = fits.count().max(1).min(queue.len());
            queue.drain(..size).collect()
        };
        let works = self.write_plain(works).await;
        let results = self.write_all(&works).await;
        for (work, written) in works.into_iter().zip(results) {
            let written = self.watch.judge(work.kind(), written);
            work.settle(written);
        }
    }

    /// Writes and answers what goes the plain way; returns the rest. What the database does not take comes back, too:
    /// the careful way finds out why.
    async fn write_plain(&self, works: Vec<Work>) -> Vec<Work> {
        let Some(db) = self.db.plain() else { return works };
        let written = plain::write(db, &works).await;
        if written.is_empty() {
            return works;
        }
        let pieces = works.iter().enumerate().filter(|(place, _)| written.contains(place));
        self.outages.judge_batch(pieces.map(|(_, work)| work.piece()), &Ok(()));
        let mut left = Vec::new();
        for (place, work) in works.into_iter().enumerate() {
            if written.contains(&place) {
                let judged = self.watch.judge(work.kind(), Ok(()));
                work.settle(judged);
            } else {
                left.push(work);
            }
        }
        left
    }

    /// One transaction for all; if one row may be in the way, one for each, so that it does not block the others.
    async fn write_all(&self, works: &[Work]) -> Vec<Result<(), StoreError>> {
        if works.is_empty() {
            return Vec::new();
        }
        if let [work] = works {
            return vec![self.write_alone(work).await];
        }
        let written = self.write_again(works).await;
        let pieces = works.iter().map(Work::piece);
        let may_be_one = self.outages.judge_batch(pieces, &written);
        match written {
            Err(StoreError::Refused(_) | StoreError::Corrupt { .. } | StoreError::Broken(_)) => {
                self.write_each(works).await
            }
            Err(StoreError::Unavailable(_)) if may_be_one => self.write_each(works).await,
            written => works.iter().map(|_| written.clone()).collect(),
        }
    }

    /// A transaction for each, until those of several orders in a row meet an outage.
    async fn write_each(&self, works: &[Work]) -> Vec<Result<(), StoreError>> {
        let mut results = Vec::with_capacity(works.len());
        let mut orders = Vec::new();
        for work in works {
            let written = self.write_alone(work).await;
            match &written {
                // An order may have several pieces side by side.
                Err(StoreError::Unavailable(_)) if orders.contains(&work.key()) => {}
                Err(StoreError::Unavailable(_)) => orders.push(work.key()),
                _ => orders.clear(),
            }
            results.push(written.clone());
            if orders.len() >= OUTAGES_OF_ONE {
                results.resize(works.len(), written);
                break;
            }
        }
        results
    }

    async fn write_alone(&self, work: &Work) -> Result<(), StoreError> {
        let written = self.write_again(std::slice::from_ref(work)).await;
        self.outages.judge_alone(|| work.piece(), written)
    }

    /// Writes it; a transaction that lost against another one is repeated at once.
    async fn write_again(&self, works: &[Work]) -> Result<(), StoreError> {
        for _ in 0..MAX_RACES {
            match self.write(works).await {
                Err(error) if lost_a_race(&error) => {}
                written => return written,
            }
        }
        self.write(works).await
    }

    async fn write(&self, works: &[Work]) -> Result<(), StoreError> {
        let mut batch = Batch::new(self.db.begin().await?);
        let mut entries = Vec::new();
        let mut receipts = Vec::new();
        let mut failures = Vec::new();
        let mut hand_backs = Vec::new();
        let mut keeps = Vec::new();
        for work in works {
            match work {
                Work::Admit(pending) => entries.push(Entry::Admit(pending)),
                Work::Accept(pending) => entries.push(Entry::Accept(pending)),
                Work::Confirm(pending) => receipts.push(&**pending),
                Work::Fail(pending) => failures.push(&**pending),
                Work::HandBack(pending) => hand_backs.push(pending),
                Work::Keep(pending) => keeps.push(&**pending),
            }
        }
        batch.lock(works).await?;
        batch.confirm(receipts).await?;
        batch.record_failures(&failures).await?;
        batch.hand_back(&hand_backs).await?;
        batch.keep(&keeps).await?;
        batch.admit(&entries).await?;
        batch.commit().await
    }
}
