//! Services that were neither deployed lately nor are connected by calls: what most of them go through at once, an outage of
//! what all share, a shift of traffic or a gap of telemetry, is not the deploy's doing.
//!
//! The median over them counts, and it takes two; one alone may have troubles of its own. It is looked for over windows of several
//! lengths, and the largest counts: an outage is not diluted by the well time before it, and a trickle adds up. Each is held against how its
//! own failures varied before: several that fail in bursts, each for itself, go through nothing together.

use std::collections::BTreeMap;

use plimsoll_model::aggregates::{Vitals, VitalsSeries};

use crate::design::Frame;
use crate::dispersion::Bursts;
use crate::drift::{Change, Excused, Fared, Level, REQUESTS_MIN};
use crate::input::JudgeInput;

/// Untouched services without which nothing is concluded from them.
const UNTOUCHED_MIN: usize = 2;
/// Buckets of the trailing window in which their failures and latency are looked at, and their traffic, if it is enough.
const TRAILING: u64 = 12;
/// The same of windows in which what has only begun is not diluted by the time in which all was well.
const LATEST: [u64; 2] = [1, 3];
/// Times the latency in such a window below which it is noise.
const SLOWER_LATEST: f64 = 1.5;
const MINUTE: u64 = 6;
/// Requests that were to come where one that sends none is taken to be gone.
const DARK_MIN: f64 = 5.0;

/// One of them.
struct One<'a> {
    series: &'a VitalsSeries,
    before: Level,
    /// How much more than chance its failures vary of themselves.
    dispersion: f64,
    cells: BTreeMap<u64, Vitals>,
}

/// All that tell something.
pub(crate) struct Untouched<'a> {
    all: Vec<One<'a>>,
    start: u64,
}

impl<'a> Untouched<'a> {
    pub(crate) fn of(input: &'a JudgeInput, frame: &Frame) -> Self {
        let mut all = Vec::new();
        for series in &input.untouched {
            let mut before = Level::default();
            let mut failures = Vec::new();
            let mut first = None;
            for (bucket, vitals) in series.cells.iter().filter(|(b, _)| *b >= frame.earliest && *b < frame.start) {
                before.add_vitals(vitals);
                failures.push((vitals.errors as f64, vitals.requests as f64));
                first = first.or(Some(bucket.0));
            }
            before.seconds = first.map_or(0.0, |first| 10.0 * (frame.start.0 - first) as f64);
            if before.requests >= REQUESTS_MIN {
                let told = series.cells.iter().filter(|(b, _)| *b >= frame.earliest && *b < frame.end);
                let dispersion = Bursts::of(&failures).measure(input.tolerances.dispersion_max).phi;
                all.push(One { series, before, dispersion, cells: told.map(|(b, v)| (b.0, *v)).collect() });
            }
        }
        if all.len() < UNTOUCHED_MIN {
            all.clear();
        }
        Self { all, start: frame.start.0 }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.all.iter().map(|one| one.series.service.service.clone()).collect()
    }

    /// What most of them go through in the buckets up to `bucket`.
    pub(crate) fn at(&self, bucket: u64) -> Excused {
        let still: Vec<&One<'_>> =
            self.all.iter().filter(|one| one.series.until.is_none_or(|until| bucket < until.0)).collect();
        let lost = |one: &&One<'_>| {
            let latest = one.over(self.start, bucket, MINUTE).traffic_since(&one.before);
            latest.or_else(|| one.over(self.start, bucket, TRAILING).traffic_since(&one.before))
        };
        let traffic: Vec<f64> = still.iter().filter_map(lost).collect();
        // Half of an even number of services is not most of them: the lower middle counts; of traffic, where less is the
        // larger excuse, the upper.
        let middle = |mut values: Vec<f64>, at: fn(usize) -> usize| {
            values.sort_by(f64::total_cmp);
            (values.len() >= UNTOUCHED_MIN).then(|| values[at(values.len())])
        };
        let fared = |buckets: u64| {
            let each = still
                .iter()
                .filter_map(|one| one.over(self.start, bucket, buckets).fared_since(&one.before, one.dispersion));
            let each: Vec<Fared> = each.collect();
            let median = |of: fn(&Fared) -> f64| middle(each.iter().map(of).collect(), |n| (n - 1) / 2);
            let fared = median(|c| c.errors).zip(median(|c| c.points)).zip(median(|c| c.latency));
            fared.map(|((errors, points), latency)| Fared { errors, points, latency })
        };
        let change = Change { fared: fared(TRAILING), traffic: middle(traffic, |n| n / 2) };
        let latest = LATEST.into_iter().filter_map(fared).map(|fared| {
            let latency = if fared.latency >= SLOWER_LATEST { fared.latency } else { 1.0 };
            Change { fared: Some(Fared { latency, ..fared }), traffic: None }.excused()
        });
        let excused = latest.fold(change.excused(), Excused::or);
        Excused { shared: excused.errors > 1.0, dark: dark(&still, bucket), ..excused }
    }
}

impl One<'_> {
    /// How it fared in the last `buckets` buckets up to `bucket`, none before `start`.
    fn over(&self, start: u64, bucket: u64, buckets: u64) -> Level {
        let from = (bucket + 1).saturating_sub(buckets).max(start);
        let mut level = Level { seconds: 10.0 * (bucket + 1).saturating_sub(from) as f64, ..Level::default() };
        self.cells.range(from..=bucket).for_each(|(_, vitals)| level.add_vitals(vitals));
        level
    }

    /// Says whether nothing came from it, though it was to; `None` where too little is expected of it to tell.
    fn is_dark(&self, bucket: u64) -> Option<bool> {
        let buckets = (DARK_MIN / self.before.expected_in(10.0).max(1e-9)).ceil().max(1.0);
        if buckets > TRAILING as f64 {
            return None;
        }
        let from = (bucket + 1).saturating_sub(buckets as u64);
        Some(self.cells.range(from..=bucket).all(|(_, vitals)| vitals.requests == 0))
    }
}

/// Says whether nothing comes from most of them.
fn dark(all: &[&One<'_>], bucket: u64) -> bool {
    let told: Vec<bool> = all.iter().filter_map(|one| one.is_dark(bucket)).collect();
    told.len() >= UNTOUCHED_MIN && 2 * told.iter().filter(|dark| **dark).count() > told.len()
}
