//! What happened once within the hour before: it hides no regression, and is no ground to be quick about one like it.

use plimsoll_model::signal::{Histogram, OperationCell};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, SignalKind, VerdictKind};
use plimsoll_verdict::JudgeInput;

use crate::simulation::{START, Scenario, looked_at, simulate};

fn quiet() -> Scenario {
    let base = Scenario { rate: 20.0, errors: 0.002, share: 0.5, instances: false, ..Scenario::default() };
    Scenario { before_s: 3_600, after_s: 360, ..base }
}

/// Changes the cells of a version in `from..to`, in buckets since the start.
fn change(input: &mut JudgeInput, version: &str, (from, to): (i64, i64), with: impl Fn(&mut OperationCell)) {
    let within = |bucket: &Bucket| (from..to).contains(&(bucket.0 as i64 - START as i64));
    for series in input.series.iter_mut().filter(|series| series.key.version == version) {
        series.cells.iter_mut().filter(|(bucket, _)| within(bucket)).for_each(|(_, cell)| with(cell));
    }
}

fn fails(share: f64) -> impl Fn(&mut OperationCell) {
    move |cell| cell.errors = (share * cell.requests as f64) as u64
}

/// Seconds until it was called regressed for this signal, looked at every twenty.
fn found(input: &mut JudgeInput, signal: SignalKind) -> Option<u64> {
    let told = looked_at(input, 2);
    let bad = told.iter().position(|verdict| {
        verdict.verdict == VerdictKind::Regressed && verdict.findings.iter().any(|found| found.signal == signal)
    });
    bad.map(|looks| 20 * (looks as u64 + 1))
}

#[test]
fn failures_are_found_as_soon_after_an_incident_as_without_one() {
    for share in [0.5, 1.0] {
        let worse = Scenario { share, error_effect: 20.0, ..quiet() };
        let without = found(&mut simulate(&worse, 61), SignalKind::ErrorRate).expect("a bad deploy");
        for (length, failed) in [(1, 1.0), (3, 0.5), (12, 0.3), (60, 0.3)] {
            let mut input = simulate(&worse, 61);
            change(&mut input, "1", (-180, length - 180), fails(failed));
            let with = found(&mut input, SignalKind::ErrorRate);
            let soon = with.is_some_and(|seconds| seconds <= without + 60);
            assert!(soon, "{share}, {length} buckets of {failed}: {with:?} for {without}");
        }
    }
}

#[test]
fn latency_is_found_as_soon_after_a_slow_minute_as_without_one() {
    let worse = Scenario { latency_effect: 1.5, ..quiet() };
    let without = found(&mut simulate(&worse, 62), SignalKind::Latency).expect("a slow deploy");
    let mut input = simulate(&worse, 62);
    // Sixteen buckets of the histogram are a factor of two.
    change(&mut input, "1", (-180, -174), |cell| {
        cell.latency = Histogram(cell.latency.0.iter().map(|(index, n)| (index + 64, *n)).collect());
    });
    let with = found(&mut input, SignalKind::Latency);
    assert!(with.is_some_and(|seconds| seconds <= without + 60), "{with:?} for {without}");
}

#[test]
fn what_happened_once_without_a_deploy_condemns_none_when_it_happens_again() {
    let quiet = Scenario { errors: 0.0001, ..quiet() };
    let once = |before: bool| {
        let mut input = simulate(&quiet, 63);
        change(&mut input, "1", (-180, -179), fails(if before { 1.0 } else { 0.0 }));
        change(&mut input, "2", (20, 21), fails(1.0));
        found(&mut input, SignalKind::ErrorRate)
    };
    assert_eq!(once(true), None);
    assert!(once(false).is_some(), "a hundred failures at once, as never before, are not waited for");
}

#[test]
fn what_fails_on_has_not_recovered_whatever_outage_was_or_is_over() {
    // Against the time before with an outage of ten minutes in it, and side by side with one that both go through.
    for (share, from, to) in [(1.0, -150, -90), (0.5, 30, 60)] {
        let phases = |mended_at: i64| -> Vec<Phase> {
            let mut input = simulate(&Scenario { share, after_s: 1_200, ..quiet() }, 64);
            change(&mut input, "2", (0, mended_at), |cell| cell.errors = (0.04 * cell.requests as f64).round() as u64);
            for version in ["1", "2"] {
                change(&mut input, version, (from, to), |cell| cell.errors += (0.3 * cell.requests as f64) as u64);
            }
            looked_at(&mut input, 3).iter().map(|verdict| verdict.phase).collect()
        };
        let worse = phases(120);
        let told = worse.iter().position(|phase| *phase == Phase::Confirmed).expect("a bad deploy");
        assert!(worse[told..].iter().all(|phase| *phase == Phase::Confirmed), "{share}: {worse:?}");
        // Half a minute after three in which it was well.
        let mended = phases(75);
        assert_eq!(mended[32], Phase::Recovered, "{share}: {mended:?}");
    }
}
