//! Candidate against control over time, as a few dozen numbers each.
//!
//! The rows are those of `operations` and `signals`; the query is told with the numbers, so that anybody can run it again.

use std::collections::BTreeSet;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampNanosecondType};
use futures::StreamExt;
use plimsoll_model::{Bucket, Deploy, DeployKind, Design, Finding, SignalKind, UnixNanos, Verdict};
use plimsoll_query::{QueryError, QueryRequest, SqlEngine};
use serde::{Deserialize, Serialize};

/// Points that a series has at most.
const POINTS_MAX: u64 = 60;
/// What is shown before the start where both arms serve side by side, and where they do not.
const BEFORE_BESIDE_S: u64 = 300;
const BEFORE_S: u64 = 1_800;
/// What is shown after the start at most.
const AFTER_S: u64 = 5_400;
/// What one query may take.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// One thing over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    /// What it shows.
    pub(crate) title: String,
    /// Unit of the numbers, for instance `ratio` or `ms`.
    pub(crate) unit: String,
    /// Start of the first point.
    pub(crate) from: UnixNanos,
    /// Seconds a point.
    pub(crate) step_s: u64,
    /// Which point the deploy started in.
    pub(crate) started: usize,
    /// The candidate's numbers; `null` where it has none.
    pub(crate) candidate: Vec<Option<f64>>,
    /// The control's.
    pub(crate) control: Vec<Option<f64>>,
    /// The query that gave them.
    pub(crate) sql: String,
}

/// Whose rows are drawn.
#[derive(Clone, Copy)]
struct Whose<'a> {
    service: &'a str,
    /// The candidate, as telemetry names it, empty where that is the deploy's version; `None` where the start of the deploy
    /// alone parts the arms.
    version: Option<&'a str>,
}

/// What a point is computed from.
struct Measure<'a> {
    title: String,
    unit: &'a str,
    table: &'a str,
    value: String,
    rows: String,
    /// The column that tells the arms apart.
    arm: &'a str,
}

/// Draws a finding; `None` where there are no rows to draw it from.
pub(super) async fn of_finding(
    engine: &dyn SqlEngine,
    deploy: &Deploy,
    verdict: &Verdict,
    finding: &Finding,
) -> Option<Series> {
    let measure = measure(deploy, finding)?;
    let whose = Whose {
        service: &finding.service,
        // Who suffers elsewhere is compared with the time before.
        version: (finding.service == deploy.service.service).then_some(finding.explanation.version.as_str()),
    };
    draw(engine, deploy, verdict, whose, measure).await
}

/// Draws the service as a whole: failures, latency, traffic.
pub(super) async fn of_service(engine: &dyn SqlEngine, deploy: &Deploy, verdict: &Verdict) -> Vec<Series> {
    let operations = |title: &str, unit, value: &str| Measure {
        title: title.to_owned(),
        unit,
        table: "operations",
        value: value.to_owned(),
        rows: "kind <> 'internal'".to_owned(),
        arm: "service_version",
    };
    let mut found = Vec::new();
    for measure in [
        operations("failed requests", "ratio", "CAST(sum(errors) AS DOUBLE) / nullif(sum(requests), 0)"),
        operations("p95 latency", "ms", "merged_quantile(latency_buckets, latency_counts, 0.95)"),
        operations("requests a second", "requests/s", "CAST(sum(requests) AS DOUBLE) / {step}"),
    ] {
        let whose = Whose { service: &deploy.service.service, version: Some("") };
        found.extend(draw(engine, deploy, verdict, whose, measure).await);
    }
    found
}

fn measure<'a>(deploy: &Deploy, finding: &'a Finding) -> Option<Measure<'a>> {
    let operation = format!("operation = {}", quoted(&finding.operation));
    let of_operations = |title: String, value: &str, rows: String| Measure {
        title,
        unit: &finding.unit,
        table: "operations",
        value: value.to_owned(),
        rows,
        arm: "service_version",
    };
    let failed = "CAST(sum(errors) AS DOUBLE) / nullif(sum(requests), 0)";
    if let Some(flag) = deploy.attributes.get("feature_flag.key").filter(|_| deploy.kind == DeployKind::Flag) {
        let (value, title) = match finding.signal {
            SignalKind::ErrorRate => ("CAST(sum(errors) AS DOUBLE) / nullif(sum(count), 0)", "failed requests"),
            SignalKind::Latency => ("merged_quantile(value_buckets, value_counts, 0.95)", "p95 latency"),
            _ => return None,
        };
        return Some(Measure {
            title: format!("{title} of `{}`", finding.operation),
            unit: &finding.unit,
            table: "signals",
            value: value.to_owned(),
            rows: format!("kind = 'arm' AND detail = {} AND name = {}", quoted(flag), quoted(&finding.operation)),
            arm: "variant",
        });
    }
    match finding.signal {
        SignalKind::ErrorRate | SignalKind::NewException => Some(Measure {
            unit: "ratio",
            ..of_operations(format!("failed requests of `{}`", finding.operation), failed, operation)
        }),
        SignalKind::Latency => Some(of_operations(
            format!("p95 latency of `{}`", finding.operation),
            "merged_quantile(latency_buckets, latency_counts, 0.95)",
            operation,
        )),
        SignalKind::Throughput if finding.unit == "calls/request" || finding.unit == "actions/request" => None,
        SignalKind::Throughput | SignalKind::Silence => Some(Measure {
            unit: "requests/s",
            ..of_operations(
                "requests a second".to_owned(),
                "CAST(sum(requests) AS DOUBLE) / {step}",
                "kind <> 'internal'".to_owned(),
            )
        }),
        SignalKind::NewLog => Some(Measure {
            title: "error messages a second".to_owned(),
            unit: "messages/s",
            table: "signals",
            value: "CAST(sum(count) AS DOUBLE) / {step}".to_owned(),
            rows: "kind = 'log' AND role IN ('error', 'fatal')".to_owned(),
            arm: "service_version",
        }),
        SignalKind::Metric => {
            let name = finding.explanation.subject.split('`').nth(1)?;
            Some(Measure {
                title: format!("`{name}`"),
                unit: &finding.unit,
                table: "signals",
                value:
                    "CASE WHEN max(role) = 'counter' THEN sum(sum) / {step} ELSE sum(sum) / nullif(sum(count), 0) END"
                        .to_owned(),
                rows: format!("kind = 'metric' AND name = {}", quoted(name)),
                arm: "service_version",
            })
        }
    }
}

/// From when to when, and how wide a point is.
struct Axis {
    from: UnixNanos,
    to: UnixNanos,
    step_s: u64,
}

impl Axis {
    fn of(verdict: &Verdict) -> Self {
        let seconds = std::time::Duration::from_secs;
        let before = if verdict.design == Design::Concurrent { BEFORE_BESIDE_S } else { BEFORE_S };
        let from = (verdict.started_at - seconds(before)).bucket().start();
        let to = verdict.evaluated_at.min(verdict.started_at + seconds(AFTER_S)).max(verdict.started_at);
        let to = to.bucket().start().max(verdict.started_at.bucket().end());
        let bucket_s = Bucket::WIDTH.as_secs();
        let step_s = to.since(from).as_secs().div_ceil(POINTS_MAX).div_ceil(bucket_s).max(1) * bucket_s;
        Self { from, to, step_s }
    }

    fn slot(&self, at: UnixNanos) -> usize {
        usize::try_from(at.since(self.from).as_secs() / self.step_s).unwrap_or(usize::MAX)
    }

    fn points(&self) -> usize {
        usize::try_from(self.to.since(self.from).as_secs().div_ceil(self.step_s)).unwrap_or(0)
    }
}

async fn draw(
    engine: &dyn SqlEngine,
    deploy: &Deploy,
    verdict: &Verdict,
    whose: Whose<'_>,
    measure: Measure<'_>,
) -> Option<Series> {
    let axis = Axis::of(verdict);
    let sql = query(deploy, verdict, whose, &measure, &axis);
    let mut series = Series {
        title: measure.title,
        unit: measure.unit.to_owned(),
        from: axis.from,
        step_s: axis.step_s,
        started: axis.slot(verdict.started_at),
        candidate: vec![None; axis.points()],
        control: vec![None; axis.points()],
        sql,
    };
    match fill(engine, &mut series, &axis).await {
        Ok(0) => None,
        Ok(_) => Some(series),
        Err(error) => {
            tracing::debug!(%error, "a series could not be read");
            None
        }
    }
}

fn query(deploy: &Deploy, verdict: &Verdict, whose: Whose<'_>, measure: &Measure<'_>, axis: &Axis) -> String {
    let versions: BTreeSet<&str> = verdict.comparison.versions.iter().map(String::as_str).collect();
    let variant = deploy.attributes.get("feature_flag.result.variant").filter(|_| measure.arm == "variant");
    let missing = verdict.data_quality.iter().any(|word| word == plimsoll_verdict::quality::VERSION_MISSING);
    let candidate = match (variant, whose.version) {
        (Some(variant), _) => variant.as_str(),
        (None, None) => "",
        (None, Some(_)) if missing => "",
        (None, Some("")) => deploy.version.as_str(),
        (None, Some(version)) => version,
    };
    let since = format!("bucket_start >= TIMESTAMP '{}'", verdict.started_at.bucket().start());
    let same = versions.contains(candidate) || candidate.is_empty();
    let is_candidate = if same { since } else { format!("{} = {}", measure.arm, quoted(candidate)) };
    let mut rows = measure.rows.clone();
    // Beside each other only the versions that were compared; before and after, all that served.
    if verdict.design == Design::Concurrent && !versions.is_empty() && !same {
        let all: Vec<String> = versions.iter().copied().chain([candidate]).map(quoted).collect();
        rows.push_str(&format!(" AND {} IN ({})", measure.arm, all.join(", ")));
    }
    format!(
        "SELECT date_bin(INTERVAL '{step} seconds', bucket_start, TIMESTAMP '{from}') AS at, \
         CASE WHEN {is_candidate} THEN 'candidate' ELSE 'control' END AS arm, {value} AS value \
         FROM {table} WHERE service_name = {service}{namespace} AND environment = {environment} \
         AND {rows} AND bucket_start >= TIMESTAMP '{from}' AND bucket_start < TIMESTAMP '{to}' GROUP BY 1, 2 ORDER BY 1, 2",
        step = axis.step_s,
        from = axis.from,
        to = axis.to,
        value = measure.value.replace("{step}", &format!("{}.0", axis.step_s)),
        table = measure.table,
        service = quoted(whose.service),
        // Of another service only the name is known.
        namespace = match whose.service == deploy.service.service {
            true => format!(" AND service_namespace = {}", quoted(&deploy.service.namespace)),
            false => String::new(),
        },
        environment = quoted(&deploy.service.environment),
    )
}

/// Runs the query and puts its rows in their places; returns how many there were.
async fn fill(engine: &dyn SqlEngine, series: &mut Series, axis: &Axis) -> Result<usize, QueryError> {
    let request = QueryRequest {
        timeout: Some(TIMEOUT),
        allow_missing_segments: true,
        source: "explain",
        ..QueryRequest::new(series.sql.clone())
    };
    let mut rows = engine.query(request).await?.rows;
    let mut filled = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let times = cast(batch.column(0), &DataType::Timestamp(TimeUnit::Nanosecond, None));
        let arms = cast(batch.column(1), &DataType::Utf8);
        let values = cast(batch.column(2), &DataType::Float64);
        let (Ok(times), Ok(arms), Ok(values)) = (times, arms, values) else { continue };
        let times = times.as_primitive::<TimestampNanosecondType>();
        for (row, (arm, value)) in arms.as_string::<i32>().iter().zip(values.as_primitive::<Float64Type>()).enumerate()
        {
            let at = UnixNanos(u64::try_from(times.value(row)).unwrap_or(0));
            let points = if arm == Some("candidate") { &mut series.candidate } else { &mut series.control };
            if let Some(point) = points.get_mut(axis.slot(at)) {
                *point = value.filter(|value| value.is_finite());
                filled += usize::from(point.is_some());
            }
        }
    }
    Ok(filled)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
