//! Why the ledger did not do what was asked.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why a call to the ledger failed. Nothing was changed, or it is unknown and repeating is safe.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or is busy: repeat it.
    #[error("the database cannot be reached")]
    Unavailable(#[source] SharedError),
    /// The database refuses these values; repeating does not help.
    #[error("the database refused the values")]
    Refused(#[source] SharedError),
    /// Our statement or our tables are wrong: a bug, or a migration or a permission is missing. Nothing was
    /// changed; it can be repeated after a person fixed it.
    #[error("the tables are not those that this release needs")]
    Broken(#[source] SharedError),
    /// Our own tables contain an invalid value.
    #[error("table {table}, column {column}, row {row}: {detail}")]
    Corrupt {
        table: &'static str,
        column: &'static str,
        /// Which row, by its key.
        row: String,
        /// What is wrong.
        detail: String,
    },
}

impl StoreError {
    /// Whether repeating can help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Broken(_))
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
