//! Exit codes (README.md).

use crate::ops::refusal::Refusal;

/// The number that the shell sees for a command that ended with an error.
pub fn code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => refusal.kind().exit,
        None if error.is::<Misuse>() => Exit::Usage.code(),
        None => Exit::Failed.code(),
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// Wrong usage or settings.
    Usage = 2,
    /// A part was done.
    Partly = 3,
    /// Refused because a circuit or hold is in place.
    Held = 4,
}

impl Exit {
    /// The exit of several things done one after the other.
    pub fn of_all(exits: &[Self]) -> Self {
        let done = exits.iter().filter(|exit| **exit == Self::Done).count();
        match exits {
            [] => Self::Done,
            _ if done == exits.len() => Self::Done,
            _ if done > 0 => Self::Partly,
            _ if exits.contains(&Self::Held) => Self::Held,
            _ => Self::Failed,
        }
    }

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A command with invalid arguments; it ends with [`Exit::Usage`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

impl Misuse {
    /// A sentence that says what is missing, and how to give it.
    pub fn told(sentence: impl Into<String>) -> anyhow::Error {
        Self(sentence.into()).into()
    }
}
