//! A small shop in a real store: deploy of `payment` 2.0.0, with ten requests before and ten after.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::StreamExt;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use plimsoll_catalog::{Catalog, SqliteCatalog};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{
    Culprit, Decision, DecisionKind, Deploy, DeployId, Design, Finding, FindingId, Recommendation, Sample,
    SequenceNumber, ServiceKey, SignalKind, UnixNanos, Verdict, VerdictKind,
};
use plimsoll_otlp::{Signal, Table, decode};
use plimsoll_query::{DataFusionEngine, Format, QueryError, QueryLimits, QueryRequest, SqlEngine};
use plimsoll_store::{Fold, Published, Store, StoreOptions};
use prost::Message;
use tempfile::TempDir;

/// 2023-11-14T22:13:20Z, when `payment` 2.0.0 was deployed.
pub(crate) const STARTED: u64 = 1_700_000_000_000_000_000;
pub(crate) const DEPLOY: &str = "dep_payment2";
const SECOND: u64 = 1_000_000_000;

/// Gives fixed rows of `operations`, once.
struct FixedOperations(Option<RecordBatch>);

impl Fold for FixedOperations {
    fn fold(&mut self, _rows: &Published) {}

    fn pending(&self) -> Vec<(Table, RecordBatch)> {
        self.0.clone().map(|rows| (Table::Operations, rows)).into_iter().collect()
    }

    fn take(&mut self) -> Vec<(Table, RecordBatch)> {
        self.0.take().map(|rows| (Table::Operations, rows)).into_iter().collect()
    }
}

pub(crate) struct Shop {
    pub(crate) engine: DataFusionEngine,
    pub(crate) store: Store,
    pub(crate) catalog: Arc<dyn Catalog>,
    sequence: u64,
    directory: TempDir,
}

pub(crate) fn limits() -> QueryLimits {
    QueryLimits {
        memory_bytes: 64 << 20,
        spill: None,
        timeout: Duration::from_secs(30),
        rows_max: 100_000,
        concurrency: 4,
        sql_bytes_max: 64 << 10,
        threads: 2,
        nice: 0,
        give_way: None,
    }
}

impl Shop {
    /// Opens an empty store under an engine.
    pub(crate) async fn empty(limits: QueryLimits) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::at(directory, limits, Some(operations())).await
    }

    /// Closes the store and opens it again.
    pub(crate) async fn reopened(self) -> Self {
        self.store.close().await.expect("closes");
        let Self { engine, store, catalog, directory, .. } = self;
        drop((engine, store, catalog));
        Self::at(directory, limits(), None).await
    }

    async fn at(directory: TempDir, limits: QueryLimits, operations: Option<RecordBatch>) -> Self {
        let catalog = SqliteCatalog::open(directory.path().join("catalog.db")).await.expect("a catalog");
        let catalog: Arc<dyn Catalog> = Arc::new(catalog);
        let options = StoreOptions {
            root: directory.path().join("segments"),
            tail_bytes_flush: 1 << 30,
            encoder_bytes: 64 << 20,
            encoders: 1,
            tail_age_flush: Duration::from_secs(1 << 30),
            retention: Duration::from_secs(1 << 31),
            retention_rules: Vec::new(),
            disk_bytes_max: u64::MAX,
            disk_reserve_bytes: 0,
        };
        let clock = Arc::new(|| UnixNanos(STARTED + 3_600 * SECOND));
        let fold = Box::new(FixedOperations(operations));
        let store = Store::open(options, Arc::clone(&catalog), fold, Box::new(|_| {}), clock).await.expect("a store");
        let engine = DataFusionEngine::new(store.clone(), Arc::clone(&catalog), limits).expect("an engine");
        Self { engine, store, catalog, sequence: 0, directory }
    }

    /// Opens a store with the shop's rows in its tail.
    pub(crate) async fn open() -> Self {
        Self::open_with(limits()).await
    }

    pub(crate) async fn open_with(limits: QueryLimits) -> Self {
        let mut shop = Self::empty(limits).await;
        shop.publish(Signal::Traces, &traces(0..20));
        shop.publish(Signal::Logs, &logs());
        shop.publish(Signal::Metrics, &metrics());
        shop.store.folded().await;
        shop.record_facts().await;
        shop
    }

    /// Returns where the file of a segment is.
    pub(crate) fn segment_file(&self, path: &str) -> PathBuf {
        self.directory.path().join("segments").join(path)
    }

    pub(crate) fn publish(&mut self, signal: Signal, request: &impl Message) {
        self.sequence += 1;
        let decoded = decode(signal, &request.encode_to_vec(), UnixNanos(STARTED + 60 * SECOND)).expect("well formed");
        assert_eq!(decoded.rejected.count, 0, "{}", decoded.rejected.reason);
        let sequence = SequenceNumber(self.sequence);
        self.store.publish(vec![Published { sequence, last: sequence, signal, batch: decoded.batch }]);
    }

    async fn record_facts(&self) {
        let deploy = deploy();
        self.catalog.insert_deploy(&deploy, None).await.expect("recorded");
        self.catalog.commit_verdict(&verdict(&deploy), None, &[], None).await.expect("recorded");
        let decision = Decision {
            deploy_id: deploy.id.clone(),
            decision: DecisionKind::Rollback,
            actor: "ci".to_owned(),
            reason: "errors".to_owned(),
            decided_at: UnixNanos(STARTED + 120 * SECOND),
        };
        self.catalog.insert_decision(&decision).await.expect("recorded");
    }

    /// Answers `sql` as CSV without its header.
    pub(crate) async fn csv(&self, sql: &str) -> Result<String, QueryError> {
        let text = self.encoded(QueryRequest::new(sql), Format::Csv).await?;
        let text = String::from_utf8(text).expect("CSV is text");
        Ok(text.split_once('\n').map_or(String::new(), |(_, rows)| rows.to_owned()))
    }

    /// Answers `sql` as CSV with its header.
    pub(crate) async fn csv_with_header(&self, sql: &str) -> Result<String, QueryError> {
        let text = self.encoded(QueryRequest::new(sql), Format::Csv).await?;
        Ok(String::from_utf8(text).expect("CSV is text"))
    }

    pub(crate) async fn encoded(&self, request: QueryRequest, format: Format) -> Result<Vec<u8>, QueryError> {
        let mut bytes = Vec::new();
        let mut chunks = format.encode(self.engine.query(request).await?);
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes)
    }

    /// Runs `sql` and counts its rows.
    pub(crate) async fn rows(&self, sql: &str) -> Result<usize, QueryError> {
        let mut result = self.engine.query(QueryRequest::new(sql)).await?;
        let mut rows = 0;
        while let Some(batch) = result.rows.next().await {
            rows += batch?.num_rows();
        }
        Ok(rows)
    }

    pub(crate) async fn error(&self, sql: &str) -> QueryError {
        match self.rows(sql).await {
            Ok(rows) => panic!("`{sql}` gave {rows} rows"),
            Err(error) => error,
        }
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn resource(service: &str, version: &str) -> Option<Resource> {
    Some(Resource {
        attributes: vec![
            text("service.name", service),
            text("service.version", version),
            text("deployment.environment.name", "prod"),
            text("service.instance.id", "pod-1"),
            text("k8s.pod.name", "payment-0"),
            attribute("k8s.restarts", Value::IntValue(3)),
        ],
        ..Default::default()
    })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "shop".to_owned(), version: "1".to_owned(), ..Default::default() })
}

/// The trace id of request `number`.
pub(crate) fn trace_id(number: u64) -> [u8; 16] {
    let mut id = [0xab; 16];
    id[8..].copy_from_slice(&(number + 1).to_be_bytes());
    id
}

/// Requests to `payment`: number 10 and later come after the deploy and go to 2.0.0; each fifth fails.
pub(crate) fn traces(numbers: std::ops::Range<u64>) -> ExportTraceServiceRequest {
    let (before, after): (Vec<u64>, Vec<u64>) = numbers.partition(|number| *number < 10);
    let versions = [("1.0.0", before), ("2.0.0", after)];
    let resource_spans = versions
        .into_iter()
        .filter(|(_, numbers)| !numbers.is_empty())
        .map(|(version, numbers)| ResourceSpans {
            resource: resource("payment", version),
            scope_spans: vec![ScopeSpans {
                scope: scope(),
                spans: numbers.into_iter().map(request).collect(),
                ..Default::default()
            }],
            ..Default::default()
        })
        .collect();
    ExportTraceServiceRequest { resource_spans }
}

fn request(number: u64) -> Span {
    let start = STARTED + number * SECOND - 10 * SECOND;
    let failed = number % 5 == 4;
    let exception = span::Event {
        time_unix_nano: start + 1_000_000,
        name: "exception".to_owned(),
        attributes: vec![text("exception.type", "CardError"), text("exception.message", "card declined")],
        ..Default::default()
    };
    Span {
        trace_id: trace_id(number).to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        parent_span_id: if number == 0 { vec![] } else { vec![7; 8] },
        name: "POST /charge".to_owned(),
        kind: if number.is_multiple_of(2) { 2 } else { 3 },
        start_time_unix_nano: start,
        end_time_unix_nano: start + (number + 1) * 1_000_000,
        attributes: vec![
            text("http.request.method", "POST"),
            text("http.route", "/charge"),
            attribute("http.response.status_code", Value::IntValue(if failed { 500 } else { 200 })),
            attribute("retries", Value::IntValue(number as i64)),
            attribute("ratio", Value::DoubleValue(0.5)),
            attribute("cached", Value::BoolValue(number == 3)),
        ],
        events: if failed { vec![exception] } else { vec![] },
        links: if number == 1 {
            vec![span::Link { trace_id: trace_id(0).to_vec(), span_id: vec![1; 8], ..Default::default() }]
        } else {
            vec![]
        },
        status: failed.then(|| Status { code: 2, message: "declined".to_owned() }),
        ..Default::default()
    }
}

pub(crate) fn logs() -> ExportLogsServiceRequest {
    let records = (0..6_u64)
        .map(|number| LogRecord {
            time_unix_nano: STARTED + number * SECOND - 3 * SECOND,
            observed_time_unix_nano: STARTED,
            severity_number: if number == 5 { 17 } else { 9 },
            severity_text: if number == 5 { "ERROR" } else { "INFO" }.to_owned(),
            body: Some(AnyValue { value: Some(Value::StringValue(format!("user {number} paid {number}.50 EUR"))) }),
            attributes: if number == 5 {
                vec![text("exception.type", "Timeout"), text("exception.message", "took too long")]
            } else {
                vec![]
            },
            trace_id: if number == 0 { vec![] } else { trace_id(number).to_vec() },
            span_id: if number == 0 { vec![] } else { (number + 1).to_be_bytes().to_vec() },
            ..Default::default()
        })
        .collect();
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource("payment", "2.0.0"),
            scope_logs: vec![ScopeLogs { scope: scope(), log_records: records, ..Default::default() }],
            ..Default::default()
        }],
    }
}

fn metrics() -> ExportMetricsServiceRequest {
    let point = |value| NumberDataPoint {
        time_unix_nano: STARTED,
        start_time_unix_nano: STARTED - 60 * SECOND,
        attributes: vec![text("region", "eu")],
        value: Some(value),
        ..Default::default()
    };
    let metric = |name: &str, data| Metric {
        name: name.to_owned(),
        unit: "1".to_owned(),
        data: Some(data),
        ..Default::default()
    };
    let gauge = Gauge { data_points: vec![point(number_data_point::Value::AsDouble(0.75))] };
    let sum = Sum {
        data_points: vec![point(number_data_point::Value::AsInt(9_007_199_254_740_993))],
        aggregation_temporality: 2,
        is_monotonic: true,
    };
    let histogram = Histogram {
        data_points: vec![HistogramDataPoint {
            time_unix_nano: STARTED,
            count: 3,
            sum: Some(6.0),
            bucket_counts: vec![1, 2],
            explicit_bounds: vec![1.0],
            ..Default::default()
        }],
        aggregation_temporality: 1,
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource("payment", "2.0.0"),
            scope_metrics: vec![ScopeMetrics {
                scope: scope(),
                metrics: vec![
                    metric("cpu", metric::Data::Gauge(gauge)),
                    metric("requests", metric::Data::Sum(sum)),
                    metric("latency", metric::Data::Histogram(histogram)),
                ],
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

/// A counter of two instances, one of which begins again, and an exponential histogram.
pub(crate) fn counters() -> ExportMetricsServiceRequest {
    let point = |pod: &str, at: u64, value: i64| NumberDataPoint {
        time_unix_nano: STARTED + at * SECOND,
        start_time_unix_nano: STARTED - 60 * SECOND,
        attributes: vec![text("pod", pod)],
        value: Some(number_data_point::Value::AsInt(value)),
        ..Default::default()
    };
    let served = [("a", 0, 100), ("a", 10, 150), ("a", 20, 250), ("b", 0, 900), ("b", 10, 20), ("b", 20, 60)];
    let sum = Sum {
        data_points: served.into_iter().map(|(pod, at, value)| point(pod, at, value)).collect(),
        aggregation_temporality: 2,
        is_monotonic: true,
    };
    let buckets = |offset: i32, bucket_counts: &[u64]| {
        Some(exponential_histogram_data_point::Buckets { offset, bucket_counts: bucket_counts.to_vec() })
    };
    let sized = |scale: i32, offset: i32, counts: &[u64]| ExponentialHistogramDataPoint {
        time_unix_nano: STARTED,
        count: counts.iter().sum(),
        scale,
        positive: buckets(offset, counts),
        ..Default::default()
    };
    let sizes = ExponentialHistogram {
        data_points: vec![sized(1, 10, &[1, 1, 4, 4]), sized(0, 5, &[10, 10])],
        aggregation_temporality: 1,
    };
    let metric = |name: &str, data| Metric { name: name.to_owned(), data: Some(data), ..Default::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource("payment", "2.0.0"),
            scope_metrics: vec![ScopeMetrics {
                scope: scope(),
                metrics: vec![
                    metric("requests.served", metric::Data::Sum(sum)),
                    metric("request.size", metric::Data::ExponentialHistogram(sizes)),
                ],
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

fn operations() -> RecordBatch {
    let row = |version: &str, requests: u64, buckets: &str, counts: &str, exceptions: &str| {
        format!(
            r#"{{"bucket_start":"2023-11-14T22:13:20Z","service_name":"payment","service_namespace":"","service_version":"{version}",
            "environment":"prod","operation":"POST /charge","kind":"server","instance_age":"warm","requests":{requests},"errors":1,
            "error_origins":1,"log_latency_sum":0,"log_latency_sum_sq":0,"latency_buckets":{buckets},"latency_counts":{counts},
            "self_time_buckets":[],"self_time_counts":[],"self_time_ns":0,"assembled":0,"errors_by_class":[{{"class":"500","count":1}}],
            "exceptions":{exceptions},"blame":[],"callees":[],"failed_exemplars":["{}"],"slow_exemplars":[]}}"#,
            "ab".repeat(16)
        )
        .replace('\n', " ")
    };
    let exception = |fingerprint: u64, count: u64| {
        format!(r#"{{"fingerprint":{fingerprint},"type":"CardError","message":"card declined","count":{count}}}"#)
    };
    let rows = [
        row("1.0.0", 4, "[300, 320]", "[3, 1]", &format!("[{}]", exception(7, 1))),
        row("2.0.0", 2, "[320]", "[2]", &format!("[{},{}]", exception(u64::MAX, 3), exception(7, 1))),
        row("2.0.0", 2, "[340]", "[2]", &format!("[{}]", exception(u64::MAX, 2))),
    ];
    let mut reader = arrow::json::ReaderBuilder::new(Arc::clone(Table::Operations.schema()))
        .build(std::io::Cursor::new(rows.join("\n").into_bytes()))
        .expect("the schema has a JSON form");
    reader.next().expect("one batch").expect("well formed")
}

fn deploy() -> Deploy {
    Deploy {
        id: DeployId::from_text(DEPLOY),
        service: ServiceKey::new("prod", "payment"),
        version: "2.0.0".to_owned(),
        kind: Default::default(),
        previous_version: Some("1.0.0".to_owned()),
        commit: None,
        repository: None,
        run_url: None,
        actor: Some("ci".to_owned()),
        strategy: None,
        artifact: None,
        attributes: [("team".to_owned(), "money".to_owned())].into(),
        started_at: UnixNanos(STARTED),
        finished_at: None,
        status: Default::default(),
        inferred: false,
        created_at: UnixNanos(STARTED),
    }
}

fn verdict(deploy: &Deploy) -> Verdict {
    Verdict {
        deploy_id: deploy.id.clone(),
        verdict: VerdictKind::Regressed,
        decided: true,
        recommendation: Recommendation::Rollback,
        design: Design::BeforeAfter,
        comparison: Default::default(),
        started_at: deploy.started_at,
        decided_at: Some(UnixNanos(STARTED + 50 * SECOND)),
        time_to_decide_s: None,
        findings: vec![Finding {
            id: FindingId::derive(&deploy.id, "error_rate", "payment", "POST /charge", ""),
            signal: SignalKind::ErrorRate,
            service: "payment".to_owned(),
            operation: "POST /charge".to_owned(),
            culprit: Culprit { service: "payment".to_owned(), version: "2.0.0".to_owned(), operation: String::new() },
            baseline: Sample { value: 0.01, n: 12_000 },
            candidate: Sample { value: 0.05, n: 600 },
            unit: "ratio".to_owned(),
            effect: 5.0,
            interval: [3.1, 8.0],
            e_value: 412.0,
            p_value: 0.0024,
            exemplars: vec!["ab".repeat(16)],
            sql: "SELECT 1".to_owned(),
            summary: "errors rose".to_owned(),
            symptom: false,
            explanation: Default::default(),
        }],
        data_quality: vec!["late_spans".to_owned()],
        phase: Phase::Confirmed,
        summary: "payment 2.0.0 fails more often".to_owned(),
        evaluated_at: UnixNanos(STARTED + 50 * SECOND),
        revision: 1,
    }
}
