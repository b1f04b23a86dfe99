//! How long each instance has been running.
//!
//! An instance starts when its resource says (`process.creation.time`, else `k8s.pod.start_time`), else when its first
//! span started. Instances met within a minute of the first row ever folded were there before: their age is unknown, as
//! is that of telemetry without an instance id. Unknown counts as warm.

use std::time::Duration;

use plimsoll_model::UnixNanos;
use xxhash_rust::xxh3::xxh3_64;

use crate::intern::FixedMap;

/// Whoever shows up so soon after the first row folded may have been running for long.
const GRACE: Duration = Duration::from_secs(60);
/// An instance silent for so long may be forgotten.
const FORGET: Duration = Duration::from_secs(3_600);

struct Instance {
    /// 0 where unknown.
    started: u64,
    last_seen: u64,
}

#[derive(Default)]
pub(crate) struct Instances {
    known: FixedMap<u128, Instance>,
    opened: Option<u64>,
    swept: u64,
}

impl Instances {
    /// Returns when the instance started, 0 where unknown, and whether it is followed.
    pub(crate) fn started(
        &mut self,
        version: u32,
        instance: &str,
        attributes: &str,
        at: u64,
        received: u64,
        max: usize,
    ) -> (u64, bool) {
        let opened = *self.opened.get_or_insert(received);
        if let Some(said) = said(attributes, "process.creation.time").or_else(|| said(attributes, "k8s.pod.start_time"))
        {
            return (said, true);
        }
        if instance.is_empty() {
            return (0, true);
        }
        let key = u128::from(version) << 64 | u128::from(xxh3_64(instance.as_bytes()));
        if let Some(known) = self.known.get_mut(&key) {
            known.last_seen = received.max(known.last_seen);
            return (known.started, true);
        }
        if self.known.len() >= max && received.saturating_sub(self.swept) >= GRACE.as_nanos() as u64 {
            self.swept = received;
            self.known.retain(|_, seen| seen.last_seen.saturating_add(FORGET.as_nanos() as u64) >= received);
        }
        if self.known.len() >= max {
            return (0, false);
        }
        let before = received.saturating_sub(opened) < GRACE.as_nanos() as u64;
        let started = if before { 0 } else { at };
        self.known.insert(key, Instance { started, last_seen: received });
        (started, true)
    }

    /// Forgets instances of versions whose numbers are freed.
    pub(crate) fn retain_versions(&mut self, used: &[bool]) {
        self.known.retain(|key, _| used.get((key >> 64) as usize).copied().unwrap_or(false));
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

/// Reads an RFC 3339 time out of the JSON text of resource attributes.
fn said(attributes: &str, key: &str) -> Option<u64> {
    let (_, rest) = attributes.split_once(key)?;
    let value = rest.strip_prefix("\":")?.trim_start().strip_prefix('"')?;
    UnixNanos::parse_rfc3339(value.split('"').next()?).map(|at| at.0)
}
