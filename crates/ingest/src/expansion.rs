//! How many bytes of rows a request becomes, learned from those before it: what is reserved before it is decoded.
//!
//! *Why learned.* A span of 440 bytes becomes rows of about its size; one of 60 bytes becomes four times that, because most columns
//! have a fixed width. Reserving for the worst would waste the budget, reserving for the best would break it.
//!
//! *By size.* Requests tell of those of about their size. A hundred records of nothing are 200 bytes and become 13 KiB: were that believed of
//! everybody's, who sends some of those would have every megabyte of others wait for 65.
//!
//! *Cost.* A load a reservation, a load and a store a request.

use std::sync::atomic::{AtomicU32, Ordering};

use plimsoll_otlp::Signal;

/// What a batch takes whatever is in it: some forty columns.
pub(crate) const BATCH_BYTES: usize = 12 << 10;

/// Sixteenths: twice the request's size, until something is known.
const FIRST: u32 = 2 * 16;

/// The bounds of what is believed: as large as the request, and 64 times that.
const BELIEVED: (usize, usize) = (16, 64 * 16);

fn needed(body: usize, sixteenths: u32) -> usize {
    let rows = body.saturating_mul(sixteenths as usize) / 16;
    body.saturating_add(rows).saturating_add(BATCH_BYTES)
}

/// Sizes at which a class of requests ends and the next one begins.
const CLASSES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

/// Size of rows over size of request, in sixteenths, by signal and by class of size.
#[derive(Debug)]
pub(crate) struct Expansion([[AtomicU32; CLASSES.len() + 1]; Signal::ALL.len()]);

impl Expansion {
    pub(crate) fn new() -> Self {
        Self([const { [const { AtomicU32::new(FIRST) }; CLASSES.len() + 1] }; Signal::ALL.len()])
    }

    fn known(&self, signal: Signal, body: usize) -> &AtomicU32 {
        &self.0[signal as usize][CLASSES.partition_point(|end| *end <= body)]
    }

    /// Returns what a request of `body` bytes is taken to need: itself and its rows.
    pub(crate) fn needed(&self, signal: Signal, body: usize) -> usize {
        // Relaxed, as below: the number stands for itself, and a lost update is made good by the next request.
        needed(body, self.known(signal, body).load(Ordering::Relaxed))
    }

    /// Learns from a request of `body` bytes that became `rows` bytes: at once where it was more than thought, slowly where it was less.
    pub(crate) fn learn(&self, signal: Signal, body: usize, rows: usize) {
        let Some(seen) = rows.saturating_sub(BATCH_BYTES).saturating_mul(16).checked_div(body) else { return };
        let seen = u32::try_from(seen.clamp(BELIEVED.0, BELIEVED.1)).unwrap_or(FIRST);
        let known = self.known(signal, body);
        let old = known.load(Ordering::Relaxed);
        let new = if seen > old { seen } else { old - (old - seen).div_ceil(32) };
        if new != old {
            known.store(new, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_believed_at_once_and_less_in_time() {
        let expansion = Expansion::new();
        assert_eq!(expansion.needed(Signal::Logs, 1_000), needed(1_000, FIRST));
        expansion.learn(Signal::Logs, 1_000, BATCH_BYTES + 10_000);
        assert_eq!(expansion.needed(Signal::Logs, 1_000), 1_000 + 10_000 + BATCH_BYTES);
        assert_eq!(expansion.needed(Signal::Traces, 1_000), needed(1_000, FIRST), "signals differ");
        expansion.learn(Signal::Logs, 1_000, BATCH_BYTES + 1_000);
        let soon = expansion.needed(Signal::Logs, 1_000);
        assert!(soon > 10_000, "{soon}");
        for _ in 0..1_000 {
            expansion.learn(Signal::Logs, 1_000, BATCH_BYTES + 1_000);
        }
        assert_eq!(expansion.needed(Signal::Logs, 1_000), 1_000 + 1_000 + BATCH_BYTES);
        expansion.learn(Signal::Logs, 0, 5);
    }

    #[test]
    fn what_small_requests_become_is_not_believed_of_large_ones() {
        let expansion = Expansion::new();
        expansion.learn(Signal::Logs, 205, BATCH_BYTES + 64 * 205);
        assert_eq!(expansion.needed(Signal::Logs, 1 << 20), needed(1 << 20, FIRST));
        assert_eq!(expansion.needed(Signal::Logs, 205), needed(205, 64 * 16));
        expansion.learn(Signal::Logs, 1 << 20, BATCH_BYTES + (4 << 20));
        assert_eq!(expansion.needed(Signal::Logs, 8 << 20), needed(8 << 20, 4 * 16), "of all that are larger");
    }
}
