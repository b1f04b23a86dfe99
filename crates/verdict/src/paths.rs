//! Version paths: does the request at the top fail more where the candidate takes part?
//!
//! A callee that answers wrongly and says nothing breaks its callers and none of its own numbers. Every trace names the
//! versions that took part, so requests at the top are compared between traces through the candidate and traces through the
//! control, in strata of equal versions of everybody else: a stratified table of Mantel and Haenszel, tested bucket by bucket
//! by the same process as errors. Where the control no longer serves, the time before stands for it, lane by lane.
//!
//! The same table, summed, tells two deploys apart: for the version of every service that took part the odds of failure are
//! set against its other versions, with all others' versions held equal. Who is blamed although his odds are even, while
//! another's are not, is innocent ([`Paths::instead`]). Failures are always those that are to be excused: at the top for
//! what shows at the top, and of the judged service's own requests for what shows there. What a caller swallowed never
//! reaches the top, and that the top is well acquits nobody of it.
//!
//! *Source.* Mantel and Haenszel (1959); Robins, Breslow and Greenland (1986) for the variance of the logarithm.

use std::collections::BTreeMap;

use plimsoll_model::aggregates::{Participant, PathCell, PathSeries};
use plimsoll_model::signal::AgeClass;
use plimsoll_model::{Bucket, Design, ServiceKey};

use crate::counts::Counts;
use crate::dealing::Dealing;
use crate::design::{Frame, Role};
use crate::dispersion::Measure;
use crate::errors::ErrorTest;
use crate::input::JudgeInput;
use crate::lately::Lately;
use crate::slot::{ByAge, Look, Past, Slots};
use crate::tolerances::Tolerances;

/// Entries that are followed, and sets of others' versions of each.
const ENTRIES_MAX: usize = 16;
const LANES_MAX: usize = 32;
/// Traces that both arms of a table must have.
const TRACES_MIN: f64 = 50.0;
/// Odds that count as even whatever their error, and standard errors of the log odds up to which they do.
const EVEN_MAX: f64 = 1.2;
const EVEN: f64 = 2.0;
/// Standard errors from which another's odds do not.
const UNEVEN: f64 = 4.0;
/// Odds from which another version is blamed.
const ODDS_MIN: f64 = 1.5;

/// The test of one operation at the top of traces.
#[derive(Debug, Clone)]
pub(crate) struct PathTest {
    pub(crate) entry: ServiceKey,
    pub(crate) operation: String,
    pub(crate) test: ErrorTest,
    pub(crate) lately: Lately,
    /// Traces in which both the top and a request of the judged service failed, and all of them: with the candidate, with
    /// the control since the start, and before.
    both: [(f64, f64); 3],
    lanes: Vec<(Vec<Participant>, Slots, Past)>,
}

/// What traces through one path did since the start.
#[derive(Debug, Clone)]
struct Total {
    entry: ServiceKey,
    operation: String,
    path: Vec<Participant>,
    failed: f64,
    /// Traces in which a request of the judged service failed.
    own_failed: f64,
    traces: f64,
}

/// Which failures are contrasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failures {
    /// Of the request at the top.
    Top,
    /// Of requests of the judged service.
    Own,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paths {
    pub(crate) tests: Vec<PathTest>,
    totals: Vec<Total>,
    /// The judged service, as cells name it.
    party: String,
}

/// One cell of a path, with the test and lane that it belongs to.
pub(crate) struct Step<'a> {
    total: usize,
    at: Option<(usize, usize)>,
    candidate: bool,
    cell: &'a PathCell,
}

/// The version of `service` on a path, where there is just one, and everybody else.
pub(crate) fn split(path: &[Participant], namespace: &str, service: &str) -> Option<(String, Vec<Participant>)> {
    let (own, others): (Vec<_>, Vec<_>) =
        path.iter().cloned().partition(|p| p.service == service && p.namespace == namespace);
    match own.as_slice() {
        [one] => Some((one.version.clone(), others)),
        _ => None,
    }
}

impl PathTest {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let lane =
            |(path, _, past): &(Vec<Participant>, Slots, Past)| 96 * path.len() + size_of::<Slots>() + past.bytes();
        let lanes: usize = self.lanes.iter().map(lane).sum();
        size_of::<Self>() + 96 + self.test.bytes() + self.lately.bytes() + lanes
    }

    /// Failures at the top, more than the control has, that went with one of the judged service's own.
    pub(crate) fn more_with_own(&self, design: Design) -> f64 {
        let [candidate, since, before] = self.both;
        let control = if design == Design::Concurrent { since } else { before };
        candidate.0 - control.0 / control.1.max(1.0) * candidate.1
    }
}

impl Paths {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.tests.iter().map(PathTest::bytes).sum::<usize>()
            + self.totals.iter().map(|total| size_of::<Total>() + 96 * (2 + total.path.len())).sum::<usize>()
    }

    /// Starts from the time before.
    pub(crate) fn new(input: &JudgeInput, frame: &Frame, dealing: Dealing) -> Self {
        let party = PathCell::party(&frame.service.namespace, &frame.service.service);
        let mut paths = Self { party, ..Self::default() };
        let mut before: BTreeMap<usize, BTreeMap<Bucket, (f64, f64)>> = BTreeMap::new();
        for series in &input.aggregates.paths {
            let Some((version, others)) = own(series, frame) else { continue };
            let past: Vec<_> =
                series.cells.iter().filter(|(b, _)| frame.role(&version, *b) == Some(Role::Before)).collect();
            if past.is_empty() {
                continue;
            }
            let Some((test, lane)) = paths.lane(series, others, dealing) else { continue };
            for (bucket, cell) in past.into_iter().rev() {
                let Some(portion) = dealing.portion(*bucket) else { continue };
                paths.tests[test].lanes[lane].2.add(portion, AgeClass::Warm, &counts(cell));
                let both = paths.failed_both(cell);
                add(&mut paths.tests[test].both[2], both, cell);
                let sum = before.entry(test).or_default().entry(*bucket).or_default();
                *sum = (sum.0 + cell.failed as f64, sum.1 + cell.traces as f64);
            }
        }
        for (test, buckets) in before {
            paths.tests[test].test = ErrorTest::new(&buckets.into_values().collect::<Vec<_>>());
        }
        paths
    }

    /// Returns the test and the lane of a path, which may be new; `None` where there is no room.
    fn lane(&mut self, series: &PathSeries, others: Vec<Participant>, dealing: Dealing) -> Option<(usize, usize)> {
        let known = self.tests.iter().position(|t| t.entry == series.entry && t.operation == series.operation);
        let test = match known {
            Some(test) => test,
            None if self.tests.len() >= ENTRIES_MAX => return None,
            None => {
                self.tests.push(PathTest {
                    entry: series.entry.clone(),
                    operation: series.operation.clone(),
                    test: ErrorTest::new(&[]),
                    lately: Lately::default(),
                    both: [(0.0, 0.0); 3],
                    lanes: Vec::new(),
                });
                self.tests.len() - 1
            }
        };
        let lanes = &mut self.tests[test].lanes;
        if let Some(lane) = lanes.iter().position(|(known, ..)| *known == others) {
            return Some((test, lane));
        }
        (lanes.len() < LANES_MAX).then(|| {
            lanes.push((others, Slots::default(), Past::new(dealing.after)));
            (test, lanes.len() - 1)
        })
    }

    /// Sorts what is new from `from` on into buckets.
    pub(crate) fn steps<'a>(
        &mut self,
        input: &'a JudgeInput,
        frame: &Frame,
        dealing: Dealing,
        from: Bucket,
    ) -> BTreeMap<Bucket, Vec<Step<'a>>> {
        let mut steps: BTreeMap<Bucket, Vec<Step<'a>>> = BTreeMap::new();
        for series in &input.aggregates.paths {
            let fresh = || series.cells.iter().filter(|(b, _)| *b >= from.max(frame.from) && *b < frame.end);
            if fresh().next().is_none() {
                continue;
            }
            let total = self.total(series);
            let own = own(series, frame);
            let mut lane = None;
            for (bucket, cell) in fresh() {
                let role = own.as_ref().and_then(|(version, _)| frame.role(version, *bucket));
                let compared = matches!(role, Some(Role::Candidate | Role::Control));
                if compared && lane.is_none() {
                    lane = own.as_ref().and_then(|(_, others)| self.lane(series, others.clone(), dealing));
                }
                let at = lane.filter(|_| compared);
                steps.entry(*bucket).or_default().push(Step {
                    total,
                    at,
                    candidate: role == Some(Role::Candidate),
                    cell,
                });
            }
        }
        steps
    }

    fn total(&mut self, series: &PathSeries) -> usize {
        let same = |t: &Total| t.entry == series.entry && t.operation == series.operation && t.path == series.path;
        self.totals.iter().position(same).unwrap_or_else(|| {
            let (entry, operation, path) = (series.entry.clone(), series.operation.clone(), series.path.clone());
            self.totals.push(Total { entry, operation, path, failed: 0.0, own_failed: 0.0, traces: 0.0 });
            self.totals.len() - 1
        })
    }

    /// Takes one bucket.
    pub(crate) fn push(&mut self, look: Look, steps: &[Step<'_>], tolerances: &Tolerances) {
        for step in steps {
            let total = &mut self.totals[step.total];
            total.traces += step.cell.traces as f64;
            total.failed += step.cell.failed as f64;
            total.own_failed += step.cell.failed_within.get(&self.party).copied().unwrap_or(0) as f64;
            if let Some((test, _)) = step.at {
                let both = self.failed_both(step.cell);
                add(&mut self.tests[test].both[usize::from(!step.candidate)], both, step.cell);
            }
        }
        for (index, test) in self.tests.iter_mut().enumerate() {
            let own = steps.iter().filter(|step| step.candidate && step.at.is_some_and(|(test, _)| test == index));
            let (failed, traces) = own
                .map(|step| counts(step.cell))
                .fold((0.0, 0.0), |sum, counts| (sum.0 + counts.errors, sum.1 + counts.requests));
            test.lately.push(look.bucket, failed, traces);
            for (at, (_, slots, past)) in test.lanes.iter_mut().enumerate() {
                let mut arms = [ByAge::default(); 2];
                for step in steps.iter().filter(|step| step.at == Some((index, at))) {
                    arms[usize::from(!step.candidate)][AgeClass::Warm as usize].add(&counts(step.cell));
                }
                let mut pairs = Vec::new();
                slots.push(look, [&arms[0], &arms[1]], past, &mut |pair| pairs.push(pair));
                for pair in &pairs {
                    test.test.push(pair, Measure { phi: 2.0, pairs: 2.0 }, tolerances);
                }
            }
        }
    }

    /// Traces in which a request of the judged service failed, and the one at the top with it.
    fn failed_both(&self, cell: &PathCell) -> f64 {
        cell.failed_both.get(&self.party).copied().unwrap_or(0) as f64
    }

    /// Names whose version explains the failures, where the judged one's does not although both could be told; `None` where
    /// none of them is known to have been seen in a path.
    pub(crate) fn instead(&self, frame: &Frame, failures: Failures) -> Option<Participant> {
        let service = &frame.service;
        if failures == Failures::Own && self.totals.iter().all(|total| total.own_failed <= 0.0) {
            return None;
        }
        let own = self.odds(&service.namespace, &service.service, &frame.version, failures)?;
        if own.errors() >= EVEN && own.log >= EVEN_MAX.ln() {
            return None;
        }
        let mut others: Vec<&Participant> = self.totals.iter().flat_map(|total| &total.path).collect();
        others.retain(|p| p.service != service.service || p.namespace != service.namespace);
        others.sort_unstable();
        others.dedup();
        let told =
            others.into_iter().filter_map(|p| Some((self.odds(&p.namespace, &p.service, &p.version, failures)?, p)));
        let most = told.max_by(|(a, _), (b, _)| a.errors().total_cmp(&b.errors()));
        most.filter(|(odds, _)| odds.errors() >= UNEVEN && odds.log >= ODDS_MIN.ln()).map(|(_, p)| p.clone())
    }

    /// Traces through the candidate in which a request of the judged service failed.
    pub(crate) fn own_failures(&self, frame: &Frame) -> f64 {
        let of_candidate = |total: &&Total| {
            let own = split(&total.path, &frame.service.namespace, &frame.service.service);
            own.is_some_and(|(version, _)| version == frame.version)
        };
        self.totals.iter().filter(of_candidate).map(|total| total.own_failed).sum()
    }

    /// Odds of failure under one version of a service against its others, all else equal.
    fn odds(&self, namespace: &str, service: &str, version: &str, failures: Failures) -> Option<Odds> {
        let mut strata: BTreeMap<_, [(f64, f64); 2]> = BTreeMap::new();
        for Total { entry, operation, path, failed, own_failed, traces } in &self.totals {
            let failed = if failures == Failures::Own { own_failed } else { failed };
            let Some((own, others)) = split(path, namespace, service) else { continue };
            let arm = &mut strata.entry((entry, operation, others)).or_default()[usize::from(own != version)];
            *arm = (arm.0 + failed, arm.1 + traces);
        }
        Odds::of(strata.into_values())
    }
}

fn own(series: &PathSeries, frame: &Frame) -> Option<(String, Vec<Participant>)> {
    // What the service does at the top itself is told by its own operations.
    let top = series.entry == frame.service;
    split(&series.path, &frame.service.namespace, &frame.service.service).filter(|_| !top)
}

fn add(to: &mut (f64, f64), both: f64, cell: &PathCell) {
    *to = (to.0 + both, to.1 + cell.traces as f64);
}

fn counts(cell: &PathCell) -> Counts {
    Counts { requests: cell.traces as f64, errors: cell.failed.min(cell.traces) as f64, ..Counts::default() }
}

/// A common odds ratio over strata.
#[derive(Debug, Clone, Copy)]
struct Odds {
    log: f64,
    variance: f64,
}

impl Odds {
    /// Takes `(failed, all)` of both arms; `None` where too little was seen in strata that both arms have.
    fn of(strata: impl Iterator<Item = [(f64, f64); 2]>) -> Option<Self> {
        let (mut r, mut s, mut pr, mut ps_qr, mut qs) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (mut n_b, mut n_a) = (0.0, 0.0);
        for [(bad_b, all_b), (bad_a, all_a)] in strata.filter(|[b, a]| b.1 > 0.0 && a.1 > 0.0) {
            // Half a trace in each cell keeps the odds finite.
            let (a, b, c, d) = (bad_b + 0.5, all_b - bad_b + 0.5, bad_a + 0.5, all_a - bad_a + 0.5);
            let n = a + b + c + d;
            let (p, q, ri, si) = ((a + d) / n, (b + c) / n, a * d / n, b * c / n);
            (n_b, n_a) = (n_b + all_b, n_a + all_a);
            (r, s) = (r + ri, s + si);
            (pr, ps_qr, qs) = (pr + p * ri, ps_qr + p * si + q * ri, qs + q * si);
        }
        (n_b >= TRACES_MIN && n_a >= TRACES_MIN).then(|| Self {
            log: (r / s).ln(),
            variance: pr / (2.0 * r * r) + ps_qr / (2.0 * r * s) + qs / (2.0 * s * s),
        })
    }

    /// Standard errors from even.
    fn errors(&self) -> f64 {
        self.log / self.variance.max(1e-12).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_agree_with_a_published_table_and_ignore_a_confounder() {
        // Two strata with odds of 2 each; pooled they would be far from it.
        let strata = [[(20.0, 120.0), (10.0, 110.0)], [(100.0, 200.0), (500.0, 1_500.0)]];
        let odds = Odds::of(strata.into_iter()).expect("enough traces");
        assert!((odds.log - 2.0_f64.ln()).abs() < 0.03, "{odds:?}");
        assert!(odds.errors() > 4.0);
        // All failures go with the other service's version: within strata there is nothing.
        let confounded = [[(1.0, 100.0), (9.0, 900.0)], [(450.0, 900.0), (50.0, 100.0)]];
        let odds = Odds::of(confounded.into_iter()).expect("enough traces");
        assert!(odds.errors().abs() < 1.0, "{odds:?}");
        assert!(Odds::of([[(9.0, 900.0), (0.0, 0.0)], [(0.0, 0.0), (9.0, 900.0)]].into_iter()).is_none());
    }
}
