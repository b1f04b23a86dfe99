//! How long each instance has been running, and whether it started again.
//!
//! An instance starts when its resource says (`process.creation.time`, else `k8s.pod.start_time`), else when its first
//! span started. Instances met within a minute of the first row ever folded were there before: their age is unknown, as
//! is that of telemetry without an instance id. Unknown counts as warm.
//!
//! A container may start again while its pod, and often its instance id, stay. So an instance has started again as well once
//! its resource shows another `k8s.container.restart_count`, `container.id` or `process.pid` than before ([`MARKS`]); and an
//! instance id that is new in a pod which had another one started when it was first seen, not with the pod. Where a former
//! value comes back, several processes share one id, and that mark tells nothing about it any more.

use std::time::Duration;

use plimsoll_model::UnixNanos;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::intern::FixedMap;

/// Whoever shows up so soon after the first row folded may have been running for long.
const GRACE: Duration = Duration::from_secs(60);
/// An instance silent for so long may be forgotten.
const FORGET: Duration = Duration::from_secs(3_600);
/// Attributes that change when what runs in an instance is replaced.
const MARKS: [&str; 3] = ["k8s.container.restart_count", "container.id", "process.pid"];
/// Former values that are remembered of each.
const FORMER: usize = 3;

struct Instance {
    /// 0 where unknown.
    started: u64,
    last_seen: u64,
    /// It started later than its pod: another was there before.
    again: bool,
    marks: [Mark; MARKS.len()],
}

/// One attribute of an instance.
#[derive(Clone, Copy, Default)]
struct Mark {
    /// Hash of the value; 0 where it was never told.
    now: u32,
    former: [u32; FORMER],
    /// Former values came back: several processes share the id.
    shared: bool,
}

impl Mark {
    /// Takes the value told, 0 for none; says whether it replaced another for good, as far as is known.
    fn take(&mut self, told: u32) -> bool {
        if told == 0 || told == self.now || self.shared {
            return false;
        }
        if self.former.contains(&told) {
            self.shared = true;
            return false;
        }
        let before = std::mem::replace(&mut self.now, told);
        self.former.rotate_right(1);
        self.former[0] = before;
        before != 0
    }
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
        let created = said(attributes, "process.creation.time");
        let pod_started = said(attributes, "k8s.pod.start_time");
        let told = created.or(pod_started);
        let hash = xxh3_64(if instance.is_empty() { attributes.as_bytes() } else { instance.as_bytes() });
        let start = |at: u64, tracked: bool, new: bool| Start { at, instance: hash, tracked, new };
        if instance.is_empty() && told.is_none() {
            return start(0, true, false);
        }
        let marks = MARKS.map(|key| value(attributes, key).map_or(0, |text| (xxh3_64(text.as_bytes()) as u32).max(1)));
        let key = u128::from(version) << 64 | u128::from(hash);
        if let Some(known) = self.known.get_mut(&key) {
            known.last_seen = received.max(known.last_seen);
            // All are taken, so that none is old news later.
            let changed =
                known.marks.iter_mut().zip(marks).fold(false, |changed, (mark, told)| mark.take(told) | changed);
            let changed = changed && created.is_none();
            let later = told.is_some_and(|told| told > known.started);
            if later {
                known.started = told.unwrap_or(known.started);
            } else if changed {
                known.started = at.max(known.started);
                known.again = true;
            }
            // The pod is as old as it was.
            let began = if known.again { known.started } else { told.unwrap_or(known.started) };
            return start(began, true, later || changed);
        }
        if self.known.len() >= max && received.saturating_sub(self.swept) >= GRACE.as_nanos() as u64 {
            self.swept = received;
            self.known.retain(|_, seen| seen.last_seen.saturating_add(FORGET.as_nanos() as u64) >= received);
        }
        if self.known.len() >= max {
            return start(told.unwrap_or(0), told.is_some(), false);
        }
        let before = received.saturating_sub(opened) < GRACE.as_nanos() as u64;
        let known_pod = self.is_known_pod(version, instance, attributes, received, max);
        let again = known_pod && !before && created.is_none();
        let started = if again { at } else { told.unwrap_or(if before { 0 } else { at }) };
        let marks = marks.map(|now| Mark { now, ..Mark::default() });
        self.known.insert(key, Instance { started, last_seen: received, again, marks });
        start(started, true, true)
    }

    /// Says whether another instance was met in the pod and container of a resource, which is remembered.
    fn is_known_pod(&mut self, version: u32, instance: &str, attributes: &str, received: u64, max: usize) -> bool {
        let pod = value(attributes, "k8s.pod.uid").or_else(|| value(attributes, "k8s.pod.name"));
        let Some(pod) = pod.filter(|_| !instance.is_empty()) else { return false };
        let container = value(attributes, "k8s.container.name").unwrap_or_default();
        let hash = xxh3_64_with_seed(container.as_bytes(), xxh3_64(pod.as_bytes()));
        let key = u128::from(version) << 64 | u128::from(hash);
        if let Some(known) = self.known.get_mut(&key) {
            known.last_seen = received.max(known.last_seen);
            return true;
        }
        if self.known.len() + 1 < max {
            self.known
                .insert(key, Instance { started: 0, last_seen: received, again: false, marks: Default::default() });
        }
        false
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
    UnixNanos::parse_rfc3339(value(attributes, key)?).map(|at| at.0)
}

/// Finds the text or number of an attribute in the JSON text of a resource.
fn value<'a>(attributes: &'a str, key: &str) -> Option<&'a str> {
    let quoted = |rest: &'a str| rest.strip_prefix("\":");
    let mut rest = attributes;
    loop {
        let (before, after) = rest.split_once(key)?;
        match quoted(after) {
            Some(found) if before.ends_with('"') => {
                let found = found.trim_start();
                return match found.strip_prefix('"') {
                    Some(text) => text.split('"').next(),
                    None => found.split([',', '}']).next(),
                }
                .filter(|text| !text.is_empty());
            }
            _ => rest = after,
        }
    }
}
