//! Minutes in which a service suffers from others: what its metrics do then is no doing of the deploy's.
//!
//! Levels know nothing of traces. A gauge of orders that succeed falls with each outage of the payment service, whoever was deployed
//! before. So each minute of the candidate is asked what others did to the service:
//! - *failed*: of an operation's requests those whose failure began in another service, or in a call to one that was down
//!   ([`crate::unanswered`]), beyond what is usual; or as many of its calls as fail there by the callee's own requests, and those that it
//!   does not make meanwhile. What most of
//!   the services that were not touched fail in addition ([`crate::untouched`]) failed of nobody in particular.
//! - *slower*: how much longer its requests take because calls to a callee last longer, as a share of what they took before.
//!
//! A minute is disturbed as well by what happened in the one before: points tell of the minute before them. Where few requests come, as many
//! minutes before as it takes for some are looked at. Nothing is asked of minutes in which the control serves beside.
//!
//! *Cost.* Every cell of the service once, where any metric is worse; else nothing.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::signal::{OperationCell, OperationKind, Party};
use plimsoll_model::{Bucket, Culprit};

use crate::design::Role;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::measured;
use crate::moves::Minute;
use crate::tolerances::Tolerances;

const BUCKETS_A_MINUTE: u64 = 6;
/// Requests of an operation that tell of a minute, and the minutes before it that are taken with it until there are as many.
const REQUESTS_MIN: u64 = 20;
const MINUTES_MAX: u64 = 5;
/// Standard deviations of a count of failures that are chance, and of the time that calls take.
const CHANCE: f64 = 3.0;
/// Minutes of the past without which nobody knows how long calls take.
const PAST_MIN: usize = 10;
/// What one failed request may cost: it is tried again, and who is failed goes away.
const COST: f64 = 3.0;
/// Share of all requests that fail, and times as long as before by which requests are slower, from which on whatever fills up or gets late is theirs.
const MANY: f64 = 0.2;
/// The same share where what fails is kept to be worked off.
const KEPT: f64 = 0.05;
const MUCH: f64 = 1.0;
/// Times as long as before by which requests are slower from which on users go away.
const TIRING: f64 = 1.0;

/// What others did in one minute.
#[derive(Debug, Clone, Default)]
struct Disturbance {
    /// Largest share of the requests of an operation, and share of all requests, that failed of others in addition.
    failed: f64,
    failed_of_all: f64,
    /// Largest part by which requests of an operation were slower for others.
    slower: f64,
    culprit: Option<Culprit>,
}

/// What others did, minute by minute since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disturbances(BTreeMap<u64, Disturbance>);

type Name<'a> = (&'a str, &'a str);

/// What traces tell of an operation in some time.
#[derive(Debug, Clone, Default)]
struct Traced<'a> {
    requests: u64,
    ns: u64,
    blame: BTreeMap<Name<'a>, (u64, &'a Party)>,
    callees: BTreeMap<Name<'a>, (u64, u64, &'a Party)>,
    unanswered: u64,
    /// Time that was waited for nobody by requests that went well nevertheless.
    in_vain_ns: u64,
}

impl<'a> Traced<'a> {
    fn add_cell(&mut self, cell: &'a OperationCell, service: &str) {
        self.requests += cell.assembled;
        self.ns += cell.self_time_ns;
        for (party, count) in cell.blame.iter().filter(|(party, _)| party.service != service) {
            self.add_blame(party, *count);
        }
        for (party, time) in cell.callees.iter().filter(|(party, _)| party.service != service) {
            if party.is_overcome() {
                // Self-time has it.
                self.in_vain_ns += time.critical_ns;
                continue;
            }
            self.ns += time.critical_ns;
            if party.is_unanswered() {
                self.unanswered += time.calls;
            } else {
                self.add_calls(party, time.calls, time.critical_ns);
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.ns += other.ns;
        self.unanswered += other.unanswered;
        self.in_vain_ns += other.in_vain_ns;
        other.blame.values().for_each(|(count, party)| self.add_blame(party, *count));
        other.callees.values().for_each(|(calls, ns, party)| self.add_calls(party, *calls, *ns));
    }

    fn add_blame(&mut self, party: &'a Party, count: u64) {
        self.blame.entry(name(party)).or_insert((0, party)).0 += count;
    }

    fn add_calls(&mut self, party: &'a Party, calls: u64, ns: u64) {
        let sum = self.callees.entry(name(party)).or_insert((0, 0, party));
        (sum.0, sum.1) = (sum.0 + calls, sum.1 + ns);
    }
}

fn name(party: &Party) -> Name<'_> {
    (&party.service, &party.operation)
}

/// One operation before the start and since, by minute.
#[derive(Debug, Default)]
struct Operation<'a> {
    minutes: [BTreeMap<u64, Traced<'a>>; 2],
    before: Traced<'a>,
    /// Time of a call before the start, and how far it varies from minute to minute.
    usual_ns: BTreeMap<Name<'a>, (f64, f64)>,
}

/// Failed and all requests of a callee, before the start and since by minute.
#[derive(Debug, Default)]
struct Callee {
    before: [f64; 2],
    minutes: BTreeMap<u64, [f64; 2]>,
}

impl Callee {
    /// Returns the share of its requests that fail in addition.
    fn more(&self, [from, to]: [u64; 2]) -> f64 {
        let mut sums = [0.0; 2];
        for counts in self.minutes.range(from..=to).map(|(_, counts)| counts) {
            sums = [sums[0] + counts[0], sums[1] + counts[1]];
        }
        beyond_chance(sums, [self.before[0].max(0.5), self.before[1]]) / sums[1].max(1.0)
    }
}

/// Returns how many more of `now` are bad than of as many `before`, where that is more than chance; else none.
fn beyond_chance([bad, all]: [f64; 2], before: [f64; 2]) -> f64 {
    let expected = all * before[0] / before[1].max(1.0);
    if bad > expected + CHANCE * expected.max(1.0).sqrt() { bad - expected } else { 0.0 }
}

impl<'a> Operation<'a> {
    fn close(&mut self) {
        let past = &self.minutes[0];
        let mut before = Traced::default();
        let mut times: BTreeMap<Name<'_>, Vec<f64>> = BTreeMap::new();
        for minute in past.values() {
            before.add(minute);
            for (name, (calls, ns, _)) in minute.callees.iter().filter(|(_, (calls, ..))| *calls > 0) {
                times.entry(*name).or_default().push(*ns as f64 / *calls as f64);
            }
        }
        times.retain(|_, times| times.len() >= PAST_MIN);
        let usual = times.into_iter().map(|(name, times)| {
            let n = times.len() as f64;
            let mean = times.iter().sum::<f64>() / n;
            (name, (mean, (times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / n).sqrt()))
        });
        (self.usual_ns, self.before) = (usual.collect(), before);
    }

    /// Returns what is known lately as of `minute`, and from when on.
    fn lately(&self, minute: u64) -> (Traced<'a>, u64) {
        let (mut sum, mut from) = (Traced::default(), minute);
        for at in (minute.saturating_sub(MINUTES_MAX - 1)..=minute).rev() {
            if let Some(traced) = self.minutes[1].get(&at) {
                sum.add(traced);
                from = at;
            }
            if sum.requests >= REQUESTS_MIN {
                break;
            }
        }
        (sum, from)
    }

    /// Returns how many requests failed of one other in addition, most of all, and of whom.
    fn failed(
        &self,
        (now, span): (&Traced<'a>, [u64; 2]),
        callees: &BTreeMap<Name<'a>, Callee>,
        (down, broken): (Option<&'a Party>, &BTreeSet<&str>),
    ) -> Option<(f64, &'a Party)> {
        let (n, n_before) = (now.requests as f64, self.before.requests as f64);
        let passed_on = now.blame.iter().map(|(name, (count, party))| {
            let was = self.before.blame.get(name).map_or(0, |(count, _)| *count);
            (beyond_chance([*count as f64, n], [was as f64, n_before]), *party)
        });
        // Who does without a callee that fails makes fewer calls.
        let all = self.before.callees.iter().chain(&now.callees);
        let calls = all.map(|(name, (_, _, party))| {
            let made = now.callees.get(name).map_or(0.0, |(calls, ..)| *calls as f64);
            let usual = self.before.callees.get(name).map_or(0.0, |(calls, ..)| *calls as f64 * n / n_before.max(1.0));
            let missing = if broken.contains(name.0) { (usual - made).max(0.0) } else { 0.0 };
            (missing + callees.get(name).map_or(0.0, |callee| callee.more(span)) * made, *party)
        });
        let unanswered = down
            .map(|party| (beyond_chance([now.unanswered as f64, n], [self.before.unanswered as f64, n_before]), party));
        let all = passed_on.chain(calls).chain(unanswered).filter(|(failed, _)| *failed > 0.0);
        all.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(failed, party)| (failed.min(n), party))
    }

    /// Returns by how much its requests are slower for calls to one other that last longer, or that nobody answers, most of all, and to
    /// whom.
    fn slower(&self, now: &Traced<'a>, down: Option<&'a Party>, tolerances: &Tolerances) -> Option<(f64, &'a Party)> {
        let usual = self.before.ns as f64 / self.before.requests.max(1) as f64;
        let allowed = (tolerances.latency_ratio * usual).max(tolerances.latency_floor_ms * 1e6);
        let each = now.callees.iter().filter_map(|(name, (calls, ns, party))| {
            let (mean, deviation) = self.usual_ns.get(name)?;
            let (calls, ns) = (*calls as f64, *ns as f64);
            let grown = (ns - mean * calls) / now.requests.max(1) as f64;
            (ns > (mean + CHANCE * deviation) * calls && grown > allowed).then(|| (grown / usual.max(1.0), *party))
        });
        let waited = |of: &Traced<'_>| of.in_vain_ns as f64 / of.requests.max(1) as f64;
        let in_vain = waited(now) - waited(&self.before);
        let in_vain = down.filter(|_| in_vain > allowed).map(|party| (in_vain / usual.max(1.0), party));
        each.chain(in_vain).max_by(|a, b| a.0.total_cmp(&b.0))
    }
}

impl Disturbances {
    /// Looks at each minute since the start.
    pub(crate) fn of(input: &JudgeInput, fold: &Fold) -> Self {
        let frame = &fold.frame;
        let service = frame.service.service.as_str();
        let mut operations: BTreeMap<(&str, OperationKind), Operation<'_>> = BTreeMap::new();
        for series in measured::spans(input).iter().filter(|series| series.key.service == frame.service) {
            for (bucket, cell) in &series.cells {
                let role = frame.role(&series.key.version, *bucket);
                let Some(role) = role.filter(|role| *role != Role::Control) else { continue };
                let operation = operations.entry((frame.operation(&series.key, role), series.key.kind)).or_default();
                let minutes = &mut operation.minutes[usize::from(role == Role::Candidate)];
                minutes.entry(bucket.0 / BUCKETS_A_MINUTE).or_default().add_cell(cell, service);
            }
        }
        operations.values_mut().for_each(Operation::close);
        let called: BTreeSet<Name<'_>> =
            operations.values().flat_map(|op| op.minutes[1].values()).flat_map(|t| t.callees.keys().copied()).collect();
        let mut callees: BTreeMap<Name<'_>, Callee> = BTreeMap::new();
        for series in &input.related {
            let name = (series.key.service.service.as_str(), series.key.operation.as_str());
            let Some(name) = called.get(&name) else { continue };
            let callee = callees.entry(*name).or_default();
            for (bucket, cell) in series.cells.iter().filter(|(bucket, _)| *bucket < frame.end) {
                let counts = match *bucket < frame.start {
                    true => &mut callee.before,
                    false => callee.minutes.entry(bucket.0 / BUCKETS_A_MINUTE).or_default(),
                };
                *counts = [counts[0] + cell.errors as f64, counts[1] + cell.requests as f64];
            }
        }
        // Whoever left most calls of an operation unanswered, of those that were down.
        let down = |(name, kind): &(&str, OperationKind)| {
            let index = fold.operations.iter().position(|op| op.name == *name && op.kind == *kind)?;
            fold.arms(index).down().into_iter().max_by(|a, b| a.calls().total_cmp(&b.calls())).map(|down| down.party)
        };
        let broken = |minute: u64| -> BTreeSet<&str> {
            let buckets = minute * BUCKETS_A_MINUTE..(minute + 1) * BUCKETS_A_MINUTE;
            buckets.flat_map(|bucket| fold.failing.broken(Bucket(bucket))).collect()
        };
        let mut all = Self::default();
        let mut served: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for (key, operation) in &operations {
            let down = down(key);
            for minute in operation.minutes[1].keys() {
                let (now, from) = operation.lately(*minute);
                let n = now.requests.max(1) as f64;
                let here = operation.minutes[1][minute].requests as f64;
                let sum = served.entry(*minute).or_default();
                sum.1 += here;
                let disturbance = all.0.entry(*minute).or_default();
                if let Some((failed, party)) =
                    operation.failed((&now, [from, *minute]), &callees, (down, &broken(*minute)))
                {
                    sum.0 += here * failed / n;
                    disturbance.by(party, failed / n, 0.0);
                }
                if let Some((slower, party)) = operation.slower(&now, down, &input.tolerances) {
                    disturbance.by(party, 0.0, slower);
                }
            }
        }
        for (minute, (failed, requests)) in served {
            all.0.entry(minute).or_default().failed_of_all = failed / requests.max(1.0);
        }
        for bucket in frame.start.0..frame.end.0 {
            let excused = fold.drift.at(Bucket(bucket));
            if excused.shared {
                let of = all.0.entry(bucket / BUCKETS_A_MINUTE).or_default();
                of.failed = of.failed.max(excused.points);
                of.failed_of_all = of.failed_of_all.max(excused.points);
            }
        }
        all.0.retain(|_, of| of.failed > 0.0 || of.slower > 0.0);
        all
    }

    /// Says whether there is anything that others did.
    pub(crate) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Returns who did most.
    pub(crate) fn most(&self) -> Option<&Culprit> {
        let each = self.0.values().filter_map(|of| Some((of.failed.max(of.slower), of.culprit.as_ref()?)));
        each.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, culprit)| culprit)
    }

    /// Says whether nothing can be told of the deploy from what a metric did in a minute: one that is worse with more while others are
    /// slow or many requests fail of them, one that is worse with less while others are so slow that users go away.
    pub(crate) fn hides(&self, minute: u64, up: bool, fills: bool) -> bool {
        let (mut at, many) = (self.at(minute), if fills { KEPT } else { MANY });
        at.any(|of| if up { of.failed_of_all >= many || of.slower >= MUCH } else { of.slower >= TIRING })
    }

    /// Returns what share of a level may be missing, or how much may be added to a share, for what failed of others in a window.
    pub(crate) fn missing(&self, window: &[Minute]) -> f64 {
        self.mean(window, |of| of.failed)
    }

    /// Returns how many more of something may come with a request, for what failed of others in a window.
    pub(crate) fn added(&self, window: &[Minute]) -> f64 {
        self.mean(window, |of| of.failed_of_all)
    }

    /// Returns by what part of itself what fills up may grow in a window, as requests are slower or fail of others.
    pub(crate) fn filled(&self, window: &[Minute]) -> f64 {
        self.mean(window, |of| of.slower.max(of.failed_of_all))
    }

    fn mean(&self, window: &[Minute], of: impl Fn(&Disturbance) -> f64) -> f64 {
        let each = window.iter().map(|minute| self.at(minute.minute).map(&of).fold(0.0, f64::max));
        COST * each.sum::<f64>() / window.len().max(1) as f64
    }

    /// What was done in a minute and in the one before.
    fn at(&self, minute: u64) -> impl Iterator<Item = &Disturbance> {
        self.0.range(minute.saturating_sub(1)..=minute).map(|(_, of)| of)
    }
}

impl Disturbance {
    fn by(&mut self, party: &Party, failed: f64, slower: f64) {
        if failed.max(slower) > self.failed.max(self.slower) {
            self.culprit = Some(Culprit {
                service: party.service.clone(),
                version: party.version.clone(),
                operation: party.operation.clone(),
            });
        }
        (self.failed, self.slower) = (self.failed.max(failed), self.slower.max(slower));
    }
}
