//! Who is compared with whom: candidate and control, side by side where both serve, else against the time before.
//!
//! The strongest comparison that the data allow is taken bucket by bucket: where control versions serve in the same
//! buckets (canary, rolling) they are the control; in buckets where they no longer do, the control is the time before the
//! start, each stretch of it used once, in reverse order. Both sorts of strata are disjoint, so their evidence multiplies.
//!
//! The candidate is never taken to be older than its version: instances that tell no age, or that were met as soon as
//! anything was, would else be held against warm ones while they start.
//!
//! *Invariants.* A control cell serves in at most one stratum. Strata are never pooled across operations or, where the
//! control has the same age class, across instance ages. Which buckets are joined depends on numbers of requests only.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::signal::{AgeClass, OperationCell, OperationKind, OperationSeries};
use plimsoll_model::{Bucket, Deploy, DeployKind, Design, Interval};

use crate::input::JudgeInput;

/// Cells of one arm, ascending by bucket.
pub(crate) type Cells<'a> = Vec<(Bucket, AgeClass, &'a OperationCell)>;

/// One stratum: what the candidate did and what the control did in its place.
#[derive(Debug, Clone)]
pub(crate) struct Pair<'a> {
    /// Last bucket of the candidate's cells.
    pub(crate) bucket: Bucket,
    /// Age of the candidate's instances.
    pub(crate) age: AgeClass,
    /// True where the control's instances are of the same age.
    pub(crate) same_age: bool,
    /// True where both served at the same time.
    pub(crate) side_by_side: bool,
    pub(crate) candidate: Vec<&'a OperationCell>,
    pub(crate) control: Vec<&'a OperationCell>,
}

/// One operation in both arms.
#[derive(Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: OperationKind,
    /// The candidate since the start.
    pub(crate) candidate: Cells<'a>,
    /// The control since the start.
    pub(crate) control: Cells<'a>,
    /// The control before the start.
    pub(crate) before: Cells<'a>,
    pub(crate) pairs: Vec<Pair<'a>>,
}

/// The comparison as a whole.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    pub(crate) design: Design,
    /// The version that is judged, as telemetry names it; empty where telemetry names none.
    pub(crate) version: &'a str,
    pub(crate) control_versions: BTreeSet<&'a str>,
    pub(crate) operations: Vec<Operation<'a>>,
    /// First bucket with candidate traffic.
    pub(crate) first: Option<Bucket>,
    /// Requests of the candidate, and of those that have a control.
    pub(crate) requests: u64,
    pub(crate) paired: u64,
    /// Control requests, before and since the start.
    pub(crate) control_requests: u64,
    /// When the candidate's numbers were taken.
    pub(crate) candidate_span: Interval,
    /// When the baseline's numbers were taken.
    pub(crate) control_span: Interval,
    pub(crate) version_missing: bool,
}

/// Buckets that the control must have in a stretch, relative to the candidate's requests, to count as serving.
const CONTROL_SHARE_MIN: f64 = 0.05;

/// Buckets since a version's first in which its instances are cold, and in which they are at best warming.
pub(crate) const COLD_BUCKETS: u64 = 6;
const WARMING_BUCKETS: u64 = 30;

/// A version that served within so many buckets before the start, or after it, is one that serves.
const SERVING_BUCKETS: u64 = 60;

/// Builds the comparison.
pub(crate) fn compare(input: &JudgeInput) -> Comparison<'_> {
    let deploy = &input.deploy;
    let start = deploy.started_at.bucket();
    let end = Bucket(input.superseded_at.map_or(input.now, |at| at.min(input.now)).bucket().0 + 1);
    let earliest = Bucket((deploy.started_at - input.tolerances.lookback()).bucket().0);
    let own: Vec<&OperationSeries> = input.series.iter().filter(|s| s.key.service == deploy.service).collect();

    let serves = |version: &str, from: Bucket, to: Bucket| {
        own.iter().any(|s| s.key.version == version && s.cells.iter().any(|(b, _)| *b >= from && *b < to))
    };
    let named = serves(&deploy.version, start, end);
    let version_missing = !named && serves("", start, end);
    let version = if version_missing { "" } else { deploy.version.as_str() };
    let control_versions = control_versions(deploy, version, start, input, &own);
    // The same version before and after: a bucket that holds both is neither.
    let same = control_versions.contains(version);
    let from = if same { Bucket(start.0 + 1) } else { start };

    let appeared = own
        .iter()
        .filter(|s| s.key.version == version)
        .flat_map(|s| &s.cells)
        .filter_map(|(bucket, cell)| (cell.requests > 0).then_some(*bucket))
        .min()
        .unwrap_or(start);

    let mut operations: BTreeMap<(&str, OperationKind), Operation<'_>> = BTreeMap::new();
    for series in &own {
        let is_candidate = series.key.version == version;
        let is_control = control_versions.contains(series.key.version.as_str());
        if !is_candidate && !is_control {
            continue;
        }
        let key = (series.key.operation.as_str(), series.key.kind);
        let op = operations.entry(key).or_insert_with(|| Operation {
            name: key.0,
            kind: key.1,
            candidate: Vec::new(),
            control: Vec::new(),
            before: Vec::new(),
            pairs: Vec::new(),
        });
        for (bucket, cell) in &series.cells {
            if cell.requests == 0 || *bucket >= end || *bucket < earliest {
                continue;
            }
            let entry = (*bucket, series.key.age, cell);
            if is_candidate && *bucket >= from {
                op.candidate.push((*bucket, series.key.age.min(oldest(*bucket, appeared)), cell));
            } else if is_control && *bucket < start {
                op.before.push(entry);
            } else if is_control && !same && *bucket >= start {
                op.control.push(entry);
            }
        }
    }
    let mut operations: Vec<Operation<'_>> = operations.into_values().collect();
    for op in &mut operations {
        op.candidate.sort_by_key(|(bucket, age, _)| (*bucket, *age));
        op.control.sort_by_key(|(bucket, age, _)| (*bucket, *age));
        op.before.sort_by_key(|(bucket, age, _)| (*bucket, *age));
    }

    let concurrent = concurrent_buckets(&operations, from, end);
    let reference = Reference::new(&operations, start, input.tolerances.watch_max_s / 10);
    for op in &mut operations {
        op.pairs = [1, 3, 6]
            .into_iter()
            .map(|width| pairs(op, from, &concurrent, &reference, width))
            .find(|found| paired_requests(found) * 5 >= requests(&op.candidate) * 4)
            .unwrap_or_else(|| pairs(op, from, &concurrent, &reference, 6));
    }

    let (mut beside, mut paired) = (0, 0);
    for pair in operations.iter().flat_map(|op| &op.pairs) {
        let n: u64 = pair.candidate.iter().map(|c| c.requests).sum();
        paired += n;
        beside += if pair.side_by_side { n } else { 0 };
    }
    let before: u64 = operations.iter().map(|op| requests(&op.before)).sum();
    let since: u64 = operations.iter().map(|op| requests(&op.control)).sum();
    let any_beside = since > 0 && (paired == 0 || beside * 2 >= paired);
    let design = if any_beside { Design::Concurrent } else { Design::BeforeAfter };
    let candidate_span = Interval { from: from.start(), to: end.start() };
    Comparison {
        design,
        version,
        control_versions,
        first: operations.iter().filter_map(|op| op.candidate.first().map(|c| c.0)).min(),
        requests: operations.iter().map(|op| requests(&op.candidate)).sum(),
        paired,
        control_requests: before + since,
        candidate_span,
        control_span: match design {
            Design::Concurrent => candidate_span,
            _ => Interval { from: earliest.start(), to: start.start() },
        },
        version_missing,
        operations,
    }
}

/// Returns the greatest age of an instance in `bucket`, of a version first seen in `appeared`.
fn oldest(bucket: Bucket, appeared: Bucket) -> AgeClass {
    match bucket.0.saturating_sub(appeared.0) {
        ..COLD_BUCKETS => AgeClass::Cold,
        COLD_BUCKETS..WARMING_BUCKETS => AgeClass::Warming,
        _ => AgeClass::Warm,
    }
}

/// Chooses the versions that the candidate is held against.
fn control_versions<'a>(
    deploy: &'a Deploy,
    version: &'a str,
    start: Bucket,
    input: &'a JudgeInput,
    own: &[&'a OperationSeries],
) -> BTreeSet<&'a str> {
    let before = |s: &OperationSeries| s.cells.iter().any(|(b, _)| *b < start);
    let ran_before = own.iter().any(|s| s.key.version == version && before(s));
    let keeps_version = matches!(deploy.kind, DeployKind::Config | DeployKind::Flag | DeployKind::Infra);
    if ran_before && (keeps_version || version.is_empty()) {
        return BTreeSet::from([version]);
    }
    // A version that served long ago and no more, for instance one rolled back, is no control while another serves.
    let serves = |s: &OperationSeries| s.cells.iter().any(|(b, _)| b.0 + SERVING_BUCKETS >= start.0);
    if let Some(previous) = deploy.previous_version.as_deref().filter(|p| *p != version)
        && own.iter().any(|s| s.key.version == previous && serves(s))
    {
        return BTreeSet::from([previous]);
    }
    let others = |wanted: &dyn Fn(&OperationSeries) -> bool| -> BTreeSet<&'a str> {
        own.iter().filter(|s| s.key.version != version && wanted(s)).map(|s| s.key.version.as_str()).collect()
    };
    let known = |s: &OperationSeries| before(s) || input.known_versions.contains(&s.key.version);
    let mut found = others(&|s| known(s) && serves(s));
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

/// Sums requests.
pub(crate) fn requests(cells: &Cells<'_>) -> u64 {
    cells.iter().map(|(_, _, cell)| cell.requests).sum()
}

fn paired_requests(pairs: &[Pair<'_>]) -> u64 {
    pairs.iter().flat_map(|pair| &pair.candidate).map(|cell| cell.requests).sum()
}

/// Buckets in which the control serves beside the candidate, over all operations, looked at over a trailing minute.
fn concurrent_buckets(operations: &[Operation<'_>], from: Bucket, end: Bucket) -> BTreeSet<Bucket> {
    let mut traffic: BTreeMap<Bucket, (u64, u64)> = BTreeMap::new();
    for op in operations {
        for (bucket, _, cell) in &op.candidate {
            traffic.entry(*bucket).or_default().0 += cell.requests;
        }
        for (bucket, _, cell) in &op.control {
            traffic.entry(*bucket).or_default().1 += cell.requests;
        }
    }
    let minute = |bucket: Bucket| {
        traffic
            .range(Bucket(bucket.0.saturating_sub(5))..=bucket)
            .fold((0, 0), |sum, (_, (b, a))| (sum.0 + b, sum.1 + a))
    };
    traffic
        .keys()
        .copied()
        .filter(|bucket| *bucket >= from && *bucket < end)
        .filter(|bucket| {
            let (b, a) = minute(*bucket);
            a > 0 && a as f64 >= CONTROL_SHARE_MIN * b as f64
        })
        .collect()
}

/// How the time before the start is dealt out to the time after it.
struct Reference {
    start: Bucket,
    /// Buckets after the start that share one portion.
    after: u64,
    /// Buckets before the start in a portion.
    before: u64,
}

impl Reference {
    fn new(operations: &[Operation<'_>], start: Bucket, watch: u64) -> Self {
        let first = operations.iter().filter_map(|op| op.before.first().map(|c| c.0)).min().unwrap_or(start);
        let length = (start.0 - first.0).max(1);
        let watch = watch.max(1);
        Self { start, after: watch.div_ceil(length).clamp(1, 6), before: (length / watch).max(1) }
    }
}

#[derive(Default)]
struct Slot<'a> {
    last: Bucket,
    candidate: BTreeMap<AgeClass, Vec<&'a OperationCell>>,
    control: BTreeMap<AgeClass, Vec<&'a OperationCell>>,
}

fn pairs<'a>(
    op: &Operation<'a>,
    from: Bucket,
    concurrent: &BTreeSet<Bucket>,
    reference: &Reference,
    width: u64,
) -> Vec<Pair<'a>> {
    let mut slots: BTreeMap<(bool, u64), Slot<'a>> = BTreeMap::new();
    for (bucket, age, cell) in &op.candidate {
        let since = bucket.0 - from.0;
        let beside = concurrent.contains(bucket);
        let index = if beside { since / width } else { since / (width * reference.after) };
        let slot = slots.entry((beside, index)).or_default();
        slot.last = slot.last.max(*bucket);
        slot.candidate.entry(*age).or_default().push(cell);
    }
    for (bucket, age, cell) in &op.control {
        if *bucket >= from
            && concurrent.contains(bucket)
            && let Some(slot) = slots.get_mut(&(true, (bucket.0 - from.0) / width))
        {
            slot.control.entry(*age).or_default().push(cell);
        }
    }
    for (bucket, age, cell) in &op.before {
        let index = (reference.start.0 - 1 - bucket.0) / (width * reference.before);
        if let Some(slot) = slots.get_mut(&(false, index)) {
            slot.control.entry(*age).or_default().push(cell);
        }
    }
    let mut found = Vec::new();
    for ((side_by_side, _), mut slot) in slots {
        let mut unmatched: Vec<(AgeClass, Vec<&OperationCell>)> = Vec::new();
        for (age, candidate) in std::mem::take(&mut slot.candidate) {
            match slot.control.remove(&age) {
                Some(control) => {
                    found.push(Pair { bucket: slot.last, age, same_age: true, side_by_side, candidate, control });
                }
                None => unmatched.push((age, candidate)),
            }
        }
        // What is left of the control goes, once, to the largest of what is left of the candidate.
        let control: Vec<&OperationCell> = slot.control.into_values().flatten().collect();
        let largest = unmatched.into_iter().max_by_key(|(_, cells)| cells.iter().map(|c| c.requests).sum::<u64>());
        if let (Some((age, candidate)), false) = (largest, control.is_empty()) {
            found.push(Pair { bucket: slot.last, age, same_age: false, side_by_side, candidate, control });
        }
    }
    found.sort_by_key(|pair| (pair.bucket, pair.age));
    found
}
