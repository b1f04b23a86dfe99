//! The outbox: events queued, leased and settled.

use std::time::Duration;

use plimsoll_model::{DeployId, EventId, EventKind, RegressionEvent, UnixNanos};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::SqliteCatalog;
use super::row::{limit, signed, unsigned};
use crate::delivery::{Delivery, DeliveryOutcome, DeliveryState};
use crate::error::CatalogError;

/// Queues an event inside the caller's transaction.
pub(super) async fn queue(
    catalog: &SqliteCatalog,
    db: &mut SqliteConnection,
    event: &RegressionEvent,
    deploy: &DeployId,
    sinks: &[String],
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO events (id, deploy_id, kind, queued_at, body) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING",
    )
    .bind(event.id.as_str())
    .bind(deploy.as_str())
    .bind(event.kind.as_str())
    .bind(signed(event.time.0))
    .bind(catalog.json(event)?)
    .execute(&mut *db)
    .await
    .map_err(|e| catalog.fault(e))?;
    for sink in sinks {
        // Due at once, whatever the sender's clock says: the time of an event may lie ahead of it.
        sqlx::query(
            "INSERT INTO deliveries (event_id, deploy_id, sink, state, attempts, due_at, last_error)
             VALUES (?1, ?2, ?3, 'pending', 0, 0, '') ON CONFLICT (event_id, sink) DO NOTHING",
        )
        .bind(event.id.as_str())
        .bind(deploy.as_str())
        .bind(sink.as_str())
        .execute(&mut *db)
        .await
        .map_err(|e| catalog.fault(e))?;
    }
    Ok(())
}

/// Reads the events on a deploy from the last `detected` on.
pub(super) async fn since_detected(
    catalog: &SqliteCatalog,
    deploy: &DeployId,
) -> Result<Vec<RegressionEvent>, CatalogError> {
    let bodies: Vec<String> = sqlx::query_scalar(
        "SELECT body FROM events WHERE deploy_id = ?1
             AND queued_at >= (SELECT max(queued_at) FROM events WHERE deploy_id = ?1 AND kind = ?2)
         ORDER BY queued_at, id",
    )
    .bind(deploy.as_str())
    .bind(EventKind::Detected.as_str())
    .fetch_all(&mut *catalog.reader().await)
    .await
    .map_err(|e| catalog.fault(e))?;
    bodies.iter().map(|text| catalog.read_json(text)).collect()
}

pub(super) async fn lease(
    catalog: &SqliteCatalog,
    now: UnixNanos,
    lease: Duration,
    most: u32,
) -> Result<Vec<Delivery>, CatalogError> {
    let mut writer = catalog.writer.lock().await;
    let mut transaction = catalog.begin(&mut writer).await?;
    let rows = sqlx::query(
        "SELECT d.*, e.kind, e.queued_at, e.body FROM deliveries d JOIN events e ON e.id = d.event_id
         WHERE d.state = 'pending' AND d.due_at <= ?1 AND NOT EXISTS (
             SELECT 1 FROM deliveries earlier WHERE earlier.state = 'pending' AND earlier.sink = d.sink
                 AND earlier.deploy_id = d.deploy_id AND earlier.number < d.number)
         ORDER BY d.number LIMIT ?2",
    )
    .bind(signed(now.0))
    .bind(i64::from(most))
    .fetch_all(&mut *transaction)
    .await
    .map_err(|e| catalog.fault(e))?;
    let mut leased = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut delivery = delivery(row).map_err(|e| catalog.fault(e))?;
        delivery.due_at = now + lease;
        sqlx::query("UPDATE deliveries SET due_at = ?3 WHERE event_id = ?1 AND sink = ?2")
            .bind(delivery.event_id.as_str())
            .bind(delivery.sink.as_str())
            .bind(signed(delivery.due_at.0))
            .execute(&mut *transaction)
            .await
            .map_err(|e| catalog.fault(e))?;
        leased.push(delivery);
    }
    if leased.is_empty() {
        // Nothing was written: a rollback costs no sync.
        transaction.rollback().await.map_err(|e| catalog.fault(e))?;
    } else {
        transaction.commit().await.map_err(|e| catalog.fault(e))?;
    }
    Ok(leased)
}

pub(super) async fn settle(
    catalog: &SqliteCatalog,
    event: &EventId,
    sink: &str,
    outcome: &DeliveryOutcome,
) -> Result<(), CatalogError> {
    let mut writer = catalog.writer.lock().await;
    let query = match outcome {
        DeliveryOutcome::Delivered { at } => sqlx::query(
            "UPDATE deliveries SET state = 'delivered', attempts = attempts + 1, due_at = ?3
             WHERE event_id = ?1 AND sink = ?2 AND state <> 'delivered'",
        )
        .bind(event.as_str())
        .bind(sink)
        .bind(signed(at.0)),
        DeliveryOutcome::Retry { due_at, error } => sqlx::query(
            "UPDATE deliveries SET attempts = attempts + 1, due_at = ?3, last_error = ?4
             WHERE event_id = ?1 AND sink = ?2 AND state = 'pending'",
        )
        .bind(event.as_str())
        .bind(sink)
        .bind(signed(due_at.0))
        .bind(error.as_str()),
        DeliveryOutcome::Failed { error } => sqlx::query(
            "UPDATE deliveries SET state = 'failed', attempts = attempts + 1, last_error = ?3
             WHERE event_id = ?1 AND sink = ?2 AND state = 'pending'",
        )
        .bind(event.as_str())
        .bind(sink)
        .bind(error.as_str()),
    };
    query.execute(&mut *writer).await.map_err(|e| catalog.fault(e))?;
    Ok(())
}

pub(super) async fn list(
    catalog: &SqliteCatalog,
    deploy: Option<&DeployId>,
    most: u32,
) -> Result<Vec<Delivery>, CatalogError> {
    let rows = sqlx::query(
        "SELECT d.*, e.kind, e.queued_at, e.body FROM deliveries d JOIN events e ON e.id = d.event_id
         WHERE ?1 IS NULL OR d.deploy_id = ?1 ORDER BY d.number DESC LIMIT ?2",
    )
    .bind(deploy.map(DeployId::as_str))
    .bind(limit(most))
    .fetch_all(&mut *catalog.reader().await)
    .await
    .map_err(|e| catalog.fault(e))?;
    rows.iter().map(delivery).collect::<Result<_, _>>().map_err(|e| catalog.fault(e))
}

fn delivery(row: &SqliteRow) -> Result<Delivery, sqlx::Error> {
    let state = match row.try_get::<String, _>("state")?.as_str() {
        "pending" => DeliveryState::Pending,
        "delivered" => DeliveryState::Delivered,
        "failed" => DeliveryState::Failed,
        other => return Err(sqlx::Error::Decode(format!("`{other}` is not the state of a delivery").into())),
    };
    Ok(Delivery {
        event_id: EventId::from_text(row.try_get::<String, _>("event_id")?),
        deploy_id: DeployId::from_text(row.try_get::<String, _>("deploy_id")?),
        sink: row.try_get("sink")?,
        body: row.try_get("body")?,
        kind: row.try_get("kind")?,
        queued_at: UnixNanos(unsigned(row.try_get("queued_at")?)),
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
        state,
        due_at: UnixNanos(unsigned(row.try_get("due_at")?)),
        last_error: row.try_get("last_error")?,
    })
}
