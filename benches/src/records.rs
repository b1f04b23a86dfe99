//! Requests as the load generator sends them, and what they decode to.

use arrow::array::RecordBatch;
use plimsoll_loadtest::Samples;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Signal, decode};

/// Records in one request.
pub const RECORDS: usize = 1_000;

/// When the first request is sent.
pub const START: u64 = 1_700_000_000_000_000_000;

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name in the results.
    pub name: &'static str,
    /// Its signal.
    pub signal: Signal,
    /// True for records of about 137 bytes.
    pub small: bool,
}

/// The kinds that the published table has.
pub const KINDS: [Kind; 5] = [
    Kind { name: "spans", signal: Signal::Traces, small: false },
    Kind { name: "logs", signal: Signal::Logs, small: false },
    Kind { name: "points", signal: Signal::Metrics, small: false },
    Kind { name: "small spans", signal: Signal::Traces, small: true },
    Kind { name: "small logs", signal: Signal::Logs, small: true },
];

/// Services and contents that requests of one kind differ by.
const VARIANTS: u64 = 4;

impl Kind {
    /// Makes the first `count` requests, one sent every hundredth of a second from [`START`].
    pub fn requests(self, count: u64) -> Vec<Vec<u8>> {
        self.requests_of(RECORDS, count)
    }

    /// Makes such requests of another size.
    pub fn requests_of(self, records: usize, count: u64) -> Vec<Vec<u8>> {
        let signal = match self.signal {
            Signal::Traces => plimsoll_loadtest::Signal::Traces,
            Signal::Logs => plimsoll_loadtest::Signal::Logs,
            Signal::Metrics => plimsoll_loadtest::Signal::Metrics,
        };
        let samples = Samples::new(signal, self.small, records, VARIANTS);
        (0..count).map(|number| samples.request(number, sent(number).0)).collect()
    }

    /// Decodes the first `count` requests, each received when it was sent.
    pub fn batches(self, count: u64) -> Vec<RecordBatch> {
        let decoded = |(number, request): (u64, Vec<u8>)| decode(self.signal, &request, sent(number));
        let numbered = (0..).zip(self.requests(count));
        numbered.map(|one| decoded(one).expect("the generator sends what is well formed").batch).collect()
    }
}

fn sent(number: u64) -> UnixNanos {
    UnixNanos(START + number * 10_000_000)
}
