//! Every test of a deploy, carried forward bucket by bucket, as one would have looked at the time.
//!
//! Nothing that is computed for a bucket uses what came after it: strata, tempering, references, the gate and the moments at
//! which lines were crossed are the same whether one looks every 10 s or once at the end. So looking often costs nothing,
//! and a state that was kept may be carried on instead of beginning afresh.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use plimsoll_model::signal::{AgeClass, OperationCell, OperationKey, OperationKind, OperationSeries};
use plimsoll_model::{Bucket, Suppressed};

use crate::actions::Actions;
use crate::boots::Boots;
use crate::callers::Callers;
use crate::closeness::{Closeness, Expected, Health};
use crate::dating::Dating;
use crate::dealing::Dealing;
use crate::design::{Cells, Frame, Role};
use crate::dispersion::{Measure, Tempering};
use crate::disturbed::Disturbances;
use crate::drift::Drift;
use crate::due::due;
use crate::earlier::Earlier;
use crate::failing::Failing;
use crate::flow::{self, Due, Flow, Traffic};
use crate::incident::{self, Incidents};
use crate::input::JudgeInput;
use crate::log_flow::LogFlow;
use crate::logs::{self, LogErrors, Logged};
use crate::memo::Memos;
use crate::metric_seasons::MetricSeasons;
use crate::metrics::{self, MetricTest, Served};
use crate::novelty::Novelty;
use crate::operation::{self, Moment, Operation, YOUNG_BUCKETS};
use crate::overlap::Overlaps;
use crate::paths::{Paths, Step};
use crate::quality;
use crate::restarts::Restarts;
use crate::share::Share;
use crate::slot::Look;
use crate::tolerances::Tolerances;
use crate::unanswered::Others;
use crate::zones;

/// Buckets that the control must have in a trailing minute, relative to the candidate's requests, to count as serving.
const CONTROL_SHARE_MIN: f64 = 0.05;

/// Requests of the control that are to be met before it is taken to have ended.
const CONTROL_MIN: f64 = 20.0;

/// Buckets before the start without which what has no control is not taken to be new, where some had to go.
const PAST_LEFT: u64 = 60;

/// Requests since the start that count as much as all before it in what is expected of late.
const LATELY_MIN: f64 = 200.0;

#[derive(Debug, Clone)]
pub(crate) struct Fold {
    pub(crate) frame: Frame,
    pub(crate) operations: Vec<Operation>,
    index: BTreeMap<(String, OperationKind), usize>,
    pub(crate) novelty: Novelty,
    /// Error messages, by template.
    pub(crate) logs: Novelty,
    pub(crate) log_errors: LogErrors,
    pub(crate) log_flow: LogFlow,
    /// What users do.
    pub(crate) actions: Actions,
    pub(crate) paths: Paths,
    pub(crate) metrics: Vec<MetricTest>,
    /// Days before whose same hours were held against metrics.
    pub(crate) metric_days: Vec<u32>,
    /// True where metrics have a past, and so may spend their share of alpha.
    pub(crate) levels: bool,
    pub(crate) flow: Flow,
    pub(crate) share: Share,
    pub(crate) dating: Dating,
    pub(crate) restarts: Restarts,
    pub(crate) drift: Drift,
    /// True where operations were read from metrics.
    pub(crate) measured: bool,
    /// True where log records are counted in place of requests.
    pub(crate) by_records: bool,
    /// Logarithm of the gate's e-process.
    pub(crate) gate: f64,
    /// The e-process of "worse by all that is tolerated" over all operations.
    pub(crate) health: Health,
    pub(crate) suppressed: BTreeSet<Suppressed>,
    /// Other deploys that are judged at the same time.
    pub(crate) overlaps: Overlaps,
    /// First bucket with candidate traffic.
    pub(crate) first: Option<Bucket>,
    /// First bucket with control traffic before the start.
    pub(crate) past_from: Option<Bucket>,
    /// Of what was before hardly anything is left: what has no control may have had one.
    pub(crate) past_gone: bool,
    next: Bucket,
    trailing: VecDeque<(u64, u64)>,
    /// For how many times its requests the time before the start counts, from each bucket on.
    past_weights: BTreeMap<Bucket, f64>,
    /// Failed and all requests of the control since the start.
    lately: (f64, f64),
    others: Measure,
    dealing: Dealing,
    pub(crate) before: u64,
    /// From here on the candidate may be missed, and from there on it is whoever serves.
    due: [Bucket; 2],
    pub(crate) callers: Callers,
    /// Requests of others to those that the service calls.
    calling_too: Others,
    /// Those of them that fail more than before.
    pub(crate) failing: Failing,
    /// Up to when it is known what callers and untouched services did: whoever carries the fold on further looks at the service alone.
    known_beside: Bucket,
    /// Requests of versions that are neither candidate nor control.
    bystanders: BTreeMap<Bucket, f64>,
    /// The first bucket since the start in which a version served that is not the candidate and was not there before.
    newcomer: Option<Bucket>,
}

impl Fold {
    /// Begins at the start of the deploy, with the past as it is.
    pub(crate) fn new(frame: Frame, input: &JudgeInput) -> Self {
        let tolerances = &input.tolerances;
        let kept = frame.clone();
        let mut novelty = Novelty::new(input.known_fingerprints.clone());
        let Earlier { past, counted, served } = Earlier::of(&frame, input, &mut novelty);
        let requests: BTreeMap<Bucket, f64> = counted.iter().map(|(bucket, _, all)| (*bucket, *all)).collect();
        let mut logged = Novelty::of_messages(logs::known(input));
        logged.past_requests(past.values().flatten().map(|cell| cell.2.requests).sum());
        let mut messages: BTreeMap<Bucket, f64> = BTreeMap::new();
        for log in logs::errors(input) {
            for (bucket, cell) in &log.series.cells {
                if frame.role(&log.series.version, *bucket) == Some(Role::Before) {
                    logged.past_count(log.fingerprint, &log.count(cell.count));
                    *messages.entry(*bucket).or_default() += cell.count as f64;
                }
            }
        }
        let first = counted.first().map(|counted| counted.0);
        let evicted = input.data_quality.iter().any(|word| word == quality::BASELINE_EVICTED);
        let unusual = incident::unusual(past.values());
        let beyond: Vec<incident::Counted> =
            counted.iter().map(|(bucket, _, n)| (*bucket, unusual.get(bucket).copied().unwrap_or(0.0), *n)).collect();
        let incidents = Incidents { errors: incident::find(&beyond, frame.start), latency: None };
        let mut dealing = Dealing::new(first.unwrap_or(frame.start), frame.start, incidents, tolerances);
        dealing.zone = zones::attribute(past.values().flatten().map(|cell| cell.2));
        let callers = Callers::of(input, &frame);
        let traffic: Vec<Traffic> = (first.unwrap_or(frame.start).0..frame.start.0)
            .rev()
            .filter(|bucket| !input.is_gap(Bucket(*bucket)))
            .map(|bucket| Traffic {
                candidate: 0.0,
                control: served[(bucket - frame.earliest.0) as usize],
                callers: callers.asked(Bucket(bucket)),
                excused: 1.0,
            })
            .collect();
        let usual = counted.iter().filter(|(bucket, ..)| !incidents.contain(*bucket));
        let served_before: Vec<(f64, f64)> = usual.map(|(_, bad, all)| (*bad, *all)).collect();
        let mut fold = Self {
            operations: Vec::new(),
            index: BTreeMap::new(),
            novelty,
            logs: logged,
            log_errors: LogErrors::new(&requests, &messages, dealing),
            actions: Actions::new(input, &frame, &requests),
            log_flow: LogFlow::new(input, &frame, requests.values().sum()),
            paths: Paths::new(input, &frame, dealing),
            metrics: Vec::new(),
            metric_days: Vec::new(),
            levels: metrics::any(&frame, &input.aggregates.metrics),
            flow: Flow::new(&traffic),
            share: Share::of(&input.deploy),
            dating: Dating::of(input, &kept),
            restarts: Restarts::default(),
            drift: Drift::of(input, &frame),
            measured: input.measured.is_some(),
            by_records: input.by_records,
            gate: 0.0,
            health: Health::new(&served_before),
            suppressed: input.suppressed.clone(),
            overlaps: Overlaps::of(input, &kept),
            first: None,
            past_from: first,
            past_gone: evicted && first.is_none_or(|first| frame.start.0.saturating_sub(first.0) < PAST_LEFT),
            next: frame.start,
            trailing: VecDeque::new(),
            past_weights: input.past_weights.clone(),
            lately: (0.0, 0.0),
            others: Measure::default(),
            dealing,
            before: 0,
            due: due(input, &frame),
            callers,
            calling_too: Others::of(input, &kept),
            failing: Failing::of(input, &kept),
            known_beside: kept.end,
            bystanders: BTreeMap::new(),
            newcomer: None,
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
        let mut own = series.iter().filter(|s| s.key.service == self.frame.service);
        let mut at = (String::new(), OperationKind::Server);
        own.all(|s| {
            let version = &s.key.version;
            let compared = *version == self.frame.version || self.frame.control_versions.contains(version);
            let renamed = self.frame.renamed.values().any(|was| *was == s.key.operation);
            // What holds no request is no operation.
            let renamed = renamed || s.cells.iter().all(|(_, cell)| cell.requests == 0);
            at.0.clone_from(&s.key.operation);
            at.1 = s.key.kind;
            compared && (renamed || self.index.contains_key(&at))
        })
    }

    /// Returns the place of an operation of the candidate that is followed.
    pub(crate) fn find(&self, key: &OperationKey) -> Option<usize> {
        self.index.get(&(self.frame.operation(key, Role::Candidate).to_owned(), key.kind)).copied()
    }

    /// Says whether what decides is brought up to date by nothing but a look at the whole.
    pub(crate) fn needs_whole(&self) -> bool {
        self.restarts.candidate.again() > 0.0 || self.by_levels()
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let operations: usize = self.operations.iter().map(Operation::bytes).sum();
        let told = self.novelty.bytes() + self.logs.bytes() + self.log_errors.bytes() + self.log_flow.bytes();
        let beside = self.paths.bytes() + self.actions.bytes() + self.flow.bytes() + self.restarts.bytes();
        let others = self.callers.bytes() + self.calling_too.bytes() + 24 * self.bystanders.len();
        let metrics = self.metrics.len() * (size_of::<MetricTest>() + 256);
        operations + told + beside + others + metrics + self.index.len() * 96
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
        let mut by_bucket: Vec<Vec<Fresh<'_>>> = Vec::new();
        by_bucket.resize_with(self.frame.end.0.saturating_sub(self.next.0) as usize, Vec::new);
        let boots = Boots::of(&self.frame, &input.aggregates.presence);
        let service = self.frame.service.clone();
        let served_before = |s: &&OperationSeries| s.cells.first().is_some_and(|(b, _)| *b < self.frame.start);
        let own = series.iter().filter(|s| s.key.service == service);
        let earlier: BTreeSet<&str> = own.filter(served_before).map(|s| s.key.version.as_str()).collect();
        for series in series.iter().filter(|s| s.key.service == service) {
            let roles = self.frame.roles(&series.key.version);
            // Looked up once for each role: the control's name may differ.
            let mut known: [Option<usize>; 2] = [None, None];
            let fresh = series.cells.partition_point(|(bucket, _)| *bucket < self.next);
            for (bucket, cell) in &series.cells[fresh..] {
                let role = roles(*bucket);
                if role.is_none() && *bucket < self.frame.end {
                    *self.bystanders.entry(*bucket).or_default() += flow::weight(cell);
                    if *bucket >= self.frame.start && !earlier.contains(series.key.version.as_str()) {
                        let first = self.newcomer.unwrap_or(*bucket);
                        self.newcomer = Some(first.min(*bucket));
                    }
                }
                let Some(role) = role else { continue };
                let control = role == Role::Control;
                if cell.requests == 0 {
                    let candidate = role == Role::Candidate;
                    if !(candidate && boots.are_in(*bucket)) {
                        self.novelty.wait(*bucket, candidate, cell);
                    }
                    continue;
                }
                let operation = match known[usize::from(control)] {
                    Some(operation) => operation,
                    None => self.operation(&series.key, role, tolerances),
                };
                known[usize::from(control)] = Some(operation);
                let age = if control { series.key.age } else { self.frame.candidate_age(series.key.age, *bucket) };
                by_bucket[(bucket.0 - self.next.0) as usize].push(Fresh { operation, control, age, cell });
            }
        }
        self.logs.fatal.extend(logs::fatal(input));
        self.actions.take(input, &self.frame, self.next);
        let mut logs = logs::since(input, &self.frame, &boots, self.next);
        let mut steps = self.paths.steps(input, &self.frame, self.dealing, self.next);
        let mut arms: Vec<[operation::Cells<'_>; 2]> = Vec::new();
        arms.resize_with(self.operations.len(), Default::default);
        let mut memos = Memos::new(arms.len());
        for now in by_bucket {
            for arm in arms.iter_mut().flatten() {
                arm.clear();
            }
            for Fresh { operation, control, age, cell } in now {
                arms[operation][usize::from(control)].push((age, cell));
            }
            for arm in arms.iter_mut().flatten().filter(|arm| arm.len() > 1) {
                arm.sort_by_key(|(age, _)| *age);
            }
            let logged = logs.remove(&self.next).unwrap_or_default();
            let steps = steps.remove(&self.next).unwrap_or_default();
            self.step(&arms, &mut memos, &logged, &steps, tolerances);
        }
        if !input.aggregates.metrics.is_empty() {
            let served = metrics::served(&self.frame, &input.series);
            let seasons = MetricSeasons::of(input, &self.frame);
            self.metric_days = seasons.days().collect();
            // Records have no times.
            let requests = if self.by_records { &Served::default() } else { &served };
            let levels = metrics::levels(&self.frame, &input.aggregates.metrics, requests);
            let disturbed = || Disturbances::of(input, self);
            self.metrics = metrics::tests(&self.frame, &levels, &served, &seasons, disturbed, tolerances);
        }
        if !input.aggregates.presence.is_empty() {
            self.restarts = Restarts::of(&self.frame, &input.aggregates.presence, tolerances);
            self.restarts.standing.elsewhere = self.restarted_meanwhile().is_some();
        }
    }

    fn step(
        &mut self,
        arms: &[[operation::Cells<'_>; 2]],
        memos: &mut Memos,
        logged: &[Logged],
        steps: &[Step<'_>],
        tolerances: &Tolerances,
    ) {
        let bucket = self.next;
        self.next = Bucket(bucket.0 + 1);
        if bucket < self.frame.from {
            return;
        }
        let cells = |arm: usize| arms.iter().flat_map(move |arms| &arms[arm]).map(|(_, cell)| *cell);
        let [candidate, control] = [0, 1].map(|arm| cells(arm).map(|cell| cell.requests).sum::<u64>());
        self.dating.push(bucket, candidate, control);
        self.trailing.push_back((candidate, control));
        while self.trailing.len() > 6 {
            self.trailing.pop_front();
        }
        if candidate > 0 && self.first.is_none() {
            self.first = Some(bucket);
        }
        let beside = serves_beside(&self.trailing);
        if bucket.0.is_multiple_of(6) {
            self.others = Tempering::of_all(self.operations.iter().map(|op| op.errors.tempering()));
        }
        let excused = self.drift.at(bucket);
        let moment = Moment {
            look: Look { bucket, since: bucket.0 - self.frame.from.0, beside, excused },
            first: self.first,
            others: self.others,
            expected: self.expected(),
            past_weight: self.past_weights.range(..=bucket).next_back().map_or(1.0, |(_, times)| *times),
            calling_too: &self.calling_too,
            failing: &self.failing,
            tolerances,
        };
        for cell in cells(1) {
            self.lately = (self.lately.0 + cell.errors as f64, self.lately.1 + cell.requests as f64);
        }
        // What is new while everybody fails is no news of the deploy, as far as that accounts for it.
        let usual = self.usual_errors();
        let said = excused.said(usual, candidate as f64, cells(0).map(|cell| cell.errors).sum::<u64>() as f64);
        let all_fail = excused.shared && !beside;
        let thrown = cells(0).flat_map(|cell| &cell.exceptions).filter(|(id, _)| self.novelty.is_new(**id));
        let shared = all_fail && thrown.map(|(_, of)| of.count).sum::<u64>() as f64 <= said;
        let messages_of_all = {
            let new = logged.iter().filter(|log| log.candidate && !log.at_boot && self.logs.is_new(log.fingerprint));
            all_fail && new.map(|log| log.count.count).sum::<u64>() as f64 <= said
        };
        for (index, (operation, [candidate, control])) in self.operations.iter_mut().zip(arms).enumerate() {
            operation.push(&moment, candidate, control, memos);
            for (is_candidate, cells) in [(true, candidate), (false, control)] {
                if !shared {
                    cells.iter().for_each(|(_, cell)| self.novelty.push(bucket, index, is_candidate, cell));
                }
            }
        }
        self.novelty.push_outside(bucket, !shared);
        let worst = self.operations.iter().map(|op| op.errors.standing.dispersion).fold(1.0, f64::max);
        self.novelty.close(bucket, (candidate, control), self.first.is_some(), worst.min(4.0), tolerances);
        let mut messages = [0.0; 2];
        for log in logged {
            messages[usize::from(!log.candidate)] += log.count.count as f64;
            if !messages_of_all && !log.at_boot {
                self.logs.count(bucket, 0, log.candidate, log.fingerprint, &log.count);
            }
        }
        self.logs.close(bucket, (candidate, control), self.first.is_some(), worst.clamp(2.0, 4.0), tolerances);
        let served = [candidate as f64, control as f64];
        self.log_errors.push(moment.look, messages, served, tolerances);
        if !all_fail {
            self.log_flow.push(bucket, candidate as f64, tolerances);
        }
        self.actions.push(moment.look, served, tolerances);
        self.paths.push(moment.look, steps, tolerances);
        let traffic = Traffic {
            candidate: cells(0).map(flow::weight).sum(),
            control: cells(1).map(flow::weight).sum::<f64>() + self.bystanders.remove(&bucket).unwrap_or(0.0),
            // Where nobody looked they are taken to call, so that what is missing is looked into with all that is known.
            callers: if bucket >= self.known_beside { f64::INFINITY } else { self.callers.asked(bucket) },
            excused: if excused.dark { f64::INFINITY } else { excused.traffic },
        };
        // Where versions come that nobody announced, the deploy may be one of those.
        let replaced = self.newcomer.is_some_and(|first| first <= bucket);
        let due = match self.due {
            _ if self.frame.version_missing || replaced => Due::Nothing,
            [_, first] if bucket >= first => Due::First,
            [share, _] if bucket >= share => Due::Share,
            _ => Due::Nothing,
        };
        self.flow.push(bucket, traffic, due, tolerances);
        let shared_since = self.first.filter(|_| {
            // Records are no traffic.
            beside && !self.frame.same && !self.frame.version_missing && !self.by_records
        });
        self.share.push(bucket, shared_since, traffic.candidate, traffic.control);
        if self.first.is_some_and(|first| bucket.0 == first.0 + YOUNG_BUCKETS) {
            self.operations.iter_mut().for_each(Operation::grow_up);
        }
        let mut all = Closeness::default();
        self.operations.iter().for_each(|op| all.add(&op.errors.closeness));
        self.health.push(bucket, all, tolerances);
        self.look(bucket, tolerances);
    }

    /// What is expected of the control by all that was seen of it so far.
    fn expected(&self) -> Expected {
        let usual = self.usual_errors();
        let (bad, all) = self.lately;
        Expected { usual, lately: (bad + LATELY_MIN * usual) / (all + LATELY_MIN) }
    }

    /// The control's share of failed requests over the whole service.
    pub(crate) fn usual_errors(&self) -> f64 {
        let (mut bad, mut all) = (0.0, 0.0);
        for op in &self.operations {
            let n = (op.before + op.control) as f64;
            bad += op.errors.reference() * n;
            all += n;
        }
        if all > 0.0 { bad / all } else { 0.0 }
    }
}

/// A cell that is not folded yet, with the index of its operation and the age at which it is compared.
struct Fresh<'a> {
    operation: usize,
    control: bool,
    age: AgeClass,
    cell: &'a OperationCell,
}

/// Says by the latest buckets of candidate and control whether the control serves beside: by as few of them as the
/// candidate has requests enough in, so that a control that has ended is not waited for.
fn serves_beside(latest: &VecDeque<(u64, u64)>) -> bool {
    let (mut b, mut a) = (0, 0);
    for (candidate, control) in latest.iter().rev() {
        (b, a) = (b + candidate, a + control);
        if b as f64 * CONTROL_SHARE_MIN >= CONTROL_MIN {
            break;
        }
    }
    a > 0 && a as f64 >= CONTROL_SHARE_MIN * b as f64
}
