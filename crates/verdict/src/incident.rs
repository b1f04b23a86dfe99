//! The one incident within the hour before: a stretch of time in which far more failed, or was slow, than in the rest of it.
//!
//! An outage that is over says nothing of what is usual. Left in, it would make the control's share of failures a multiple of what it
//! is, move the edges of latency into itself, and stand against the candidate as if it were health. So its buckets are left out of
//! all that the candidate is held against; only how bursty counts are still knows of it ([`crate::dispersion::Bursts`]).
//!
//! What counts as one: the stretch with the largest excess over a line well above the median of the time before, where the rest holds
//! no second one like it (what recurs is usual), where it takes less than half of the time, and where it was over before the start
//! (what the deploy came upon may well go on).
//!
//! *Invariants.* It follows from the time before the start alone, so nothing that the candidate does moves it.

use std::collections::BTreeMap;

use plimsoll_model::signal::{AgeClass, Histogram, OperationCell};
use plimsoll_model::{Bucket, Interval};

use crate::tally::Tally;

/// Requests that tell a share of what is bad.
const CHUNK: f64 = 20.0;
/// Observations that tell a p95.
const CHUNK_TIMED: u64 = 50;
/// Such chunks without which no time is usual.
const CHUNKS_MIN: usize = 12;
/// What is bad in it counts from so many times the median on, and by so much more.
const RATIO: f64 = 3.0;
const POINTS: f64 = 0.02;
/// Times the share of the rest that it has as a whole.
const RATIO_OF_REST: f64 = 5.0;
/// Bad ones without which it is none.
const BAD_MIN: f64 = 20.0;
/// One over what the second largest excess may be of the largest.
const ALONE: f64 = 4.0;
/// Buckets that it lasts at least, and for which it has been over.
const BUCKETS_MIN: u64 = 3;

/// A stretch of time before the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Incident {
    /// Its first and last bucket.
    pub(crate) from: Bucket,
    pub(crate) to: Bucket,
    /// The share of requests that were bad in it; infinite for an operation that had no part in it.
    pub(crate) share: f64,
}

impl Incident {
    /// How many buckets it lasted.
    pub(crate) fn buckets(&self) -> u64 {
        self.to.0 - self.from.0 + 1
    }

    /// The same with the share that a part of the service had; `None` where hardly anything of the part lies outside of it, as of a
    /// batch that ran in that time alone.
    fn of_part(self, counted: &[Counted]) -> Option<Self> {
        let sum = |inside: bool| {
            let those = counted.iter().filter(|(bucket, ..)| self.contains(*bucket) == inside);
            those.fold((0.0, 0.0), |sum, (_, bad, all)| (sum.0 + bad, sum.1 + all))
        };
        let share = |(bad, all): (f64, f64)| if all > 0.0 { bad / all } else { 0.0 };
        let (inside, outside) = (sum(true), sum(false));
        let (during, usual) = (share(inside), share(outside));
        let share = if during > line(usual) { during } else { f64::INFINITY };
        (inside.1 <= outside.1).then_some(Self { share, ..self })
    }

    fn contains(&self, bucket: Bucket) -> bool {
        (self.from..=self.to).contains(&bucket)
    }

    /// When it was.
    pub(crate) fn span(&self) -> Interval {
        Interval { from: self.from.start(), to: self.to.end() }
    }
}

/// What the candidate did that resembles an incident before the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outlasting {
    /// From here on it lasts longer.
    pub(crate) from: Bucket,
    /// Bad and all requests in it.
    pub(crate) inside: (f64, f64),
}

/// A bucket with what was bad of it, and all.
pub(crate) type Counted = (Bucket, f64, f64);

/// A stretch of `counted`, by places, and its excess.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stretch {
    pub(crate) from: usize,
    /// The place after its last.
    pub(crate) to: usize,
    pub(crate) excess: f64,
}

/// Returns the stretch that has the largest excess over a share of `line`; it is empty where nothing exceeds it.
pub(crate) fn largest(counted: &[Counted], line: f64) -> Stretch {
    let mut best = Stretch::default();
    let (mut from, mut sum) = (0, 0.0);
    for (at, (_, bad, all)) in counted.iter().enumerate() {
        if sum <= 0.0 {
            (from, sum) = (at, 0.0);
        }
        sum += bad - line * all;
        if sum > best.excess {
            best = Stretch { from, to: at + 1, excess: sum };
        }
    }
    best
}

/// Finds the incident in what was counted before `start`, ascending by bucket.
pub(crate) fn find(counted: &[Counted], start: Bucket) -> Option<Incident> {
    let shares = chunks(
        counted,
        |sum: &(f64, f64)| sum.1 >= CHUNK,
        |sum: &(f64, f64)| Some(sum.0 / sum.1),
        |sum, (_, bad, all)| {
            *sum = (sum.0 + bad, sum.1 + all);
        },
    );
    let line = line(median(shares)?);
    let worst = largest(counted, line);
    let inside = counted.get(worst.from..worst.to).filter(|inside| !inside.is_empty())?;
    let (before, after) = (&counted[..worst.from], &counted[worst.to..]);
    let second = largest(before, line).excess.max(largest(after, line).excess);
    let sum = |part: &[Counted]| part.iter().fold((0.0, 0.0), |sum, (_, bad, all)| (sum.0 + bad, sum.1 + all));
    let ((bad, all), (earlier, later)) = (sum(inside), (sum(before), sum(after)));
    let rest = (earlier.0 + later.0, earlier.1 + later.1);
    let (first, last) = (inside.first()?.0, inside.last()?.0);
    let incident = Incident { from: first, to: last, share: bad / all.max(1.0) };
    let length = start.0.saturating_sub(counted.first()?.0.0);
    let short = 2 * incident.buckets() <= length && all <= rest.1;
    let over = last.0 + BUCKETS_MIN < start.0 && later.1 >= CHUNK;
    let far_above = bad >= BAD_MIN && bad * rest.1 >= RATIO_OF_REST * rest.0 * all;
    (incident.buckets() >= BUCKETS_MIN && short && over && far_above && ALONE * second <= worst.excess)
        .then_some(incident)
}

/// Failures by bucket of all operations together, beyond the median share of each: a change of what is asked of the service makes none.
pub(crate) fn unusual<'a>(
    operations: impl Iterator<Item = &'a Vec<(Bucket, AgeClass, &'a OperationCell)>>,
) -> BTreeMap<Bucket, f64> {
    let mut found: BTreeMap<Bucket, f64> = BTreeMap::new();
    for cells in operations {
        let (mut failed, mut all) = (0, 0);
        cells.iter().for_each(|(.., cell)| (failed, all) = (failed + cell.errors, all + cell.requests));
        if failed == 0 {
            continue;
        }
        let shares = chunks(
            cells,
            |sum: &(f64, f64)| sum.1 >= CHUNK,
            |sum| Some(sum.0 / sum.1),
            |sum, (.., cell)| *sum = (sum.0 + cell.errors.min(cell.requests) as f64, sum.1 + cell.requests as f64),
        );
        // Of few requests the share of all of them is what is known.
        let usual = median(shares).unwrap_or(failed as f64 / all.max(1) as f64);
        for (bucket, _, cell) in cells {
            *found.entry(*bucket).or_default() += cell.errors as f64 - usual * cell.requests as f64;
        }
    }
    found.values_mut().for_each(|beyond| *beyond = beyond.max(0.0));
    found
}

/// The share from which on what is bad is far above a share of `usual`.
fn line(usual: f64) -> f64 {
    (RATIO * usual).max(usual + POINTS)
}

/// Sums neighbours up until they are enough, and returns what each such sum tells.
fn chunks<S: Default, T: Copy, V>(
    of: &[T],
    enough: impl Fn(&S) -> bool,
    tells: impl Fn(&S) -> Option<V>,
    add: impl Fn(&mut S, T),
) -> Vec<V> {
    let mut told = Vec::new();
    let mut sum = S::default();
    for one in of {
        add(&mut sum, *one);
        if enough(&sum) {
            told.extend(tells(&sum));
            sum = S::default();
        }
    }
    told
}

/// Returns how many observations lie above a place, and all.
fn above(histogram: &Histogram, edge: i16) -> (u64, u64) {
    histogram
        .0
        .iter()
        .fold((0, 0), |sum, (index, count)| (sum.0 + if *index > edge { *count } else { 0 }, sum.1 + count))
}

fn median<V: PartialOrd + Copy>(mut of: Vec<V>) -> Option<V> {
    if of.len() < CHUNKS_MIN {
        return None;
    }
    of.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    Some(of[of.len() / 2])
}

/// What is left out of the time before of one operation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Incidents {
    /// In which requests failed: its own, or else the service's.
    pub(crate) errors: Option<Incident>,
    /// In which they were slow.
    pub(crate) latency: Option<Incident>,
}

impl Incidents {
    /// Finds those of an operation in its cells before `start`; `service` is that of all operations together.
    pub(crate) fn of(before: &[(Bucket, AgeClass, &OperationCell)], start: Bucket, service: Option<Incident>) -> Self {
        let counted = |count: &dyn Fn(&OperationCell) -> (u64, u64)| {
            let mut buckets: Vec<Counted> = Vec::new();
            for (bucket, _, cell) in before {
                let (bad, all) = count(cell);
                match buckets.last_mut() {
                    Some(last) if last.0 == *bucket => *last = (*bucket, last.1 + bad as f64, last.2 + all as f64),
                    _ => buckets.push((*bucket, bad as f64, all as f64)),
                }
            }
            buckets
        };
        let failed = counted(&|cell| (cell.errors.min(cell.requests), cell.requests));
        let errors = find(&failed, start).or_else(|| service.and_then(|incident| incident.of_part(&failed)));
        let mut chunk = Tally::default();
        let mut p95s = Vec::new();
        for (.., cell) in before {
            chunk.add(&cell.latency);
            if chunk.count() >= CHUNK_TIMED {
                p95s.extend(chunk.quantile_index(0.95));
                chunk.clear();
            }
        }
        let slow = |edge: i16| find(&counted(&|cell| above(&cell.latency, edge)), start);
        let latency = median(p95s).and_then(slow);
        let both = Self { errors, latency };
        let length = before.first().map_or(0, |first| start.0.saturating_sub(first.0.0));
        if 2 * both.buckets(|_| true) > length { Self { latency: None, ..both } } else { both }
    }

    /// Those that there are, each bucket in one of them only where they do not overlap.
    fn all(&self) -> impl Iterator<Item = Incident> {
        self.errors.into_iter().chain(self.latency)
    }

    /// Says whether a bucket is left out.
    pub(crate) fn contain(&self, bucket: Bucket) -> bool {
        self.all().any(|incident| incident.contains(bucket))
    }

    /// Says whether anything is left out.
    pub(crate) fn any(&self) -> bool {
        self.all().next().is_some()
    }

    /// When they were.
    pub(crate) fn spans(&self) -> Vec<Interval> {
        self.all().map(|incident| incident.span()).collect()
    }

    /// How many buckets are left out, of those that count.
    fn buckets(&self, counts: impl Fn(u64) -> bool) -> u64 {
        let own = self.errors.map_or(0, |one| (one.from.0..=one.to.0).filter(|bucket| counts(*bucket)).count());
        let outside = |bucket: &u64| self.errors.is_none_or(|errors| !errors.contains(Bucket(*bucket)));
        let slow = |one: Incident| (one.from.0..=one.to.0).filter(|b| counts(*b)).filter(outside).count();
        (own + self.latency.map_or(0, slow)) as u64
    }

    /// How many buckets are left out from `first` on.
    pub(crate) fn since(&self, first: Bucket) -> u64 {
        self.buckets(|bucket| bucket >= first.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000;

    fn past(bad: impl Fn(u64) -> f64, all: f64) -> Vec<Counted> {
        (START - 360..START).map(|bucket| (Bucket(bucket), bad(START - bucket), all)).collect()
    }

    /// One failure in every fifth bucket.
    fn quiet(before: u64) -> f64 {
        f64::from(u8::from(before.is_multiple_of(5)))
    }

    #[test]
    fn an_outage_of_any_length_up_to_half_of_the_hour_is_found_where_it_was() {
        for (from, to, share) in [(30, 27, 1.0), (60, 6, 0.5), (96, 6, 0.2), (200, 40, 0.3)] {
            let counted =
                past(|before| if (to..=from).contains(&before) { 100.0 * share } else { quiet(before) }, 100.0);
            let found = find(&counted, Bucket(START)).expect("an incident");
            assert_eq!((found.from, found.to), (Bucket(START - from), Bucket(START - to)), "{share}");
            assert!((found.share - share).abs() < 0.01, "{found:?}");
        }
    }

    #[test]
    fn what_is_usual_recurs_or_goes_on_is_none() {
        let none = |bad: &dyn Fn(u64) -> f64| assert_eq!(find(&past(bad, 100.0), Bucket(START)), None);
        none(&quiet);
        none(&|_| 50.0);
        none(&|before| if before > 170 { 50.0 } else { quiet(before) });
        none(&|before| if before <= 60 { 50.0 } else { quiet(before) });
        none(&|before| if before % 60 < 6 { 50.0 } else { quiet(before) });
        none(&|before| if before == 100 { 100.0 } else { quiet(before) });
        none(&|before| if (90..100).contains(&before) { 2.0 } else { quiet(before) });
    }

    #[test]
    fn little_traffic_tells_an_outage_and_nothing_else() {
        let found = |bad: &dyn Fn(u64) -> f64| find(&past(bad, 2.0), Bucket(START));
        let outage = found(&|before| if (50..110).contains(&before) { 1.0 } else { 0.0 }).expect("an incident");
        assert_eq!((outage.from, outage.to), (Bucket(START - 109), Bucket(START - 50)));
        assert_eq!(found(&|before| f64::from(u8::from(before % 10 == 3))), None);
    }
}
