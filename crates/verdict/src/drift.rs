//! What would have changed without the deploy: the second difference of "difference in differences".
//!
//! Where the control is the time before, two things tell what time alone does to a service:
//! - *the same hours before*, yesterday and a week ago: how its own errors, latency and traffic changed at this hour then;
//!   a day on which it was changed within those hours is left out, because it may show that change's own harm;
//! - *services that were not touched*: neither deployed lately nor connected by calls. What most of them go through at once,
//!   an outage of what all share or a shift of traffic, is not the deploy's doing. The median over them counts, and it takes
//!   two; one alone may have troubles of its own.
//!
//! Of both the larger change is excused; a change for the better excuses nothing. Growth measured on few failures is drawn
//! towards none.
//!
//! *Invariants.* What is excused in a bucket follows from that bucket and earlier ones.
//!
//! *Source.* Card and Krueger (1994) for the design; Zhang et al., "FUNNEL: assessing software changes in web-based
//! services" (2016), which takes seasons and untouched servers as controls.

use std::collections::BTreeMap;

use plimsoll_model::aggregates::{HistoryCell, Vitals, VitalsSeries};
use plimsoll_model::signal::LOG_UNIT;
use plimsoll_model::{Bucket, UnixNanos};

use crate::design::Frame;
use crate::input::JudgeInput;

/// Days before at which the same hours are looked up.
pub(crate) const DAYS: [u32; 2] = [1, 7];
/// Untouched services without which nothing is concluded from them.
const UNTOUCHED_MIN: usize = 2;
/// Buckets of the trailing window in which untouched services are looked at.
const TRAILING: usize = 12;
/// Requests that such a window must have, and a season's.
const REQUESTS_MIN: f64 = 20.0;
/// Failures at the usual rate that are added to both sides of a growth.
const PRIOR: f64 = 5.0;
/// Standard deviations of a count of failures that are noise.
const NOISE: f64 = 2.0;
/// A growth below this is noise; the drift that is always tolerated covers it.
const RATIO_MIN: f64 = 1.25;
const SLOWER_MIN: f64 = 1.05;

/// What is excused in one bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Excused {
    /// Times as many failures a request, at least one.
    pub(crate) errors: f64,
    /// Share of requests that fail in addition.
    pub(crate) points: f64,
    /// Times the latency, at least one.
    pub(crate) latency: f64,
    /// Times as many requests before as now, at least one.
    pub(crate) traffic: f64,
    /// True where most of the untouched services fail more.
    pub(crate) shared: bool,
}

impl Default for Excused {
    fn default() -> Self {
        Self { errors: 1.0, points: 0.0, latency: 1.0, traffic: 1.0, shared: false }
    }
}

impl Excused {
    /// Failures that `n` requests of the control would have had in addition, at its usual `rate`.
    pub(crate) fn failures(&self, rate: f64, n: f64) -> f64 {
        n * self.points.max(rate * (self.errors - 1.0)).min(1.0 - rate.min(1.0))
    }

    fn or(self, other: Self) -> Self {
        Self {
            errors: self.errors.max(other.errors),
            points: self.points.max(other.points),
            latency: self.latency.max(other.latency),
            traffic: self.traffic.max(other.traffic),
            shared: self.shared || other.shared,
        }
    }
}

/// How something changed: after over before.
#[derive(Debug, Clone, Copy)]
struct Change {
    errors: f64,
    points: f64,
    latency: f64,
    traffic: f64,
}

impl Change {
    fn excused(self) -> Excused {
        let errors = if self.errors >= RATIO_MIN && self.points > 0.0 { self.errors } else { 1.0 };
        Excused {
            errors,
            points: if errors > 1.0 { self.points } else { 0.0 },
            latency: if self.latency >= SLOWER_MIN { self.latency } else { 1.0 },
            traffic: (1.0 / self.traffic.max(1e-3)).max(1.0),
            shared: false,
        }
    }
}

/// Requests, failures and logarithms of latency over some seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    seconds: f64,
    requests: f64,
    errors: f64,
    log_sum: f64,
}

impl Level {
    fn add_vitals(&mut self, vitals: &Vitals) {
        self.requests += vitals.requests as f64;
        self.errors += vitals.errors as f64;
        self.log_sum += vitals.log_latency_sum as f64 / LOG_UNIT;
    }

    fn add_history(&mut self, cell: &HistoryCell) {
        self.requests += cell.requests as f64;
        self.errors += cell.errors as f64;
        self.log_sum += cell.log_latency_sum as f64 / LOG_UNIT;
    }

    /// Returns how it changed since `before`; `None` where either is too thin.
    fn since(&self, before: &Self) -> Option<Change> {
        if self.requests < REQUESTS_MIN || before.requests < REQUESTS_MIN || before.seconds <= 0.0 {
            return None;
        }
        let usual = before.errors / before.requests;
        let expected = usual * self.requests;
        let errors = (self.errors + PRIOR) / (expected + PRIOR);
        let latency = (self.log_sum / self.requests - before.log_sum / before.requests).exp();
        let traffic = (self.requests / self.seconds) / (before.requests / before.seconds);
        // What chance alone would add is nothing that all go through.
        let beyond = self.errors - expected - NOISE * (expected + PRIOR).sqrt();
        Some(Change { errors, points: beyond.max(0.0) / self.requests, latency, traffic })
    }
}

/// What time alone does, bucket by bucket since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drift {
    by_bucket: BTreeMap<Bucket, Excused>,
    /// Days before whose same hours were held.
    pub(crate) days: Vec<u32>,
    /// True where a day was left out because the service was changed then.
    pub(crate) left_out: bool,
    /// Untouched services that were looked at.
    pub(crate) untouched: Vec<String>,
}

impl Drift {
    /// Works it out for the buckets of `frame` since the start.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        let mut drift = Self::default();
        let seasons = seasons(input, frame);
        drift.days = seasons.iter().map(|(day, _)| *day).collect();
        let held = !(input.aggregates.history.is_empty() && input.aggregates.metric_history.is_empty());
        drift.left_out = held && DAYS.iter().any(|day| changed(input, frame, *day));
        let untouched = Untouched::of(input, frame);
        drift.untouched = untouched.names();
        if seasons.is_empty() && drift.untouched.is_empty() {
            return drift;
        }
        for bucket in frame.start.0..frame.end.0 {
            let season = seasons.iter().filter_map(|(_, season)| season.at(bucket));
            let mut excused = untouched.at(bucket);
            for change in season {
                excused = excused.or(change.excused());
            }
            drift.by_bucket.insert(Bucket(bucket), excused);
        }
        drift
    }

    /// Returns what is excused in `bucket`; of one that is not worked out yet, what was excused last.
    pub(crate) fn at(&self, bucket: Bucket) -> Excused {
        self.by_bucket.range(..=bucket).next_back().map_or_else(Excused::default, |(_, excused)| *excused)
    }

    /// Says whether most of the untouched services failed more at some time.
    pub(crate) fn shared(&self) -> bool {
        self.by_bucket.values().any(|excused| excused.shared)
    }

    /// Says whether anything but what is shared was excused.
    pub(crate) fn seasonal(&self) -> bool {
        self.by_bucket.values().any(|e| !e.shared && (e.errors > 1.0 || e.latency > 1.0 || e.traffic > RATIO_MIN))
    }
}

/// How one day went at this hour.
struct Season {
    before: Level,
    /// By second of its start, as if it were today.
    after: BTreeMap<u64, Level>,
    width_s: u64,
}

impl Season {
    /// How it changed around `bucket`; a stretch of ten minutes around it tells.
    fn at(&self, bucket: u64) -> Option<Change> {
        let second = bucket * 10;
        let from =
            if self.width_s >= 600 { second.saturating_sub(self.width_s - 1) } else { second.saturating_sub(300) };
        let to = if self.width_s >= 600 { second } else { second + 300 };
        let mut level = Level::default();
        for here in self.after.range(from..=to).map(|(_, level)| level) {
            level.seconds += here.seconds;
            level.requests += here.requests;
            level.errors += here.errors;
            level.log_sum += here.log_sum;
        }
        level.since(&self.before)
    }
}

/// Says whether the service was changed on a day within the hours that would be looked at: what happened then may be that
/// change's doing, and is no season.
pub(crate) fn changed(input: &JudgeInput, frame: &Frame, day: u32) -> bool {
    let (from, end) = (frame.earliest.0 * 10, frame.start.0 * 10 + input.tolerances.watch_max_s + 600);
    let moments = input.changed_at.iter().filter(|at| **at < input.deploy.started_at);
    let mut shifted = moments.filter_map(|at| moved(*at, u64::from(day) * 86_400));
    shifted.any(|second| (from..end).contains(&second))
}

/// Gathers the same hours of days before, those left out on which the service was changed.
fn seasons(input: &JudgeInput, frame: &Frame) -> Vec<(u32, Season)> {
    let mut found = Vec::new();
    for day in DAYS.into_iter().filter(|day| !changed(input, frame, *day)) {
        let shift = u64::from(day) * 86_400;
        // The finest width that holds the hours.
        for width_s in [60_u32, 600] {
            let mut season = Season { before: Level::default(), after: BTreeMap::new(), width_s: u64::from(width_s) };
            let (from, start) = (frame.earliest.0 * 10, frame.start.0 * 10);
            let end = start + input.tolerances.watch_max_s + 600;
            let mut seen: [std::collections::BTreeSet<u64>; 1] = Default::default();
            for series in input.aggregates.history.iter().filter(|series| series.width_s == width_s) {
                for (at, cell) in &series.cells {
                    let Some(second) = moved(*at, shift) else { continue };
                    if second >= from && second + u64::from(width_s) <= start {
                        season.before.add_history(cell);
                        seen[0].insert(second);
                    } else if second + u64::from(width_s) > start && second < end {
                        let level = season.after.entry(second).or_default();
                        level.seconds = f64::from(width_s);
                        level.add_history(cell);
                    }
                }
            }
            season.before.seconds = seen[0].len() as f64 * f64::from(width_s);
            if season.before.requests >= REQUESTS_MIN && !season.after.is_empty() {
                found.push((day, season));
                break;
            }
        }
    }
    found
}

/// Returns the second at which something would stand `shift` seconds later.
pub(crate) fn moved(at: UnixNanos, shift: u64) -> Option<u64> {
    (at.0 / 1_000_000_000).checked_add(shift)
}

/// Services that were not touched.
struct Untouched<'a> {
    all: Vec<(&'a VitalsSeries, Level, BTreeMap<u64, Vitals>)>,
}

impl<'a> Untouched<'a> {
    fn of(input: &'a JudgeInput, frame: &Frame) -> Self {
        let mut all = Vec::new();
        for series in &input.untouched {
            let mut before = Level::default();
            let mut first = None;
            for (bucket, vitals) in series.cells.iter().filter(|(b, _)| *b >= frame.earliest && *b < frame.start) {
                before.add_vitals(vitals);
                first = first.or(Some(bucket.0));
            }
            before.seconds = first.map_or(0.0, |first| 10.0 * (frame.start.0 - first) as f64);
            if before.requests >= REQUESTS_MIN {
                let after = series.cells.iter().filter(|(b, _)| *b >= frame.start && *b < frame.end);
                all.push((series, before, after.map(|(b, v)| (b.0, *v)).collect()));
            }
        }
        if all.len() < UNTOUCHED_MIN {
            all.clear();
        }
        Self { all }
    }

    fn names(&self) -> Vec<String> {
        self.all.iter().map(|(series, ..)| series.service.service.clone()).collect()
    }

    /// What most of them go through in the buckets up to `bucket`.
    fn at(&self, bucket: u64) -> Excused {
        let from = bucket.saturating_sub(TRAILING as u64 - 1);
        let changes: Vec<Change> = self
            .all
            .iter()
            .filter(|(series, ..)| series.until.is_none_or(|until| bucket < until.0))
            .filter_map(|(_, before, after)| {
                let mut level = Level { seconds: 10.0 * TRAILING as f64, ..Level::default() };
                after.range(from..=bucket).for_each(|(_, vitals)| level.add_vitals(vitals));
                let first = after.keys().next()?;
                level.seconds = 10.0 * (bucket + 1 - (*first).max(from)) as f64;
                level.since(before)
            })
            .collect();
        if changes.len() < UNTOUCHED_MIN {
            return Excused::default();
        }
        // Half of an even number of services is not most of them: the lower middle counts.
        let median = |of: fn(&Change) -> f64| {
            let mut values: Vec<f64> = changes.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[(values.len() - 1) / 2]
        };
        // Less traffic is the larger excuse, so here the upper middle counts.
        let traffic = {
            let mut values: Vec<f64> = changes.iter().map(|change| change.traffic).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let change = Change {
            errors: median(|c| c.errors),
            points: median(|c| c.points),
            latency: median(|c| c.latency),
            traffic,
        };
        let excused = change.excused();
        Excused { shared: excused.errors > 1.0, ..excused }
    }
}
