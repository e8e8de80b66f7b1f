//! What happened in a run, line by line: when, who, what. Two runs of one seed tell the same story.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{Display, Write};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::devtools::simulation::shared::Shared;
use crate::ports::clock::Stopwatch;

/// Lines of a story that is printed at most: the ones before are left out.
const MAX_LINES: usize = 400;

/// One thing that happened.
#[derive(Debug, Clone, Hash)]
struct Line {
    at: Duration,
    who: String,
    what: String,
}

/// The story of one run.
#[derive(Debug)]
pub struct Story {
    since: Stopwatch,
    lines: Shared<Vec<Line>>,
}

impl Story {
    /// An empty one, which begins now.
    pub fn new() -> Self {
        Self { since: Stopwatch::start(), lines: Shared::default() }
    }

    /// Time since the begin.
    pub fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// Adds a line.
    pub fn tell(&self, who: &str, what: impl Display) {
        let line = Line { at: self.now(), who: who.to_owned(), what: what.to_string() };
        self.lines.get().push(line);
    }

    /// The same for the same story.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lines.get().hash(&mut hasher);
        hasher.finish()
    }

    /// The lines that name one of `subjects`, and those of the schedule; all lines if there is no
    /// subject.
    pub fn about(&self, subjects: &[String]) -> String {
        let lines = self.lines.get();
        let is_told = |line: &&Line| {
            subjects.is_empty()
                || line.who == SCHEDULE
                || subjects.iter().any(|subject| names(&line.what, subject))
        };
        let told: Vec<&Line> = lines.iter().filter(is_told).collect();
        let mut text = String::new();
        for line in &told[told.len().saturating_sub(MAX_LINES)..] {
            let seconds = line.at.as_secs_f64();
            writeln!(text, "{seconds:>9.3}s  {:<9} {}", line.who, line.what)
                .expect("a text can grow");
        }
        text
    }
}

impl Default for Story {
    fn default() -> Self {
        Self::new()
    }
}

/// Who tells the steps of the schedule.
pub const SCHEDULE: &str = "schedule";

/// Whether a line names that order, and not another whose number begins with the same digits.
fn names(line: &str, subject: &str) -> bool {
    line.match_indices(subject).any(|(at, _)| {
        let next = line[at + subject.len()..].chars().next();
        next.is_none_or(|c| !c.is_ascii_digit())
    })
}
