//! Metrics: whether a level moved in its bad direction further than its own past moves.
//!
//! Every minute has one value: the mean of a gauge or of observations; of a counter, what it grew by, a request of the service
//! and a point of the metric. One alone misleads: a canary with a twentieth of the requests counts a twentieth, and what
//! runs by the clock counts more a request as traffic falls; so a counter moved only as far as it did by both. The
//! candidate's last five are held against the control's in the same minutes, or against the five before the start. How far
//! such means move without any deploy is measured from the series' own past, window by window, and more is allowed for where
//! an arm rests on less than the past did; the quotient follows Student's distribution with as many degrees of freedom as
//! there are windows, and the e-value is that of the scale-invariant test of its mean.
//!
//! Beside that the move is ranked among all moves of the same length in the past: where more than one in fifty of those was as
//! large, the series does such things by itself.
//!
//! What the same hours of days before did by themselves is taken off ([`crate::metric_seasons`]). What is high at first and
//! falls is counted only as far as it will stay ([`crate::settling`]): new instances fill caches and warm up for minutes.
//!
//! Only metrics whose name tells which direction is bad are tested: more memory is worse, fewer orders are; of most nobody
//! can say. *This is a calibration*: levels of a series depend on each other, which longer windows lessen and do not undo.
//!
//! *Source.* Pérez-Ortiz, Lardy, de Heide and Grünwald, "E-statistics, group invariance and anytime-valid testing" (2024).

use std::collections::BTreeMap;

use plimsoll_model::metric::{MetricKey, MetricSeries, MetricShape, is_share, worse_upwards};
use plimsoll_model::signal::OperationSeries;
use plimsoll_model::{Bucket, Interval};

use crate::design::{Frame, Role};
use crate::flow;
use crate::measured::{POD_ATTRIBUTES, VERSION_ATTRIBUTES};
use crate::metric_seasons::{MetricSeason, MetricSeasons};
use crate::settling::{self, Point};
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
/// Minutes of the candidate after which nothing is taken to be settling.
const YOUNG: usize = 20;
/// Share of what is tolerated by which a minute's level is at least uncertain: no fading is quite exponential.
const UNCERTAIN: f64 = 0.15;

/// Share of `alpha` where a service has nothing but metrics.
pub(crate) const SHARE_ALONE: f64 = 0.8;

/// What is taken to be missing to the whole of a share at least, as a part of it.
const SPARE_MIN: f64 = 0.1;

/// The test of one metric.
#[derive(Debug, Clone)]
pub(crate) struct MetricTest {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) shape: MetricShape,
    pub(crate) standing: Standing,
    /// What its values are divided by.
    pub(crate) each: Each,
    /// Means and number of minutes of the windows compared last.
    pub(crate) baseline: (f64, u64),
    pub(crate) candidate: (f64, u64),
    /// When they were, candidate and baseline.
    pub(crate) compared: [Interval; 2],
    /// Standard deviation of what such a difference is without any deploy.
    pub(crate) noise: f64,
    /// True while the last window is worse than half the tolerance.
    pub(crate) exceeds: bool,
    /// Minutes for which every window has shown it to be worse than tolerated.
    shown_for: usize,
    /// True where the control serves in the same minutes.
    pub(crate) beside: bool,
    /// Minutes of the candidate.
    pub(crate) minutes: u64,
    /// True while the last window is no worse than tolerated, by a margin of its noise.
    pub(crate) shown_well: bool,
    /// Share of the past's moves that are as large as the last one.
    pub(crate) placebo: f64,
    /// True while part of the last move is what the same hours before did, too.
    pub(crate) seasonal: bool,
}

/// What tells one metric from another, whatever version and age.
pub(crate) type Identity<'a> = (&'a str, &'a str, MetricShape, BTreeMap<String, String>);

/// What a metric's values are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Each {
    /// One observation, or one point of a gauge.
    Observation,
    /// One request of the service.
    Request,
    /// One point of a counter, where requests are not known.
    Point,
}

/// What came in: sum, number of values and of points.
pub(crate) type Told = [f64; 3];

/// The same by minute.
type Minutes = BTreeMap<u64, Told>;

/// Requests by minute.
pub(crate) type Served = [BTreeMap<u64, f64>; 3];

/// A minute of one arm: its values, and what each of them rests on. Where there is one only, it stands twice.
#[derive(Debug, Clone, Copy)]
struct Minute {
    minute: u64,
    readings: [(f64, f64); READINGS],
}

const READINGS: usize = 2;

/// Counts the requests of each arm by minute.
pub(crate) fn served(frame: &Frame, series: &[OperationSeries]) -> Served {
    let mut served = Served::default();
    for series in series.iter().filter(|s| s.key.service == frame.service) {
        for (bucket, cell) in series.cells.iter().filter(|(_, cell)| cell.requests > 0) {
            if let Some(role) = frame.role(&series.key.version, *bucket) {
                *served[role as usize].entry(bucket.0 / BUCKETS_A_MINUTE).or_default() += flow::weight(cell);
            }
        }
    }
    served
}

/// Tests every metric that has a bad direction; nothing else is known of the service where `served` is empty.
pub(crate) fn tests<'a>(
    frame: &Frame,
    series: &'a [MetricSeries],
    served: &Served,
    seasons: &MetricSeasons<'a>,
    tolerances: &Tolerances,
) -> Vec<MetricTest> {
    let mut all: BTreeMap<Identity<'_>, [Minutes; 3]> = BTreeMap::new();
    for series in series.iter().filter(|s| worse_upwards(&s.key.name).is_some()) {
        let key = &series.key;
        let arms = all.entry((&key.name, &key.unit, key.shape, apart(&key.attributes))).or_default();
        for (bucket, cell) in &series.cells {
            let Some(role) = frame.role(&key.version, *bucket) else { continue };
            let minute = arms[role as usize].entry(bucket.0 / BUCKETS_A_MINUTE).or_default();
            let told = [cell.sum.value(), cell.count as f64, cell.points as f64];
            minute.iter_mut().zip(told).for_each(|(sum, n)| *sum += n);
        }
    }
    let count = all.len().max(1) as f64;
    let alone = served.iter().all(BTreeMap::is_empty);
    let share = if alone { SHARE_ALONE } else { SHARE };
    // The minute that is not over yet tells half of it.
    let last = frame.end.0 / BUCKETS_A_MINUTE;
    let tested = all.into_iter().filter_map(|((name, unit, shape, attributes), arms)| {
        let each = each(shape, &arms[Role::Before as usize], &served[Role::Before as usize]);
        let mut arm = 0;
        let values = arms.map(|minutes| -> Vec<Minute> {
            let served = &served[arm];
            arm += 1;
            let whole = minutes.into_iter().filter(|(minute, _)| *minute < last);
            whole.filter_map(|(minute, told)| Minute::of(minute, told, each, served.get(&minute).copied())).collect()
        });
        let identity = (name, unit, shape, attributes);
        let season = seasons.season(&identity);
        let (.., attributes) = identity;
        let mut test = MetricTest {
            name: name.to_owned(),
            unit: unit.to_owned(),
            attributes,
            shape,
            standing: Standing::default(),
            each,
            baseline: (0.0, 0),
            candidate: (0.0, 0),
            compared: [stretch(&[]); 2],
            noise: 0.0,
            exceeds: false,
            shown_for: 0,
            beside: false,
            minutes: 0,
            shown_well: false,
            placebo: 0.0,
            seasonal: false,
        };
        let up = worse_upwards(name).unwrap_or(true);
        test.run(&values, up, (count / (tolerances.alpha * share)).ln(), &season, tolerances)?;
        Some(test)
    });
    tested.collect()
}

/// Says what a metric's values are told of, by the minutes before the start.
fn each(shape: MetricShape, before: &Minutes, served: &BTreeMap<u64, f64>) -> Each {
    if shape != MetricShape::Counter {
        return Each::Observation;
    }
    let both = before.keys().filter(|minute| served.contains_key(minute)).count();
    if both >= (WINDOWS_MIN + 1) * WINDOW { Each::Request } else { Each::Point }
}

impl Each {
    /// Returns what one reading says, where `requests` came with it.
    pub(crate) fn value(self, [sum, n, points]: Told, requests: Option<f64>, reading: usize) -> Option<f64> {
        let by = match (self, reading) {
            (Self::Observation, _) => n,
            (Self::Request, 0) => requests?,
            (Self::Point | Self::Request, _) => points,
        };
        (by > 0.0).then(|| sum / by)
    }
}

impl Minute {
    /// Returns what a minute tells; `None` where there is nothing to divide it by.
    fn of(minute: u64, [sum, n, points]: [f64; 3], each: Each, requests: Option<f64>) -> Option<Self> {
        let by = |n: f64| (sum / n.max(1.0), n.max(1.0));
        let readings = match each {
            Each::Observation => [by(n); READINGS],
            Each::Point => [by(points); READINGS],
            Each::Request => [by(requests?), by(points)],
        };
        Some(Self { minute, readings })
    }
}

/// Says whether any metric has a past by which it can be tested; known at the start, it settles who may spend what of alpha.
pub(crate) fn any(frame: &Frame, series: &[MetricSeries]) -> bool {
    let enough = (WINDOWS_MIN + 1) * WINDOW;
    series.iter().filter(|s| worse_upwards(&s.key.name).is_some()).any(|series| {
        let before = series.cells.iter().filter(|(b, _)| frame.role(&series.key.version, *b) == Some(Role::Before));
        let mut minutes: Vec<u64> = before.map(|(bucket, _)| bucket.0 / BUCKETS_A_MINUTE).collect();
        minutes.dedup();
        minutes.len() >= enough
    })
}

impl MetricTest {
    /// Says whether it tests this series, among others.
    pub(crate) fn tests(&self, key: &MetricKey) -> bool {
        (&self.name, &self.unit, self.shape) == (&key.name, &key.unit, key.shape)
            && self.attributes == apart(&key.attributes)
    }

    /// Says whether the latest minutes show by themselves that it is worse: two windows that have none in common.
    pub(crate) fn is_back(&self) -> bool {
        self.shown_for > WINDOW
    }

    /// Says what its numbers are about.
    pub(crate) fn worded(&self, about: String) -> String {
        // `1` is the unit of what has none.
        let about = if matches!(self.unit.as_str(), "" | "1") { about } else { format!("{about} in {}", self.unit) };
        match self.each {
            Each::Observation => about,
            Each::Request => format!("{about} a request"),
            Each::Point => format!("{about} a point"),
        }
    }

    /// Returns what is all of it, where it is a share of what should be there, as all of its minutes agree.
    fn whole(&self, up: bool, arms: [&[Minute]; 3]) -> Option<f64> {
        let percent = matches!(self.unit.as_str(), "%" | "percent");
        if up || self.each != Each::Observation || !(percent || is_share(&self.name)) {
            return None;
        }
        let within = |whole: f64| {
            let minutes = arms.iter().flat_map(|arm| arm.iter());
            minutes.copied().all(|minute| (0.0..=whole).contains(&minute.readings[0].0))
        };
        // What goes beyond one counts in percent, whatever its unit says.
        let wholes: &[f64] = if percent { &[100.0] } else { &[1.0, 100.0] };
        wholes.iter().copied().find(|whole| within(*whole))
    }

    fn run(
        &mut self,
        [candidate, control, before]: &[Vec<Minute>; 3],
        up: bool,
        level: f64,
        season: &MetricSeason<'_>,
        tolerances: &Tolerances,
    ) -> Option<()> {
        if candidate.len() < WINDOW {
            return None;
        }
        let sign = if up { 1.0 } else { -1.0 };
        let mut pasts = Vec::with_capacity(READINGS);
        for reading in 0..READINGS {
            pasts.push(PastMoves::of(before, reading)?);
        }
        self.minutes = candidate.len() as u64;
        let whole = self.whole(up, [candidate, control, before]);
        for end in WINDOW..=candidate.len() {
            let window = &candidate[end - WINDOW..end];
            let beside: Vec<Minute> =
                control.iter().filter(|there| window.iter().any(|m| m.minute == there.minute)).copied().collect();
            self.beside = beside.len() == WINDOW;
            let nearest = &before[before.len().saturating_sub(WINDOW)..];
            let reference = if self.beside { beside.as_slice() } else { nearest };
            self.compared = [stretch(window), stretch(reference)];
            let excused = |reading: usize, reference: f64, noise: f64| match self.beside {
                true => 0.0,
                false => season.excused((self.each, reading), stretch(window), (reference, noise), sign),
            };
            let moves: Vec<Move> = pasts
                .iter()
                .enumerate()
                .map(|(at, past)| past.held(at, window, reference, sign, |from, noise| excused(at, from, noise)))
                .collect();
            self.seasonal = moves.iter().any(|m| m.excused);
            let told = moves[0];
            self.candidate = (told.candidate, WINDOW as u64);
            self.baseline = (told.reference, WINDOW as u64);
            self.noise = told.noise;
            self.standing.moved(moves.iter().map(|m| m.log_e).fold(f64::INFINITY, f64::min));
            let allowed =
                |m: &Move| tolerances.metric_ratio * whole.map_or(m.reference.abs(), |whole| spare(m.reference, whole));
            self.exceeds = moves.iter().all(|m| m.worse > 0.5 * allowed(m));
            self.shown_well = moves.iter().all(|m| m.grown + 2.0 * m.noise <= allowed(m).max(3.0 * m.floor));
            self.placebo = moves.iter().map(|m| m.placebo).fold(0.0, f64::max);
            let bucket = Bucket((window[WINDOW - 1].minute + 1) * BUCKETS_A_MINUTE - 1);
            let worse = moves.iter().all(|m| m.worse > allowed(m) && m.unusual);
            let shown = worse && self.standing.log_e >= level;
            self.shown_for = if shown { self.shown_for + 1 } else { 0 };
            if shown {
                self.standing.exceeded_at = self.standing.exceeded_at.or(Some(bucket));
            }
            let so_far = &candidate[..end];
            let stays = || end > YOUNG || moves.iter().enumerate().all(|(at, m)| m.stays(so_far, at, sign, allowed(m)));
            if shown && stays() {
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

/// How far one reading moves without any deploy.
struct PastMoves {
    freedom: f64,
    noise: f64,
    floor: f64,
    /// What a window rests on.
    weight: f64,
    placebos: Vec<f64>,
}

/// How far one reading moved.
#[derive(Debug, Clone, Copy)]
struct Move {
    candidate: f64,
    reference: f64,
    /// By how much it is worse, and by how much beyond what is excused.
    grown: f64,
    worse: f64,
    noise: f64,
    floor: f64,
    log_e: f64,
    placebo: f64,
    unusual: bool,
    excused: bool,
}

impl Move {
    /// Says whether the level would stay above half of what is `allowed`, as all minutes since the first show.
    fn stays(&self, minutes: &[Minute], reading: usize, sign: f64, allowed: f64) -> bool {
        let first = minutes.first().map_or(0, |m| m.minute);
        // Its noise is that of a window; a minute has more.
        let variance = self.noise * self.noise * WINDOW as f64;
        let least = (UNCERTAIN * allowed).powi(2);
        let points = minutes.iter().map(|m| Point {
            at_s: 60.0 * (m.minute - first) as f64 + 30.0,
            value: sign * (m.readings[reading].0 - self.reference),
            variance: variance.max(least),
        });
        settling::level_remains(&points.collect::<Vec<_>>(), 0.5 * allowed + (self.grown - self.worse))
    }
}

impl PastMoves {
    /// Measures it; `None` where there is too little of the past.
    fn of(before: &[Minute], reading: usize) -> Option<Self> {
        let windows: Vec<f64> = before.rchunks_exact(WINDOW).map(|window| mean(window, reading)).collect();
        let moves: Vec<f64> = windows.windows(2).map(|pair| pair[0] - pair[1]).collect();
        if moves.len() < WINDOWS_MIN {
            return None;
        }
        let usual = windows.iter().sum::<f64>() / windows.len() as f64;
        let freedom = moves.len() as f64;
        // A series that never moved may yet move by a thousandth without meaning anything.
        let floor = (1e-3 * usual.abs()).max(1e-12);
        let pairs = before.windows(2 * WINDOW);
        Some(Self {
            freedom,
            noise: (moves.iter().map(|d| d * d).sum::<f64>() / freedom).sqrt().max(floor),
            floor,
            weight: weight(before, reading) * WINDOW as f64 / before.len() as f64,
            // All moves from one window to the next, whatever minute they begin in.
            placebos: pairs.map(|pair| mean(&pair[WINDOW..], reading) - mean(&pair[..WINDOW], reading)).collect(),
        })
    }

    /// Holds two windows against each other; `excused` says how much of a move from a level, with a noise, the hour alone makes.
    fn held(
        &self,
        reading: usize,
        window: &[Minute],
        reference: &[Minute],
        sign: f64,
        excused: impl Fn(f64, f64) -> f64,
    ) -> Move {
        let (candidate, against) = (mean(window, reading), mean(reference, reading));
        // The past's noise is that of two windows of its weight; a mean over less moves more, as the root of it.
        let lighter = |arm: &[Minute]| self.weight / weight(arm, reading);
        let noise = self.noise * (0.5 * (lighter(window) + lighter(reference))).max(1.0).sqrt();
        let excused = excused(against, noise);
        let grown = sign * (candidate - against);
        let worse = grown - excused;
        let t = worse.max(0.0) / noise;
        let ratio = (1.0 + t * t / self.freedom) / (1.0 + t * t / (self.freedom * (1.0 + PRIOR)));
        let as_large = self.placebos.iter().filter(|placebo| sign * **placebo >= worse).count() as f64;
        let all = self.placebos.len() as f64;
        Move {
            candidate,
            reference: against,
            grown,
            worse,
            noise,
            floor: self.floor,
            log_e: 0.5 * (self.freedom + 1.0) * ratio.ln() - 0.5 * (1.0 + PRIOR).ln(),
            placebo: (1.0 + as_large) / (1.0 + all),
            unusual: as_large <= PLACEBO_MAX * all,
            excused: excused > 0.0,
        }
    }
}

/// What the tolerated move of a share of `whole` is a part of: what is missing to the whole, a tenth of it at least.
fn spare(reference: f64, whole: f64) -> f64 {
    reference.abs().min((whole - reference).max(SPARE_MIN * whole))
}

/// Returns the attributes that tell series of one metric apart.
pub(crate) fn apart(attributes: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut attributes = attributes.clone();
    // What tells versions and pods apart differs between the arms by its nature.
    attributes
        .retain(|name, _| !VERSION_ATTRIBUTES.contains(&name.as_str()) && !POD_ATTRIBUTES.contains(&name.as_str()));
    attributes
}

/// Returns when the minutes of a window were.
fn stretch(window: &[Minute]) -> Interval {
    let from = window.first().map_or(0, |m| m.minute);
    let to = window.last().map_or(from, |m| m.minute + 1);
    Interval { from: Bucket(from * BUCKETS_A_MINUTE).start(), to: Bucket(to * BUCKETS_A_MINUTE).start() }
}

fn mean(window: &[Minute], reading: usize) -> f64 {
    window.iter().map(|m| m.readings[reading].0).sum::<f64>() / window.len().max(1) as f64
}

/// Returns what the values of a window rest on.
fn weight(window: &[Minute], reading: usize) -> f64 {
    window.iter().map(|m| m.readings[reading].1).sum::<f64>().max(1.0)
}

#[cfg(test)]
mod tests {
    use crate::design::Role;

    #[test]
    fn roles_are_kept_in_the_order_of_the_arms() {
        assert_eq!([Role::Candidate as usize, Role::Control as usize, Role::Before as usize], [0, 1, 2]);
    }
}
