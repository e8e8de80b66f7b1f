//! What looks like an outage and is none: the database writes every piece of work but one. The statement of that
//! one may run into a time limit, or end the connection, because of the values in it.
//!
//! An outage is repeated for as long as it lasts. So that one piece of work does not hold up its neighbours for
//! ever, pieces are tried alone when several batches in a row were not taken, and what is not taken alone again
//! and again while others pass is refused.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::order::values::OrderKey;
use crate::ports::store_error::StoreError;

use super::fault_watch::KINDS;

/// Batches in a row that were not taken before their pieces are tried alone.
const BATCHES: u32 = 3;
/// How often a piece is not taken alone before it is refused; its caller pauses up to five seconds between.
const TIMES_ALONE: u32 = 12;
/// Most pieces that are remembered.
const MOST: usize = 1_000;

/// Kind of work, and its order.
type Piece = (usize, OrderKey);

/// What was taken and what was not.
#[derive(Default)]
pub(super) struct OutageWatch(Mutex<State>);

#[derive(Default)]
struct State {
    /// Batches in a row that were not taken, whatever was taken alone in between.
    batches: u32,
    /// How often something of each kind was taken: what is in the way of one kind need not be in the way of others.
    taken: [u64; KINDS],
    alone: HashMap<Piece, Alone>,
}

struct Alone {
    times: u32,
    /// What `taken` was the last time.
    taken: u64,
}

impl State {
    fn take(&mut self, pieces: impl Iterator<Item = Piece>) {
        for piece in pieces {
            self.taken[piece.0] += 1;
            self.alone.remove(&piece);
        }
    }
}

impl OutageWatch {
    /// A batch of these pieces was taken or not; whether its pieces are to be tried alone now.
    pub(super) fn judge_batch(
        &self,
        pieces: impl Iterator<Item = Piece>,
        written: &Result<(), StoreError>,
    ) -> bool {
        let mut state = self.state();
        match written {
            Ok(()) => {
                state.batches = 0;
                // Nothing has to be remembered where nothing is wrong.
                if !state.alone.is_empty() {
                    state.take(pieces);
                }
                false
            }
            Err(StoreError::Unavailable(_)) => {
                state.batches += 1;
                state.batches >= BATCHES
            }
            Err(_) => false,
        }
    }

    /// The result of a piece that was written alone.
    pub(super) fn judge_alone(
        &self,
        piece: impl FnOnce() -> Piece,
        written: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        match written {
            Ok(()) => {
                if !state.alone.is_empty() {
                    state.take(std::iter::once(piece()));
                }
                Ok(())
            }
            Err(StoreError::Unavailable(cause)) => {
                if state.alone.len() >= MOST {
                    state.alone.clear();
                }
                let piece = piece();
                let taken = state.taken[piece.0];
                let alone = state.alone.entry(piece.clone()).or_insert(Alone { times: 0, taken });
                // In an outage nothing is taken in between.
                if alone.taken != taken {
                    alone.times += 1;
                    alone.taken = taken;
                }
                if alone.times < TIMES_ALONE {
                    return Err(StoreError::Unavailable(cause));
                }
                state.alone.remove(&piece);
                Err(StoreError::Refused(cause))
            }
            other => other,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::store_error::SharedError;

    fn away() -> Result<(), StoreError> {
        Err(StoreError::Unavailable(SharedError(Arc::new(std::io::Error::other("timeout")))))
    }

    fn piece(kind: usize, order_id: &str) -> impl FnOnce() -> Piece {
        let piece = (kind, OrderKey::new("default", order_id).unwrap());
        || piece
    }

    fn is_refused(judged: &Result<(), StoreError>) -> bool {
        matches!(judged, Err(StoreError::Refused(_)))
    }

    #[test]
    fn in_an_outage_nothing_is_refused() {
        let watch = OutageWatch::default();
        let batch = |written: Result<(), StoreError>| watch.judge_batch([].into_iter(), &written);
        assert_eq!([0; 4].map(|_| batch(away())), [false, false, true, true]);
        for _ in 0..100 {
            let judged = watch.judge_alone(piece(0, "1"), away());
            assert!(matches!(judged, Err(StoreError::Unavailable(_))));
        }
        assert!(!batch(Ok(())));
        assert!(!batch(away()), "it begins again");
    }

    #[test]
    fn what_is_never_taken_while_others_of_its_kind_are_is_refused() {
        for (kind, expected) in [(0, Some(TIMES_ALONE as usize + 1)), (1, None)] {
            let watch = OutageWatch::default();
            let times = (1..100).find(|_| {
                let judged = watch.judge_alone(piece(0, "1"), away());
                watch.judge_alone(piece(kind, "2"), Ok(())).unwrap();
                is_refused(&judged)
            });
            assert_eq!(times, expected);
        }
    }

    #[test]
    fn one_success_is_enough() {
        for is_in_batch in [false, true] {
            let watch = OutageWatch::default();
            for n in 0..100 {
                let judged = match n % 10 {
                    9 if is_in_batch => {
                        watch.judge_batch([piece(0, "1")()].into_iter(), &Ok(()));
                        Ok(())
                    }
                    9 => watch.judge_alone(piece(0, "1"), Ok(())),
                    _ => watch.judge_alone(piece(0, "1"), away()),
                };
                assert!(!is_refused(&judged));
                watch.judge_alone(piece(0, "2"), Ok(())).unwrap();
            }
        }
    }
}
