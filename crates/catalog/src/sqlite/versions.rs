//! Versions seen of each service.

use plimsoll_model::{ServiceKey, UnixNanos};

use super::SqliteCatalog;
use super::row::{signed, unsigned};
use crate::error::CatalogError;
use crate::fact::{VersionRecord, VersionSeen};

pub(super) async fn observe(
    catalog: &SqliteCatalog,
    service: &ServiceKey,
    version: &str,
    seen: UnixNanos,
) -> Result<VersionSeen, CatalogError> {
    let mut writer = catalog.writer.lock().await;
    let mut transaction = catalog.begin(&mut writer).await?;
    let known: Vec<(String, i64)> = sqlx::query_as(
        "SELECT version, last_seen FROM versions WHERE environment = ?1 AND namespace = ?2 AND service = ?3
         ORDER BY version = ?4 DESC LIMIT 1",
    )
    .bind(service.environment.as_str())
    .bind(service.namespace.as_str())
    .bind(service.service.as_str())
    .bind(version)
    .fetch_all(&mut *transaction)
    .await
    .map_err(|e| catalog.fault(e))?;
    let answer = match known.first() {
        None => VersionSeen::FirstOfService,
        Some((first, last)) if first == version => VersionSeen::Before(UnixNanos(unsigned(*last))),
        Some(_) => VersionSeen::FirstOfVersion,
    };
    sqlx::query(
        "INSERT INTO versions (environment, namespace, service, version, first_seen, last_seen) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
         ON CONFLICT DO UPDATE SET first_seen = min(first_seen, excluded.first_seen),
             last_seen = max(last_seen, excluded.last_seen)",
    )
    .bind(service.environment.as_str())
    .bind(service.namespace.as_str())
    .bind(service.service.as_str())
    .bind(version)
    .bind(signed(seen.0))
    .execute(&mut *transaction)
    .await
    .map_err(|e| catalog.fault(e))?;
    transaction.commit().await.map_err(|e| catalog.fault(e))?;
    Ok(answer)
}

pub(super) async fn list(catalog: &SqliteCatalog, service: &ServiceKey) -> Result<Vec<VersionRecord>, CatalogError> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT version, first_seen, last_seen FROM versions WHERE environment = ?1 AND namespace = ?2 AND service = ?3
         ORDER BY first_seen, version",
    )
    .bind(service.environment.as_str())
    .bind(service.namespace.as_str())
    .bind(service.service.as_str())
    .fetch_all(&mut *catalog.reader().await)
    .await
    .map_err(|e| catalog.fault(e))?;
    let record = |(version, first, last)| VersionRecord {
        version,
        first_seen: UnixNanos(unsigned(first)),
        last_seen: UnixNanos(unsigned(last)),
    };
    Ok(rows.into_iter().map(record).collect())
}

pub(super) async fn places(catalog: &SqliteCatalog, service: &str) -> Result<Vec<ServiceKey>, CatalogError> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT environment, namespace FROM versions WHERE service = ?1 ORDER BY environment, namespace",
    )
    .bind(service)
    .fetch_all(&mut *catalog.reader().await)
    .await
    .map_err(|e| catalog.fault(e))?;
    let place = |(environment, namespace)| ServiceKey { environment, namespace, service: service.to_owned() };
    Ok(rows.into_iter().map(place).collect())
}
