//! How far what is sent is behind its receipt: because a clock is, or whoever hands it on.
//!
//! What counts is the least that anything was behind of late: one late batch says nothing, and where all is late by minutes
//! the last of these minutes is not known yet.
//!
//! *What had piled up*, in a Collector that could not send or in a file, comes in order and faster than it came about: while the
//! latest event is minutes old and gains on the clock, nothing after it is known. That ends once the latest event is within a
//! minute of its receipt, once it gains no more, or once nothing came for a while: then there is no more of it.
//!
//! Requests are counted as they come, and what they called once their traces are closed, seconds of receipt later. Of what had
//! piled up that may be minutes of requests, whose failures nobody could be blamed for but who served them: so it is known
//! only as far as its traces are closed.

use std::time::Duration;

/// How long something is of late, in nanoseconds of receipt.
const MINUTE_NS: u64 = 60_000_000_000;
/// Exporters wait for a while; less than this is none.
const LEAST_NS: u64 = 20_000_000_000;
/// More than this is what had piled up, and not how late things are.
const MOST_NS: u64 = 900_000_000_000;

/// What comes after so long without anything is not part of what came before.
const QUIET_NS: u64 = 20_000_000_000;
/// What gains so much on the clock had piled up.
const GAIN_NS: u64 = 30_000_000_000;
/// Of what is sent by several at once the last seconds may not be whole.
const ABREAST_NS: u64 = 10_000_000_000;
/// So long after their receipt traces are closed, and a little more.
const CLOSED_NS: u64 = 12_000_000_000;
/// By so much the latest event is ahead of closed traces where what had piled up comes.
const AHEAD_NS: u64 = 60_000_000_000;

/// The least of this minute of receipt, and of the one before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behind {
    minute: u64,
    least: u64,
    former: u64,
    /// The latest event, and when anything was last received.
    latest: u64,
    received: u64,
    /// Both as they were when something came after a while without anything.
    since: (u64, u64),
    /// The latest event of what was received before a moment, and that moment.
    marked: (u64, u64),
    /// The latest event of those whose traces were closed by that moment.
    closed: u64,
    /// When something was last received that was later than all before, and late all the same.
    late: u64,
}

impl Default for Behind {
    fn default() -> Self {
        Self {
            minute: 0,
            least: u64::MAX,
            former: u64::MAX,
            latest: 0,
            received: 0,
            since: (0, 0),
            marked: (0, 0),
            closed: 0,
            late: 0,
        }
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

    /// Takes several things of which the latest ended at `end`, received at `received`.
    pub(crate) fn saw_latest(&mut self, end: u64, received: u64) {
        if received >= self.marked.1 + CLOSED_NS {
            // What is the first is not ahead of anything.
            self.closed = if self.latest == 0 { end } else { self.closed_at(received) };
            self.marked = (self.latest.max(self.closed), received);
        }
        if end > self.latest && received.saturating_sub(end) > MINUTE_NS {
            self.late = received;
        }
        self.latest = self.latest.max(end);
        if received.saturating_sub(self.received) > QUIET_NS {
            self.since = (self.latest, received);
        }
        self.received = self.received.max(received);
    }

    /// Says how far it is behind; nothing where nothing came of late.
    pub(crate) fn at(&self, now: u64) -> Duration {
        let least = self.least.min(self.former);
        let constant = now / MINUTE_NS <= self.minute + 1 && (LEAST_NS..=MOST_NS).contains(&least);
        let lag = if constant { least } else { 0 };
        Duration::from_nanos(lag).max(self.piled_up_at(now))
    }

    /// Says how far what had piled up is behind while it is delivered; nothing once there is no more of it.
    pub(crate) fn piled_up_at(&self, now: u64) -> Duration {
        let unknown = if self.catches_up(now) { now - self.latest + ABREAST_NS } else { 0 };
        let closed = self.closed_at(now);
        let ahead = now < self.late + CLOSED_NS && self.latest.saturating_sub(closed) >= AHEAD_NS;
        Duration::from_nanos(if ahead { unknown.max(now.saturating_sub(closed)) } else { unknown })
    }

    /// Returns the latest event of those whose traces are closed.
    fn closed_at(&self, now: u64) -> u64 {
        match now {
            _ if now >= self.received + CLOSED_NS => self.latest,
            _ if now >= self.marked.1 + CLOSED_NS => self.marked.0,
            _ => self.closed,
        }
    }

    fn catches_up(&self, now: u64) -> bool {
        let (latest, begun) = self.since;
        let passed = self.received.saturating_sub(begun);
        // Whether it gains is not known at first.
        let gains = passed < QUIET_NS || self.latest.saturating_sub(latest) >= passed + GAIN_NS;
        now <= self.received + QUIET_NS && self.latest.saturating_add(MINUTE_NS) < self.received && gains
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
    fn what_had_piled_up_is_known_as_far_as_it_has_come() {
        let mut behind = Behind::default();
        let came = |behind: &mut Behind, end: u64, received: u64| {
            behind.saw(end * S, received * S);
            behind.saw_latest(end * S, received * S);
            behind.at(received * S).as_secs()
        };
        assert_eq!(came(&mut behind, 1_000, 1_000), 0);
        // Half an hour of it, a minute of event time a second; an old batch between.
        assert_eq!(came(&mut behind, 1_050, 2_800), 1_760);
        assert_eq!(came(&mut behind, 1_600, 2_809), 1_809, "of what came no trace is closed");
        assert_eq!(came(&mut behind, 1_100, 2_812), 1_812);
        assert_eq!(came(&mut behind, 2_200, 2_830), 1_230, "traces are closed up to 1,600");
        assert_eq!(came(&mut behind, 2_790, 2_840), 1_240, "what comes live is ahead of closed traces");
        assert_eq!(came(&mut behind, 2_845, 2_846), 0);
    }

    #[test]
    fn what_had_piled_up_ends_where_no_more_of_it_comes() {
        let mut behind = Behind::default();
        behind.saw(1_000 * S, 4_600 * S);
        behind.saw_latest(1_000 * S, 4_600 * S);
        assert_eq!(behind.at(4_610 * S), Duration::from_secs(3_620));
        assert_eq!(behind.at(4_621 * S), Duration::ZERO, "there is no more of it");
    }

    #[test]
    fn what_ended_within_a_quarter_of_an_hour_had_piled_up_no_longer_than_it_comes() {
        let mut behind = Behind::default();
        behind.saw(4_000 * S, 4_600 * S);
        behind.saw_latest(4_000 * S, 4_600 * S);
        assert_eq!(behind.piled_up_at(4_610 * S), Duration::from_secs(620));
        assert_eq!(behind.piled_up_at(4_621 * S), Duration::ZERO);
        assert_eq!(behind.at(4_621 * S), Duration::from_secs(600), "whether it is always so late is not known yet");
    }

    #[test]
    fn a_clock_that_is_an_hour_late_is_not_catching_up() {
        let mut behind = Behind::default();
        for second in 0..300 {
            let received = 10_000 + second;
            behind.saw((received - 3_600 + second % 7) * S, received * S);
            behind.saw_latest((received - 3_600 + second % 7) * S, received * S);
            assert!(second < 21 || behind.at(received * S) == Duration::ZERO, "after {second} s");
        }
    }
}
