//! Which traces are kept until they are whole where there is no room for all: a share of them, by their ids.
//!
//! The spans of a trace come seconds apart, from several senders. Where more come within that time than there is room for,
//! to close whatever was idle longest would leave no trace whole, and nobody could be blamed for anything. All spans of a
//! trace have its id: of those that an id picks all can be kept, and what they show holds for the others.
//!
//! The share is halved until what comes within the time for which a trace waits takes three quarters of the room at most, and
//! once more whenever what is kept takes more than that all the same: traces of which something comes again and again stay open
//! for longer. It grows again once there would be a quarter to spare beyond that.

use std::time::Duration;

/// Parts of the time for which a trace waits in which is counted what came.
const PARTS: u64 = 8;
/// One more, as the latest is not over.
const KEPT: usize = PARTS as usize + 1;
/// Times that the share is halved at most.
const HALVINGS_MAX: u32 = 16;

/// Something that takes room while its trace is open: spans, and exceptions.
pub(crate) type OfBoth = [u64; 2];

/// The share of traces that are kept, and what came of late.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keeping {
    halvings: u32,
    /// What came in each of the latest parts, by their number modulo how many there are.
    came: [OfBoth; KEPT],
    /// Number of the latest part.
    part: u64,
    /// All that ever came, as of the last look.
    seen: OfBoth,
    /// When the share was last halved for what is kept.
    halved_at: u64,
}

impl Keeping {
    /// Says whether the trace with this hash is kept until it is whole.
    #[inline]
    pub(crate) fn keeps(&self, hash: u64) -> bool {
        hash.trailing_zeros() >= self.halvings
    }

    /// Returns the share of traces that are kept, of 1.
    pub(crate) fn share(&self) -> f64 {
        0.5_f64.powi(self.halvings.cast_signed())
    }

    /// Takes note of all that ever came by `now`, and of what is kept of it, where there is `room` for so much and a trace waits for so
    /// long.
    pub(crate) fn look(&mut self, now: u64, [all, kept]: [OfBoth; 2], room: OfBoth, wait: Duration) {
        let part = now / (wait.as_nanos() as u64 / PARTS).max(1);
        for passed in (self.part + 1).max((part + 1).saturating_sub(KEPT as u64))..=part {
            self.came[passed as usize % KEPT] = [0; 2];
        }
        self.part = self.part.max(part);
        let came = &mut self.came[self.part as usize % KEPT];
        for which in 0..2 {
            came[which] += all[which] - self.seen[which];
        }
        self.seen = all;
        let late = [0, 1].map(|which| self.came.iter().map(|came| came[which]).sum::<u64>());
        let least = halvings(late, room);
        let spare = |n: u64| n + n / 4;
        if least > self.halvings {
            self.halvings = least;
        } else if halvings(kept, room) > 0 {
            if self.halvings < HALVINGS_MAX && now.saturating_sub(self.halved_at) >= wait.as_nanos() as u64 {
                (self.halvings, self.halved_at) = (self.halvings + 1, now);
            }
        } else {
            let doublings =
                (0..self.halvings).take_while(|more| halvings(kept.map(|n| spare(n) << (more + 1)), room) == 0);
            let least = self.halvings - doublings.count() as u32;
            self.halvings = least.max(halvings(late.map(spare), room)).min(self.halvings);
        }
    }
}

/// Returns how often both are halved until each takes three quarters of its room at most.
fn halvings(came: OfBoth, room: OfBoth) -> u32 {
    let fits = |halvings: &u32| (0..2).all(|which| came[which] >> halvings <= room[which] / 4 * 3);
    (0..HALVINGS_MAX).find(fits).unwrap_or(HALVINGS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const WAIT: Duration = Duration::from_secs(10);

    /// Lets so many spans a second come in `seconds`; returns the share kept at the end.
    fn run(keeping: &mut Keeping, seconds: std::ops::Range<u64>, rate: u64) -> f64 {
        for second in seconds {
            let all = [keeping.seen[0] + rate, 0];
            keeping.look(second * S, [all, [0; 2]], [1_000, 100], WAIT);
        }
        keeping.share()
    }

    #[test]
    fn all_are_kept_while_there_is_room() {
        let mut keeping = Keeping::default();
        assert_eq!(run(&mut keeping, 0..100, 60), 1.0);
        assert!((0..1_000).all(|hash| keeping.keeps(hash)));
    }

    #[test]
    fn the_share_is_halved_until_what_is_kept_fits() {
        let mut keeping = Keeping::default();
        assert_eq!(run(&mut keeping, 0..30, 100), 0.5);
        assert_eq!(run(&mut keeping, 30..60, 2_000), 1.0 / 32.0);
        let kept = (1..=64_000_u64).filter(|hash| keeping.keeps(*hash)).count();
        assert_eq!(kept, 2_000);
    }

    #[test]
    fn it_grows_again_with_a_margin() {
        let mut keeping = Keeping::default();
        run(&mut keeping, 0..30, 100);
        assert_eq!(keeping.share(), 0.5);
        assert_eq!(run(&mut keeping, 30..60, 60), 0.5, "a little less than all would do");
        assert_eq!(run(&mut keeping, 60..90, 50), 1.0);
        run(&mut keeping, 90..120, 2_000);
        keeping.look(10_000 * S, [keeping.seen, [0; 2]], [1_000, 100], WAIT);
        assert_eq!(keeping.share(), 1.0, "nothing came for hours");
    }

    #[test]
    fn exceptions_take_room_as_well() {
        let mut keeping = Keeping::default();
        for second in 0..30 {
            keeping.look(second * S, [[second, 20 * second], [0; 2]], [1_000, 100], WAIT);
        }
        assert_eq!(keeping.share(), 0.25);
    }

    #[test]
    fn what_is_kept_for_long_halves_it_once_in_the_time_that_a_trace_waits() {
        let mut keeping = Keeping::default();
        let mut look = |second: u64, kept: u64| {
            keeping.look(second * S, [[second, 0], [kept, 0]], [1_000, 100], WAIT);
            keeping.share()
        };
        assert_eq!(look(100, 800), 0.5);
        assert_eq!(look(105, 900), 0.5);
        assert_eq!(look(110, 900), 0.25);
        assert_eq!(look(120, 500), 0.25, "twice as much would not fit");
        assert_eq!(look(130, 290), 0.5, "and now it does, but not four times as much");
        assert_eq!(look(131, 0), 1.0);
    }
}
