//! Services whose spans go through decoder and fold, a watcher that looks at them, and a clock that tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use plimsoll_catalog::{Catalog, SqliteCatalog};
use plimsoll_model::{Deploy, UnixNanos, Verdict, VerdictKind};
use plimsoll_otlp::{Signal, Table, decode, json_to_protobuf};
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_verdict::TolerancePolicy;
use plimsoll_watch::{NewDeploy, WatchOptions, Watcher};

/// The second at which deploys start.
pub(crate) const START: u64 = 1_800_000_000;

/// All of it.
pub(crate) struct World {
    pub(crate) watcher: Watcher,
    state: Arc<Mutex<SignalState>>,
    clock: Arc<AtomicU64>,
    spans: AtomicU64,
    _directory: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::within(usize::MAX).await
    }

    /// With room for so many bytes between looks.
    pub(crate) async fn within(sessions_bytes_max: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("catalog.db");
        let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(path).await.expect("opens"));
        let state = Arc::new(Mutex::new(SignalState::new(SignalLimits::default())));
        let keep_evidence = Some(Duration::from_secs(86_400));
        let options = WatchOptions { keep_evidence, sessions_bytes_max, ..options() };
        let clock = Arc::new(AtomicU64::new(START));
        let watcher = watcher(options, catalog, &state, &clock).await;
        Self { watcher, state, clock, spans: AtomicU64::new(0), _directory: directory }
    }

    /// Announces a version of a service as of now.
    pub(crate) async fn deploy(&self, service: &str, version: &str) -> Deploy {
        let marker = NewDeploy {
            service: service.to_owned(),
            environment: "prod".to_owned(),
            version: version.to_owned(),
            ..NewDeploy::default()
        };
        self.watcher.register(marker, None).await.expect("valid").0
    }

    /// Sends requests of one second since the start, received in the second `received`; `failed` says which of them fail.
    pub(crate) fn send(
        &self,
        service: &str,
        version: &str,
        second: i64,
        received: i64,
        requests: u64,
        failed: impl Fn(u64) -> bool,
    ) {
        let at = |second: i64| START.checked_add_signed(second).expect("in range");
        let spans: Vec<String> = (0..requests)
            .map(|n| {
                let number = self.spans.fetch_add(1, Ordering::SeqCst) + 1;
                let start = at(second) * 1_000_000_000 + n * (900_000_000 / requests);
                format!(
                    r#"{{"traceId":"{number:032x}","spanId":"{number:016x}","name":"GET /","kind":2,"startTimeUnixNano":"{start}",
                    "endTimeUnixNano":"{}","status":{{"code":{}}}}}"#,
                    start + 20_000_000 + number % 50 * 1_000_000,
                    if failed(number) { 2 } else { 1 }
                )
            })
            .collect();
        fold(&self.state, service, version, &spans, at(received));
    }

    /// Looks in a second since the start, and returns what is said of a deploy then.
    pub(crate) async fn look(&self, second: u64, deploy: &Deploy) -> Verdict {
        self.clock.store(START + second, Ordering::SeqCst);
        self.watcher.tick().await;
        self.watcher.verdict(&deploy.id).await.expect("readable").expect("it exists")
    }
}

/// Returns options under which nothing is inferred and no evidence is kept.
pub(crate) fn options() -> WatchOptions {
    WatchOptions {
        interval: Duration::from_secs(5),
        infer_deploys: false,
        tolerances: TolerancePolicy::default(),
        audience: None,
        ui_base: String::new(),
        judged_per_tick: 64,
        sessions_bytes_max: usize::MAX,
        keep_evidence: None,
    }
}

/// Begins to watch by a clock of seconds.
pub(crate) async fn watcher(
    options: WatchOptions,
    catalog: Arc<dyn Catalog>,
    state: &Arc<Mutex<SignalState>>,
    clock: &Arc<AtomicU64>,
) -> Watcher {
    let (now, ids) = (clock.clone(), AtomicU64::new(1));
    let started = Watcher::start(
        options,
        catalog,
        state.clone(),
        Arc::new(move || UnixNanos::from_secs(now.load(Ordering::SeqCst))),
        Arc::new(move || u128::from(ids.fetch_add(1, Ordering::SeqCst))),
    );
    started.await.expect("the catalog is readable")
}

/// Folds spans, each an OTLP/JSON object, of a version of a service, received in the second `received`.
pub(crate) fn fold(state: &Mutex<SignalState>, service: &str, version: &str, spans: &[String], received: u64) {
    let text = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#);
    let resource =
        [text("service.name", service), text("deployment.environment.name", "prod"), text("service.version", version)];
    let json = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{}]}},"scopeSpans":[{{"spans":[{}]}}]}}]}}"#,
        resource.join(","),
        spans.join(",")
    );
    let request = json_to_protobuf(Signal::Traces, json.as_bytes()).expect("is OTLP/JSON");
    let decoded = decode(Signal::Traces, &request, UnixNanos::from_secs(received)).expect("is a request");
    state.lock().fold(Table::Spans, &decoded.batch).expect("is in the stored schema");
}

/// Returns the first verdict that calls the deploy regressed.
pub(crate) fn regressed(told: &[Verdict]) -> Option<&Verdict> {
    told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed)
}
