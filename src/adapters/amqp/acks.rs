//! Acknowledging: one frame for a finished prefix, single ones behind a slow delivery.
//!
//! With one order in 500 hanging, acknowledging only prefixes falls to a fortieth of the rate, and
//! acknowledging all singly costs half again as much CPU (docs/facts/rabbitmq.md 1.8); so both are
//! used. A batch is written, then the next one takes what finished in the meantime: there is no
//! timer. Acks go only through `delivery.acker`, and its result is checked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::join_all;
use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};

use crate::ports::broker::{Settle, Settler};

use super::connection::PATIENCE;
use crate::adapters::amqp::session::Session;

/// The unsettled deliveries of one channel.
pub struct Acks {
    session: Arc<Session>,
    /// Kept open until the last delivery of it is settled.
    _channel: lapin::Channel,
    book: Mutex<Book<Acker>>,
    writing: tokio::sync::Mutex<()>,
}

/// Settles one delivery.
pub struct DeliverySettler {
    acks: Arc<Acks>,
    tag: u64,
}

#[async_trait]
impl Settler for DeliverySettler {
    async fn settle(&self, how: Settle) {
        self.acks.book().finish(self.tag, how);
        self.acks.write().await;
    }
}

impl Acks {
    /// The unsettled deliveries of a channel.
    pub fn new(session: Arc<Session>, channel: lapin::Channel) -> Arc<Self> {
        let writing = tokio::sync::Mutex::new(());
        Arc::new(Self { session, _channel: channel, book: Mutex::default(), writing })
    }

    /// Adds a delivery.
    pub fn open(self: &Arc<Self>, tag: u64, acker: Acker) -> Arc<dyn Settler> {
        self.book().open.insert(tag, (acker, None));
        Arc::new(DeliverySettler { acks: self.clone(), tag })
    }

    fn book(&self) -> MutexGuard<'_, Book<Acker>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes batches until nothing is finished. If another task is writing, the caller may return:
    /// the writer checks once more after it has released the lock.
    async fn write(&self) {
        loop {
            let Ok(writing) = self.writing.try_lock() else { return };
            loop {
                let round = self.book().take_round();
                if round.is_empty() {
                    break;
                }
                self.write_round(round).await;
            }
            drop(writing);
            if !self.book().has_finished() {
                return;
            }
        }
    }

    /// A settlement that lapin accepts while its connection breaks may never be answered, and the
    /// service would never drain: so a lost session is not waited for, and any other one only for a
    /// limited time.
    async fn write_round(&self, round: Vec<Mark<Acker>>) {
        let written = tokio::select! {
            biased;
            written = join_all(round.into_iter().map(write_one)) => written,
            () = self.session.until_lost() => return,
            () = tokio::time::sleep(PATIENCE) => {
                return self.session.lose("a settlement was not written in time");
            }
        };
        for result in written {
            match result {
                Ok(true) => {}
                // The session is gone; the broker redelivers what was not acknowledged.
                Ok(false) => self.session.lose("a settlement was too late"),
                Err(error) => self.session.lose(&error.to_string()),
            }
        }
    }
}

async fn write_one(mark: Mark<Acker>) -> Result<bool, lapin::Error> {
    match mark {
        Mark::AckUpTo(acker) => acker.ack(BasicAckOptions { multiple: true }).await,
        Mark::One(acker, Settle::Ack) => acker.ack(BasicAckOptions { multiple: false }).await,
        Mark::One(acker, Settle::Requeue) => {
            acker.nack(BasicNackOptions { multiple: false, requeue: true }).await
        }
        Mark::One(acker, Settle::Reject) => {
            acker.reject(BasicRejectOptions { requeue: false }).await
        }
    }
}

/// What to write.
#[derive(Debug, PartialEq, Eq)]
enum Mark<A> {
    AckUpTo(A),
    One(A, Settle),
}

/// Deliveries in the order of their tags; `Some` when finished.
struct Book<A> {
    open: BTreeMap<u64, (A, Option<Settle>)>,
    finished: usize,
}

impl<A> Default for Book<A> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), finished: 0 }
    }
}

impl<A> Book<A> {
    fn finish(&mut self, tag: u64, how: Settle) {
        if let Some((_, state @ None)) = self.open.get_mut(&tag) {
            *state = Some(how);
            self.finished += 1;
        }
    }

    fn has_finished(&self) -> bool {
        self.finished > 0
    }

    /// Takes everything finished: the acknowledged prefix as one mark, the rest singly. The prefix
    /// mark covers exactly the deliveries before the first unfinished or refused one, because tags
    /// rise in the order of delivery and every delivery that was handed out is recorded.
    fn take_round(&mut self) -> Vec<Mark<A>> {
        let mut round = Vec::new();
        if self.finished == 0 {
            return round;
        }
        let mut prefix: Option<A> = None;
        let mut length = 0;
        while let Some(first) = self.open.first_entry() {
            if first.get().1 != Some(Settle::Ack) {
                break;
            }
            prefix = Some(first.remove().0);
            length += 1;
        }
        match (prefix, length) {
            (Some(acker), 1) => round.push(Mark::One(acker, Settle::Ack)),
            (Some(acker), _) => round.push(Mark::AckUpTo(acker)),
            (None, _) => {}
        }
        if self.finished > length {
            let behind: Vec<u64> = self
                .open
                .iter()
                .filter(|(_, (_, how))| how.is_some())
                .map(|(tag, _)| *tag)
                .collect();
            for tag in behind {
                if let Some((acker, Some(how))) = self.open.remove(&tag) {
                    round.push(Mark::One(acker, how));
                }
            }
        }
        self.finished = 0;
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn book(tags: std::ops::Range<u64>) -> Book<u64> {
        Book { open: tags.map(|tag| (tag, (tag, None))).collect(), finished: 0 }
    }

    #[test]
    fn a_finished_prefix_is_one_frame_and_what_is_behind_a_slow_one_goes_singly() {
        let mut book = book(1..7);
        for tag in [1, 2, 3, 5, 6] {
            book.finish(tag, if tag == 6 { Settle::Reject } else { Settle::Ack });
        }
        assert_eq!(
            book.take_round(),
            [Mark::AckUpTo(3), Mark::One(5, Settle::Ack), Mark::One(6, Settle::Reject)]
        );
        assert!(book.take_round().is_empty());
        book.finish(4, Settle::Ack);
        assert_eq!(book.take_round(), [Mark::One(4, Settle::Ack)]);
        assert!(book.open.is_empty());
    }

    proptest! {
        /// In whatever order deliveries finish and batches are taken: each is settled once, with
        /// its verdict, and a prefix never covers an unfinished one.
        #[test]
        fn every_delivery_is_settled_once_and_no_unfinished_one_is(
            order in Just((1u64..40).collect::<Vec<_>>()).prop_shuffle(),
            rejects in proptest::collection::hash_set(1u64..40, 0..8),
            rounds in proptest::collection::vec(any::<bool>(), 39),
        ) {
            let mut book = book(1..40);
            let mut finished = std::collections::HashSet::new();
            let mut settled = std::collections::BTreeMap::new();
            for (tag, take) in order.into_iter().zip(rounds.into_iter()) {
                let how = if rejects.contains(&tag) { Settle::Reject } else { Settle::Ack };
                book.finish(tag, how);
                finished.insert(tag);
                if !take && finished.len() < 39 { continue; }
                for mark in book.take_round() {
                    match mark {
                        Mark::One(tag, how) => prop_assert!(settled.insert(tag, how).is_none()),
                        Mark::AckUpTo(last) => for tag in 1..=last {
                            prop_assert!(finished.contains(&tag));
                            settled.entry(tag).or_insert(Settle::Ack);
                        },
                    }
                }
            }
            prop_assert_eq!(settled.len(), 39);
            for (tag, how) in settled {
                prop_assert_eq!(how == Settle::Reject, rejects.contains(&tag));
            }
        }
    }
}
