//! A service with scripted traffic, a clock that tests move, and a catalog on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll_catalog::{Catalog, SqliteCatalog};
use plimsoll_model::aggregates::{HistorySeries, VitalsSeries};
use plimsoll_model::signal::{AgeClass, Fingerprint, OperationCell, OperationKey, OperationKind, OperationSeries};
use plimsoll_model::{Bucket, Deploy, Interval, ServiceAggregates, ServiceKey, UnixNanos, Verdict};
use plimsoll_verdict::{TolerancePolicy, ToleranceRule};
use plimsoll_watch::{NewDeploy, SignalSource, VersionObservation, WatchOptions, Watcher};

/// The bucket in which deploys start.
pub(crate) const START: u64 = 180_000_000;

/// How long what verdicts were judged from is kept.
pub(crate) const KEPT: Duration = Duration::from_secs(7 * 86_400);

#[derive(Default)]
pub(crate) struct Script {
    series: Mutex<Vec<OperationSeries>>,
    seen: Mutex<Vec<VersionObservation>>,
    /// Services that nobody connects with any other.
    pub(crate) unrelated: Mutex<Vec<VitalsSeries>>,
    /// The same hours of days before.
    pub(crate) history: Mutex<Vec<HistorySeries>>,
    /// The first bucket of which nothing has been heard yet; zero where all is.
    unheard: AtomicU64,
    /// Up to when everything had to be forgotten, and what was asked to be kept last.
    pub(crate) forgotten: Mutex<UnixNanos>,
    pub(crate) kept: Mutex<BTreeMap<ServiceKey, UnixNanos>>,
}

impl SignalSource for Script {
    fn series(&self, service: &ServiceKey, within: Interval) -> Vec<OperationSeries> {
        let mut found: Vec<OperationSeries> = self.series.lock().expect("not poisoned").clone();
        found.retain(|series| series.key.service == *service);
        let unheard = self.unheard.load(Ordering::SeqCst);
        for series in &mut found {
            series.cells.retain(|(bucket, _)| unheard == 0 || bucket.0 < unheard);
            let kept = *self.forgotten.lock().expect("not poisoned");
            series.cells.retain(|(bucket, _)| within.contains(bucket.start()) && bucket.start() >= kept);
        }
        found.retain(|series| !series.cells.is_empty());
        found
    }

    fn aggregates(&self, _: &ServiceKey, _: Interval, _: &BTreeSet<String>) -> ServiceAggregates {
        let history = self.history.lock().expect("not poisoned").clone();
        ServiceAggregates { history, ..ServiceAggregates::default() }
    }

    fn related(&self, _: &ServiceKey) -> Vec<ServiceKey> {
        Vec::new()
    }

    fn unrelated(
        &self,
        _: &ServiceKey,
        touched: &dyn Fn(&ServiceKey) -> Option<UnixNanos>,
        within: Interval,
    ) -> Vec<VitalsSeries> {
        let mut found = self.unrelated.lock().expect("not poisoned").clone();
        for series in &mut found {
            series.until = touched(&series.service).map(UnixNanos::bucket);
            series.cells.retain(|(bucket, _)| series.until.is_none_or(|until| *bucket < until));
            series.cells.retain(|(bucket, _)| within.contains(bucket.start()));
        }
        found.retain(|series| series.until != Some(Bucket(0)));
        found
    }

    fn known_fingerprints(&self, _: &ServiceKey, _: UnixNanos, _: &BTreeSet<String>) -> BTreeSet<Fingerprint> {
        BTreeSet::new()
    }

    fn take_new_versions(&self) -> Vec<VersionObservation> {
        std::mem::take(&mut self.seen.lock().expect("not poisoned"))
    }

    fn keep(&self, needed: &BTreeMap<ServiceKey, UnixNanos>) {
        self.kept.lock().expect("not poisoned").clone_from(needed);
    }

    fn forgotten(&self, _: &ServiceKey) -> UnixNanos {
        *self.forgotten.lock().expect("not poisoned")
    }

    fn data_quality(&self, _: &ServiceKey, _: UnixNanos) -> Vec<String> {
        Vec::new()
    }

    fn knows(&self, service: &ServiceKey) -> bool {
        self.series.lock().expect("not poisoned").iter().any(|series| series.key.service == *service)
    }
}

pub(crate) struct Scene {
    pub(crate) script: Arc<Script>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) watcher: Watcher,
    /// Who emits the telemetry.
    pub(crate) service: ServiceKey,
    clock: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
}

pub(crate) fn service() -> ServiceKey {
    ServiceKey::new("prod", "payment")
}

pub(crate) fn marker(version: &str) -> NewDeploy {
    NewDeploy {
        service: "payment".to_owned(),
        environment: "prod".to_owned(),
        version: version.to_owned(),
        ..NewDeploy::default()
    }
}

async fn watcher(catalog: &Arc<dyn Catalog>, script: &Arc<Script>, clock: &Arc<AtomicU64>) -> Watcher {
    let options = WatchOptions {
        interval: Duration::from_secs(5),
        infer_deploys: true,
        tolerances: TolerancePolicy {
            rules: vec![ToleranceRule {
                service: Some("lenient".to_owned()),
                settings: ["error_points", "error_floor"].map(|key| (key.to_owned(), 0.5)).to_vec(),
                ..ToleranceRule::default()
            }],
            ..TolerancePolicy::default()
        },
        audience: Some(Arc::new(|service| match service.environment.as_str() {
            "unheard" => Vec::new(),
            environment => vec![format!("{environment}-oncall")],
        })),
        ui_base: "http://127.0.0.1:4319".to_owned(),
        judged_per_tick: 64,
        sessions_bytes_max: usize::MAX,
        keep_evidence: Some(KEPT),
    };
    let (now, entropy) = (clock.clone(), AtomicU64::new(1));
    Watcher::start(
        options,
        catalog.clone(),
        script.clone(),
        Arc::new(move || UnixNanos(now.load(Ordering::SeqCst))),
        Arc::new(move || u128::from(entropy.fetch_add(1, Ordering::SeqCst))),
    )
    .await
    .expect("the catalog is readable")
}

impl Scene {
    pub(crate) async fn new() -> Self {
        // In memory where there is such a place: ten thousand markers are as many waits for a disk.
        let memory = tempfile::tempdir_in("/dev/shm");
        let directory = memory.or_else(|_| tempfile::tempdir()).expect("a temporary directory");
        let path = directory.path().join("catalog.db");
        let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(path).await.expect("opens"));
        let script = Arc::new(Script::default());
        let clock = Arc::new(AtomicU64::new(Bucket(START).start().0));
        let watcher = watcher(&catalog, &script, &clock).await;
        Self { script, catalog, watcher, service: service(), clock, _directory: directory }
    }

    /// Starts another watcher on the same catalog, as after a crash.
    pub(crate) async fn restart(&mut self) {
        self.watcher = watcher(&self.catalog, &self.script, &self.clock).await;
    }

    /// Adds steady traffic of one version: requests and errors for each of `buckets`, relative to the start.
    pub(crate) fn traffic(&self, version: &str, buckets: std::ops::Range<i64>, requests: u64, errors: u64) {
        self.traffic_of("POST /charge", version, buckets, requests, |_| errors);
    }

    /// The same of any operation, with as many errors as are said for each bucket.
    pub(crate) fn traffic_of(
        &self,
        operation: &str,
        version: &str,
        buckets: std::ops::Range<i64>,
        requests: u64,
        errors: impl Fn(i64) -> u64,
    ) {
        let cells = buckets
            .map(|bucket| {
                let errors = errors(bucket);
                let mut cell = OperationCell { requests, errors, assembled: requests, ..OperationCell::default() };
                // A spread of latencies that is the same for all.
                (0..requests).for_each(|i| cell.latency.record(20_000_000 + i % 50 * 1_000_000));
                (Bucket(START.checked_add_signed(bucket).expect("in range")), cell)
            })
            .collect();
        let key = OperationKey {
            service: self.service.clone(),
            version: version.to_owned(),
            operation: operation.to_owned(),
            kind: OperationKind::Server,
            age: AgeClass::Warm,
        };
        self.script.series.lock().expect("not poisoned").push(OperationSeries { key, cells });
    }

    /// Lets the source tell of a version, first seen in a bucket relative to the start.
    pub(crate) fn seen(&self, version: &str, bucket: i64) {
        let first_seen = Bucket(START.checked_add_signed(bucket).expect("in range")).start();
        let seen = VersionObservation { service: self.service.clone(), version: version.to_owned(), first_seen };
        self.script.seen.lock().expect("not poisoned").push(seen);
    }

    /// Looks every ten seconds through `buckets`.
    pub(crate) async fn look(&self, buckets: std::ops::Range<u64>) {
        for bucket in buckets {
            self.turn(bucket);
            self.watcher.tick().await;
        }
    }

    /// Sets the clock to the end of a bucket, relative to the start.
    pub(crate) fn turn(&self, bucket: u64) {
        self.clock.store(Bucket(START + bucket).end().0 - 1, Ordering::SeqCst);
    }

    /// The same while telemetry comes late: of the bucket that is looked at nothing has come yet.
    pub(crate) async fn look_ahead_of_telemetry(&self, buckets: std::ops::Range<u64>) {
        for bucket in buckets {
            self.script.unheard.store(START + bucket, Ordering::SeqCst);
            self.look(bucket..bucket + 1).await;
        }
        self.script.unheard.store(0, Ordering::SeqCst);
    }

    pub(crate) async fn verdict(&self, deploy: &Deploy) -> Verdict {
        self.watcher.verdict(&deploy.id).await.expect("readable").expect("it exists")
    }

    /// Kinds of the events queued, oldest first.
    pub(crate) async fn events(&self) -> Vec<String> {
        let deliveries = self.catalog.deliveries(None, 100).await.expect("readable");
        assert!(deliveries.iter().all(|delivery| delivery.sink == "prod-oncall"), "who hears of the service is asked");
        let mut kinds: Vec<String> = deliveries
            .into_iter()
            .map(|delivery| delivery.kind.rsplit('.').next().unwrap_or_default().to_owned())
            .collect();
        kinds.reverse();
        kinds
    }
}
