//! Who else calls the service's callees, and whether those are as bad to them.
//!
//! Before against after a callee that fails, or does not answer, may have been broken by the candidate or by anything else. Where as large a share of others'
//! calls fails in the same buckets, it is the callee's; where all is well with them, it is bad to the candidate alone, as with requests that it
//! does not understand. Half of the candidate's share tells, bucket by bucket: what others do at other times is held against nothing.
//!
//! - *Failed* calls of others are the callee's own requests less those of the service: callers that call again or do without are known by these as well. What is
//!   called through another callee, too, tells nothing. Where the service's own calls are known of a share of its traces, what is left for others is
//!   uncertain by what that share draws.
//! - *Unanswered* ones are told by the others' own traces.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::Bucket;
use plimsoll_model::signal::{OperationCell, Party};

use crate::culprit::Arm;
use crate::design::Frame;
use crate::input::JudgeInput;
use crate::known;
use crate::unanswered::is_name_of;

/// Bad calls of others from which on it is as bad to them.
const BAD_MIN: f64 = 3.0;
/// Standard deviations of a count that are chance.
const CHANCE: f64 = 2.0;
/// Share of the candidate's own share from which on it is as bad to them.
const AS_BADLY: f64 = 0.5;
/// Buckets with the candidate's first calls.
const EARLY: u64 = 12;
/// Callees of an operation that are followed.
const CALLEES_MAX: usize = 64;

/// All and bad calls.
type Counted = [f64; 2];

/// Calls of others: since the start by bucket, and all before; and by what variance those of a bucket are uncertain.
#[derive(Debug, Clone, Default)]
struct Calls {
    since: BTreeMap<Bucket, Counted>,
    before: Counted,
    variance: BTreeMap<Bucket, Counted>,
}

impl Calls {
    fn add(&mut self, bucket: Bucket, frame: &Frame, counted: Counted) {
        if bucket < frame.end {
            let sum = if bucket < frame.start { &mut self.before } else { self.since.entry(bucket).or_default() };
            add(sum, counted);
        }
    }

    /// Takes off what `drawn` tells of all that it stands for, `each` of them for so many.
    fn take_off(&mut self, bucket: Bucket, frame: &Frame, drawn: Counted, each: f64) {
        self.add(bucket, frame, drawn.map(|n| -each * n));
        if frame.drawn && (frame.start..frame.end).contains(&bucket) {
            add(self.variance.entry(bucket).or_default(), drawn.map(|n| known::variance(n, each)));
        }
    }
}

fn add(sum: &mut Counted, [all, bad]: Counted) {
    *sum = [sum[0] + all, sum[1] + bad];
}

/// What others' calls tell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witnesses {
    /// Calls that failed, by service and operation.
    failed: BTreeMap<(String, String), Calls>,
    /// Calls that were answered, by service and operation, and calls that nobody answered, by whom they were meant for.
    reached: BTreeMap<(String, String), Calls>,
}

/// What they tell of a callee that is bad to the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Testimony {
    TheyAsWell,
    ThisOneAlone,
    Nothing,
}

impl Witnesses {
    /// Counts them.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        let mut found = Self::default();
        for series in &input.witnesses {
            let calls = found.reached.entry((series.target.clone(), series.operation.clone())).or_default();
            for (bucket, served) in &series.cells {
                let [answered, unanswered] = [served.answered, served.unanswered].map(|n| n as f64);
                calls.add(*bucket, frame, [answered + unanswered, unanswered]);
            }
        }
        let own = || input.series.iter().filter(|s| s.key.service == frame.service).flat_map(|s| &s.cells);
        let blamed = own().filter(|(bucket, _)| *bucket >= frame.start).flat_map(|(_, cell)| cell.blame.keys());
        let blamed = blamed.filter(|party| party.service != frame.service.service && !party.operation.is_empty());
        let mut asked: BTreeSet<(&str, &str)> = blamed.map(name).collect();
        if asked.is_empty() {
            return found;
        }
        for series in &input.related {
            // What the service reaches through another as well is no measure of its own calls.
            for party in series.cells.iter().flat_map(|(_, cell)| cell.callees.keys()) {
                asked.remove(&name(party));
            }
        }
        for series in &input.related {
            let operation = (series.key.service.service.as_str(), series.key.operation.as_str());
            if asked.contains(&operation) {
                let calls = found.failed.entry((operation.0.to_owned(), operation.1.to_owned())).or_default();
                let cells = series.cells.iter();
                cells.for_each(|(bucket, cell)| calls.add(*bucket, frame, [cell.requests as f64, cell.errors as f64]));
            }
        }
        for (bucket, cell) in own().filter(|(_, cell)| cell.assembled > 0) {
            // Of some traces it is never known, or not yet, whom they called.
            let each = cell.requests as f64 / cell.assembled as f64;
            let made = cell.callees.iter().map(|(party, time)| (party, [time.calls as f64, 0.0]));
            let failed = cell.blame.iter().map(|(party, failed)| (party, [0.0, *failed as f64]));
            for (party, drawn) in made.chain(failed) {
                if let Some(calls) = found.failed.get_mut(&(party.service.clone(), party.operation.clone())) {
                    calls.take_off(*bucket, frame, drawn, each);
                }
            }
        }
        found
    }

    /// Counts their calls to some operations of a service in a bucket: all, and those that went unanswered beyond as many as do at any time, whichever
    /// operation they were meant for.
    fn in_vain(&self, service: &str, operations: &BTreeSet<&str>, bucket: Bucket) -> Counted {
        let meant = |(target, operation): &(String, String)| match operation.as_str() {
            // Whose an address of numbers is nobody knows.
            "" => is_name_of(target, service) || target.parse::<IpAddr>().is_ok(),
            operation => target == service && operations.contains(operation),
        };
        more(self.reached.iter().filter(|(called, _)| meant(called)).map(|(_, calls)| calls), bucket)
    }

    /// Counts their calls to a service that it answered in a bucket; none where nothing is known of them.
    pub(crate) fn answered(&self, service: &str, bucket: Bucket) -> f64 {
        let to_it = self.reached.iter().filter(|((target, operation), _)| target == service && !operation.is_empty());
        to_it.filter_map(|(_, calls)| calls.since.get(&bucket)).map(|[all, _]| all).sum()
    }

    /// The same of calls to one operation that failed, and by what variance both are uncertain.
    fn failed(&self, operation: &(String, String), bucket: Bucket) -> [Counted; 2] {
        let Some(calls) = self.failed.get(operation) else { return Default::default() };
        let [all, bad] = calls.variance.get(&bucket).copied().unwrap_or_default();
        let usual = usual(calls.before);
        [more(std::iter::once(calls), bucket), [all, bad + usual * usual * all]]
    }
}

fn name(party: &Party) -> (&str, &str) {
    (&party.service, &party.operation)
}

/// Counts calls in a bucket: all, and those that were bad beyond as many as are at any time; fewer in some buckets make up for more in others.
fn more<'a>(each: impl Iterator<Item = &'a Calls>, bucket: Bucket) -> Counted {
    let (mut now, mut before) = ([0.0; 2], [0.0; 2]);
    for calls in each {
        let here = calls.since.get(&bucket).copied().unwrap_or_default();
        now = [now[0] + here[0], now[1] + here[1]];
        before = [before[0] + calls.before[0], before[1] + calls.before[1]];
    }
    [now[0], now[1] - usual(before) * now[0]]
}

/// Returns the share of calls that are bad at any time.
fn usual([all, bad]: Counted) -> f64 {
    (bad / all.max(1.0)).clamp(0.0, 1.0)
}

/// Calls of the candidate to one callee held against those of others, bucket by bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    made: f64,
    bad: f64,
    /// Calls of others, and how many of them would be bad at the candidate's share of each bucket, with its variance.
    others: f64,
    expected: f64,
    variance: f64,
    /// What the variance is for each share that is usual.
    spread: f64,
    /// The variance of both for what is not known of others' calls.
    unknown: Counted,
    /// Those that were bad in addition.
    theirs: f64,
    /// The candidate's first calls, all and bad, and the first bucket after these.
    early: Counted,
    early_until: Option<Bucket>,
}

impl Held {
    fn push(&mut self, bucket: Bucket, [made, bad]: Counted, [[all, theirs], unknown]: [Counted; 2]) {
        (self.made, self.bad) = (self.made + made, self.bad + bad);
        if made > 0.0 {
            if bucket < *self.early_until.get_or_insert(Bucket(bucket.0 + EARLY)) {
                self.early = [self.early[0] + made, self.early[1] + bad];
            }
            let each = all / made;
            self.others += all;
            self.expected += each * bad;
            self.variance += each * each * bad;
            self.spread += each * all;
            self.theirs += theirs;
            let share = bad / made;
            add(&mut self.unknown, [share * share * unknown[0], unknown[1]]);
        }
    }

    /// Says whether it was as bad to the candidate's first calls. What begins later, as with an instance that goes bad or with a version of the callee, is no
    /// doing of requests that had been served well.
    fn began_early(&self, usual: f64) -> bool {
        let more = |[all, bad]: Counted| bad / all.max(1.0) - usual;
        more(self.early) >= AS_BADLY * more([self.made, self.bad])
    }

    /// Says what others tell where such a share of the candidate's calls is bad at any time.
    fn told(&self, usual: f64) -> Testimony {
        if self.bad > self.made {
            // Not all of these calls are known.
            return Testimony::Nothing;
        }
        let expected = AS_BADLY * (self.expected - usual * self.others).max(0.0);
        let [expected_by, theirs_by] = self.unknown;
        let variance = AS_BADLY * AS_BADLY * (self.variance + usual * self.spread + expected_by) + theirs_by;
        if self.theirs >= expected.max(BAD_MIN) {
            Testimony::TheyAsWell
        } else if expected - CHANCE * (expected + variance).sqrt() > self.theirs.max(0.0) && self.began_early(usual) {
            Testimony::ThisOneAlone
        } else {
            Testimony::Nothing
        }
    }
}

/// Calls of one operation of the candidate beside those of others: failed ones by service and operation, unanswered ones by service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Testimonies {
    failed: BTreeMap<(String, String), Held>,
    in_vain: BTreeMap<String, Held>,
}

impl Testimonies {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        (self.failed.len() + self.in_vain.len()) * 150
    }

    /// Takes one bucket of the candidate.
    pub(crate) fn push<'a>(
        &mut self,
        bucket: Bucket,
        cells: impl Iterator<Item = &'a OperationCell> + Clone,
        before: &Arm,
        witnesses: &Witnesses,
    ) {
        if !witnesses.failed.is_empty() {
            let mut here: BTreeMap<(&str, &str), Counted> = BTreeMap::new();
            for (party, time) in cells.clone().flat_map(|cell| &cell.callees) {
                here.entry(name(party)).or_default()[0] += time.calls as f64;
            }
            for (party, failed) in cells.clone().flat_map(|cell| &cell.blame) {
                here.entry(name(party)).or_default()[1] += *failed as f64;
            }
            for ((service, operation), counted) in here {
                let key = (service.to_owned(), operation.to_owned());
                if witnesses.failed.contains_key(&key) && self.failed.len() < CALLEES_MAX {
                    let others = witnesses.failed(&key, bucket);
                    self.failed.entry(key).or_default().push(bucket, counted, others);
                }
            }
        }
        if !witnesses.reached.is_empty() {
            let calls = || cells.clone().flat_map(|cell| &cell.callees);
            let answered = calls().map(|(party, _)| party).filter(|party| !party.is_unanswered());
            let mut called: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for party in answered.chain(before.callees.keys()) {
                called.entry(&party.service).or_default().insert(&party.operation);
            }
            for (service, operations) in called.into_iter().take(CALLEES_MAX) {
                let meant = |party: &Party| match party.is_unanswered() {
                    true => is_name_of(&party.service, service),
                    false => party.service == service,
                };
                let mut counted = [0.0; 2];
                for (party, time) in calls().filter(|(party, _)| meant(party)) {
                    counted[0] += time.calls as f64;
                    counted[1] += if party.is_unanswered() { time.calls as f64 } else { 0.0 };
                }
                let others = witnesses.in_vain(service, &operations, bucket);
                self.in_vain.entry(service.to_owned()).or_default().push(bucket, counted, [others, [0.0; 2]]);
            }
        }
    }

    /// Says what others tell of a callee's operation that fails, of which a share of the candidate's calls does at any time.
    pub(crate) fn of_failed(&self, party: &Party, usual: f64) -> Testimony {
        let held = self.failed.get(&(party.service.clone(), party.operation.clone()));
        held.map_or(Testimony::Nothing, |held| held.told(usual))
    }

    /// Says the same of a service that does not answer.
    pub(crate) fn of_unanswered(&self, service: &str, usual: f64) -> Testimony {
        self.in_vain.get(service).map_or(Testimony::Nothing, |held| held.told(usual))
    }
}
