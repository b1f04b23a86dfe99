//! Counters and latencies of a run, kept by each worker for itself and added up at the end.

use std::ops::RangeInclusive;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::client::{Reply, SendError};
use crate::records::Signal;

/// Requests and records by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Requests that were answered with success.
    pub acked_requests: u64,
    /// Records in them, less those rejected.
    pub acked_records: u64,
    /// Records that a partial success left out.
    pub rejected_records: u64,
    /// Requests refused with leave to come again.
    pub refused_retryable: u64,
    /// Requests refused for good.
    pub refused_for_good: u64,
    /// Requests without an answer.
    pub failed: u64,
    /// Records in requests that were not acked.
    pub unacked_records: u64,
    /// Of those, the ones in requests without an answer: they may be stored or not, and those that were refused must not be.
    pub unanswered_records: u64,
    /// Bytes of bodies sent.
    pub body_bytes: u64,
}

/// What one worker saw.
#[derive(Debug, Clone)]
pub(crate) struct Stats {
    by_signal: [Counts; 3],
    pub(crate) ack: Histogram<u64>,
    pub(crate) last_problem: Option<String>,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self { by_signal: Default::default(), ack: micros(), last_problem: None }
    }

    pub(crate) fn of(&self, signal: Signal) -> Counts {
        self.by_signal[signal as usize]
    }

    pub(crate) fn all(&self) -> Counts {
        self.by_signal.iter().fold(Counts::default(), |sum, counts| sum.plus(counts))
    }

    /// Books one exchange of `records` records that began, or should have begun, `latency` ago.
    pub(crate) fn book(
        &mut self,
        signal: Signal,
        records: u64,
        body_bytes: usize,
        latency: Duration,
        reply: &Result<Reply, SendError>,
    ) {
        let counts = &mut self.by_signal[signal as usize];
        counts.body_bytes += body_bytes as u64;
        match reply {
            Ok(Reply::Accepted { rejected }) => {
                counts.acked_requests += 1;
                counts.acked_records += records.saturating_sub(*rejected);
                counts.rejected_records += rejected;
                // Longer than the histogram's end counts as its end.
                self.ack.saturating_record(latency.as_micros() as u64);
            }
            Ok(Reply::Refused { retryable, problem, .. }) => {
                if *retryable {
                    counts.refused_retryable += 1;
                } else {
                    counts.refused_for_good += 1;
                }
                counts.unacked_records += records;
                self.last_problem = Some(problem.clone());
            }
            Err(problem) => {
                counts.failed += 1;
                counts.unacked_records += records;
                counts.unanswered_records += records;
                self.last_problem = Some(problem.to_string());
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.by_signal.iter_mut().zip(&other.by_signal) {
            *mine = mine.plus(theirs);
        }
        self.ack.add(&other.ack).expect("both have the same bounds");
        self.last_problem = self.last_problem.take().or_else(|| other.last_problem.clone());
    }
}

impl Counts {
    /// Says how many records may be stored.
    pub(crate) fn stored(&self) -> RangeInclusive<u64> {
        self.acked_records..=self.acked_records + self.unanswered_records
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            acked_requests: self.acked_requests + other.acked_requests,
            acked_records: self.acked_records + other.acked_records,
            rejected_records: self.rejected_records + other.rejected_records,
            refused_retryable: self.refused_retryable + other.refused_retryable,
            refused_for_good: self.refused_for_good + other.refused_for_good,
            failed: self.failed + other.failed,
            unacked_records: self.unacked_records + other.unacked_records,
            unanswered_records: self.unanswered_records + other.unanswered_records,
            body_bytes: self.body_bytes + other.body_bytes,
        }
    }
}

/// Some quantiles of a latency, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Quantiles {
    /// Half were faster.
    pub p50_ms: f64,
    /// 99 in a hundred were faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// How many there were.
    pub count: u64,
}

impl Quantiles {
    pub(crate) fn of(micros: &Histogram<u64>) -> Self {
        let ms = |value: u64| value as f64 / 1000.0;
        Self {
            p50_ms: ms(micros.value_at_quantile(0.5)),
            p99_ms: ms(micros.value_at_quantile(0.99)),
            max_ms: ms(micros.max()),
            count: micros.len(),
        }
    }
}

/// An empty histogram of microseconds up to five minutes.
pub(crate) fn micros() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 300_000_000, 3).expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_must_not_be_stored_and_what_was_not_answered_may_be() {
        let mut stats = Stats::new();
        let mut book = |reply| stats.book(Signal::Logs, 10, 100, Duration::from_millis(1), &reply);
        let refused = |retryable| Reply::Refused { retryable, retry_after: None, problem: "full".to_owned() };
        book(Ok(Reply::Accepted { rejected: 1 }));
        book(Ok(refused(true)));
        book(Ok(refused(false)));
        assert_eq!(stats.all().stored(), 9..=9);
        stats.book(Signal::Logs, 10, 100, Duration::from_millis(1), &Err(SendError("gone".to_owned())));
        assert_eq!(stats.all().stored(), 9..=19);
        assert_eq!(stats.all().unacked_records, 30);
    }
}
