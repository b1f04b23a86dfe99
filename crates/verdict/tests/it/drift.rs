//! Before/after: what the same hours before did, and what services went through that nobody touched.

use std::collections::BTreeMap;

use plimsoll_model::aggregates::{
    HistoryCell, HistorySeries, MetricHistoryCell, MetricHistoryKey, MetricHistorySeries, Vitals, VitalsSeries,
};
use plimsoll_model::metric::{ExactSum, MetricCell, MetricKey, MetricSeries, MetricShape};
use plimsoll_model::signal::{AgeClass, ExceptionCount, Fingerprint, LOG_UNIT, OperationKind};
use plimsoll_model::{Bucket, Design, Interval, ServiceKey, SignalKind, UnixNanos, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::simulation::{START, Scenario, looked_at, simulate};

/// Replaces version 1 at the start, and everything changes with it.
pub(crate) fn replaced(scenario: &Scenario, seed: u64) -> JudgeInput {
    simulate(&Scenario { share: 1.0, before_s: 1_800, after_s: 900, ..scenario.clone() }, seed)
}

/// Services at 100 requests a bucket: share of failures, milliseconds and share of the traffic, before and after.
pub(crate) fn untouched(number: usize, before: (f64, f64, f64), after: (f64, f64, f64)) -> Vec<VitalsSeries> {
    (0..number)
        .map(|i| VitalsSeries {
            service: ServiceKey::new("prod", format!("other-{i}")),
            until: None,
            cells: (START - 180..START + 90)
                .map(|bucket| {
                    let (errors, ms, traffic) = if bucket < START { before } else { after };
                    let requests = (100.0 * traffic) as u64;
                    let log = (ms * 1e6).ln();
                    let vitals = Vitals {
                        requests,
                        errors: (errors * requests as f64).round() as u64,
                        log_latency_sum: (log * requests as f64 * LOG_UNIT) as i64,
                    };
                    (Bucket(bucket), vitals)
                })
                .collect(),
        })
        .collect()
}

/// The service itself on other days: failures a request and share of the traffic before this hour and after.
pub(crate) fn same_hours(day: u64, width_s: u32, before: (f64, f64), after: (f64, f64)) -> HistorySeries {
    let (start, width) = (START * 10, u64::from(width_s));
    let cells = (0..5_400 / width)
        .map(|i| start / width * width - 1_800 / width * width + i * width)
        .map(|second| {
            let (errors, traffic) = if second < start { before } else { after };
            let requests = (100.0 * width as f64 * traffic) as u64;
            let log = (50.0 * 1e6_f64).ln();
            let cell = HistoryCell {
                requests,
                errors: (errors * requests as f64) as u64,
                log_latency_sum: (log * requests as f64 * LOG_UNIT) as i64,
                ..HistoryCell::default()
            };
            (UnixNanos::from_secs(second - day * 86_400), cell)
        })
        .collect();
    HistorySeries { operation: "GET /0".to_owned(), kind: OperationKind::Server, width_s, cells }
}

/// A queue, one point a minute, as `level` says by seconds since the start.
fn queue(version: &str, level: impl Fn(i64) -> f64, minutes: std::ops::Range<u64>) -> MetricSeries {
    let cells = minutes.map(|minute| {
        // Not the same every minute: a twentieth either way.
        let noise = 1.0 + 0.1 * (((minute.wrapping_mul(2_654_435_761) >> 7) % 1_000) as f64 / 1_000.0 - 0.5);
        let value = level((minute * 60).cast_signed() - (START * 10).cast_signed()) * noise;
        let cell = MetricCell { points: 1, count: 1, sum: ExactSum::of(value), ..MetricCell::default() };
        (Bucket(minute * 6), cell)
    });
    MetricSeries {
        key: MetricKey {
            service: crate::simulation::service(),
            version: version.to_owned(),
            age: AgeClass::Warm,
            name: "worker.queue.size".to_owned(),
            unit: "{job}".to_owned(),
            shape: MetricShape::Gauge,
            attributes: BTreeMap::new(),
        },
        cells: cells.collect(),
    }
}

/// The queue on another day, in buckets of ten minutes.
fn queue_then(day: u64, level: impl Fn(i64) -> f64) -> MetricHistorySeries {
    let start = START * 10;
    let cells = (0..12).map(|i| start / 600 * 600 - 3_600 + i * 600).map(|second| {
        let value = level(second.cast_signed() - start.cast_signed());
        let cell = MetricHistoryCell { points: 10, count: 10, sum: ExactSum::of(10.0 * value) };
        (UnixNanos::from_secs(second - day * 86_400), cell)
    });
    let MetricKey { name, unit, shape, attributes, .. } = queue("1", |_| 0.0, 0..0).key;
    let metric = MetricHistoryKey { name, unit, shape, attributes };
    MetricHistorySeries { metric, width_s: 600, cells: cells.collect() }
}

pub(crate) fn says(verdict: &Verdict, word: &str) -> bool {
    verdict.data_quality.iter().any(|said| said == word)
}

#[test]
fn an_outage_that_untouched_services_share_is_not_the_deploys_fault() {
    for (errors, effect) in [(0.01, 8.0), (0.0, 1.0)] {
        let mut input = replaced(&Scenario { errors, error_effect: effect, ..Scenario::default() }, 21);
        if errors == 0.0 {
            // From none at all: whatever all depend on is down.
            for series in input.series.iter_mut().filter(|series| series.key.version == "2") {
                series.cells.iter_mut().for_each(|(_, cell)| cell.errors = cell.requests / 12);
            }
        }
        let alone = judge(&input);
        assert_eq!((alone.verdict, alone.design), (VerdictKind::Regressed, Design::BeforeAfter), "{}", alone.summary);

        let (usual, ill) = ((errors, 50.0, 1.0), (0.08, 50.0, 1.0));
        input.untouched = untouched(4, usual, ill);
        let shared = judge(&input);
        assert_eq!(shared.verdict, VerdictKind::Inconclusive, "{}", shared.summary);
        assert!(says(&shared, quality::SHARED_SHIFT), "{:?}", shared.data_quality);
        assert_eq!(shared.comparison.untouched.len(), 4);

        input.untouched = untouched(4, usual, usual);
        let steady = judge(&input);
        assert_eq!(steady.verdict, VerdictKind::Regressed, "{}", steady.summary);
        assert!(!says(&steady, quality::SHARED_SHIFT));

        // One of many is ill by itself, and one alone may be as well.
        input.untouched = untouched(3, usual, usual);
        input.untouched.extend(untouched(1, usual, ill));
        assert_eq!(judge(&input).verdict, VerdictKind::Regressed);
        input.untouched = untouched(1, usual, ill);
        assert_eq!(judge(&input).verdict, VerdictKind::Regressed);
    }
}

#[test]
fn news_of_which_a_shared_outage_does_not_account_for_are_told() {
    for (ill, thrown, told) in [(0.03, 0.2, true), (0.5, 0.2, false), (0.01, 0.2, true)] {
        let mut input = replaced(&Scenario { errors: 0.01, rate: 20.0, ..Scenario::default() }, 21);
        for series in input.series.iter_mut().filter(|series| series.key.version == "2") {
            for (_, cell) in &mut series.cells {
                let thrown = ExceptionCount {
                    exception_type: "java.lang.NullPointerException".to_owned(),
                    message: "cart is null".to_owned(),
                    count: (thrown * cell.requests as f64) as u64,
                };
                cell.exceptions.insert(Fingerprint(81), thrown);
            }
        }
        input.untouched = untouched(4, (0.01, 50.0, 1.0), (ill, 50.0, 1.0));
        let verdict = judge(&input);
        let found = verdict.findings.iter().any(|finding| finding.signal == SignalKind::NewException);
        assert_eq!((found, verdict.verdict == VerdictKind::Regressed), (told, told), "{ill}: {}", verdict.summary);
    }
}

#[test]
fn what_exceeds_the_shared_outage_is_still_found() {
    let mut input = replaced(&Scenario { error_effect: 30.0, ..Scenario::default() }, 22);
    input.untouched = untouched(4, (0.01, 50.0, 1.0), (0.03, 50.0, 1.0));
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
}

#[test]
fn slowness_that_all_share_is_excused_and_more_than_that_is_not() {
    let mut input = replaced(&Scenario { latency_effect: 1.6, ..Scenario::default() }, 23);
    assert_eq!(judge(&input).verdict, VerdictKind::Regressed);
    input.untouched = untouched(3, (0.01, 50.0, 1.0), (0.01, 80.0, 1.0));
    let verdict = judge(&input);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let mut input = replaced(&Scenario { latency_effect: 3.5, ..Scenario::default() }, 23);
    input.untouched = untouched(3, (0.01, 50.0, 1.0), (0.01, 80.0, 1.0));
    assert_eq!(judge(&input).verdict, VerdictKind::Regressed);
}

#[test]
fn the_same_hours_before_excuse_what_they_always_do() {
    // Monday at nine: errors triple with the load, as they did a week ago and not yesterday.
    let mut input = replaced(&Scenario { error_effect: 3.0, ..Scenario::default() }, 24);
    assert_eq!(judge(&input).verdict, VerdictKind::Regressed);
    let yesterday = same_hours(1, 60, (0.01, 1.0), (0.01, 1.0));
    input.aggregates.history = vec![yesterday.clone()];
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert_eq!(verdict.comparison.same_hours_days, [1]);
    input.aggregates.history.push(same_hours(7, 600, (0.01, 1.0), (0.03, 1.0)));
    let verdict = judge(&input);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert_eq!(verdict.comparison.same_hours_days, [1, 7]);
    assert!(says(&verdict, quality::SEASONAL_SHIFT), "{:?}", verdict.data_quality);
}

#[test]
fn traffic_that_ebbs_as_it_does_every_day_is_no_loss() {
    let ebb = |history: Vec<HistorySeries>, others: Vec<VitalsSeries>| {
        let mut input = replaced(&Scenario::default(), 25);
        for series in input.series.iter_mut().filter(|series| series.key.version == "2") {
            for (_, cell) in &mut series.cells {
                cell.requests /= 4;
                cell.errors /= 4;
                cell.latency.0.values_mut().for_each(|n| *n = n.div_ceil(4));
                cell.log_latency_sum /= 4;
                cell.log_latency_sum_sq /= 4;
            }
        }
        input.aggregates.history = history;
        input.untouched = others;
        judge(&input)
    };
    let steady = untouched(3, (0.01, 50.0, 1.0), (0.01, 50.0, 1.0));
    let lost = ebb(Vec::new(), steady);
    assert_eq!(lost.verdict, VerdictKind::Regressed, "{}", lost.summary);
    assert_ne!(ebb(vec![same_hours(1, 60, (0.01, 1.0), (0.01, 0.25))], Vec::new()).verdict, VerdictKind::Regressed);
    let others = untouched(3, (0.01, 50.0, 1.0), (0.01, 50.0, 0.25));
    assert_ne!(ebb(Vec::new(), others).verdict, VerdictKind::Regressed);
}

#[test]
fn a_day_on_which_the_service_was_changed_excuses_nothing() {
    let mut input = replaced(&Scenario { error_effect: 3.0, ..Scenario::default() }, 24);
    input.aggregates.history = vec![same_hours(7, 600, (0.01, 1.0), (0.03, 1.0))];
    let week_ago = (START * 10) - 7 * 86_400;
    // What was harmed by its own deploy then is no season; a deploy of another hour has nothing to do with it.
    for (second, expected) in [(week_ago + 60, true), (week_ago - 1_200, true), (week_ago - 6 * 3_600, false)] {
        input.changed_at = [UnixNanos::from_secs(second)].into();
        let verdict = judge(&input);
        assert_eq!(verdict.verdict == VerdictKind::Regressed, expected, "{}", verdict.summary);
        assert_eq!(verdict.comparison.same_hours_days.is_empty(), expected);
        assert_eq!(says(&verdict, quality::SEASON_CHANGED), expected, "{:?}", verdict.data_quality);
    }
}

#[test]
fn a_level_that_rises_at_this_hour_every_day_is_excused_and_more_than_that_is_not() {
    let start = START / 6;
    let scenario = Scenario { share: 1.0, errors: 0.002, before_s: 3_600, after_s: 1_500, ..Scenario::default() };
    let judged = |times: f64, past: Vec<MetricHistorySeries>, changed: Option<u64>| {
        let mut input = simulate(&scenario, 26);
        input.aggregates.metrics =
            vec![queue("1", |_| 100.0, start - 60..start), queue("2", |_| 100.0 * times, start..start + 25)];
        input.aggregates.metric_history = past;
        input.changed_at.extend(changed.map(UnixNanos::from_secs));
        judge(&input)
    };
    let of_metric = |verdict: &Verdict| verdict.findings.iter().any(|f| f.signal == SignalKind::Metric);
    let rises = |from: f64, times: f64| move |second: i64| if second < 0 { from } else { from * times };

    let alone = judged(2.0, Vec::new(), None);
    assert!(of_metric(&alone), "{}", alone.summary);
    assert!(!says(&alone, quality::SEASONAL_SHIFT));
    // A day on which nothing happened changes nothing.
    let calm = judged(2.0, vec![queue_then(1, rises(100.0, 1.0))], None);
    assert!(of_metric(&calm), "{}", calm.summary);
    assert_eq!((calm.comparison.same_hours_days.as_slice(), says(&calm, quality::SEASONAL_SHIFT)), (&[1][..], false));
    // A week ago it doubled at this hour, at half the load of today: as many times as much is excused.
    for past in [queue_then(7, rises(100.0, 2.0)), queue_then(7, rises(50.0, 2.0))] {
        let season = judged(2.0, vec![past.clone()], None);
        assert!(!of_metric(&season), "{}", season.summary);
        assert!(says(&season, quality::SEASONAL_SHIFT), "{:?}", season.data_quality);
        assert!(of_metric(&judged(4.0, vec![past.clone()], None)), "twice what it does every day");
        // What happened then was that day's own deploy.
        let changed = judged(2.0, vec![past], Some(START * 10 - 7 * 86_400 + 60));
        assert!(of_metric(&changed) && says(&changed, quality::SEASON_CHANGED), "{:?}", changed.data_quality);
    }
    // It fell: that excuses no rise.
    assert!(of_metric(&judged(2.0, vec![queue_then(1, rises(100.0, 0.5))], None)));
    // What yesterday alone did, a week ago not, is no season; what a week ago did and both did is.
    let both = |yesterday: f64, week_ago: f64, times: f64| {
        let past = vec![queue_then(1, rises(100.0, yesterday)), queue_then(7, rises(100.0, week_ago))];
        of_metric(&judged(times, past, None))
    };
    assert!(both(2.0, 1.0, 2.0), "an incident of yesterday");
    assert!(!both(1.0, 2.0, 2.0), "the same weekday");
    assert!(!both(6.0, 6.0, 6.0), "as ever");
    // One day alone excuses no more than four times the level.
    assert!(of_metric(&judged(6.0, vec![queue_then(7, rises(100.0, 6.0))], None)));
    assert!(both(1.0, 6.0, 6.0) && !both(3.5, 6.0, 4.0));
}

/// Three services that fail half of the requests for half a minute, each at its own times: every five minutes.
fn bursts() -> Vec<VitalsSeries> {
    let mut all = untouched(3, (0.0, 10.0, 1.0), (0.0, 10.0, 1.0));
    for (number, series) in all.iter_mut().enumerate() {
        for (bucket, vitals) in &mut series.cells {
            let phase = (bucket.0 + [0, 3, 17][number] + bucket.0 / 30 * 4 * (1 + number as u64)) % 30;
            vitals.errors = if phase < 3 { vitals.requests / 2 } else { 0 };
        }
    }
    all
}

#[test]
fn services_that_fail_each_for_itself_neither_keep_a_deploy_from_passing_nor_excuse_it() {
    let judged = |effect: f64| {
        let mut input = replaced(&Scenario { errors: 0.002, error_effect: effect, ..Scenario::default() }, 71);
        input.untouched = bursts();
        judge(&input)
    };
    let verdict = judged(1.0);
    assert_eq!(verdict.verdict, VerdictKind::Pass, "{}", verdict.summary);
    assert!(!says(&verdict, quality::SHARED_SHIFT));
    assert_eq!(judged(7.0).verdict, VerdictKind::Regressed);
}

#[test]
fn an_outage_that_is_over_keeps_no_deploy_from_passing() {
    let judged = |until: u64| {
        let mut input = replaced(&Scenario { errors: 0.002, ..Scenario::default() }, 72);
        input.untouched = untouched(3, (0.0, 10.0, 1.0), (0.3, 10.0, 1.0));
        for (bucket, vitals) in input.untouched.iter_mut().flat_map(|series| &mut series.cells) {
            vitals.errors = if bucket.0 < until { vitals.errors } else { 0 };
        }
        judge(&input)
    };
    let over = judged(START + 12);
    assert!(says(&over, quality::SHARED_SHIFT));
    assert_eq!(over.verdict, VerdictKind::Pass, "{}", over.summary);
    assert_eq!(judged(START + 90).verdict, VerdictKind::Inconclusive);
}

#[test]
fn a_gap_in_everything_is_no_season_and_no_loss() {
    let mut input = replaced(&Scenario { errors: 0.002, ..Scenario::default() }, 71);
    let gap = START + 6..START + 40;
    for series in &mut input.series {
        series.cells.retain(|(bucket, _)| !gap.contains(&bucket.0));
    }
    let told = |input: &JudgeInput| looked_at(&mut input.clone(), 3);
    let lost = |told: &[Verdict]| told.iter().any(|verdict| verdict.verdict == VerdictKind::Regressed);
    assert!(lost(&told(&input)), "of one that is alone it is a loss");
    let mut others = untouched(3, (0.0, 20.0, 1.0), (0.0, 20.0, 1.0));
    for series in &mut others {
        series.cells.retain(|(bucket, _)| !gap.contains(&bucket.0));
    }
    let shared = told(&JudgeInput { untouched: others, ..input.clone() });
    input.gaps = vec![Interval { from: Bucket(gap.start).start(), to: Bucket(gap.end).start() }];
    for told in [shared, told(&input)] {
        assert!(!lost(&told));
        let verdict = &told[told.len() - 1];
        assert_eq!(verdict.verdict, VerdictKind::Pass, "{}", verdict.summary);
        assert!(says(verdict, quality::TELEMETRY_GAP), "{:?}", verdict.data_quality);
        assert!(!says(verdict, quality::SEASONAL_SHIFT), "{:?}", verdict.data_quality);
    }
}
