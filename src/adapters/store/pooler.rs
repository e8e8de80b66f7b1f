//! Notices a pooler that gives the transactions of one connection to several servers' sessions, such as PgBouncer
//! with `pool_mode = transaction`. What is prepared, set or locked for a session is then somewhere else: statements
//! would fail at random, so it is refused when the database is opened.

use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _, Row as _};

use crate::ports::store_error::{SharedError, StoreError};

use super::sorting::read_failed;

/// Other clients of the pooler may take the session between two looks.
const LOOKS: usize = 3;

#[derive(Debug, thiserror::Error)]
#[error(
    "the database is behind a pooler that shares sessions (PgBouncer with pool_mode transaction or statement); \
     set pool_mode = session for this database, or let database.url name the server itself"
)]
struct SharedSessions;

#[derive(Debug, thiserror::Error)]
#[error(
    "the pooler in front of the database refuses how we log in ({0}); for PgBouncer, set \
     ignore_startup_parameters = extra_float_digits,options and pool_mode = session, or let database.url name the \
     server itself"
)]
struct RefusedLogin(String);

/// An error if the sessions of `server` are shared. Takes two connections for a moment.
pub async fn refuse_shared_sessions(server: &PgConnectOptions) -> Result<(), StoreError> {
    match is_shared(server).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(StoreError::Broken(SharedError(Arc::new(SharedSessions)))),
        Err(error) => Err(explained(error)),
    }
}

/// While the second connection is in a transaction, its session cannot be the one that the first had before, unless
/// that was taken from it.
async fn is_shared(server: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let mut first = PgConnection::connect_with(server).await?;
    let mut second = PgConnection::connect_with(server).await?;
    for _ in 0..LOOKS {
        let before = session(&mut first).await?;
        second.execute("BEGIN").await?;
        let taken = session(&mut second).await?;
        second.execute("COMMIT").await?;
        if before == taken {
            return Ok(true);
        }
    }
    first.close().await?;
    second.close().await?;
    Ok(false)
}

async fn session(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    // Not prepared: that would fail behind such a pooler.
    let row = connection.fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()")).await?;
    row.try_get(0)
}

fn explained(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(told) if told.message().contains("startup parameter") => {
            let told = RefusedLogin(told.message().to_owned());
            StoreError::Broken(SharedError(Arc::new(told)))
        }
        _ => read_failed(error),
    }
}
