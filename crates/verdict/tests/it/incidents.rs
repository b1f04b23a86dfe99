//! What happened once within the hour before: it hides no regression, and is no ground to be quick about one like it.

use plimsoll_model::signal::{AgeClass, Histogram, OperationCell, OperationKind, OperationSeries, WEIGHT_UNIT};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, SignalKind, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

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

/// Makes what a version serves in `from..to` slower by `buckets` of the histogram; sixteen are a factor of two.
fn slow(input: &mut JudgeInput, version: &str, span: (i64, i64), buckets: i16) {
    change(input, version, span, |cell| {
        cell.latency = Histogram(cell.latency.0.iter().map(|(index, n)| (index + buckets, *n)).collect());
    });
}

fn says(input: &JudgeInput) -> bool {
    judge(input).data_quality.iter().any(|word| word == quality::INCIDENT_BEFORE)
}

#[test]
fn what_comes_right_after_an_outage_passes_no_sooner_than_it_would_and_is_found_as_soon() {
    let share = |errors: f64| Scenario { share: 1.0, errors: 0.003, error_effect: errors / 0.003, ..quiet() };
    // A minute before the start, of nine minutes and of a quarter of an hour.
    for (from, to, failed, errors) in [(-60, -6, 0.5, 0.05), (-96, -6, 0.2, 0.05), (-24, -6, 0.5, 0.02)] {
        let without = found(&mut simulate(&share(errors), 71), SignalKind::ErrorRate).expect("a bad deploy");
        let mut input = simulate(&share(errors), 71);
        change(&mut input, "1", (from, to), fails(failed));
        let told = looked_at(&mut input, 2);
        assert!(told.iter().all(|verdict| verdict.verdict != VerdictKind::Pass), "{from} to {to}: {failed}");
        let soon = found(&mut input, SignalKind::ErrorRate).is_some_and(|seconds| seconds <= without + 40);
        assert!(soon, "{from} to {to}: {failed} for {without}");
        assert!(says(&input));
        let finding = &judge(&input).findings[0];
        assert!(finding.baseline.value < 0.01 && finding.sql.contains("AND NOT (bucket_start"), "{finding:?}");
        // The mended one passes.
        let mut well = simulate(&Scenario { errors: 0.003, share: 1.0, after_s: 900, ..quiet() }, 72);
        change(&mut well, "1", (from, to), fails(failed));
        let passed = looked_at(&mut well, 3).iter().any(|verdict| verdict.verdict == VerdictKind::Pass);
        assert!(passed, "{from} to {to}: {failed}: {:?}", judge(&well).summary);
    }
}

#[test]
fn an_outage_that_lasts_to_the_start_is_what_the_deploy_came_upon() {
    let mut input = simulate(&Scenario { share: 1.0, ..quiet() }, 73);
    change(&mut input, "1", (-60, 0), fails(0.3));
    change(&mut input, "2", (0, 36), fails(0.3));
    assert_eq!(found(&mut input, SignalKind::ErrorRate), None);
    assert!(!says(&input));
}

#[test]
fn latency_is_found_as_soon_after_minutes_in_which_all_was_slow() {
    for share in [0.5, 1.0] {
        let worse = Scenario { latency_effect: 1.6, share, ..quiet() };
        let without = found(&mut simulate(&worse, 74), SignalKind::Latency).expect("a slow deploy");
        for (from, to) in [(-60, -38), (-240, -186), (-60, -6)] {
            let mut input = simulate(&worse, 74);
            slow(&mut input, "1", (from, to), 37);
            let with = found(&mut input, SignalKind::Latency);
            assert!(with.is_some_and(|seconds| seconds <= without + 60), "{share}, {from}: {with:?} for {without}");
            assert!(says(&input));
        }
    }
}

#[test]
fn an_incident_that_comes_again_as_it_was_is_no_regression_until_it_lasts_longer() {
    let quiet = Scenario { errors: 0.003, share: 1.0, after_s: 1_080, ..quiet() };
    let again = |(before, failed): (i64, f64), (after, fails_now): (i64, f64)| {
        let mut input = simulate(&quiet, 75);
        change(&mut input, "1", (-150, -150 + before), fails(failed));
        change(&mut input, "2", (60, 60 + after), fails(fails_now));
        found(&mut input, SignalKind::ErrorRate)
    };
    for incident in [(3, 0.5), (12, 0.9), (24, 0.5)] {
        assert_eq!(again(incident, incident), None, "{incident:?}");
        let (buckets, failed) = incident;
        let longer = again(incident, (buckets + 20, failed)).expect("it goes on");
        assert!(longer <= 600 + 10 * (buckets as u64 + 8), "{incident:?}: {longer}");
    }
    // None before, one that is worse, and one that is of another kind.
    for (before, after) in [((0, 0.5), (12, 0.5)), ((36, 0.3), (36, 0.9)), ((36, 0.9), (36, 0.1))] {
        let soon = again(before, after).is_some_and(|seconds| seconds <= 700);
        assert!(soon, "{before:?} {after:?}: {:?}", again(before, after));
    }
    // What fails from the first minute on is the deploy's.
    let mut input = simulate(&quiet, 75);
    change(&mut input, "1", (-150, -114), fails(0.9));
    change(&mut input, "2", (0, 60), fails(0.9));
    assert!(found(&mut input, SignalKind::ErrorRate).is_some_and(|seconds| seconds <= 60));
}

#[test]
fn an_incident_that_came_again_and_is_over_is_no_evidence_of_a_blip_after_it() {
    let scenario = Scenario { errors: 0.003, share: 1.0, after_s: 1_500, ..quiet() };
    let with = |blip: (i64, i64), failed: f64, slower: i16| {
        let mut input = simulate(&scenario, 75);
        let spans = [("1", (-150, -138)), ("2", (60, 72))];
        for (version, span) in spans {
            if slower > 0 {
                slow(&mut input, version, span, slower)
            } else {
                change(&mut input, version, span, fails(0.9))
            }
        }
        if slower > 0 {
            slow(&mut input, "2", blip, slower)
        } else {
            change(&mut input, "2", blip, fails(failed))
        }
        looked_at(&mut input, 2)
    };
    let regressed = |told: &[plimsoll_model::Verdict]| told.iter().position(|v| v.verdict == VerdictKind::Regressed);
    for blip in [(90, 91), (102, 103), (102, 104)] {
        let told = with(blip, 0.1, 0);
        assert_eq!(regressed(&told), None, "{blip:?}: {}", told[told.len() - 1].summary);
        assert_eq!(told[told.len() - 1].phase, Phase::Clear, "{blip:?}");
    }
    assert_eq!(regressed(&with((102, 104), 0.0, 37)), None);
    // What lasts after it is told as if it had never come.
    let lasts = regressed(&with((102, 150), 0.1, 0)).expect("it lasts");
    assert!(20 * (lasts as u64 + 1) <= 1_020 + 120, "{lasts}");
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

#[test]
fn an_hourly_batch_that_fails_as_it_always_does_is_no_incident() {
    for (rate, failing) in [(5.0, 0.12), (20.0, 0.2)] {
        let scenario = Scenario { rate, share: 1.0, errors: 0.002, before_s: 3_600, after_s: 1_200, ..quiet() };
        let mut input = simulate(&scenario, 81);
        let batch = |version: &str, from: u64| {
            let cells = (from..from + 6).map(|bucket| {
                let errors = (330.0 * failing) as u64 + (bucket * 7) % 9;
                let mut cell = OperationCell { requests: 330, assembled: 330, errors, ..OperationCell::default() };
                cell.weighted_requests = 330 * WEIGHT_UNIT;
                (0..330).for_each(|n| cell.latency.record(40_000_000 + 60_000 * n));
                (Bucket(bucket), cell)
            });
            let mut key = input.series[0].key.clone();
            (key.version, key.operation) = (version.to_owned(), "invoice process".to_owned());
            (key.kind, key.age) = (OperationKind::Consumer, AgeClass::Warm);
            OperationSeries { key, cells: cells.collect() }
        };
        let batches = [batch("1", START - 270), batch("2", START + 90)];
        input.series.extend(batches);
        let told = looked_at(&mut input, 1);
        let wrong = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
        assert!(wrong.is_none(), "{failing}: {:?}", wrong.map(|verdict| &verdict.summary));
        assert!(!says(&input), "{failing}");
    }
}

#[test]
fn an_hourly_batch_that_begins_slowly_as_it_always_does_is_held_against_the_beginning_of_the_one_before() {
    for (slower, worse) in [(1, false), (4, false), (1, true)] {
        let scenario = Scenario { rate: 5.0, share: 1.0, errors: 0.002, before_s: 3_600, after_s: 1_200, ..quiet() };
        let mut input = simulate(&scenario, 82);
        let batch = |version: &str, from: u64, slower: u64| {
            let cells = (from..from + 6).map(|bucket| {
                let mut cell = OperationCell { requests: 330, assembled: 330, ..OperationCell::default() };
                cell.weighted_requests = 330 * WEIGHT_UNIT;
                let times = if bucket < from + 2 { slower } else { 1 };
                // A long tail.
                let took = |n: u64| 30_000_000 + 400_000_000 / (331 - n);
                (0..330).for_each(|n| cell.latency.record(times * took(n)));
                (Bucket(bucket), cell)
            });
            let mut key = input.series[0].key.clone();
            (key.version, key.operation) = (version.to_owned(), "invoice process".to_owned());
            (key.kind, key.age) = (OperationKind::Consumer, AgeClass::Warm);
            OperationSeries { key, cells: cells.collect() }
        };
        let since = if worse { 4 } else { slower };
        let batches = [batch("1", START - 270, slower), batch("2", START + 90, since)];
        input.series.extend(batches);
        let told = looked_at(&mut input, 1);
        let wrong = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
        assert_eq!(wrong.is_some(), worse, "{slower} {since}: {:?}", wrong.map(|verdict| &verdict.summary));
    }
}
