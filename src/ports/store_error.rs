//! Why the ledger did not do what was asked.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why the ledger did not do what was asked. Nothing was changed, or it is unknown and asking again
/// is safe.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or is busy: try again.
    #[error("the database cannot be reached")]
    Unavailable(#[source] SharedError),
    /// The database refuses these values; trying again is no use.
    #[error("the database refused the values")]
    Refused(#[source] SharedError),
    /// Our own tables hold something that cannot be.
    #[error("table {table}, column {column}, row {row}: {detail}")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// Where.
        column: &'static str,
        /// Which row, by its key.
        row: String,
        /// What is wrong.
        detail: String,
    },
}

impl StoreError {
    /// Whether trying again can help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A driver's error, shared by everyone whose work was in the same transaction.
#[derive(Debug, Clone)]
pub struct SharedError(pub Arc<dyn Error + Send + Sync>);

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
