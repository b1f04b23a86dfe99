//! Instants and buckets. Clocks are not read here: time comes in as a value.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Nanoseconds since 1970-01-01T00:00:00Z; the unit of OTLP. JSON form: RFC 3339 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixNanos(pub u64);

impl UnixNanos {
    /// The latest instant that an Arrow nanosecond timestamp can hold: 2262-04-11.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// Makes an instant from whole seconds.
    pub fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Makes an instant from milliseconds.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Returns the instant as the signed nanoseconds that Arrow uses; later than [`Self::MAX`] becomes `MAX`.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// Returns how long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the bucket that holds this instant.
    pub fn bucket(self) -> Bucket {
        Bucket(self.0 / Bucket::WIDTH_NS)
    }

    /// Returns the RFC 3339 form, in UTC.
    pub fn to_rfc3339(self) -> String {
        self.timestamp().to_string()
    }

    /// Reads an RFC 3339 instant; `None` where it is not one or lies outside 1970 to 2262.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let nanos = text.parse::<Timestamp>().ok()?.as_nanosecond();
        u64::try_from(nanos).ok().filter(|n| *n <= Self::MAX.0).map(Self)
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.as_i64())).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for UnixNanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timestamp().fmt(f)
    }
}

impl Add<Duration> for UnixNanos {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for UnixNanos {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Serialize for UnixNanos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.timestamp())
    }
}

impl<'de> Deserialize<'de> for UnixNanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is not an RFC 3339 time between 1970 and 2262, for instance `2026-01-31T12:00:00Z`"
            ))
        })
    }
}

/// The number of a 10 s bucket since 1970: the grain of every aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bucket(pub u64);

impl Bucket {
    /// Width of a bucket in nanoseconds.
    pub const WIDTH_NS: u64 = 10_000_000_000;
    /// Width of a bucket.
    pub const WIDTH: Duration = Duration::from_secs(10);

    /// Returns the first instant of the bucket.
    pub fn start(self) -> UnixNanos {
        UnixNanos(self.0.saturating_mul(Self::WIDTH_NS))
    }

    /// Returns the first instant after the bucket.
    pub fn end(self) -> UnixNanos {
        Self(self.0 + 1).start()
    }
}

/// A half-open stretch of time, `from <= t < to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// First instant inside.
    pub from: UnixNanos,
    /// First instant after.
    pub to: UnixNanos,
}

impl Interval {
    /// Says whether `at` lies inside.
    pub fn contains(&self, at: UnixNanos) -> bool {
        self.from <= at && at < self.to
    }

    /// Returns the length; zero where `to` is not after `from`.
    pub fn duration(&self) -> Duration {
        self.to.since(self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_rfc_3339_in_json() {
        let at = UnixNanos(1_700_000_000_123_000_000);
        let json = serde_json::to_string(&at).expect("times serialise");
        assert_eq!(json, r#""2023-11-14T22:13:20.123Z""#);
        assert_eq!(serde_json::from_str::<UnixNanos>(&json).expect("and come back"), at);
    }

    #[test]
    fn a_bad_time_says_what_was_expected() {
        let error = serde_json::from_str::<UnixNanos>(r#""yesterday""#).expect_err("not a time").to_string();
        assert!(error.contains("`yesterday` is not an RFC 3339 time"), "{error}");
        assert!(serde_json::from_str::<UnixNanos>(r#""1950-01-01T00:00:00Z""#).is_err());
    }

    proptest! {
        #[test]
        fn every_instant_survives_json(nanos in 0..=UnixNanos::MAX.0) {
            let json = serde_json::to_string(&UnixNanos(nanos)).expect("times serialise");
            prop_assert_eq!(serde_json::from_str::<UnixNanos>(&json).expect("and come back"), UnixNanos(nanos));
        }

        #[test]
        fn an_instant_lies_in_its_bucket(nanos in 0..=UnixNanos::MAX.0) {
            let bucket = UnixNanos(nanos).bucket();
            prop_assert!(bucket.start() <= UnixNanos(nanos) && UnixNanos(nanos) < bucket.end());
        }
    }
}
