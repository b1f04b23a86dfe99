//! Who else calls the service's callees, and whether those serve them as badly.
//!
//! Before against after a callee that fails may have been broken by the candidate, or by anything else. Where others call the same operation, and
//! as large a share of their calls fails in the same buckets, it is the callee's; where all is well with them, it fails for the
//! candidate alone, as with requests that it does not understand. Shares are compared, not counts: half of the candidate's share tells,
//! and little is concluded from few calls.

use core::net::IpAddr;
use std::collections::BTreeMap;

use plimsoll_model::Bucket;
use plimsoll_model::signal::{OperationCell, Party};

use crate::design::Frame;
use crate::input::JudgeInput;
use crate::unanswered::is_name_of;

/// Bad calls of others from which on they are served as badly.
const BAD_MIN: f64 = 3.0;
/// Standard deviations of a count that are chance.
const CHANCE: f64 = 2.0;
/// Share of the candidate's own share from which on others are served as badly.
const AS_BADLY: f64 = 0.5;

/// Callees of an operation that are followed.
const PARTIES_MAX: usize = 64;

/// All and bad calls.
type Counted = [f64; 2];

/// Calls of others to one operation: since the start by bucket, and all before.
#[derive(Debug, Clone, Default)]
struct Calls {
    since: BTreeMap<Bucket, Counted>,
    before: Counted,
}

impl Calls {
    fn add(&mut self, bucket: Bucket, start: Bucket, [all, bad]: Counted) {
        let sum = if bucket < start { &mut self.before } else { self.since.entry(bucket).or_default() };
        *sum = [sum[0] + all, sum[1] + bad];
    }
}

/// What others' calls tell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witnesses {
    /// Calls that failed, by service and operation.
    failed: BTreeMap<(String, String), Calls>,
    /// Calls that nobody answered, by whom they were meant for.
    in_vain: BTreeMap<String, Calls>,
}

/// What they tell of a callee that is bad to the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Testimony {
    TheyAsWell,
    ThisOneAlone,
    Nothing,
}

impl Testimony {
    /// Says what calls of others tell where such a `share` of the candidate's is bad.
    pub(crate) fn of(share: f64, [all, bad]: Counted) -> Self {
        let expected = AS_BADLY * share * all;
        if bad >= expected.max(BAD_MIN) {
            Self::TheyAsWell
        } else if expected - CHANCE * expected.sqrt() > bad {
            Self::ThisOneAlone
        } else {
            Self::Nothing
        }
    }
}

impl Witnesses {
    /// Counts them.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        let mut found = Self::default();
        for series in &input.witnesses {
            for (bucket, served) in series.cells.iter().filter(|(bucket, _)| *bucket < frame.end) {
                let [answered, failed, unanswered] =
                    [served.answered, served.failed, served.unanswered].map(|n| n as f64);
                let in_vain = found.in_vain.entry(series.target.clone()).or_default();
                in_vain.add(*bucket, frame.start, [answered + unanswered, unanswered]);
                if !series.operation.is_empty() {
                    let calls = found.failed.entry((series.target.clone(), series.operation.clone())).or_default();
                    calls.add(*bucket, frame.start, [answered, failed]);
                }
            }
        }
        found
    }

    /// Counts their calls to a service in a bucket: all, and those that went unanswered beyond as many as do at any time.
    pub(crate) fn in_vain(&self, service: &str, bucket: Bucket) -> Counted {
        // Whose an address of numbers is nobody knows.
        let meant = |target: &str| is_name_of(target, service) || target.parse::<IpAddr>().is_ok();
        more(self.in_vain.iter().filter(|(target, _)| meant(target)).map(|(_, calls)| calls), bucket)
    }

    /// The same of calls to one operation that failed.
    fn failed(&self, operation: &(String, String), bucket: Bucket) -> Counted {
        more(self.failed.get(operation).into_iter(), bucket)
    }
}

/// Counts calls in a bucket: all, and those that were bad beyond as many as are at any time; fewer in some buckets make up for more in others.
fn more<'a>(each: impl Iterator<Item = &'a Calls>, bucket: Bucket) -> Counted {
    let (mut now, mut before) = ([0.0; 2], [0.0; 2]);
    for calls in each {
        let here = calls.since.get(&bucket).copied().unwrap_or_default();
        now = [now[0] + here[0], now[1] + here[1]];
        before = [before[0] + calls.before[0], before[1] + calls.before[1]];
    }
    [now[0], now[1] - before[1] / before[0].max(1.0) * now[0]]
}

/// Calls of one operation of the candidate that failed in a callee, and those of others in the same buckets.
#[derive(Debug, Clone, Default)]
pub(crate) struct PassedOn(BTreeMap<(String, String), [Counted; 2]>);

impl PassedOn {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len() * 150
    }

    /// Takes one bucket of the candidate.
    pub(crate) fn push<'a>(
        &mut self,
        bucket: Bucket,
        cells: impl Iterator<Item = &'a OperationCell> + Clone,
        witnesses: &Witnesses,
    ) {
        if witnesses.failed.is_empty() {
            return;
        }
        let mut here: BTreeMap<(&str, &str), Counted> = BTreeMap::new();
        for (party, failed) in
            cells.clone().flat_map(|cell| &cell.blame).filter(|(party, _)| !party.operation.is_empty())
        {
            here.entry((&party.service, &party.operation)).or_default()[1] += *failed as f64;
        }
        for (party, time) in cells.flat_map(|cell| &cell.callees) {
            if let Some([made, _]) = here.get_mut(&(party.service.as_str(), party.operation.as_str())) {
                *made += time.calls as f64;
            }
        }
        for ((service, operation), [made, failed]) in here.into_iter().filter(|(_, [made, _])| *made > 0.0) {
            let key = (service.to_owned(), operation.to_owned());
            if self.0.len() >= PARTIES_MAX && !self.0.contains_key(&key) {
                continue;
            }
            let others = witnesses.failed(&key, bucket);
            let [here, there] = self.0.entry(key).or_default();
            *here = [here[0] + made, here[1] + failed];
            *there = [there[0] + others[0], there[1] + others[1]];
        }
    }

    /// Says what others tell of a callee's operation that fails, of which a share of the candidate's calls does at any time.
    pub(crate) fn told(&self, party: &Party, usual: f64) -> Testimony {
        let Some([here, there]) = self.0.get(&(party.service.clone(), party.operation.clone())) else {
            return Testimony::Nothing;
        };
        Testimony::of((here[1] / here[0].max(1.0) - usual).max(0.0), *there)
    }
}
