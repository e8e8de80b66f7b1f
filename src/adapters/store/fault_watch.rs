//! Faults of our own on the hot path: a statement that is wrong, or a table that is missing.
//!
//! Such a fault is repeated like an outage, so that nothing is lost while a person fixes it; but it is logged
//! again and again and makes the process unready. What keeps failing while others of its kind pass is refused
//! instead: then the values are the cause, not the tables.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::ports::clock::Stopwatch;
use crate::ports::store_error::StoreError;

/// How often a fault that stays is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What happened last to each kind of work.
#[derive(Default)]
pub(super) struct FaultWatch {
    kinds: Mutex<Kinds>,
    /// Why the last heartbeat was not written. Each process writes one, also when there is no work.
    heartbeat: Mutex<Option<StoreError>>,
}

#[derive(Default)]
struct Kinds {
    of: [Standing; KINDS],
    logged: Option<Stopwatch>,
}

/// Kinds of work.
pub(super) const KINDS: usize = 6;

#[derive(Debug, Clone, Default)]
enum Standing {
    #[default]
    Well,
    /// Since this fault nothing of its kind passed.
    Broken(StoreError),
    /// It was broken, and something of its kind has passed since.
    Recovered,
}

impl FaultWatch {
    /// The result of one piece of work of `kind` that was written alone or with others.
    pub(super) fn judge(
        &self,
        kind: usize,
        written: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(()) => {
                if matches!(kinds.of[kind], Standing::Broken(_)) {
                    kinds.of[kind] = Standing::Recovered;
                }
                Ok(())
            }
            Err(StoreError::Broken(cause)) => {
                let fault = StoreError::Broken(cause.clone());
                kinds.log(&fault);
                let before =
                    std::mem::replace(&mut kinds.of[kind], Standing::Broken(fault.clone()));
                Err(match before {
                    Standing::Recovered => StoreError::Refused(cause),
                    Standing::Well | Standing::Broken(_) => fault,
                })
            }
            other => other,
        }
    }

    /// The fault that stands in the way now.
    pub(super) fn fault(&self) -> Option<StoreError> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = kinds.of.iter().find_map(|standing| match standing {
            Standing::Broken(fault) => Some(fault.clone()),
            Standing::Well | Standing::Recovered => None,
        });
        broken.or_else(|| self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The result of the last heartbeat.
    pub(super) fn note_heartbeat(&self, fault: Option<&StoreError>) {
        let mut heartbeat = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*heartbeat, fault) {
            (None, Some(fault)) => tracing::warn!(%fault, "ledger.not_written"),
            (Some(_), None) => tracing::info!("ledger.written_again"),
            _ => {}
        }
        *heartbeat = fault.cloned();
    }
}

impl Kinds {
    fn log(&mut self, fault: &StoreError) {
        if self.logged.as_ref().is_some_and(|last| last.elapsed() < LOG_EVERY) {
            return;
        }
        self.logged = Some(Stopwatch::start());
        let cause = std::error::Error::source(fault).map(ToString::to_string);
        tracing::error!(error = %fault, cause, "store.broken");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::store_error::SharedError;

    fn broken() -> Result<(), StoreError> {
        Err(StoreError::Broken(SharedError(Arc::new(std::io::Error::other("no such column")))))
    }

    #[test]
    fn what_fails_while_others_of_its_kind_pass_is_refused_and_nothing_else_is() {
        let watch = FaultWatch::default();
        for _ in 0..3 {
            assert!(matches!(watch.judge(0, broken()), Err(StoreError::Broken(_))));
        }
        assert!(watch.judge(1, Ok(())).is_ok());
        assert!(matches!(watch.judge(0, broken()), Err(StoreError::Broken(_))), "another kind");
        assert!(watch.fault().is_some());
        assert!(watch.judge(0, Ok(())).is_ok());
        assert!(watch.fault().is_none());
        assert!(matches!(watch.judge(0, broken()), Err(StoreError::Refused(_))));
        assert!(
            matches!(watch.judge(0, broken()), Err(StoreError::Broken(_))),
            "once for each pass"
        );
    }

    #[test]
    fn what_passed_before_the_fault_says_nothing() {
        let watch = FaultWatch::default();
        assert!(watch.judge(0, Ok(())).is_ok());
        assert!(matches!(watch.judge(0, broken()), Err(StoreError::Broken(_))));
    }
}
