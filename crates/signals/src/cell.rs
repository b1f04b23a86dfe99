//! One cell while it is being filled: compact, with numbers in place of text.
//!
//! *Cost.* About 200 bytes for a quiet operation. What only failing requests need stands behind one pointer.

use plimsoll_model::aggregates::Vitals;
use plimsoll_model::logarithm::bucket_and_ln;
use plimsoll_model::signal::{CalleeTime, ExceptionCount, Exemplars, Fingerprint, Histogram, LOG_UNIT};

use crate::draws::{self, Draws};
use crate::drill::Drill;

/// Where something was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Under its own key, for the first time in this cell.
    First,
    /// Under its own key.
    Again,
    /// Under the one that stands for all others.
    Other,
}

/// Counts by key, ascending.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sparse<K>(pub(crate) Vec<(K, u64)>);

impl<K: Ord + Copy> Sparse<K> {
    pub(crate) fn add(&mut self, key: K, count: u64) {
        match self.0.binary_search_by_key(&key, |(k, _)| *k) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => {
                if self.0.capacity() == 0 {
                    self.0.reserve_exact(4);
                }
                self.0.insert(at, (key, count));
            }
        }
    }

    /// Adds under `key` while there is room for it, else under `other`.
    fn add_bounded(&mut self, key: K, count: u64, max: usize, other: K) -> Recorded {
        match self.0.binary_search_by_key(&key, |(k, _)| *k) {
            Ok(at) => {
                self.0[at].1 += count;
                Recorded::Again
            }
            Err(_) if self.0.len() >= max => {
                self.add(other, count);
                Recorded::Other
            }
            Err(_) => {
                self.add(key, count);
                Recorded::First
            }
        }
    }

    /// Adds many, whose keys ascend too.
    pub(crate) fn add_all(&mut self, more: &[(K, u64)]) {
        let mut at = 0;
        for (key, count) in more {
            while self.0.get(at).is_some_and(|(known, _)| known < key) {
                at += 1;
            }
            match self.0.get_mut(at) {
                Some((known, counted)) if known == key => *counted += count,
                _ => self.0.insert(at, (*key, *count)),
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.add_all(&other.0);
    }
}

/// What only some cells need.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rare {
    /// By number of the class.
    pub(crate) classes: Sparse<u32>,
    pub(crate) exceptions: Vec<(Fingerprint, ExceptionCount)>,
    /// By number of the party.
    pub(crate) blame: Sparse<u32>,
    pub(crate) failed: Exemplars,
    pub(crate) draws: Draws,
}

/// What happened to one operation in one bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) weighted_requests: u64,
    pub(crate) weighted_errors: u64,
    pub(crate) error_origins: u64,
    pub(crate) log_sum: i64,
    pub(crate) log_sum_sq: i64,
    pub(crate) latency: Sparse<i16>,
    pub(crate) self_time: Sparse<i16>,
    pub(crate) self_time_ns: u64,
    pub(crate) assembled: u64,
    /// By number of the party.
    pub(crate) callees: Vec<(u32, CalleeTime)>,
    pub(crate) values: Drill,
    pub(crate) draws: Draws,
    pub(crate) slow: Exemplars,
    pub(crate) good: Exemplars,
    pub(crate) rare: Option<Box<Rare>>,
}

/// Requests drawn of a cell: of the failed ones, and of the others.
pub(crate) const FAILED_MAX: usize = plimsoll_model::drill::Draws::FAILED_MAX;
pub(crate) const GOOD_MAX: usize = plimsoll_model::drill::Draws::GOOD_MAX;

/// In units of 1/[`LOG_UNIT`], rounded; logarithms of whole numbers are not negative, and they and their squares below two thousand.
pub(crate) fn units(value: f64) -> i64 {
    /// From here on a number's last bit is one.
    const WHOLE: f64 = (1_u64 << 52) as f64;
    (value * LOG_UNIT + WHOLE).to_bits() as i64 - WHOLE.to_bits() as i64
}

impl Cell {
    /// Counts a request; returns its logarithm of latency in units of 1/[`LOG_UNIT`].
    pub(crate) fn record_request(&mut self, nanos: u64, trace_id: u128, weight: u64) -> i64 {
        let (index, log) = bucket_and_ln(nanos);
        let log_units = units(log);
        self.requests += 1;
        self.weighted_requests = self.weighted_requests.saturating_add(weight);
        self.log_sum += log_units;
        self.log_sum_sq += units(log * log);
        let slowest = self.latency.0.last().map(|(i, _)| *i);
        if slowest.is_none_or(|slowest| index > slowest) {
            self.slow.0.clear();
        }
        if slowest.is_none_or(|slowest| index >= slowest) {
            self.slow.offer(trace_id.to_be_bytes());
        }
        self.latency.add(index, 1);
        log_units
    }

    /// Returns how the operation fared, at a glance. A failure is its own where most traces told so.
    pub(crate) fn vitals(&self) -> Vitals {
        let told = self.assembled.saturating_mul(2) >= self.requests;
        let errors = if told { self.error_origins.min(self.errors) } else { self.errors };
        Vitals { requests: self.requests, errors, log_latency_sum: self.log_sum }
    }

    /// Lists the parties called or blamed; one may come twice.
    pub(crate) fn parties(&self) -> Vec<u32> {
        let blamed = self.rare.iter().flat_map(|rare| rare.blame.0.iter().map(|(party, _)| *party));
        self.callees.iter().map(|(party, _)| *party).chain(blamed).collect()
    }

    /// Lists attributes and values of the requests drawn; one may come twice.
    pub(crate) fn drawn(&self) -> impl Iterator<Item = (u32, u32)> {
        let failed = self.rare.iter().flat_map(|rare| rare.draws.entries());
        self.draws.entries().iter().chain(failed).map(|(_, attribute, value)| (*attribute, *value))
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Counts a failed request; says whether its class went to `other`.
    pub(crate) fn record_error(&mut self, class: u32, trace_id: u128, weight: u64, max: usize, other: u32) -> bool {
        self.errors += 1;
        self.weighted_errors = self.weighted_errors.saturating_add(weight);
        let rare = self.rare();
        rare.failed.offer(trace_id.to_be_bytes());
        rare.classes.add_bounded(class, 1, max, other) == Recorded::Other
    }

    /// Offers a request with its values to be drawn.
    #[inline]
    pub(crate) fn draw(&mut self, number: u64, failed: bool, values: impl Iterator<Item = (u32, u32)>) {
        if failed {
            self.rare().draws.offer(number, values, FAILED_MAX);
        } else if draws::looked_at(number) {
            self.draws.offer(number, values, GOOD_MAX);
        }
    }

    pub(crate) fn record_self_time(&mut self, nanos: u64) {
        self.assembled += 1;
        self.self_time_ns = self.self_time_ns.saturating_add(nanos);
        self.self_time.add(Histogram::index_of(nanos), 1);
    }

    pub(crate) fn record_blame(&mut self, party: u32, max: usize, other: u32) -> Recorded {
        self.rare().blame.add_bounded(party, 1, max, other)
    }

    pub(crate) fn record_callee(&mut self, party: u32, time: CalleeTime, max: usize, other: u32) -> Recorded {
        match self.callees.binary_search_by_key(&party, |(p, _)| *p) {
            Ok(at) => {
                add_time(&mut self.callees[at].1, time);
                Recorded::Again
            }
            Err(_) if self.callees.len() >= max => {
                self.add_callee(other, time);
                Recorded::Other
            }
            Err(at) => {
                self.callees.insert(at, (party, time));
                Recorded::First
            }
        }
    }

    pub(crate) fn add_callee(&mut self, party: u32, time: CalleeTime) {
        match self.callees.binary_search_by_key(&party, |(p, _)| *p) {
            Ok(at) => add_time(&mut self.callees[at].1, time),
            Err(at) => self.callees.insert(at, (party, time)),
        }
    }

    /// Counts an exception; says whether it was counted as the one that stands for all others.
    pub(crate) fn record_exception(&mut self, fingerprint: Fingerprint, seen: &ExceptionCount, max: usize) -> bool {
        let exceptions = &mut self.rare().exceptions;
        let known = exceptions.binary_search_by_key(&fingerprint, |(f, _)| *f).is_ok();
        if known || exceptions.len() < max {
            add_exception(exceptions, fingerprint, seen);
            return false;
        }
        let other =
            ExceptionCount { exception_type: crate::OTHER.to_owned(), message: String::new(), count: seen.count };
        add_exception(exceptions, Fingerprint(0), &other);
        true
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let (slower, slowest) = (other.latency.0.last().map(|e| e.0), self.latency.0.last().map(|e| e.0));
        match slower.cmp(&slowest) {
            std::cmp::Ordering::Greater => self.slow = other.slow.clone(),
            std::cmp::Ordering::Equal => self.slow.merge(&other.slow),
            std::cmp::Ordering::Less => {}
        }
        self.requests += other.requests;
        self.errors += other.errors;
        self.weighted_requests = self.weighted_requests.saturating_add(other.weighted_requests);
        self.weighted_errors = self.weighted_errors.saturating_add(other.weighted_errors);
        self.error_origins += other.error_origins;
        self.log_sum = self.log_sum.saturating_add(other.log_sum);
        self.log_sum_sq = self.log_sum_sq.saturating_add(other.log_sum_sq);
        self.latency.merge(&other.latency);
        self.self_time.merge(&other.self_time);
        self.self_time_ns = self.self_time_ns.saturating_add(other.self_time_ns);
        self.assembled += other.assembled;
        self.values.merge(&other.values);
        self.draws.merge(&other.draws, GOOD_MAX);
        self.good.merge(&other.good);
        for (party, time) in &other.callees {
            self.add_callee(*party, *time);
        }
        if let Some(theirs) = &other.rare {
            let mine = self.rare();
            mine.classes.merge(&theirs.classes);
            mine.blame.merge(&theirs.blame);
            mine.failed.merge(&theirs.failed);
            mine.draws.merge(&theirs.draws, FAILED_MAX);
            for (fingerprint, seen) in &theirs.exceptions {
                add_exception(&mut mine.exceptions, *fingerprint, seen);
            }
        }
    }
}

fn add_time(mine: &mut CalleeTime, time: CalleeTime) {
    mine.calls += time.calls;
    mine.critical_ns = mine.critical_ns.saturating_add(time.critical_ns);
}

fn add_exception(exceptions: &mut Vec<(Fingerprint, ExceptionCount)>, fingerprint: Fingerprint, seen: &ExceptionCount) {
    match exceptions.binary_search_by_key(&fingerprint, |(f, _)| *f) {
        Ok(at) => {
            let mine = &mut exceptions[at].1;
            mine.count += seen.count;
            if seen.message < mine.message {
                mine.message.clone_from(&seen.message);
            }
        }
        Err(at) => exceptions.insert(at, (fingerprint, seen.clone())),
    }
}
