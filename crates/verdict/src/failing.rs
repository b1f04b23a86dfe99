//! Callees that fail more than before, by their own requests: what their callers make of it is no doing of those.
//!
//! A caller may pass a failure on, and is told by its traces ([`crate::culprit`]). It may also call again, or do without: then none of its own
//! requests fails, and there are more calls, slower requests, and messages and exceptions that were never there. Of each call to such a callee
//! as many are taken to have failed as of all its requests in the same bucket. What is said of a bucket stays said: nothing that comes later, be it
//! as usual, has an outage forgotten.
//!
//! One that is slow fills its callers up: in such buckets they turn requests away and let them wait, as with a breaker that is open.
//!
//! *One after the other* alone: whether the candidate broke it cannot be told then, as with failures that are passed on. Side by side the control calls
//! it at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

use plimsoll_model::Bucket;
use plimsoll_model::signal::{OperationCell, OperationSeries, Party};

use crate::culprit::Arm;
use crate::design::Frame;
use crate::forgone;
use crate::input::JudgeInput;
use crate::known;
use crate::unanswered::{Late, slow};

/// Requests of a callee without which it tells nothing.
const REQUESTS_MIN: f64 = 20.0;
/// Standard deviations of a count of failures that are chance.
const CHANCE: f64 = 3.0;

/// Share of requests in addition that fail where callers do without: from so much on breakers open, most from half.
const DONE_WITHOUT: f64 = 0.1;
/// Requests that tell whether a callee fails at the moment, and buckets in which they are looked for.
const LATEST: f64 = 20.0;
const LATEST_BUCKETS: u64 = 12;
/// The same of calls that tell how long they last: a few are slow at any time.
const LATEST_SLOW: f64 = 100.0;
/// Times as long as before, and nanoseconds longer, by which calls last where callers fill up.
const SLOW_TIMES: f64 = 3.0;
const SLOW_NS: f64 = 50e6;
/// Share of others' requests that come late from which on it is slow for them; buckets after the start from which on it is so by itself, whoever else tells: heavier
/// calls are heavy at first.
const LATE_SHARE: f64 = 0.25;
const AT_FIRST: u64 = 6;
/// Buckets of slowness that show whether it fills its caller up, and times as long as ever that requests take themselves where it does.
const ONSET: u64 = 30;
const WAITS: f64 = 1.5;
/// Buckets after which callers call again who is well again.
const AFTER: u64 = 6;

/// Callees that fail more than before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failing {
    /// Shares of requests that fail in addition, by service and operation; those that do not, as of each bucket, are not in it.
    shares: BTreeMap<Bucket, Vec<(String, String, f64)>>,
    /// Buckets in which callers may do without a service.
    broken: BTreeMap<String, BTreeSet<Bucket>>,
    /// The service that calls them.
    caller: String,
}

/// Failed and all requests.
type Counted = [f64; 2];

/// Calls to one callee that failed in addition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed<'a> {
    pub(crate) party: &'a Party,
    pub(crate) calls: f64,
}

impl Failing {
    /// Counts those of the callees of the service that are known.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        if input.related.is_empty() {
            return Self::default();
        }
        let own = input.series.iter().filter(|series| series.key.service == frame.service);
        let called: BTreeSet<(&str, &str)> = own
            .flat_map(|series| &series.cells)
            .flat_map(|(_, cell)| cell.callees.keys())
            .filter(|party| party.service != frame.service.service)
            .map(|party| (party.service.as_str(), party.operation.as_str()))
            .collect();
        let mut counts: BTreeMap<(&str, &str), [Counted; 2]> = BTreeMap::new();
        for series in &input.related {
            let name = (series.key.service.service.as_str(), series.key.operation.as_str());
            if !called.contains(&name) {
                continue;
            }
            let counts = counts.entry(name).or_default();
            for (bucket, cell) in series.cells.iter().filter(|(bucket, _)| *bucket < frame.end) {
                let [failed, all] = &mut counts[usize::from(*bucket >= frame.start)];
                (*failed, *all) = (*failed + cell.errors as f64, *all + cell.requests as f64);
            }
        }
        let mut found = Self { caller: frame.service.service.clone(), ..Self::default() };
        found.follow_slow(input, frame);
        for (name, [before, _]) in counts.iter().filter(|(_, [_, since])| since[0] > CHANCE) {
            let usual = before[0].max(0.5) / before[1].max(1.0);
            found.follow(*name, &since_the_start(input, frame, *name), usual);
        }
        found
    }

    /// Looks at an operation of a callee bucket by bucket, as one would have at the time.
    fn follow(&mut self, (service, operation): (&str, &str), since: &BTreeMap<Bucket, Counted>, usual: f64) {
        let mut sum = [0.0; 2];
        for (bucket, [failed, all]) in since {
            sum = [sum[0] + failed, sum[1] + all];
            let now = latest(since, *bucket, LATEST);
            if [sum, latest(since, *bucket, f64::INFINITY), now].iter().any(|counted| is_more(*counted, usual)) {
                let share = ((failed - usual * all) / all).max(0.0);
                self.shares.entry(*bucket).or_default().push((service.to_owned(), operation.to_owned(), share));
            }
            let [failed, all] = now;
            if exceeds(now, usual) && failed - usual * all >= DONE_WITHOUT * all {
                let buckets = self.broken.entry(service.to_owned()).or_default();
                buckets.extend((0..=AFTER).map(|after| Bucket(bucket.0 + after)));
            }
        }
    }

    /// Looks for buckets in which calls to a service last several times as long as before, and those of others too: its callers' threads,
    /// connections and places fill up, and what finds none is turned away or waits.
    fn follow_slow(&mut self, input: &JudgeInput, frame: &Frame) {
        let mut times: BTreeMap<&str, BTreeMap<Bucket, Counted>> = BTreeMap::new();
        let mut made: BTreeMap<&str, BTreeMap<Bucket, f64>> = BTreeMap::new();
        let mut itself: BTreeMap<Bucket, Itself> = BTreeMap::new();
        for series in input.series.iter().filter(|series| series.key.service == frame.service) {
            for (bucket, cell) in series.cells.iter().filter(|(bucket, _)| *bucket < frame.end) {
                let called =
                    cell.callees.iter().filter(|(party, _)| party.service != self.caller && !party.is_unanswered());
                itself.entry(*bucket).or_default().add(cell, &self.caller);
                for (party, time) in called {
                    let sum = times.entry(&party.service).or_default().entry(*bucket).or_default();
                    *sum = [sum[0] + time.critical_ns as f64, sum[1] + time.calls as f64];
                    // Where few traces tell of calls, the others made some as well.
                    let all = known::each(cell, frame.drawn) * time.calls as f64;
                    *made.entry(&party.service).or_default().entry(*bucket).or_default() += all;
                }
            }
        }
        let as_ever = Itself::within(&itself, ..frame.start);
        let called = |series: &&OperationSeries| times.contains_key(series.key.service.service.as_str());
        // Nobody asks how fast others are served while the service waits for nobody.
        let mut late = None;
        for (service, times) in &times {
            let mut others = None;
            let before =
                times.range(..frame.start).fold([0.0; 2], |sum, (_, [ns, calls])| [sum[0] + ns, sum[1] + calls]);
            if before[1] < REQUESTS_MIN {
                continue;
            }
            let (usual, mut began) = (before[0] / before[1], None);
            let since: BTreeMap<Bucket, Counted> =
                times.range(frame.start..).map(|(bucket, sum)| (*bucket, *sum)).collect();
            for bucket in since.keys() {
                let [ns, calls] = latest(&since, *bucket, LATEST_SLOW);
                if calls < LATEST || ns < SLOW_TIMES * usual * calls || ns < (usual + SLOW_NS) * calls {
                    continue;
                }
                let began = *began.get_or_insert(*bucket);
                // Who makes heavier calls waits alone, and from its first minute on.
                let others = others.get_or_insert_with(|| {
                    let related = || input.related.iter().filter(called);
                    let late = late.get_or_insert_with(|| slow(related(), frame, &input.tolerances));
                    served_to_others(input, frame, service, late, &made[service])
                });
                let [late, requests] = latest(others, *bucket, LATEST);
                let for_others = requests >= REQUESTS_MIN && late >= LATE_SHARE * requests;
                let by_itself = began.0 >= frame.start.0 + AT_FIRST;
                // Who was not filled up at first is not filled up later.
                let onset = began..Bucket(began.0 + ONSET);
                let fills = onset.contains(bucket) || Itself::within(&itself, onset).is_worse_than(&as_ever);
                if (for_others || by_itself) && fills {
                    let buckets = self.broken.entry((*service).to_owned()).or_default();
                    buckets.extend((0..=AFTER).map(|after| Bucket(bucket.0 + after)));
                }
            }
        }
    }

    /// The service whose callees they are.
    pub(crate) fn caller(&self) -> &str {
        &self.caller
    }

    /// Lists the services that fail so much in a bucket, or did a minute ago, that callers may do without.
    pub(crate) fn broken(&self, bucket: Bucket) -> impl Iterator<Item = &str> {
        self.broken.iter().filter(move |(_, buckets)| buckets.contains(&bucket)).map(|(service, _)| service.as_str())
    }
}

/// Calls of one operation of the candidate that failed in addition.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailedCalls {
    by_party: BTreeMap<Party, f64>,
    by_bucket: BTreeMap<Bucket, f64>,
}

impl FailedCalls {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.by_party.len() * 200 + self.by_bucket.len() * 24
    }

    /// Takes one bucket of the candidate; `usual` are arms that tell how often requests call whose traces are not closed yet.
    pub(crate) fn push<'a>(
        &mut self,
        bucket: Bucket,
        cells: impl Iterator<Item = &'a OperationCell> + Clone,
        usual: &[&Arm],
        failing: &Failing,
    ) {
        for (service, operation, share) in failing.shares.get(&bucket).into_iter().flatten() {
            let is_it = |party: &Party| (&party.service, &party.operation) == (service, operation);
            let open: u64 = cells.clone().map(|cell| cell.requests.saturating_sub(cell.assembled)).sum();
            let called = || usual.iter().flat_map(|arm| &arm.callees).filter(|(party, _)| is_it(party));
            let assembled: u64 = usual.iter().map(|arm| arm.assembled).sum();
            let each = called().map(|(_, (calls, _))| *calls).sum::<u64>() as f64 / assembled.max(1) as f64;
            let most = called().max_by_key(|(_, (calls, _))| *calls).map(|(party, _)| (party, open as f64 * each));
            let made = cells.clone().flat_map(|cell| &cell.callees).filter(|(party, _)| is_it(party));
            for (party, calls) in made.map(|(party, time)| (party, time.calls as f64)).chain(most) {
                if share * calls > 0.0 {
                    *self.by_party.entry(party.clone()).or_default() += share * calls;
                    *self.by_bucket.entry(bucket).or_default() += share * calls;
                }
            }
        }
    }

    /// Lists them by callee.
    pub(crate) fn calls(&self) -> impl Iterator<Item = Failed<'_>> {
        self.by_party.iter().map(|(party, calls)| Failed { party, calls: *calls })
    }

    /// Counts those of one bucket.
    pub(crate) fn at(&self, bucket: Bucket) -> f64 {
        self.by_bucket.get(&bucket).copied().unwrap_or(0.0)
    }
}

/// What the judged service did by itself: failures, requests whose traces are whole, and their time.
#[derive(Debug, Clone, Copy, Default)]
struct Itself {
    failed: f64,
    requests: f64,
    ns: f64,
}

impl Itself {
    fn add(&mut self, cell: &OperationCell, service: &str) {
        self.failed += forgone::own(cell, service) as f64;
        self.requests += cell.assembled as f64;
        self.ns += cell.self_time_ns as f64;
    }

    fn within(all: &BTreeMap<Bucket, Self>, range: impl RangeBounds<Bucket>) -> Self {
        all.range(range).fold(Self::default(), |sum, (_, one)| Self {
            failed: sum.failed + one.failed,
            requests: sum.requests + one.requests,
            ns: sum.ns + one.ns,
        })
    }

    fn is_worse_than(&self, usual: &Self) -> bool {
        let each = |sum: f64, of: &Self| sum / of.requests.max(1.0);
        exceeds([self.failed, self.requests], each(usual.failed, usual))
            || each(self.ns, self) > WAITS * each(usual.ns, usual)
    }
}

/// Counts requests of a service since the start that came late, and all, by bucket, as far as they are not the judged service's.
fn served_to_others(
    input: &JudgeInput,
    frame: &Frame,
    service: &str,
    late: &BTreeMap<(&str, &str), Late>,
    own: &BTreeMap<Bucket, f64>,
) -> BTreeMap<Bucket, Counted> {
    let mut served: BTreeMap<Bucket, Counted> = BTreeMap::new();
    for series in input.related.iter().filter(|series| series.key.service.service == service) {
        let late = late.get(&(service, series.key.operation.as_str()));
        for (bucket, cell) in series.cells.iter().filter(|(bucket, _)| *bucket >= frame.start && *bucket < frame.end) {
            let sum = served.entry(*bucket).or_default();
            *sum = [sum[0] + late.map_or(0.0, |late| late.late(&cell.latency)), sum[1] + cell.requests as f64];
        }
    }
    for (bucket, [late, all]) in &mut served {
        let calls = own.get(bucket).copied().unwrap_or(0.0);
        (*late, *all) = ((*late - calls).max(0.0), (*all - calls).max(0.0));
    }
    served
}

/// Counts the requests of one operation of a callee by bucket.
fn since_the_start(input: &JudgeInput, frame: &Frame, (service, operation): (&str, &str)) -> BTreeMap<Bucket, Counted> {
    let mut since: BTreeMap<Bucket, Counted> = BTreeMap::new();
    let of = input.related.iter().filter(|s| s.key.service.service == service && s.key.operation == operation);
    for (bucket, cell) in of.flat_map(|series| &series.cells) {
        if *bucket >= frame.start && *bucket < frame.end && cell.requests > 0 {
            let [failed, all] = since.entry(*bucket).or_default();
            (*failed, *all) = (*failed + cell.errors as f64, *all + cell.requests as f64);
        }
    }
    since
}

/// Counts the latest requests as of a bucket, no more than tell enough.
fn latest(since: &BTreeMap<Bucket, Counted>, bucket: Bucket, enough: f64) -> Counted {
    let [mut failed, mut all] = [0.0; 2];
    for (_, latest) in since.range(Bucket(bucket.0.saturating_sub(LATEST_BUCKETS - 1))..=bucket).rev() {
        (failed, all) = (failed + latest[0], all + latest[1]);
        if all >= enough {
            break;
        }
    }
    [failed, all]
}

/// Says whether more fail than chance makes of what is usual.
fn exceeds([failed, all]: Counted, usual: f64) -> bool {
    failed > usual * all + CHANCE * (usual * all).max(1.0).sqrt()
}

/// Says the same of requests that are enough to tell.
fn is_more(counted: Counted, usual: f64) -> bool {
    counted[1] >= REQUESTS_MIN && exceeds(counted, usual)
}
