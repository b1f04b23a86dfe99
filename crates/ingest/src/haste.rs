//! How fast a body has to come while others wait for memory: what it holds must not be held for nothing.
//!
//! *How.* A body has a credit of time. It begins with a grace, shrinks as time passes and grows with every byte, up to the grace again. Who has used it up
//! is late; that matters only while somebody waits. So a body that stops is late after the grace at the latest, however fast it came before,
//! and one that comes steadily at the rate or faster never is. Nor is one whose client keeps on the way all that it may send unread: a stream's window
//! bounds the rate by the time of a round trip.

use std::time::Duration;

use tokio::time::Instant;

/// The rate at the least, in bytes a second.
const RATE_MIN: usize = 64 << 10;

/// Of the time that a body may take, what it may take while others wait.
const PART_OF_TIME: u32 = 6;

/// A round trip that is still waited for.
const ROUND_TRIP: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Haste {
    rate: f64,
    window: usize,
    time: Duration,
    grace: Duration,
    due: Instant,
}

impl Haste {
    /// Begins for a body that was promised `bytes`, of which `window` may be on the way unread, and which may take `time` where nobody waits.
    pub(crate) fn new(bytes: usize, window: usize, time: Duration, grace: Duration, now: Instant) -> Self {
        Self { rate: rate(bytes, window, time), window, time, grace, due: now + grace }
    }

    /// Takes note that the body is taken to have `bytes` by now.
    pub(crate) fn promised(&mut self, bytes: usize) {
        self.rate = rate(bytes, self.window, self.time);
    }

    /// Takes note of `bytes` that came.
    pub(crate) fn came(&mut self, bytes: usize, now: Instant) {
        let earned = Duration::try_from_secs_f64(bytes as f64 / self.rate).unwrap_or(self.grace).min(self.grace);
        self.due = (self.due.max(now.checked_sub(self.grace).unwrap_or(now)) + earned).min(now + self.grace);
    }

    /// Takes note that nobody could have sent anything until `now`.
    pub(crate) fn rested(&mut self, now: Instant) {
        self.due = now + self.grace;
    }

    /// Returns when the body is late if nothing comes.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Returns the rate, in bytes a second.
    pub(crate) fn rate(&self) -> u64 {
        self.rate as u64
    }
}

fn rate(bytes: usize, window: usize, time: Duration) -> f64 {
    let rate = bytes as f64 / (time / PART_OF_TIME).as_secs_f64().max(0.001);
    rate.min(window as f64 / ROUND_TRIP.as_secs_f64()).max(RATE_MIN as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_body_that_comes_at_the_rate_is_never_late_and_one_that_comes_slower_is() {
        let begun = Instant::now();
        for (sent, late) in [(RATE_MIN, false), (RATE_MIN / 4 * 3, true)] {
            let mut haste = Haste::new(1_000, usize::MAX, 60 * SECOND, SECOND, begun);
            let at_last = (1..=10).any(|second| {
                let now = begun + second * SECOND - Duration::from_millis(1);
                let late = now > haste.due();
                haste.came(sent, now);
                late
            });
            assert_eq!(at_last, late, "{sent} bytes a second");
        }
    }

    #[test]
    fn who_keeps_a_full_window_on_the_way_is_not_late() {
        let begun = Instant::now();
        let mut haste = Haste::new(8 << 20, 32 << 10, 60 * SECOND, SECOND, begun);
        assert_eq!(haste.rate(), 128 << 10, "eight windows in two seconds");
        for trip in 1..=200 {
            let now = begun + trip * Duration::from_millis(240);
            assert!(now <= haste.due(), "round trip {trip}");
            haste.came(32 << 10, now);
        }
        assert_eq!(Haste::new(8 << 20, 1, 60 * SECOND, SECOND, begun).rate(), RATE_MIN as u64);
    }

    #[test]
    fn who_announces_nothing_has_to_send_the_faster_the_more_there_is() {
        let mut haste = Haste::new(64 << 10, usize::MAX, 60 * SECOND, SECOND, Instant::now());
        assert_eq!(haste.rate(), RATE_MIN as u64);
        haste.promised(20 << 20);
        assert_eq!(haste.rate(), 2 << 20);
    }

    #[test]
    fn what_came_fast_at_first_buys_no_more_than_the_grace() {
        let begun = Instant::now();
        let mut haste = Haste::new(60 << 20, usize::MAX, 60 * SECOND, SECOND, begun);
        assert_eq!(haste.rate(), 6 << 20, "all of it in ten seconds");
        haste.came(50 << 20, begun);
        assert_eq!(haste.due(), begun + SECOND);
        haste.came(0, begun + 5 * SECOND);
        assert!(haste.due() < begun + 5 * SECOND);
        haste.came(13 << 20, begun + 5 * SECOND);
        assert!(haste.due() >= begun + 5 * SECOND, "one that comes again has caught up soon");
        haste.rested(begun + 9 * SECOND);
        assert_eq!(haste.due(), begun + 10 * SECOND);
    }
}
