//! Whether a later deploy of the service took over: then the candidate is another, and what came before is all there is.
//!
//! A marker says who comes, and not that it came: its deploy may fail, take its time, or be a canary beside this one. A version that
//! nobody announced may be somebody's try, a batch replayed from elsewhere, a pod that was left over. Either has taken over once it
//! serves as much as the candidate does; what was announced besides only where the candidate serves half of what it did, or nothing
//! any more. A change that keeps the version takes nothing over, nor does what failed.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_model::signal::OperationSeries;
use plimsoll_model::{Bucket, Deploy, DeployKind, DeployStatus, Interval, UnixNanos};

use crate::source::SignalSource;

/// Over how long traffic is compared.
const COMPARED: Duration = Duration::from_secs(180);
/// Without requests for so long the candidate has left to whoever was announced.
const LEFT: Duration = Duration::from_secs(60);

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
    let latest = until - COMPARED;
    let series =
        signals.series(&deploy.service, Interval { from: latest.min(first - COMPARED), to: until.bucket().end() });
    let served = |version: &str, from: UnixNanos, to: UnixNanos| Served::of(&series, version, Interval { from, to });
    let end = until.bucket().end();
    let took_over = |other: &Deploy| {
        let (candidate, its) = (served(&deploy.version, latest, end), served(&other.version, latest, end));
        its.is_as_much_as(&candidate).then_some(other.started_at.max(latest))
    };
    let announced = |other: &Deploy| {
        let own = series.iter().filter(|series| series.key.version == other.version).flat_map(|series| &series.cells);
        let came = own.filter(|(bucket, cell)| cell.requests > 0 && bucket.end() > other.started_at);
        let Some(came) = came.map(|(bucket, _)| bucket.start()).min() else {
            // Nobody serves: what the candidate left is for the other to serve.
            let left = served(&deploy.version, other.started_at.max(until - LEFT), end).requests == 0;
            return (left && until.since(other.started_at) >= LEFT).then_some(other.started_at);
        };
        let at = came.max(other.started_at);
        let since = at.max(latest);
        let (before, now) = (served(&deploy.version, at - COMPARED, at), served(&deploy.version, since, end));
        let fell = 2 * u128::from(now.requests) * COMPARED.as_nanos()
            <= u128::from(before.requests) * end.since(since).as_nanos();
        (fell && served(&other.version, since, end).is_as_much_as(&now)).then_some(at)
    };
    successors.into_iter().filter_map(|other| if other.inferred { took_over(other) } else { announced(other) }).min()
}
