//! Verdicts with the events they announce, and decisions.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Decision, DeployId, RegressionEvent, UnixNanos, Verdict};

use super::row::{limit, signed};
use super::{SqliteCatalog, outbox};
use crate::error::CatalogError;
use crate::filter::VerdictFilter;

fn phase(of: Phase) -> &'static str {
    match of {
        Phase::Clear => "clear",
        Phase::Suspected => "suspected",
        Phase::Confirmed => "confirmed",
        Phase::Recovered => "recovered",
    }
}

pub(super) async fn commit(
    catalog: &SqliteCatalog,
    verdict: &Verdict,
    event: Option<&RegressionEvent>,
    sinks: &[String],
    evidence: Option<&[u8]>,
) -> Result<(), CatalogError> {
    let body = catalog.json(verdict)?;
    let mut writer = catalog.writer.lock().await;
    let mut transaction = catalog.begin(&mut writer).await?;
    sqlx::query(
        "INSERT INTO verdicts (deploy_id, phase, decided, started_at, body) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (deploy_id) DO UPDATE SET phase = excluded.phase, decided = excluded.decided,
             started_at = excluded.started_at, body = excluded.body",
    )
    .bind(verdict.deploy_id.as_str())
    .bind(phase(verdict.phase))
    .bind(verdict.decided)
    .bind(signed(verdict.started_at.0))
    .bind(body)
    .execute(&mut *transaction)
    .await
    .map_err(|e| catalog.fault(e))?;
    match evidence {
        Some(evidence) => {
            sqlx::query(
                "INSERT INTO evidence (deploy_id, body) VALUES (?1, ?2)
                 ON CONFLICT (deploy_id) DO UPDATE SET body = excluded.body",
            )
            .bind(verdict.deploy_id.as_str())
            .bind(evidence)
            .execute(&mut *transaction)
            .await
            .map_err(|e| catalog.fault(e))?;
        }
        // What the former verdict was judged from says nothing of this one.
        None => {
            sqlx::query("DELETE FROM evidence WHERE deploy_id = ?1")
                .bind(verdict.deploy_id.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(|e| catalog.fault(e))?;
        }
    }
    if let Some(event) = event {
        outbox::queue(catalog, &mut transaction, event, &verdict.deploy_id, sinks).await?;
    }
    transaction.commit().await.map_err(|e| catalog.fault(e))
}

pub(super) async fn get(catalog: &SqliteCatalog, deploy: &DeployId) -> Result<Option<Verdict>, CatalogError> {
    let body: Option<String> = sqlx::query_scalar("SELECT body FROM verdicts WHERE deploy_id = ?1")
        .bind(deploy.as_str())
        .fetch_optional(&mut *catalog.reader().await)
        .await
        .map_err(|e| catalog.fault(e))?;
    body.map(|text| catalog.read_json(&text)).transpose()
}

pub(super) async fn judged(
    catalog: &SqliteCatalog,
    deploy: &DeployId,
) -> Result<Option<(Verdict, Option<Vec<u8>>)>, CatalogError> {
    let row: Option<(String, Option<Vec<u8>>)> = sqlx::query_as(
        "SELECT v.body, e.body FROM verdicts v LEFT JOIN evidence e ON e.deploy_id = v.deploy_id WHERE v.deploy_id = ?1",
    )
    .bind(deploy.as_str())
    .fetch_optional(&mut *catalog.reader().await)
    .await
    .map_err(|e| catalog.fault(e))?;
    row.map(|(verdict, evidence)| Ok((catalog.read_json(&verdict)?, evidence))).transpose()
}

pub(super) async fn evidence(catalog: &SqliteCatalog, deploy: &DeployId) -> Result<Option<Vec<u8>>, CatalogError> {
    sqlx::query_scalar("SELECT body FROM evidence WHERE deploy_id = ?1")
        .bind(deploy.as_str())
        .fetch_optional(&mut *catalog.reader().await)
        .await
        .map_err(|e| catalog.fault(e))
}

pub(super) async fn remove_evidence(
    catalog: &SqliteCatalog,
    before: UnixNanos,
    most: u32,
) -> Result<u64, CatalogError> {
    let mut writer = catalog.writer.lock().await;
    let done = sqlx::query(
        "DELETE FROM evidence WHERE deploy_id IN (
             SELECT e.deploy_id FROM verdicts v JOIN evidence e ON e.deploy_id = v.deploy_id
             WHERE v.started_at < ?1 LIMIT ?2)",
    )
    .bind(signed(before.0))
    .bind(i64::from(most))
    .execute(&mut *writer)
    .await
    .map_err(|e| catalog.fault(e))?;
    Ok(done.rows_affected())
}

pub(super) async fn list(catalog: &SqliteCatalog, filter: &VerdictFilter) -> Result<Vec<Verdict>, CatalogError> {
    let bodies: Vec<String> = sqlx::query_scalar(
        "SELECT body FROM verdicts
         WHERE (?1 IS NULL OR (phase IN ('suspected', 'confirmed')) = ?1) AND (?2 IS NULL OR decided = ?2)
             AND (?3 IS NULL OR started_at >= ?3)
         ORDER BY started_at DESC, deploy_id DESC LIMIT ?4",
    )
    .bind(filter.open_regression)
    .bind(filter.decided)
    .bind(filter.since.map(|at| signed(at.0)))
    .bind(limit(filter.limit))
    .fetch_all(&mut *catalog.reader().await)
    .await
    .map_err(|e| catalog.fault(e))?;
    bodies.iter().map(|text| catalog.read_json(text)).collect()
}

pub(super) async fn decide(catalog: &SqliteCatalog, decision: &Decision) -> Result<(), CatalogError> {
    let body = catalog.json(decision)?;
    let mut writer = catalog.writer.lock().await;
    sqlx::query(
        "INSERT INTO decisions (deploy_id, decided_at, body) VALUES (?1, ?2, ?3) ON CONFLICT (deploy_id, body) DO NOTHING",
    )
    .bind(decision.deploy_id.as_str())
    .bind(signed(decision.decided_at.0))
    .bind(body)
    .execute(&mut *writer)
    .await
    .map_err(|e| catalog.fault(e))?;
    Ok(())
}

pub(super) async fn decisions(
    catalog: &SqliteCatalog,
    deploy: Option<&DeployId>,
    most: u32,
) -> Result<Vec<Decision>, CatalogError> {
    let bodies: Vec<String> = sqlx::query_scalar(
        "SELECT body FROM decisions WHERE ?1 IS NULL OR deploy_id = ?1 ORDER BY decided_at DESC, number DESC LIMIT ?2",
    )
    .bind(deploy.map(DeployId::as_str))
    .bind(limit(most))
    .fetch_all(&mut *catalog.reader().await)
    .await
    .map_err(|e| catalog.fault(e))?;
    bodies.iter().map(|text| catalog.read_json(text)).collect()
}
