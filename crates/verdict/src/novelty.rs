//! Exceptions that the service has never thrown before, and error messages that it has never logged.
//!
//! With `k` occurrences in `n_b` candidate requests and none in `n_a` of the control, over all history, the probability
//! that chance put all `k` into the candidate is at most `p = (n_b / (n_a + n_b))^k`; the e-value is `1 / (2 sqrt(p))`.
//! Occurrences in clumps count as fewer. An exception that took the place of one that vanished, of the same type or
//! wording and as frequent, has moved and is no news. A message has so whatever its words, as long as all that is new comes no more
//! often than what vanished did: formats change, and sentences are put better.
//!
//! *Source.* Vovk and Wang, "E-values: calibration, combination and applications" (2021), for the calibrator.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::Bucket;
use plimsoll_model::signal::{ExceptionCount, Fingerprint, OperationCell};

use crate::rate;
use crate::standing::Standing;
use crate::tolerances::Tolerances;

/// Distinct ones that are followed; those beyond are not looked for.
const FOLLOWED_MAX: usize = 2_000;

/// Standard deviations within which two counts are as frequent.
const SPREAD: f64 = 3.0;

/// Stands for what was thrown outside of every request.
pub(crate) const NO_OPERATION: usize = usize::MAX;

/// What is known of one exception.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) kind: String,
    pub(crate) message: String,
    /// Occurrences in the candidate, bucket by bucket.
    pub(crate) candidate: BTreeMap<Bucket, u64>,
    pub(crate) count: u64,
    control: u64,
    /// Occurrences by operation.
    operations: BTreeMap<usize, u64>,
    pub(crate) standing: Standing,
    known: bool,
}

impl Seen {
    /// The operation in which it occurs most; [`NO_OPERATION`] where that is none.
    pub(crate) fn operation(&self) -> usize {
        self.operations.iter().max_by_key(|(_, count)| **count).map_or(NO_OPERATION, |(index, _)| *index)
    }

    /// Returns how often the candidate should have had it, where the control had it and the candidate has it hardly any more.
    fn vanished(&self, n_a: u64, n_b: u64) -> Option<f64> {
        let expected = self.control as f64 * n_b as f64 / n_a as f64;
        (self.control > 0 && expected >= 3.0 && self.count as f64 <= 0.3 * expected).then_some(expected)
    }

    /// Says whether it is `old`, of which so many were `expected`, under another name or from another place.
    fn is_like(&self, old: &Self, expected: f64) -> bool {
        self.count as f64 <= 2.0 * expected + 3.0 && alike(self, old)
    }

    /// Says whether it comes as often as is `expected` of another, within chance.
    fn is_as_frequent(&self, expected: f64) -> bool {
        (self.count as f64 - expected).abs() <= SPREAD * expected.sqrt()
    }
}

/// All exceptions of a service, and the traffic that they are held against.
#[derive(Debug, Clone, Default)]
pub(crate) struct Novelty {
    pub(crate) all: BTreeMap<Fingerprint, Seen>,
    /// Those of which a single one is more than is tolerated.
    pub(crate) fatal: BTreeSet<Fingerprint>,
    known: BTreeSet<Fingerprint>,
    /// They are messages: whoever says the same in other words says it as often.
    worded: bool,
    /// What was thrown outside of every request in buckets that are still to be folded, and whether by the candidate.
    outside: BTreeMap<Bucket, Vec<(bool, Fingerprint, ExceptionCount)>>,
    /// Candidate's and control's requests, bucket by bucket since the candidate's first.
    pub(crate) traffic: Vec<(Bucket, u64, u64)>,
    history: u64,
    totals: (u64, u64),
    /// Fatal ones that came before anything was served.
    early: BTreeSet<Fingerprint>,
}

impl Novelty {
    /// Starts from what was known before.
    pub(crate) fn new(known: BTreeSet<Fingerprint>) -> Self {
        Self { known, ..Self::default() }
    }

    /// The same of messages, which may be worded anew.
    pub(crate) fn of_messages(known: BTreeSet<Fingerprint>) -> Self {
        Self { worded: true, ..Self::new(known) }
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let seen = |seen: &Seen| {
            let texts = seen.kind.len() + seen.message.len();
            size_of::<Seen>() + texts + 24 * (seen.candidate.len() + seen.operations.len())
        };
        let outside: usize = self.outside.values().map(|thrown| 48 + 96 * thrown.len()).sum();
        let sets = self.fatal.len() + self.known.len() + self.early.len();
        self.all.values().map(seen).sum::<usize>() + outside + 24 * (sets + self.traffic.len())
    }

    /// Takes a cell of the control from before the start.
    pub(crate) fn past(&mut self, cell: &OperationCell) {
        self.history += cell.requests;
        for (fingerprint, exception) in &cell.exceptions {
            self.past_count(*fingerprint, exception);
        }
    }

    /// Takes requests of the control from before the start.
    pub(crate) fn past_requests(&mut self, requests: u64) {
        self.history += requests;
    }

    /// Takes occurrences from before the start.
    pub(crate) fn past_count(&mut self, fingerprint: Fingerprint, exception: &ExceptionCount) {
        if let Some(seen) = self.seen(fingerprint, exception) {
            seen.control += exception.count;
        }
    }

    /// Takes a cell since the start.
    pub(crate) fn push(&mut self, bucket: Bucket, operation: usize, candidate: bool, cell: &OperationCell) {
        for (fingerprint, exception) in &cell.exceptions {
            self.count(bucket, operation, candidate, *fingerprint, exception);
        }
    }

    /// Takes a cell that holds no request, of a bucket that is still to be folded.
    pub(crate) fn wait(&mut self, bucket: Bucket, candidate: bool, cell: &OperationCell) {
        let thrown =
            cell.exceptions.iter().map(|(fingerprint, exception)| (candidate, *fingerprint, exception.clone()));
        self.outside.entry(bucket).or_default().extend(thrown);
    }

    /// Says whether nobody has seen it before.
    pub(crate) fn is_new(&self, fingerprint: Fingerprint) -> bool {
        !self.known.contains(&fingerprint) && self.all.get(&fingerprint).is_none_or(|seen| seen.control == 0)
    }

    /// Takes what was thrown outside of every request in `bucket`, or leaves it out where it does not `count`.
    pub(crate) fn push_outside(&mut self, bucket: Bucket, counts: bool) {
        for (candidate, fingerprint, exception) in self.outside.remove(&bucket).filter(|_| counts).unwrap_or_default() {
            self.count(bucket, NO_OPERATION, candidate, fingerprint, &exception);
        }
    }

    /// Takes occurrences since the start.
    pub(crate) fn count(
        &mut self,
        bucket: Bucket,
        operation: usize,
        candidate: bool,
        fingerprint: Fingerprint,
        exception: &ExceptionCount,
    ) {
        let Some(seen) = self.seen(fingerprint, exception) else { return };
        if candidate {
            *seen.candidate.entry(bucket).or_default() += exception.count;
            seen.count += exception.count;
            *seen.operations.entry(operation).or_default() += exception.count;
        } else {
            seen.control += exception.count;
        }
    }

    fn seen(&mut self, fingerprint: Fingerprint, exception: &ExceptionCount) -> Option<&mut Seen> {
        if !self.all.contains_key(&fingerprint) && self.all.len() >= FOLLOWED_MAX {
            return None;
        }
        let known = self.known.contains(&fingerprint);
        Some(self.all.entry(fingerprint).or_insert_with(|| Seen {
            kind: exception.exception_type.clone(),
            message: exception.message.clone(),
            known,
            ..Seen::default()
        }))
    }

    /// Ends a bucket: `requests` of candidate and control in it, `served` once the candidate has served at all.
    pub(crate) fn close(
        &mut self,
        bucket: Bucket,
        requests: (u64, u64),
        served: bool,
        dispersion: f64,
        tolerances: &Tolerances,
    ) {
        if !served {
            self.history += requests.1;
            self.take_early(bucket);
            return;
        }
        self.traffic.push((bucket, requests.0, requests.1));
        self.totals = (self.totals.0 + requests.0, self.totals.1 + requests.1);
        let (n_b, n_a) = (self.totals.0, self.history + self.totals.1);
        if n_a == 0 || n_b == 0 {
            return;
        }
        let mut moved = std::mem::take(&mut self.early);
        moved.extend(self.all.iter().filter(|(_, seen)| seen.candidate.contains_key(&bucket)).map(|(id, _)| *id));
        let reworded = !moved.is_empty() && self.worded && self.says_no_more(n_a, n_b);
        for id in moved {
            let seen = &self.all[&id];
            let fatal = self.fatal.contains(&id);
            let replaced = self.all.values().any(|old| {
                let expected = old.vanished(n_a, n_b);
                expected.is_some_and(|expected| {
                    seen.is_like(old, expected) || reworded && !fatal && seen.is_as_frequent(expected)
                })
            });
            let Some(seen) = self.all.get_mut(&id) else { continue };
            if seen.control > 0 || seen.known || replaced {
                seen.standing = Standing::default();
                continue;
            }
            let phi = dispersion.max(1.0);
            let log_p = seen.count as f64 / phi * (n_b as f64 / (n_a + n_b) as f64).ln();
            seen.standing.dispersion = phi;
            seen.standing.moved(0.5_f64.ln() - 0.5 * log_p);
            let often = is_often(seen.count, seen.candidate.len(), n_b, tolerances);
            if seen.standing.exceeded_at.is_none() && (fatal || often) {
                seen.standing.exceeded_at = Some(bucket);
            }
        }
    }

    /// Says whether what is new comes no more often than what vanished should have.
    fn says_no_more(&self, n_a: u64, n_b: u64) -> bool {
        let new: u64 = self.fresh().map(|(_, seen)| seen.count).sum();
        let gone: f64 = self.all.values().filter_map(|old| old.vanished(n_a, n_b)).sum();
        new as f64 <= gone + SPREAD * gone.sqrt()
    }

    /// Of what is fatal one is more than is tolerated, whatever was served by then.
    fn take_early(&mut self, bucket: Bucket) {
        for id in &self.fatal {
            let Some(seen) = self.all.get_mut(id).filter(|seen| seen.candidate.contains_key(&bucket)) else { continue };
            if self.history > 0 && seen.control == 0 && !seen.known {
                seen.standing.exceeded_at = seen.standing.exceeded_at.or(Some(bucket));
            }
            self.early.insert(*id);
        }
    }

    /// Says whether one occurred in `from..=to` as often as it takes to be told of: of what is fatal one shows it and another
    /// that it lasts.
    pub(crate) fn is_back(&self, id: Fingerprint, from: Bucket, to: Bucket, tolerances: &Tolerances) -> bool {
        let Some(seen) = self.all.get(&id) else { return false };
        let (count, buckets) = seen.candidate.range(from..=to).fold((0, 0), |sum, (_, n)| (sum.0 + n, sum.1 + 1));
        let inside = self.traffic.iter().rev().filter(|(b, ..)| *b >= from && *b <= to);
        let requests = inside.map(|(_, b, _)| b).sum();
        let fatal = self.fatal.contains(&id) && count >= 2;
        fatal || is_often(count, buckets, requests, tolerances)
    }

    /// Those that are new.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = (&Fingerprint, &Seen)> {
        self.all.iter().filter(|(_, seen)| seen.count > 0 && seen.control == 0 && !seen.known)
    }

    /// Bounds of the candidate's occurrences a request over the control's, of all that is known; both hold at all times with probability
    /// `1 - alpha`.
    pub(crate) fn interval(&self, seen: &Seen, alpha: f64) -> [f64; 2] {
        let (b, a) =
            self.traffic.iter().fold((0, self.history), |(b, a), (_, more_b, more_a)| (b + more_b, a + more_a));
        let (candidate, control) = ((seen.count as f64, b.max(1) as f64), (0.0, a.max(1) as f64));
        rate::count_ratio(candidate, control, seen.standing.dispersion, alpha)
    }
}

/// Says whether so many occurrences in so many buckets are more than is tolerated of what is new.
fn is_often(count: u64, buckets: usize, requests: u64, tolerances: &Tolerances) -> bool {
    let spread = buckets >= 2 || count >= 4 * tolerances.exception_count_min;
    let frequent = count as f64 >= tolerances.exception_share * requests as f64;
    count >= tolerances.exception_count_min && spread && frequent
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
    // What wraps a message adds words, and takes none away.
    let wrapped = || shared >= 3 && shared * 5 >= one.len().min(other.len()) * 4;
    shared >= 2 && shared * 5 >= one.union(&other).count() * 3 || wrapped()
}
