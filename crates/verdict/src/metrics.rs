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
//! What the same hours of days before did by themselves is taken off ([`crate::metric_seasons`]), and what more requests make of what goes with
//! them ([`crate::load`]). What is high at first and
//! falls is counted only as far as it will stay ([`crate::settling`]): new instances fill caches and warm up for minutes.
//!
//! Only metrics whose name tells which direction is bad are tested: more memory is worse, fewer orders are; of most nobody
//! can say. *This is a calibration*: levels of a series depend on each other, which longer windows lessen and do not undo.
//!
//! *Source.* Pérez-Ortiz, Lardy, de Heide and Grünwald, "E-statistics, group invariance and anytime-valid testing" (2024).

use std::collections::BTreeMap;

use plimsoll_model::metric::{MetricKey, MetricSeries, MetricShape, goes_with_load, is_share, worse_upwards};
use plimsoll_model::signal::OperationSeries;
use plimsoll_model::{Bucket, Culprit, Interval};

use crate::design::{Frame, Role};
use crate::disturbed::Disturbances;
use crate::flow;
use crate::load::{self, Drain};
use crate::measured::{self, POD_ATTRIBUTES, VERSION_ATTRIBUTES};
use crate::metric_seasons::{MetricSeason, MetricSeasons};
use crate::moves::{Minute, Move, PastMoves, READINGS, WINDOW, WINDOWS_MIN, spare};
use crate::rate;
use crate::standing::Standing;
use crate::tolerances::Tolerances;

/// Share of `alpha` that all metrics together may spend.
pub(crate) const SHARE: f64 = 0.2;
const BUCKETS_A_MINUTE: u64 = 6;

/// Minutes of the candidate after which nothing is taken to be settling.
const YOUNG: usize = 20;

/// Share of `alpha` where a service has nothing but metrics.
pub(crate) const SHARE_ALONE: f64 = 0.8;

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
    /// By how much the difference of their means may be another, as the series moves by itself.
    pub(crate) band: f64,
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
    /// Whose doing it is, where it is not the deploy's.
    pub(crate) culprit: Option<Culprit>,
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

/// Says by what part of itself a level may grow from one window to another for what there is to do.
type Load<'a> = &'a dyn Fn(&[Minute], &[Minute]) -> f64;

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

/// Lists the metrics that have a bad direction, but those that tell the times of the requests `served`, or of the calls that these make:
/// traces say of the same times whose they are.
pub(crate) fn levels<'a>(frame: &Frame, series: &'a [MetricSeries], served: &Served) -> Vec<&'a MetricSeries> {
    let requests: f64 = served.iter().flat_map(BTreeMap::values).sum();
    let mut timed: BTreeMap<&str, f64> = BTreeMap::new();
    for series in series.iter().filter(|series| requests > 0.0 && measured::is_served_time(&series.key)) {
        let cells = series.cells.iter().filter(|(bucket, _)| frame.role(&series.key.version, *bucket).is_some());
        *timed.entry(&series.key.name).or_default() += cells.map(|(_, cell)| cell.count as f64).sum::<f64>();
    }
    // As many as half or twice the requests are the same ones.
    let same = |key: &MetricKey| timed.get(key.name.as_str()).is_some_and(|n| (0.5..=2.0).contains(&(n / requests)));
    let told = |key: &MetricKey| requests > 0.0 && (measured::is_waited_time(key) || same(key));
    series.iter().filter(|series| worse_upwards(&series.key.name).is_some() && !told(&series.key)).collect()
}

/// Tests every metric of `series`; nothing else is known of the service where `served` is empty. What others did to the service is
/// asked of `disturbed` once anything is worse.
pub(crate) fn tests<'a>(
    frame: &Frame,
    series: &[&'a MetricSeries],
    served: &Served,
    seasons: &MetricSeasons<'a>,
    disturbed: impl Fn() -> Disturbances,
    tolerances: &Tolerances,
) -> Vec<MetricTest> {
    let mut disturbances: Option<Disturbances> = None;
    let mut all: BTreeMap<Identity<'_>, [Minutes; 3]> = BTreeMap::new();
    for series in series {
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
            band: 0.0,
            exceeds: false,
            shown_for: 0,
            beside: false,
            minutes: 0,
            shown_well: false,
            placebo: 0.0,
            seasonal: false,
            culprit: None,
        };
        let up = worse_upwards(name).unwrap_or(true);
        let busy = up && shape == MetricShape::Gauge && goes_with_load(name);
        let load = |window: &[Minute], reference: &[Minute]| match busy {
            true => load::grown(served, window, reference),
            false => 0.0,
        };
        let level = (count / (tolerances.alpha * share)).ln();
        let fresh = test.clone();
        test.run(&values, up, level, (&season, &load), None, tolerances)?;
        if test.standing.exceeded_at.is_some() {
            let others = disturbances.get_or_insert_with(&disturbed);
            if others.is_any() {
                let mut own = fresh;
                own.run(&values, up, level, (&season, &load), Some(others), tolerances)?;
                test = own.or_theirs(test, others);
            }
        }
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
        // What goes beyond one counts in percent, whatever its unit says.
        let wholes: &[f64] = if percent { &[100.0] } else { &[1.0, 100.0] };
        wholes.iter().copied().find(|whole| within(*whole, arms))
    }

    /// Takes what all minutes show, where the deploy's own do not show it.
    fn or_theirs(mut self, all: Self, others: &Disturbances) -> Self {
        if self.standing.exceeded_at.is_some() {
            return self;
        }
        match others.most().filter(|_| all.exceeds) {
            // It is told for as long as it is so.
            Some(culprit) => {
                let standing = Standing { triggered_at: None, confirmed_at: None, elsewhere: true, ..all.standing };
                Self { standing, culprit: Some(culprit.clone()), ..all }
            }
            None => {
                self.exceeds = false;
                self
            }
        }
    }

    fn run(
        &mut self,
        [candidate, control, before]: &[Vec<Minute>; 3],
        up: bool,
        level: f64,
        (season, load): (&MetricSeason<'_>, Load<'_>),
        others: Option<&Disturbances>,
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
        let arms: [&[Minute]; 3] = [candidate, control, before];
        let whole = self.whole(up, arms);
        let share = up && self.each == Each::Observation && within(1.0, arms);
        let fills = up && self.shape == MetricShape::Gauge && goes_with_load(&self.name);
        let served_beside = |minute: u64| control.iter().any(|there| there.minute == minute);
        let hidden =
            |minute: u64| others.is_some_and(|others| others.hides(minute, up, fills) && !served_beside(minute));
        let mut kept: Vec<Minute> = Vec::with_capacity(candidate.len());
        let mut drain = Drain::default();
        for minute in candidate {
            // What had begun before others disturbed it goes on.
            let begun = self.standing.triggered_at.is_some();
            if !begun && hidden(minute.minute) {
                drain.fill(minute);
                continue;
            }
            if !begun && fills && !served_beside(minute.minute) && drain.goes_on(minute) {
                continue;
            }
            kept.push(*minute);
            let end = kept.len();
            if end < WINDOW {
                continue;
            }
            let window = &kept[end - WINDOW..];
            let beside: Vec<Minute> =
                control.iter().filter(|there| window.iter().any(|m| m.minute == there.minute)).copied().collect();
            self.beside = beside.len() == WINDOW;
            let nearest = &before[before.len().saturating_sub(WINDOW)..];
            let reference = if self.beside { beside.as_slice() } else { nearest };
            self.compared = [stretch(window), stretch(reference)];
            let by_others = |reading: usize, reference: f64| match others.filter(|_| !begun) {
                None => 0.0,
                Some(others) if !up => others.missing(window) * reference.abs(),
                Some(others) if share => others.missing(window),
                Some(others) if self.each == Each::Request && reading == 0 => others.added(window),
                Some(others) if self.each == Each::Observation => others.filled(window) * reference.abs(),
                Some(_) => 0.0,
            };
            let excused = |reading: usize, from: f64, noise: f64| match self.beside {
                true => [0.0; 2],
                false => {
                    let hour = season.excused((self.each, reading), stretch(window), (from, noise), sign);
                    let rush = load(window, reference) * from.abs();
                    [hour, by_others(reading, from) + (rush - hour).max(0.0)]
                }
            };
            let moves: Vec<Move> = pasts
                .iter()
                .enumerate()
                .map(|(at, past)| past.held(at, window, reference, sign, |from, noise| excused(at, from, noise)))
                .collect();
            self.seasonal = moves.iter().any(|m| m.seasonal);
            let told = moves[0];
            self.candidate = (told.candidate, WINDOW as u64);
            self.baseline = (told.reference, WINDOW as u64);
            self.band = told.band(rate::EFFECT_ALPHA);
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
            let stays = || end > YOUNG || moves.iter().enumerate().all(|(at, m)| m.stays(&kept, at, sign, allowed(m)));
            if shown && stays() {
                match self.standing.triggered_at {
                    None => self.standing.triggered_at = Some(bucket),
                    // Nothing of the window is the same.
                    Some(at) if window[0].minute * BUCKETS_A_MINUTE > at.0 => {
                        self.standing.confirmed_at = self.standing.confirmed_at.or(Some(bucket));
                    }
                    Some(_) => {}
                }
            } else if self.standing.confirmed_at.is_none() {
                self.standing.triggered_at = None;
                kept.retain(|minute| !hidden(minute.minute));
            }
        }
        Some(())
    }
}

/// Returns the attributes that tell series of one metric apart.
pub(crate) fn apart(attributes: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut attributes = attributes.clone();
    // What tells versions and pods apart differs between the arms by its nature.
    attributes
        .retain(|name, _| !VERSION_ATTRIBUTES.contains(&name.as_str()) && !POD_ATTRIBUTES.contains(&name.as_str()));
    attributes
}

/// Says whether all values lie between nothing and `whole`.
fn within(whole: f64, arms: [&[Minute]; 3]) -> bool {
    arms.into_iter().flatten().all(|minute| (0.0..=whole).contains(&minute.readings[0].0))
}

/// Returns when the minutes of a window were.
fn stretch(window: &[Minute]) -> Interval {
    let from = window.first().map_or(0, |m| m.minute);
    let to = window.last().map_or(from, |m| m.minute + 1);
    Interval { from: Bucket(from * BUCKETS_A_MINUTE).start(), to: Bucket(to * BUCKETS_A_MINUTE).start() }
}

#[cfg(test)]
mod tests {
    use crate::design::Role;

    #[test]
    fn roles_are_kept_in_the_order_of_the_arms() {
        assert_eq!([Role::Candidate as usize, Role::Control as usize, Role::Before as usize], [0, 1, 2]);
    }
}
