//! Which processes died, seen by heartbeats that do not change any more.
//!
//! Nobody's clock is compared with another's: what counts is how long this process has seen the same heartbeat. An
//! outage of the ledger starts the observation again, because nobody could write a heartbeat then.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::ports::clock::Stopwatch;
use crate::ports::workers::ALIVE;

/// The heartbeats as one process sees them.
#[derive(Default)]
pub(super) struct HeartbeatWatch {
    seen: HashMap<String, Heartbeat>,
    last: Option<Stopwatch>,
}

struct Heartbeat {
    at: Timestamp,
    since: Stopwatch,
    is_reported: bool,
}

impl HeartbeatWatch {
    /// Takes in what the ledger says now; returns the processes that have been silent for [`ALIVE`], each once.
    pub(super) fn observe(&mut self, heartbeats: Vec<(String, Timestamp)>) -> Vec<String> {
        // If we did not look for long, we were not scheduled, and perhaps nobody was.
        if self.last.is_none_or(|last| last.elapsed() >= ALIVE / 2) {
            self.seen.clear();
        }
        self.last = Some(Stopwatch::start());
        let mut before = std::mem::take(&mut self.seen);
        let mut silent = Vec::new();
        for (name, at) in heartbeats {
            let known = before.remove(&name).filter(|known| known.at == at);
            let mut known = known.unwrap_or_else(|| Heartbeat {
                at,
                since: Stopwatch::start(),
                is_reported: false,
            });
            if !known.is_reported && known.since.elapsed() >= ALIVE {
                known.is_reported = true;
                silent.push(name.clone());
            }
            self.seen.insert(name, known);
        }
        silent
    }

    /// The ledger could not be read, or another process watches.
    pub(super) fn start_again(&mut self) {
        *self = Self::default();
    }
}
