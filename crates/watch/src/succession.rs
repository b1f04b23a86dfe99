//! Whether a later deploy of the service took over: then the candidate is another, and what came before is all there is.
//!
//! A marker says so. A version that nobody announced may be somebody's try, a batch replayed from elsewhere, a pod that was
//! left over: it has taken over once it serves as much as the candidate does.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_model::{Bucket, Deploy, Interval, UnixNanos};

use crate::source::SignalSource;

/// Over how long traffic is compared.
const COMPARED: Duration = Duration::from_secs(180);

/// What one version served of late.
#[derive(Default)]
struct Served {
    requests: u64,
    buckets: BTreeSet<Bucket>,
}

/// Returns from when on the candidate of `deploy` is another; `successors` are the later deploys of other versions that have
/// started by `now`, earliest first.
pub(crate) fn superseded(
    signals: &(impl SignalSource + ?Sized),
    deploy: &Deploy,
    successors: &[Deploy],
    now: UnixNanos,
) -> Option<UnixNanos> {
    let announced = successors.iter().find(|other| !other.inferred).map(|other| other.started_at);
    if successors.iter().all(|other| !other.inferred) {
        return announced;
    }
    let behind = signals.behind(&deploy.service, &deploy.version);
    let until = now - behind;
    let from = until - COMPARED;
    let series = signals.series(&deploy.service, Interval { from, to: until.bucket().end() });
    let served = |version: &str| {
        let mut served = Served::default();
        let cells = series.iter().filter(|series| series.key.version == version).flat_map(|series| &series.cells);
        for (bucket, cell) in cells.filter(|(_, cell)| cell.requests > 0) {
            served.requests += cell.requests;
            served.buckets.insert(*bucket);
        }
        served
    };
    let candidate = served(&deploy.version);
    let took_over = |other: &&Deploy| {
        let other = served(&other.version);
        // Requests that came all at once are no service.
        other.requests > 0 && other.requests >= candidate.requests && 2 * other.buckets.len() >= candidate.buckets.len()
    };
    let quiet =
        successors.iter().filter(|other| other.inferred).find(took_over).map(|other| other.started_at.max(from));
    announced.into_iter().chain(quiet).min()
}
