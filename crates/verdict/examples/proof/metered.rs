//! Simulated deploys of a service that emits metrics: levels that wander, counters that begin anew, nodes that are restarted.
//!
//! Each of [`INSTANCES`] exports once a minute, counted from its own start. What it tells is the product of what is usual, of
//! the load, of how young the instance is, and of two wanderings: one that all instances share and one of its own, both
//! Ornstein-Uhlenbeck processes of the logarithm, which forget where they were with a time constant. Counters count bursts, and lose
//! at a restart what they counted since their last export. The same parameters and seed give the same telemetry.

use std::collections::BTreeMap;

use plimsoll_model::metric::{ExactSum, MetricCell, MetricKey, MetricSeries, MetricShape};
use plimsoll_model::presence::{PresenceCell, PresenceSeries};
use plimsoll_model::signal::AgeClass;
use plimsoll_model::{Bucket, ServiceKey};
use plimsoll_verdict::JudgeInput;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, Poisson, StandardNormal};

use crate::fleet::{Fleet, Latencies, START, simulate};

/// Instances of the service, and of a node.
const INSTANCES: u64 = 20;
const ON_A_NODE: u64 = 4;
/// Seconds between two exports, between two nodes of a round, and for which an instance is away when it is restarted.
const EXPORT_S: f64 = 60.0;
const NODE_S: f64 = 60.0;
const AWAY_S: f64 = 20.0;
/// Restarts of an instance by itself, a second.
const RESTARTS: f64 = 1.0 / 21_600.0;
/// Standard deviation of one observation, as a share of the mean.
const OBSERVATION: f64 = 0.66;

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metered {
    /// Its traffic, and how that is dealt out.
    pub(crate) fleet: Fleet,
    /// True where spans tell of its requests.
    pub(crate) traced: bool,
    /// Standard deviation of a level's logarithm, its time constant, and how much of the variance all instances share.
    pub(crate) wander: f64,
    pub(crate) forgets_s: f64,
    pub(crate) common: f64,
    /// Rounds an hour in which node after node is restarted.
    pub(crate) rounds: f64,
    /// Time constant with which a young instance becomes like the others.
    pub(crate) grows_up_s: f64,
    /// A metric that the candidate makes worse, and how many times.
    pub(crate) worse: Option<(usize, f64)>,
}

/// How a metric comes about.
#[derive(Clone, Copy)]
enum Makes {
    /// A level.
    Level,
    /// One less a level.
    Rest,
    /// Observations, a second of an instance.
    Times(f64),
    /// Counts a second of an instance, with their variance over their mean.
    Counts(f64),
}

struct Metric {
    name: &'static str,
    unit: &'static str,
    makes: Makes,
    /// Its level, or how many are counted in a second of an instance.
    usual: f64,
    /// The power of the load with which it goes.
    load: f64,
    /// How much more it is at first, as a share of what is usual.
    young: f64,
    /// True where more of what it is made of is worse.
    up: bool,
}

const fn metric(name: &'static str, makes: Makes, usual: f64, load: f64, young: f64) -> Metric {
    Metric { name, unit: "1", makes, usual, load, young, up: true }
}

/// What the service emits; each has a bad direction.
const METRICS: [Metric; 10] = [
    Metric { unit: "By", ..metric("process.memory.usage", Makes::Level, 4e8, 0.0, -0.5) },
    metric("process.cpu.utilization", Makes::Level, 0.3, 1.0, 1.0),
    metric("order.queue.size", Makes::Level, 20.0, 2.0, 0.0),
    metric("cache.hit_ratio", Makes::Rest, 0.1, 0.0, 4.0),
    metric("checkout.success_ratio", Makes::Rest, 0.01, 0.0, 0.0),
    Metric { unit: "s", ..metric("db.client.operation.duration", Makes::Times(2.5), 0.01, 0.3, 1.0) },
    Metric { up: false, ..metric("orders.placed", Makes::Counts(1.0), 0.8, 1.0, 0.0) },
    metric("payments.failed", Makes::Counts(2.0), 0.02, 1.0, 0.0),
    metric("cache.evictions", Makes::Counts(1.0), 0.1, 0.0, -1.0),
    metric("rpc.retries", Makes::Counts(4.0), 0.05, 1.0, 1.0),
];

/// Number of metrics.
pub(crate) const KINDS: usize = METRICS.len();

/// Returns the name of one.
pub(crate) fn name(kind: usize) -> &'static str {
    METRICS[kind].name
}

/// One instance from its start to its end, in seconds since the start of the deploy.
struct Life {
    id: u64,
    candidate: bool,
    from_s: f64,
    to_s: f64,
}

/// What drifts back to where it was.
struct Wandering {
    deviation: f64,
    at: f64,
}

impl Wandering {
    fn new(deviation: f64, rng: &mut ChaCha8Rng) -> Self {
        let normal: f64 = StandardNormal.sample(rng);
        Self { deviation, at: deviation * normal }
    }

    fn step(&mut self, seconds: f64, forgets_s: f64, rng: &mut ChaCha8Rng) -> f64 {
        let kept = (-seconds / forgets_s).exp();
        let normal: f64 = StandardNormal.sample(rng);
        self.at = kept * self.at + self.deviation * (1.0 - kept * kept).sqrt() * normal;
        self.at
    }
}

/// Simulates one deploy and returns what is to be judged, with `now` at its end.
pub(crate) fn metered(what: &Metered, latencies: &Latencies, seed: u64) -> JudgeInput {
    let fleet = &what.fleet;
    // The first number of the same seed is the hour of its requests.
    let phase = Fleet::phase(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut rng = ChaCha8Rng::seed_from_u64(!seed);
    let mut input = simulate(&Fleet { operations: 3, ..*fleet }, latencies, seed);
    if !what.traced {
        input.series.clear();
    }
    let lives = lives(what, &mut rng);
    let service = input.deploy.service.clone();
    input.aggregates.presence = presence(fleet, &lives);
    let buckets = START - fleet.before_s / 10..START + fleet.after_s / 10;
    let load: BTreeMap<u64, f64> = buckets.map(|bucket| (bucket, fleet.load(phase, bucket))).collect();
    for (index, metric) in METRICS.iter().enumerate() {
        let mut shared = Wandering::new(what.wander * what.common.sqrt(), &mut rng);
        let shared: BTreeMap<u64, f64> =
            load.keys().map(|bucket| (*bucket, shared.step(10.0, what.forgets_s, &mut rng))).collect();
        let mut told: BTreeMap<(bool, AgeClass), BTreeMap<Bucket, MetricCell>> = BTreeMap::new();
        for life in &lives {
            let mut own = Wandering::new(what.wander * (1.0 - what.common).sqrt(), &mut rng);
            let worse = what.worse.filter(|(worse, _)| *worse == index && life.candidate).map_or(1.0, |(_, by)| by);
            let first = ((-(fleet.before_s as f64) - life.from_s) / EXPORT_S).floor().max(0.0) as u64 + 1;
            for export in first.. {
                let age_s = export as f64 * EXPORT_S;
                let at_s = life.from_s + age_s;
                let bucket = bucket_of(at_s);
                let Some(load) = load.get(&bucket).filter(|_| at_s < life.to_s) else { break };
                let wandering = shared[&bucket] + own.step(EXPORT_S, what.forgets_s, &mut rng);
                let young = 1.0 + metric.young * (-(age_s - 0.5 * EXPORT_S) / what.grows_up_s).exp();
                let worse = if metric.up { worse } else { 1.0 / worse };
                let level = metric.usual * load.powf(metric.load) * wandering.exp() * young.max(0.0) * worse;
                let mut cell = metric.point(level, *load, &mut rng);
                cell.resets = u64::from(export == 1 && life.from_s > -(fleet.before_s as f64));
                told.entry((life.candidate, age(age_s))).or_default().entry(Bucket(bucket)).or_default().merge(&cell);
            }
        }
        let series = told.into_iter().map(|((candidate, age), cells)| MetricSeries {
            key: metric.key(&service, candidate, age),
            cells: cells.into_iter().collect(),
        });
        input.aggregates.metrics.extend(series);
    }
    input
}

impl Metric {
    /// Draws what one instance exports.
    fn point(&self, level: f64, load: f64, rng: &mut ChaCha8Rng) -> MetricCell {
        let normal: f64 = StandardNormal.sample(rng);
        let (count, sum) = match self.makes {
            Makes::Level => (1, level * (1.0 + 0.02 * normal)),
            Makes::Rest => (1, 1.0 - level.min(1.0)),
            Makes::Times(rate) => {
                let count = poisson(rate * load * EXPORT_S, rng).max(1);
                (count, level * (count as f64 + OBSERVATION * (count as f64).sqrt() * normal).max(0.0))
            }
            Makes::Counts(dispersion) => {
                let mean = level * EXPORT_S;
                let burst = if dispersion > 1.0 && mean > 0.0 {
                    let shape = mean / (dispersion - 1.0);
                    Gamma::new(shape, 1.0 / shape).expect("positive").sample(rng)
                } else {
                    1.0
                };
                (1, poisson(mean * burst, rng) as f64)
            }
        };
        MetricCell { points: 1, count, sum: ExactSum::of(sum), ..MetricCell::default() }
    }

    fn key(&self, service: &ServiceKey, candidate: bool, age: AgeClass) -> MetricKey {
        let shape = match self.makes {
            Makes::Level | Makes::Rest => MetricShape::Gauge,
            Makes::Times(_) => MetricShape::Histogram,
            Makes::Counts(_) => MetricShape::Counter,
        };
        MetricKey {
            service: service.clone(),
            version: version(candidate),
            age,
            name: self.name.to_owned(),
            unit: self.unit.to_owned(),
            shape,
            attributes: BTreeMap::new(),
        }
    }
}

fn poisson(mean: f64, rng: &mut ChaCha8Rng) -> u64 {
    if mean > 0.0 { Poisson::new(mean).expect("positive").sample(rng) as u64 } else { 0 }
}

fn version(candidate: bool) -> String {
    if candidate { "2" } else { "1" }.to_owned()
}

fn bucket_of(at_s: f64) -> u64 {
    (START as i64 + (at_s / 10.0).floor() as i64) as u64
}

fn age(seconds: f64) -> AgeClass {
    match seconds {
        ..60.0 => AgeClass::Cold,
        60.0..300.0 => AgeClass::Warming,
        _ => AgeClass::Warm,
    }
}

/// Times at which something happens so often a second, between two times.
fn times(rate: f64, from_s: f64, to_s: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let count = poisson(rate * (to_s - from_s), rng);
    (0..count).map(|_| rng.random_range(from_s..to_s)).collect()
}

/// Lists all instances that there ever are: each place has one after the other.
fn lives(what: &Metered, rng: &mut ChaCha8Rng) -> Vec<Life> {
    let (before_s, after_s) = (what.fleet.before_s as f64, what.fleet.after_s as f64);
    let candidates = (what.fleet.share * INSTANCES as f64).round() as u64;
    let rounds = times(what.rounds / 3_600.0, -before_s, after_s, rng);
    let mut lives: Vec<Life> = Vec::new();
    for place in 0..INSTANCES {
        // When the instance ends, and whether another takes its place.
        let mut ends: Vec<(f64, bool)> =
            times(RESTARTS, -before_s, after_s, rng).into_iter().map(|at_s| (at_s, false)).collect();
        ends.extend(rounds.iter().map(|at_s| (at_s + (place / ON_A_NODE) as f64 * NODE_S, true)));
        if place < candidates {
            ends.push((0.0, true));
        }
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut id = rng.random();
        let mut from_s = -before_s - rng.random_range(3_600.0..86_400.0);
        for (at_s, replaced) in ends.into_iter().chain([(after_s, true)]) {
            // What is starting is not restarted.
            if at_s <= from_s && at_s != 0.0 {
                continue;
            }
            let candidate = place < candidates && from_s >= 0.0;
            if at_s > from_s {
                lives.push(Life { id, candidate, from_s, to_s: at_s });
            }
            // The new version is there when the deploy begins; whatever else is restarted is away for a while.
            from_s = if at_s == 0.0 { rng.random_range(0.0..10.0) } else { at_s + AWAY_S };
            id = if replaced { rng.random() } else { id };
        }
    }
    lives
}

/// Says who was there, and who started.
fn presence(fleet: &Fleet, lives: &[Life]) -> Vec<PresenceSeries> {
    let mut arms: BTreeMap<bool, BTreeMap<u64, PresenceCell>> = BTreeMap::new();
    let first = START - fleet.before_s / 10;
    for life in lives {
        let cells = arms.entry(life.candidate).or_default();
        for bucket in bucket_of(life.from_s).max(first)..bucket_of(life.to_s) {
            let cell = cells.entry(bucket).or_default();
            cell.points += 1;
            cell.instances.offer(life.id);
        }
        if bucket_of(life.from_s) >= first && bucket_of(life.from_s) < START + fleet.after_s / 10 {
            let start = life.id.rotate_left(31) ^ (life.from_s.to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            cells.entry(bucket_of(life.from_s)).or_default().starts.offer(start);
        }
    }
    let series = arms.into_iter().map(|(candidate, cells)| PresenceSeries {
        version: version(candidate),
        cells: cells.into_iter().map(|(bucket, cell)| (Bucket(bucket), cell)).collect(),
    });
    series.collect()
}
