//! Services without spans, and services whose spans were sampled.

use std::collections::BTreeMap;

use plimsoll_model::metric::{ExactSum, MetricCell, MetricKey, MetricSeries, MetricShape};
use plimsoll_model::signal::{AgeClass, Histogram, WEIGHT_UNIT};
use plimsoll_model::{Bucket, Design, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::simulation::{START, Scenario, service, simulate};

/// Buckets by which nanoseconds and seconds differ.
const SECONDS: i16 = 478;

fn key(name: &str, unit: &str, shape: MetricShape, version: &str, attributes: &[(&str, &str)]) -> MetricKey {
    MetricKey {
        service: service(),
        version: version.to_owned(),
        age: AgeClass::Warm,
        name: name.to_owned(),
        unit: unit.to_owned(),
        shape,
        attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

/// The same service, exporting request metrics once a minute in place of spans.
fn without_spans(scenario: &Scenario, shape: MetricShape, seed: u64) -> JudgeInput {
    let mut input = simulate(scenario, seed);
    let mut metrics: BTreeMap<MetricKey, BTreeMap<Bucket, MetricCell>> = BTreeMap::new();
    for series in std::mem::take(&mut input.series) {
        for (bucket, cell) in &series.cells {
            let minute = Bucket(bucket.0 / 6 * 6 + 5);
            for (status, n) in [("200", cell.requests - cell.errors), ("500", cell.errors)] {
                let attributes =
                    [("http.request.method", "GET"), ("http.route", "/cart"), ("http.response.status_code", status)];
                let (name, unit) = match shape {
                    MetricShape::Histogram => ("http.server.request.duration", "s"),
                    _ => ("http_requests_total", ""),
                };
                let share = n as f64 / cell.requests as f64;
                let mut values = Histogram::default();
                let (mut sum, mut left) = (0.0, n);
                for (index, count) in &cell.latency.0 {
                    let count = ((*count as f64 * share).round() as u64).min(left);
                    left -= count;
                    if count > 0 {
                        *values.0.entry(index - SECONDS).or_default() += count;
                        sum += count as f64 * Histogram::upper_edge(index - SECONDS);
                    }
                }
                let counted = n - left;
                let point = match shape {
                    MetricShape::Histogram => MetricCell {
                        points: 1,
                        count: counted,
                        sum: ExactSum::of(sum),
                        values,
                        ..MetricCell::default()
                    },
                    _ => MetricCell { points: 1, count: 1, sum: ExactSum::of(n as f64), ..MetricCell::default() },
                };
                let into = metrics.entry(key(name, unit, shape, &series.key.version, &attributes)).or_default();
                into.entry(minute).or_default().merge(&point);
            }
        }
    }
    input.aggregates.metrics =
        metrics.into_iter().map(|(key, cells)| MetricSeries { key, cells: cells.into_iter().collect() }).collect();
    input
}

fn says(verdict: &Verdict, word: &str) -> bool {
    verdict.data_quality.iter().any(|said| said == word)
}

#[test]
fn request_metrics_alone_get_verdicts_in_both_designs() {
    for (shape, share, design) in [
        (MetricShape::Histogram, 0.5, Design::Concurrent),
        (MetricShape::Histogram, 1.0, Design::BeforeAfter),
        (MetricShape::Counter, 0.5, Design::Concurrent),
    ] {
        let judged = |error_effect: f64, latency_effect: f64| {
            let scenario = Scenario {
                share,
                error_effect,
                latency_effect,
                before_s: 1_800,
                after_s: 1_500,
                ..Scenario::default()
            };
            judge(&without_spans(&scenario, shape, 41))
        };
        let bad = judged(5.0, 1.0);
        assert_eq!((bad.verdict, bad.design), (VerdictKind::Regressed, design), "{shape:?}: {}", bad.summary);
        let found = &bad.findings[0];
        assert_eq!(found.signal, SignalKind::Metric);
        assert!(found.summary.contains("failed requests of `GET /cart` by `http"), "{}", found.summary);
        assert!(found.sql.contains("FROM signals") && found.sql.contains(r#""http.response.status_code":"500""#));
        assert!(says(&bad, quality::RATES_FROM_METRICS));
        let harmless = judged(1.0, 1.0);
        assert_ne!(harmless.verdict, VerdictKind::Regressed, "{shape:?}: {}", harmless.summary);
        if shape == MetricShape::Histogram {
            assert_eq!(harmless.verdict, VerdictKind::Pass, "{}", harmless.summary);
            let slow = judged(1.0, 1.8);
            assert_eq!(slow.verdict, VerdictKind::Regressed, "{}", slow.summary);
            assert!(slow.findings[0].summary.contains("the p95 in ms of `GET /cart`"), "{}", slow.summary);
        }
    }
}

#[test]
fn a_share_is_held_to_what_is_missing_of_it() {
    let (start, end) = (START / 6, START / 6 + 25);
    let share = |name: &str, version: &str, minutes: std::ops::Range<u64>, level: f64, whole: f64| {
        let mut series = gauge(version, &[], minutes, 1.0);
        series.key.name = name.to_owned();
        series.key.unit = "1".to_owned();
        for (_, cell) in &mut series.cells {
            // A hundredth of the wandering of the other.
            cell.sum = ExactSum::of(whole * (level + (cell.sum.value() - 120.0) / 1_000.0));
        }
        series
    };
    let judged = |name: &str, level: f64, whole: f64| {
        let mut input = simulate(&Scenario { after_s: 1_500, ..Scenario::default() }, 42);
        input.series.clear();
        input.aggregates.metrics =
            vec![share(name, "1", start - 60..end, 0.97, whole), share(name, "2", start..end, level, whole)];
        judge(&input)
    };
    let ratio = "checkout.success_ratio";
    for (name, level, whole, expected) in [
        (ratio, 0.97, 1.0, VerdictKind::Pass),
        (ratio, 0.60, 1.0, VerdictKind::Regressed),
        // In percent, whatever the unit says.
        ("checkout.success_percent", 0.60, 100.0, VerdictKind::Regressed),
        // No share of what should be there: a cache that fills, and a word within a word.
        ("cache.hit_ratio", 0.85, 1.0, VerdictKind::Inconclusive),
        ("throughput.operations", 0.85, 1.0, VerdictKind::Inconclusive),
    ] {
        let verdict = judged(name, level, whole);
        assert_eq!(verdict.verdict, expected, "{name} {level}: {}", verdict.summary);
    }
    let told = judged(ratio, 0.60, 1.0).summary;
    assert!(told.contains("`checkout.success_ratio` at 0.6"), "{told}");
}

/// One point a minute that wanders by a few per cent.
fn gauge(version: &str, attributes: &[(&str, &str)], minutes: std::ops::Range<u64>, factor: f64) -> MetricSeries {
    let salt = version.len() as u64 + attributes.iter().map(|(_, value)| value.len() as u64).sum::<u64>();
    let cells = minutes.map(|minute| {
        let noise = ((minute + 31 * salt).wrapping_mul(2_654_435_761) >> 7) % 1_000;
        let level = 120.0 * factor * (1.0 + 0.06 * (noise as f64 / 1_000.0 - 0.5));
        (Bucket(minute * 6), MetricCell { points: 1, count: 1, sum: ExactSum::of(level), ..MetricCell::default() })
    });
    MetricSeries { key: key("kpi.orders", "", MetricShape::Gauge, version, attributes), cells: cells.collect() }
}

#[test]
fn a_bare_kpi_once_a_minute_gets_a_verdict() {
    let (start, end) = (START / 6, START / 6 + 25);
    let judged = |metrics: Vec<MetricSeries>| {
        let mut input = simulate(&Scenario { after_s: 1_500, ..Scenario::default() }, 42);
        input.series.clear();
        input.aggregates.metrics = metrics;
        judge(&input)
    };
    let past = || start - 60..start;
    for (effect, expected) in [(1.0, VerdictKind::Pass), (0.3, VerdictKind::Regressed)] {
        let beside = judged(vec![gauge("1", &[], start - 60..end, 1.0), gauge("2", &[], start..end, effect)]);
        assert_eq!((beside.verdict, beside.design), (expected, Design::Concurrent), "{}", beside.summary);
        assert!(says(&beside, quality::METRICS_ONLY), "{:?}", beside.data_quality);
        let replaced = judged(vec![gauge("1", &[], past(), 1.0), gauge("2", &[], start..end, effect)]);
        assert_eq!((replaced.verdict, replaced.design), (expected, Design::BeforeAfter), "{}", replaced.summary);
        // The version stands at the points, or nothing but the pod does.
        let told = judged(vec![
            gauge("", &[("version", "1")], start - 60..end, 1.0),
            gauge("", &[("version", "2")], start..end, effect),
        ]);
        assert_eq!((told.verdict, told.design), (expected, Design::Concurrent), "{}", told.summary);
        let pods = judged(vec![
            gauge("", &[("pod", "orders-7f-x1")], start - 60..end, 1.0),
            gauge("", &[("pod", "orders-8a-y1")], start..end, effect),
        ]);
        assert_eq!((pods.verdict, pods.design), (expected, Design::Concurrent), "{}", pods.summary);
        assert!(pods.summary.contains("on the pods that were there before"), "{}", pods.summary);
        if expected == VerdictKind::Regressed {
            assert_eq!(beside.findings[0].signal, SignalKind::Metric);
            assert!(beside.findings[0].summary.contains("`kpi.orders`"), "{}", beside.findings[0].summary);
        }
    }
    // A series that does such things by itself is not held to it.
    let mut moody = gauge("1", &[], past(), 1.0);
    for (bucket, cell) in &mut moody.cells {
        if bucket.0 / 6 % 20 < 6 {
            cell.sum = ExactSum::of(40.0);
        }
    }
    assert_ne!(judged(vec![moody, gauge("2", &[], start..end, 0.3)]).verdict, VerdictKind::Regressed);
}

#[test]
fn failures_that_were_kept_more_often_are_counted_by_weight() {
    // All failures are kept and one in fifty of the rest.
    let sampled = |effect: f64| {
        let scenario = Scenario { share: 0.5, rate: 400.0, error_effect: effect, after_s: 900, ..Scenario::default() };
        let mut input = simulate(&scenario, 43);
        for cell in input.series.iter_mut().flat_map(|series| &mut series.cells).map(|(_, cell)| cell) {
            let good = (cell.requests - cell.errors) / 50;
            cell.latency.0.values_mut().for_each(|n| *n = n.div_ceil(50));
            cell.log_latency_sum /= 50;
            cell.log_latency_sum_sq /= 50;
            cell.requests = good + cell.errors;
            cell.assembled = cell.requests;
            cell.weighted_requests = (50 * good + cell.errors) * WEIGHT_UNIT;
            cell.weighted_errors = cell.errors * WEIGHT_UNIT;
        }
        judge(&input)
    };
    let bad = sampled(5.0);
    assert_eq!(bad.verdict, VerdictKind::Regressed, "{}", bad.summary);
    assert!(says(&bad, quality::WEIGHTED_SPANS) && says(&bad, quality::SAMPLED_SPANS), "{:?}", bad.data_quality);
    let found = &bad.findings[0];
    assert!((found.candidate.value - 0.05).abs() < 0.01 && (found.baseline.value - 0.01).abs() < 0.003, "{found:?}");
    let harmless = sampled(1.0);
    assert_ne!(harmless.verdict, VerdictKind::Regressed, "{}", harmless.summary);
}

#[test]
fn what_weights_say_of_a_bucket_does_not_depend_on_when_one_looks() {
    // The rest is kept ever more rarely, so weights over the whole watch are others at each look.
    let mut input =
        simulate(&Scenario { share: 0.5, rate: 400.0, error_effect: 1.9, after_s: 600, ..Scenario::default() }, 46);
    for series in &mut input.series {
        for (bucket, cell) in &mut series.cells {
            let one_in = if bucket.0 < START + 20 { 10 } else { 100 };
            let good = (cell.requests - cell.errors) / one_in;
            cell.requests = good + cell.errors;
            cell.weighted_requests = (one_in * good + cell.errors) * WEIGHT_UNIT;
            cell.weighted_errors = cell.errors * WEIGHT_UNIT * if bucket.0 < START + 20 { 1 } else { 3 };
        }
    }
    let end = input.now;
    let once = judge(&input);
    for bucket in START..=end.bucket().0 {
        input.now = Bucket(bucket).start();
        input.previous = Some(judge(&input));
    }
    let often = input.previous.expect("was judged");
    assert!(says(&once, quality::WEIGHTED_SPANS));
    assert_eq!((once.verdict, once.phase, once.decided_at), (often.verdict, often.phase, often.decided_at));
}

#[test]
fn failures_that_were_too_few_before_to_tell_their_weight_are_held_against_the_past_by_weight() {
    // All failures are kept and one in fifty of the rest; there was none before.
    let judged = |errors: f64| {
        let scenario =
            Scenario { share: 1.0, rate: 400.0, errors, before_s: 3_600, after_s: 900, ..Scenario::default() };
        let mut input = simulate(&scenario, 47);
        for (bucket, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells) {
            cell.errors = if bucket.0 < START { 0 } else { cell.errors };
            let good = (cell.requests - cell.errors) / 50;
            cell.latency.0.values_mut().for_each(|n| *n = n.div_ceil(50));
            cell.log_latency_sum /= 50;
            cell.log_latency_sum_sq /= 50;
            cell.requests = good + cell.errors;
            cell.assembled = cell.requests;
            cell.weighted_requests = (50 * good + cell.errors) * WEIGHT_UNIT;
            cell.weighted_errors = cell.errors * WEIGHT_UNIT;
        }
        judge(&input)
    };
    let bad = judged(0.01);
    assert_eq!(bad.verdict, VerdictKind::Regressed, "{}", bad.summary);
    assert!(says(&bad, quality::WEIGHTED_SPANS), "{:?}", bad.data_quality);
    // One in two thousand is tolerated, though it is one in forty of the spans.
    let harmless = judged(0.0005);
    assert_ne!(harmless.verdict, VerdictKind::Regressed, "{}", harmless.summary);
}

#[test]
fn a_metric_that_counts_in_clumps_is_tempered_as_far_as_its_past_shows() {
    let judged = |effect: f64, seed: u64| {
        let scenario = Scenario {
            share: 0.5,
            rate: 6.0,
            errors: 0.012,
            error_effect: effect,
            before_s: 1_500,
            after_s: 720,
            ..Scenario::default()
        };
        let mut input = without_spans(&scenario, MetricShape::Histogram, seed);
        // Each request of a sample stands for a hundred.
        for (_, cell) in input.aggregates.metrics.iter_mut().flat_map(|series| &mut series.cells) {
            cell.count *= 100;
            cell.sum = ExactSum::of(100.0 * cell.sum.value());
            cell.values.0.values_mut().for_each(|n| *n *= 100);
        }
        judge(&input)
    };
    for seed in 0..60 {
        let harmless = judged(1.0, 500 + seed);
        assert_ne!(harmless.verdict, VerdictKind::Regressed, "seed {seed}: {}", harmless.summary);
    }
    let bad = (0..10).filter(|seed| judged(12.0, 600 + seed).verdict == VerdictKind::Regressed).count();
    assert!(bad >= 9, "{bad} of 10");
}

#[test]
fn requests_served_are_told_from_other_requests_by_what_a_metric_says_of_them() {
    let scenario = Scenario { share: 0.5, error_effect: 5.0, before_s: 1_800, after_s: 1_500, ..Scenario::default() };
    let mut input = without_spans(&scenario, MetricShape::Counter, 44);
    // It sorts first, and says nothing of how requests went.
    let mut cached: Vec<MetricSeries> = Vec::new();
    for series in &input.aggregates.metrics {
        let key = key("cache_requests_total", "", MetricShape::Counter, &series.key.version, &[]);
        if cached.iter().all(|other| other.key != key) {
            cached.push(MetricSeries { key, cells: series.cells.clone() });
        }
    }
    input.aggregates.metrics.splice(0..0, cached);
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert!(verdict.findings[0].summary.contains("http_requests_total"), "{}", verdict.summary);
}

#[test]
fn counters_beyond_all_counting_are_judged_without_a_panic() {
    let mut input = without_spans(&Scenario { share: 0.5, ..Scenario::default() }, MetricShape::Counter, 45);
    for (_, cell) in input.aggregates.metrics.iter_mut().flat_map(|series| &mut series.cells) {
        cell.sum = ExactSum::of(1e19);
    }
    let verdict = judge(&input);
    assert!(says(&verdict, quality::RATES_FROM_METRICS), "{:?}", verdict.data_quality);
}

#[test]
fn a_level_that_is_high_at_first_and_fades_is_a_warm_up_and_one_that_stays_is_not() {
    let start = START / 6;
    let scenario = Scenario { share: 1.0, errors: 0.002, before_s: 3_600, after_s: 1_700, ..Scenario::default() };
    let judged = |times: &dyn Fn(f64) -> f64| {
        let mut input = simulate(&scenario, 43);
        let cpu = |version: &str, minutes: std::ops::Range<u64>| {
            let cells = minutes.map(|minute| {
                let noise = 1.0 + 0.05 * (((minute.wrapping_mul(2_654_435_761) >> 7) % 1_000) as f64 / 1_000.0 - 0.5);
                let since = (minute * 60) as f64 - (START * 10) as f64 + 30.0;
                let level = ExactSum::of(0.3 * noise * if since > 0.0 { times(since) } else { 1.0 });
                (Bucket(minute * 6), MetricCell { points: 1, count: 1, sum: level, ..MetricCell::default() })
            });
            let key = key("process.cpu.utilization", "1", MetricShape::Gauge, version, &[]);
            MetricSeries { key, cells: cells.collect() }
        };
        input.aggregates.metrics = vec![cpu("1", start - 60..start), cpu("2", start..start + 28)];
        let end = input.now.bucket().0;
        for bucket in (START + 6..=end).step_by(6) {
            input.now = Bucket(bucket).start();
            input.previous = Some(judge(&input));
        }
        input.previous.expect("was judged")
    };
    let fades = judged(&|since| 1.0 + 1.5 * (-since / 500.0).exp());
    assert_ne!(fades.verdict, VerdictKind::Regressed, "{}", fades.summary);
    let stays = judged(&|_| 2.5);
    assert_eq!(stays.verdict, VerdictKind::Regressed, "{}", stays.summary);
    let confirmed = stays.decided_at.expect("decided").since(Bucket(START).start()).as_secs();
    assert!(confirmed <= 660, "{confirmed} s");
}
