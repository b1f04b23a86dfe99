//! How numbers and faults pass between SQLite and the port.

use sqlx::error::DatabaseError as _;

use crate::error::CatalogError;

/// Rows listed where the caller sets no limit.
const LIMIT_DEFAULT: u32 = 100;

/// SQLite integers are signed: what does not fit becomes the largest that does, which for times is the year 2262.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The way back; negative values are never written.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn limit(asked: u32) -> i64 {
    i64::from(if asked == 0 { LIMIT_DEFAULT } else { asked })
}

/// Sorts a fault into those that may pass and those that will not.
pub(super) fn fault(path: &str, problem: sqlx::Error) -> CatalogError {
    let code = match &problem {
        sqlx::Error::Database(error) => {
            let code = error.as_error().downcast_ref::<sqlx::sqlite::SqliteError>();
            // The low byte is the primary result code.
            code.and_then(|e| e.code()).and_then(|c| c.parse::<i32>().ok()).unwrap_or(0) & 0xff
        }
        _ => 0,
    };
    let lasting = match &problem {
        // SQLITE_ERROR, CORRUPT, CONSTRAINT, MISMATCH, FORMAT, NOTADB.
        sqlx::Error::Database(_) => matches!(code, 1 | 11 | 19 | 20 | 24 | 26),
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::RowNotFound => true,
        _ => false,
    };
    let path = path.to_owned();
    let problem = match problem {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    };
    // SQLITE_BUSY and LOCKED, READONLY, FULL.
    let remedy = match code {
        5 | 6 => ": another process holds it, stop that one",
        8 => ": make it and its directory writable",
        13 => ": free some space on its disk",
        _ => "",
    };
    let problem = problem + remedy;
    if lasting { CatalogError::Corrupt { path, problem } } else { CatalogError::Unavailable { path, problem } }
}
