//! Simulated deploys, fast: series as the fold would make them, drawn request by request from tables.
//!
//! The same parameters and seed give the same series. Latency is lognormal; an index of the histogram is drawn from 4,096
//! quantiles, so that a request costs a few nanoseconds.

use std::collections::BTreeMap;

use plimsoll_model::signal::{
    AgeClass, HISTOGRAM_SCALE, Histogram, LOG_UNIT, OperationCell, OperationKey, OperationKind, OperationSeries,
};
use plimsoll_model::{Bucket, Deploy, DeployId, DeployKind, DeployStatus, ServiceKey};
use plimsoll_verdict::JudgeInput;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, Poisson};
use statrs::distribution::{ContinuousCDF, Normal};

/// The bucket in which every simulated deploy starts.
pub(crate) const START: u64 = 172_800;

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fleet {
    pub(crate) rate: f64,
    pub(crate) operations: usize,
    /// The candidate's share of traffic; 1 replaces the control at the start.
    pub(crate) share: f64,
    pub(crate) errors: f64,
    /// Variance over mean of the candidate's error counts in 10 s.
    pub(crate) dispersion: f64,
    /// Swing of traffic over a day and change of the mix with the deploy, as shares.
    pub(crate) swing: f64,
    pub(crate) mix: f64,
    /// By what factor traffic changes for good, and in which bucket since the start.
    pub(crate) step: f64,
    pub(crate) step_at: i64,
    /// How many times slower new instances are at first, less one, and the time constant with which it fades.
    pub(crate) warm_up: f64,
    pub(crate) warm_up_s: f64,
    pub(crate) error_effect: f64,
    pub(crate) latency_effect: f64,
    pub(crate) before_s: u64,
    pub(crate) after_s: u64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            rate: 100.0,
            operations: 1,
            share: 0.05,
            errors: 0.01,
            dispersion: 1.0,
            swing: 0.0,
            mix: 0.0,
            step: 1.0,
            step_at: 0,
            warm_up: 0.0,
            warm_up_s: 15.0,
            error_effect: 1.0,
            latency_effect: 1.0,
            before_s: 1_800,
            after_s: 1_800,
        }
    }
}

const SIGMA: f64 = 0.6;
const MEDIAN_NS: f64 = 50e6;

/// Quantiles of the latency, as natural logarithms of nanoseconds.
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let normal = Normal::new(0.0, 1.0).expect("a valid distribution");
        let n = 4_096;
        let at = |i: usize| MEDIAN_NS.ln() + SIGMA * normal.inverse_cdf((i as f64 + 0.5) / n as f64);
        Self((0..n).map(at).collect())
    }
}

impl Fleet {
    /// Draws the hour of the day.
    pub(crate) fn phase(rng: &mut ChaCha8Rng) -> f64 {
        rng.random_range(0.0..std::f64::consts::TAU)
    }

    /// Returns how many times the usual traffic there is in a bucket.
    pub(crate) fn load(&self, phase: f64, bucket: u64) -> f64 {
        let day = 1.0 + self.swing * (phase + bucket as f64 * 10.0 / 86_400.0 * std::f64::consts::TAU).sin();
        if bucket as i64 - START as i64 >= self.step_at { day * self.step } else { day }
    }
}

/// Simulates one deploy and returns what is to be judged, with `now` at its end.
pub(crate) fn simulate(fleet: &Fleet, latencies: &Latencies, seed: u64) -> JudgeInput {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let phase = Fleet::phase(&mut rng);
    let weights: Vec<f64> = (0..fleet.operations).map(|i| 1.0 / (1.0 + i as f64)).collect();
    let total: f64 = weights.iter().sum();
    let service = ServiceKey::new("prod", "payment");
    let (before, after) = (fleet.before_s / 10, fleet.after_s / 10);
    let mut series = Vec::new();
    for (index, weight) in weights.iter().enumerate() {
        let mixed = 1.0 + fleet.mix * rng.random_range(-1.0..=1.0);
        let mut arms: [Vec<(Bucket, OperationCell)>; 4] = Default::default();
        for bucket in START - before..START + after {
            let since = bucket as i64 - START as i64;
            let traffic =
                fleet.rate * 10.0 * fleet.load(phase, bucket) * weight / total * if since >= 0 { mixed } else { 1.0 };
            for candidate in [false, true] {
                let share = match (candidate, since >= 0) {
                    (true, true) => fleet.share,
                    (true, false) => 0.0,
                    (false, true) => 1.0 - fleet.share,
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
                let age = match (candidate, since) {
                    (false, _) => 0,
                    (true, ..6) => 1,
                    (true, 6..30) => 2,
                    _ => 3,
                };
                let cell = cell(fleet, latencies, &mut rng, candidate, since, requests, traffic);
                arms[age].push((Bucket(bucket), cell));
            }
        }
        for (arm, cells) in arms.into_iter().enumerate().filter(|(_, cells)| !cells.is_empty()) {
            let key = OperationKey {
                service: service.clone(),
                version: if arm == 0 { "1" } else { "2" }.to_owned(),
                operation: format!("GET /{index}"),
                kind: OperationKind::Server,
                age: [AgeClass::Warm, AgeClass::Cold, AgeClass::Warming, AgeClass::Warm][arm],
            };
            series.push(OperationSeries { key, cells });
        }
    }
    let started_at = Bucket(START).start();
    let deploy = Deploy {
        id: DeployId::from_text("dep_simulated"),
        service,
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
    };
    JudgeInput::new(deploy, Bucket(START + after).start(), series)
}

fn cell(
    fleet: &Fleet,
    latencies: &Latencies,
    rng: &mut ChaCha8Rng,
    candidate: bool,
    since: i64,
    requests: u64,
    traffic: f64,
) -> OperationCell {
    // Bursts: the failure rate of one arm in one bucket varies so that the candidate's counts have the dispersion asked
    // for; the control's, being larger, have more.
    let arm_mean = (traffic * fleet.share * fleet.errors).max(1e-9);
    let burst = if fleet.dispersion > 1.0 {
        let shape = (arm_mean / (fleet.dispersion - 1.0)).max(1e-3);
        Gamma::new(shape, 1.0 / shape).expect("positive").sample(rng)
    } else {
        1.0
    };
    let failing = (fleet.errors * if candidate { fleet.error_effect } else { 1.0 } * burst).min(1.0);
    let faded = (-(since as f64 * 10.0 + 5.0) / fleet.warm_up_s).exp();
    let warm_up = if candidate { 1.0 + fleet.warm_up * faded } else { 1.0 };
    let slow = (if candidate { fleet.latency_effect } else { 1.0 } * warm_up).ln();
    let scale = f64::from(1_u32 << HISTOGRAM_SCALE) / std::f64::consts::LN_2;
    let mut cell = OperationCell { requests, assembled: requests, ..OperationCell::default() };
    let (mut sum, mut squares) = (0.0, 0.0);
    let mut indices: Vec<i16> = Vec::with_capacity(requests as usize);
    for _ in 0..requests {
        let bits: u32 = rng.random();
        // What remains of the bits spreads a request within its quantile, so that shifts smaller than a bucket show.
        let log = latencies.0[(bits & 4_095) as usize] + slow + f64::from(bits >> 12) / 1_048_576.0 * 1e-3;
        indices.push((log * scale).ceil() as i16 - 1);
        sum += log;
        squares += log * log;
    }
    indices.sort_unstable();
    cell.latency = Histogram(indices.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u64)).collect());
    cell.log_latency_sum = (sum * LOG_UNIT) as i64;
    cell.log_latency_sum_sq = (squares * LOG_UNIT) as i64;
    cell.errors = if failing > 0.0 {
        rand_distr::Binomial::new(requests, failing).expect("a probability").sample(rng)
    } else {
        0
    };
    cell
}
