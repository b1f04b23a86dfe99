//! Calls that nobody answered: was it down whom they were meant for, or can the candidate not reach it?
//!
//! A request whose failure began in such a call names whom it was meant for, as its caller knows it. That is a service which the
//! operation calls if it has its name (or, by an address of numbers, if calls to it are missing), and where no more of them
//! fail than are missing of those that reach it otherwise. It was down
//! - where others, who reached it before, reach it no more while this one does not: by how many requests it serves that are not the candidate's, and by how many of
//!   their calls go unanswered;
//! - where nobody else calls it, or too few to tell, if the candidate itself reached it at other times.
//!
//! A call that was given up before whoever served it was done is one of these, and a request that took that long was not served: a callee
//! that is slow is told as one that is down. Where it serves as many as ever, and more than others call it for, as fast as ever, the
//! candidate does not wait for it.
//!
//! Who opens a breaker calls seldom, and fails by itself meanwhile: up to as many failures as calls are missing are moved as well, for two minutes after each
//! call that was not answered.
//!
//! Where requests got over such calls, by calling again or by doing without, none of them failed: the time that they waited, what was thrown and
//! logged for these calls and those that are missing are told in the same way.
//!
//! A candidate that never reached it has a wrong address, and where others go on to reach it the fault is not there either.
//! Side by side nothing of this is asked: the control calls it at the same time.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::Bucket;
use plimsoll_model::signal::{Histogram, OperationCell, OperationSeries, Party};

use crate::counts::{Edges, P95};
use crate::culprit::{Arm, Arms};
use crate::design::Frame;
use crate::forgone;
use crate::input::JudgeInput;
use crate::known::variance;
use crate::tolerances::Tolerances;
use crate::witnesses::{Testimony, Witnesses};

/// Calls of the candidate that reached a callee, from which it is known to reach it; requests that tell how many calls each makes.
const REACHED_MIN: u64 = 10;
const SOUND_MIN: u64 = 20;
/// Requests of others without which they tell nothing.
const OTHERS_MIN: f64 = 10.0;
/// Buckets before the start that say how often others called it.
const OTHERS_BUCKETS: u64 = 60;
/// Standard deviations by which what is known of a share is uncertain: it is looked at every bucket.
const UNKNOWN: f64 = 3.0;
/// Names for whom an operation calls that are followed.
const TARGETS_MAX: usize = 64;
/// Buckets after an unanswered call in which the next one is waited for: breakers stay open for a minute as a rule.
const AROUND: u64 = 12;
/// So much more may fail than is missing: a call may be missing for other reasons, and counts vary.
const SLACK: f64 = 1.25;

/// Requests of the service's callees that were not its own and were served in time, by bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Others {
    by_bucket: BTreeMap<String, BTreeMap<Bucket, f64>>,
    /// By what variance they are uncertain, as its own are known of a share of its traces.
    unknown: BTreeMap<String, BTreeMap<Bucket, f64>>,
    /// In a bucket before the start, on average.
    usual: BTreeMap<String, f64>,
    /// What their calls tell.
    pub(crate) witnesses: Witnesses,
    /// Who calls them.
    caller: String,
    /// From here on nothing is known of them.
    end: Bucket,
}

impl Others {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let buckets = |of: &BTreeMap<String, BTreeMap<Bucket, f64>>| -> usize {
            of.values().map(|buckets| 96 + 24 * buckets.len()).sum()
        };
        buckets(&self.by_bucket) + buckets(&self.unknown) + 96 * self.usual.len()
    }

    /// Counts those of the callees that are known.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        let witnesses = Witnesses::of(input, frame);
        if input.related.is_empty() {
            return Self { witnesses, end: frame.end, ..Self::default() };
        }
        let own = || input.series.iter().filter(|s| s.key.service == frame.service).flat_map(|s| &s.cells);
        let (mut called, mut in_vain) = (BTreeSet::new(), false);
        for (bucket, cell) in own() {
            for party in cell.callees.keys() {
                match party.is_unanswered() {
                    true => in_vain |= *bucket >= frame.start,
                    false => drop(called.insert((party.service.as_str(), party.operation.as_str()))),
                }
            }
        }
        let mut by_bucket: BTreeMap<String, BTreeMap<Bucket, f64>> = BTreeMap::new();
        let mut unknown: BTreeMap<String, BTreeMap<Bucket, f64>> = BTreeMap::new();
        let is_called = |s: &&OperationSeries| called.contains(&(&*s.key.service.service, &*s.key.operation));
        let related = || input.related.iter().filter(is_called);
        // Nobody asks how fast it is while nobody waits in vain.
        let slow = if in_vain { slow(related(), frame, &input.tolerances) } else { BTreeMap::new() };
        for series in related() {
            let requests = by_bucket.entry(series.key.service.service.clone()).or_default();
            let slow = slow.get(&(series.key.service.service.as_str(), series.key.operation.as_str()));
            for (bucket, cell) in &series.cells {
                let late = slow.filter(|_| *bucket >= frame.start).map_or(0.0, |slow| slow.late(&cell.latency));
                *requests.entry(*bucket).or_default() += (cell.requests as f64 - late).max(0.0);
            }
        }
        for (bucket, cell) in own().filter(|(_, cell)| cell.assembled > 0) {
            // Of some traces it is never known, or not yet, whom they called.
            let each = cell.requests as f64 / cell.assembled as f64;
            for (party, calls) in known(cell) {
                if let Some(requests) = by_bucket.get_mut(&party.service) {
                    *requests.entry(*bucket).or_default() -= calls as f64 * each;
                    if frame.drawn && *bucket >= frame.start {
                        let sum = unknown.entry(party.service.clone()).or_default().entry(*bucket).or_default();
                        *sum += variance(calls as f64, each);
                    }
                }
            }
        }
        let from = Bucket(frame.start.0.saturating_sub(OTHERS_BUCKETS));
        let usual = by_bucket.iter().map(|(service, requests)| {
            let first = requests.keys().next().map_or(from, |first| from.max(*first));
            let sum: f64 = requests.range(first..frame.start.max(first)).map(|(_, n)| n).sum();
            (service.clone(), sum.max(0.0) / frame.start.0.saturating_sub(first.0).max(1) as f64)
        });
        let (usual, caller) = (usual.collect(), frame.service.service.clone());
        Self { by_bucket, unknown, usual, witnesses, caller, end: frame.end }
    }
}

/// Which requests of an operation come late: those above a bucket of the histogram, by more than is tolerated slower than nearly all before the
/// start, beyond the share of them that was as slow then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Late {
    edge: i16,
    usual: f64,
}

impl Late {
    pub(crate) fn late(self, latency: &Histogram) -> f64 {
        (latency.count_above(self.edge) as f64 - self.usual * latency.count() as f64).max(0.0)
    }
}

/// Returns what is late of each operation that became slow; one of which no more than chance makes of the usual share come late did not.
pub(crate) fn slow<'a>(
    series: impl Iterator<Item = &'a OperationSeries>,
    frame: &Frame,
    tolerances: &Tolerances,
) -> BTreeMap<(&'a str, &'a str), Late> {
    let mut all: BTreeMap<(&str, &str), [Histogram; 2]> = BTreeMap::new();
    for series in series {
        let latency = all.entry((&series.key.service.service, &series.key.operation)).or_default();
        for (bucket, cell) in &series.cells {
            latency[usize::from(*bucket >= frame.start)].merge(&cell.latency);
        }
    }
    let each = all.into_iter().filter_map(|(name, [before, since])| {
        let Edges { at, shift, .. } = Edges::of(&before, tolerances)?;
        let edge = at[P95].saturating_add(shift);
        let usual = before.count_above(edge) as f64 / before.count().max(1) as f64;
        let expected = usual * since.count() as f64;
        let more = since.count_above(edge) as f64 - expected;
        (more > 2.0 * expected.max(1.0).sqrt()).then_some((name, Late { edge, usual }))
    });
    each.collect()
}

/// What the candidate did in the buckets in which calls to one target went unanswered.
#[derive(Debug, Clone, Default)]
struct Outage {
    assembled: u64,
    /// Requests that failed of it, and the time they waited.
    failed: u64,
    ns: u64,
    /// Calls that requests got over.
    overcome: u64,
    /// Calls that were answered, by service.
    answered: BTreeMap<String, u64>,
    /// Requests of others to the same services that these served in time, as many as would be usual, and by what variance the former
    /// are uncertain.
    others: BTreeMap<String, [f64; 3]>,
    /// As many of these as are known by others' traces.
    known: BTreeMap<String, f64>,
    /// The last of these buckets, and what the candidate did in them and for a while after each: its calls may be rare meanwhile.
    last: Bucket,
    around: Around,
}

/// Requests whose traces were whole, those that failed by themselves, calls that requests got over, and calls that were answered, by service.
#[derive(Debug, Clone, Default)]
struct Around {
    assembled: u64,
    own: u64,
    overcome: u64,
    answered: BTreeMap<String, u64>,
}

/// Calls of one operation of the candidate that nobody answered, by the name of whom they were meant for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outages {
    by_target: BTreeMap<String, Outage>,
    /// Calls that requests got over, whoever they were meant for.
    overcome: BTreeMap<Bucket, f64>,
}

/// A service that was down: failures that began in calls to it, calls to it that requests got over, and the time that all of these took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Down<'a> {
    pub(crate) party: &'a Party,
    pub(crate) failed: f64,
    pub(crate) overcome: f64,
    pub(crate) ns: f64,
}

impl Down<'_> {
    /// Calls that it did not answer.
    pub(crate) fn calls(&self) -> f64 {
        self.failed + self.overcome
    }
}

impl Outages {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let outages = self.by_target.values().map(|outage| 200 * (1 + outage.answered.len() + outage.others.len()));
        outages.sum::<usize>() + self.overcome.len() * 24
    }

    /// Counts the calls of one bucket that requests got over.
    pub(crate) fn overcome_at(&self, bucket: Bucket) -> f64 {
        self.overcome.get(&bucket).copied().unwrap_or(0.0)
    }

    /// Says whether a call went unanswered in a bucket, or so lately that breakers may be open.
    pub(crate) fn is_near(&self, bucket: Bucket) -> bool {
        self.by_target.values().any(|outage| bucket.0 <= outage.last.0 + AROUND)
    }

    /// Takes one bucket of the candidate.
    pub(crate) fn push<'a>(
        &mut self,
        bucket: Bucket,
        cells: impl Iterator<Item = &'a OperationCell> + Clone,
        others: &Others,
    ) {
        let in_vain = cells.clone().any(|cell| cell.callees.keys().any(Party::is_unanswered));
        if !in_vain && !self.is_near(bucket) {
            return;
        }
        let mut here = Arm::default();
        cells.clone().for_each(|cell| here.add(cell));
        for (calls, _) in here.overcome.values() {
            *self.overcome.entry(bucket).or_default() += *calls as f64;
        }
        let targets: BTreeSet<&String> = here.unanswered.keys().chain(here.overcome.keys()).collect();
        for target in targets {
            if self.by_target.len() >= TARGETS_MAX && !self.by_target.contains_key(target) {
                continue;
            }
            let of = |calls: &BTreeMap<String, (u64, u64)>| calls.get(target).copied().unwrap_or_default();
            let (failed, overcome) = (of(&here.unanswered), of(&here.overcome));
            let outage = self.by_target.entry(target.clone()).or_default();
            outage.last = bucket;
            outage.assembled += here.assembled;
            outage.failed += failed.0;
            outage.overcome += overcome.0;
            outage.around.overcome += overcome.0;
            outage.ns += failed.1 + overcome.1;
            for (party, (calls, _)) in &here.callees {
                *outage.answered.entry(party.service.clone()).or_default() += calls;
            }
            if bucket >= others.end {
                continue;
            }
            for (service, usual) in &others.usual {
                let came = others.by_bucket[service].get(&bucket).copied().unwrap_or(0.0);
                let unknown = others.unknown.get(service).and_then(|by_bucket| by_bucket.get(&bucket)).copied();
                let sum = outage.others.entry(service.clone()).or_default();
                *sum = [sum[0] + came, sum[1] + usual, sum[2] + unknown.unwrap_or(0.0)];
                *outage.known.entry(service.clone()).or_default() += others.witnesses.answered(service, bucket);
            }
        }
        let own: u64 = cells.map(|cell| forgone::own(cell, &others.caller)).sum();
        for outage in self.by_target.values_mut().filter(|outage| bucket.0 <= outage.last.0 + AROUND) {
            let around = &mut outage.around;
            (around.assembled, around.own) = (around.assembled + here.assembled, around.own + own);
            for (party, (calls, _)) in &here.callees {
                *around.answered.entry(party.service.clone()).or_default() += calls;
            }
        }
    }

    /// Lists the callees of the operation that were down, with what failed of it.
    pub(crate) fn down<'a>(&self, arms: &Arms<'a>) -> Vec<Down<'a>> {
        let scale = arms.candidate.assembled as f64 / arms.control.assembled.max(1) as f64;
        let each = self.by_target.iter().filter_map(|(target, outage)| {
            let party = outage.callee(target, arms)?;
            let of = |calls: &BTreeMap<String, (u64, u64)>| calls.get(target).copied().unwrap_or_default();
            let (was_failed, was_overcome) = (of(&arms.control.unanswered), of(&arms.control.overcome));
            // Requests that meet an open breaker fail without a call.
            let all = outage.around.failed(&party.service, arms).max(outage.failed as f64);
            let failed = (all - was_failed.0 as f64 * scale).max(0.0);
            let overcome = (outage.overcome as f64 - was_overcome.0 as f64 * scale).max(0.0);
            let ns = (outage.ns as f64 - (was_failed.1 + was_overcome.1) as f64 * scale).max(0.0);
            let is_any = failed + overcome > 0.0;
            (is_any && outage.is_elsewhere(party, arms)).then_some(Down { party, failed, overcome, ns })
        });
        each.collect()
    }
}

impl Outage {
    /// Finds which of the operation's callees calls to `target` were meant for.
    fn callee<'a>(&self, target: &str, arms: &Arms<'a>) -> Option<&'a Party> {
        let parties =
            || arms.control.callees.iter().chain(&arms.candidate.callees).filter(|(p, _)| p.service != arms.service);
        let named =
            parties().filter(|(party, _)| is_name_of(target, &party.service)).max_by_key(|(_, (calls, _))| *calls);
        if named.is_some() {
            return named.map(|(party, _)| party);
        }
        target.parse::<IpAddr>().ok()?;
        let missing = parties().map(|(party, (calls, _))| (self.missing(&party.service, arms), *calls, party));
        missing.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(.., party)| party)
    }

    /// Calls to a service that were not made to it, or did not reach it.
    fn missing(&self, service: &str, arms: &Arms<'_>) -> f64 {
        self.usually(service, arms) - self.answered.get(service).copied().unwrap_or(0) as f64
    }

    /// Calls to a service that as many requests make otherwise.
    fn usually(&self, service: &str, arms: &Arms<'_>) -> f64 {
        usual_calls(arms, service, self.assembled, self.answered.get(service).copied().unwrap_or(0))
    }

    /// Says whether it was down or slow, and not only out of the candidate's reach.
    fn is_elsewhere(&self, party: &Party, arms: &Arms<'_>) -> bool {
        let service = party.service.as_str();
        let chance = 2.0 * self.usually(service, arms).max(1.0).sqrt();
        if self.failed as f64 > SLACK * self.missing(service, arms) + chance {
            return false;
        }
        let here = (self.failed + self.overcome) as f64;
        let answered = self.answered.get(service).copied().unwrap_or(0) as f64;
        let share = here / (here + answered).max(1.0);
        let [came, usual, unknown] = self.others.get(service).copied().unwrap_or_default();
        let known = self.known.get(service).copied().unwrap_or(0.0);
        let drawn = UNKNOWN * unknown.sqrt();
        if came - usual.max(known) - 2.0 * usual.max(known).max(1.0).sqrt() - drawn > 0.5 * here {
            // It serves in time what nobody waits for.
            return false;
        }
        // By so much fewer reach it, give or take what is chance.
        let usually = usual.max(1.0);
        let (fewer, chance) = (1.0 - came / usually, (2.0 * usually.sqrt() + drawn) / usually);
        if usual >= OTHERS_MIN && fewer - chance >= 0.5 * share {
            return true;
        }
        let of_control = |calls: &BTreeMap<String, (u64, u64)>| -> u64 {
            calls.iter().filter(|(target, _)| is_name_of(target, service)).map(|(_, (calls, _))| calls).sum()
        };
        let in_vain = (of_control(&arms.control.unanswered) + of_control(&arms.control.overcome)) as f64;
        let at_any_time = in_vain / (in_vain + arms.control.calls(service) as f64).max(1.0);
        match arms.testimony.of_unanswered(service, at_any_time) {
            Testimony::TheyAsWell => return true,
            // Those who wait for longer get their answers late.
            Testimony::ThisOneAlone if usual < OTHERS_MIN || fewer < 0.5 * share => return false,
            Testimony::ThisOneAlone => {}
            Testimony::Nothing => {}
        }
        if usual >= OTHERS_MIN && fewer + chance < 0.5 * share {
            return false;
        }
        arms.candidate.calls(service) >= REACHED_MIN
    }
}

impl Around {
    /// Requests that failed by themselves, no more than calls to a service are missing that were not made in vain.
    fn failed(&self, service: &str, arms: &Arms<'_>) -> f64 {
        let answered = self.answered.get(service).copied().unwrap_or(0);
        let missing = usual_calls(arms, service, self.assembled, answered) - answered as f64;
        (missing - self.overcome as f64).clamp(0.0, self.own as f64)
    }
}

/// Returns how many calls to a service as many requests make as made `calls` while something was wrong: by the candidate's others where enough is known,
/// else by the control's.
pub(crate) fn usual_calls(arms: &Arms<'_>, service: &str, assembled: u64, calls: u64) -> f64 {
    let sound = arms.candidate.assembled.saturating_sub(assembled);
    let (usual, requests) = if sound >= SOUND_MIN {
        (arms.candidate.calls(service).saturating_sub(calls), sound)
    } else {
        (arms.control.calls(service), arms.control.assembled)
    };
    usual as f64 * assembled as f64 / requests.max(1) as f64
}

/// Callees that answered, with the calls to each.
fn known(cell: &OperationCell) -> impl Iterator<Item = (&Party, u64)> {
    cell.callees.iter().filter(|(party, _)| !party.is_unanswered()).map(|(party, time)| (party, time.calls))
}

/// Says whether a caller's name for whom it calls, be it an address, is that of a service.
pub(crate) fn is_name_of(target: &str, service: &str) -> bool {
    let host = target.split(['.', ':']).next().unwrap_or(target);
    target.eq_ignore_ascii_case(service) || host.eq_ignore_ascii_case(service)
}
