//! How unusual a service is since a moment, by everything it emits, against its own past.
//!
//! Where a whole system is ill, the question is where to look first, and no test has the traffic to decide. Every series of
//! a service is held against its own past in windows as long as the present one: messages, failures and calls as counts a
//! request, time within the service and latency as means a request, levels of metrics as means. What the past's windows do
//! by themselves is the noise. Each series gives the logarithm of a likelihood ratio, "as it is now" against "as it was",
//! tempered by that noise, and the largest stands for the service: series of one cause move together, and a sum would rank
//! those first that log most.
//!
//! Of messages and calls both directions count: a step that is no longer reached is as telling as one that is new. Of metrics
//! only those count whose name says which direction is bad, and moves in that direction.
//!
//! *This ranks and decides nothing*: no error probability belongs to it.

use std::collections::BTreeMap;

use plimsoll_model::Bucket;
use plimsoll_model::metric::MetricShape;
use plimsoll_model::signal::LOG_UNIT;

use crate::design::{Frame, Role};
use crate::input::JudgeInput;
use plimsoll_model::metric::worse_upwards;

/// Windows of the past without which nothing is told from noise.
const WINDOWS_MIN: usize = 4;
/// Degrees of freedom of levels.
const FREEDOM: f64 = 3.0;
/// What metrics of hosts are called: they tell of neighbours as much as of the service.
const HOSTS: [&str; 4] = ["k8s.node.", "system.", "host.", "node_"];
/// What dispersion is taken for before any is seen, and how many windows that is worth.
const DISPERSION: f64 = 2.0;
const DISPERSION_WORTH: f64 = 4.0;
/// Share of a level that it may move by without meaning anything.
const LEVEL_FLOOR: f64 = 0.02;
/// Share of requests that a message or call must change on.
const SHARE_MIN: f64 = 0.02;

/// How unusual one series is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Surprise {
    pub(crate) log: f64,
    pub(crate) about: String,
}

/// Values of one series: of the present window and of windows of the past, nearest first.
#[derive(Debug, Clone, Default)]
struct Windows {
    now: (f64, f64),
    past: BTreeMap<u64, (f64, f64)>,
}

/// Which window a bucket lies in: `None` for the present one.
struct Calendar<'a> {
    frame: &'a Frame,
    width: u64,
}

impl Calendar<'_> {
    fn window(&self, version: &str, bucket: Bucket) -> Option<Option<u64>> {
        match self.frame.role(version, bucket)? {
            Role::Candidate => Some(None),
            Role::Before => Some(Some((self.frame.start.0 - 1 - bucket.0) / self.width)),
            Role::Control => None,
        }
    }
}

impl Windows {
    fn add(&mut self, window: Option<u64>, more: (f64, f64)) {
        let sum = match window {
            None => &mut self.now,
            Some(at) => self.past.entry(at).or_default(),
        };
        *sum = (sum.0 + more.0, sum.1 + more.1);
    }
}

/// Finds the most unusual series of the judged service; `None` where none can be told from its noise.
pub(crate) fn largest(input: &JudgeInput) -> Option<Surprise> {
    let frame = Frame::of(input);
    let calendar = Calendar { frame: &frame, width: (frame.end.0 - frame.from.0).max(1) };
    let all = counted(input, &calendar).into_iter().chain(timed(input, &calendar)).chain(levels(input, &calendar));
    all.filter(|one| one.log.is_finite()).max_by(|a, b| a.log.total_cmp(&b.log).then_with(|| b.about.cmp(&a.about)))
}

/// Messages by template, failures and calls by callee, a request.
///
/// What the traffic explains is no surprise: a count is held against the requests of the service and against those of each
/// operation, and the least surprising of these stands.
fn counted(input: &JudgeInput, calendar: &Calendar<'_>) -> Vec<Surprise> {
    let mut traffic: BTreeMap<&str, Windows> = BTreeMap::new();
    let mut series: BTreeMap<String, Windows> = BTreeMap::new();
    for s in input.series.iter().filter(|s| s.key.service == input.deploy.service) {
        for (bucket, cell) in &s.cells {
            let Some(window) = calendar.window(&s.key.version, *bucket) else { continue };
            for of in ["", &s.key.operation] {
                traffic.entry(of).or_default().add(window, (cell.requests as f64, 0.0));
            }
            let mut add = |name: String, n: u64| series.entry(name).or_default().add(window, (n as f64, 0.0));
            add(format!("failures of {}", s.key.operation), cell.errors);
            for (party, time) in &cell.callees {
                add(format!("calls to {} {}", party.service, party.operation), time.calls);
            }
        }
    }
    for log in &input.aggregates.logs {
        for (bucket, cell) in &log.cells {
            if let Some(window) = calendar.window(&log.version, *bucket) {
                let windows = series.entry(format!("messages ({}) {}", log.level.as_str(), log.template)).or_default();
                windows.add(window, (cell.count as f64, 0.0));
            }
        }
    }
    let of = |(about, windows): (String, Windows)| {
        let by = traffic.values().filter_map(|traffic| unlike_share(&windows, traffic));
        by.min_by(f64::total_cmp).map(|log| Surprise { log, about })
    };
    series.into_iter().filter_map(of).collect()
}

/// Logarithm of the likelihood ratio of a count that is unlike those of the past, for so many requests.
fn unlike_share(windows: &Windows, traffic: &Windows) -> Option<f64> {
    let (seen, n) = (windows.now.0, traffic.now.0);
    let (before, past) = traffic
        .past
        .iter()
        .fold((0.0, 0.0), |sum, (at, n)| (sum.0 + windows.past.get(at).map_or(0.0, |w| w.0), sum.1 + n.0));
    if past <= 0.0 || n <= 0.0 {
        return None;
    }
    if (seen / n - before / past).abs() < SHARE_MIN {
        return Some(0.0);
    }
    let rate = before / past;
    let excess = |(at, n): (&u64, &(f64, f64))| {
        let expected = rate * n.0;
        let off = windows.past.get(at).map_or(0.0, |w| w.0) - expected;
        off * off / expected.max(0.5)
    };
    let chi: f64 = traffic.past.iter().map(excess).sum();
    let freedom = (traffic.past.len() as f64 - 1.0).max(0.0);
    let dispersion = ((chi + DISPERSION_WORTH * DISPERSION) / (freedom + DISPERSION_WORTH)).max(1.0);
    let p = n / (n + past);
    let part = |of: f64, share: f64| if of > 0.0 { of * (of / ((seen + before) * share)).ln() } else { 0.0 };
    Some((part(seen, p) + part(before, 1.0 - p)) / dispersion)
}

/// Time within the service and latency, a request.
fn timed(input: &JudgeInput, calendar: &Calendar<'_>) -> Vec<Surprise> {
    let mut series: BTreeMap<String, Windows> = BTreeMap::new();
    for s in input.series.iter().filter(|s| s.key.service == input.deploy.service) {
        for (bucket, cell) in &s.cells {
            let Some(window) = calendar.window(&s.key.version, *bucket) else { continue };
            let mut add = |what: &str, sum: f64, n: u64| {
                if n > 0 {
                    series.entry(format!("{what} of {}", s.key.operation)).or_default().add(window, (sum, n as f64));
                }
            };
            add("latency", cell.log_latency_sum as f64 / LOG_UNIT, cell.requests);
            // Logarithms bucket by bucket, so that one slow request does not stand for all.
            let own = cell.self_time_ns as f64 / cell.assembled.max(1) as f64;
            add("self-time", own.max(1.0).ln() * cell.assembled as f64, cell.assembled);
        }
    }
    let means = series.into_iter().filter_map(|(about, windows)| {
        let mean = |(sum, n): &(f64, f64)| sum / n;
        let past: Vec<(f64, f64)> = windows.past.values().map(|w| (mean(w), w.1)).collect();
        unlike(mean(&windows.now), windows.now.1, &past, LEVEL_FLOOR).map(|log| Surprise { log, about })
    });
    means.collect()
}

/// Levels of metrics.
fn levels(input: &JudgeInput, calendar: &Calendar<'_>) -> Vec<Surprise> {
    let mut series: BTreeMap<(&str, &BTreeMap<String, String>, MetricShape), Windows> = BTreeMap::new();
    let own = |name: &str| !HOSTS.iter().any(|host| name.starts_with(host));
    for s in input.aggregates.metrics.iter().filter(|s| own(&s.key.name)) {
        let Some(up) = worse_upwards(&s.key.name) else { continue };
        let sign = if up { 1.0 } else { -1.0 };
        for (bucket, cell) in &s.cells {
            let Some(window) = calendar.window(&s.key.version, *bucket) else { continue };
            let n = if s.key.shape == MetricShape::Counter { 1.0 } else { cell.count as f64 };
            let about = (s.key.name.as_str(), &s.key.attributes, s.key.shape);
            series.entry(about).or_default().add(window, (sign * cell.sum.value(), n));
        }
    }
    let means = series.into_iter().filter_map(|((name, ..), windows)| {
        let mean = |(sum, n): &(f64, f64)| sum / n.max(1.0);
        let past: Vec<(f64, f64)> = windows.past.values().map(|w| (mean(w), w.1)).collect();
        let now = mean(&windows.now);
        let usual = past.iter().map(|w| w.0.abs()).sum::<f64>() / past.len().max(1) as f64;
        unlike(now, windows.now.1, &past, LEVEL_FLOOR * usual)
            .map(|log| Surprise { log, about: format!("level of {name}") })
    });
    means.collect()
}

/// Logarithm of the likelihood ratio of a mean that is unlike those of the past.
///
/// Levels have heavy tails, so noise is the largest move of the past from its median, and the distribution Student's with few
/// degrees of freedom: twice the largest move is worth little, a hundred times the largest much.
fn unlike(now: f64, n: f64, past: &[(f64, f64)], floor: f64) -> Option<f64> {
    if past.len() < WINDOWS_MIN || n <= 0.0 {
        return None;
    }
    let mut values: Vec<f64> = past.iter().map(|w| w.0).collect();
    values.sort_by(f64::total_cmp);
    let center = values[values.len() / 2];
    let largest = values.iter().map(|value| (value - center).abs()).fold(floor.max(1e-12), f64::max);
    let usual_n = past.iter().map(|w| w.1).sum::<f64>() / past.len() as f64;
    // A window with fewer observations is noisier; what got better is no surprise.
    let t = (now - center).max(0.0) / (largest * (usual_n / n).max(1.0).sqrt());
    Some(0.5 * (FREEDOM + 1.0) * (1.0 + t * t / FREEDOM).ln())
}
