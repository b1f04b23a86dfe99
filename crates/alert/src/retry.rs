//! When to try again, and when to give up.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use plimsoll_model::UnixNanos;

/// How attempts are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Before the second attempt, about.
    pub first: Duration,
    /// Between attempts at most, whatever the sink asks for.
    pub longest: Duration,
    /// An event that has waited for this long is given up.
    pub give_up_after: Duration,
    /// Spreads the attempts of several instances; any value will do.
    pub seed: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            longest: Duration::from_secs(600),
            give_up_after: Duration::from_secs(24 * 3600),
            seed: 0,
        }
    }
}

impl RetryPolicy {
    /// Returns when to try again after an attempt that failed at `now`; `None` where it is time to give up.
    ///
    /// The delay doubles with each attempt made before, up to `longest`, and half of it is left to chance. `asked` is what the
    /// sink wants at least.
    pub fn next(
        &self,
        event: &str,
        attempts: u32,
        queued_at: UnixNanos,
        now: UnixNanos,
        asked: Option<Duration>,
    ) -> Option<UnixNanos> {
        let end = queued_at + self.give_up_after;
        if now >= end {
            return None;
        }
        let doubled = self.first.saturating_mul(1_u32.checked_shl(attempts.min(31)).unwrap_or(u32::MAX));
        let delay = doubled.min(self.longest);
        let delay = delay / 2 + delay.mul_f64(self.chance(event, attempts) / 2.0);
        let delay = delay.max(asked.unwrap_or_default().min(self.longest));
        // The last attempt is made when the time is up, and not somewhat before.
        Some((now + delay).min(end))
    }

    /// Returns a number from 0 up to 1 that depends on the event, the attempt and the seed: FNV-1a, then splitmix64.
    fn chance(&self, event: &str, attempts: u32) -> f64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ self.seed;
        for byte in event.bytes().chain(attempts.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((hash ^ (hash >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Reads a `Retry-After` header: seconds, or a date; `None` where it is neither.
pub fn parse_retry_after(text: &str, now: UnixNanos) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    Some(UnixNanos(u64::try_from(at.as_nanosecond()).unwrap_or(0)).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: RetryPolicy = RetryPolicy {
        first: Duration::from_secs(4),
        longest: Duration::from_secs(600),
        give_up_after: Duration::from_secs(86_400),
        seed: 9,
    };

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UnixNanos::from_secs(1_445_412_480 - 30);
        let seconds = |text: &str| parse_retry_after(text, now).map(|after| after.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(30));
        assert_eq!(seconds("Wed, 21 Oct 2005 07:28:00 GMT"), Some(0), "past is now");
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        for text in ["", "soon", "-5", "1.5", "Wed, 99 Oct 2015"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn delays_double_up_to_the_longest_and_half_is_chance(event in "[a-z]{1,8}", attempts in 0..60_u32) {
            let now = UnixNanos::from_secs(1000);
            let due = POLICY.next(&event, attempts, now, now, None).expect("it is early");
            let full = 4.0 * 2_f64.powi(attempts.min(20) as i32);
            let delay = due.since(now).as_secs_f64();
            prop_assert!(delay >= full.min(600.0) / 2.0 - 1e-6 && delay <= full.min(600.0) + 1e-6, "{} of {}", delay, full);
        }

        #[test]
        fn a_sink_may_ask_for_more_but_not_for_more_than_the_longest(asked in 0..u64::MAX) {
            let now = UnixNanos::from_secs(1000);
            let due = POLICY.next("e", 0, now, now, Some(Duration::from_secs(asked))).expect("it is early");
            let delay = due.since(now).as_secs_f64();
            prop_assert!(delay >= asked.min(600) as f64 && delay <= 600.0);
        }

        #[test]
        fn no_attempt_is_made_after_the_end_and_one_is_made_at_it(waited in 0..100_000_u64, attempts in 0..40_u32) {
            let queued = UnixNanos::from_secs(1000);
            match POLICY.next("e", attempts, queued, queued + Duration::from_secs(waited), None) {
                Some(due) => prop_assert!(waited < 86_400 && due <= queued + POLICY.give_up_after),
                None => prop_assert!(waited >= 86_400),
            }
        }
    }

    #[test]
    fn instances_and_events_do_not_try_in_step() {
        let now = UnixNanos::from_secs(0);
        let due = |seed, event| RetryPolicy { seed, ..POLICY }.next(event, 3, now, now, None);
        assert_ne!(due(1, "a"), due(2, "a"));
        assert_ne!(due(1, "a"), due(1, "b"));
        assert_eq!(due(1, "a"), due(1, "a"));
    }
}
