//! Whether the tables are those of this release.

use async_trait::async_trait;

use crate::ports::store_error::StoreError;

/// Whether the tables are those of this release.
#[async_trait]
pub trait Schema: Send + Sync {
    /// Whether the tables are those of this release.
    async fn schema_status(&self) -> Result<SchemaStatus, StoreError>;
    /// Applies missing migrations. `told` hears how many orders were copied, and of how many, while that is going on.
    async fn migrate(&self, told: CopyTold<'_>) -> Result<Vec<String>, StoreError>;
}

/// Hears how far a migration that copies orders is: orders copied, orders in all.
pub type CopyTold<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Whether the tables are those of this release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaStatus {
    /// Migrations not applied yet, by name.
    pub pending: Vec<String>,
    /// Whether a newer release has changed the tables already.
    pub is_newer: bool,
    /// Whether opening the database migrates it (SQLite).
    pub migrates_itself: bool,
}
