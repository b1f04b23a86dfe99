//! A candidate that is served from other zones than its control: what a zone does is nobody's fault, and hides nobody's.

use std::collections::BTreeMap;

use plimsoll_model::drill::{AttributeValue, Outcome};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Finding, SignalKind, Verdict, VerdictKind};

use crate::simulation::{START, Scenario, looked_at, simulate};

/// Where the arms are served from since the start; before it both zones have half of the traffic.
#[derive(Clone, Copy)]
struct Served {
    /// Share of each arm, candidate and control, in zone `b`.
    in_b: [f64; 2],
}

/// Judges every minute a deploy that fails as `failing` says by zone, bucket since the start and whether it is the candidate.
fn judged(served: Served, failing: impl Fn(char, i64, bool) -> f64) -> Vec<Verdict> {
    let scenario = Scenario { rate: 40.0, share: 0.25, errors: 0.0, instances: false, ..Scenario::default() };
    let mut input = simulate(&Scenario { before_s: 3_000, after_s: 900, ..scenario }, 81);
    // Whole failures, spread as evenly as they go.
    let mut due: BTreeMap<(bool, char), f64> = BTreeMap::new();
    for series in &mut input.series {
        let candidate = series.key.version == "2";
        for (bucket, cell) in &mut series.cells {
            let since = bucket.0 as i64 - START as i64;
            let in_b = if since < 0 { 0.5 } else { served.in_b[usize::from(!candidate)] };
            let b = (cell.requests as f64 * in_b).round() as u64;
            cell.errors = 0;
            for (zone, requests) in [('a', cell.requests - b), ('b', b)].into_iter().filter(|(_, n)| *n > 0) {
                let due = due.entry((candidate, zone)).or_default();
                *due += requests as f64 * failing(zone, since, candidate);
                let errors = due.floor().min(requests as f64);
                *due -= errors;
                cell.errors += errors as u64;
                let name = AttributeValue { attribute: "zone".to_owned(), value: zone.to_string() };
                let log_latency_sum = cell.log_latency_sum / cell.requests as i64 * requests as i64;
                cell.values.insert(name, Outcome { requests, errors: errors as u64, log_latency_sum });
            }
        }
    }
    looked_at(&mut input, 6)
}

/// The candidate is served from zone `b` alone, the control from both.
const BEGINS_IN_B: Served = Served { in_b: [1.0, 1.0 / 3.0] };

fn seconds_to_regressed(told: &[Verdict]) -> Option<usize> {
    told.iter().position(|verdict| verdict.verdict == VerdictKind::Regressed).map(|minutes| 60 * (minutes + 1))
}

#[test]
fn a_zone_that_goes_bad_while_the_rollout_is_there_is_not_the_deploys_fault() {
    let told = judged(BEGINS_IN_B, |zone, since, _| if zone == 'b' && since >= 12 { 0.10 } else { 0.002 });
    for verdict in told {
        assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    }
}

#[test]
fn an_outage_of_a_zone_in_the_hour_before_hides_no_regression_there() {
    let told = judged(BEGINS_IN_B, |zone, since, candidate| match (zone, since, candidate) {
        ('b', -180..-60, _) => 0.20,
        (_, _, true) => 0.032,
        _ => 0.002,
    });
    assert!(seconds_to_regressed(&told).is_some_and(|seconds| seconds <= 60), "{}", told[told.len() - 1].summary);
    let over = told.iter().find(|verdict| verdict.phase == Phase::Recovered);
    assert!(over.is_none(), "it fails on: {}", over.map_or("", |verdict| &verdict.summary));
}

#[test]
fn a_regression_in_the_better_zone_is_not_hidden_by_the_worse_one() {
    let begins_in_a = Served { in_b: [0.0, 2.0 / 3.0] };
    let told = judged(begins_in_a, |zone, _, candidate| match (zone, candidate) {
        ('b', _) => 0.06,
        (_, true) => 0.032,
        _ => 0.002,
    });
    assert!(seconds_to_regressed(&told).is_some_and(|seconds| seconds <= 180), "{}", told[told.len() - 1].summary);
}

#[test]
fn what_only_the_past_of_a_zone_excuses_is_no_health() {
    let apart = Served { in_b: [1.0, 0.0] };
    let told = judged(apart, |zone, _, _| if zone == 'b' { 0.05 } else { 0.002 });
    for verdict in told {
        assert_eq!(verdict.verdict, VerdictKind::Inconclusive, "{}", verdict.summary);
    }
}

#[test]
fn more_regions_than_are_kept_tell_nothing_of_where_a_version_is_served() {
    // Five regions have most of the traffic and hardly fail; the others, too many to be kept, are named for their failures.
    let scenario = Scenario { rate: 60.0, share: 0.2, errors: 0.0, instances: false, ..Scenario::default() };
    let mut input = simulate(&Scenario { before_s: 3_000, after_s: 900, ..scenario }, 83);
    let mut seed = 7_u64;
    let mut drawn = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for series in &mut input.series {
        let candidate = series.key.version == "2";
        for (bucket, cell) in &mut series.cells {
            let worse = candidate && bucket.0 >= START;
            cell.errors = 0;
            let mut by_region: BTreeMap<u64, Outcome> = BTreeMap::new();
            for _ in 0..cell.requests {
                let head = drawn(10) < 7;
                let region = if head { drawn(5) } else { 5 + drawn(45) };
                let failing = if head { 1 } else { 40 } + if worse { 15 } else { 0 };
                let failed = u64::from(drawn(1_000) < failing);
                cell.errors += failed;
                by_region.entry(region).or_default().merge(&Outcome {
                    requests: 1,
                    errors: failed,
                    log_latency_sum: 0,
                });
            }
            let mut kept: Vec<_> = by_region.into_iter().collect();
            kept.sort_by_key(|(_, outcome)| std::cmp::Reverse(outcome.requests + 15 * outcome.errors));
            for (at, (region, outcome)) in kept.into_iter().enumerate() {
                let value = if at < 12 { format!("r{region}") } else { "{other}".to_owned() };
                let value = AttributeValue { attribute: "region".to_owned(), value };
                cell.values.entry(value).or_default().merge(&outcome);
            }
        }
    }
    let told = looked_at(&mut input, 6);
    let found = seconds_to_regressed(&told).expect("it fails twice as often");
    assert!(found <= 300, "{found} s");
    assert!(!told[14].data_quality.iter().any(|word| word == "zone_shift"), "{:?}", told[14].data_quality);
}

/// Judges a deploy that fails more, and returns its finding of failed requests.
fn found(served: Served) -> Finding {
    let told = judged(served, |zone, _, candidate| match (zone, candidate) {
        ('b', false) => 0.06,
        ('b', true) => 0.12,
        (_, true) => 0.032,
        _ => 0.002,
    });
    let last = told[told.len() - 1].clone();
    assert_eq!(last.verdict, VerdictKind::Regressed, "{}", last.summary);
    last.findings.into_iter().find(|finding| finding.signal == SignalKind::ErrorRate).expect("it fails more")
}

#[test]
fn a_finding_states_what_the_control_fails_in_the_zones_that_the_candidate_serves() {
    for (in_b, expected, among) in [(0.0, 0.002, "IN ('a')"), (0.1, 0.9 * 0.002 + 0.1 * 0.06, "IN ('a', 'b')")] {
        let finding = found(Served { in_b: [in_b, 2.0 / 3.0] });
        let Finding { baseline, candidate, effect, interval, explanation, .. } = &finding;
        assert!((baseline.value - expected).abs() < 0.1 * expected, "{baseline:?} {}", finding.summary);
        assert_eq!(finding.explanation.against, "on 1 in the zones that it serves", "{}", finding.summary);
        // What is told agrees with itself: the totals lie where the comparison bucket by bucket says.
        assert!(interval[0] > 2.0 && interval[0] < 0.9 * effect && interval[1] > 1.1 * effect, "{}", finding.summary);
        let split = explanation.split.expect("both arms served");
        let difference = candidate.value - baseline.value;
        assert!((split.within + split.mix - difference).abs() < 1e-9, "{split:?} {difference}");
        assert!(
            finding.sql.contains(&format!("entry['attribute'] = 'zone' AND entry['value'] {among}")),
            "{}",
            finding.sql
        );
    }
}

#[test]
fn where_both_arms_are_served_alike_a_finding_states_all_of_the_control() {
    let finding = found(Served { in_b: [0.5, 0.5] });
    assert_eq!(finding.explanation.against, "on 1", "{}", finding.summary);
    assert!((finding.baseline.value - 0.031).abs() < 0.002, "{}", finding.summary);
    assert!(!finding.sql.contains("entry"), "{}", finding.sql);
}
