//! What the tests of a deploy are about, how they stand, and what share of the gate each has.
//!
//! *The gate* is the mean of the e-processes of all tests, with weights fixed by the traffic before the start, over those
//! whose excess, if any, is the deploy's own doing. Leaving one out never raises the mean.

use plimsoll_model::signal::Fingerprint;
use plimsoll_model::{Bucket, Culprit, Design, SignalKind, Suppressed};

use crate::culprit::{self, Arm, Arms, Origin};
use crate::design::Role;
use crate::echoes::{FAILED_EACH, SAID_EACH};
use crate::failing::Failed;
use crate::fold::Fold;
use crate::forgone::Missing;
use crate::novelty::Seen;
use crate::operation::Operation;
use crate::paths::Failures;
use crate::recent::Recent;
use crate::standing::Standing;
use crate::tolerances::Tolerances;

const ERRORS_SHARE: f64 = 0.34;
const LATENCY_SHARE: f64 = 0.33;
const NOVELTY_SHARE: f64 = 0.06;
const LOGS_SHARE: f64 = 0.05;
const LOG_ERRORS_SHARE: f64 = 0.03;
const CALLS_SHARE: f64 = 0.04;
const ALONE_SHARE: f64 = 0.04;
const PATHS_SHARE: f64 = 0.02;
const LOG_FLOW_SHARE: f64 = 0.02;
const ACTIONS_SHARE: f64 = 0.02;
const FLOW_SHARE: f64 = 0.025;

/// Calls in addition that one failed call may bring: it is made again, and counts vary.
const AGAIN: f64 = 1.25;

/// Failures or exceptions that a trace in which the service failed may hold on average.
const EACH_TRACE: f64 = 2.0;

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
    /// How often one template is logged a request.
    LogFlow(usize),
    /// How often users do something, a request.
    Action(usize),
    /// Failures at the top of traces that the candidate took part in.
    Path(usize),
    /// The level of a metric.
    Metric(usize),
    /// Requests of the whole service.
    Throughput,
    /// Requests of the candidate.
    Silence,
    /// Starts of the candidate's instances.
    Restarts,
}

impl Subject {
    pub(crate) fn signal(self) -> SignalKind {
        match self {
            Self::Errors(_) | Self::Alone(_) | Self::Path(_) => SignalKind::ErrorRate,
            Self::Latency(_) => SignalKind::Latency,
            Self::New(_) => SignalKind::NewException,
            Self::NewLog(_) | Self::LogErrors | Self::LogFlow(_) => SignalKind::NewLog,
            Self::Metric(_) => SignalKind::Metric,
            Self::Calls(..) | Self::Action(_) | Self::Throughput => SignalKind::Throughput,
            Self::Silence | Self::Restarts => SignalKind::Silence,
        }
    }
}

impl Fold {
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
            Subject::Path(index) => self.paths.tests[index].operation.clone(),
            Subject::Restarts => Suppressed::RESTARTS.to_owned(),
            _ => String::new(),
        };
        self.suppressed.contains(&Suppressed { signal: subject.signal(), operation })
    }

    /// Says whether it is of a fatal error that was never logged before: of those a single one is more than is tolerated.
    pub(crate) fn is_new_fatal(&self, subject: Subject) -> bool {
        match subject {
            Subject::NewLog(id) => self.logs.fatal.contains(&id) && self.standing(subject).exceeded_at.is_some(),
            _ => false,
        }
    }

    /// Lists the fatal errors that were never logged before, each of which forbids a pass, those logged most first; those that a human
    /// asked not to hear of are left out.
    pub(crate) fn new_fatals(&self) -> Vec<&Seen> {
        let heard = |id: &Fingerprint| {
            let subject = Subject::NewLog(*id);
            self.is_new_fatal(subject) && !self.is_suppressed(subject)
        };
        let mut found: Vec<&Seen> = self.logs.fresh().filter(|(id, _)| heard(id)).map(|(_, seen)| seen).collect();
        found.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.message.cmp(&b.message)));
        found
    }

    /// Lists every test with its weight in the gate.
    pub(crate) fn subjects(&self) -> Vec<(Subject, f64)> {
        let mut found = Vec::with_capacity(2 * self.operations.len() + 8);
        let is_alone = |op: &Operation| op.is_alone() || op.alone.standing.triggered_at.is_some();
        let lonely = self.operations.iter().filter(|op| is_alone(op)).count() as f64;
        for (index, op) in self.operations.iter().enumerate() {
            if is_alone(op) && !self.past_gone {
                found.push((Subject::Alone(index), ALONE_SHARE / (lonely + 1.0)));
            }
            if op.before + op.control == 0 {
                continue;
            }
            let weight = self.weight(index);
            found.push((Subject::Errors(index), ERRORS_SHARE * weight));
            if op.latency.is_some() {
                // Where instances are young it is tested twice, each time with half of its share.
                let share = if op.young { 0.5 * LATENCY_SHARE } else { LATENCY_SHARE };
                found.push((Subject::Latency(index), share * weight));
            }
            let callees = op.calls.tests.len() as f64;
            let followed = (0..op.calls.tests.len()).filter(|i| !op.calls.moved(*i));
            found.extend(followed.map(|i| (Subject::Calls(index, i), CALLS_SHARE * weight / callees)));
        }
        let seen = self.novelty.all.len() as f64;
        let fresh = self.novelty.fresh().map(|(fingerprint, _)| Subject::New(*fingerprint));
        found.extend(fresh.map(|subject| (subject, NOVELTY_SHARE / (seen + 1.0))));
        let logged = self.logs.all.len() as f64;
        let fresh = self.logs.fresh().map(|(fingerprint, _)| Subject::NewLog(*fingerprint));
        found.extend(fresh.map(|subject| (subject, LOGS_SHARE / (logged + 1.0))));
        if logged > 0.0 && !self.by_records {
            found.push((Subject::LogErrors, LOG_ERRORS_SHARE));
        }
        let templates = if self.by_records { 0 } else { self.log_flow.tests.tests.len() };
        found.extend((0..templates).map(|index| (Subject::LogFlow(index), LOG_FLOW_SHARE / templates as f64)));
        let actions = self.actions.tests.len();
        found.extend((0..actions).map(|index| (Subject::Action(index), ACTIONS_SHARE / actions as f64)));
        let tops = self.paths.tests.len() as f64;
        found.extend((0..self.paths.tests.len()).map(|index| (Subject::Path(index), PATHS_SHARE / tops)));
        // Metrics have levels of their own: they are looked at minute by minute, beside the gate.
        found.extend((0..self.metrics.len()).map(|index| (Subject::Metric(index), 0.0)));
        if self.restarts.candidate.starts > 0.0 {
            found.push((Subject::Restarts, 0.0));
        }
        if !self.by_records {
            found.push((Subject::Throughput, FLOW_SHARE));
            found.push((Subject::Silence, FLOW_SHARE));
        }
        found
    }

    /// Weight of what was tested of young instances and is forgotten.
    pub(crate) fn forgotten(&self) -> f64 {
        let begun_anew = |op: &Operation| op.latency.as_ref().is_some_and(|latency| latency.anew);
        let each = self.operations.iter().enumerate().filter(|(_, op)| begun_anew(op));
        each.map(|(index, _)| 0.5 * LATENCY_SHARE * self.weight(index)).sum()
    }

    /// Share of one operation in what is spent on all; shares sum to one.
    ///
    /// Half by traffic, half evenly: a busy operation is judged fast and a quiet one is still judged.
    pub(crate) fn weight(&self, index: usize) -> f64 {
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
            Subject::LogFlow(index) => &self.log_flow.tests.tests[index].standing,
            Subject::Action(index) => &self.actions.tests[index].standing,
            Subject::Path(index) => &self.paths.tests[index].test.standing,
            Subject::Metric(index) => &self.metrics[index].standing,
            Subject::Throughput => &self.flow.throughput,
            Subject::Silence => &self.flow.silence,
            Subject::Restarts => &self.restarts.standing,
        }
    }

    pub(crate) fn standing_mut(&mut self, subject: Subject) -> &mut Standing {
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
            Subject::LogFlow(index) => &mut self.log_flow.tests.tests[index].standing,
            Subject::Action(index) => &mut self.actions.tests[index].standing,
            Subject::Path(index) => &mut self.paths.tests[index].test.standing,
            Subject::Metric(index) => &mut self.metrics[index].standing,
            Subject::Throughput => &mut self.flow.throughput,
            Subject::Silence => &mut self.flow.silence,
            Subject::Restarts => &mut self.restarts.standing,
        }
    }

    /// Says where the cause of an excess lies, as far as it is folded.
    pub(crate) fn origin(&self, subject: Subject, tolerances: &Tolerances) -> Origin {
        let now = Bucket(self.next().0.saturating_sub(1));
        self.left_to_another(subject, self.traced_to(subject, tolerances), now, tolerances)
    }

    /// Says the same by traces, whatever other deploys there are.
    fn traced_to(&self, subject: Subject, tolerances: &Tolerances) -> Origin {
        let own = |operation: &str| Origin {
            culprit: Culprit {
                service: self.frame.service.service.clone(),
                version: self.frame.version.clone(),
                operation: operation.to_owned(),
            },
            elsewhere: false,
            traced: true,
        };
        let counted = matches!(subject, Subject::Errors(_) | Subject::Path(_) | Subject::New(_));
        let failures = if matches!(subject, Subject::Path(_)) { Failures::Top } else { Failures::Own };
        if counted
            && self.design() == Design::Concurrent
            && self.shows_in_paths(subject)
            && let Some(other) = self.paths.instead(&self.frame, failures)
        {
            // With everybody else's version held equal the candidate does not fail more, and another does.
            let culprit = Culprit { service: other.service, version: other.version, operation: String::new() };
            return Origin { culprit, elsewhere: true, traced: true };
        }
        match subject {
            Subject::Errors(index) => {
                let op = &self.operations[index];
                // A callee may have had an outage besides.
                let by_itself = || op.calm.exceeds(op.errors.reference(), tolerances);
                Some(culprit::of_errors(&self.arms(index)))
                    .filter(|origin| !origin.elsewhere || !by_itself())
                    .unwrap_or_else(|| own(&op.name))
            }
            Subject::Latency(index) => {
                culprit::of_latency(&self.arms_by(index, |recent| (recent.tail[0], recent.timed)))
            }
            Subject::Alone(index) => self.of_alone(index).1,
            Subject::Calls(index, callee) => {
                // Who fails before its calls, or in them, makes fewer.
                let test = &self.operations[index].calls.tests[callee];
                let missing = test.missing();
                let (failed, origin) = self.passed_on(index);
                if origin.elsewhere && missing > 0.0 && failed >= 0.5 * missing {
                    return origin;
                }
                let arms = self.arms(index);
                // Who is failed does without.
                let [made, usual] = test.rates();
                let fewer = (usual - made) * test.candidate.1;
                let done_without = |gone: &Missing<'_>| gone.party.service == test.service && gone.calls >= 0.5 * fewer;
                if fewer > 0.0
                    && let Some(gone) = arms.missing_calls().into_iter().find(done_without)
                {
                    return culprit::settle_failed(&arms, gone.party);
                }
                let overcome = arms.down().into_iter().find(|down| down.party.service == test.service);
                if let Some(down) = overcome.filter(|down| fewer > 0.0 && down.overcome >= 0.5 * fewer) {
                    return culprit::settle(&arms, Some(down.party));
                }
                // Or calls again.
                let to = |failed: &Failed<'_>| {
                    (&failed.party.service, &failed.party.operation) == (&test.service, &test.operation)
                };
                let failed: Vec<Failed<'_>> = arms.failed_calls().into_iter().filter(to).collect();
                let calls: f64 = failed.iter().map(|failed| failed.calls).sum();
                let again = test.additional() > 0.0 && arms.each * test.additional() <= AGAIN * calls;
                match failed.first().filter(|_| again) {
                    Some(most) => culprit::settle_failed(&arms, most.party),
                    None => own(&self.operations[index].name),
                }
            }
            Subject::New(fingerprint) => {
                let seen = self.novelty.all.get(&fingerprint);
                let thrown: u64 = seen.map_or(0, |seen| seen.candidate.values().sum());
                let echoed = self.echoed(thrown as f64, SAID_EACH, f64::INFINITY);
                let accounts = |_: &Origin| seen.is_none_or(|seen| !self.comes_without(seen));
                if let Some(origin) = echoed.or_else(|| self.swallowed(thrown as f64)).filter(accounts) {
                    return origin;
                }
                let operation = seen.map_or(0, |seen| seen.operation());
                own(self.operations.get(operation).map_or("", |op| &op.name))
            }
            Subject::NewLog(fingerprint) => {
                let seen = self.logs.all.get(&fingerprint);
                let said: u64 = seen.map_or(0, |seen| seen.candidate.values().sum());
                let accounts = |_: &Origin| seen.is_none_or(|seen| !self.comes_without(seen));
                let echoed = self.echoed(said as f64, SAID_EACH, f64::INFINITY);
                let accounted = echoed.or_else(|| self.swallowed(said as f64)).filter(accounts);
                accounted.unwrap_or_else(|| own(""))
            }
            Subject::LogErrors => {
                let rates = self.log_errors.test.sums.rates();
                let more = rates.bad_b - rates.rate_a * rates.n_b;
                let echoed = self.echoed(0.0, SAID_EACH, f64::INFINITY);
                echoed.or_else(|| self.swallowed(more)).unwrap_or_else(|| own(""))
            }
            Subject::Path(index) => {
                let test = &self.paths.tests[index];
                let rates = test.test.sums.rates();
                let more = rates.bad_b - rates.rate_a * rates.n_b;
                // A failure that was swallowed on the way up is not what failed there.
                let arrived = test.more_with_own(self.design());
                let echoed = self.echoed(more, FAILED_EACH, arrived);
                echoed.or_else(|| self.beside_it(more)).unwrap_or_else(|| own(""))
            }
            Subject::Metric(index) => match &self.metrics[index].culprit {
                Some(culprit) => Origin { culprit: culprit.clone(), elsewhere: true, traced: true },
                None => own(""),
            },
            Subject::Action(index) => {
                // Who is failed does not get through; what had begun before goes on.
                let test = &self.actions.tests[index];
                let begun = test.standing.triggered_at.is_some();
                let failed = || {
                    let missing = test.missing();
                    let echoed = self.echoed(missing, FAILED_EACH, f64::INFINITY);
                    echoed.or_else(|| self.swallowed(missing * SAID_EACH / FAILED_EACH))
                };
                (!begun).then(failed).flatten().unwrap_or_else(|| own(""))
            }
            Subject::LogFlow(index) => {
                // What is logged with each request goes with how it ends.
                let test = &self.log_flow.tests.tests[index];
                let (said, each) = match test.additional() {
                    0.0 => (test.missing(), FAILED_EACH),
                    more => (more, SAID_EACH),
                };
                let echoed = self.echoed(said, each, f64::INFINITY);
                echoed.or_else(|| self.swallowed(said * SAID_EACH / each)).unwrap_or_else(|| own(""))
            }
            Subject::Restarts => self.restarted_meanwhile().unwrap_or_else(|| own("")),
            Subject::Throughput | Subject::Silence => own(""),
        }
    }

    /// Says whether traces through the candidate hold the failures in question: requests that call nobody, and traces that
    /// are not whole, are in no path.
    fn shows_in_paths(&self, subject: Subject) -> bool {
        let failures = match subject {
            Subject::Errors(index) => {
                self.operations[index].pooled[Role::Candidate as usize].iter().map(|(errors, _)| errors).sum()
            }
            Subject::New(fingerprint) => {
                self.novelty.all.get(&fingerprint).map_or(0.0, |seen| seen.candidate.values().sum::<u64>() as f64)
            }
            _ => 0.0,
        };
        failures <= EACH_TRACE * self.paths.own_failures(&self.frame)
    }

    /// Returns how many failures of an operation came in addition where most of them began, and where that is.
    pub(crate) fn passed_on(&self, index: usize) -> (f64, Origin) {
        if self.operations[index].is_alone() { self.of_alone(index) } else { culprit::excess_errors(&self.arms(index)) }
    }

    /// Returns the same of an operation without a control.
    fn of_alone(&self, index: usize) -> (f64, Origin) {
        let arms = self.arms(index);
        let role = if arms.design == Design::Concurrent { Role::Control } else { Role::Candidate };
        let others = self.operations.iter().enumerate().filter(|(at, _)| role == Role::Control || *at != index);
        let beside: Vec<&Arm> = others.map(|(_, op)| &op.arms[role as usize]).collect();
        culprit::of_alone(&arms, &beside)
    }

    /// Returns both arms of an operation, as they tell of failures.
    pub(crate) fn arms(&self, index: usize) -> Arms<'_> {
        self.arms_by(index, |recent| (recent.errors, recent.requests))
    }

    /// Returns both arms in the design that tells of what is wrong: the deploy as a whole may have had a control beside it, and
    /// none by the time it came.
    fn arms_by(&self, index: usize, wrong: impl Fn(&Recent) -> (f32, f32)) -> Arms<'_> {
        let op = &self.operations[index];
        let known = op.arms[Role::Before as usize].assembled > 0;
        let design = match self.design() {
            Design::Concurrent if known && op.went_wrong_alone(wrong) => Design::BeforeAfter,
            design => design,
        };
        Arms {
            service: &self.frame.service.service,
            version: &self.frame.version,
            operation: &op.name,
            design,
            candidate: &op.arms[0],
            control: if design == Design::Concurrent { &op.arms[1] } else { &op.arms[2] },
            outages: &op.outages,
            forgone: &op.forgone,
            testimony: &op.testimony,
            each: op.known.each(self.frame.drawn),
        }
    }
}
