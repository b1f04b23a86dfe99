//! Metrics: whether a level moved in its bad direction further than its own past moves.
//!
//! Every minute has one value: the mean of a gauge or of observations, the rate of a counter. The candidate's last five are
//! held against the control's in the same minutes, or against the five before the start. How far such means move without
//! any deploy is measured from the series' own past, window by window; the quotient follows Student's distribution with as
//! many degrees of freedom as there are windows, and the e-value is that of the scale-invariant test of its mean.
//!
//! Beside that the move is ranked among all moves of the same length in the past: where more than one in fifty of those was as
//! large, the series does such things by itself.
//!
//! Only metrics whose name tells which direction is bad are tested: more memory is worse, fewer orders are; of most nobody
//! can say. *This is a calibration*: levels of a series depend on each other, which longer windows lessen and do not undo.
//!
//! *Source.* Pérez-Ortiz, Lardy, de Heide and Grünwald, "E-statistics, group invariance and anytime-valid testing" (2024).

use std::collections::BTreeMap;

use plimsoll_model::metric::{MetricKey, MetricSeries, MetricShape};
use plimsoll_model::{Bucket, Interval};

use crate::design::{Frame, Role};
use crate::measured::{POD_ATTRIBUTES, VERSION_ATTRIBUTES};
use crate::standing::Standing;
use crate::tolerances::Tolerances;

/// Minutes of a window.
const WINDOW: usize = 5;
/// Windows of the past without which its noise is not known.
const WINDOWS_MIN: usize = 4;
/// Prior variance of the effect, in units of the noise's.
const PRIOR: f64 = 30.0;
/// Share of `alpha` that all metrics together may spend.
pub(crate) const SHARE: f64 = 0.2;
const BUCKETS_A_MINUTE: u64 = 6;

/// Share of the placebo moves that may be as large.
const PLACEBO_MAX: f64 = 0.02;
/// Share of `alpha` where a service has nothing but metrics.
pub(crate) const SHARE_ALONE: f64 = 0.8;

const WORSE_UP: [&str; 24] = [
    "memory",
    "heap",
    "rss",
    "cpu",
    "latency",
    "duration",
    "error",
    "fail",
    "queue",
    "lag",
    "backlog",
    "gc.",
    "restart",
    "retry",
    "retries",
    "timeout",
    "pause",
    "response_time",
    "5xx",
    "exception",
    "reject",
    "drop",
    "saturation",
    "evict",
];
const WORSE_DOWN: [&str; 11] = [
    "success",
    "availab",
    "order",
    "checkout",
    "conversion",
    "revenue",
    "hit_ratio",
    "throughput",
    "hit_rate",
    "apdex",
    "ready",
];

/// The test of one metric.
#[derive(Debug, Clone)]
pub(crate) struct MetricTest {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) shape: MetricShape,
    pub(crate) standing: Standing,
    /// Means and number of minutes of the windows compared last.
    pub(crate) baseline: (f64, u64),
    pub(crate) candidate: (f64, u64),
    /// When they were, candidate and baseline.
    pub(crate) compared: [Interval; 2],
    /// Standard deviation of what such a difference is without any deploy.
    pub(crate) noise: f64,
    /// True while the last window is worse than half the tolerance.
    pub(crate) exceeds: bool,
    /// True where the control serves in the same minutes.
    pub(crate) beside: bool,
    /// Minutes of the candidate.
    pub(crate) minutes: u64,
    /// True while the last window is no worse than tolerated, by a margin of its noise.
    pub(crate) shown_well: bool,
    /// Share of the past's moves that are as large as the last one.
    pub(crate) placebo: f64,
}

/// What tells one metric from another, whatever version and age.
type Identity<'a> = (&'a str, &'a str, MetricShape, BTreeMap<String, String>);

/// Sum and number of values by minute.
type Minutes = BTreeMap<u64, (f64, f64)>;

/// Tests every metric that has a bad direction; `alone` where nothing else is known of the service.
pub(crate) fn tests(frame: &Frame, series: &[MetricSeries], alone: bool, tolerances: &Tolerances) -> Vec<MetricTest> {
    let mut all: BTreeMap<Identity<'_>, [Minutes; 3]> = BTreeMap::new();
    for series in series.iter().filter(|s| direction(&s.key).is_some()) {
        let key = &series.key;
        let arms = all.entry((&key.name, &key.unit, key.shape, apart(key))).or_default();
        for (bucket, cell) in &series.cells {
            let Some(role) = frame.role(&key.version, *bucket) else { continue };
            let minute = arms[role as usize].entry(bucket.0 / BUCKETS_A_MINUTE).or_default();
            minute.0 += cell.sum.value();
            minute.1 += if key.shape == MetricShape::Counter { 0.0 } else { cell.count as f64 };
        }
    }
    let count = all.len().max(1) as f64;
    let share = if alone { SHARE_ALONE } else { SHARE };
    // The minute that is not over yet tells half of it.
    let last = frame.end.0 / BUCKETS_A_MINUTE;
    let tested = all.into_iter().filter_map(|((name, unit, shape, attributes), arms)| {
        let values = arms.map(|minutes| -> Vec<(u64, f64)> {
            let whole = minutes.into_iter().filter(|(minute, _)| *minute < last);
            whole
                .map(|(minute, (sum, n))| (minute, if shape == MetricShape::Counter { sum } else { sum / n.max(1.0) }))
                .collect()
        });
        let mut test = MetricTest {
            name: name.to_owned(),
            unit: unit.to_owned(),
            attributes,
            shape,
            standing: Standing::default(),
            baseline: (0.0, 0),
            candidate: (0.0, 0),
            compared: [stretch(&[]); 2],
            noise: 0.0,
            exceeds: false,
            beside: false,
            minutes: 0,
            shown_well: false,
            placebo: 0.0,
        };
        let up = named(name, &WORSE_UP);
        test.run(&values, up, (count / (tolerances.alpha * share)).ln(), tolerances)?;
        Some(test)
    });
    tested.collect()
}

/// Says whether any metric has a past by which it can be tested; known at the start, it settles who may spend what of alpha.
pub(crate) fn any(frame: &Frame, series: &[MetricSeries]) -> bool {
    let enough = (WINDOWS_MIN + 1) * WINDOW;
    series.iter().filter(|s| direction(&s.key).is_some()).any(|series| {
        let before = series.cells.iter().filter(|(b, _)| frame.role(&series.key.version, *b) == Some(Role::Before));
        let mut minutes: Vec<u64> = before.map(|(bucket, _)| bucket.0 / BUCKETS_A_MINUTE).collect();
        minutes.dedup();
        minutes.len() >= enough
    })
}

/// Says whether more is worse; `None` where nobody can say.
pub(crate) fn direction(key: &MetricKey) -> Option<bool> {
    if named(&key.name, &WORSE_DOWN) {
        return Some(false);
    }
    named(&key.name, &WORSE_UP).then_some(true)
}

fn named(name: &str, words: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    words.iter().any(|word| name.contains(word))
}

impl MetricTest {
    /// Says whether it tests this series, among others.
    pub(crate) fn tests(&self, key: &MetricKey) -> bool {
        (&self.name, &self.unit, self.shape) == (&key.name, &key.unit, key.shape) && self.attributes == apart(key)
    }

    fn run(
        &mut self,
        [candidate, control, before]: &[Vec<(u64, f64)>; 3],
        up: bool,
        level: f64,
        tolerances: &Tolerances,
    ) -> Option<()> {
        let windows: Vec<f64> = before.rchunks_exact(WINDOW).map(mean).collect();
        let moves: Vec<f64> = windows.windows(2).map(|pair| pair[0] - pair[1]).collect();
        if moves.len() < WINDOWS_MIN || candidate.len() < WINDOW {
            return None;
        }
        let usual = windows.iter().sum::<f64>() / windows.len() as f64;
        let freedom = moves.len() as f64;
        // A series that never moved may yet move by a thousandth without meaning anything.
        let floor = (1e-3 * usual.abs()).max(1e-12);
        let placebos = placebos(before);
        self.minutes = candidate.len() as u64;
        self.noise = (moves.iter().map(|d| d * d).sum::<f64>() / freedom).sqrt().max(floor);
        let past = windows.first().copied()?;
        for end in WINDOW..=candidate.len() {
            let window = &candidate[end - WINDOW..end];
            let beside: Vec<(u64, f64)> =
                control.iter().filter(|(minute, _)| window.iter().any(|(m, _)| m == minute)).copied().collect();
            self.beside = beside.len() == WINDOW;
            let reference = if self.beside { mean(&beside) } else { past };
            let nearest = &before[before.len().saturating_sub(WINDOW)..];
            self.compared = [stretch(window), stretch(if self.beside { beside.as_slice() } else { nearest })];
            self.candidate = (mean(window), WINDOW as u64);
            self.baseline = (reference, WINDOW as u64);
            let sign = if up { 1.0 } else { -1.0 };
            let worse = sign * (self.candidate.0 - reference);
            let t = worse.max(0.0) / self.noise;
            let ratio = (1.0 + t * t / freedom) / (1.0 + t * t / (freedom * (1.0 + PRIOR)));
            self.standing.moved(0.5 * (freedom + 1.0) * ratio.ln() - 0.5 * (1.0 + PRIOR).ln());
            let allowed = tolerances.metric_ratio * reference.abs();
            self.exceeds = worse > 0.5 * allowed;
            let bucket = Bucket((window[WINDOW - 1].0 + 1) * BUCKETS_A_MINUTE - 1);
            self.shown_well = worse + 2.0 * self.noise <= allowed.max(3.0 * floor);
            let as_large = placebos.iter().filter(|placebo| sign * **placebo >= worse).count();
            self.placebo = (1 + as_large) as f64 / (1 + placebos.len()) as f64;
            let unusual = as_large as f64 <= PLACEBO_MAX * placebos.len() as f64;
            if worse > allowed && unusual && self.standing.log_e >= level {
                self.standing.exceeded_at = self.standing.exceeded_at.or(Some(bucket));
                match self.standing.triggered_at {
                    None => self.standing.triggered_at = Some(bucket),
                    // Five minutes on, nothing of the window is the same.
                    Some(at) if bucket.0 >= at.0 + WINDOW as u64 * BUCKETS_A_MINUTE => {
                        self.standing.confirmed_at = self.standing.confirmed_at.or(Some(bucket));
                    }
                    Some(_) => {}
                }
            } else if self.standing.confirmed_at.is_none() {
                self.standing.triggered_at = None;
            }
        }
        Some(())
    }
}

/// All moves of the past from one window to the next, whatever minute they begin in.
fn placebos(before: &[(u64, f64)]) -> Vec<f64> {
    let pairs = before.windows(2 * WINDOW);
    pairs.map(|pair| mean(&pair[WINDOW..]) - mean(&pair[..WINDOW])).collect()
}

/// Returns the attributes that tell series of one metric apart.
fn apart(key: &MetricKey) -> BTreeMap<String, String> {
    let mut attributes = key.attributes.clone();
    // What tells versions and pods apart differs between the arms by its nature.
    attributes
        .retain(|name, _| !VERSION_ATTRIBUTES.contains(&name.as_str()) && !POD_ATTRIBUTES.contains(&name.as_str()));
    attributes
}

/// Returns when the minutes of a window were.
fn stretch(window: &[(u64, f64)]) -> Interval {
    let from = window.first().map_or(0, |(minute, _)| *minute);
    let to = window.last().map_or(from, |(minute, _)| *minute + 1);
    Interval { from: Bucket(from * BUCKETS_A_MINUTE).start(), to: Bucket(to * BUCKETS_A_MINUTE).start() }
}

fn mean(window: &[(u64, f64)]) -> f64 {
    window.iter().map(|(_, value)| value).sum::<f64>() / window.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use crate::design::Role;

    #[test]
    fn roles_are_kept_in_the_order_of_the_arms() {
        assert_eq!([Role::Candidate as usize, Role::Control as usize, Role::Before as usize], [0, 1, 2]);
    }
}
