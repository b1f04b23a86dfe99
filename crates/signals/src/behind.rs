//! How far what is sent is behind its receipt: because a clock is, or whoever hands it on.
//!
//! What counts is the least that anything was behind of late: one late batch says nothing, and where all is late by minutes
//! the last of these minutes is not known yet.

use std::time::Duration;

/// How long something is of late, in nanoseconds of receipt.
const MINUTE_NS: u64 = 60_000_000_000;
/// Exporters wait for a while; less than this is none.
const LEAST_NS: u64 = 20_000_000_000;
/// More than this is what had piled up, and not how late things are.
const MOST_NS: u64 = 900_000_000_000;

/// The least of this minute of receipt, and of the one before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behind {
    minute: u64,
    least: u64,
    former: u64,
}

impl Default for Behind {
    fn default() -> Self {
        Self { minute: 0, least: u64::MAX, former: u64::MAX }
    }
}

impl Behind {
    /// Returns the minute of receipt.
    pub(crate) fn minute(received: u64) -> u64 {
        received / MINUTE_NS
    }

    /// Takes several things received in one minute, of which the one that was least behind was so by `lag`.
    pub(crate) fn saw_least(&mut self, minute: u64, lag: u64) {
        if minute > self.minute {
            self.former = if minute == self.minute + 1 { self.least } else { u64::MAX };
            (self.minute, self.least) = (minute, lag);
        } else {
            self.least = self.least.min(lag);
        }
    }

    /// Says how far it is behind; nothing where nothing came of late.
    pub(crate) fn at(&self, now: u64) -> Duration {
        let least = self.least.min(self.former);
        if now / MINUTE_NS > self.minute + 1 || !(LEAST_NS..=MOST_NS).contains(&least) {
            return Duration::ZERO;
        }
        Duration::from_nanos(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    impl Behind {
        fn saw(&mut self, end: u64, received: u64) {
            self.saw_least(Self::minute(received), received.saturating_sub(end));
        }
    }

    #[test]
    fn it_is_behind_by_the_least_of_the_last_two_minutes() {
        let mut behind = Behind::default();
        assert_eq!(behind.at(0), Duration::ZERO);
        behind.saw(1_000 * S, 1_200 * S);
        behind.saw(1_000 * S, 1_180 * S);
        assert_eq!(behind.at(1_210 * S), Duration::from_secs(180));
        // A batch an hour late beside it changes nothing.
        behind.saw(1_200 * S, 4_810 * S - 3_400 * S);
        behind.saw(1_230 * S, 1_411 * S);
        assert_eq!(behind.at(1_411 * S), Duration::from_secs(181));
        behind.saw(1_412 * S, 1_413 * S);
        assert_eq!(behind.at(1_413 * S), Duration::ZERO, "something is in time");
        assert_eq!(behind.at(1_700 * S), Duration::ZERO, "nothing came of late");
    }

    #[test]
    fn what_had_piled_up_is_not_behind() {
        let mut behind = Behind::default();
        behind.saw(1_000 * S, 4_600 * S);
        assert_eq!(behind.at(4_600 * S), Duration::ZERO);
    }
}
