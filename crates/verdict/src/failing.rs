//! Callees that fail more than before, by their own requests: what their callers make of it is no doing of those.
//!
//! A caller may pass a failure on, and is told by its traces ([`crate::culprit`]). It may also call again, or do without: then none of its own
//! requests fails, and there are more calls, slower requests, and messages and exceptions that were never there. Of each call to such a callee
//! as many are taken to have failed as of all its requests.
//!
//! *One after the other* alone: whether the candidate broke it cannot be told then, as with failures that are passed on. Side by side the control calls
//! it at the same time.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::Bucket;
use plimsoll_model::signal::Party;

use crate::culprit::Arm;
use crate::design::Frame;
use crate::input::JudgeInput;

/// Requests of a callee since the start without which it tells nothing.
const REQUESTS_MIN: f64 = 20.0;
/// Standard deviations of a count of failures that are chance.
const CHANCE: f64 = 3.0;

/// Share of requests in addition that fail where callers do without: from so much on breakers open, most from half.
const DONE_WITHOUT: f64 = 0.1;
/// Requests that tell whether a callee fails at the moment, and buckets in which they are looked for.
const LATEST: f64 = 20.0;
const LATEST_BUCKETS: u64 = 12;
/// Buckets after which callers call again who is well again.
const AFTER: u64 = 6;

/// Callees that fail more than before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failing {
    /// Shares of requests that fail in addition, by operation of a service; those that do not are not in it.
    shares: BTreeMap<(String, String), f64>,
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
        let usual = |before: &Counted| before[0].max(0.5) / before[1].max(1.0);
        let mut broken: BTreeMap<String, BTreeSet<Bucket>> = BTreeMap::new();
        for (name, [before, since]) in counts.iter().filter(|(_, [_, since])| since[0] > CHANCE) {
            let since = since_the_start(input, frame, *name);
            let failed = since.keys().filter(|bucket| is_broken(&since, **bucket, usual(before)));
            let buckets: Vec<Bucket> =
                failed.flat_map(|bucket| (0..=AFTER).map(|after| Bucket(bucket.0 + after))).collect();
            if !buckets.is_empty() {
                broken.entry(name.0.to_owned()).or_default().extend(buckets);
            }
        }
        let more = counts.into_iter().filter_map(|((service, operation), [before, since])| {
            let expected = since[1] * usual(&before);
            let chance = CHANCE * expected.max(1.0).sqrt();
            let shown = since[1] >= REQUESTS_MIN && since[0] > expected + chance;
            shown.then(|| ((service.to_owned(), operation.to_owned()), (since[0] - expected) / since[1]))
        });
        Self { shares: more.collect(), broken, caller: frame.service.service.clone() }
    }

    /// The service whose callees they are.
    pub(crate) fn caller(&self) -> &str {
        &self.caller
    }

    /// Lists the services that fail so much in a bucket, or did a minute ago, that callers may do without.
    pub(crate) fn broken(&self, bucket: Bucket) -> impl Iterator<Item = &str> {
        self.broken.iter().filter(move |(_, buckets)| buckets.contains(&bucket)).map(|(service, _)| service.as_str())
    }

    /// Lists the calls of one arm that failed in addition.
    pub(crate) fn calls<'a>(&'a self, arm: &'a Arm) -> impl Iterator<Item = Failed<'a>> {
        arm.callees.iter().filter(|_| !self.shares.is_empty()).filter_map(|(party, (calls, _))| {
            let share = self.shares.get(&(party.service.clone(), party.operation.clone()))?;
            Some(Failed { party, calls: share * *calls as f64 })
        })
    }
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

/// Says whether the latest requests as of a bucket fail by so much more than is usual.
fn is_broken(since: &BTreeMap<Bucket, Counted>, bucket: Bucket, usual: f64) -> bool {
    let [mut failed, mut all] = [0.0; 2];
    for (_, latest) in since.range(Bucket(bucket.0.saturating_sub(LATEST_BUCKETS - 1))..=bucket).rev() {
        (failed, all) = (failed + latest[0], all + latest[1]);
        if all >= LATEST {
            break;
        }
    }
    let expected = usual * all;
    failed > expected + CHANCE * expected.max(1.0).sqrt() && failed - expected >= DONE_WITHOUT * all
}
