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

/// When an instance started, as far as is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// 0 where unknown.
    pub(crate) at: u64,
    /// Hash of the instance.
    pub(crate) instance: u64,
    /// There was room to follow it.
    pub(crate) tracked: bool,
    /// Nobody knew of this start before.
    pub(crate) new: bool,
}

impl Instances {
    /// Returns when the instance started. One without an id is told by its resource.
    pub(crate) fn started(
        &mut self,
        version: u32,
        instance: &str,
        attributes: &str,
        at: u64,
        received: u64,
        max: usize,
    ) -> Start {
        let opened = *self.opened.get_or_insert(received);
        let told = said(attributes, "process.creation.time").or_else(|| said(attributes, "k8s.pod.start_time"));
        let hash = xxh3_64(if instance.is_empty() { attributes.as_bytes() } else { instance.as_bytes() });
        let start = |at: u64, tracked: bool, new: bool| Start { at, instance: hash, tracked, new };
        if instance.is_empty() && told.is_none() {
            return start(0, true, false);
        }
        let key = u128::from(version) << 64 | u128::from(hash);
        if let Some(known) = self.known.get_mut(&key) {
            known.last_seen = received.max(known.last_seen);
            let new = told.is_some_and(|told| told > known.started);
            if new {
                known.started = told.unwrap_or(known.started);
            }
            return start(told.unwrap_or(known.started), true, new);
        }
        if self.known.len() >= max && received.saturating_sub(self.swept) >= GRACE.as_nanos() as u64 {
            self.swept = received;
            self.known.retain(|_, seen| seen.last_seen.saturating_add(FORGET.as_nanos() as u64) >= received);
        }
        if self.known.len() >= max {
            return start(told.unwrap_or(0), told.is_some(), false);
        }
        let before = received.saturating_sub(opened) < GRACE.as_nanos() as u64;
        let started = told.unwrap_or(if before { 0 } else { at });
        self.known.insert(key, Instance { started, last_seen: received });
        start(started, true, true)
    }

    /// Says when the first row was received.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.unwrap_or(u64::MAX)
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
