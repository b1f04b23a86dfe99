//! How long each instance has been running, and whether it started again.
//!
//! An instance starts when its resource says (`process.creation.time`, else `k8s.pod.start_time`), else when its first
//! span started. Instances met within a minute of the first row ever folded were there before: their age is unknown, as
//! is that of telemetry without an instance id. Unknown counts as warm.
//!
//! A container may start again while its pod, and often its instance id, stay. So an instance has started again as well once
//! its resource shows another `k8s.container.restart_count`, `container.id` or `process.pid` than before ([`MARKS`]); and an
//! instance id that is new in a pod which had another one started when it was first seen, not with the pod.
//!
//! Workers that fork share one id, too, and take turns at telling. What ended does not come back: where a former value does,
//! that mark tells nothing about the instance any more. So that the turns need not be taken for starts until then, a change
//! counts once the value before it has been silent for [`SILENT`], long enough for all of them to have told.

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
/// Changes that are remembered of each.
const CHANGES: usize = 64;
/// A former value that was silent for so long has ended: whoever has nothing else to tell sends metrics once a minute.
const SILENT: Duration = Duration::from_secs(90);
/// From here on values are hashes of texts; below they are numbers, and one more.
const TEXT: u64 = 1 << 63;

struct Instance {
    /// 0 where unknown.
    started: u64,
    last_seen: u64,
    /// It started later than its pod: another was there before.
    again: bool,
    marks: [Mark; MARKS.len()],
}

/// One attribute of an instance.
#[derive(Default)]
struct Mark {
    /// The value told last ([`number`]); 0 where none ever was.
    now: u64,
    /// Former values came back: several processes share the id.
    shared: bool,
    changes: Vec<Change>,
    /// A bit for each value that gave way so long ago that its change is forgotten; some share one.
    forgotten: u128,
}

/// A value that gave way to another.
struct Change {
    from: u64,
    /// When what told the next one began, and when that was received.
    at: u64,
    received: u64,
    /// It counted as a start, or never will.
    settled: bool,
}

impl Mark {
    /// Takes the value told, 0 for none, by what began at `at`; adds to `starts` those that are now known to have been some.
    fn take(&mut self, told: u64, at: u64, received: u64, starts: &mut Vec<u64>) {
        if self.shared {
            return;
        }
        if self.now == 0 {
            self.now = told;
        } else if told != 0 && told != self.now {
            if let Some(left) = self.changes.iter().find(|change| change.from == told) {
                // Else it was only long on its way.
                if at >= left.at {
                    self.share();
                }
                return;
            }
            if self.changes.len() >= CHANGES && !self.changes[0].settled {
                // Nothing starts so often and has something to tell each time.
                self.share();
                return;
            }
            // Whoever comes later has a higher number. Where it is lower, those before were turns as well, for all we know.
            let turn = told < self.now && self.now < TEXT;
            if self.forgotten != 0 && (turn || told >= TEXT && self.forgotten & bit(told) != 0) {
                // More than are remembered take turns: which of them comes back cannot be told any more.
                self.share();
                return;
            }
            if turn {
                self.settle();
            }
            if self.changes.len() >= CHANGES {
                self.forgotten |= bit(self.changes.remove(0).from);
            }
            self.changes.push(Change { from: self.now, at, received, settled: turn });
            self.now = told;
        }
        let silent = SILENT.as_nanos() as u64;
        for change in self.changes.iter_mut().filter(|change| !change.settled) {
            if received.saturating_sub(change.received) >= silent {
                change.settled = true;
                starts.push(change.at);
            }
        }
    }

    /// Counts none of the changes so far.
    fn settle(&mut self) {
        self.changes.iter_mut().for_each(|change| change.settled = true);
    }

    fn share(&mut self) {
        *self = Self { now: self.now, shared: true, ..Self::default() };
    }
}

#[derive(Default)]
pub(crate) struct Instances {
    known: FixedMap<u128, Instance>,
    opened: Option<u64>,
    swept: u64,
}

/// When an instance started, as far as is known.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// 0 where unknown.
    pub(crate) at: u64,
    /// Hash of the instance.
    pub(crate) instance: u64,
    /// There was room to follow it.
    pub(crate) tracked: bool,
    /// Starts that nobody knew of before.
    pub(crate) new: Vec<u64>,
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
        let start = |at: u64, tracked: bool, new: Vec<u64>| Start { at, instance: hash, tracked, new };
        if instance.is_empty() && told.is_none() {
            return start(0, true, Vec::new());
        }
        let marks = MARKS.map(|key| value(attributes, key).map_or(0, number));
        let key = u128::from(version) << 64 | u128::from(hash);
        if let Some(known) = self.known.get_mut(&key) {
            known.last_seen = received.max(known.last_seen);
            let mut new = Vec::new();
            for (mark, told) in known.marks.iter_mut().zip(marks) {
                mark.take(told, at, received, &mut new);
            }
            new.retain(|at| created.is_none() && *at > known.started);
            if let Some(told) = told.filter(|told| *told > known.started) {
                // What changed until then is that start.
                known.marks.iter_mut().for_each(Mark::settle);
                known.started = told;
                new = vec![told];
            } else if let Some(last) = new.iter().max() {
                known.started = *last;
                known.again = true;
            }
            // The pod is as old as it was.
            let began = if known.again { known.started } else { told.unwrap_or(known.started) };
            return start(began, true, new);
        }
        if self.known.len() >= max && received.saturating_sub(self.swept) >= GRACE.as_nanos() as u64 {
            self.swept = received;
            self.known.retain(|_, seen| seen.last_seen.saturating_add(FORGET.as_nanos() as u64) >= received);
        }
        if self.known.len() >= max {
            return start(told.unwrap_or(0), told.is_some(), Vec::new());
        }
        let before = received.saturating_sub(opened) < GRACE.as_nanos() as u64;
        let known_pod = self.is_known_pod(version, instance, attributes, received, max);
        let again = known_pod && !before && created.is_none();
        let started = if again { at } else { told.unwrap_or(if before { 0 } else { at }) };
        let marks = marks.map(|now| Mark { now, ..Mark::default() });
        self.known.insert(key, Instance { started, last_seen: received, again, marks });
        start(started, true, vec![started])
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

/// Returns the bit that stands for a value.
fn bit(value: u64) -> u128 {
    1 << (xxh3_64(&value.to_le_bytes()) % 128)
}

/// Spells the value of a mark as a number, in the order of those that are some; never 0.
fn number(text: &str) -> u64 {
    let plain = text.parse::<u64>().ok().filter(|plain| *plain < TEXT - 1);
    plain.map_or_else(|| xxh3_64(text.as_bytes()) | TEXT, |plain| plain + 1)
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
