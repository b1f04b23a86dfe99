//! Where to look first: services ranked by how unusual what they emit is.

use plimsoll_model::log::{Level, LogCell, LogSeries};
use plimsoll_model::metric::{ExactSum, MetricCell, MetricKey, MetricSeries, MetricShape};
use plimsoll_model::presence::{PresenceCell, PresenceSeries};
use plimsoll_model::signal::AgeClass;
use plimsoll_model::{Bucket, DeployKind};
use plimsoll_verdict::{JudgeInput, suspicion};

use crate::simulation::{START, Scenario, service, simulate};

/// A service that keeps its version, three minutes after something may have happened to it.
fn posed() -> JudgeInput {
    let scenario =
        Scenario { share: 1.0, rate: 2.0, operations: 2, before_s: 1_800, after_s: 180, ..Scenario::default() };
    let mut input = simulate(&scenario, 61);
    for series in &mut input.series {
        series.key.version.clear();
    }
    input.deploy.kind = DeployKind::Config;
    input.deploy.version.clear();
    input
}

/// One message for every request of the service, but for those buckets in which it is not logged.
fn message(input: &JudgeInput, text: &str, logged: impl Fn(u64) -> bool) -> LogSeries {
    let mut cells = std::collections::BTreeMap::<Bucket, LogCell>::new();
    for (bucket, cell) in input.series.iter().flat_map(|series| &series.cells).filter(|(b, _)| logged(b.0)) {
        cells.entry(*bucket).or_default().count += cell.requests;
    }
    let (first_seen, template) = (Bucket(START - 180).start(), text.to_owned());
    LogSeries { version: String::new(), template, level: Level::Info, first_seen, cells: cells.into_iter().collect() }
}

/// A level once a minute that moves a little by itself, and is another since the start.
fn level(name: &str, since: f64) -> MetricSeries {
    let cells = (START / 6 - 30..START / 6 + 3).map(|minute| {
        let noise = (minute.wrapping_mul(2_654_435_761) >> 7) % 100;
        let value = (1.0 + noise as f64 / 100.0) * if minute < START / 6 { 1.0 } else { since };
        (Bucket(minute * 6), MetricCell { points: 1, count: 1, sum: ExactSum::of(value), ..MetricCell::default() })
    });
    let key = MetricKey {
        service: service(),
        version: String::new(),
        age: AgeClass::Warm,
        name: name.to_owned(),
        unit: String::new(),
        shape: MetricShape::Gauge,
        attributes: Default::default(),
    };
    MetricSeries { key, cells: cells.collect() }
}

#[test]
fn a_step_that_is_no_longer_reached_is_more_unusual_than_any_noise() {
    let mut well = posed();
    well.aggregates.logs = vec![message(&well, "done", |_| true)];
    well.aggregates.metrics = vec![level("k8s.pod.cpu.usage", 1.0)];
    let mut ill = posed();
    ill.aggregates.logs = vec![message(&ill, "done", |bucket| bucket < START)];
    let ((usual, _), (unusual, about)) = (suspicion(&well), suspicion(&ill));
    assert!(usual < 4.0 && unusual > 3.0 * usual.max(2.0), "{unusual} against {usual}");
    assert_eq!(about, "messages (info) done");
}

#[test]
fn messages_that_go_with_the_traffic_of_one_operation_are_explained_by_it() {
    let logs_of = |input: &JudgeInput, operation: &str| {
        let only = JudgeInput {
            series: input.series.iter().filter(|s| s.key.operation == operation).cloned().collect(),
            ..input.clone()
        };
        message(&only, "of one operation", |_| true)
    };
    let mut input = posed();
    let operation = input.series[0].key.operation.clone();
    // Five times the traffic of one operation, and its messages with it.
    for series in input.series.iter_mut().filter(|series| series.key.operation == operation) {
        for (_, cell) in series.cells.iter_mut().filter(|(bucket, _)| bucket.0 >= START) {
            cell.requests *= 5;
            cell.assembled = cell.requests;
            cell.errors *= 5;
            cell.log_latency_sum *= 5;
            cell.log_latency_sum_sq *= 5;
        }
    }
    input.aggregates.logs = vec![logs_of(&input, &operation)];
    let (explained, about) = suspicion(&input);
    assert!(explained < 4.0, "{explained} for {about}");
}

#[test]
fn levels_count_in_their_bad_direction_and_hosts_do_not() {
    let said = |name: &str, since: f64| {
        let mut input = posed();
        input.aggregates.metrics = vec![level(name, since)];
        suspicion(&input)
    };
    let (log, about) = said("k8s.pod.cpu.usage", 100.0);
    assert!(log > 8.0 && about == "level of k8s.pod.cpu.usage", "{log} for {about}");
    for (name, since) in [("k8s.pod.cpu.usage", 0.01), ("k8s.node.cpu.utilization", 100.0), ("k8s.pod.network", 100.0)]
    {
        assert!(said(name, since).0 < 4.0, "{name}: {:?}", said(name, since));
    }
}

#[test]
fn a_service_without_requests_is_as_unusual_by_its_levels() {
    let mut input = posed();
    input.series.clear();
    input.aggregates.metrics = vec![level("k8s.pod.cpu.usage", 100.0)];
    let cells =
        (START - 180..START + 18).map(|bucket| (Bucket(bucket), PresenceCell { logs: 5, ..PresenceCell::default() }));
    input.aggregates.presence = vec![PresenceSeries { version: String::new(), cells: cells.collect() }];
    let (log, about) = suspicion(&input);
    assert!(log > 8.0 && about == "level of k8s.pod.cpu.usage", "{log} for {about}");
}
