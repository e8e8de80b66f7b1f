//! Admitting orders in a batch: new ones are inserted, known ones are compared, and the domain says
//! whether an attempt may be made now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::lifecycle::claim::Admission;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::document::Order;
use crate::domain::order::values::OrderKey;
use crate::ports::orders::{Accepted, AdmitRequest, Admitted, Incoming, Placed};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::batch::{Batch, Loaded};
use super::db::Tx;
use super::gone::gone_order;
use super::rows::{self, Documents};
use super::work::{AcceptRequest, Pending};

/// A request to store an order.
#[derive(Clone, Copy)]
pub(super) enum Entry<'a> {
    Admit(&'a Pending<AdmitRequest, Admitted>),
    Accept(&'a Pending<AcceptRequest, Accepted>),
}

impl<'a> Entry<'a> {
    fn key(self) -> &'a OrderKey {
        match self {
            Self::Admit(pending) => pending.request.incoming.key(),
            Self::Accept(pending) => &pending.request.placed.order.key,
        }
    }

    fn placed(self) -> Option<&'a Placed> {
        match self {
            Self::Admit(pending) => match &pending.request.incoming {
                Incoming::Placed(placed) => Some(placed),
                Incoming::Again { .. } => None,
            },
            Self::Accept(pending) => Some(&pending.request.placed),
        }
    }

    fn now(self) -> Timestamp {
        match self {
            Self::Admit(pending) => pending.request.now,
            Self::Accept(pending) => pending.request.now,
        }
    }

    /// Applies the request to the record and answers it.
    fn enter(self, record: &mut OrderRecord, document: Arc<str>, content: Content) {
        match self {
            Self::Accept(pending) => pending.answer(match content {
                Content::New => Accepted::New,
                Content::Known => Accepted::Duplicate,
                Content::Conflicting => Accepted::Conflict,
            }),
            Self::Admit(pending) => {
                let AdmitRequest { incoming, intent, now } = &pending.request;
                let admission = match content {
                    Content::Conflicting => Admission::Stale,
                    Content::New | Content::Known => record.admit(incoming.call(), intent, *now),
                };
                pending.answer(Admitted::Known {
                    admission,
                    record: Box::new(record.clone()),
                    document,
                    conflict: content == Content::Conflicting,
                    new: content == Content::New,
                });
            }
        }
    }

    /// The order is finished, and its rows are gone (`gone.rs`).
    fn answer_gone(self, content: &[u8]) {
        let same = self
            .placed()
            .is_none_or(|placed| Order::content_digest(&placed.order.document) == content);
        match self {
            Self::Admit(pending) => pending.answer(Admitted::Gone { same }),
            Self::Accept(pending) if same => pending.answer(Accepted::Duplicate),
            Self::Accept(pending) => pending.answer(Accepted::NumberTaken),
        }
    }

    /// Only a retry can be of an order that the ledger does not have: all others were inserted. Whoever was
    /// told that an order is stored keeps no copy, so an order without its row is an error, never a "yes".
    fn answer_unknown(self) -> Result<(), StoreError> {
        match self {
            Self::Admit(pending) => {
                pending.answer(Admitted::Unknown);
                Ok(())
            }
            Self::Accept(pending) => Err(StoreError::Corrupt {
                table: "orders",
                column: "order_id",
                row: pending.request.placed.order.key.to_string(),
                detail: "the order was neither inserted nor found".to_owned(),
            }),
        }
    }
}

/// An order that is new if the ledger does not have it.
pub(super) struct Fresh<'a> {
    /// Its place among the entries.
    pub(super) place: usize,
    pub(super) placed: &'a Placed,
    pub(super) record: OrderRecord,
}

/// The order messages among these entries, answered as new, in the order of their keys, so that two processes never
/// wait for each other in a ring. And the places of the others: of retries, and of messages of an order that is among
/// them already.
pub(super) fn fresh<'a>(entries: &[Entry<'a>]) -> (Vec<Fresh<'a>>, Vec<usize>) {
    let mut seen = HashSet::new();
    let (mut fresh, mut known) = (Vec::new(), Vec::new());
    for (place, entry) in entries.iter().enumerate() {
        match entry.placed() {
            Some(placed) if seen.insert(entry.key()) => {
                let mut record = OrderRecord::received(&placed.order, entry.now());
                record.trace.clone_from(&placed.trace);
                entry.enter(&mut record, placed.order.document.clone(), Content::New);
                fresh.push(Fresh { place, placed, record });
            }
            _ => known.push(place),
        }
    }
    fresh.sort_by(|a, b| a.record.key.cmp(&b.record.key));
    (fresh, known)
}

/// What the content of an order message is to the ledger.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    New,
    Known,
    Conflicting,
}

impl<T: Tx> Batch<T> {
    pub(super) async fn admit(&mut self, entries: &[Entry<'_>]) -> Result<(), StoreError> {
        let known = self.insert_new(entries).await?;
        if known.is_empty() {
            return Ok(());
        }
        let mut loaded = self.load(known.iter().map(|entry| entry.key())).await?;
        let documents = self.documents_for(&known, &loaded).await?;
        let mut conflicts = Vec::new();
        for entry in known {
            let Some((record, digest)) = loaded.records.get_mut(entry.key()) else {
                match gone_order(&mut self.tx, entry.key()).await? {
                    Some(gone) => entry.answer_gone(&gone.content),
                    None => entry.answer_unknown()?,
                }
                continue;
            };
            let stored = documents.get(entry.key());
            let content = match entry.placed() {
                Some(placed)
                    if placed.order.digest != digest.as_slice()
                        && stored.is_none_or(|stored| {
                            !Order::says_the_same(&placed.order.document, &stored.original)
                        }) =>
                {
                    conflicts.push((placed, entry.now()));
                    Content::Conflicting
                }
                _ => Content::Known,
            };
            let came = entry.placed().map(|placed| placed.order.document.clone());
            let stored = stored.map(|stored| stored.edited.as_ref().unwrap_or(&stored.original));
            let document = stored.cloned().or(came).unwrap_or_default();
            let before = record.clone();
            entry.enter(record, document, content);
            if *record != before {
                record.updated_at = entry.now();
                loaded.changed.insert(record.key.clone());
            }
        }
        self.save(&loaded).await?;
        self.keep_conflicts(&conflicts).await
    }

    /// Inserts new orders and answers them; returns those that existed before or are duplicates in
    /// this batch.
    async fn insert_new<'e>(
        &mut self,
        entries: &[Entry<'e>],
    ) -> Result<Vec<Entry<'e>>, StoreError> {
        let (fresh, mut known) = fresh(entries);
        let rows: Vec<_> = fresh.iter().map(|new| (new.placed, &new.record)).collect();
        let inserted = self.insert_orders(&rows).await?;
        let existed = fresh.iter().filter(|new| !inserted.contains(&new.record.key));
        known.extend(existed.map(|new| new.place));
        // As they came: of two messages of one order the first is admitted first.
        known.sort_unstable();
        Ok(known.into_iter().map(|place| entries[place]).collect())
    }

    /// The stored documents where they are needed: to be sent, or to be compared. Of an edited
    /// order, the newest revision is sent and never the document of the message.
    async fn documents_for(
        &mut self,
        entries: &[Entry<'_>],
        loaded: &Loaded,
    ) -> Result<HashMap<OrderKey, Documents>, StoreError> {
        let mut keys: Vec<OrderKey> = Vec::new();
        for entry in entries {
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
}
