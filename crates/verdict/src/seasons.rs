//! The same hours of days before: what the service always does at this hour.
//!
//! A day tells by ten minutes around the same moment, held against the hour before it on that day. One day alone may have
//! had an incident of its own, so days that agree excuse all of what both show; what only the same weekday shows, or the only
//! day that is known, is excused up to a bound; and what yesterday alone shows while a week ago nothing was is no season. Of
//! how traffic went the larger loss counts: it excuses a loss of traffic and nothing else. A day on which the service was
//! changed within those hours is left out, because it may show that change's own harm.
//!
//! How much failures vary on such a day without any reason is measured from the hour before.

use std::collections::BTreeMap;

use plimsoll_model::UnixNanos;

use crate::design::Frame;
use crate::dispersion;
use crate::drift::{Change, Excused, Fared, Level, REQUESTS_MIN};
use crate::input::JudgeInput;

/// Days before at which the same hours are looked up.
pub(crate) const DAYS: [u32; 2] = [1, 7];
/// What one day without another that agrees may excuse: times the failures, share of requests, times the latency.
const ALONE: Fared = Fared { errors: 4.0, points: 0.02, latency: 1.5 };

/// How one day went at this hour.
pub(crate) struct Season {
    before: Level,
    /// Variance over mean of its failures.
    dispersion: f64,
    /// By second of its start, as if it were today.
    after: BTreeMap<u64, Level>,
    /// The end of what is looked at.
    from_s: u64,
    end_s: u64,
    width_s: u64,
}

impl Season {
    /// How it changed around `bucket`; a stretch of ten minutes around it tells.
    fn at(&self, bucket: u64) -> Change {
        let second = bucket * 10;
        let (from, to) = if self.width_s >= 600 {
            (second.saturating_sub(599), second)
        } else {
            (second.saturating_sub(300), second + 300)
        };
        let mut level = Level::default();
        self.after.range(from..=to).for_each(|(_, here)| level.add(here));
        Change { fared: level.fared_since(&self.before, self.dispersion), traffic: self.lowest(second) }
    }

    /// The lowest share of the traffic before around `second`, a minute earlier or later by the day included.
    fn lowest(&self, second: u64) -> Option<f64> {
        let width = self.width_s;
        let around = 300.max(width);
        let first = second.saturating_sub(around).max((self.from_s + 1).saturating_sub(width)).div_ceil(width) * width;
        let last = (second + around).min(self.end_s.saturating_sub(1)) / width * width;
        let here: Vec<f64> = (first..=last)
            .step_by(width as usize)
            .map(|at| self.after.get(&at).map_or(0.0, |level| level.requests))
            .collect();
        let usual = self.before.expected_in(width as f64);
        // So many of them that some requests were to come.
        let together = (REQUESTS_MIN / usual.max(1e-9)).ceil().max(1.0) as usize;
        let expected = usual * together as f64;
        let lowest = here.windows(together).map(|part| part.iter().sum::<f64>()).min_by(f64::total_cmp)?;
        // The lowest of many is lower than any by chance; none at all is none.
        Some(if lowest > 0.0 { (lowest + expected.sqrt()) / expected } else { 0.0 })
    }
}

/// What the same hours excuse in `bucket`.
pub(crate) fn excused(seasons: &[(u32, Season)], bucket: u64) -> Excused {
    let told: Vec<(u32, Change)> = seasons.iter().map(|(day, season)| (*day, season.at(bucket))).collect();
    let traffic = told.iter().map(|(_, change)| change.excused().traffic).fold(1.0, f64::max);
    let fared: Vec<Excused> =
        told.iter().filter(|(_, change)| change.fared.is_some()).map(|(_, change)| change.excused()).collect();
    let bounded = |one: &Excused| Excused {
        errors: one.errors.min(ALONE.errors),
        points: one.points.min(ALONE.points),
        latency: one.latency.min(ALONE.latency),
        ..*one
    };
    // The days are in order: the last is the same weekday, where it is known.
    let excused = match fared.as_slice() {
        [] => Excused::default(),
        [one] => bounded(one),
        [.., yesterday, week_ago] => {
            let both = Excused {
                errors: yesterday.errors.min(week_ago.errors),
                points: yesterday.points.min(week_ago.points),
                latency: yesterday.latency.min(week_ago.latency),
                ..Excused::default()
            };
            both.or(bounded(week_ago))
        }
    };
    Excused { traffic, ..excused }
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
pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Vec<(u32, Season)> {
    let mut found = Vec::new();
    for day in DAYS.into_iter().filter(|day| !changed(input, frame, *day)) {
        let shift = u64::from(day) * 86_400;
        // The finest width that holds the hours.
        for width_s in [60_u32, 600] {
            let (from, start) = (frame.earliest.0 * 10, frame.start.0 * 10);
            let end = start + input.tolerances.watch_max_s + 600;
            let (mut before, mut after) = (BTreeMap::<u64, Level>::new(), BTreeMap::<u64, Level>::new());
            for series in input.aggregates.history.iter().filter(|series| series.width_s == width_s) {
                for (at, cell) in &series.cells {
                    let Some(second) = moved(*at, shift) else { continue };
                    if second >= from && second + u64::from(width_s) <= start {
                        before.entry(second).or_default().add_history(cell);
                    } else if second + u64::from(width_s) > start && second < end {
                        after.entry(second).or_default().add_history(cell);
                    }
                }
            }
            let mut whole = Level::default();
            before.values().for_each(|level| whole.add(level));
            whole.seconds = before.len() as f64 * f64::from(width_s);
            if whole.requests >= REQUESTS_MIN {
                let failures: Vec<(f64, f64)> = before.values().map(|level| (level.errors, level.requests)).collect();
                let season = Season {
                    before: whole,
                    dispersion: dispersion::of_arm(&failures).phi.max(1.0),
                    after,
                    from_s: start,
                    end_s: end,
                    width_s: u64::from(width_s),
                };
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
