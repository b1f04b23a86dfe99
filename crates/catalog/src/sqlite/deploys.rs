//! Deploys: JSON, and beside it the columns that lists are filtered by.

use plimsoll_model::{Deploy, DeployId, DeployStatus, UnixNanos};
use sqlx::SqliteConnection;

use super::SqliteCatalog;
use super::row::{limit, signed};
use crate::error::CatalogError;
use crate::fact::Inserted;
use crate::filter::DeployFilter;

async fn find(
    catalog: &SqliteCatalog,
    db: &mut SqliteConnection,
    id: &DeployId,
) -> Result<Option<Deploy>, CatalogError> {
    let body: Option<String> = sqlx::query_scalar("SELECT body FROM deploys WHERE id = ?1")
        .bind(id.as_str())
        .fetch_optional(db)
        .await
        .map_err(|e| catalog.fault(e))?;
    body.map(|text| catalog.read_json(&text)).transpose()
}

pub(super) async fn insert(
    catalog: &SqliteCatalog,
    deploy: &Deploy,
    key: Option<&str>,
) -> Result<Inserted, CatalogError> {
    let body = catalog.json(deploy)?;
    let mut writer = catalog.writer.lock().await;
    let mut transaction = catalog.begin(&mut writer).await?;
    let known: Option<String> = sqlx::query_scalar(
        "SELECT body FROM deploys WHERE idempotency_key = ?1 OR id = ?2 ORDER BY idempotency_key = ?1 DESC LIMIT 1",
    )
    .bind(key)
    .bind(deploy.id.as_str())
    .fetch_optional(&mut *transaction)
    .await
    .map_err(|e| catalog.fault(e))?;
    if let Some(text) = known {
        return Ok(Inserted::Existing(Box::new(catalog.read_json(&text)?)));
    }
    sqlx::query(
        "INSERT INTO deploys (id, idempotency_key, environment, namespace, service, version, started_at, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(deploy.id.as_str())
    .bind(key)
    .bind(deploy.service.environment.as_str())
    .bind(deploy.service.namespace.as_str())
    .bind(deploy.service.service.as_str())
    .bind(deploy.version.as_str())
    .bind(signed(deploy.started_at.0))
    .bind(body)
    .execute(&mut *transaction)
    .await
    .map_err(|e| catalog.fault(e))?;
    transaction.commit().await.map_err(|e| catalog.fault(e))?;
    Ok(Inserted::Created)
}

pub(super) async fn adopt(
    catalog: &SqliteCatalog,
    deploy: &Deploy,
    key: Option<&str>,
) -> Result<Inserted, CatalogError> {
    let body = catalog.json(deploy)?;
    let mut writer = catalog.writer.lock().await;
    let mut transaction = catalog.begin(&mut writer).await?;
    let known: Option<String> = sqlx::query_scalar("SELECT body FROM deploys WHERE idempotency_key = ?1")
        .bind(key)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(|e| catalog.fault(e))?;
    if let Some(text) = known {
        return Ok(Inserted::Existing(Box::new(catalog.read_json(&text)?)));
    }
    match find(catalog, &mut transaction, &deploy.id).await? {
        Some(there) if !there.inferred => return Ok(Inserted::Existing(Box::new(there))),
        Some(_) => {}
        None => {
            drop(transaction);
            drop(writer);
            return insert(catalog, deploy, key).await;
        }
    }
    sqlx::query("UPDATE deploys SET body = ?2, idempotency_key = ?3, started_at = ?4 WHERE id = ?1")
        .bind(deploy.id.as_str())
        .bind(body)
        .bind(key)
        .bind(signed(deploy.started_at.0))
        .execute(&mut *transaction)
        .await
        .map_err(|e| catalog.fault(e))?;
    transaction.commit().await.map_err(|e| catalog.fault(e))?;
    Ok(Inserted::Created)
}

pub(super) async fn get(catalog: &SqliteCatalog, id: &DeployId) -> Result<Option<Deploy>, CatalogError> {
    find(catalog, &mut *catalog.reader().await, id).await
}

pub(super) async fn list(catalog: &SqliteCatalog, filter: &DeployFilter) -> Result<Vec<Deploy>, CatalogError> {
    let bodies: Vec<String> = sqlx::query_scalar(
        "SELECT body FROM deploys
         WHERE (?1 IS NULL OR service = ?1) AND (?2 IS NULL OR namespace = ?2) AND (?3 IS NULL OR environment = ?3)
             AND (?4 IS NULL OR version = ?4) AND (?5 IS NULL OR started_at >= ?5)
         ORDER BY started_at DESC, id DESC LIMIT ?6",
    )
    .bind(filter.service.as_deref())
    .bind(filter.namespace.as_deref())
    .bind(filter.environment.as_deref())
    .bind(filter.version.as_deref())
    .bind(filter.since.map(|at| signed(at.0)))
    .bind(limit(filter.limit))
    .fetch_all(&mut *catalog.reader().await)
    .await
    .map_err(|e| catalog.fault(e))?;
    bodies.iter().map(|text| catalog.read_json(text)).collect()
}

pub(super) async fn finish(
    catalog: &SqliteCatalog,
    id: &DeployId,
    status: DeployStatus,
    at: UnixNanos,
) -> Result<Option<Deploy>, CatalogError> {
    change(catalog, id, |deploy| {
        deploy.status = status;
        deploy.finished_at = Some(at);
    })
    .await
}

pub(super) async fn place(
    catalog: &SqliteCatalog,
    id: &DeployId,
    namespace: &str,
) -> Result<Option<Deploy>, CatalogError> {
    change(catalog, id, |deploy| namespace.clone_into(&mut deploy.service.namespace)).await
}

async fn change(
    catalog: &SqliteCatalog,
    id: &DeployId,
    change: impl FnOnce(&mut Deploy) + Send,
) -> Result<Option<Deploy>, CatalogError> {
    let mut writer = catalog.writer.lock().await;
    let mut transaction = catalog.begin(&mut writer).await?;
    let Some(mut deploy) = find(catalog, &mut transaction, id).await? else { return Ok(None) };
    change(&mut deploy);
    sqlx::query("UPDATE deploys SET body = ?2, namespace = ?3 WHERE id = ?1")
        .bind(id.as_str())
        .bind(catalog.json(&deploy)?)
        .bind(deploy.service.namespace.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(|e| catalog.fault(e))?;
    transaction.commit().await.map_err(|e| catalog.fault(e))?;
    Ok(Some(deploy))
}
