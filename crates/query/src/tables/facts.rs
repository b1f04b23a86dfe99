//! Tables over the catalog: deploys, verdicts, findings and decisions, read when a query scans them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use plimsoll_catalog::{Catalog, CatalogError, DeployFilter, VerdictFilter};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{
    Decision, DecisionKind, Deploy, DeployKind, DeployStatus, Design, Recommendation, UnixNanos, Verdict, VerdictKind,
};
use plimsoll_otlp::schema::{plain_attributes, timestamp};
use serde::Serialize;

use super::about::{self, About, Deploys};
use crate::error::QueryError;

/// The newest so many are visible.
const ROWS_MAX: u32 = 100_000;

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    Deploys,
    Verdicts,
    Findings,
    Decisions,
}

/// A table over the catalog.
pub(super) struct FactTable {
    fact: Fact,
    catalog: Arc<dyn Catalog>,
}

impl FactTable {
    pub(super) fn new(fact: Fact, catalog: Arc<dyn Catalog>) -> Self {
        Self { fact, catalog }
    }

    /// Reads the deploys that rows are about, where columns of theirs are `wanted`.
    async fn deploys(&self, wanted: bool) -> Result<Deploys> {
        if !wanted {
            return Ok(Deploys::new());
        }
        let filter = DeployFilter { limit: ROWS_MAX, ..DeployFilter::default() };
        let deploys = self.catalog.deploys(&filter).await.map_err(unreadable)?;
        Ok(deploys.into_iter().map(|deploy| (deploy.id.clone(), deploy)).collect())
    }

    /// Reads all rows; `wanted` says whether what they have of their deploy is.
    async fn read(&self, wanted: bool) -> Result<RecordBatch> {
        let schema = self.schema();
        let all = VerdictFilter { limit: ROWS_MAX, ..VerdictFilter::default() };
        match self.fact {
            Fact::Deploys => {
                let filter = DeployFilter { limit: ROWS_MAX, ..DeployFilter::default() };
                let deploys = self.catalog.deploys(&filter).await.map_err(unreadable)?;
                rows(schema, &deploys.iter().map(DeployRow::of).collect::<Vec<_>>())
            }
            Fact::Verdicts => {
                let verdicts = self.catalog.verdicts(&all).await.map_err(unreadable)?;
                let deploys = self.deploys(wanted).await?;
                let row = |verdict| VerdictRow::of(verdict, &deploys);
                rows(schema, &verdicts.iter().map(row).collect::<Vec<_>>())
            }
            Fact::Findings => {
                let verdicts = self.catalog.verdicts(&all).await.map_err(unreadable)?;
                let deploys = self.deploys(wanted).await?;
                let found = verdicts.iter().flat_map(|verdict| FindingRow::of(verdict, &deploys));
                rows(schema, &found.collect::<Vec<_>>())
            }
            Fact::Decisions => {
                let decisions = self.catalog.decisions(None, ROWS_MAX).await.map_err(unreadable)?;
                let deploys = self.deploys(wanted).await?;
                let row = |decision| DecisionRow::of(decision, &deploys);
                rows(schema, &decisions.iter().map(row).collect::<Vec<_>>())
            }
        }
    }
}

fn unreadable(error: CatalogError) -> QueryError {
    QueryError::Unreadable(error.to_string())
}

/// Makes one batch of `rows`.
pub(super) fn rows<R: Serialize>(schema: SchemaRef, rows: &[R]) -> Result<RecordBatch> {
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(rows.len().max(1)).build_decoder()?;
    decoder.serialize(rows)?;
    Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

impl fmt::Debug for FactTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FactTable").field(&self.fact).finish()
    }
}

#[async_trait]
impl TableProvider for FactTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(match self.fact {
            Fact::Deploys => &DEPLOYS,
            Fact::Verdicts => &VERDICTS,
            Fact::Findings => &FINDINGS,
            Fact::Decisions => &DECISIONS,
        })
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let of_deploy = |at: &usize| about::COLUMNS.contains(&schema.field(*at).name().as_str());
        let batch = self.read(projection.is_none_or(|columns| columns.iter().any(of_deploy))).await?;
        let source = MemorySourceConfig::try_new(&[vec![batch]], self.schema(), projection.cloned())?;
        Ok(DataSourceExec::from_data_source(source))
    }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

fn maybe(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn is(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn texts(name: &str) -> Field {
    is(name, DataType::List(Arc::new(Field::new("item", DataType::Utf8, false))))
}

static DEPLOYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let optional = ["previous_version", "commit", "repository", "run_url", "actor", "strategy", "artifact"];
    let mut fields: Vec<Field> =
        ["id", "service_name", "service_namespace", "environment", "version", "kind"].map(text).to_vec();
    fields.extend(optional.map(|name| maybe(name, DataType::Utf8)));
    fields.extend([
        is("attributes", plain_attributes()),
        is("started_at", timestamp()),
        maybe("finished_at", timestamp()),
        text("status"),
        is("inferred", DataType::Boolean),
        is("created_at", timestamp()),
    ]);
    fields.extend(
        ["service_version", "service_instance_id", "resource_attributes", "scope_name", "scope_version"].map(text),
    );
    Arc::new(Schema::new(fields))
});

#[derive(Serialize)]
struct DeployRow<'a> {
    id: &'a str,
    service_name: &'a str,
    service_namespace: &'a str,
    environment: &'a str,
    version: &'a str,
    kind: DeployKind,
    previous_version: Option<&'a str>,
    commit: Option<&'a str>,
    repository: Option<&'a str>,
    run_url: Option<&'a str>,
    actor: Option<&'a str>,
    strategy: Option<&'a str>,
    artifact: Option<&'a str>,
    attributes: &'a BTreeMap<String, String>,
    started_at: UnixNanos,
    finished_at: Option<UnixNanos>,
    status: DeployStatus,
    inferred: bool,
    created_at: UnixNanos,
    service_version: &'a str,
    service_instance_id: &'static str,
    resource_attributes: String,
    scope_name: &'static str,
    scope_version: &'static str,
}

impl<'a> DeployRow<'a> {
    fn of(deploy: &'a Deploy) -> Self {
        Self {
            id: deploy.id.as_str(),
            service_name: &deploy.service.service,
            service_namespace: &deploy.service.namespace,
            environment: &deploy.service.environment,
            version: &deploy.version,
            kind: deploy.kind,
            previous_version: deploy.previous_version.as_deref(),
            commit: deploy.commit.as_deref(),
            repository: deploy.repository.as_deref(),
            run_url: deploy.run_url.as_deref(),
            actor: deploy.actor.as_deref(),
            strategy: deploy.strategy.as_deref(),
            artifact: deploy.artifact.as_deref(),
            attributes: &deploy.attributes,
            started_at: deploy.started_at,
            finished_at: deploy.finished_at,
            status: deploy.status,
            inferred: deploy.inferred,
            created_at: deploy.created_at,
            service_version: &deploy.version,
            service_instance_id: "",
            resource_attributes: About::deploy(Some(deploy)).resource_attributes,
            scope_name: "",
            scope_version: "",
        }
    }
}

static VERDICTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        text("deploy_id"),
        text("verdict"),
        is("decided", DataType::Boolean),
        text("recommendation"),
        text("design"),
        text("phase"),
        is("started_at", timestamp()),
        maybe("decided_at", timestamp()),
        is("evaluated_at", timestamp()),
        maybe("time_to_decide_s", DataType::UInt64),
        is("finding_count", DataType::UInt32),
        texts("data_quality"),
        text("summary"),
        is("revision", DataType::UInt64),
    ];
    fields.extend(about::fields());
    Arc::new(Schema::new(fields))
});

#[derive(Serialize)]
struct VerdictRow<'a> {
    deploy_id: &'a str,
    verdict: VerdictKind,
    decided: bool,
    recommendation: Recommendation,
    design: Design,
    phase: Phase,
    started_at: UnixNanos,
    decided_at: Option<UnixNanos>,
    evaluated_at: UnixNanos,
    time_to_decide_s: Option<u64>,
    finding_count: u32,
    data_quality: &'a [String],
    summary: &'a str,
    revision: u64,
    #[serde(flatten)]
    about: About<'a>,
}

impl<'a> VerdictRow<'a> {
    fn of(verdict: &'a Verdict, deploys: &'a Deploys) -> Self {
        Self {
            deploy_id: verdict.deploy_id.as_str(),
            verdict: verdict.verdict,
            decided: verdict.decided,
            recommendation: verdict.recommendation,
            design: verdict.design,
            phase: verdict.phase,
            started_at: verdict.started_at,
            decided_at: verdict.decided_at,
            evaluated_at: verdict.evaluated_at,
            time_to_decide_s: verdict.time_to_decide_s,
            finding_count: u32::try_from(verdict.findings.len()).unwrap_or(u32::MAX),
            data_quality: &verdict.data_quality,
            summary: &verdict.summary,
            revision: verdict.revision,
            about: About::deploy(deploys.get(&verdict.deploy_id)),
        }
    }
}

static FINDINGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields: Vec<Field> = [
        "id",
        "deploy_id",
        "verdict",
        "signal",
        "service_name",
        "operation",
        "culprit_service",
        "culprit_version",
        "culprit_operation",
        "unit",
    ]
    .map(text)
    .to_vec();
    fields.extend([maybe("baseline_value", DataType::Float64), is("baseline_n", DataType::UInt64)]);
    fields.extend([maybe("candidate_value", DataType::Float64), is("candidate_n", DataType::UInt64)]);
    fields.extend(
        ["effect", "interval_low", "interval_high", "e_value", "p_value"].map(|name| maybe(name, DataType::Float64)),
    );
    fields.extend([
        texts("exemplars"),
        is("symptom", DataType::Boolean),
        text("summary"),
        text("sql"),
        is("evaluated_at", timestamp()),
    ]);
    fields.extend(about::fields().into_iter().filter(|field| field.name() != "service_name"));
    Arc::new(Schema::new(fields))
});

#[derive(Serialize)]
struct FindingRow<'a> {
    id: &'a str,
    deploy_id: &'a str,
    verdict: VerdictKind,
    signal: &'a str,
    operation: &'a str,
    culprit_service: &'a str,
    culprit_version: &'a str,
    culprit_operation: &'a str,
    unit: &'a str,
    baseline_value: f64,
    baseline_n: u64,
    candidate_value: f64,
    candidate_n: u64,
    effect: f64,
    interval_low: f64,
    interval_high: f64,
    e_value: f64,
    p_value: f64,
    exemplars: &'a [String],
    symptom: bool,
    summary: &'a str,
    sql: &'a str,
    evaluated_at: UnixNanos,
    #[serde(flatten)]
    about: About<'a>,
}

impl<'a> FindingRow<'a> {
    fn of(verdict: &'a Verdict, deploys: &'a Deploys) -> impl Iterator<Item = Self> {
        verdict.findings.iter().map(|finding| Self {
            about: About::finding(&finding.service, deploys.get(&verdict.deploy_id)),
            id: finding.id.as_str(),
            deploy_id: verdict.deploy_id.as_str(),
            verdict: verdict.verdict,
            signal: finding.signal.as_str(),
            operation: &finding.operation,
            culprit_service: &finding.culprit.service,
            culprit_version: &finding.culprit.version,
            culprit_operation: &finding.culprit.operation,
            unit: &finding.unit,
            baseline_value: finding.baseline.value,
            baseline_n: finding.baseline.n,
            candidate_value: finding.candidate.value,
            candidate_n: finding.candidate.n,
            effect: finding.effect,
            interval_low: finding.interval[0],
            interval_high: finding.interval[1],
            e_value: finding.e_value,
            p_value: finding.p_value,
            exemplars: &finding.exemplars,
            symptom: finding.symptom,
            summary: &finding.summary,
            sql: &finding.sql,
            evaluated_at: verdict.evaluated_at,
        })
    }
}

static DECISIONS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields: Vec<Field> = ["deploy_id", "decision", "actor", "reason"].map(text).to_vec();
    fields.push(is("decided_at", timestamp()));
    fields.extend(about::fields());
    Arc::new(Schema::new(fields))
});

#[derive(Serialize)]
struct DecisionRow<'a> {
    deploy_id: &'a str,
    decision: DecisionKind,
    actor: &'a str,
    reason: &'a str,
    decided_at: UnixNanos,
    #[serde(flatten)]
    about: About<'a>,
}

impl<'a> DecisionRow<'a> {
    fn of(decision: &'a Decision, deploys: &'a Deploys) -> Self {
        Self {
            deploy_id: decision.deploy_id.as_str(),
            decision: decision.decision,
            actor: &decision.actor,
            reason: &decision.reason,
            decided_at: decision.decided_at,
            about: About::deploy(deploys.get(&decision.deploy_id)),
        }
    }
}
