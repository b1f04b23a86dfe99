//! Opening: the directory, the checks, the steps forward.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::Mutex;

use super::row::fault;
use super::schema::{APPLICATION_ID, FORMAT, STEPS};
use super::{SqliteCatalog, SqliteOptions};
use crate::error::CatalogError;

pub(super) async fn open(path: &Path, options: SqliteOptions) -> Result<SqliteCatalog, CatalogError> {
    let name = path.display().to_string();
    let io = |problem: std::io::Error| CatalogError::Unavailable { path: name.clone(), problem: problem.to_string() };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let created_directory = !directory.exists();
    std::fs::create_dir_all(directory).map_err(io)?;

    let base =
        SqliteConnectOptions::new().filename(path).busy_timeout(options.busy_timeout).disable_statement_logging();
    let synchronous = if options.durable { SqliteSynchronous::Full } else { SqliteSynchronous::Off };
    let writing = base.clone().journal_mode(SqliteJournalMode::Wal).synchronous(synchronous).foreign_keys(true);
    // Checked before the write-ahead log is switched on, which would already change the file.
    let mut first = base.clone().create_if_missing(true).connect().await.map_err(|e| fault(&name, e))?;
    check(&name, &mut first).await?;
    first.close().await.map_err(|e| fault(&name, e))?;
    let mut writer = writing.connect().await.map_err(|e| fault(&name, e))?;
    migrate(&name, &mut writer).await?;

    // SQLite syncs the directory for its logs, not for the database file itself.
    File::open(directory).and_then(|d| d.sync_all()).map_err(io)?;
    if let Some(above) = directory.parent().filter(|p| created_directory && !p.as_os_str().is_empty()) {
        File::open(above).and_then(|d| d.sync_all()).map_err(io)?;
    }

    let mut readers = Vec::new();
    for _ in 0..options.readers.max(1) {
        let reader = base.clone().pragma("query_only", "1").connect().await.map_err(|e| fault(&name, e))?;
        readers.push(Mutex::new(reader));
    }
    Ok(SqliteCatalog { path: name, writing, writer: Mutex::new(writer), readers, turn: AtomicUsize::new(0) })
}

/// Refuses what is not a sound catalog of a known format. Nothing is written before this has passed.
async fn check(name: &str, db: &mut SqliteConnection) -> Result<(), CatalogError> {
    let corrupt = |problem: String| CatalogError::Corrupt { path: name.to_owned(), problem };
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *db)
        .await
        .map_err(|e| fault(name, e))?;
    let application: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *db).await.map_err(|e| fault(name, e))?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(corrupt("it is a database of another program".to_owned()));
    }
    let found = format(name, db).await?;
    if found > FORMAT {
        return Err(CatalogError::TooNew { path: name.to_owned(), found, known: FORMAT });
    }
    let verdict: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *db).await.map_err(|e| fault(name, e))?;
    if verdict == "ok" { Ok(()) } else { Err(corrupt(verdict)) }
}

async fn format(name: &str, db: &mut SqliteConnection) -> Result<i64, CatalogError> {
    sqlx::query_scalar("PRAGMA user_version").fetch_one(db).await.map_err(|e| fault(name, e))
}

async fn migrate(name: &str, db: &mut SqliteConnection) -> Result<(), CatalogError> {
    loop {
        let mut transaction = db.begin_with("BEGIN IMMEDIATE").await.map_err(|e| fault(name, e))?;
        // Read inside the transaction: another process may have taken the step meanwhile.
        let found = format(name, &mut transaction).await?;
        let step = usize::try_from(found).ok().and_then(|n| STEPS.get(n));
        let Some(step) = step else { return transaction.rollback().await.map_err(|e| fault(name, e)) };
        sqlx::raw_sql(*step).execute(&mut *transaction).await.map_err(|e| fault(name, e))?;
        transaction.commit().await.map_err(|e| fault(name, e))?;
        tracing::debug!(catalog = name, from = found, "catalog format brought forward");
    }
}
