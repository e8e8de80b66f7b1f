//! Shared by both databases: errors, migrations, conditions.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::document::Order;
use crate::domain::order::values::{Email, Sku};
use crate::ports::notices::Notice;
use crate::ports::schema::{CopyTold, Schema, SchemaStatus};
use crate::ports::store_error::{SharedError, StoreError};

use super::conditions::framed;
use super::db::{Db, Row};
use super::ledger::SqlStore;
use super::sorting::{sqlite_code, sqlstate};

#[async_trait]
impl<D: Db> Schema for SqlStore<D> {
    async fn schema_status(&self) -> Result<SchemaStatus, StoreError> {
        self.db.schema_status().await
    }

    async fn migrate(&self, told: CopyTold<'_>) -> Result<Vec<String>, StoreError> {
        self.db.migrate(told).await
    }
}

/// Versions that were applied.
pub const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success";

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

/// The same without the migrations from `version` on.
pub fn before(migrator: &Migrator, version: i64) -> Migrator {
    let earlier = migrator.iter().filter(|m| m.version < version).cloned();
    Migrator { migrations: earlier.collect::<Vec<_>>().into(), ..Migrator::DEFAULT }
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

/// PostgreSQL: undefined_table. SQLite has no code of its own for it.
fn is_missing_table(error: &StoreError) -> bool {
    match sqlite_code(error) {
        Some(1) => std::error::Error::source(error)
            .is_some_and(|e| e.to_string().contains("no such table")),
        Some(_) => false,
        None => sqlstate(error).as_deref() == Some("42P01"),
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

/// What a search of an order looks through, beside its error: one text in small letters.
pub fn searched(record: &OrderRecord) -> String {
    let customer = &record.facts.customer;
    let email = customer.email.as_ref().map_or("", Email::as_str);
    let name = customer.name.as_deref().unwrap_or_default();
    format!("{}\n{name}\n{email}", record.key.order_id).to_lowercase()
}
