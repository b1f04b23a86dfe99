//! Up to when anything was heard: what nobody sent, or nobody received, says nothing about the deploy that is judged.
//!
//! While nothing at all comes, of whichever service, nothing after it is known yet: whoever sends may have kept it, and a server
//! that was away has it all still to come. That is waited for as long as a deploy is watched at most.

use std::time::Duration;

use plimsoll_model::{Deploy, Interval, UnixNanos};
use plimsoll_verdict::Tolerances;

use crate::source::SignalSource;

/// What is known of the time in which a deploy is judged.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// When nothing at all came.
    pub(crate) gaps: Vec<Interval>,
    /// How far what is known is behind the present, because nothing comes or because what comes is late.
    pub(crate) behind: Duration,
}

/// Asks for it.
pub(crate) fn heard(
    signals: &(impl SignalSource + ?Sized),
    deploy: &Deploy,
    tolerances: &Tolerances,
    now: UnixNanos,
) -> Heard {
    let end = now.bucket().start();
    let gaps = signals.gaps(Interval { from: deploy.started_at - tolerances.lookback(), to: end });
    let waits = gaps.last().filter(|gap| gap.to == end).map(|gap| now.since(gap.from));
    let waits = waits.filter(|waited| *waited <= tolerances.watch_max()).unwrap_or_default();
    Heard { gaps, behind: signals.behind(&deploy.service, &deploy.version).max(waits) }
}
