//! Every test of a deploy, carried forward bucket by bucket, as one would have looked at the time.
//!
//! Nothing that is computed for a bucket uses what came after it: strata, tempering, references, the gate and the moments at
//! which lines were crossed are the same whether one looks every 10 s or once at the end. So looking often costs nothing,
//! and a state that was kept may be carried on instead of beginning afresh.
//!
//! *The gate* is the mean of the e-processes of all tests, with weights fixed by the traffic before the start, over those
//! whose excess, if any, is the deploy's own doing. Leaving one out never raises the mean.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use plimsoll_model::signal::{ExceptionCount, Fingerprint, OperationKey, OperationKind, OperationSeries};
use plimsoll_model::{Bucket, Design, ServiceKey, SignalKind, Suppressed};

use crate::alone;
use crate::culprit::{self, Arms, Origin};
use crate::design::{Cells, Frame, Role};
use crate::dispersion::{Measure, Tempering};
use crate::errors;
use crate::flow::{Flow, Traffic};
use crate::input::JudgeInput;
use crate::logs::LogErrors;
use crate::metrics::{self, MetricTest};
use crate::novelty::Novelty;
use crate::operation::{self, Dealing, Moment, Operation, YOUNG_BUCKETS};
use crate::standing::Standing;
use crate::tolerances::Tolerances;

/// Buckets that the control must have in a trailing minute, relative to the candidate's requests, to count as serving.
const CONTROL_SHARE_MIN: f64 = 0.05;
/// Errors from which a large regression is not waited for.
pub const LARGE_ERRORS: f64 = 50.0;
/// Times the control's rate from which a regression is large.
pub const LARGE_RATIO: f64 = 10.0;
/// Buckets of the last window, which shows whether an excess lasts.
const LASTING_BUCKETS: u64 = 3;
/// Requests that such a window should have ..
pub(crate) const LASTING_REQUESTS: f64 = 20.0;
/// .. and without which nothing is confirmed.
const LASTING_REQUESTS_MIN: f64 = 5.0;

const ERRORS_SHARE: f64 = 0.36;
const LATENCY_SHARE: f64 = 0.36;
const NOVELTY_SHARE: f64 = 0.06;
const LOGS_SHARE: f64 = 0.06;
const LOG_ERRORS_SHARE: f64 = 0.03;
const CALLS_SHARE: f64 = 0.05;
const ALONE_SHARE: f64 = 0.05;
const FLOW_SHARE: f64 = 0.03;

/// What a test is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Errors of an operation.
    Errors(usize),
    /// Latency of an operation.
    Latency(usize),
    /// Errors of an operation without a control.
    Alone(usize),
    /// Calls of an operation to one of its callees.
    Calls(usize, usize),
    /// An exception never seen before.
    New(Fingerprint),
    /// An error message never logged before.
    NewLog(Fingerprint),
    /// Error messages of the whole service.
    LogErrors,
    /// The level of a metric.
    Metric(usize),
    /// Requests of the whole service.
    Throughput,
    /// Requests of the candidate.
    Silence,
}

impl Subject {
    pub(crate) fn signal(self) -> SignalKind {
        match self {
            Self::Errors(_) | Self::Alone(_) => SignalKind::ErrorRate,
            Self::Latency(_) => SignalKind::Latency,
            Self::New(_) => SignalKind::NewException,
            Self::NewLog(_) | Self::LogErrors => SignalKind::NewLog,
            Self::Metric(_) => SignalKind::Metric,
            Self::Calls(..) | Self::Throughput => SignalKind::Throughput,
            Self::Silence => SignalKind::Silence,
        }
    }
}

/// The state after some bucket.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    pub(crate) frame: Frame,
    pub(crate) operations: Vec<Operation>,
    index: BTreeMap<(String, OperationKind), usize>,
    pub(crate) novelty: Novelty,
    /// Error messages, by template.
    pub(crate) logs: Novelty,
    pub(crate) log_errors: LogErrors,
    pub(crate) metrics: Vec<MetricTest>,
    pub(crate) flow: Flow,
    /// Logarithm of the gate's e-process.
    pub(crate) gate: f64,
    suppressed: BTreeSet<Suppressed>,
    /// First bucket with candidate traffic.
    pub(crate) first: Option<Bucket>,
    /// First bucket with control traffic before the start.
    pub(crate) past_from: Option<Bucket>,
    next: Bucket,
    trailing: VecDeque<(u64, u64)>,
    others: Measure,
    dealing: Dealing,
    before: u64,
    /// The deploy is done, or was to be, from here on.
    serving_from: Bucket,
    callers: BTreeMap<Bucket, f64>,
}

impl Fold {
    /// Begins at the start of the deploy, with the past as it is.
    pub(crate) fn new(frame: Frame, input: &JudgeInput) -> Self {
        let tolerances = &input.tolerances;
        let kept = frame.clone();
        let mut past: BTreeMap<(&str, OperationKind), Cells<'_>> = BTreeMap::new();
        let mut novelty = Novelty::new(input.known_fingerprints.clone());
        let mut requests: BTreeMap<Bucket, f64> = BTreeMap::new();
        for series in input.series.iter().filter(|s| s.key.service == frame.service) {
            for (bucket, cell) in &series.cells {
                if cell.requests > 0 && frame.role(&series.key.version, *bucket) == Some(Role::Before) {
                    let key = (frame.operation(&series.key, Role::Before), series.key.kind);
                    past.entry(key).or_default().push((*bucket, series.key.age, cell));
                    novelty.past(cell);
                    *requests.entry(*bucket).or_default() += cell.requests as f64;
                }
            }
        }
        let mut logged = Novelty::new(crate::logs::known(input));
        logged.past_requests(past.values().flatten().map(|cell| cell.2.requests).sum());
        let mut messages: BTreeMap<Bucket, f64> = BTreeMap::new();
        for log in crate::logs::errors(input) {
            for (bucket, cell) in &log.series.cells {
                if frame.role(&log.series.version, *bucket) == Some(Role::Before) {
                    logged.past_count(log.fingerprint, &log.count(cell.count));
                    *messages.entry(*bucket).or_default() += cell.count as f64;
                }
            }
        }
        let first = past.values().flatten().map(|cell| cell.0).min();
        let length = (frame.start.0 - first.unwrap_or(frame.start).0).max(1);
        let watch = (tolerances.watch_max_s / 10).max(1);
        let dealing =
            Dealing { start: frame.start, after: watch.div_ceil(length).clamp(1, 6), before: (length / watch).max(1) };
        let callers = callers(input, &frame.service.service);
        let traffic: Vec<Traffic> = (first.unwrap_or(frame.start).0..frame.start.0)
            .rev()
            .map(|bucket| Traffic {
                candidate: 0.0,
                control: requests.get(&Bucket(bucket)).copied().unwrap_or(0.0),
                callers: callers.get(&Bucket(bucket)).copied().unwrap_or(0.0),
            })
            .collect();
        let done = input.deploy.finished_at.map(|at| at.bucket());
        let serving_from = done.unwrap_or(Bucket(frame.start.0 + tolerances.silence_s / 10)).max(frame.start);
        let mut fold = Self {
            operations: Vec::new(),
            index: BTreeMap::new(),
            novelty,
            logs: logged,
            log_errors: LogErrors::new(&requests, &messages, dealing),
            metrics: Vec::new(),
            flow: Flow::new(&traffic),
            gate: 0.0,
            suppressed: input.suppressed.clone(),
            first: None,
            past_from: first,
            next: frame.start,
            trailing: VecDeque::new(),
            others: Measure::default(),
            dealing,
            before: 0,
            serving_from,
            callers,
            frame: kept,
        };
        for ((name, kind), mut cells) in past {
            cells.sort_by_key(|(bucket, age, _)| (*bucket, *age));
            fold.add(name, kind, &cells, tolerances);
        }
        fold.before = fold.operations.iter().map(|op| op.before).sum();
        fold
    }

    /// The first bucket that is not folded yet.
    pub(crate) fn next(&self) -> Bucket {
        self.next
    }

    /// Says whether all versions and operations of `series` are known: what is new may change who is compared with whom.
    pub(crate) fn knows(&self, series: &[OperationSeries]) -> bool {
        let own = || series.iter().filter(|s| s.key.service == self.frame.service);
        own().all(|s| {
            let version = &s.key.version;
            let compared = *version == self.frame.version || self.frame.control_versions.contains(version);
            let renamed = self.frame.renamed.values().any(|was| *was == s.key.operation);
            compared && (renamed || self.index.contains_key(&(s.key.operation.clone(), s.key.kind)))
        })
    }

    /// Says whether anything is followed that only a look at the whole brings up to date.
    pub(crate) fn needs_whole(&self) -> bool {
        !self.metrics.is_empty() || !self.logs.all.is_empty()
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let operations: usize = self.operations.iter().map(Operation::bytes).sum();
        let seen: usize = self.novelty.all.values().map(|seen| 256 + seen.candidate.len() * 24).sum();
        operations + seen + self.novelty.traffic.len() * 24 + self.index.len() * 96
    }

    /// Returns the index of an operation, which may be new.
    fn operation(&mut self, key: &OperationKey, role: Role, tolerances: &Tolerances) -> usize {
        let name = self.frame.operation(key, role).to_owned();
        let at = (name, key.kind);
        match self.index.get(&at) {
            Some(operation) => *operation,
            None => self.add(&at.0, at.1, &Vec::new(), tolerances),
        }
    }

    fn add(&mut self, name: &str, kind: OperationKind, before: &Cells<'_>, tolerances: &Tolerances) -> usize {
        let mut operation = Operation::new(name.to_owned(), kind, before, self.dealing, tolerances);
        operation.former = self.frame.renamed.get(&(name.to_owned(), kind)).cloned();
        self.operations.push(operation);
        self.index.insert((name.to_owned(), kind), self.operations.len() - 1);
        self.operations.len() - 1
    }

    /// Carries it on to the end of the frame; buckets folded already are passed over.
    pub(crate) fn advance(&mut self, input: &JudgeInput) {
        let (series, tolerances) = (&input.series, &input.tolerances);
        let mut cells = Vec::new();
        let service = self.frame.service.clone();
        for series in series.iter().filter(|s| s.key.service == service) {
            // Looked up once for each role: the control's name may differ.
            let mut known: [Option<usize>; 2] = [None, None];
            let fresh = series.cells.partition_point(|(bucket, _)| *bucket < self.next);
            for (bucket, cell) in &series.cells[fresh..] {
                let role = self.frame.role(&series.key.version, *bucket);
                let Some(role) = role.filter(|_| cell.requests > 0) else { continue };
                let control = role == Role::Control;
                let operation = match known[usize::from(control)] {
                    Some(operation) => operation,
                    None => self.operation(&series.key, role, tolerances),
                };
                known[usize::from(control)] = Some(operation);
                let age = if control { series.key.age } else { self.frame.candidate_age(series.key.age, *bucket) };
                cells.push((*bucket, operation, control, age, cell));
            }
        }
        cells.sort_by_key(|(bucket, operation, control, age, _)| (*bucket, *operation, *control, *age));
        let mut logs: BTreeMap<Bucket, Vec<(bool, Fingerprint, ExceptionCount)>> = BTreeMap::new();
        for log in crate::logs::errors(input) {
            for (bucket, cell) in log.series.cells.iter().filter(|(bucket, _)| *bucket >= self.next) {
                let role = self.frame.role(&log.series.version, *bucket);
                if let Some(role @ (Role::Candidate | Role::Control)) = role {
                    let told = (role == Role::Candidate, log.fingerprint, log.count(cell.count));
                    logs.entry(*bucket).or_default().push(told);
                }
            }
        }
        let mut cells = cells.as_slice();
        while self.next < self.frame.end {
            let here = cells.partition_point(|cell| cell.0 <= self.next);
            let (now, later) = cells.split_at(here);
            cells = later;
            let mut arms: BTreeMap<usize, [operation::Cells<'_>; 2]> = BTreeMap::new();
            for (_, operation, control, age, cell) in now {
                arms.entry(*operation).or_default()[usize::from(*control)].push((*age, *cell));
            }
            let logged = logs.remove(&self.next).unwrap_or_default();
            self.step(&arms, &logged, tolerances);
        }
        if !input.aggregates.metrics.is_empty() {
            self.metrics = metrics::tests(&self.frame, &input.aggregates.metrics, tolerances);
        }
    }

    fn step(
        &mut self,
        arms: &BTreeMap<usize, [operation::Cells<'_>; 2]>,
        logged: &[(bool, Fingerprint, ExceptionCount)],
        tolerances: &Tolerances,
    ) {
        let bucket = self.next;
        self.next = Bucket(bucket.0 + 1);
        if bucket < self.frame.from {
            return;
        }
        let sum =
            |arm: usize| -> u64 { arms.values().flat_map(|cells| &cells[arm]).map(|(_, cell)| cell.requests).sum() };
        let (candidate, control) = (sum(0), sum(1));
        self.trailing.push_back((candidate, control));
        while self.trailing.len() > 6 {
            self.trailing.pop_front();
        }
        if candidate > 0 && self.first.is_none() {
            self.first = Some(bucket);
        }
        let (b, a) = self.trailing.iter().fold((0, 0), |sum, (b, a)| (sum.0 + b, sum.1 + a));
        let beside = a > 0 && a as f64 >= CONTROL_SHARE_MIN * b as f64;
        if bucket.0.is_multiple_of(6) {
            self.others = Tempering::of_all(self.operations.iter().map(|op| op.errors.tempering()));
        }
        let moment = Moment {
            bucket,
            since: bucket.0 - self.frame.from.0,
            beside,
            first: self.first,
            others: self.others,
            usual_errors: self.usual_errors(),
            tolerances,
        };
        let none = Default::default();
        for (index, operation) in self.operations.iter_mut().enumerate() {
            let [candidate, control] = arms.get(&index).unwrap_or(&none);
            operation.push(&moment, candidate, control);
            for (is_candidate, cells) in [(true, candidate), (false, control)] {
                cells.iter().for_each(|(_, cell)| self.novelty.push(bucket, index, is_candidate, cell));
            }
        }
        let worst = self.operations.iter().map(|op| op.errors.standing.dispersion).fold(1.0, f64::max);
        self.novelty.close(bucket, (candidate, control), self.first.is_some(), worst.min(4.0), tolerances);
        let mut messages = [0.0; 2];
        for (is_candidate, fingerprint, count) in logged {
            messages[usize::from(!is_candidate)] += count.count as f64;
            self.logs.count(bucket, 0, *is_candidate, *fingerprint, count);
        }
        self.logs.close(bucket, (candidate, control), self.first.is_some(), worst.clamp(2.0, 4.0), tolerances);
        let served = [candidate as f64, control as f64];
        self.log_errors.push(bucket, moment.since, beside, messages, served, tolerances);
        let traffic = Traffic {
            candidate: candidate as f64,
            control: control as f64,
            callers: self.callers.get(&bucket).copied().unwrap_or(0.0),
        };
        let expected = bucket >= self.serving_from && !self.frame.version_missing;
        self.flow.push(bucket, traffic, expected, tolerances);
        if self.first.is_some_and(|first| bucket.0 == first.0 + YOUNG_BUCKETS) {
            self.operations.iter_mut().for_each(Operation::grow_up);
        }
        self.look(bucket, tolerances);
    }

    /// Looks at every test once the bucket is in.
    fn look(&mut self, bucket: Bucket, tolerances: &Tolerances) {
        let level = (1.0 / tolerances.alpha).ln();
        let subjects = self.subjects();
        let mut sum = 0.0;
        for (subject, weight) in &subjects {
            let standing = *self.standing(*subject);
            let elsewhere = standing.exceeded_at.is_some() && self.origin(*subject).elsewhere;
            let silenced = elsewhere || self.is_suppressed(*subject);
            // Far beyond any level that matters, and safe to add up.
            sum += if silenced { 0.0 } else { weight * standing.log_e.min(600.0).exp() };
            self.standing_mut(*subject).elsewhere = elsewhere;
        }
        // What weight is left over stays at one.
        let rest = (1.0 - subjects.iter().map(|(_, weight)| weight).sum::<f64>()).max(0.0);
        self.gate = (sum + rest).max(f64::MIN_POSITIVE).ln();
        for (subject, _) in &subjects {
            let standing = *self.standing(*subject);
            let apart = matches!(subject, Subject::Metric(_));
            if apart
                || self.is_suppressed(*subject)
                || standing.elsewhere
                || standing.confirmed_at.is_some()
                || !self.enough(*subject, tolerances)
            {
                continue;
            }
            let shown = standing.log_e >= level && standing.exceeded_at.is_some();
            if standing.triggered_at.is_none() && shown && self.gate >= level {
                self.standing_mut(*subject).triggered_at = Some(bucket);
            }
            if let Some(at) = self.standing(*subject).triggered_at
                && self.lasts(*subject, at, bucket, tolerances)
            {
                self.standing_mut(*subject).confirmed_at = Some(bucket);
            }
        }
    }

    /// Says whether a human asked not to hear of it.
    pub(crate) fn is_suppressed(&self, subject: Subject) -> bool {
        if self.suppressed.is_empty() {
            return false;
        }
        let operation = match subject {
            Subject::Errors(index) | Subject::Latency(index) | Subject::Alone(index) | Subject::Calls(index, _) => {
                self.operations[index].name.clone()
            }
            Subject::New(fingerprint) => {
                let operation = self.novelty.all.get(&fingerprint).map_or(0, |seen| seen.operation());
                self.operations.get(operation).map_or_else(String::new, |op| op.name.clone())
            }
            _ => String::new(),
        };
        self.suppressed.contains(&Suppressed { signal: subject.signal(), operation })
    }

    fn enough(&self, subject: Subject, tolerances: &Tolerances) -> bool {
        match subject {
            Subject::Throughput | Subject::Silence => true,
            Subject::Alone(index) => self.operations[index].candidate >= tolerances.requests_min,
            // A message says by itself that something went wrong; a few requests are enough to count them by.
            Subject::NewLog(_) | Subject::LogErrors => self.requests() * 5 >= tolerances.requests_min,
            _ => self.paired() >= tolerances.requests_min,
        }
    }

    /// Says whether the time after the trigger `at` shows by `now` that the excess lasts.
    fn lasts(&self, subject: Subject, at: Bucket, now: Bucket, tolerances: &Tolerances) -> bool {
        let standing = self.standing(subject);
        if let Subject::Errors(index) = subject {
            let rates = self.operations[index].errors.sums.rates();
            let floor = rates.rate_a.max(0.5 / rates.n_a.max(1.0));
            if rates.bad_b >= LARGE_ERRORS && rates.rate_b() >= LARGE_RATIO * floor {
                return true;
            }
        }
        if !standing.stands((1.0 / tolerances.alpha).ln(), (1.0 / tolerances.bound_alpha).ln()) || now <= at {
            return false;
        }
        if matches!(subject, Subject::Throughput | Subject::Silence | Subject::Calls(..) | Subject::LogErrors) {
            return now.0 >= at.0 + LASTING_BUCKETS;
        }
        let after = Bucket(at.0 + 1);
        let (mut excess, mut requests) =
            self.excess(subject, after.max(Bucket((now.0 + 1).saturating_sub(LASTING_BUCKETS))), now, tolerances);
        if requests < LASTING_REQUESTS {
            // Little traffic: all that came since has to do.
            (excess, requests) = self.excess(subject, after, now, tolerances);
        }
        let long_enough = requests >= LASTING_REQUESTS || now.0 >= at.0 + LASTING_BUCKETS;
        let stays = match subject {
            Subject::Latency(index) => self.operations[index].stays_slow(self.first, now, self.weight(index)),
            _ => true,
        };
        excess && requests >= LASTING_REQUESTS_MIN && long_enough && stays
    }

    /// Says whether the candidate was worse than half the tolerance in `from..=to`, and on how many requests that rests.
    pub(crate) fn excess(&self, subject: Subject, from: Bucket, to: Bucket, tolerances: &Tolerances) -> (bool, f64) {
        match subject {
            Subject::Errors(index) => {
                let op = &self.operations[index];
                let reference = op.errors.reference();
                let (bad, all) = op.over(from, to, |r| (r.errors, r.requests));
                let half = 0.5 * errors::tolerated(reference, tolerances);
                (all > 0.0 && bad / all - reference > half, all)
            }
            Subject::Alone(index) => {
                let (bad, all) = self.operations[index].over(from, to, |r| (r.errors, r.requests));
                let objective = alone::objective(self.usual_errors(), tolerances);
                (all > 0.0 && bad / all > objective, all)
            }
            Subject::Latency(index) => {
                let op = &self.operations[index];
                let Some(latency) = &op.latency else { return (false, 0.0) };
                let shares = latency.tail_shares();
                let worse = |i: usize| {
                    let (bad, all) = op.over(from, to, |r| (r.tail[i], r.timed));
                    (all > 0.0 && bad / all > shares[i], all)
                };
                let (p95, p99) = (worse(0), worse(1));
                // A handful of requests does not show a p99.
                (p95.0 || (p99.0 && p99.1 * shares[1] >= 3.0), p95.1)
            }
            Subject::New(fingerprint) | Subject::NewLog(fingerprint) => {
                let novelty = if matches!(subject, Subject::New(_)) { &self.novelty } else { &self.logs };
                let Some(seen) = novelty.all.get(&fingerprint) else { return (false, 0.0) };
                let bad: u64 = seen.candidate.range(from..=to).map(|(_, n)| n).sum();
                let inside = novelty.traffic.iter().rev().filter(|(b, ..)| *b >= from && *b <= to);
                let all: u64 = inside.map(|(_, b, _)| b).sum();
                (all > 0 && bad as f64 / all as f64 > 0.5 * tolerances.exception_share, all as f64)
            }
            Subject::Metric(index) => (self.metrics[index].exceeds, LASTING_REQUESTS),
            Subject::LogErrors | Subject::Calls(..) | Subject::Throughput | Subject::Silence => {
                let op_requests: u64 =
                    self.novelty.traffic.iter().rev().filter(|(b, ..)| *b >= from && *b <= to).map(|(_, b, _)| b).sum();
                (self.standing(subject).log_e > 0.0, op_requests as f64)
            }
        }
    }

    /// Lists every test with its weight in the gate.
    pub(crate) fn subjects(&self) -> Vec<(Subject, f64)> {
        let mut found = Vec::with_capacity(2 * self.operations.len() + 8);
        let lonely = self.operations.iter().filter(|op| op.before + op.control == 0).count() as f64;
        for (index, op) in self.operations.iter().enumerate() {
            if op.before + op.control == 0 {
                found.push((Subject::Alone(index), ALONE_SHARE / (lonely + 1.0)));
                continue;
            }
            let weight = self.weight(index);
            found.push((Subject::Errors(index), ERRORS_SHARE * weight));
            if op.latency.is_some() {
                found.push((Subject::Latency(index), LATENCY_SHARE * weight));
            }
            let callees = op.calls.tests.len() as f64;
            found.extend((0..op.calls.tests.len()).map(|i| (Subject::Calls(index, i), CALLS_SHARE * weight / callees)));
        }
        let seen = self.novelty.all.len() as f64;
        let fresh = self.novelty.fresh().map(|(fingerprint, _)| Subject::New(*fingerprint));
        found.extend(fresh.map(|subject| (subject, NOVELTY_SHARE / (seen + 1.0))));
        let logged = self.logs.all.len() as f64;
        let fresh = self.logs.fresh().map(|(fingerprint, _)| Subject::NewLog(*fingerprint));
        found.extend(fresh.map(|subject| (subject, LOGS_SHARE / (logged + 1.0))));
        if logged > 0.0 {
            found.push((Subject::LogErrors, LOG_ERRORS_SHARE));
        }
        // Metrics have levels of their own: they are looked at minute by minute, beside the gate.
        found.extend((0..self.metrics.len()).map(|index| (Subject::Metric(index), 0.0)));
        found.push((Subject::Throughput, FLOW_SHARE));
        found.push((Subject::Silence, FLOW_SHARE));
        found
    }

    /// Share of one operation in what is spent on all; shares sum to one.
    ///
    /// Half by traffic, half evenly: a busy operation is judged fast and a quiet one is still judged.
    fn weight(&self, index: usize) -> f64 {
        let op = &self.operations[index];
        let share = if self.before > 0 {
            op.before as f64 / self.before as f64
        } else {
            op.candidate as f64 / self.requests().max(1) as f64
        };
        0.5 * share + 0.5 / self.operations.len().max(1) as f64
    }

    /// Returns how a test stands.
    pub(crate) fn standing(&self, subject: Subject) -> &Standing {
        match subject {
            Subject::Errors(index) => &self.operations[index].errors.standing,
            Subject::Latency(index) => {
                &self.operations[index].latency.as_ref().expect("listed only where there is one").standing
            }
            Subject::Alone(index) => &self.operations[index].alone.standing,
            Subject::Calls(index, callee) => &self.operations[index].calls.tests[callee].standing,
            Subject::New(fingerprint) => &self.novelty.all[&fingerprint].standing,
            Subject::NewLog(fingerprint) => &self.logs.all[&fingerprint].standing,
            Subject::LogErrors => &self.log_errors.test.standing,
            Subject::Metric(index) => &self.metrics[index].standing,
            Subject::Throughput => &self.flow.throughput,
            Subject::Silence => &self.flow.silence,
        }
    }

    fn standing_mut(&mut self, subject: Subject) -> &mut Standing {
        match subject {
            Subject::Errors(index) => &mut self.operations[index].errors.standing,
            Subject::Latency(index) => {
                &mut self.operations[index].latency.as_mut().expect("listed only where there is one").standing
            }
            Subject::Alone(index) => &mut self.operations[index].alone.standing,
            Subject::Calls(index, callee) => &mut self.operations[index].calls.tests[callee].standing,
            Subject::New(fingerprint) => {
                &mut self.novelty.all.get_mut(&fingerprint).expect("listed only where there is one").standing
            }
            Subject::NewLog(fingerprint) => {
                &mut self.logs.all.get_mut(&fingerprint).expect("listed only where there is one").standing
            }
            Subject::LogErrors => &mut self.log_errors.test.standing,
            Subject::Metric(index) => &mut self.metrics[index].standing,
            Subject::Throughput => &mut self.flow.throughput,
            Subject::Silence => &mut self.flow.silence,
        }
    }

    /// Says where the cause of an excess lies.
    pub(crate) fn origin(&self, subject: Subject) -> Origin {
        let own = |operation: &str| Origin {
            culprit: plimsoll_model::Culprit {
                service: self.frame.service.service.clone(),
                version: self.frame.version.clone(),
                operation: operation.to_owned(),
            },
            elsewhere: false,
            traced: true,
        };
        match subject {
            Subject::Errors(index) => culprit::of_errors(&self.arms(index)),
            Subject::Latency(index) => culprit::of_latency(&self.arms(index)),
            Subject::Alone(index) | Subject::Calls(index, _) => own(&self.operations[index].name),
            Subject::New(fingerprint) => {
                let operation = self.novelty.all.get(&fingerprint).map_or(0, |seen| seen.operation());
                own(self.operations.get(operation).map_or("", |op| &op.name))
            }
            Subject::NewLog(_) | Subject::LogErrors | Subject::Metric(_) | Subject::Throughput | Subject::Silence => {
                own("")
            }
        }
    }

    fn arms(&self, index: usize) -> Arms<'_> {
        let op = &self.operations[index];
        let design = self.design();
        Arms {
            service: &self.frame.service.service,
            version: &self.frame.version,
            operation: &op.name,
            design,
            candidate: &op.arms[0],
            control: if design == Design::Concurrent { &op.arms[1] } else { &op.arms[2] },
        }
    }

    /// The control's share of failed requests over the whole service.
    fn usual_errors(&self) -> f64 {
        let (mut bad, mut all) = (0.0, 0.0);
        for op in &self.operations {
            let n = (op.before + op.control) as f64;
            bad += op.errors.reference() * n;
            all += n;
        }
        if all > 0.0 { bad / all } else { 0.0 }
    }

    /// Requests of the candidate.
    pub(crate) fn requests(&self) -> u64 {
        self.operations.iter().map(|op| op.candidate).sum()
    }

    /// Requests of the candidate that have a control.
    pub(crate) fn paired(&self) -> u64 {
        self.operations.iter().map(|op| op.paired).sum()
    }

    /// Requests of the control, before and since the start.
    pub(crate) fn control_requests(&self) -> u64 {
        self.operations.iter().map(|op| op.before + op.control).sum()
    }

    /// Names the comparison that most requests were compared in.
    pub(crate) fn design(&self) -> Design {
        let beside: u64 = self.operations.iter().map(|op| op.beside).sum();
        let (paired, since) = (self.paired(), self.operations.iter().map(|op| op.control).sum::<u64>());
        if since > 0 && (paired == 0 || beside * 2 >= paired) {
            Design::Concurrent
        } else if self.requests() > 0 && self.control_requests() == 0 {
            Design::Slo
        } else {
            Design::BeforeAfter
        }
    }
}

/// Requests by bucket of the operations that call the service.
fn callers(input: &JudgeInput, service: &str) -> BTreeMap<Bucket, f64> {
    let mut requests = BTreeMap::new();
    let mut calling: BTreeMap<(&ServiceKey, &str), bool> = BTreeMap::new();
    for series in &input.related {
        let calls = series.cells.iter().any(|(_, c)| c.callees.keys().any(|party| party.service == service));
        *calling.entry((&series.key.service, &series.key.operation)).or_default() |= calls;
    }
    for series in &input.related {
        if calling.get(&(&series.key.service, series.key.operation.as_str())) == Some(&true) {
            for (bucket, cell) in &series.cells {
                *requests.entry(*bucket).or_default() += cell.requests as f64;
            }
        }
    }
    requests
}
