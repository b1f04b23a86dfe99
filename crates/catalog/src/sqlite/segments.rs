//! Segments and the checkpoint.

use plimsoll_model::{Interval, SegmentId, SequenceNumber, UnixNanos};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::SqliteCatalog;
use super::row::{signed, unsigned};
use crate::error::CatalogError;
use crate::segment::{SegmentChange, SegmentRecord};

pub(super) async fn checkpoint(catalog: &SqliteCatalog) -> Result<SequenceNumber, CatalogError> {
    let found: i64 = sqlx::query_scalar("SELECT checkpoint FROM store WHERE id = 1")
        .fetch_one(&mut *catalog.reader().await)
        .await
        .map_err(|e| catalog.fault(e))?;
    Ok(SequenceNumber(unsigned(found)))
}

pub(super) async fn list(catalog: &SqliteCatalog) -> Result<Vec<SegmentRecord>, CatalogError> {
    let rows = sqlx::query("SELECT * FROM segments ORDER BY frame_first, id")
        .fetch_all(&mut *catalog.reader().await)
        .await
        .map_err(|e| catalog.fault(e))?;
    rows.iter().map(record).collect::<Result<_, _>>().map_err(|e| catalog.fault(e))
}

fn record(row: &SqliteRow) -> Result<SegmentRecord, sqlx::Error> {
    let number = |column: &str| row.try_get::<i64, _>(column).map(unsigned);
    Ok(SegmentRecord {
        id: SegmentId::from_text(row.try_get::<String, _>("id")?),
        table: row.try_get("table_name")?,
        path: row.try_get("path")?,
        rows: number("row_count")?,
        bytes: number("byte_count")?,
        times: Interval { from: UnixNanos(number("time_from")?), to: UnixNanos(number("time_to")?) },
        received_to: UnixNanos(number("received_to")?),
        frames: (SequenceNumber(number("frame_first")?), SequenceNumber(number("frame_last")?)),
        created_at: UnixNanos(number("created_at")?),
    })
}

pub(super) async fn commit(catalog: &SqliteCatalog, change: &SegmentChange) -> Result<(), CatalogError> {
    let mut writer = catalog.writer.lock().await;
    let mut transaction = catalog.begin(&mut writer).await?;
    for segment in &change.add {
        sqlx::query(
            "INSERT INTO segments (id, table_name, path, row_count, byte_count, time_from, time_to, received_to,
                 frame_first, frame_last, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING",
        )
        .bind(segment.id.as_str())
        .bind(segment.table.as_str())
        .bind(segment.path.as_str())
        .bind(signed(segment.rows))
        .bind(signed(segment.bytes))
        .bind(signed(segment.times.from.0))
        .bind(signed(segment.times.to.0))
        .bind(signed(segment.received_to.0))
        .bind(signed(segment.frames.0.0))
        .bind(signed(segment.frames.1.0))
        .bind(signed(segment.created_at.0))
        .execute(&mut *transaction)
        .await
        .map_err(|e| catalog.fault(e))?;
    }
    for id in &change.remove {
        sqlx::query("DELETE FROM segments WHERE id = ?1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(|e| catalog.fault(e))?;
    }
    if let Some(checkpoint) = change.checkpoint {
        sqlx::query("UPDATE store SET checkpoint = max(checkpoint, ?1) WHERE id = 1")
            .bind(signed(checkpoint.0))
            .execute(&mut *transaction)
            .await
            .map_err(|e| catalog.fault(e))?;
    }
    transaction.commit().await.map_err(|e| catalog.fault(e))
}
