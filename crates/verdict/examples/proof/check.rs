//! The short form, for the gate: a minute of two cores, and exit code 1 where an aim is missed.
//!
//! Seeds are fixed, so the same engine always gets the same answer. Harmless deploys are held against two numbers: what a share of [`PROMISE`]
//! leaves likely, and what the long run leaves likely, [`LONG_RUN`]. Were the seeds drawn anew, an engine that calls exactly such a share
//! regressed would exceed its number with a probability below [`ERROR`].

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_model::VerdictKind;
use plimsoll_verdict::{Tolerances, judge};

use crate::fleet::{Fleet, Latencies, simulate};
use crate::{each, law, null, power, quantile, rank, reference};

/// Share of harmless deploys that may be called regressed.
const PROMISE: f64 = 0.01;
/// The same by the long run at most, as docs/performance/verdict.md tells it: more is a change that asks for another.
const LONG_RUN: f64 = 0.0043;
const ERROR: f64 = 1e-3;
/// Harmless deploys of 200 operations, of all rows alike.
const HARMLESS: u64 = 324;
/// Deploys of each row that is worse, and seconds within which half of them and nine of ten are to be found.
const WORSE: u64 = 101;
const MEDIAN_S: u64 = 60;
const P90_S: u64 = 180;
/// Deploys that are held against the reference.
const BESIDE: u64 = 60;

/// Runs it.
pub(crate) fn run() -> ExitCode {
    let latencies = Latencies::new();
    let mut met = false_alarms(&latencies);
    let errors = Fleet { error_effect: 5.0, ..Fleet::default() };
    let slower = Fleet { latency_effect: 1.5, ..Fleet::default() };
    for (name, fleet) in [("errors 1 to 5 %", errors), ("latency +50 %", slower)] {
        met &= found_soon(name, &fleet, &latencies);
    }
    met &= as_the_reference(&latencies);
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn told(what: &str, met: bool) -> bool {
    println!("{}: {what}", if met { "met" } else { "MISSED" });
    met
}

fn false_alarms(latencies: &Latencies) -> bool {
    let called = AtomicU64::new(0);
    each(0..HARMLESS, |seed| {
        let regressed = judge(&simulate(&null::harmless(seed), latencies, seed)).verdict == VerdictKind::Regressed;
        // Relaxed: a counter, read once all threads are done.
        called.fetch_add(u64::from(regressed), Ordering::Relaxed);
    });
    let called = called.into_inner();
    let [promised, usual] = [PROMISE, LONG_RUN].map(|share| law::limit(HARMLESS, share, ERROR));
    let what = format!(
        "{called} of {HARMLESS} harmless deploys called regressed, {usual} at most by the long run and {promised} by the promise"
    );
    told(&what, called <= usual.min(promised))
}

fn found_soon(name: &str, fleet: &Fleet, latencies: &Latencies) -> bool {
    let [delays] = power::delays(fleet, latencies, WORSE, &[Tolerances::default()]);
    let found = delays.iter().flatten().count() as u64;
    let within = |q: f64, most: u64| rank(&delays, q).is_some_and(|delay| delay <= most);
    let what = format!(
        "{name} at 100 requests/s and 5 %: {found} of {WORSE} found, half of them in {} s of {MEDIAN_S}, nine of ten in {} s of {P90_S}",
        quantile(&delays, 0.5),
        quantile(&delays, 0.9)
    );
    told(&what, found == WORSE && within(0.5, MEDIAN_S) && within(0.9, P90_S))
}

/// What the reference fails the engine calls regressed, and no later by the median.
fn as_the_reference(latencies: &Latencies) -> bool {
    let fleet = Fleet { share: 0.05, error_effect: 5.0, ..reference::base() };
    let [ours, theirs] = reference::delays(&fleet, latencies, BESIDE);
    let missed = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours.is_none() && theirs.is_some()).count();
    let what = format!(
        "errors 1 to 5 % at five operations: {missed} of {BESIDE} that the reference fails missed, median {} s beside {} s",
        quantile(&ours, 0.5),
        quantile(&theirs, 0.5)
    );
    let sooner = rank(&ours, 0.5).is_some_and(|own| rank(&theirs, 0.5).is_none_or(|other| own <= other));
    told(&what, missed == 0 && sooner)
}
