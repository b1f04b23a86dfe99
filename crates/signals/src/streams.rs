//! Cumulative streams: the last point of each, from which the next says what was added.
//!
//! *Invariants.* At most [`crate::SignalLimits::streams_max`] are followed; a stream silent for a quarter of an hour makes
//! room for another.

use crate::intern::FixedMap;
use crate::points::Reading;

/// A stream silent for so long is forgotten when there is no room.
const FORGET_NS: u64 = 900_000_000_000;
/// Room is looked for no more often than this.
const SWEEP_NS: u64 = 60_000_000_000;

/// The last point of a cumulative stream.
struct Stream {
    start: u64,
    time: u64,
    reading: Reading,
}

/// Cumulative streams by hash of everything that names them.
#[derive(Default)]
pub(crate) struct Streams {
    last: FixedMap<u128, Stream>,
    swept: u64,
}

/// What a cumulative point turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// Something was added since the point before.
    Since,
    /// A new beginning: all of it was added.
    Anew,
    /// The first that is known of the stream: nothing is known to be added.
    First,
    /// Not newer than the one before, or there was no room.
    LeftOut,
}

/// A point of a stream.
pub(crate) struct Point<'a> {
    pub(crate) key: u128,
    pub(crate) start: u64,
    pub(crate) time: u64,
    pub(crate) reading: &'a mut Reading,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.last.len()
    }

    /// Follows a stream to its next point, whose reading becomes what was added. `opened` is when folding began, `spare`
    /// any reading.
    pub(crate) fn advance(&mut self, point: Point<'_>, opened: u64, max: usize, spare: &mut Reading) -> Added {
        let Point { key, start, time, reading } = point;
        if let Some(last) = self.last.get_mut(&key) {
            if time <= last.time {
                return Added::LeftOut;
            }
            let restarted = start > last.start && last.start > 0;
            let grew = !restarted && reading.since(&last.reading, spare);
            (last.start, last.time) = (start, time);
            if !grew {
                last.reading.clone_from(reading);
                return Added::Anew;
            }
            std::mem::swap(&mut last.reading, reading);
            std::mem::swap(reading, spare);
            return Added::Since;
        }
        if self.last.len() >= max && time.saturating_sub(self.swept) > SWEEP_NS {
            self.swept = time;
            self.last.retain(|_, stream| stream.time.saturating_add(FORGET_NS) >= time);
        }
        if self.last.len() >= max {
            return Added::LeftOut;
        }
        self.last.insert(key, Stream { start, time, reading: reading.clone() });
        if start > 0 && start >= opened { Added::Since } else { Added::First }
    }
}
