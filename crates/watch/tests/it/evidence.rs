//! What is kept beside a verdict of a service that lives in large company: that it suffices, and how much it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use plimsoll_catalog::{Catalog, SqliteCatalog};
use plimsoll_model::signal::{
    AgeClass, CalleeTime, Exemplars, OperationCell, OperationKey, OperationKind, Party, WEIGHT_UNIT,
};
use plimsoll_model::{Bucket, ServiceKey, UnixNanos, Verdict};
use plimsoll_otlp::{Signal, Table, decode, json_to_protobuf};
use plimsoll_signals::{OperationRow, SignalLimits, SignalState, encode_operations};
use plimsoll_watch::{Evidence, NewDeploy, WatchOptions, Watcher};

/// The bucket of the start.
const START: u64 = 170_000_000;
/// Buckets since.
const SINCE: u64 = 30;

/// Random numbers, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }
}

fn cell(dice: &mut Dice, callees: &[String]) -> OperationCell {
    let requests = 80 + dice.roll() % 40;
    let errors = dice.roll() % 3;
    let mut cell = OperationCell {
        requests,
        errors,
        weighted_requests: requests * WEIGHT_UNIT,
        weighted_errors: errors * WEIGHT_UNIT,
        error_origins: errors,
        log_latency_sum: (dice.roll() >> 20) as i64,
        log_latency_sum_sq: (dice.roll() >> 16) as i64,
        self_time_ns: dice.roll() >> 24,
        assembled: requests,
        ..OperationCell::default()
    };
    for _ in 0..requests {
        // About what latencies look like: a product of three even ones.
        let ns = (0..3).map(|_| 1 + dice.roll() % 400).product::<u64>() * 1_000;
        cell.latency.record(ns);
        cell.self_time.record(ns / 2);
    }
    for callee in callees {
        let party = Party {
            namespace: String::new(),
            service: callee.clone(),
            version: "1".to_owned(),
            operation: format!("POST /{}", dice.roll() % 30),
        };
        cell.callees.insert(party.clone(), CalleeTime { calls: requests, critical_ns: dice.roll() >> 24 });
        cell.blame.insert(party, errors.max(1));
    }
    let mut traces = || Exemplars((0..Exemplars::MAX).map(|_| u128::from(dice.roll()).to_be_bytes()).collect());
    (cell.good_exemplars, cell.slow_exemplars, cell.failed_exemplars) = (traces(), traces(), traces());
    cell
}

/// Services of which the first `connected` call two others of those; the rest keep to themselves.
#[derive(Debug, Clone, Copy)]
struct Mesh {
    services: usize,
    connected: usize,
    operations: usize,
    /// Buckets of history.
    before: u64,
}

/// The state of the mesh from its rows of buckets before `until`.
fn state_of(mesh: Mesh, until: u64) -> SignalState {
    let Mesh { services, connected, operations, before } = mesh;
    let limits = SignalLimits { rolling_cells_max: 4 << 20, pending_cells_max: 4 << 20, ..SignalLimits::default() };
    let mut state = SignalState::new(limits);
    let mut dice = Dice(7);
    let name = |number: usize| format!("service-{number}");
    for service in 0..services {
        let callees: Vec<String> = if service < connected {
            [1, 3].map(|step| name((service + step) % connected)).to_vec()
        } else {
            Vec::new()
        };
        let mut rows: Vec<OperationRow> = Vec::new();
        for operation in 0..operations {
            for version in ["1", "2"] {
                let key = OperationKey {
                    service: ServiceKey::new("prod", name(service)),
                    version: version.to_owned(),
                    operation: format!("POST /{operation}"),
                    kind: OperationKind::Server,
                    age: AgeClass::Warm,
                };
                let buckets = match (version, service) {
                    ("1", _) => START - before..START + SINCE,
                    (_, 0) => START..START + SINCE,
                    _ => 0..0,
                };
                let all = buckets.map(|bucket| (key.clone(), Bucket(bucket), cell(&mut dice, &callees)));
                rows.extend(all.filter(|(_, bucket, _)| bucket.0 < until));
            }
        }
        state.load(Table::Operations, &encode_operations(&rows)).expect("is in the stored schema");
    }
    state
}

/// Judges a deploy of the first service and returns the verdict, with what is kept of it.
async fn judged(state: SignalState) -> (Verdict, Vec<u8>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("catalog.db");
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(path).await.expect("opens"));
    let options = WatchOptions { keep_evidence: Some(Duration::from_secs(7 * 86_400)), ..crate::telemetry::options() };
    let clock = Arc::new(AtomicU64::new(Bucket(START).start().0));
    let now = clock.clone();
    let watcher = Watcher::start(
        options,
        catalog.clone(),
        Arc::new(Mutex::new(state)),
        Arc::new(move || UnixNanos(now.load(Ordering::SeqCst))),
        Arc::new(|| 1),
    );
    let watcher = watcher.await.expect("the catalog is readable");
    let marker = NewDeploy {
        service: "service-0".to_owned(),
        environment: "prod".to_owned(),
        version: "2".to_owned(),
        ..NewDeploy::default()
    };
    let (deploy, _) = watcher.register(marker, None).await.expect("valid");
    clock.store(Bucket(START + SINCE).start().0, Ordering::SeqCst);
    watcher.tick().await;
    let verdict = catalog.verdict(&deploy.id).await.expect("readable").expect("it was judged");
    assert_eq!(verdict.comparison.versions, ["1"], "{}", verdict.summary);
    (verdict, catalog.evidence(&deploy.id).await.expect("readable").expect("it was kept"))
}

#[tokio::test]
async fn what_is_kept_of_a_verdict_in_a_large_mesh_is_small_and_judges_as_the_whole_did() {
    for (mesh, bytes_max) in [
        (Mesh { services: 12, connected: 12, operations: 30, before: 40 }, 1 << 20),
        (Mesh { services: 300, connected: 12, operations: 2, before: 60 }, 1 << 20),
        (Mesh { services: 300, connected: 300, operations: 1, before: 40 }, 1 << 20),
    ] {
        let (verdict, bytes) = judged(state_of(mesh, u64::MAX)).await;
        assert!(bytes.len() < bytes_max, "{mesh:?}: {} bytes", bytes.len());
        let evidence = Evidence::from_bytes(&bytes).expect("is read");
        let until = evidence.needs().to.bucket().0;
        assert!(evidence.rows() > 0 && until < START + SINCE, "rows of the last minutes are kept");
        let again = evidence.judge(&mut state_of(mesh, until)).expect("is judged");
        assert_eq!(again, verdict, "{mesh:?}");
    }
}

/// The state of a service that says once a minute how long its queue is, up to the bucket `until`: it is twice as long from the start
/// on, and was from the same minute on a day before.
fn queue_until(until: u64) -> SignalState {
    let mut state = SignalState::new(SignalLimits::default());
    let day = 8_640;
    let yesterday = (START - day - 720..START - day + 360).step_by(6);
    let today = (START - 360..START + SINCE).step_by(6);
    for bucket in yesterday.chain(today).filter(|bucket| *bucket < until) {
        let begins = if bucket < START - day / 2 { START - day } else { START };
        let version = if bucket >= START { "2" } else { "1" };
        let level = if bucket >= begins { 200.0 } else { 100.0 } + (bucket / 6 % 7) as f64;
        let at = Bucket(bucket).start();
        let text = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#);
        let resource = [
            text("service.name", "service-0"),
            text("deployment.environment.name", "prod"),
            text("service.version", version),
        ];
        let json = format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{}]}},"scopeMetrics":[{{"metrics":[{{"name":"queue.size",
            "gauge":{{"dataPoints":[{{"timeUnixNano":"{}","asDouble":{level}}}]}}}}]}}]}}]}}"#,
            resource.join(","),
            at.0
        );
        let request = json_to_protobuf(Signal::Metrics, json.as_bytes()).expect("is OTLP/JSON");
        let decoded = decode(Signal::Metrics, &request, at).expect("is a request");
        state.fold(Table::Metrics, &decoded.batch).expect("is in the stored schema");
        state.take_rows();
    }
    state
}

#[tokio::test]
async fn what_a_level_did_at_the_same_hour_a_day_before_is_kept_with_the_verdict() {
    let (verdict, bytes) = judged(queue_until(u64::MAX)).await;
    assert_eq!(verdict.comparison.same_hours_days, [1], "{:?}", verdict.data_quality);
    assert!(verdict.data_quality.iter().any(|word| word == "seasonal_shift"), "{:?}", verdict.data_quality);
    let evidence = Evidence::from_bytes(&bytes).expect("is read");
    let day_before = Bucket(START - 8_640).start();
    assert!(evidence.needs_history().from < day_before, "the day before is asked for");
    let again = evidence.judge(&mut queue_until(evidence.needs().to.bucket().0)).expect("is judged");
    assert_eq!(again, verdict);
}
