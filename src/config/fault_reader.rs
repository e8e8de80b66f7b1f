//! What the readers of settings and of recipes share: reading goes on after a fault, so that all of them are
//! found at once, and a key that nobody read is unknown.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

/// The faults found so far, sorted, each once.
#[derive(Debug)]
pub struct Faults<F>(RefCell<BTreeSet<F>>);

impl<F> Default for Faults<F> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<F: Ord> Faults<F> {
    pub fn add(&self, fault: F) {
        self.0.borrow_mut().insert(fault);
    }

    /// What could be read; its fault is added.
    pub fn keep<T>(&self, read: Result<T, F>) -> Option<T> {
        read.map_err(|fault| self.add(fault)).ok()
    }

    /// What was made of everything, if there is no fault; otherwise all of them.
    pub fn none_or_all<T>(self, made: T) -> Result<T, Vec<F>> {
        let faults = self.0.into_inner();
        if faults.is_empty() { Ok(made) } else { Err(faults.into_iter().collect()) }
    }
}

/// What is said of a key that nobody read: the known name that is most like it.
pub fn unknown_key<'a>(name: &str, known: impl Iterator<Item = &'a str>, prefix: &str) -> String {
    let near = known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, near)) => format!("unknown key; did you mean {prefix}{near}?"),
        None => "unknown key".to_owned(),
    }
}

/// A time such as "500ms", "30s" or "5m".
pub fn time(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok())
}
