//! Past deploys judged as if it were then, from the aggregates that the store holds.
//!
//! Time passes hour by hour: the rows of an hour are loaded, then looked at every ten seconds as live traffic is. What was not
//! received yet at a look was not seen live either; here every row is there as soon as its bucket is.
//!
//! Held are the services deployed, those that call them or that they call, and as many unconnected ones as a judgement looks
//! at; of all others it is known whom they call. What was seen in the week before is known of the services deployed.

use std::collections::BTreeSet;

use plimsoll_catalog::{Catalog, DeployFilter};
use plimsoll_model::{Deploy, Interval, ServiceKey, UnixNanos};
use plimsoll_otlp::Table;
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_store::Store;
use plimsoll_verdict::TolerancePolicy;
use std::time::Duration;

use super::load::{self, Loaded, Part, Wanted};
use crate::backtest::{Judged, Past, Timeline};

/// Rows that are loaded at once.
const STRETCH: Duration = Duration::from_secs(3_600);
/// How far back of the weeks before a deploy is looked.
const HISTORY: Duration = Duration::from_secs(16 * 86_400);
/// How far before the first deploy exceptions and messages are known, as after a start of the server.
pub(crate) const KNOWN: Duration = Duration::from_secs(8 * 86_400);
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
    let services = placed(catalog, deploys.iter().map(|(_, past)| past.service()).collect()).await?;
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
    let mut loaded = Loaded::default();
    if let (Some(first), Some(last)) = (windows.first(), windows.last()) {
        let within = Interval { from: first.interval.from - KNOWN, to: last.interval.to };
        let (store, state, services) = (store.clone(), timeline.state().clone(), services);
        // That some of it lies ahead does no harm: it is known since when each was seen.
        let read = blocking(move || recollect(&store, &services, within, &mut state.lock()));
        loaded.add(read.await?);
    }
    let mut history_from = None;
    for window in windows {
        let Window { interval, services } = window;
        // Time begins before the deploy, not at the end of the first stretch: all looks at it come after.
        timeline.advance(interval.from).await?;
        let surveyed = store.clone();
        let bearing = blocking(move || bearing(&surveyed, &services, interval)).await?;
        let mut from = interval.from;
        while from < interval.to {
            let to = (from + STRETCH).min(interval.to);
            let wanted = Wanted {
                tables: load::AGGREGATES,
                environments: environments(&bearing),
                services: bearing.clone(),
                cells: Interval { from, to },
                // Of the weeks before, once all and then what an hour adds.
                history: Interval { from: history_from.unwrap_or(from - HISTORY), to },
            };
            history_from = Some(to);
            let (store, state) = (store.clone(), timeline.state().clone());
            let read = blocking(move || {
                load::load(&store, &wanted, &mut |part, table, rows| load::into(&mut state.lock(), part, table, rows))
            });
            loaded.add(read.await?);
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

/// Adds the places of services that are named without a namespace.
async fn placed(catalog: &dyn Catalog, mut services: BTreeSet<ServiceKey>) -> Result<BTreeSet<ServiceKey>, String> {
    let unplaced: Vec<ServiceKey> = services.iter().filter(|service| service.namespace.is_empty()).cloned().collect();
    for service in unplaced {
        let places = catalog.places(&service.service).await.map_err(|error| error.to_string())?;
        services.extend(places.into_iter().filter(|place| place.environment == service.environment));
    }
    Ok(services)
}

/// Runs what reads segments where it may take its time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

fn environments(services: &BTreeSet<ServiceKey>) -> BTreeSet<String> {
    services.iter().map(|service| service.environment.clone()).collect()
}

/// Remembers which exceptions and messages the services had.
fn recollect(
    store: &Store,
    services: &BTreeSet<ServiceKey>,
    within: Interval,
    state: &mut SignalState,
) -> Result<Loaded, String> {
    let none = Interval { from: within.to, to: within.to };
    let wanted = Wanted {
        tables: load::AGGREGATES,
        environments: environments(services),
        services: services.clone(),
        cells: within,
        history: none,
    };
    let unreadable = load::load(store, &wanted, &mut |part, table, rows| {
        let remembered = match (part, table) {
            (Part::Wanted, Table::Operations) => state.load_exceptions(rows),
            (Part::Wanted, Table::Signals) => state.load_templates(rows),
            _ => Ok(()),
        };
        remembered.map_err(|error| error.to_string())
    })?
    .unreadable;
    // None of these rows is judged from.
    Ok(Loaded { rows: 0, unreadable })
}

/// Finds the services whose rows bear on deploys of `services` within a stretch of time.
fn bearing(store: &Store, services: &BTreeSet<ServiceKey>, within: Interval) -> Result<BTreeSet<ServiceKey>, String> {
    let mut edges = SignalState::new(SignalLimits::default());
    let mut serving = BTreeSet::new();
    let wanted = Wanted {
        tables: &[Table::Operations],
        environments: environments(services),
        services: BTreeSet::new(),
        cells: within,
        history: within,
    };
    load::load(store, &wanted, &mut |_, _, rows| {
        serving.extend(edges.load_edges(rows).map_err(|error| error.to_string())?);
        Ok(())
    })?;
    let named = |service: &ServiceKey, other: &ServiceKey| {
        other == service
            || service.namespace.is_empty()
                && (&other.environment, &other.service) == (&service.environment, &service.service)
    };
    let own = services.iter().flat_map(|service| {
        let places = serving.iter().filter(move |other| named(service, other));
        places.chain(std::iter::once(service))
    });
    // Services deployed at about the same time are no control of each other.
    Ok(own.flat_map(|service| edges.bearing(service, &serving, services.len())).collect())
}

/// A stretch of time that bears on some deploys, and whose those are.
#[derive(Debug)]
struct Window {
    interval: Interval,
    services: BTreeSet<ServiceKey>,
}

/// Lists the stretches of time that bear on any of the deploys, apart from each other.
fn windows(deploys: &[(UnixNanos, Past)], tolerances: &TolerancePolicy, until: UnixNanos) -> Vec<Window> {
    let mut found: Vec<Window> = Vec::new();
    for (at, past) in deploys {
        let service = past.service();
        let tolerances = tolerances.of(&service);
        let from = (*at - tolerances.lookback()).bucket().start();
        let to = (*at + tolerances.watch_max() + MARGIN).min(until).bucket().end();
        match found.last_mut() {
            Some(last) if last.interval.to >= from => {
                last.interval.to = last.interval.to.max(to);
                last.services.insert(service);
            }
            _ => found.push(Window { interval: Interval { from, to }, services: BTreeSet::from([service]) }),
        }
    }
    found
}
