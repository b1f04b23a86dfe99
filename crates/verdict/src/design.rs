//! Who is compared with whom: the versions, the stretch of time, and operations that only changed their name.
//!
//! The strongest comparison that the data allow is taken bucket by bucket: where control versions serve in the same
//! buckets (canary, rolling) they are the control; in buckets where they no longer do, the control is the time before the
//! start, each stretch of it used once, in reverse order. Both sorts of strata are disjoint, so their evidence multiplies.
//!
//! The candidate is never taken to be older than its version: instances that tell no age, or that were met as soon as
//! anything was, would else be held against warm ones while they start.
//!
//! *Invariants.* What is decided here depends on names, times and numbers of requests only, never on outcomes.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::signal::{AgeClass, OperationCell, OperationKey, OperationKind, OperationSeries};
use plimsoll_model::{Bucket, Deploy, DeployKind, Interval, ServiceKey};

use crate::input::JudgeInput;
use crate::known;

/// Cells of one arm, ascending by bucket.
pub(crate) type Cells<'a> = Vec<(Bucket, AgeClass, &'a OperationCell)>;

/// Buckets since a version's first in which its instances are cold, and in which they are at best warming.
pub(crate) const COLD_BUCKETS: u64 = 6;
const WARMING_BUCKETS: u64 = 30;

/// A version that served within so many buckets before the start, or after it, is one that serves.
const SERVING_BUCKETS: u64 = 60;
/// One that did not within so many has ended, where another did.
const ENDED_BUCKETS: u64 = 6;

/// Requests without which an operation is not taken to be another under a new name.
const RENAMED_REQUESTS_MIN: u64 = 30;

/// The role of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Candidate,
    Control,
    /// The control, before the start.
    Before,
}

/// What is compared with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) service: ServiceKey,
    /// The version that is judged, as telemetry names it; empty where telemetry names none.
    pub(crate) version: String,
    pub(crate) control_versions: BTreeSet<String>,
    /// True where the candidate is the control's own version, after the start.
    pub(crate) same: bool,
    /// The bucket of the start, and the first in which the candidate counts.
    pub(crate) start: Bucket,
    pub(crate) from: Bucket,
    /// The first bucket of the past that counts, and the one after the last that counts at all.
    pub(crate) earliest: Bucket,
    pub(crate) end: Bucket,
    /// The candidate's first bucket with requests, however early.
    appeared: Bucket,
    pub(crate) version_missing: bool,
    /// True where there was no room for all traces.
    pub(crate) drawn: bool,
    /// Operations of the candidate that the control has under another name.
    pub(crate) renamed: BTreeMap<(String, OperationKind), String>,
}

impl Frame {
    /// Settles it.
    pub(crate) fn of(input: &JudgeInput) -> Self {
        let deploy = &input.deploy;
        let start = deploy.started_at.bucket();
        // The bucket that is still filling is left to the next look: what is told can be counted again.
        let known = input.known_until();
        let end = input.superseded_at.map_or(known, |at| at.min(known)).bucket().max(start);
        let earliest = (deploy.started_at - input.tolerances.lookback()).bucket();
        let own: Vec<&OperationSeries> = input.series.iter().filter(|s| s.key.service == deploy.service).collect();
        let serves = |version: &str, from: Bucket, to: Bucket| {
            own.iter().any(|s| s.key.version == version && !between(s, from, to).is_empty())
        };
        let named = serves(&deploy.version, start, end);
        let version_missing = !named && serves("", start, end);
        let version = match label_of(input, &own, start) {
            Some(serving) => serving,
            None if version_missing => "",
            None => deploy.version.as_str(),
        };
        let control_versions = control_versions(deploy, version, start, input, &own);
        // The same version before and after: a bucket that holds both is neither.
        let same = control_versions.contains(version);
        let from = if same { Bucket(start.0 + 1) } else { start };
        let appeared = own
            .iter()
            .filter(|s| s.key.version == version)
            .filter_map(|s| s.cells.iter().find(|(_, cell)| cell.requests > 0))
            .map(|(bucket, _)| *bucket)
            .min()
            .unwrap_or(start);
        let mut frame = Self {
            service: deploy.service.clone(),
            version: version.to_owned(),
            control_versions: control_versions.into_iter().map(str::to_owned).collect(),
            same,
            start,
            from,
            earliest,
            end: end.max(from),
            appeared,
            version_missing,
            drawn: known::is_drawn(input),
            renamed: BTreeMap::new(),
        };
        frame.renamed = renamed(&frame, &own);
        frame
    }

    /// Returns the candidate's first bucket with requests, however early; the start where it has none.
    pub(crate) fn appeared(&self) -> Bucket {
        self.appeared
    }

    /// Returns the role of a cell of `version` in `bucket`; `None` where it has none.
    pub(crate) fn role(&self, version: &str, bucket: Bucket) -> Option<Role> {
        self.roles(version)(bucket)
    }

    /// Returns which role a cell of `version` has in each bucket.
    pub(crate) fn roles(&self, version: &str) -> impl Fn(Bucket) -> Option<Role> + use<> {
        let (candidate, control) = (version == self.version, self.control_versions.contains(version));
        let (earliest, start, from, end) = (self.earliest, self.start, self.from, self.end);
        let beside = control && !self.same;
        move |bucket| {
            if bucket >= end || bucket < earliest {
                None
            } else if candidate && bucket >= from {
                Some(Role::Candidate)
            } else if control && bucket < start {
                Some(Role::Before)
            } else if beside && bucket >= start {
                Some(Role::Control)
            } else {
                None
            }
        }
    }

    /// Returns the age class at which the candidate's instances are compared.
    pub(crate) fn candidate_age(&self, age: AgeClass, bucket: Bucket) -> AgeClass {
        age.min(oldest(bucket, self.appeared))
    }

    /// Returns the name under which an operation is compared.
    pub(crate) fn operation<'a>(&'a self, key: &'a OperationKey, role: Role) -> &'a str {
        let name = key.operation.as_str();
        if role == Role::Candidate || self.renamed.is_empty() {
            return name;
        }
        let now = self.renamed.iter().find(|((_, kind), was)| *was == name && *kind == key.kind);
        now.map_or(name, |((now, _), _)| now)
    }

    /// When the candidate's numbers are taken.
    pub(crate) fn candidate_span(&self) -> Interval {
        Interval { from: self.from.start(), to: self.end.start() }
    }

    /// When the numbers of the time before are taken.
    pub(crate) fn before_span(&self) -> Interval {
        Interval { from: self.earliest.start(), to: self.start.start() }
    }

    /// Returns the cells of one operation in one role, in order of time.
    pub(crate) fn cells<'a>(
        &self,
        series: &'a [OperationSeries],
        name: &str,
        kind: OperationKind,
        wanted: Role,
    ) -> Cells<'a> {
        let mut found = Cells::new();
        for series in series.iter().filter(|s| s.key.service == self.service && s.key.kind == kind) {
            if self.operation(&series.key, wanted) != name {
                continue;
            }
            let roles = self.roles(&series.key.version);
            let those =
                series.cells.iter().filter(|(bucket, cell)| cell.requests > 0 && roles(*bucket) == Some(wanted));
            found.extend(those.map(|(bucket, cell)| (*bucket, series.key.age, cell)));
        }
        found.sort_by_key(|(bucket, age, _)| (*bucket, *age));
        found
    }
}

/// Finds operations of the candidate that stand for one which it no longer has: of like name and with like traffic.
fn renamed(frame: &Frame, own: &[&OperationSeries]) -> BTreeMap<(String, OperationKind), String> {
    let mut traffic: BTreeMap<(&str, OperationKind), [u64; 3]> = BTreeMap::new();
    let mut totals = [0_u64; 3];
    for series in own {
        let roles = frame.roles(&series.key.version);
        let mut sums: Option<[u64; 3]> = None;
        for (bucket, cell) in &series.cells {
            if let Some(role) = roles(*bucket) {
                sums.get_or_insert_default()[role as usize] += cell.requests;
            }
        }
        let Some(sums) = sums else { continue };
        let known = traffic.entry((&series.key.operation, series.key.kind)).or_default();
        for (role, requests) in sums.into_iter().enumerate() {
            known[role] += requests;
            totals[role] += requests;
        }
    }
    let share = |n: [u64; 3], role: usize| n[role] as f64 / totals[role].max(1) as f64;
    let [fresh, gone] = [true, false].map(|fresh| -> Vec<_> {
        let wanted = |n: &[u64; 3]| {
            if fresh { n[0] >= RENAMED_REQUESTS_MIN && n[1] + n[2] == 0 } else { n[0] == 0 && n[1] + n[2] > 0 }
        };
        traffic.iter().filter(|(_, n)| wanted(n)).map(|(key, n)| (*key, *n)).collect()
    });
    let mut pairs = Vec::new();
    for ((name, kind), n) in &fresh {
        for ((was, former), m) in &gone {
            let (now, then) = (share(*n, 0), if totals[1] > 0 { share(*m, 1) } else { share(*m, 2) });
            let alike = alike(name, was);
            if kind == former && alike >= 0.5 && now <= 2.0 * then && then <= 2.0 * now {
                pairs.push((alike, *name, *kind, *was));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.3).cmp(&(b.1, b.3))));
    let mut found: BTreeMap<(String, OperationKind), String> = BTreeMap::new();
    for (_, name, kind, was) in pairs {
        let taken = found.contains_key(&(name.to_owned(), kind)) || found.values().any(|other| other == was);
        if !taken {
            found.insert((name.to_owned(), kind), was.to_owned());
        }
    }
    found
}

/// Share of words that two names have in common.
fn alike(one: &str, other: &str) -> f64 {
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    };
    let (one, other) = (words(one), words(other));
    one.intersection(&other).count() as f64 / one.union(&other).count().max(1) as f64
}

/// Returns the greatest age of an instance in `bucket`, of a version first seen in `appeared`.
fn oldest(bucket: Bucket, appeared: Bucket) -> AgeClass {
    match bucket.0.saturating_sub(appeared.0) {
        ..COLD_BUCKETS => AgeClass::Cold,
        COLD_BUCKETS..WARMING_BUCKETS => AgeClass::Warming,
        _ => AgeClass::Warm,
    }
}

/// The first bucket in which somebody serves who is there to the last.
fn ending(start: Bucket) -> Bucket {
    Bucket(start.0.saturating_sub(ENDED_BUCKETS))
}

/// The cells of a series from one bucket on and before another.
fn between(series: &OperationSeries, from: Bucket, to: Bucket) -> &[(Bucket, OperationCell)] {
    let place = |at: Bucket| series.cells.partition_point(|(bucket, _)| *bucket < at);
    let first = place(from);
    &series.cells[first..place(to).max(first)]
}

/// Says whether a deploy changes something else than the version.
fn keeps_version(deploy: &Deploy) -> bool {
    matches!(deploy.kind, DeployKind::Config | DeployKind::Flag | DeployKind::Infra)
}

/// Returns the version that is meant where a change that keeps the version has a label of its own, which no telemetry names: the one
/// that served most in the minute before the start.
pub(crate) fn label_of<'a>(input: &JudgeInput, own: &[&'a OperationSeries], start: Bucket) -> Option<&'a str> {
    let deploy = &input.deploy;
    // The arms of a flag are versions, and known by their names.
    if !keeps_version(deploy) || input.flag.is_some() || own.iter().any(|s| s.key.version == deploy.version) {
        return None;
    }
    serving_most(own, start)
}

/// Returns the version that served most in the minute before `start`; `None` where none did.
pub(crate) fn serving_most<'a>(own: &[&'a OperationSeries], start: Bucket) -> Option<&'a str> {
    let mut served: BTreeMap<&str, u64> = BTreeMap::new();
    for series in own {
        let last = between(series, ending(start), start).iter();
        *served.entry(&series.key.version).or_default() += last.map(|(_, cell)| cell.requests).sum::<u64>();
    }
    let most = served.into_iter().filter(|(_, requests)| *requests > 0);
    most.max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0))).map(|(version, _)| version)
}

/// Says whether there were requests in the minute before the start.
pub(crate) fn serves_to_the_last(series: &OperationSeries, start: Bucket) -> bool {
    between(series, ending(start), start).iter().any(|(_, cell)| cell.requests > 0)
}

/// Chooses the versions that the candidate is held against.
pub(crate) fn control_versions<'a>(
    deploy: &'a Deploy,
    version: &'a str,
    start: Bucket,
    input: &'a JudgeInput,
    own: &[&'a OperationSeries],
) -> BTreeSet<&'a str> {
    let before = |s: &OperationSeries| s.cells.first().is_some_and(|(b, _)| *b < start);
    let ran_before = own.iter().any(|s| s.key.version == version && before(s));
    if ran_before && (keeps_version(deploy) || version.is_empty()) {
        return BTreeSet::from([version]);
    }
    // A version that served long ago and no more, for instance one rolled back, is no control while another serves.
    let serves = |s: &OperationSeries| s.cells.last().is_some_and(|(b, _)| b.0 + SERVING_BUCKETS >= start.0);
    let others = |wanted: &dyn Fn(&OperationSeries) -> bool| -> BTreeSet<&'a str> {
        own.iter().filter(|s| s.key.version != version && wanted(s)).map(|s| s.key.version.as_str()).collect()
    };
    // Nor is a canary that was taken back a minute ago, though it was the last to be met.
    let to_the_last = |s: &OperationSeries| serves_to_the_last(s, start);
    let last = others(&to_the_last);
    if let Some(previous) = deploy.previous_version.as_deref().filter(|p| *p != version)
        && own.iter().any(|s| s.key.version == previous && serves(s))
        && (last.is_empty() || last.contains(previous))
    {
        return BTreeSet::from([previous]);
    }
    if !last.is_empty() {
        return last;
    }
    let known = |s: &OperationSeries| before(s) || input.known_versions.contains(&s.key.version);
    let mut found = others(&|s| known(s) && serves(s));
    // What ended longer ago is no control of a version that served up to the start: that is shipped once more.
    if found.is_empty() && own.iter().any(|s| s.key.version == version && to_the_last(s)) {
        return BTreeSet::from([version]);
    }
    if found.is_empty() {
        found = others(&known);
    }
    if found.is_empty() {
        found = others(&|_| true);
    }
    if found.is_empty() && ran_before {
        found.insert(version);
    }
    found
}
