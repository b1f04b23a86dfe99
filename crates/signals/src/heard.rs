//! In which buckets anything at all was heard, of whichever service.
//!
//! Where nothing was, it is not services that fell silent but whoever hands on what they send, or who receives it. A stretch is
//! a gap only where chance does not make it: where hardly anything is sent, most buckets are empty.
//!
//! *Cost.* One comparison for a run of rows of one emitter and bucket; a number for each bucket of a day.

use std::collections::BTreeSet;

use plimsoll_model::{Bucket, Interval};

use crate::state::SignalState;

/// Buckets without which an empty stretch is none: exporters wait for a while.
const GAP_MIN: u64 = 3;
/// Buckets heard without which nothing is to come.
const HEARD_MIN: u64 = 6;
/// As rare as this a stretch must be by chance, as a negative logarithm.
const RARE: f64 = 7.0;
/// Buckets of a day, which are kept.
const KEPT: usize = 8_640;

/// Numbers of the buckets in which anything was heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    buckets: BTreeSet<u64>,
    last: u64,
}

impl Heard {
    /// Takes note that something came of `bucket`.
    #[inline]
    pub(crate) fn hear(&mut self, bucket: u64) {
        if bucket != self.last {
            self.last = bucket;
            self.buckets.insert(bucket);
            if self.buckets.len() > KEPT {
                self.buckets.pop_first();
            }
        }
    }

    /// Lists the stretches of `first..end` in which nothing was heard and something was to be.
    fn gaps(&self, first: u64, end: u64) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let mut heard = self.buckets.range(first..end.max(first)).copied();
        let Some(begun) = heard.next() else { return found };
        let (mut last, mut count) = (begun, 1_u64);
        for next in heard.chain([end]) {
            let empty = next - last - 1;
            if empty >= GAP_MIN && count >= HEARD_MIN && empty as f64 >= needed(count, last + 1 - begun) {
                found.push((last + 1, next));
            }
            (last, count) = (next, count + 1);
        }
        found
    }
}

/// Buckets in a row that chance leaves empty too rarely, where `count` of `all` were heard.
fn needed(count: u64, all: u64) -> f64 {
    let empty = 1.0 - count as f64 / all as f64;
    if empty > 0.0 { RARE / -empty.ln() } else { 0.0 }
}

impl SignalState {
    /// Lists the stretches of `within` in which nothing at all came, of whichever service, though by what came before it was to;
    /// in order. What has not come yet is the last of them.
    pub fn gaps(&self, within: Interval) -> Vec<Interval> {
        let spell = |(from, to)| Interval { from: Bucket(from).start(), to: Bucket(to).start() };
        self.heard.gaps(within.from.bucket().0, within.to.bucket().0).into_iter().map(spell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(buckets: impl IntoIterator<Item = u64>) -> Heard {
        let mut heard = Heard::default();
        buckets.into_iter().for_each(|bucket| heard.hear(bucket));
        heard
    }

    #[test]
    fn a_gap_is_a_stretch_that_chance_does_not_leave_empty() {
        assert_eq!(heard((100..150).chain(180..200)).gaps(0, 200), [(150, 180)]);
        assert_eq!(heard((100..150).chain(152..200)).gaps(0, 210), [(200, 210)], "two are none");
        assert_eq!(heard(100..150).gaps(120, 150), [], "what is before is not asked for");
        // Something every two minutes, and then nothing for five and for half an hour.
        assert_eq!(heard((0..40).map(|n| 12 * n)).gaps(0, 39 * 12 + 30), []);
        assert_eq!(heard((0..40).map(|n| 12 * n)).gaps(0, 39 * 12 + 180), [(39 * 12 + 1, 39 * 12 + 180)]);
        assert_eq!(heard([1, 2, 3]).gaps(0, 100), [], "of so little nothing is to come");
        assert_eq!(heard([]).gaps(0, 100), []);
    }
}
