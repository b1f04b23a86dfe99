//! Metric points of every type, with new beginnings.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exponential_histogram_data_point::Buckets,
};
use plimsoll_model::UnixNanos;
use plimsoll_model::metric::{MetricCell, MetricShape};
use plimsoll_otlp::{Signal, Table, decode};
use plimsoll_signals::{SignalLimits, SignalState};
use prost::Message;

use crate::build::{MS, T0, always, key, pair, resource, state, text};

fn at(ms: u64) -> u64 {
    T0 + ms * MS
}

fn send(state: &mut SignalState, version: &str, instance: &str, received: u64, name: &str, data: Data) {
    let metric = Metric { name: name.to_owned(), unit: "s".to_owned(), data: Some(data), ..Metric::default() };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource("a", version, instance),
            scope_metrics: vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
    .encode_to_vec();
    let decoded = decode(Signal::Metrics, &request, UnixNanos(at(received))).expect("well-formed");
    state.fold(Table::Metrics, &decoded.batch).expect("the stored schema");
}

fn number(start: u64, time: u64, value: f64, route: &str) -> NumberDataPoint {
    NumberDataPoint {
        start_time_unix_nano: at(start),
        time_unix_nano: at(time),
        attributes: vec![pair("http.route", text(route)), pair("thread.id", text(&time.to_string()))],
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn sum(temporality: i32, start: u64, time: u64, value: f64) -> Data {
    let mut point = number(start, time, value, "/pay");
    point.attributes.truncate(1);
    Data::Sum(Sum { data_points: vec![point], aggregation_temporality: temporality, is_monotonic: true })
}

fn total(state: &SignalState, version: &str) -> MetricCell {
    let mut total = MetricCell::default();
    for series in state.aggregates(&key("a"), always()).metrics {
        if series.key.version == version {
            series.cells.iter().for_each(|(_, cell)| total.merge(cell));
        }
    }
    total
}

const CUMULATIVE: i32 = 2;
const DELTA: i32 = 1;

#[test]
fn a_cumulative_counter_counts_what_was_added_across_a_restart_of_its_process() {
    let mut state = state();
    // It began before anything was folded: what it had by then is not known to be new.
    for (start, time, value) in [(0, 1_000, 100.0), (0, 2_000, 130.0), (2_500, 3_000, 20.0), (2_500, 4_000, 50.0)] {
        send(&mut state, "1", "i", time + 10_000, "n", sum(CUMULATIVE, start, time, value));
    }
    let cell = total(&state, "1");
    assert_eq!((cell.sum.value(), cell.resets, cell.points), (80.0, 1, 3));
    let starts: u64 = state
        .aggregates(&key("a"), always())
        .presence
        .iter()
        .flat_map(|p| &p.cells)
        .map(|(_, c)| c.starts.count())
        .sum();
    assert_eq!(starts, 1, "a new beginning is a restart");
}

#[test]
fn a_new_process_counts_from_its_first_point_and_a_value_that_falls_is_a_new_beginning() {
    let mut state = state();
    send(&mut state, "0", "x", 0, "n", sum(DELTA, 0, 0, 1.0));
    send(&mut state, "2", "i", 60_000, "n", sum(CUMULATIVE, 50_000, 59_000, 7.0));
    send(&mut state, "2", "i", 120_000, "n", sum(CUMULATIVE, 50_000, 119_000, 3.0));
    let cell = total(&state, "2");
    assert_eq!((cell.sum.value(), cell.resets), (10.0, 1));
}

#[test]
fn points_that_are_late_or_say_nothing_are_passed_over() {
    let mut state = state();
    for (time, value) in [(1_000, 1.0), (3_000, 5.0), (2_000, 3.0), (3_000, 5.0)] {
        send(&mut state, "1", "i", 10_000, "n", sum(CUMULATIVE, 0, time, value));
    }
    let mut silent = number(0, 4_000, 9.0, "/pay");
    silent.flags = 1;
    send(&mut state, "1", "i", 10_000, "level", Data::Gauge(Gauge { data_points: vec![silent] }));
    assert_eq!(total(&state, "1").sum.value(), 4.0);
    assert_eq!(state.counters().points_left_out, 2);
}

#[test]
fn levels_keep_their_mean_and_extremes_over_what_is_not_told_apart() {
    let mut state = state();
    let gauge = |values: &[f64]| {
        let points = values.iter().enumerate().map(|(i, value)| number(0, 1_000 + i as u64, *value, "/pay"));
        Data::Gauge(Gauge { data_points: points.collect() })
    };
    send(&mut state, "1", "i", 2_000, "level", gauge(&[1.0, 5.0, 3.0]));
    let aggregates = state.aggregates(&key("a"), always());
    let series = &aggregates.metrics[0];
    assert_eq!((series.key.shape, series.key.unit.as_str()), (MetricShape::Gauge, "s"));
    assert_eq!(series.key.attributes.get("http.route").map(String::as_str), Some("/pay"));
    assert!(!series.key.attributes.contains_key("thread.id"));
    let cell = &series.cells[0].1;
    assert_eq!((cell.mean(), cell.min, cell.max), (Some(3.0), Some(1.0), Some(5.0)));
}

#[test]
fn histograms_of_both_kinds_say_the_same_about_the_same_observations() {
    let explicit = |temporality, time, counts: [u64; 4]| {
        let point = HistogramDataPoint {
            start_time_unix_nano: at(0),
            time_unix_nano: at(time),
            count: counts.iter().sum(),
            sum: Some(counts[1] as f64 * 0.2),
            explicit_bounds: vec![0.125, 0.25, 1.0],
            bucket_counts: counts.to_vec(),
            ..HistogramDataPoint::default()
        };
        Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality: temporality })
    };
    let mut state = state();
    send(&mut state, "e", "i", 10_000, "d", explicit(CUMULATIVE, 1_000, [0, 4, 0, 0]));
    send(&mut state, "e", "i", 10_000, "d", explicit(CUMULATIVE, 2_000, [1, 14, 0, 2]));
    let cell = total(&state, "e");
    assert_eq!((cell.count, cell.values.count()), (13, 13));
    assert!((cell.sum.value() - 2.0).abs() < 1e-9);
    let edge = |value| plimsoll_model::signal::Histogram::index_of_value(value).expect("positive");
    assert_eq!((cell.values.count_above(edge(0.125)), cell.values.count_above(edge(0.25))), (12, 2));

    let exponential = ExponentialHistogramDataPoint {
        start_time_unix_nano: at(0),
        time_unix_nano: at(1_000),
        count: 11,
        sum: Some(2.0),
        scale: 3,
        zero_count: 1,
        // 2^(-20/8) = 0.177 is the upper edge of the first.
        positive: Some(Buckets { offset: -21, bucket_counts: vec![0, 0, 10] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let data = ExponentialHistogram { data_points: vec![exponential], aggregation_temporality: DELTA };
    send(&mut state, "x", "i", 10_000, "d", Data::ExponentialHistogram(data));
    let cell = total(&state, "x");
    assert_eq!((cell.count, cell.values.count(), cell.zeros), (11, 10, 1));
    assert_eq!((cell.values.count_above(edge(0.125)), cell.values.count_above(edge(0.25))), (10, 0));

    let summary = |time, count| {
        let point = SummaryDataPoint {
            start_time_unix_nano: at(0),
            time_unix_nano: at(time),
            count,
            sum: count as f64,
            ..SummaryDataPoint::default()
        };
        Data::Summary(Summary { data_points: vec![point] })
    };
    send(&mut state, "s", "i", 10_000, "d", summary(1_000, 5));
    send(&mut state, "s", "i", 10_000, "d", summary(2_000, 9));
    assert_eq!((total(&state, "s").count, total(&state, "s").sum.value()), (4, 4.0));
}

#[test]
fn a_service_with_too_many_series_keeps_those_it_had_and_says_so() {
    let mut state = SignalState::new(SignalLimits { metrics_per_service_max: 10, ..SignalLimits::default() });
    let points = (0..200).map(|i| number(0, 1_000, 1.0, &format!("/{i}"))).collect();
    send(&mut state, "1", "i", 2_000, "level", Data::Gauge(Gauge { data_points: points }));
    assert_eq!(state.aggregates(&key("a"), always()).metrics.len(), 10);
    assert_eq!(state.counters().points_left_out, 190);
    assert!(state.data_quality(&key("a")).contains(&"metrics_left_out".to_owned()));
}

#[test]
fn a_growing_count_of_restarts_is_starts_of_the_container() {
    for name in ["k8s.container.restart.count", "k8s.container.restarts"] {
        let mut state = state();
        for (time, value) in [(1_000, 3.0), (11_000, 3.0), (21_000, 4.0), (31_000, 6.0), (41_000, 6.0), (51_000, 0.0)] {
            let mut points = Gauge { data_points: vec![number(0, time, value, "")] };
            points.data_points[0].attributes.clear();
            send(&mut state, "1", "i", time + 10, name, Data::Gauge(points));
        }
        let presence = state.aggregates(&key("a"), always()).presence;
        let starts: Vec<u64> = presence[0].cells.iter().map(|(_, cell)| cell.starts.count()).collect();
        assert_eq!(starts.iter().sum::<u64>(), 2, "{name}: {starts:?}");
    }
}

#[test]
fn the_past_of_a_level_is_kept_by_ten_minutes_where_its_name_tells_what_is_bad() {
    let mut state = state();
    let gauge =
        |second: u64, value: f64| Data::Gauge(Gauge { data_points: vec![number(0, second * 1_000, value, "/pay")] });
    let mut rows = Vec::new();
    for (version, second, value) in [("1", 0, 3.0), ("2", 45, 5.0), ("1", 700, 7.0)] {
        for name in ["queue.size", "build.info"] {
            send(&mut state, version, "i", second * 1_000 + 10, name, gauge(second, value));
        }
        rows.extend(state.take_rows());
    }
    // Where each bucket begins within its ten minutes, its sum and its count.
    let told = |state: &SignalState| {
        let series = state.aggregates(&key("a"), always()).metric_history;
        let named: Vec<(&str, u32)> = series.iter().map(|s| (s.metric.name.as_str(), s.width_s)).collect();
        assert_eq!(named, [("queue.size", 600)], "nothing of what nobody can call better or worse");
        let cells = series[0].cells.iter();
        cells.map(|(at, c)| (at.0 % 600_000_000_000, c.sum.value(), c.count)).collect::<Vec<_>>()
    };
    let expected = [(0, 8.0, 2), (0, 7.0, 1)];
    assert_eq!(told(&state), expected, "all versions together");

    // It comes back from rows, the older of them apart from the newer, and each once.
    let since = UnixNanos(at(400_000));
    let mut restarted = SignalState::new(SignalLimits::default());
    for (_, batch) in rows.iter().filter(|(table, _)| *table == Table::Signals) {
        restarted.load_recent(batch, since).expect("own rows");
    }
    assert_eq!(told(&restarted), [(0, 7.0, 1)]);
    for (_, batch) in rows.iter().filter(|(table, _)| *table == Table::Signals) {
        restarted.load_history(batch, since).expect("own rows");
    }
    assert_eq!(told(&restarted), expected);

    // What was handed to a verdict as rows says the same.
    let mut other = SignalState::new(SignalLimits::default());
    other.load_excerpt(&state.excerpt(&key("a"), &[], plimsoll_model::Bucket(0))).expect("own rows");
    assert_eq!(told(&other), expected);
}
