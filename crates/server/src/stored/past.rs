//! Past deploys judged as if it were then, from the aggregates that the store holds.
//!
//! Time passes hour by hour: the rows of an hour are loaded, then looked at every ten seconds as live traffic is. What was not
//! received yet at a look was not seen live either; here every row is there as soon as its bucket is.

use std::collections::BTreeSet;

use plimsoll_catalog::{Catalog, DeployFilter};
use plimsoll_model::{Deploy, Interval, ServiceKey, UnixNanos};
use plimsoll_signals::SignalLimits;
use plimsoll_store::Store;
use plimsoll_verdict::TolerancePolicy;
use std::time::Duration;

use super::load::{self, Loaded, Wanted};
use crate::backtest::{Judged, Past, Timeline};

/// Rows that are loaded at once.
const STRETCH: Duration = Duration::from_secs(3_600);
/// How far back of the weeks before a deploy is looked.
const HISTORY: Duration = Duration::from_secs(16 * 86_400);
/// What is looked at beyond the time that a deploy is watched.
const MARGIN: Duration = Duration::from_secs(60);

/// Which deploys are judged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    /// Those of the catalog that this fits, where none are given.
    pub(crate) filter: DeployFilter,
    /// Those given.
    pub(crate) deploys: Vec<(UnixNanos, Past)>,
    /// The present, in event time.
    pub(crate) until: UnixNanos,
    /// How much of the past may be held at once.
    pub(crate) limits: SignalLimits,
}

/// Judges them.
///
/// # Errors
/// The catalog or the stored rows cannot be read.
pub(crate) async fn backtest(
    catalog: &dyn Catalog,
    store: &Store,
    tolerances: TolerancePolicy,
    ask: Ask,
) -> Result<(Vec<Judged>, Vec<String>), String> {
    let mut deploys = ask.deploys;
    if deploys.is_empty() {
        let known: Vec<Deploy> = catalog.deploys(&ask.filter).await.map_err(|error| error.to_string())?;
        deploys = known.into_iter().map(|deploy| (deploy.started_at, Past::Recorded(Box::new(deploy)))).collect();
    }
    deploys.retain(|(at, _)| *at < ask.until);
    deploys.sort_by_key(|(at, _)| *at);
    let services: BTreeSet<ServiceKey> = deploys.iter().map(|(_, past)| past.service()).collect();
    let windows = windows(&deploys, &tolerances, ask.until);
    let watched = tolerances.watch_max() + MARGIN;
    let mut timeline = Timeline::start(deploys, tolerances, ask.limits).await?.watching(watched);
    for service in &services {
        for known in catalog.versions(service).await.map_err(|error| error.to_string())? {
            let seen = timeline.catalog().observe_version(service, &known.version, known.first_seen).await;
            seen.map_err(|error| error.to_string())?;
        }
    }
    store.flush().await.map_err(|error| error.to_string())?;
    let environments: BTreeSet<String> = services.into_iter().map(|service| service.environment).collect();
    let mut loaded = Loaded::default();
    let mut history_from = None;
    for window in windows {
        // Time begins before the deploy, not at the end of the first stretch: all looks at it come after.
        timeline.advance(window.from).await?;
        let mut from = window.from;
        while from < window.to {
            let to = (from + STRETCH).min(window.to);
            let wanted = Wanted {
                environments: environments.clone(),
                services: BTreeSet::new(),
                cells: Interval { from, to },
                // Of the weeks before, once all and then what an hour adds.
                history: Interval { from: history_from.unwrap_or(from - HISTORY), to },
            };
            history_from = Some(to);
            let (store, state) = (store.clone(), timeline.state().clone());
            let read = tokio::task::spawn_blocking(move || {
                load::load(&store, &wanted, &mut |table, rows| load::into(&mut state.lock(), table, rows))
            });
            loaded.add(read.await.map_err(|error| error.to_string())??);
            timeline.advance(to).await?;
            timeline.state().lock().pass(to);
            from = to;
        }
    }
    let judged = timeline.finish(Some(ask.until)).await?;
    let mut notes = Vec::new();
    if loaded.unreadable > 0 {
        notes.push(format!("{} segments could not be read: their rows are missing", loaded.unreadable));
    }
    notes.extend(load::missing(&timeline.state().lock()));
    Ok((judged, notes))
}

/// Lists the stretches of time that bear on any of the deploys, apart from each other.
fn windows(deploys: &[(UnixNanos, Past)], tolerances: &TolerancePolicy, until: UnixNanos) -> Vec<Interval> {
    let mut found: Vec<Interval> = Vec::new();
    for (at, past) in deploys {
        let tolerances = tolerances.of(&past.service());
        let from = (*at - tolerances.lookback()).bucket().start();
        let to = (*at + tolerances.watch_max() + MARGIN).min(until).bucket().end();
        match found.last_mut() {
            Some(last) if last.to >= from => last.to = last.to.max(to),
            _ => found.push(Interval { from, to }),
        }
    }
    found
}
