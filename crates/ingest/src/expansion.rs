//! How many bytes of rows a request becomes, learned from those before it: what is reserved before it is decoded.
//!
//! *Why learned.* A span of 440 bytes becomes rows of about its size; one of 60 bytes becomes four times that, because most columns
//! have a fixed width. Reserving for the worst would waste the budget, reserving for the best would break it.
//!
//! *By size.* Requests tell of those of about their size. A hundred records of nothing are 200 bytes and become 13 KiB: were that believed of
//! everybody's, who sends some of those would have every megabyte of others wait for 65.
//!
//! *By what they cost who sends them.* Up to four times their size is believed of all at once. What is beyond is believed by as much as came over the
//! wire for it: a few hundred compressed bytes can become any size and any number of rows.
//!
//! *Cost.* A load a reservation, a load and a store a request.

use std::sync::atomic::{AtomicU32, Ordering};

use plimsoll_otlp::Signal;

/// What a batch takes whatever is in it: some forty columns.
pub(crate) const BATCH_BYTES: usize = 12 << 10;

/// As large as the request.
const ONCE: u32 = 1 << 12;

/// Twice the request's size, until something is known.
const FIRST: u32 = 2 * ONCE;

/// What is believed of one request at once.
const AT_ONCE: u32 = 4 * ONCE;

/// The bounds of what is believed: as large as the request, and 64 times that.
const BELIEVED: (usize, usize) = (ONCE as usize, 64 * ONCE as usize);

/// Bytes on the wire after which all of what is beyond [`AT_ONCE`] is believed.
const WEIGHT: usize = 8 << 20;

fn needed(body: usize, times: u32) -> usize {
    let rows = body.saturating_mul(times as usize) / ONCE as usize;
    body.saturating_add(rows).saturating_add(BATCH_BYTES)
}

/// Returns how many times its size a request of `body` bytes became.
fn times(body: usize, rows: usize) -> Option<u32> {
    let seen = rows.saturating_sub(BATCH_BYTES).saturating_mul(ONCE as usize).checked_div(body)?;
    u32::try_from(seen.clamp(BELIEVED.0, BELIEVED.1)).ok()
}

/// Sizes at which a class of requests ends and the next one begins.
const CLASSES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

/// Size of rows over size of request, in parts of [`ONCE`], by signal and by class of size.
#[derive(Debug)]
pub(crate) struct Expansion([[Known; CLASSES.len() + 1]; Signal::ALL.len()]);

#[derive(Debug)]
struct Known {
    all: AtomicU32,
    /// Of those that became more than they might without being decoded alone: the last one.
    swollen: AtomicU32,
}

impl Expansion {
    pub(crate) fn new() -> Self {
        let new = || Known { all: AtomicU32::new(FIRST), swollen: AtomicU32::new(AT_ONCE) };
        Self(std::array::from_fn(|_| std::array::from_fn(|_| new())))
    }

    fn known(&self, signal: Signal, body: usize) -> &Known {
        &self.0[signal as usize][CLASSES.partition_point(|end| *end <= body)]
    }

    /// Returns what a request of `body` bytes is taken to need: itself and its rows.
    pub(crate) fn needed(&self, signal: Signal, body: usize) -> usize {
        // Relaxed, as below: the number stands for itself, and a lost update is made good by the next request.
        needed(body, self.known(signal, body).all.load(Ordering::Relaxed))
    }

    /// Returns the same of one that swells.
    pub(crate) fn swollen(&self, signal: Signal, body: usize) -> usize {
        needed(body, self.known(signal, body).swollen.load(Ordering::Relaxed))
    }

    /// Learns from a request of `body` bytes, `wire` of them as they came, that became `rows` bytes: where it was more than thought, at once or by what
    /// came, and slowly where it was less.
    pub(crate) fn learn(&self, signal: Signal, body: usize, wire: usize, rows: usize) {
        let Some(seen) = times(body, rows) else { return };
        let known = &self.known(signal, body).all;
        let old = known.load(Ordering::Relaxed);
        let new = if seen > old {
            let at_once = seen.min(AT_ONCE).max(old);
            at_once + part(seen - at_once, wire.min(WEIGHT))
        } else {
            old - (old - seen).div_ceil(32)
        };
        if new != old {
            known.store(new, Ordering::Relaxed);
        }
    }

    /// Learns the same from one that swells: it is what the next such one is expected to become.
    pub(crate) fn learn_swollen(&self, signal: Signal, body: usize, rows: usize) {
        let Some(seen) = times(body, rows) else { return };
        self.known(signal, body).swollen.store(seen, Ordering::Relaxed);
    }
}

/// Returns as much of `more` as `wire` bytes have weight.
fn part(more: u32, wire: usize) -> u32 {
    u32::try_from(more as usize * wire / WEIGHT).unwrap_or(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_believed_at_once_and_less_in_time() {
        let expansion = Expansion::new();
        assert_eq!(expansion.needed(Signal::Logs, 1_000), needed(1_000, FIRST));
        expansion.learn(Signal::Logs, 1_000, 1_000, BATCH_BYTES + 4_000);
        assert_eq!(expansion.needed(Signal::Logs, 1_000), 1_000 + 4_000 + BATCH_BYTES);
        assert_eq!(expansion.needed(Signal::Traces, 1_000), needed(1_000, FIRST), "signals differ");
        expansion.learn(Signal::Logs, 1_000, 1_000, BATCH_BYTES + 1_000);
        let soon = expansion.needed(Signal::Logs, 1_000);
        assert!(soon > 4_800 + BATCH_BYTES, "{soon}");
        for _ in 0..1_000 {
            expansion.learn(Signal::Logs, 1_000, 1_000, BATCH_BYTES + 1_000);
        }
        assert_eq!(expansion.needed(Signal::Logs, 1_000), 1_000 + 1_000 + BATCH_BYTES);
        expansion.learn(Signal::Logs, 0, 0, 5);
    }

    #[test]
    fn what_small_requests_become_is_not_believed_of_large_ones() {
        let expansion = Expansion::new();
        expansion.learn(Signal::Logs, 205, 205, BATCH_BYTES + 64 * 205);
        assert_eq!(expansion.needed(Signal::Logs, 1 << 20), needed(1 << 20, FIRST));
        assert!(expansion.needed(Signal::Logs, 205) >= needed(205, AT_ONCE));
        expansion.learn(Signal::Logs, 1 << 20, 1 << 20, BATCH_BYTES + (4 << 20));
        assert_eq!(expansion.needed(Signal::Logs, 8 << 20), needed(8 << 20, AT_ONCE), "of all that are larger");
    }

    #[test]
    fn far_more_is_believed_by_as_much_as_came_for_it() {
        let expansion = Expansion::new();
        let (body, rows) = (1 << 20, 60 << 20);
        for _ in 0..10 {
            expansion.learn(Signal::Logs, body, 1_336, rows);
        }
        let little = expansion.needed(Signal::Logs, body);
        assert!(little <= needed(body, AT_ONCE) * 11 / 10, "{little} after some 13 KiB");
        for _ in 0..40 {
            expansion.learn(Signal::Logs, body, body, rows);
        }
        let much = expansion.needed(Signal::Logs, body);
        assert!(much >= rows, "{much}: who sends as much as that is believed");
    }

    #[test]
    fn what_swells_teaches_the_next_that_does() {
        let expansion = Expansion::new();
        assert_eq!(expansion.swollen(Signal::Logs, 1_000), needed(1_000, AT_ONCE));
        expansion.learn_swollen(Signal::Logs, 1_000, BATCH_BYTES + 50_000);
        assert_eq!(expansion.swollen(Signal::Logs, 1_000), 1_000 + 50_000 + BATCH_BYTES);
        assert_eq!(expansion.needed(Signal::Logs, 1_000), needed(1_000, FIRST));
    }
}
