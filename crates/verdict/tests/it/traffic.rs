//! How much traffic there is, and who gets it: falls that the past knows, and canaries that get another share than was meant.

use plimsoll_model::drill::{AttributeValue, Outcome};
use plimsoll_model::signal::OperationCell;
use plimsoll_model::{Bucket, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::{judge, quality};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::drift::says;
use crate::simulation::{START, Scenario, looked_at, simulate};

/// Leaves a twentieth of the requests.
fn thin(cell: &mut OperationCell) {
    cell.requests /= 20;
    cell.errors /= 20;
    cell.assembled = cell.requests;
    cell.latency.0.values_mut().for_each(|n| *n /= 20);
    cell.latency.0.retain(|_, n| *n > 0);
    cell.log_latency_sum /= 20;
    cell.log_latency_sum_sq /= 20;
}

#[test]
fn a_fall_of_traffic_as_the_past_shows_without_a_deploy_is_none_and_one_beyond_it_is() {
    let judged = |before: bool, lasts: u64| {
        let scenario = Scenario { share: 1.0, errors: 0.0, before_s: 3_600, after_s: 1_700, ..Scenario::default() };
        let mut input = simulate(&scenario, 51);
        for (bucket, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells) {
            let fell = (START - 180..START - 144).contains(&bucket.0);
            let falls = (START + 12..START + 12 + lasts).contains(&bucket.0);
            if fell && before || falls {
                thin(cell);
            }
        }
        let told = looked_at(&mut input, 6);
        let bad = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed).cloned();
        if let (Some(last), true) = (told.last(), bad.is_some()) {
            // It says with what it was found, though it is over.
            assert!(last.findings[0].p_value <= 0.5, "{}: {}", last.findings[0].p_value, last.summary);
        }
        bad.inspect(|verdict| assert_eq!(verdict.findings[0].signal, SignalKind::Throughput, "{}", verdict.summary))
    };
    let new = judged(false, 36).expect("nothing like it was there");
    assert!(new.findings[0].p_value <= 1.0 / 45.0, "it is the first of many: {}", new.findings[0].p_value);
    assert!(judged(true, 36).is_none(), "six minutes of it half an hour before");
    assert!(judged(true, 150).is_some(), "it lasts longer than ever before");
}

#[test]
fn traffic_that_comes_and_goes_by_itself_within_the_hour_is_no_loss() {
    // Forty minutes of every hour, or a level that wanders by factors; one deploy at any time of it.
    for wanders in [false, true] {
        let mut lost = Vec::new();
        for seed in 0..150_u64 {
            let scenario =
                Scenario { share: 1.0, errors: 0.0, rate: 4.0, before_s: 3_600, after_s: 1_790, ..Scenario::default() };
            let mut input = simulate(&scenario, 9_000 + seed);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (offset, mut wandered) = (rng.random_range(0..60), 0.0_f64);
            let levels: Vec<f64> = (0..90)
                .map(|minute| {
                    let step: f64 = (0..12).map(|_| rng.random_range(-0.5..0.5)).sum();
                    wandered = 0.9 * wandered + 0.35 * step;
                    let on = (minute + offset) % 60 < 40;
                    if wanders {
                        wandered.exp().min(5.0)
                    } else if on {
                        1.0
                    } else {
                        0.1
                    }
                })
                .collect();
            for series in &mut input.series {
                for (bucket, cell) in &mut series.cells {
                    let level = levels[(bucket.0 - (START - 360)) as usize / 6];
                    cell.requests = (10.0 * cell.requests as f64 * level).round() as u64;
                    cell.assembled = cell.requests;
                }
                series.cells.retain(|(_, cell)| cell.requests > 0);
            }
            if judge(&input).verdict == VerdictKind::Regressed {
                lost.push(seed);
            }
        }
        // One in a hundred is what may be called regressed.
        assert!(lost.len() <= 1, "wanders: {wanders}: {lost:?}");
    }
}

#[test]
fn a_canary_that_gets_another_share_than_its_marker_says_is_held() {
    let judged = |weight: &str, share: f64| {
        let mut input = simulate(&Scenario { share, errors: 0.001, after_s: 900, ..Scenario::default() }, 52);
        input.deploy.attributes.insert("canary.weight".to_owned(), weight.to_owned());
        looked_at(&mut input, 6)
    };
    for (weight, share) in [("20", 0.05), ("10", 0.5), ("10, 25, 50", 0.03)] {
        let told = judged(weight, share);
        let last = &told[told.len() - 1];
        assert!(says(last, quality::SAMPLE_RATIO), "{weight} at {share}: {:?}", last.data_quality);
        assert!(told.iter().all(|verdict| verdict.verdict == VerdictKind::Inconclusive), "{}", last.summary);
        assert!(last.summary.contains("are meant for it"), "{}", last.summary);
        assert!(last.time_to_decide_s.is_none());
    }
    for (weight, share) in [("5", 0.05), ("5", 0.06), ("5,25,50", 0.3), ("100", 0.5), ("ten", 0.5)] {
        let told = judged(weight, share);
        let last = &told[told.len() - 1];
        assert!(!says(last, quality::SAMPLE_RATIO), "{weight} at {share}");
        assert_eq!(last.verdict, VerdictKind::Pass, "{weight} at {share}: {}", last.summary);
    }
}

#[test]
fn a_share_that_varies_by_itself_or_is_still_building_up_is_no_mismatch() {
    let judged = |share_at: &dyn Fn(u64) -> f64| {
        let mut input = simulate(&Scenario { share: 0.5, errors: 0.001, after_s: 900, ..Scenario::default() }, 53);
        input.deploy.attributes.insert("canary.weight".to_owned(), "10".to_owned());
        for series in &mut input.series {
            let candidate = series.key.version == "2";
            for (bucket, cell) in series.cells.iter_mut().filter(|(bucket, _)| bucket.0 >= START) {
                let part = 2.0 * if candidate { share_at(bucket.0 - START) } else { 1.0 - share_at(bucket.0 - START) };
                cell.requests = (cell.requests as f64 * part) as u64;
                cell.errors = cell.errors.min(cell.requests);
            }
        }
        looked_at(&mut input, 6)
    };
    let noisy = judged(&|since| if since / 2 % 2 == 0 { 0.04 } else { 0.16 });
    assert!(noisy.iter().all(|verdict| !says(verdict, quality::SAMPLE_RATIO)));
    let building_up = judged(&|since| 0.1 * (since as f64 / 6.0).min(1.0));
    assert!(building_up.iter().all(|verdict| !says(verdict, quality::SAMPLE_RATIO)));
    let starved = judged(&|since| if since < 20 { 0.1 } else { 0.02 });
    assert!(says(&starved[starved.len() - 1], quality::SAMPLE_RATIO), "it lost its share on the way");
}

#[test]
fn a_canary_that_is_promoted_to_all_gets_more_than_its_share_and_is_held_no_longer() {
    // A tenth as it was meant, then half for two minutes, and all from the seventh minute on; or finished there.
    let judged = |promoted: bool, finished: bool| {
        let mut input =
            simulate(&Scenario { share: 0.5, errors: 0.005, before_s: 900, after_s: 1_500, ..Scenario::default() }, 54);
        input.deploy.attributes.insert("canary.weight".to_owned(), "10".to_owned());
        input.deploy.finished_at = finished.then(|| Bucket(START + 42).start());
        for series in &mut input.series {
            let candidate = series.key.version == "2";
            for (bucket, cell) in series.cells.iter_mut().filter(|(bucket, _)| bucket.0 >= START) {
                let share = match bucket.0 - START {
                    ..30 => 0.1,
                    42.. if promoted => 1.0,
                    _ => 0.5,
                };
                let part = 2.0 * if candidate { share } else { 1.0 - share };
                (cell.requests, cell.errors) =
                    ((cell.requests as f64 * part) as u64, (cell.errors as f64 * part) as u64);
            }
            series.cells.retain(|(_, cell)| cell.requests > 0);
        }
        looked_at(&mut input, 6)
    };
    for (promoted, finished) in [(true, false), (true, true), (false, true)] {
        let told = judged(promoted, finished);
        assert!(told[..7].iter().any(|verdict| says(verdict, quality::SAMPLE_RATIO)), "half of it is too much");
        let last = &told[told.len() - 1];
        assert!(!says(last, quality::SAMPLE_RATIO), "{promoted} {finished}: {}", last.summary);
        assert_eq!(last.verdict, VerdictKind::Pass, "{promoted} {finished}: {}", last.summary);
    }
    let told = judged(false, false);
    assert!(says(&told[told.len() - 1], quality::SAMPLE_RATIO), "it goes on");
}

#[test]
fn slow_requests_that_share_a_value_are_told_by_it() {
    let judged = |slow_in: &str| {
        let mut input =
            simulate(&Scenario { share: 0.5, latency_effect: 1.4, after_s: 600, ..Scenario::default() }, 54);
        for series in &mut input.series {
            let candidate = series.key.version == "2";
            for (_, cell) in &mut series.cells {
                // A fifth of the requests comes from the south; what the candidate takes longer is theirs, or everybody's.
                let usual = (50.0e6_f64).ln() * plimsoll_model::signal::LOG_UNIT;
                let south = cell.requests / 5;
                let rest = cell.requests - south;
                let (sum, grown) = (cell.log_latency_sum, cell.log_latency_sum - (usual * cell.requests as f64) as i64);
                let of_south = match (candidate, slow_in) {
                    (true, "south") => (usual * south as f64) as i64 + grown,
                    _ => sum / 5,
                };
                for (value, requests, log_latency_sum) in [("south", south, of_south), ("north", rest, sum - of_south)]
                {
                    let value = AttributeValue { attribute: "cloud.region".to_owned(), value: value.to_owned() };
                    cell.values.insert(value, Outcome { requests, errors: 0, log_latency_sum });
                }
            }
        }
        let verdict = judge(&input);
        let found =
            verdict.findings.iter().find(|finding| finding.signal == SignalKind::Latency).expect("it is slow").clone();
        found.summary
    };
    let south = judged("south");
    assert!(south.contains("when `cloud.region=south`"), "{south}");
    assert!(!judged("everywhere").contains("cloud.region"));
}

#[test]
fn a_rollout_that_begins_in_the_worse_zone_is_no_regression_and_one_that_is_worse_there_is() {
    // Zone `b` fails four percent and is slow; the candidate is served from there alone, the control from both.
    let judged = |failing: f64, slower: f64| {
        let scenario = Scenario { share: 0.3, errors: 0.0, after_s: 900, ..Scenario::default() };
        let mut input = simulate(&scenario, 55);
        for series in &mut input.series {
            let candidate = series.key.version == "2";
            for (bucket, cell) in &mut series.cells {
                let b = if candidate { cell.requests } else { cell.requests / 2 };
                // Whole failures, spread as evenly as they go.
                let at = |n: u64| (n as f64 * b as f64 * if candidate { failing } else { 0.04 }) as u64;
                cell.errors = at(bucket.0 + 1) - at(bucket.0);
                let growth = if candidate { 1.8 * slower } else { 1.8 };
                let shift = (growth.log2() * 16.0).round() as i16;
                let mut seen = std::collections::BTreeMap::new();
                for (place, (index, n)) in cell.latency.0.iter().enumerate() {
                    let moved = if candidate { *n } else { (n + place as u64 % 2) / 2 };
                    *seen.entry(index + shift).or_insert(0) += moved;
                    *seen.entry(*index).or_insert(0) += n - moved;
                }
                seen.retain(|_, n| *n > 0);
                cell.latency.0 = seen;
                let usual = cell.log_latency_sum / cell.requests.max(1) as i64;
                let more = (growth.ln() * plimsoll_model::signal::LOG_UNIT) as i64;
                for (zone, requests, errors, log) in
                    [("a", cell.requests - b, 0, usual), ("b", b, cell.errors, usual + more)]
                {
                    let value =
                        AttributeValue { attribute: "cloud.availability_zone".to_owned(), value: zone.to_owned() };
                    let outcome = Outcome { requests, errors, log_latency_sum: log * requests as i64 };
                    cell.values.insert(value, outcome);
                }
                cell.values.retain(|_, outcome| outcome.requests > 0);
                cell.log_latency_sum = cell.values.values().map(|outcome| outcome.log_latency_sum).sum();
            }
        }
        let told = looked_at(&mut input, 6);
        assert!(says(&told[told.len() - 1], quality::ZONE_SHIFT));
        told.into_iter().find(|verdict| verdict.verdict == VerdictKind::Regressed)
    };
    let harmless = judged(0.04, 1.0);
    assert!(harmless.is_none(), "{:?}", harmless.map(|verdict| verdict.summary));
    let signal = |verdict: Option<Verdict>| verdict.expect("worse in its own zone").findings[0].signal;
    assert_eq!(signal(judged(0.10, 1.0)), SignalKind::ErrorRate);
    assert_eq!(signal(judged(0.04, 1.6)), SignalKind::Latency);
}
