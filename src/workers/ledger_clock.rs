//! The clock of the ledger, as this process sees it. Claims, due times and "nothing was sent after" are compared
//! by several processes, whose own clocks may differ by a minute: all of them follow the database's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::ports::clock::Clock;
use crate::ports::store_error::StoreError;
use crate::ports::workers::WorkerRegistry;

/// This machine's clock, corrected by how much the ledger's differs.
pub struct LedgerClock {
    own: Arc<dyn Clock>,
    /// How far the ledger is ahead of this machine.
    ahead_ms: AtomicI64,
    is_known: AtomicBool,
}

impl LedgerClock {
    /// Not corrected yet.
    pub fn new(own: Arc<dyn Clock>) -> Self {
        Self { own, ahead_ms: AtomicI64::new(0), is_known: AtomicBool::new(false) }
    }

    /// Asks the ledger for its time; returns how far it is ahead of this machine. A database on the same
    /// machine has no clock of its own.
    pub async fn synchronise(
        &self,
        ledger: &dyn WorkerRegistry,
    ) -> Result<SignedDuration, StoreError> {
        let before = self.own.now();
        if let Some(theirs) = ledger.ledger_time().await? {
            // The answer was made somewhere between the question and now. What is known stays where that agrees
            // with it: an answer that took long says less.
            let uncertain = self.own.now().duration_since(before) / 2;
            let ahead = theirs.duration_since(before + uncertain);
            let is_known = self.is_known.swap(true, Ordering::Relaxed);
            if !is_known || (ahead - self.ahead()).abs() > uncertain {
                let ahead_ms = i64::try_from(ahead.as_millis()).unwrap_or_default();
                self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
            }
        }
        Ok(self.ahead())
    }

    fn ahead(&self) -> SignedDuration {
        SignedDuration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }
}

impl Clock for LedgerClock {
    fn now(&self) -> Timestamp {
        let now = self.own.now();
        now.checked_add(self.ahead()).unwrap_or(now)
    }

    fn unique_id(&self) -> Uuid {
        self.own.unique_id()
    }

    fn secret_bytes(&self) -> [u8; 32] {
        self.own.secret_bytes()
    }
}
