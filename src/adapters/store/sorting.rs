//! Sorts the errors of both databases by what the caller can do about them.
//!
//! The sources are appendix A of the PostgreSQL manual (SQLSTATE) and sqlite.org/rescode.html. A code that
//! is not listed is *ours*: it is loud and makes the process unready, and nothing is lost by it.

use std::sync::Arc;

use sqlx::postgres::PgDatabaseError;

use crate::ports::store_error::{SharedError, StoreError};

/// What an error of a database means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// The same call can succeed later.
    Again,
    /// These values are never accepted.
    Refused,
    /// The statement or the tables are wrong: a bug, a missing migration or a missing permission.
    Ours,
}

/// The driver's error as the ledger's callers decide on it.
pub fn read_failed(error: sqlx::Error) -> StoreError {
    let sort = sort(&error);
    let shared = SharedError(Arc::new(error));
    match sort {
        Sort::Again => StoreError::Unavailable(shared),
        Sort::Refused => StoreError::Refused(shared),
        Sort::Ours => StoreError::Broken(shared),
    }
}

/// Whether connections that are as old as the one that got this error are of no use: the server behind them
/// became read-only, or no longer knows what was prepared on them.
pub fn spoils_connections(error: &StoreError) -> bool {
    let code = sqlstate(error);
    matches!(code.as_deref(), Some("25006" | "0A000" | "26000"))
}

/// Whether the transaction lost against another one and can be repeated at once.
pub fn lost_a_race(error: &StoreError) -> bool {
    let is_raced = |error: &SharedError| error.0.downcast_ref::<Raced>().is_some();
    matches!(error, StoreError::Unavailable(shared) if is_raced(shared))
        || matches!(sqlstate(error).as_deref(), Some("40001" | "40P01"))
}

/// Another transaction wrote the first state of an order since it was loaded.
#[derive(Debug, thiserror::Error)]
#[error(
    "another process has changed the order in the meantime; the same request succeeds when it is repeated"
)]
struct Raced;

/// The error of a transaction that is to be repeated: somebody else wrote the first state of an order.
pub fn raced() -> StoreError {
    StoreError::Unavailable(SharedError(Arc::new(Raced)))
}

/// The code of an error of PostgreSQL.
pub fn sqlstate(error: &StoreError) -> Option<String> {
    Some(database_error(error)?.try_downcast_ref::<PgDatabaseError>()?.code().to_owned())
}

/// The primary result code of an error of SQLite.
pub fn sqlite_code(error: &StoreError) -> Option<i64> {
    let error = database_error(error)?;
    match error.try_downcast_ref::<PgDatabaseError>() {
        Some(_) => None,
        None => Some(primary(&error.code()?)),
    }
}

fn database_error(error: &StoreError) -> Option<&dyn sqlx::error::DatabaseError> {
    let (StoreError::Unavailable(shared)
    | StoreError::Refused(shared)
    | StoreError::Broken(shared)) = error
    else {
        return None;
    };
    match shared.0.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(error)) => Some(&**error),
        _ => None,
    }
}

fn sort(error: &sqlx::Error) -> Sort {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => sort_postgres(error.code()),
            None => sort_sqlite(primary(&error.code().unwrap_or_default())),
        },
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
            Sort::Refused
        }
        sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::TypeNotFound { .. } => Sort::Ours,
        _ => Sort::Again,
    }
}

/// By the class (the first two characters), and by the whole code where a class is mixed.
fn sort_postgres(code: &str) -> Sort {
    match code {
        // Read-only after a failover; idle or running for too long; the prepared statement is gone.
        "25006" | "25P03" | "25P04" | "26000" => return Sort::Again,
        // A constraint that is checked at the commit; a trigger of somebody who refuses the row.
        "40002" | "P0001" => return Sort::Refused,
        _ => {}
    }
    match code.get(..2).unwrap_or_default() {
        // Connection; login and database (both are settled where they are set up); rollback; resources; lock
        // or object in use; operator; disk; snapshot; settings file of the server.
        "08" | "28" | "3D" | "40" | "53" | "55" | "57" | "58" | "72" | "F0" => Sort::Again,
        // Data; integrity; WITH CHECK OPTION; limits of the program, such as the size of an index row.
        "22" | "23" | "44" | "54" => Sort::Refused,
        _ => Sort::Ours,
    }
}

/// By the primary result code.
fn sort_sqlite(primary: i64) -> Sort {
    match primary {
        // PERM, ABORT, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, SCHEMA.
        3..=10 | 13..=15 | 17 => Sort::Again,
        // TOOBIG, CONSTRAINT, MISMATCH.
        18..=20 => Sort::Refused,
        // ERROR (such as "no such table"), INTERNAL, CORRUPT, NOTFOUND, MISUSE, NOTADB and the like.
        _ => Sort::Ours,
    }
}

/// The primary part of an extended result code.
fn primary(code: &str) -> i64 {
    code.parse::<i64>().unwrap_or(0) & 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every class of appendix A, and every code that differs from its class.
    const POSTGRES: &[(&str, Sort)] = &[
        ("01000", Sort::Ours),
        ("02000", Sort::Ours),
        ("03000", Sort::Ours),
        ("08000", Sort::Again),
        ("08001", Sort::Again),
        ("08003", Sort::Again),
        ("08006", Sort::Again),
        ("08P01", Sort::Again),
        ("09000", Sort::Ours),
        ("0A000", Sort::Ours),
        ("0B000", Sort::Ours),
        ("0F000", Sort::Ours),
        ("0L000", Sort::Ours),
        ("0P000", Sort::Ours),
        ("0Z000", Sort::Ours),
        ("20000", Sort::Ours),
        ("21000", Sort::Ours),
        ("22001", Sort::Refused),
        ("22003", Sort::Refused),
        ("22021", Sort::Refused),
        ("22P05", Sort::Refused),
        ("23502", Sort::Refused),
        ("23503", Sort::Refused),
        ("23505", Sort::Refused),
        ("23514", Sort::Refused),
        ("24000", Sort::Ours),
        ("25001", Sort::Ours),
        ("25006", Sort::Again),
        ("25P02", Sort::Ours),
        ("25P03", Sort::Again),
        ("25P04", Sort::Again),
        ("26000", Sort::Again),
        ("27000", Sort::Ours),
        ("28000", Sort::Again),
        ("28P01", Sort::Again),
        ("2B000", Sort::Ours),
        ("2D000", Sort::Ours),
        ("2F000", Sort::Ours),
        ("34000", Sort::Ours),
        ("38000", Sort::Ours),
        ("39000", Sort::Ours),
        ("3B000", Sort::Ours),
        ("3D000", Sort::Again),
        ("3F000", Sort::Ours),
        ("40000", Sort::Again),
        ("40001", Sort::Again),
        ("40002", Sort::Refused),
        ("40003", Sort::Again),
        ("40P01", Sort::Again),
        ("42501", Sort::Ours),
        ("42601", Sort::Ours),
        ("42703", Sort::Ours),
        ("42P01", Sort::Ours),
        ("44000", Sort::Refused),
        ("53000", Sort::Again),
        ("53100", Sort::Again),
        ("53200", Sort::Again),
        ("53300", Sort::Again),
        ("54000", Sort::Refused),
        ("54001", Sort::Refused),
        ("55000", Sort::Again),
        ("55006", Sort::Again),
        ("55P03", Sort::Again),
        ("57014", Sort::Again),
        ("57P01", Sort::Again),
        ("57P02", Sort::Again),
        ("57P03", Sort::Again),
        ("57P04", Sort::Again),
        ("57P05", Sort::Again),
        ("58000", Sort::Again),
        ("58030", Sort::Again),
        ("72000", Sort::Again),
        ("F0000", Sort::Again),
        ("HV000", Sort::Ours),
        ("P0000", Sort::Ours),
        ("P0001", Sort::Refused),
        ("XX000", Sort::Ours),
        ("XX001", Sort::Ours),
        ("XX002", Sort::Ours),
        ("", Sort::Ours),
    ];

    /// Every primary result code, and some extended ones.
    const SQLITE: &[(&str, Sort)] = &[
        ("1", Sort::Ours),
        ("2", Sort::Ours),
        ("3", Sort::Again),
        ("4", Sort::Again),
        ("5", Sort::Again),
        ("6", Sort::Again),
        ("7", Sort::Again),
        ("8", Sort::Again),
        ("9", Sort::Again),
        ("10", Sort::Again),
        ("11", Sort::Ours),
        ("12", Sort::Ours),
        ("13", Sort::Again),
        ("14", Sort::Again),
        ("15", Sort::Again),
        ("16", Sort::Ours),
        ("17", Sort::Again),
        ("18", Sort::Refused),
        ("19", Sort::Refused),
        ("20", Sort::Refused),
        ("21", Sort::Ours),
        ("22", Sort::Ours),
        ("23", Sort::Ours),
        ("24", Sort::Ours),
        ("25", Sort::Ours),
        ("26", Sort::Ours),
        // BUSY_SNAPSHOT, READONLY_ROLLBACK, IOERR_WRITE, CONSTRAINT_CHECK, CONSTRAINT_UNIQUE, CORRUPT_INDEX.
        ("517", Sort::Again),
        ("776", Sort::Again),
        ("778", Sort::Again),
        ("275", Sort::Refused),
        ("2067", Sort::Refused),
        ("779", Sort::Ours),
        ("", Sort::Ours),
    ];

    #[test]
    fn every_code_of_postgresql_has_its_sort() {
        for (code, expected) in POSTGRES {
            assert_eq!(sort_postgres(code), *expected, "{code}");
        }
    }

    #[test]
    fn every_code_of_sqlite_has_its_sort() {
        for (code, expected) in SQLITE {
            assert_eq!(sort_sqlite(primary(code)), *expected, "{code}");
        }
    }

    #[test]
    fn a_broken_connection_is_tried_again_and_a_wrong_column_is_ours() {
        assert_eq!(sort(&sqlx::Error::PoolTimedOut), Sort::Again);
        assert_eq!(sort(&sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into())), Sort::Again);
        assert_eq!(sort(&sqlx::Error::ColumnNotFound("phase".into())), Sort::Ours);
    }
}
