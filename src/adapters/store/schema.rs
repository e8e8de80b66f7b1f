//! Shared by both databases: errors, migrations, conditions.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use crate::domain::order::document::Order;
use crate::domain::order::values::Sku;
use crate::ports::notices::Notice;
use crate::ports::schema::{Schema, SchemaStatus};
use crate::ports::store_error::{SharedError, StoreError};

use super::conditions::framed;
use super::db::{Db, Row};
use super::ledger::SqlStore;

#[async_trait]
impl<D: Db> Schema for SqlStore<D> {
    async fn schema_status(&self) -> Result<SchemaStatus, StoreError> {
        self.db.schema_status().await
    }

    async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        self.db.migrate().await
    }
}

/// Versions that were applied.
pub const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success";

/// Sorts a driver's error by what the caller can do about it. SQLSTATE classes: 22 data exception,
/// 23 integrity constraint (PostgreSQL manual, appendix A); SQLite: 19 constraint, 18 too big,
/// 20 mismatch (sqlite.org/rescode.html).
pub fn read_failed(error: sqlx::Error) -> StoreError {
    let refused = match &error {
        sqlx::Error::Database(e) => e.code().is_some_and(|code| {
            let primary = code.parse::<i64>().unwrap_or(0) & 0xff;
            match code.len() {
                5 => code.starts_with("22") || code.starts_with("23"),
                _ => matches!(primary, 18..=20),
            }
        }),
        sqlx::Error::Encode(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. } => true,
        _ => false,
    };
    let shared = SharedError(Arc::new(error));
    if refused { StoreError::Refused(shared) } else { StoreError::Unavailable(shared) }
}

/// A migrator over `(name, SQL)`; names begin with their version.
pub fn migrator(migrations: &'static [(&'static str, &'static str)]) -> Migrator {
    let migrations = migrations.iter().map(|(name, sql)| {
        let (version, description) = name.split_once('_').unwrap_or((name, ""));
        let version = version.parse().unwrap_or_default();
        let kind = MigrationType::Simple;
        Migration::new(version, Cow::Borrowed(description), kind, Cow::Borrowed(sql), false)
    });
    Migrator { migrations: migrations.collect::<Vec<_>>().into(), ..Migrator::DEFAULT }
}

/// Compares the applied migrations with those of this release.
pub fn status(
    applied: Result<Vec<Row>, StoreError>,
    migrator: &Migrator,
    migrates_itself: bool,
) -> Result<SchemaStatus, StoreError> {
    let mut versions = Vec::new();
    match applied {
        Ok(rows) => {
            for mut row in rows {
                versions.push(row.int("version")?);
            }
        }
        Err(error) if is_missing_table(&error) => {}
        Err(error) => return Err(error),
    }
    let pending = migrator.iter().filter(|m| !versions.contains(&m.version));
    let newest = migrator.iter().map(|m| m.version).max().unwrap_or(0);
    Ok(SchemaStatus {
        pending: pending.map(|m| format!("{:04}_{}", m.version, m.description)).collect(),
        is_newer: versions.iter().any(|version| *version > newest),
        migrates_itself,
    })
}

fn is_missing_table(error: &StoreError) -> bool {
    let (StoreError::Unavailable(SharedError(source)) | StoreError::Refused(SharedError(source))) =
        error
    else {
        return false;
    };
    match source.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(e)) => {
            e.code().as_deref() == Some("42P01") || e.message().starts_with("no such table")
        }
        _ => false,
    }
}

/// A notice's detail as it is stored.
pub fn notice_detail(notice: &Notice) -> Result<String, StoreError> {
    serde_json::to_string(&notice.detail).map_err(|e| StoreError::Refused(SharedError(Arc::new(e))))
}

/// An order's article numbers as they are stored.
pub fn skus(order: &Order) -> String {
    framed(order.skus.iter().map(Sku::as_str))
}
