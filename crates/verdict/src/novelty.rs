//! Exceptions that the service has never thrown before.
//!
//! With `k` occurrences in `n_b` candidate requests and none in `n_a` of the control, over all history, the probability
//! that chance put all `k` into the candidate is at most `p = (n_b / (n_a + n_b))^k`; the e-value is `1 / (2 sqrt(p))`.
//! Occurrences in clumps count as fewer. An exception that took the place of one that vanished, of the same type or
//! wording and as frequent, has moved and is no news.
//!
//! *Source.* Vovk and Wang, "E-values: calibration, combination and applications" (2021), for the calibrator.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::Bucket;
use plimsoll_model::signal::Fingerprint;

use crate::design::Comparison;
use crate::e_process::{Path, Stratum};
use crate::errors::Assessment;
use crate::tolerances::Tolerances;

/// One exception that is new with the candidate.
#[derive(Debug, Clone)]
pub(crate) struct NewException {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) exception_type: String,
    pub(crate) message: String,
    /// The operation in which it occurs most.
    pub(crate) operation: usize,
    pub(crate) count: u64,
    pub(crate) test: Assessment,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    kind: String,
    message: String,
    candidate: BTreeMap<Bucket, u64>,
    control: u64,
    operations: BTreeMap<usize, u64>,
}

/// Finds new exceptions; also returns how many different ones were looked at.
pub(crate) fn find(
    comparison: &Comparison<'_>,
    known: &BTreeSet<Fingerprint>,
    dispersion: f64,
    tolerances: &Tolerances,
) -> (Vec<NewException>, usize) {
    let mut all: BTreeMap<Fingerprint, Seen> = BTreeMap::new();
    let mut traffic: BTreeMap<Bucket, (u64, u64)> = BTreeMap::new();
    let mut history = 0;
    for (index, op) in comparison.operations.iter().enumerate() {
        for (bucket, _, cell) in &op.candidate {
            traffic.entry(*bucket).or_default().0 += cell.requests;
            for (fingerprint, exception) in &cell.exceptions {
                let seen = all.entry(*fingerprint).or_default();
                seen.kind.clone_from(&exception.exception_type);
                seen.message.clone_from(&exception.message);
                *seen.candidate.entry(*bucket).or_default() += exception.count;
                *seen.operations.entry(index).or_default() += exception.count;
            }
        }
        for (bucket, _, cell) in op.before.iter().chain(&op.control) {
            if comparison.first.is_some_and(|first| *bucket >= first) {
                traffic.entry(*bucket).or_default().1 += cell.requests;
            } else {
                history += cell.requests;
            }
            for (fingerprint, exception) in &cell.exceptions {
                let seen = all.entry(*fingerprint).or_default();
                seen.kind.clone_from(&exception.exception_type);
                seen.message.clone_from(&exception.message);
                seen.control += exception.count;
            }
        }
    }
    let n_b: u64 = traffic.values().map(|(b, _)| b).sum();
    let n_a = history + traffic.values().map(|(_, a)| a).sum::<u64>();
    let mut found = Vec::new();
    for (fingerprint, seen) in &all {
        let count: u64 = seen.candidate.values().sum();
        if count == 0 || seen.control > 0 || known.contains(fingerprint) || n_a == 0 {
            continue;
        }
        if all.values().any(|old| replaces(seen, count, old, n_a, n_b)) {
            continue;
        }
        let operation = seen.operations.iter().max_by_key(|(_, count)| **count).map_or(0, |(index, _)| *index);
        let spread = seen.candidate.len() >= 2 || count >= 4 * tolerances.exception_count_min;
        let (gate, strata) = path(seen, &traffic, history, dispersion);
        let frequent = count as f64 >= tolerances.exception_share * n_b as f64;
        let enough = count >= tolerances.exception_count_min && spread && frequent;
        found.push(NewException {
            fingerprint: *fingerprint,
            exception_type: seen.kind.clone(),
            message: seen.message.clone(),
            operation,
            count,
            test: Assessment {
                exceeded_at: enough.then(|| reached(&seen.candidate, tolerances.exception_count_min)).flatten(),
                gate,
                beyond: None,
                dispersion,
                shown_well: count < tolerances.exception_count_min || !frequent,
                recent: traffic
                    .iter()
                    .filter(|(_, (b, _))| *b > 0)
                    .map(|(at, (b, _))| (*at, seen.candidate.get(at).copied().unwrap_or(0) as f64, *b as f64))
                    .collect(),
                reference: 0.0,
                half: 0.5 * tolerances.exception_share,
                young_since: None,
                strata,
            },
        });
    }
    (found, all.len())
}

fn reached(counts: &BTreeMap<Bucket, u64>, level: u64) -> Option<Bucket> {
    let mut sum = 0;
    counts.iter().find_map(|(bucket, count)| {
        sum += count;
        (sum >= level).then_some(*bucket)
    })
}

fn path(seen: &Seen, traffic: &BTreeMap<Bucket, (u64, u64)>, history: u64, dispersion: f64) -> (Path, Vec<Stratum>) {
    let (mut n_a, mut n_b, mut k) = (history as f64, 0.0, 0.0);
    let mut path = Path::default();
    let mut strata = Vec::new();
    for (at, (b, a)) in traffic {
        n_a += *a as f64;
        n_b += *b as f64;
        let here = seen.candidate.get(at).copied().unwrap_or(0) as f64;
        k += here;
        if *b > 0 {
            strata.push(Stratum {
                bucket: *at,
                bad_b: here,
                n_b: *b as f64,
                bad_a: 0.0,
                // The history is dealt out evenly: it is one control for all of the candidate's time.
                n_a: *a as f64 + history as f64 / traffic.len() as f64,
                handicap: 1.0,
                caution: 1.0,
            });
        }
        if here > 0.0 && n_a > 0.0 {
            let log_p = k / dispersion.max(1.0) * (n_b / (n_a + n_b)).ln();
            path.steps.push((*at, 0.5_f64.ln() - 0.5 * log_p));
        }
    }
    (path, strata)
}

/// Says whether the new exception is `old` under another name or from another place.
fn replaces(new: &Seen, count: u64, old: &Seen, n_a: u64, n_b: u64) -> bool {
    let expected = old.control as f64 * n_b as f64 / n_a as f64;
    let left: u64 = old.candidate.values().sum();
    let vanished = old.control > 0 && expected >= 3.0 && left as f64 <= 0.3 * expected;
    vanished && count as f64 <= 2.0 * expected + 3.0 && alike(new, old)
}

fn alike(one: &Seen, other: &Seen) -> bool {
    let short = |name: &str| name.rsplit(['.', ':', '/', '\\']).next().unwrap_or_default().to_owned();
    if !one.kind.is_empty() && short(&one.kind) == short(&other.kind) {
        return true;
    }
    let words = |seen: &Seen| -> BTreeSet<String> {
        seen.message.split(|c: char| !c.is_alphabetic()).filter(|word| word.len() > 1).map(str::to_lowercase).collect()
    };
    let (one, other) = (words(one), words(other));
    let shared = one.intersection(&other).count();
    shared >= 2 && shared * 5 >= one.union(&other).count() * 3
}
