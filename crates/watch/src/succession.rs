//! Whether a later deploy of the service took over: then the candidate is another, and what came before is all there is.
//!
//! A marker says who comes, and not that it came: its deploy may fail, take its time, or be a canary beside this one. A version that
//! nobody announced may be somebody's try, a batch replayed from elsewhere, a pod that was left over. Either has taken over once it
//! serves as much as the candidate does; what was announced besides only where the candidate serves half of what it did, or nothing
//! any more. A change that keeps the version takes nothing over, nor does what failed. Its own candidate is the version that serves,
//! though its marker may have a label that no telemetry names.
//!
//! *Invariants.* The answer closes a judgement for good. So only buckets count that were over [`LATE`] ago and began after the later
//! version came, and there are to be enough of them.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_model::signal::OperationSeries;
use plimsoll_model::{Bucket, Deploy, DeployKind, DeployStatus, Interval, UnixNanos};

use crate::serving::serving_at;
use crate::source::SignalSource;

/// Over how long traffic is compared.
const COMPARED: Duration = Duration::from_secs(180);
/// Without requests for so long the candidate has left to whoever was announced, where it served in two buckets of three before; and
/// for so long a version that nobody announced is there before it takes over.
const LEFT: Duration = Duration::from_secs(60);
/// What happened is told within so long after the end of its bucket.
const LATE: Duration = Duration::from_secs(10);

/// What one version served in some time.
#[derive(Default)]
struct Served {
    requests: u64,
    buckets: BTreeSet<Bucket>,
}

impl Served {
    fn of(series: &[OperationSeries], version: &str, within: Interval) -> Self {
        let mut served = Self::default();
        let cells = series.iter().filter(|series| series.key.version == version).flat_map(|series| &series.cells);
        for (bucket, cell) in cells.filter(|(b, cell)| cell.requests > 0 && within.contains(b.start())) {
            served.requests += cell.requests;
            served.buckets.insert(*bucket);
        }
        served
    }

    /// Says whether it is as much as `other`. Requests that came all at once are no service.
    fn is_as_much_as(&self, other: &Self) -> bool {
        self.requests > 0 && self.requests >= other.requests && 2 * self.buckets.len() >= other.buckets.len()
    }

    /// Says whether it is half of `before`, which is of an equal time, at most, and fewer by three times what chance alone makes.
    fn is_half_of(&self, before: &Self) -> bool {
        let (now, before) = (u128::from(self.requests), u128::from(before.requests));
        2 * now <= before && (before - now).pow(2) >= 9 * (before + now)
    }
}

/// Returns from when on the candidate of `deploy` is another; `successors` are the later deploys of other versions that have
/// started by `now`, earliest first.
pub(crate) fn superseded(
    signals: &(impl SignalSource + ?Sized),
    deploy: &Deploy,
    successors: &[Deploy],
    now: UnixNanos,
) -> Option<UnixNanos> {
    let brings = |other: &&Deploy| matches!(other.kind, DeployKind::Release | DeployKind::Rollback);
    let successors: Vec<&Deploy> =
        successors.iter().filter(brings).filter(|other| other.status != DeployStatus::Failed).collect();
    let first = successors.first()?.started_at;
    let until = now - signals.behind(&deploy.service, &deploy.version);
    let end = (until - LATE).bucket().start();
    let latest = end - COMPARED;
    let from = latest.min(first.bucket().start() - COMPARED);
    let series = signals.series(&deploy.service, Interval { from, to: until.bucket().end() });
    let named = series.iter().any(|series| series.key.version == deploy.version);
    let candidate = if named { deploy.version.clone() } else { candidate_of(signals, deploy) };
    let served = |version: &str, from: UnixNanos, to: UnixNanos| Served::of(&series, version, Interval { from, to });
    let lately = |version: &str| served(version, latest, end);
    let took_over = |other: &Deploy| {
        let there = other.started_at.bucket().end() <= end - LEFT;
        (there && lately(&other.version).is_as_much_as(&lately(&candidate))).then_some(other.started_at.max(latest))
    };
    let announced = |other: &Deploy| {
        let own = series.iter().filter(|series| series.key.version == other.version).flat_map(|series| &series.cells);
        let came = own.filter(|(bucket, cell)| cell.requests > 0 && bucket.end() > other.started_at);
        let came = came.map(|(bucket, _)| bucket.start()).min();
        let at = came.map_or(other.started_at, |came| came.max(other.started_at));
        let (ahead, after) = (at.bucket().start(), at.bucket().end());
        let before = served(&candidate, ahead - COMPARED, ahead);
        let lived = ahead.since(deploy.started_at).min(COMPARED);
        let is_steady = 3 * before.buckets.len() as u128 * Bucket::WIDTH.as_nanos() >= 2 * lived.as_nanos();
        let left_since = end - if is_steady && !before.buckets.is_empty() { LEFT } else { COMPARED };
        // Where nobody serves, what the candidate left is for the other to serve.
        let serves = came.is_none() || served(&other.version, left_since, end).requests > 0;
        let left = left_since >= after && serves && served(&candidate, left_since, end).requests == 0;
        let took_over = || {
            let (left, its) = (lately(&candidate), lately(&other.version));
            latest >= after && left.is_half_of(&before) && its.is_as_much_as(&left)
        };
        (left || took_over()).then_some(at)
    };
    successors.into_iter().filter_map(|other| if other.inferred { took_over(other) } else { announced(other) }).min()
}

/// Returns the version whose requests are the candidate's: where a change that keeps the version has a label of its own, the one
/// that served most as it came.
fn candidate_of(signals: &(impl SignalSource + ?Sized), deploy: &Deploy) -> String {
    let keeps = matches!(deploy.kind, DeployKind::Config | DeployKind::Flag | DeployKind::Infra);
    let start = deploy.started_at.bucket().start();
    let named = || serving_at(signals, &deploy.service, start, |version| version == deploy.version).is_some();
    let serving = if keeps && !named() { serving_at(signals, &deploy.service, start, |_| true) } else { None };
    serving.unwrap_or_else(|| deploy.version.clone())
}
