//! The hot path of the ledger: admitting, confirming, counting failures, for both databases.
//!
//! Each caller puts its work into a queue; the caller that acquires the writer lock writes the
//! whole queue as one transaction and answers the others. So the load sets the size of a batch: one
//! row when there is little to do, hundreds under load, and never a wait for a batch to fill. The
//! domain decides; this file loads, calls it, and writes back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::domain::lifecycle::claim::Admission;
use crate::domain::lifecycle::transitions::{InvalidTransition, OrderRecord, ReceiptEffect};
use crate::domain::lifecycle::vocabulary::{OrderState, Trigger};
use crate::domain::notice::{NoticeKind, order_notice_id};
use crate::domain::order::document::Order;
use crate::domain::order::values::OrderKey;
use crate::ports::mail::NoticeDetail;
use crate::ports::notices::Notice;
use crate::ports::orders::{
    Accepted, AdmitRequest, Admitted, ConfirmRequest, Confirmed, FailureRequest, HandBackRequest,
    Incoming, KeepRequest, Placed, Recorded,
};
use crate::ports::store_error::{SharedError, StoreError};
use crate::sql_args;

use super::db::{Db, Tx};
use super::rows::{self, Documents};

/// Most items in one transaction; measured: more gains nothing (docs/facts/rabbitmq.md 6).
const MAX_ROUND: usize = 400;
/// Most document bytes in one transaction, and so in one message to the database.
const MAX_ROUND_BYTES: usize = 16 * 1024 * 1024;
/// Shards of the received tally, so that workers do not wait for each other's row lock.
const TALLY_SHARDS: u64 = 16;

/// A ledger in a database.
pub struct SqlStore<D> {
    pub(super) db: D,
    line: Mutex<Vec<Pending>>,
    pen: tokio::sync::Mutex<()>,
    shard: i64,
}

/// One item of work on the hot path.
pub(super) enum Work {
    Admit(AdmitRequest),
    Accept(Placed, Timestamp),
    Confirm(Box<ConfirmRequest>),
    Fail(Box<FailureRequest>),
    HandBack(HandBackRequest),
    Keep(Box<KeepRequest>),
}

impl Work {
    /// Bytes of its documents.
    fn bytes(&self) -> usize {
        let placed = match self {
            Self::Admit(AdmitRequest { incoming: Incoming::Placed(placed), .. })
            | Self::Accept(placed, _) => Some(placed),
            Self::Fail(request) => request.order.as_ref(),
            _ => None,
        };
        placed.map_or(0, |placed| placed.order.document.len())
    }
}

/// Its result.
pub(super) enum Done {
    Admitted(Admitted),
    Accepted(Accepted),
    Confirmed(Confirmed),
    Recorded(Recorded),
    HandedBack,
    Kept,
}

struct Pending {
    work: Work,
    reply: oneshot::Sender<Result<Done, StoreError>>,
}

impl<D: Db> SqlStore<D> {
    /// A ledger in `db`; `worker` chooses its shard of the tally.
    pub fn new(db: D, worker: &str) -> Self {
        let sum = worker.bytes().fold(0u64, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
        let shard = i64::try_from(sum % TALLY_SHARDS).unwrap_or(0);
        Self { db, line: Mutex::default(), pen: tokio::sync::Mutex::default(), shard }
    }

    /// Queues work and waits until it is durable.
    ///
    /// The loop ends: our work stays in the queue until a batch takes it, batches take the oldest
    /// first, and the holder of the writer lock answers everybody in its batch before it releases
    /// the lock.
    pub(super) async fn run(&self, work: Work) -> Result<Done, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        self.line.lock().unwrap_or_else(PoisonError::into_inner).push(Pending { work, reply });
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(given_up())),
                _pen = self.pen.lock() => self.write_round().await,
            }
        }
    }

    async fn write_round(&self) {
        let round: Vec<Pending> = {
            let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = 0;
            let fits = line.iter().take(MAX_ROUND).take_while(|pending| {
                bytes += pending.work.bytes();
                bytes <= MAX_ROUND_BYTES
            });
            let size = fits.count().max(1).min(line.len());
            line.drain(..size).collect()
        };
        let (works, replies): (Vec<Work>, Vec<_>) =
            round.into_iter().map(|pending| (pending.work, pending.reply)).unzip();
        let results = self.write_all(&works).await;
        for (reply, result) in replies.into_iter().zip(results) {
            // Nobody waits any more if the calling task was aborted at shutdown.
            drop(reply.send(result));
        }
    }

    /// One transaction for all; if the database refuses it or a row is invalid, one for each, so
    /// that one bad row does not block the others.
    async fn write_all(&self, works: &[Work]) -> Vec<Result<Done, StoreError>> {
        match self.write(works).await {
            Ok(done) => done.into_iter().map(Ok).collect(),
            Err(StoreError::Refused(_) | StoreError::Corrupt { .. }) if works.len() > 1 => {
                let mut results = Vec::with_capacity(works.len());
                for work in works {
                    let alone = self.write(std::slice::from_ref(work)).await;
                    results.push(alone.map(|mut done| done.remove(0)));
                }
                results
            }
            Err(error) => works.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn write(&self, works: &[Work]) -> Result<Vec<Done>, StoreError> {
        let mut round =
            Round { tx: self.db.begin().await?, shard: self.shard, done: BTreeMap::new() };
        let mut admits = Vec::new();
        let mut confirms = Vec::new();
        let mut failures = Vec::new();
        let mut hand_backs = Vec::new();
        let mut keeps = Vec::new();
        for (slot, work) in works.iter().enumerate() {
            match work {
                Work::Admit(request) => admits.push((slot, Entry::Admit(request))),
                Work::Accept(placed, now) => admits.push((slot, Entry::Accept(placed, *now))),
                Work::Confirm(request) => confirms.push((slot, &**request)),
                Work::Fail(request) => failures.push((slot, &**request)),
                Work::HandBack(request) => hand_backs.push((slot, request)),
                Work::Keep(request) => keeps.push((slot, &**request)),
            }
        }
        round.confirm(confirms).await?;
        round.record_failures(&failures).await?;
        round.hand_back(&hand_backs).await?;
        round.keep(&keeps).await?;
        round.admit(&admits).await?;
        round.tx.commit().await?;
        debug_assert_eq!(round.done.len(), works.len());
        Ok(round.done.into_values().collect())
    }
}

fn given_up() -> StoreError {
    StoreError::Unavailable(SharedError(Arc::from(
        Box::<dyn std::error::Error + Send + Sync>::from("the transaction was aborted"),
    )))
}

/// A request to store an order.
#[derive(Clone, Copy)]
enum Entry<'a> {
    Admit(&'a AdmitRequest),
    Accept(&'a Placed, Timestamp),
}

impl<'a> Entry<'a> {
    fn key(self) -> &'a OrderKey {
        match self {
            Self::Admit(request) => request.incoming.key(),
            Self::Accept(placed, _) => &placed.order.key,
        }
    }

    fn placed(self) -> Option<&'a Placed> {
        match self {
            Self::Admit(AdmitRequest { incoming: Incoming::Placed(placed), .. })
            | Self::Accept(placed, _) => Some(placed),
            Self::Admit(_) => None,
        }
    }

    fn now(self) -> Timestamp {
        match self {
            Self::Admit(request) => request.now,
            Self::Accept(_, now) => now,
        }
    }

    /// Applies the request to the record; returns the answer.
    fn enter(self, record: &mut OrderRecord, document: Arc<str>, story: Story) -> Done {
        match self {
            Self::Accept(..) => Done::Accepted(match story {
                Story::New => Accepted::New,
                Story::Known => Accepted::Duplicate,
                Story::Conflict => Accepted::Conflict,
            }),
            Self::Admit(request) => {
                let admission = if story == Story::Conflict {
                    Admission::Stale
                } else {
                    record.admit(request.incoming.call(), &request.intent, request.now)
                };
                Done::Admitted(Admitted::Known {
                    admission,
                    record: Box::new(record.clone()),
                    document,
                    conflict: story == Story::Conflict,
                    new: story == Story::New,
                })
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Story {
    New,
    Known,
    Conflict,
}

/// One transaction in progress, and the answers to give when it is durable.
struct Round<T> {
    tx: T,
    shard: i64,
    done: BTreeMap<usize, Done>,
}

/// Orders loaded and locked, and which of them changed.
#[derive(Default)]
struct Loaded {
    records: HashMap<OrderKey, (OrderRecord, Vec<u8>)>,
    changed: HashSet<OrderKey>,
}

impl<T: Tx> Round<T> {
    async fn admit(&mut self, entries: &[(usize, Entry<'_>)]) -> Result<(), StoreError> {
        let known = self.insert_new(entries).await?;
        if known.is_empty() {
            return Ok(());
        }
        let mut loaded = self.load(known.iter().map(|(_, entry)| entry.key())).await?;
        let documents = self.documents_for(&known, &loaded).await?;
        let mut conflicts = Vec::new();
        for (slot, entry) in known {
            let Some((record, digest)) = loaded.records.get_mut(entry.key()) else {
                self.done.insert(slot, Done::Admitted(Admitted::Unknown));
                continue;
            };
            let stored = documents.get(entry.key());
            let story = match entry.placed() {
                Some(placed)
                    if placed.order.digest != digest.as_slice()
                        && stored.is_none_or(|stored| {
                            !Order::says_the_same(&placed.order.document, &stored.original)
                        }) =>
                {
                    conflicts.push((placed, entry.now()));
                    Story::Conflict
                }
                _ => Story::Known,
            };
            let came = entry.placed().map(|placed| placed.order.document.clone());
            let stored = stored.map(|stored| stored.edited.as_ref().unwrap_or(&stored.original));
            let document = stored.cloned().or(came).unwrap_or_default();
            let before = record.clone();
            let done = entry.enter(record, document, story);
            if *record != before {
                record.updated_at = entry.now();
                loaded.changed.insert(record.key.clone());
            }
            self.done.insert(slot, done);
        }
        self.save(&loaded).await?;
        self.keep_conflicts(&conflicts).await
    }

    /// Inserts new orders and answers them; returns those that existed before or are duplicates in
    /// this batch.
    async fn insert_new<'e>(
        &mut self,
        entries: &[(usize, Entry<'e>)],
    ) -> Result<Vec<(usize, Entry<'e>)>, StoreError> {
        let mut seen = HashSet::new();
        let mut fresh = Vec::new();
        for (slot, entry) in entries {
            if let Some(placed) = entry.placed()
                && seen.insert(entry.key())
            {
                let mut record = OrderRecord::received(&placed.order, entry.now());
                record.trace.clone_from(&placed.trace);
                let done = entry.enter(&mut record, placed.order.document.clone(), Story::New);
                fresh.push((*slot, placed, record, done));
            }
        }
        // In the order of their keys, so that two processes never deadlock.
        fresh.sort_by(|a, b| a.2.key.cmp(&b.2.key));
        let rows: Vec<_> = fresh.iter().map(|(_, placed, record, _)| (*placed, record)).collect();
        let inserted = self.insert_orders(&rows).await?;
        for (slot, _, record, done) in fresh {
            if inserted.contains(&record.key) {
                self.done.insert(slot, done);
            }
        }
        Ok(entries.iter().filter(|(slot, _)| !self.done.contains_key(slot)).copied().collect())
    }

    /// Inserts rows and counts those that are new in the tally.
    async fn insert_orders(
        &mut self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        if rows.is_empty() {
            return Ok(HashSet::new());
        }
        let inserted = self.tx.insert_orders(rows).await?;
        let mut by_shop = BTreeMap::<&str, i64>::new();
        for key in &inserted {
            *by_shop.entry(key.shop.as_str()).or_default() += 1;
        }
        for (shop, received) in by_shop {
            let sql = "INSERT INTO tallies (shop, shard, received)
                VALUES ($1, $2, $3)
                ON CONFLICT (shop, shard) DO UPDATE SET received = tallies.received + excluded.received";
            self.tx.execute(&sql.into(), sql_args![shop, self.shard, received]).await?;
        }
        Ok(inserted)
    }

    async fn load<'k>(
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

    /// The stored documents where they are needed: to be sent, or to be compared. Of an edited
    /// order, the newest revision is sent and never the document of the message.
    async fn documents_for(
        &mut self,
        entries: &[(usize, Entry<'_>)],
        loaded: &Loaded,
    ) -> Result<HashMap<OrderKey, Documents>, StoreError> {
        let mut keys: Vec<OrderKey> = Vec::new();
        for (_, entry) in entries {
            let Some((record, digest)) = loaded.records.get(entry.key()) else { continue };
            let is_same = |placed: &Placed| placed.order.digest == digest.as_slice();
            if record.revision > 0 || !entry.placed().is_some_and(is_same) {
                keys.push(entry.key().clone());
            }
        }
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        self.tx.documents(&keys).await?.into_iter().map(rows::documents).collect()
    }

    async fn save(&mut self, loaded: &Loaded) -> Result<(), StoreError> {
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

    async fn keep_conflicts(
        &mut self,
        conflicts: &[(&Placed, Timestamp)],
    ) -> Result<(), StoreError> {
        for (placed, now) in conflicts {
            let (order, source) = (&placed.order, placed.source.as_str());
            let sql =
                "INSERT INTO conflicts (shop, order_id, digest, document, source, received_at_ms)
                VALUES ($1, $2, $3, $4, $5, $6)
                ON CONFLICT DO NOTHING";
            let args = sql_args![
                order.key.shop.as_str(),
                order.key.order_id.as_str(),
                &order.digest[..],
                &*order.document,
                source,
                *now
            ];
            self.tx.execute(&sql.into(), args).await?;
        }
        Ok(())
    }

    /// Receipts, in as many passes as one order has receipts here.
    async fn confirm(
        &mut self,
        mut receipts: Vec<(usize, &ConfirmRequest)>,
    ) -> Result<(), StoreError> {
        while !receipts.is_empty() {
            let mut seen = HashSet::new();
            let (mut now, later): (Vec<_>, Vec<_>) =
                receipts.into_iter().partition(|(_, request)| seen.insert(request.key.clone()));
            now.sort_by(|a, b| a.1.key.cmp(&b.1.key));
            self.confirm_each_once(&now).await?;
            receipts = later;
        }
        Ok(())
    }

    async fn confirm_each_once(
        &mut self,
        receipts: &[(usize, &ConfirmRequest)],
    ) -> Result<(), StoreError> {
        let requests: Vec<&ConfirmRequest> = receipts.iter().map(|(_, request)| *request).collect();
        let mut before = HashMap::new();
        for mut row in self.tx.confirm(&requests).await? {
            row.table = "orders";
            let key = rows::order_key(&mut row)?;
            let was_transferred = row.text("phase")? == "transferred";
            let erp_order_id = row.text_or_null("erp_order_id")?;
            before.insert(key, (was_transferred, erp_order_id, row.number("fail_count")?));
        }
        let mut notices = Vec::new();
        for (slot, request) in receipts {
            let Some((was_transferred, erp_order_id, fail_count)) = before.remove(&request.key)
            else {
                return Err(StoreError::Corrupt {
                    table: "orders",
                    column: "order_id",
                    row: request.key.to_string(),
                    detail: "the ERP accepted this order, but its row is missing".to_owned(),
                });
            };
            let number = request.erp_order_id.as_deref();
            let effect = ReceiptEffect::of(was_transferred, erp_order_id.as_deref(), number);
            let first = effect == ReceiptEffect::First;
            if first {
                notices.extend(request.notice.clone());
            }
            let other_erp_order_id = match effect {
                ReceiptEffect::EnteredTwice(other) => other,
                ReceiptEffect::First | ReceiptEffect::Known => None,
            };
            let confirmed = Confirmed { first, fail_count, other_erp_order_id };
            self.done.insert(*slot, Done::Confirmed(confirmed));
        }
        if notices.is_empty() { Ok(()) } else { self.tx.insert_notices(&notices).await }
    }

    async fn record_failures(
        &mut self,
        failures: &[(usize, &FailureRequest)],
    ) -> Result<(), StoreError> {
        if failures.is_empty() {
            return Ok(());
        }
        let mut loaded = self.load_or_insert(failures).await?;
        let mut countable = Vec::new();
        for (slot, request) in failures {
            match loaded.records.get(&request.key) {
                None => drop(self.done.insert(*slot, Done::Recorded(Recorded::Unknown))),
                Some((record, _)) => match refusal(record, request) {
                    Some(invalid) => {
                        self.done.insert(*slot, Done::Recorded(Recorded::Invalid(invalid)));
                    }
                    None => countable.push((*slot, *request)),
                },
            }
        }
        let mut seen = HashSet::new();
        let mut rows: Vec<&FailureRequest> =
            countable.iter().map(|(_, request)| *request).collect();
        rows.retain(|r| is_open(&loaded, r) && seen.insert((&r.key, r.failed.attempt)));
        rows.sort_by(|a, b| (&a.key, a.failed.attempt).cmp(&(&b.key, b.failed.attempt)));
        let mut new = match rows.is_empty() {
            true => HashSet::new(),
            false => self.tx.insert_failures(&rows).await?,
        };
        let mut notices = Vec::new();
        for (slot, request) in countable {
            let is_new = new.remove(&(request.key.clone(), request.failed.attempt));
            let recorded = count(&mut loaded, request, is_new, &mut notices);
            self.done.insert(slot, Done::Recorded(recorded));
        }
        self.save(&loaded).await?;
        if notices.is_empty() { Ok(()) } else { self.tx.insert_notices(&notices).await }
    }

    /// Loads the orders that failed; an unknown one that is part of the message is inserted first.
    async fn load_or_insert(
        &mut self,
        failures: &[(usize, &FailureRequest)],
    ) -> Result<Loaded, StoreError> {
        let mut fresh = BTreeMap::new();
        for (_, request) in failures {
            if let Some(placed) = &request.order {
                let record = OrderRecord::received(&placed.order, request.now);
                fresh.entry(record.key.clone()).or_insert((placed, record));
            }
        }
        let rows: Vec<_> = fresh.values().map(|(placed, record)| (*placed, record)).collect();
        self.insert_orders(&rows).await?;
        self.load(failures.iter().map(|(_, request)| &request.key)).await
    }

    async fn hand_back(
        &mut self,
        requests: &[(usize, &HandBackRequest)],
    ) -> Result<(), StoreError> {
        let mut loaded = self.load(requests.iter().map(|(_, request)| &request.key)).await?;
        for (slot, request) in requests {
            if let Some((record, _)) = loaded.records.get_mut(&request.key)
                && record.hand_back(&request.worker, request.how)
            {
                record.updated_at = request.now;
                loaded.changed.insert(record.key.clone());
            }
            self.done.insert(*slot, Done::HandedBack);
        }
        self.save(&loaded).await
    }

    async fn keep(&mut self, requests: &[(usize, &KeepRequest)]) -> Result<(), StoreError> {
        if requests.is_empty() {
            return Ok(());
        }
        let sql = "DELETE FROM exchanges
            WHERE shop = $1 AND order_id = $2 AND attempt = $3 AND question = 1 AND worker <> $4";
        for (_, r) in requests.iter().filter(|(_, request)| request.only_asked) {
            let (shop, order_id) = (r.key.shop.as_str(), r.key.order_id.as_str());
            self.tx.execute(&sql.into(), sql_args![shop, order_id, r.attempt, &r.worker]).await?;
        }
        let rows: Vec<&KeepRequest> = requests.iter().map(|(_, request)| *request).collect();
        self.tx.insert_exchanges(&rows).await?;
        self.done.extend(requests.iter().map(|(slot, _)| (*slot, Done::Kept)));
        Ok(())
    }
}

fn is_open(loaded: &Loaded, request: &FailureRequest) -> bool {
    loaded
        .records
        .get(&request.key)
        .is_some_and(|(record, _)| record.phase.state() != OrderState::Confirmed)
}

/// A failure that is not possible any more. For an attempt that the ledger knows as ended it is
/// only a late copy; for an unknown attempt it contradicts the ledger.
fn refusal(record: &OrderRecord, request: &FailureRequest) -> Option<InvalidTransition> {
    let is_confirmed = record.phase.state() == OrderState::Confirmed;
    (is_confirmed && request.failed.attempt > record.last_attempt).then(|| {
        InvalidTransition::InvalidState { state: OrderState::Confirmed, phase: record.phase.name() }
    })
}

fn count(
    loaded: &mut Loaded,
    request: &FailureRequest,
    is_new: bool,
    notices: &mut Vec<Notice>,
) -> Recorded {
    let Some((record, _)) = loaded.records.get_mut(&request.key) else { return Recorded::Unknown };
    let before = record.clone();
    let verdict = if is_new {
        match record.fail(&request.failed, &request.policy, request.now) {
            Ok(verdict) => Some(verdict),
            Err(invalid) => return Recorded::Invalid(invalid),
        }
    } else {
        record.verdict_again(&request.failed, &request.policy, request.now)
    };
    if *record != before {
        record.updated_at = request.now;
        loaded.changed.insert(request.key.clone());
    }
    let attempt = request.failed.attempt;
    let notice = order_notice_id(NoticeKind::OrderFailed, &request.key, attempt);
    if is_new {
        let mut detail = NoticeDetail::of_failure(record, &request.failed);
        detail.by_redrive = request.trigger == Trigger::Redrive;
        notices.push(Notice {
            id: notice.clone(),
            kind: NoticeKind::OrderFailed,
            detail,
            created_at: request.now,
        });
    }
    Recorded::Counted { verdict, record: Box::new(record.clone()), notice, new: is_new }
}
