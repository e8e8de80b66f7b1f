//! Whether the tables are those of this release.

use async_trait::async_trait;

use crate::ports::store_error::StoreError;

/// Whether the tables are those of this release.
#[async_trait]
pub trait Schema: Send + Sync {
    /// Whether the tables are those of this release.
    async fn schema_status(&self) -> Result<SchemaStatus, StoreError>;
    /// Applies missing migrations.
    async fn migrate(&self) -> Result<Vec<String>, StoreError>;
}

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
