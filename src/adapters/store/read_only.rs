//! Connections of PostgreSQL that cannot write, after a failover: they are dropped, so that the work goes on
//! as soon as any server that can write is reached.
//!
//! A new connection is asked whether it can write. When a statement is refused as read-only, every connection
//! that is as old as that refusal is closed instead of being used again. Nothing is asked on the hot path.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgPoolOptions};

use crate::ports::clock::Stopwatch;
use crate::ports::store_error::StoreError;

use super::sorting::{read_failed, spoils_connections};

/// When a connection was last found to be of no use.
#[derive(Clone, Default)]
pub(super) struct Freshness {
    spoiled: Arc<Mutex<Option<Stopwatch>>>,
}

impl Freshness {
    /// A pool that keeps only connections that can write.
    pub(super) fn guard(&self, pool: PgPoolOptions) -> PgPoolOptions {
        let freshness = self.clone();
        pool.after_connect(|connection, _| Box::pin(require_writable(connection))).before_acquire(
            move |_, kept| {
                let is_fresh = freshness.is_younger(kept.age);
                Box::pin(async move { Ok(is_fresh) })
            },
        )
    }

    /// Sorts an error of the driver, and notices when connections are of no use any more.
    pub(super) fn read(&self, error: sqlx::Error) -> StoreError {
        let error = read_failed(error);
        if spoils_connections(&error) {
            let mut spoiled = self.spoiled.lock().unwrap_or_else(PoisonError::into_inner);
            *spoiled = Some(Stopwatch::start());
        }
        error
    }

    /// Whether a connection of that age was made after the last refusal.
    fn is_younger(&self, age: std::time::Duration) -> bool {
        let spoiled = self.spoiled.lock().unwrap_or_else(PoisonError::into_inner);
        spoiled.as_ref().is_none_or(|since| age < since.elapsed())
    }
}

/// A server in recovery answers `on`, and so does one with `default_transaction_read_only`.
async fn require_writable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let row = sqlx::query("SHOW transaction_read_only").fetch_one(connection).await?;
    let is_read_only = row.try_get::<String, _>(0)? == "on";
    if is_read_only {
        return Err(sqlx::Error::Protocol("this server is read-only now".to_owned()));
    }
    Ok(())
}
