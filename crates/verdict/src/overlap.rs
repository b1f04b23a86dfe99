//! Of two deploys of one service that overlap, whose is what got worse: a release, and minutes later a change that keeps the version.
//!
//! Both are judged over the same requests from the later one's start on. What is told apart is when it began. Over the candidate's
//! buckets `b` before that moment `T` of which `k_b` of `n_b` requests were bad,
//!
//! ```text
//! L(t) = sum over t <= b < T of  [k_b ln(r1 / r0) - n_b (r1 - r0)] / dispersion
//! ```
//!
//! is how much likelier they are at `r1`, the share of bad requests since, than at `r0`, that of all before. It began
//!
//! - *before*, where some stretch up to `T` looks like what came after: the largest `L(t)` exceeds `ln 20`;
//! - *after*, where none does and the time before rules it out: `L(t)` of a stretch of a minute at least is below `-ln 100`;
//! - nobody knows when, otherwise.
//!
//! What began after is the later one's, and what began before the former's: for the other it is a symptom, while the one that it is left
//! to tells it, or for [`PATIENCE`] in which that may. A change means the candidate where it has that version, or a label that no
//! telemetry names while that version served most.
//!
//! *Invariants.* What is said in a bucket follows from the buckets up to it, and from what the other deploys told.
//!
//! *Source.* Page, "Continuous inspection schemes" (1954), for sums of log-likelihood ratios up to a moment.

use std::collections::BTreeMap;

use plimsoll_model::signal::{OperationKind, OperationSeries};
use plimsoll_model::{Bucket, UnixNanos};
use serde::{Deserialize, Serialize};

use crate::culprit::Origin;
use crate::design::{Frame, serving_most};
use crate::fold::Fold;
use crate::gate::LASTING_REQUESTS;
use crate::input::JudgeInput;
use crate::subject::Subject;
use crate::tolerances::Tolerances;

/// Logarithms from which on a stretch before looks like what came after, and below which it does not.
const LIKE: f64 = 3.0;
const UNLIKE: f64 = -4.6;
/// Buckets without which the time before rules nothing out.
const BEFORE_MIN: u64 = 6;
/// Latest buckets that tell how bad it is, where that is worse than all since.
const LATEST: u64 = 6;
/// Buckets for which what is left to another deploy waits for that to tell it.
const PATIENCE: u64 = 30;

/// Another deploy of the service that is judged at the same time: a later one that keeps the version, or an earlier one where this
/// deploy does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Overlapping {
    /// When it started.
    pub started_at: UnixNanos,
    /// Its version, or what its marker says in place of one.
    pub version: String,
    /// True where it is called regressed.
    pub told: bool,
}

/// Bad and all requests of the candidate in one bucket.
type Counted = (Bucket, f64, f64);

/// When something began, as seen from one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Began {
    Before,
    After,
    Unknown,
}

/// The deploys that overlap, of those that mean the candidate's version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlaps {
    /// All of them, as they were handed in.
    pub(crate) all: Vec<Overlapping>,
    /// Later ones, the latest first; and earlier ones, likewise.
    later: Vec<Overlapping>,
    earlier: Vec<Overlapping>,
    start: Bucket,
    /// Failed and all requests of the candidate's version between the earlier start and this one, by operation.
    before: BTreeMap<(String, OperationKind), BTreeMap<Bucket, (f64, f64)>>,
}

impl Overlaps {
    /// Finds those that bear on the candidate.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        let mut overlaps = Self { all: input.overlapping.clone(), start: frame.start, ..Self::default() };
        if overlaps.all.is_empty() {
            return overlaps;
        }
        let own: Vec<&OperationSeries> = input.series.iter().filter(|s| s.key.service == frame.service).collect();
        let means = |other: &&Overlapping| {
            let named = own.iter().any(|s| s.key.version == other.version);
            let serving = || serving_most(&own, other.started_at.bucket()) == Some(frame.version.as_str());
            other.version == frame.version || (!named && serving())
        };
        let mut meant: Vec<Overlapping> = overlaps.all.iter().filter(means).cloned().collect();
        meant.sort_by(|one, other| other.cmp(one));
        (overlaps.later, overlaps.earlier) =
            meant.into_iter().partition(|other| other.started_at > input.deploy.started_at);
        let Some(from) = overlaps.earlier.last().map(|other| other.started_at.bucket()) else { return overlaps };
        for series in own.iter().filter(|s| s.key.version == frame.version) {
            let buckets = overlaps.before.entry((series.key.operation.clone(), series.key.kind)).or_default();
            for (bucket, cell) in series.cells.iter().filter(|(bucket, _)| *bucket >= from && *bucket < frame.start) {
                let sum = buckets.entry(*bucket).or_default();
                *sum = (sum.0 + cell.errors as f64, sum.1 + cell.requests as f64);
            }
        }
        overlaps
    }
}

impl Fold {
    /// Returns the version of the deploy to which what a test shows by `now` belongs, where that is not this one.
    pub(crate) fn overlapping(&self, subject: Subject, now: Bucket, tolerances: &Tolerances) -> Option<&str> {
        let overlaps = &self.overlaps;
        if overlaps.later.is_empty() && overlaps.earlier.is_empty() {
            return None;
        }
        let standing = self.standing(subject);
        let waits = |other: &&Overlapping| other.told || standing.exceeded_at.is_none_or(|at| now.0 < at.0 + PATIENCE);
        let counted = self.counted(subject, now, tolerances);
        let dispersion = standing.dispersion;
        let after = |other: &&Overlapping| {
            let at = other.started_at.bucket();
            at <= now
                && standing.triggered_at.is_none_or(|triggered| triggered >= at)
                && began(&counted, at, dispersion) == Began::After
        };
        if let Some(other) = overlaps.later.iter().filter(waits).find(after) {
            return Some(&other.version);
        }
        let (Subject::Errors(index) | Subject::Alone(index)) = subject else { return None };
        let op = &self.operations[index];
        let before = overlaps.before.get(&(op.name.clone(), op.kind))?;
        let whole: Vec<Counted> =
            before.iter().map(|(bucket, (bad, all))| (*bucket, *bad, *all)).chain(counted).collect();
        let mut earlier = overlaps.earlier.iter().filter(waits);
        let earlier = earlier.next()?;
        (began(&whole, overlaps.start, dispersion) == Began::Before).then_some(&earlier.version)
    }

    /// Counts what a test is about, bucket by bucket up to `now`; nothing where it is about no bad requests.
    fn counted(&self, subject: Subject, now: Bucket, tolerances: &Tolerances) -> Vec<Counted> {
        let recent = |index: usize| self.operations[index].recent.iter().take_while(|recent| recent.bucket <= now);
        match subject {
            Subject::Errors(index) | Subject::Alone(index) => {
                recent(index).map(|r| (r.bucket, f64::from(r.errors), f64::from(r.requests))).collect()
            }
            Subject::Latency(index) => {
                recent(index).map(|r| (r.bucket, f64::from(r.tail[0]), f64::from(r.timed))).collect()
            }
            Subject::New(fingerprint) | Subject::NewLog(fingerprint) => {
                let novelty = if matches!(subject, Subject::New(_)) { &self.novelty } else { &self.logs };
                let Some(seen) = novelty.all.get(&fingerprint) else { return Vec::new() };
                let times = |bucket: Bucket| seen.candidate.get(&bucket).copied().unwrap_or(0) as f64;
                novelty.traffic.iter().map(|(bucket, all, _)| (*bucket, times(*bucket), *all as f64)).collect()
            }
            Subject::Calls(..) | Subject::LogErrors | Subject::LogFlow(_) | Subject::Action(_) | Subject::Path(_) => {
                let from = self.first.map_or(now.0 + 1, |first| first.0);
                let told = |bucket: Bucket| {
                    let told = self.told(subject, bucket, bucket, tolerances)?;
                    Some((bucket, told.hits, told.all))
                };
                (from..=now.0).map(Bucket).filter_map(told).collect()
            }
            Subject::Metric(_) | Subject::Restarts | Subject::Throughput | Subject::Silence => Vec::new(),
        }
    }

    /// Says that the cause lies in the deploy to which it belongs, where that is another.
    pub(crate) fn left_to_another(
        &self,
        subject: Subject,
        origin: Origin,
        now: Bucket,
        tolerances: &Tolerances,
    ) -> Origin {
        if origin.elsewhere {
            return origin;
        }
        match self.overlapping(subject, now, tolerances) {
            Some(version) => {
                let culprit = plimsoll_model::Culprit { version: version.to_owned(), ..origin.culprit };
                Origin { culprit, elsewhere: true, ..origin }
            }
            None => origin,
        }
    }
}

/// Says when what is bad began, as seen from `at`.
fn began(counted: &[Counted], at: Bucket, dispersion: f64) -> Began {
    let split = counted.partition_point(|(bucket, ..)| *bucket < at);
    let (before, since) = counted.split_at(split);
    let sum = |counted: &[Counted]| counted.iter().fold((0.0, 0.0), |sum, (_, bad, all)| (sum.0 + bad, sum.1 + all));
    let (Some(first), Some(last)) = (before.first(), since.last()) else { return Began::Unknown };
    let latest = since.partition_point(|(bucket, ..)| bucket.0 + LATEST <= last.0.0);
    let usual = (sum(before).0 + 0.5) / (sum(before).1 + 1.0);
    let enough = [since, &since[latest..]].into_iter().map(sum).filter(|(_, all)| *all >= LASTING_REQUESTS);
    let worse = enough.map(|(bad, all)| bad / all).fold(0.0, f64::max);
    if worse <= usual {
        return Began::Unknown;
    }
    let (mut likelier, mut most, mut least) = (0.0, 0.0_f64, 0.0_f64);
    for (bucket, bad, all) in before.iter().rev() {
        likelier += (bad * (worse / usual).ln() - all * (worse - usual)) / dispersion.max(1.0);
        most = most.max(likelier);
        if at.0 - bucket.0 >= BEFORE_MIN {
            least = least.min(likelier);
        }
    }
    match (most, least) {
        _ if at.0 - first.0.0 < BEFORE_MIN => Began::Unknown,
        (most, _) if most >= LIKE => Began::Before,
        (_, least) if least <= UNLIKE => Began::After,
        _ => Began::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred requests a bucket, of which two in a thousand fail, and from a bucket on so many of a hundred.
    fn failing(from: u64, failures: f64) -> Vec<Counted> {
        (0..60).map(|b| (Bucket(b), if b >= from { failures } else { f64::from(b % 5 == 0) }, 100.0)).collect()
    }

    #[test]
    fn what_began_is_told_by_the_buckets_up_to_a_moment() {
        let told = |from: u64, failures: f64, at: u64| began(&failing(from, failures), Bucket(at), 1.0);
        assert_eq!(told(40, 8.0, 40), Began::After);
        assert_eq!(told(50, 8.0, 40), Began::After, "long after");
        assert_eq!(told(37, 8.0, 40), Began::Before, "half a minute before");
        assert_eq!(told(0, 8.0, 40), Began::Unknown, "all the while");
        assert_eq!(told(60, 0.0, 40), Began::Unknown, "nothing began");
        assert_eq!(told(4, 8.0, 4), Began::Unknown, "it had hardly served before");
    }

    #[test]
    fn few_requests_rule_nothing_out() {
        let few: Vec<Counted> = (0..60).map(|b| (Bucket(b), if b >= 40 { 0.08 } else { 0.0 }, 1.0)).collect();
        assert_eq!(began(&few, Bucket(40), 1.0), Began::Unknown);
    }
}
