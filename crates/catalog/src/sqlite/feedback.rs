//! What humans said of verdicts.

use plimsoll_model::{Feedback, ServiceKey};

use super::SqliteCatalog;
use super::row::{limit, signed};
use crate::error::CatalogError;

pub(super) async fn insert(catalog: &SqliteCatalog, feedback: &Feedback) -> Result<(), CatalogError> {
    let body = catalog.json(feedback)?;
    let mut writer = catalog.writer.lock().await;
    sqlx::query(
        "INSERT INTO feedback (deploy_id, environment, namespace, service, given_at, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (deploy_id, body) DO NOTHING",
    )
    .bind(feedback.deploy_id.as_str())
    .bind(&feedback.service.environment)
    .bind(&feedback.service.namespace)
    .bind(&feedback.service.service)
    .bind(signed(feedback.given_at.0))
    .bind(body)
    .execute(&mut *writer)
    .await
    .map_err(|e| catalog.fault(e))?;
    Ok(())
}

pub(super) async fn list(
    catalog: &SqliteCatalog,
    service: Option<&ServiceKey>,
    most: u32,
) -> Result<Vec<Feedback>, CatalogError> {
    let bodies: Vec<String> = sqlx::query_scalar(
        "SELECT body FROM feedback
         WHERE ?1 IS NULL OR (service = ?1 AND namespace = ?2 AND environment = ?3)
         ORDER BY given_at DESC, number DESC LIMIT ?4",
    )
    .bind(service.map(|key| key.service.as_str()))
    .bind(service.map(|key| key.namespace.as_str()))
    .bind(service.map(|key| key.environment.as_str()))
    .bind(limit(most))
    .fetch_all(&mut *catalog.reader().await)
    .await
    .map_err(|e| catalog.fault(e))?;
    bodies.iter().map(|text| catalog.read_json(text)).collect()
}
