//! Identifiers: newtypes, so that one cannot be passed for another.
//!
//! *Layout.* A prefix and 26 characters of Crockford base32 (128 bits, most significant first), so that text order is
//! numeric order. Deploy and segment ids carry 48 bits of milliseconds and 80 bits of entropy, so that text order is also
//! order of creation; finding and event ids are hashes of what they name, so that the same fact always has the same id.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::time::UnixNanos;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 26;

fn base32(prefix: &str, mut value: u128) -> String {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    let mut text = String::with_capacity(prefix.len() + DIGITS);
    text.push_str(prefix);
    text.extend(digits.iter().map(|d| char::from(*d)));
    text
}

fn timed(prefix: &str, at: UnixNanos, entropy: u128) -> String {
    let millis = u128::from(at.0 / 1_000_000) & ((1 << 48) - 1);
    base32(prefix, (millis << 80) | (entropy & ((1 << 80) - 1)))
}

/// Hashes length-prefixed parts, so that `["ab", "c"]` and `["a", "bc"]` differ.
fn hashed(prefix: &str, parts: &[&str]) -> String {
    let mut bytes = Vec::with_capacity(parts.iter().map(|p| p.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    base32(prefix, xxh3_128(&bytes))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The prefix every id of this sort starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Takes an id that was produced before, as text; it is not checked.
            pub fn from_text(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Names one deploy, for instance `dep_01jd3xk5f00000000000000000`.
    DeployId, "dep_"
);
text_id!(
    /// Names one finding; the same signal of the same operation in the same deploy always has the same id.
    FindingId, "fnd_"
);
text_id!(
    /// Names one regression event; receivers may drop a second one with the same id.
    EventId, "evt_"
);
text_id!(
    /// Names one Parquet segment; also the stem of its file name.
    SegmentId, "seg_"
);

impl DeployId {
    /// Makes an id for a deploy recorded at `at`; `entropy` gives its 80 low bits.
    pub fn new(at: UnixNanos, entropy: u128) -> Self {
        Self(timed(Self::PREFIX, at, entropy))
    }

    /// Derives the id of a deploy that was inferred, so that inferring it again names the same deploy.
    pub fn inferred(environment: &str, namespace: &str, service: &str, version: &str) -> Self {
        Self(hashed(Self::PREFIX, &["inferred", environment, namespace, service, version]))
    }
}

impl SegmentId {
    /// Makes an id for a segment sealed at `at`; `entropy` gives its 80 low bits.
    pub fn new(at: UnixNanos, entropy: u128) -> Self {
        Self(timed(Self::PREFIX, at, entropy))
    }
}

impl FindingId {
    /// Derives the id from what the finding is about.
    pub fn derive(deploy: &DeployId, signal: &str, service: &str, operation: &str, subject: &str) -> Self {
        Self(hashed(Self::PREFIX, &[deploy.as_str(), signal, service, operation, subject]))
    }
}

impl EventId {
    /// Derives the id from the deploy, the kind of event and the revision of the verdict that it announces.
    pub fn derive(deploy: &DeployId, kind: &str, revision: u64) -> Self {
        Self(hashed(Self::PREFIX, &[deploy.as_str(), kind, &revision.to_string()]))
    }
}

/// The position of one frame in the journal; the first frame ever written is 1, and 0 means "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SequenceNumber(pub u64);

impl SequenceNumber {
    /// Comes before every frame.
    pub const ZERO: Self = Self(0);

    /// Returns the position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_later_sort_later() {
        let early = DeployId::new(UnixNanos::from_millis(1_000), u128::MAX);
        let late = DeployId::new(UnixNanos::from_millis(1_001), 0);
        assert!(early < late);
        assert_eq!(early.as_str().len(), DeployId::PREFIX.len() + DIGITS);
    }

    #[test]
    fn derived_ids_depend_on_every_part_and_on_where_parts_end() {
        let deploy = DeployId::from_text("dep_x");
        let id = |operation: &str, subject: &str| FindingId::derive(&deploy, "latency", "cart", operation, subject);
        assert_eq!(id("ab", "c"), id("ab", "c"));
        assert_ne!(id("ab", "c"), id("a", "bc"));
        assert_ne!(EventId::derive(&deploy, "detected", 1), EventId::derive(&deploy, "detected", 2));
    }

    #[test]
    fn the_derived_form_never_changes_between_releases() {
        let id = EventId::derive(&DeployId::from_text("dep_x"), "detected", 1);
        insta::assert_snapshot!(id.as_str());
    }
}
