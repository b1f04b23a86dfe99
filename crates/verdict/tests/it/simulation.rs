//! Seeded simulation of deploys: series as the fold would make them, with bursts, daily swing, mix and warm-up.
//!
//! For the tests: the program `proof` has a simulation of its own, which is faster and tells of requests and metrics alone. The same
//! parameters and seed give the same series.

use std::collections::BTreeMap;

use plimsoll_model::signal::{
    AgeClass, CalleeTime, ExceptionCount, Fingerprint, LOG_UNIT, OperationCell, OperationKey, OperationKind,
    OperationSeries, Party,
};
use plimsoll_model::{Bucket, Deploy, DeployId, DeployKind, DeployStatus, ServiceKey, UnixNanos, Verdict};
use plimsoll_verdict::{JudgeInput, judge};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, Normal, Poisson};

/// The bucket in which every simulated deploy starts.
pub(crate) const START: u64 = 172_800;

/// What to simulate.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Requests a second of the whole service.
    pub(crate) rate: f64,
    /// Operations; the first has most traffic.
    pub(crate) operations: usize,
    /// The candidate's share of traffic; 1 replaces the control at the start.
    pub(crate) share: f64,
    /// Share of requests that fail without any effect.
    pub(crate) errors: f64,
    /// Median latency in milliseconds; lognormal with `sigma`.
    pub(crate) median_ms: f64,
    pub(crate) sigma: f64,
    /// Variance over mean of the candidate's error counts.
    pub(crate) dispersion: f64,
    /// Swing of traffic over a day, as a share of it.
    pub(crate) swing: f64,
    /// Random change of each operation's traffic with the deploy, as a share of it.
    pub(crate) mix: f64,
    /// How many times slower new instances are at first, less one; it fades away.
    pub(crate) warm_up: f64,
    /// Time constant of that, in seconds.
    pub(crate) warm_up_s: f64,
    /// True where it fades evenly and is over after that time.
    pub(crate) warm_up_ends: bool,
    /// False where telemetry does not tell one instance from another: then every age is unknown.
    pub(crate) instances: bool,
    /// Factor on the candidate's failures.
    pub(crate) error_effect: f64,
    /// Factor on the candidate's latency.
    pub(crate) latency_effect: f64,
    /// Share of the candidate's requests that throw a new exception.
    pub(crate) new_exception: f64,
    /// Seconds of history and seconds since the start.
    pub(crate) before_s: u64,
    pub(crate) after_s: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            rate: 100.0,
            operations: 1,
            share: 0.05,
            errors: 0.01,
            median_ms: 50.0,
            sigma: 0.6,
            dispersion: 1.0,
            swing: 0.0,
            mix: 0.0,
            warm_up: 0.0,
            warm_up_s: 15.0,
            warm_up_ends: false,
            instances: true,
            error_effect: 1.0,
            latency_effect: 1.0,
            new_exception: 0.0,
            before_s: 1_800,
            after_s: 1_800,
        }
    }
}

/// Name of the simulated service.
pub(crate) fn service() -> ServiceKey {
    ServiceKey::new("prod", "payment")
}

/// The deploy of version 2.
pub(crate) fn deploy(started_at: UnixNanos) -> Deploy {
    Deploy {
        id: DeployId::from_text("dep_simulated"),
        service: service(),
        version: "2".to_owned(),
        kind: DeployKind::Release,
        previous_version: None,
        commit: None,
        repository: None,
        run_url: None,
        actor: None,
        strategy: None,
        artifact: None,
        attributes: BTreeMap::new(),
        started_at,
        finished_at: None,
        status: DeployStatus::Running,
        inferred: false,
        created_at: started_at,
    }
}

/// Simulates one deploy and returns what is to be judged, with `now` at its end.
pub(crate) fn simulate(scenario: &Scenario, seed: u64) -> JudgeInput {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let normal = Normal::new(0.0, 1.0).expect("a valid distribution");
    let phase: f64 = rng.random_range(0.0..std::f64::consts::TAU);
    let weights: Vec<f64> = (0..scenario.operations).map(|i| 1.0 / (1.0 + i as f64)).collect();
    let total: f64 = weights.iter().sum();
    let mut series: BTreeMap<OperationKey, BTreeMap<Bucket, OperationCell>> = BTreeMap::new();
    let (before, after) = (scenario.before_s / 10, scenario.after_s / 10);
    for (index, weight) in weights.iter().enumerate() {
        let mixed = 1.0 + scenario.mix * rng.random_range(-1.0..=1.0);
        for bucket in START - before..START + after {
            let since = bucket as i64 - START as i64;
            let day = 1.0 + scenario.swing * (phase + bucket as f64 * 10.0 / 86_400.0 * std::f64::consts::TAU).sin();
            let traffic = scenario.rate * 10.0 * day * weight / total * if since >= 0 { mixed } else { 1.0 };
            for candidate in [false, true] {
                let share = match (candidate, since >= 0) {
                    (true, true) => scenario.share,
                    (true, false) => 0.0,
                    (false, true) => 1.0 - scenario.share,
                    (false, false) => 1.0,
                };
                let mean = traffic * share;
                if mean <= 0.0 {
                    continue;
                }
                let requests = Poisson::new(mean).expect("positive").sample(&mut rng) as u64;
                if requests == 0 {
                    continue;
                }
                let effect = if candidate { scenario.error_effect } else { 1.0 };
                // Bursts: the failure rate of one arm in one bucket varies so that the candidate's counts have the
                // dispersion asked for; the control's, being larger, have more.
                let arm_mean = (traffic * scenario.share * scenario.errors).max(1e-9);
                let burst = if scenario.dispersion > 1.0 {
                    let shape = arm_mean / (scenario.dispersion - 1.0);
                    Gamma::new(shape.max(1e-3), 1.0 / shape.max(1e-3)).expect("positive").sample(&mut rng)
                } else {
                    1.0
                };
                let failing = (scenario.errors * effect * burst).min(1.0);
                let seconds = since as f64 * 10.0 + 5.0;
                let faded = seconds / scenario.warm_up_s;
                let left = if scenario.warm_up_ends { (1.0 - faded).max(0.0) } else { (-faded).exp() };
                let warm_up = if candidate { 1.0 + scenario.warm_up * left } else { 1.0 };
                let slow = if candidate { scenario.latency_effect } else { 1.0 } * warm_up;
                let age = match (candidate && scenario.instances, since) {
                    (true, ..6) => AgeClass::Cold,
                    (true, 6..30) => AgeClass::Warming,
                    _ => AgeClass::Warm,
                };
                let key = OperationKey {
                    service: service(),
                    version: if candidate { "2" } else { "1" }.to_owned(),
                    operation: format!("GET /{index}"),
                    kind: OperationKind::Server,
                    age,
                };
                let cell = series.entry(key).or_default().entry(Bucket(bucket)).or_default();
                cell.requests = requests;
                cell.assembled = requests;
                for _ in 0..requests {
                    let z: f64 = normal.sample(&mut rng);
                    let ms = scenario.median_ms * slow * (scenario.sigma * z).exp();
                    cell.latency.record((ms * 1e6) as u64);
                    let log = (ms * 1e6).ln();
                    cell.log_latency_sum += (log * LOG_UNIT) as i64;
                    cell.log_latency_sum_sq += (log * log * LOG_UNIT) as i64;
                    if rng.random_bool(failing) {
                        cell.errors += 1;
                    }
                    if candidate && scenario.new_exception > 0.0 && rng.random_bool(scenario.new_exception) {
                        let seen = cell.exceptions.entry(Fingerprint(7)).or_insert_with(|| ExceptionCount {
                            exception_type: "shop.CardDeclined".to_owned(),
                            message: "card was declined".to_owned(),
                            count: 0,
                        });
                        seen.count += 1;
                    }
                }
            }
        }
    }
    let started_at = Bucket(START).start();
    let series: Vec<OperationSeries> =
        series.into_iter().map(|(key, cells)| OperationSeries { key, cells: cells.into_iter().collect() }).collect();
    JudgeInput::new(deploy(started_at), Bucket(START + after - 1).end(), series)
}

/// Judges whenever so many buckets have passed and returns the verdicts.
pub(crate) fn looked_at(input: &mut JudgeInput, every: u64) -> Vec<Verdict> {
    let end = input.now.bucket().0;
    let mut told = Vec::new();
    for bucket in (START + every..=end).step_by(every as usize) {
        input.now = Bucket(bucket).start();
        let verdict = judge(input);
        input.previous = Some(verdict.clone());
        told.push(verdict);
    }
    told
}

/// A gateway that calls the service a hundred times a second, up to a bucket.
pub(crate) fn gateway(input: &JudgeInput, until: u64) -> OperationSeries {
    let payment = Party {
        service: "payment".to_owned(),
        namespace: String::new(),
        version: String::new(),
        operation: "GET /0".to_owned(),
    };
    let cells = (START - 180..until).map(|bucket| {
        let mut cell = OperationCell { requests: 1_000, assembled: 1_000, ..OperationCell::default() };
        cell.callees.insert(payment.clone(), CalleeTime { calls: 1_000, critical_ns: 1 });
        (Bucket(bucket), cell)
    });
    let mut key = input.series[0].key.clone();
    key.service.service = "gateway".to_owned();
    OperationSeries { key, cells: cells.collect() }
}

/// A party to traces, of no namespace.
pub(crate) fn party(service: &str, version: &str, operation: &str) -> Party {
    Party {
        namespace: String::new(),
        service: service.to_owned(),
        version: version.to_owned(),
        operation: operation.to_owned(),
    }
}

/// A bank that the service calls, by the cells in which it served anything.
pub(crate) fn of_bank(cells: impl Iterator<Item = (Bucket, OperationCell)>) -> OperationSeries {
    let key = OperationKey {
        service: ServiceKey::new("prod", "bank"),
        version: "7".to_owned(),
        operation: "POST /charge".to_owned(),
        kind: OperationKind::Server,
        age: AgeClass::Warm,
    };
    OperationSeries { key, cells: cells.filter(|(_, cell)| cell.requests > 0).collect() }
}
