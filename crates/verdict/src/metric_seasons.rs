//! The same hours before for metrics: how far a level moved at this hour yesterday and a week ago, without this deploy.
//!
//! Where the control is the time before, a level that rises every day at nine rises on the day of a deploy, too. What it moved in
//! its bad direction around the same minutes of a day before, from the ten minutes that ended before the same moment, is taken
//! off what it moved now: as much or as many times as much, whichever is more. What both days show is taken off in full; what only
//! the same weekday shows, or the only day that is known, up to a bound; and what yesterday alone shows while a week ago nothing was
//! is no season, as with failures ([`crate::seasons`]). A move that is no larger than the noise is none; a day on which the service
//! was changed within those hours is left out, because it may show that change's own harm.
//!
//! *Source.* As [`crate::drift`].

use std::collections::BTreeMap;

use plimsoll_model::signal::WEIGHT_UNIT;
use plimsoll_model::{Interval, UnixNanos};

use crate::design::Frame;
use crate::input::JudgeInput;
use crate::metrics::{Each, Identity, Told, apart};
use crate::seasons::{DAYS, changed, moved};

/// How many times as much a level may become by the hour alone.
const GROWTH_MAX: f64 = 10.0;
/// What one day without another that agrees may excuse, as a share of the level before the start.
const ALONE: f64 = 3.0;
/// The ten minutes before the start may lie so many seconds back.
const BEFORE_S: u64 = 3_600;

/// Wide buckets by the second of their start, as if they were today.
type Levels = BTreeMap<u64, Told>;

/// One day before.
#[derive(Debug)]
struct Day<'a> {
    day: u32,
    metrics: BTreeMap<Identity<'a>, Levels>,
    /// Requests of the service.
    served: BTreeMap<u64, f64>,
}

/// The same hours of days before, of all metrics.
#[derive(Debug, Default)]
pub(crate) struct MetricSeasons<'a> {
    days: Vec<Day<'a>>,
    width_s: u64,
    start_s: u64,
}

/// The same hours of days before, of one metric.
pub(crate) struct MetricSeason<'a> {
    days: Vec<(&'a Levels, &'a BTreeMap<u64, f64>)>,
    width_s: u64,
    start_s: u64,
}

impl<'a> MetricSeasons<'a> {
    /// Gathers them; nothing where versions are compared with each other in the same minutes only.
    pub(crate) fn of(input: &'a JudgeInput, frame: &Frame) -> Self {
        let past = &input.aggregates.metric_history;
        let Some(width_s) = past.first().map(|series| series.width_s) else { return Self::default() };
        let start_s = frame.start.start().0 / 1_000_000_000;
        let (from, to) = (start_s.saturating_sub(BEFORE_S), start_s + input.tolerances.watch_max_s + BEFORE_S);
        let mut days = Vec::new();
        for day in DAYS.into_iter().filter(|day| !changed(input, frame, *day)) {
            let here =
                |at: &UnixNanos| moved(*at, u64::from(day) * 86_400).filter(|second| (from..to).contains(second));
            let mut metrics: BTreeMap<Identity<'_>, Levels> = BTreeMap::new();
            for series in past.iter().filter(|series| series.width_s == width_s) {
                let metric = &series.metric;
                let identity: Identity<'_> = (&metric.name, &metric.unit, metric.shape, apart(&metric.attributes));
                for (at, cell) in &series.cells {
                    let Some(second) = here(at) else { continue };
                    let told = [cell.sum.value(), cell.count as f64, cell.points as f64];
                    let level = metrics.entry(identity.clone()).or_default().entry(second).or_default();
                    level.iter_mut().zip(told).for_each(|(sum, n)| *sum += n);
                }
            }
            let mut served: BTreeMap<u64, f64> = BTreeMap::new();
            for series in input.aggregates.history.iter().filter(|series| series.width_s == width_s) {
                for (at, cell) in &series.cells {
                    let Some(second) = here(at) else { continue };
                    let requests = (cell.weighted_requests as f64 / WEIGHT_UNIT as f64).max(cell.requests as f64);
                    *served.entry(second).or_default() += requests;
                }
            }
            if !metrics.is_empty() {
                days.push(Day { day, metrics, served });
            }
        }
        Self { days, width_s: u64::from(width_s), start_s }
    }

    /// Returns the days that are held.
    pub(crate) fn days(&self) -> impl Iterator<Item = u32> {
        self.days.iter().map(|day| day.day)
    }

    /// Returns those of one metric.
    pub(crate) fn season(&self, identity: &Identity<'a>) -> MetricSeason<'_> {
        let days = self.days.iter().filter_map(|day| Some((day.metrics.get(identity)?, &day.served)));
        MetricSeason { days: days.collect(), width_s: self.width_s, start_s: self.start_s }
    }
}

impl MetricSeason<'_> {
    /// Returns by how much a level may be worse in `window` by the hour alone, where it is `reference` before the start, moves by
    /// `noise` without reason, and is worse by more of `sign`.
    pub(crate) fn excused(
        &self,
        (each, reading): (Each, usize),
        window: Interval,
        (reference, noise): (f64, f64),
        sign: f64,
    ) -> f64 {
        let (from, to) = (window.from.0 / 1_000_000_000, window.to.0 / 1_000_000_000);
        let told = self.days.iter().filter_map(|(levels, served)| {
            let level = |second: &u64, told: &Told| each.value(*told, served.get(second).copied(), reading);
            let before = levels.range(..=self.start_s.saturating_sub(self.width_s));
            let before = before.rev().find_map(|(second, told)| level(second, told))?;
            let around = levels.range(from.saturating_sub(self.width_s - 1)..to);
            let mut after = around.filter_map(|(second, told)| level(second, told)).peekable();
            after.peek()?;
            let grown = after.filter(|after| sign * (after - before) > noise).map(|after| {
                let times = if before > 0.0 { (after / before).clamp(0.0, GROWTH_MAX) } else { 1.0 };
                (sign * (after - before)).max(sign * (times - 1.0) * reference.abs())
            });
            Some(grown.fold(0.0, f64::max))
        });
        let bounded = |grown: f64| grown.min(ALONE * reference.abs());
        // The days are in order: the last is the same weekday, where it is known.
        match told.collect::<Vec<f64>>().as_slice() {
            [] => 0.0,
            [one] => bounded(*one),
            [.., yesterday, week_ago] => yesterday.min(*week_ago).max(bounded(*week_ago)),
        }
    }
}
