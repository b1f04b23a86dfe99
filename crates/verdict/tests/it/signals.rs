//! The signals beside errors and latency, and what has no control.

use plimsoll_model::signal::{CalleeTime, OperationCell, OperationKind, OperationSeries, Party};
use plimsoll_model::{Bucket, DeployStatus, Design, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge};

use crate::simulation::{START, Scenario, looked_at, simulate};

fn finding(verdict: &Verdict, signal: SignalKind) -> &plimsoll_model::Finding {
    let found = verdict.findings.iter().find(|f| f.signal == signal);
    found.unwrap_or_else(|| panic!("no {signal:?} in {verdict:#?}"))
}

fn each_cell(input: &mut JudgeInput, version: &str, mut change: impl FnMut(u64, &mut OperationCell)) {
    for series in input.series.iter_mut().filter(|s| s.key.version == version) {
        series.cells.iter_mut().for_each(|(bucket, cell)| change(bucket.0, cell));
    }
}

#[test]
fn an_operation_that_only_the_candidate_has_and_that_fails_is_regressed() {
    let scenario = Scenario { share: 0.5, operations: 3, before_s: 600, after_s: 600, ..Scenario::default() };
    let mut input = simulate(&scenario, 3);
    for series in input.series.iter_mut().filter(|s| s.key.version == "2" && s.key.operation == "GET /2") {
        series.key.operation = "POST /refund".to_owned();
        series.cells.iter_mut().for_each(|(_, cell)| cell.errors = cell.requests / 2);
    }
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let found = finding(&verdict, SignalKind::ErrorRate);
    assert_eq!(found.operation, "POST /refund");
    assert!(found.summary.contains("nothing was there to compare it with"), "{}", found.summary);
    assert!(found.summary.contains("5.0 % are tolerated"), "{}", found.summary);
    // Where the service usually fails six in a hundred, twice as many are tolerated.
    let mut input = simulate(&Scenario { errors: 0.06, ..scenario }, 4);
    for series in input.series.iter_mut().filter(|s| s.key.version == "2" && s.key.operation == "GET /2") {
        series.key.operation = "POST /refund".to_owned();
        series.cells.iter_mut().for_each(|(_, cell)| cell.errors = cell.requests / 2);
    }
    let verdict = judge(&input);
    let found = finding(&verdict, SignalKind::ErrorRate);
    let tolerated = found.baseline.value;
    assert!((0.10..0.14).contains(&tolerated), "{tolerated}: {}", found.summary);
    assert!(verdict.data_quality.contains(&"new_operation".to_owned()), "{:?}", verdict.data_quality);
}

#[test]
fn a_renamed_operation_is_compared_with_what_it_was() {
    let scenario =
        Scenario { share: 0.5, rate: 200.0, errors: 0.002, operations: 2, after_s: 1_200, ..Scenario::default() };
    let renamed = |failing: bool| {
        let mut input = simulate(&scenario, 5);
        for series in input.series.iter_mut().filter(|s| s.key.version == "2" && s.key.operation == "GET /1") {
            series.key.operation = "GET /v2/1".to_owned();
            if failing {
                series.cells.iter_mut().for_each(|(_, cell)| cell.errors += cell.requests / 40);
            }
        }
        judge(&input)
    };
    let harmless = renamed(false);
    assert_eq!(harmless.verdict, VerdictKind::Pass, "{}", harmless.summary);
    assert!(harmless.data_quality.contains(&"renamed_operation".to_owned()));
    let failing = renamed(true);
    let found = finding(&failing, SignalKind::ErrorRate);
    assert!(found.baseline.n > 0 && found.sql.contains("operation IN ('GET /v2/1', 'GET /1')"), "{}", found.sql);
}

#[test]
fn a_service_without_a_past_is_held_against_an_objective() {
    let judged = |errors: f64| {
        let scenario = Scenario { share: 1.0, errors, before_s: 10, after_s: 600, ..Scenario::default() };
        let mut input = simulate(&scenario, 4);
        input.series.retain(|s| s.key.version == "2");
        judge(&input)
    };
    let bad = judged(0.2);
    assert_eq!((bad.verdict, bad.design), (VerdictKind::Regressed, Design::Slo), "{}", bad.summary);
    assert_eq!(judged(0.01).verdict, VerdictKind::Inconclusive);
}

#[test]
fn a_service_without_a_past_that_fails_after_a_good_while_is_found_by_its_last_minutes() {
    let mut input =
        simulate(&Scenario { share: 1.0, errors: 0.0, before_s: 10, after_s: 1_700, ..Scenario::default() }, 3);
    input.series.retain(|series| series.key.version == "2");
    each_cell(&mut input, "2", |bucket, cell| cell.errors = if bucket >= START + 120 { cell.requests / 4 } else { 0 });
    let end = input.now.bucket().0;
    let bad = (START + 121..end).find_map(|bucket| {
        input.now = Bucket(bucket).start();
        let verdict = judge(&input);
        (verdict.verdict == VerdictKind::Regressed).then_some((bucket - START, verdict))
    });
    let (at, bad) = bad.expect("a quarter fails");
    assert!(at <= 128, "found {} s after the first failure", 10 * (at - 120));
    // What is told is of the minutes that show it, and so is the query.
    let found = &bad.findings[0];
    assert!(found.candidate.value > 0.05 && found.effect > 1.0 && found.candidate.n < 40_000, "{}", found.summary);
    let since = Bucket(START + 120).start().to_rfc3339();
    assert!(found.sql.contains(&since[..16]), "{} not since {since}", found.sql);
    assert_eq!(found.explanation.against, "that are tolerated");
}

#[test]
fn slow_tails_alone_are_a_regression() {
    let scenario = Scenario { share: 0.5, before_s: 900, after_s: 600, ..Scenario::default() };
    let mut input = simulate(&scenario, 6);
    each_cell(&mut input, "2", |_, cell| {
        // Three requests in a hundred take two seconds.
        let slow = (cell.requests * 3).div_ceil(100);
        for _ in 0..slow {
            cell.latency.record(2_000_000_000);
        }
    });
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert_eq!(verdict.findings[0].signal, SignalKind::Latency);
}

#[test]
fn a_version_that_never_serves_is_silent_once_it_should_have_come() {
    let scenario = Scenario { before_s: 1_800, after_s: 600, ..Scenario::default() };
    let mut input = simulate(&scenario, 2);
    input.series.retain(|s| s.key.version == "1");
    (input.deploy.status, input.deploy.finished_at) = (DeployStatus::Succeeded, Some(Bucket(START + 6).start()));
    let at = |input: &mut JudgeInput, seconds: u64| {
        input.now = Bucket(START + seconds / 10).start();
        judge(input)
    };
    assert_eq!(at(&mut input, 200).verdict, VerdictKind::Inconclusive, "a deploy takes its time");
    let verdict = at(&mut input, 600);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let found = finding(&verdict, SignalKind::Silence);
    assert!(found.summary.contains("has not served a single request"), "{}", found.summary);
}

#[test]
fn traffic_that_no_longer_comes_is_found_and_a_quiet_hour_of_the_callers_excuses_it() {
    let scenario = Scenario { share: 1.0, before_s: 1_800, after_s: 900, ..Scenario::default() };
    let mut input = simulate(&scenario, 7);
    let thin = |cell: &mut OperationCell| {
        cell.requests /= 5;
        cell.errors /= 5;
        cell.latency.0.values_mut().for_each(|n| *n /= 5);
        cell.latency.0.retain(|_, n| *n > 0);
        cell.log_latency_sum /= 5;
        cell.log_latency_sum_sq /= 5;
    };
    each_cell(&mut input, "2", |_, cell| thin(cell));
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert_eq!(finding(&verdict, SignalKind::Throughput).unit, "requests/s");

    let mut key = input.series[0].key.clone();
    key.service.service = "gateway".to_owned();
    let payment = Party {
        service: "payment".to_owned(),
        namespace: String::new(),
        version: String::new(),
        operation: "GET /0".to_owned(),
    };
    let cells = (START - 180..START + 90).map(|bucket| {
        let requests = if bucket < START { 1_000 } else { 200 };
        let mut cell = OperationCell { requests, assembled: requests, ..OperationCell::default() };
        cell.callees.insert(payment.clone(), CalleeTime { calls: requests, critical_ns: 1 });
        (Bucket(bucket), cell)
    });
    input.related = vec![OperationSeries { key, cells: cells.collect() }];
    let verdict = judge(&input);
    assert!(verdict.findings.iter().all(|f| f.signal != SignalKind::Throughput), "{}", verdict.summary);
}

#[test]
fn a_storm_of_retries_is_seen_though_nothing_fails() {
    let scenario = Scenario { share: 0.5, before_s: 900, after_s: 600, ..Scenario::default() };
    let mut input = simulate(&scenario, 8);
    let bank = Party {
        service: "bank".to_owned(),
        namespace: String::new(),
        version: "7".to_owned(),
        operation: "POST /hold".to_owned(),
    };
    for (version, calls) in [("1", 1), ("2", 4)] {
        each_cell(&mut input, version, |_, cell| {
            let time = CalleeTime { calls: calls * cell.requests, critical_ns: 1_000 };
            cell.callees.insert(bank.clone(), time);
        });
    }
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let found = finding(&verdict, SignalKind::Throughput);
    assert_eq!(found.unit, "calls/request");
    assert!(found.summary.contains("calls bank `POST /hold` 4.00 times a request against 1.00"), "{}", found.summary);
}

#[test]
fn what_is_called_for_the_first_time_is_a_feature_and_no_storm() {
    let bank = Party {
        service: "bank".to_owned(),
        namespace: String::new(),
        version: "7".to_owned(),
        operation: "GET /limits".to_owned(),
    };
    for (share, calls, verdict) in
        [(0.5, 1, VerdictKind::Pass), (1.0, 2, VerdictKind::Pass), (1.0, 12, VerdictKind::Regressed)]
    {
        let mut input = simulate(&Scenario { share, before_s: 1_800, after_s: 1_200, ..Scenario::default() }, 8);
        each_cell(&mut input, "2", |_, cell| {
            let time = CalleeTime { calls: calls * cell.requests, critical_ns: 1_000 };
            cell.callees.insert(bank.clone(), time);
        });
        let told = judge(&input);
        assert_eq!(told.verdict, verdict, "{calls} calls: {}", told.summary);
    }
}

#[test]
fn calls_that_go_to_another_operation_of_the_same_service_are_no_fewer() {
    let bank = |operation: &str| Party {
        service: "bank".to_owned(),
        namespace: String::new(),
        version: String::new(),
        operation: operation.to_owned(),
    };
    // Renamed five minutes after the start; and renamed, and called three times.
    for (calls, verdict) in [(1, VerdictKind::Pass), (3, VerdictKind::Regressed)] {
        let scenario = Scenario { share: 1.0, before_s: 1_800, after_s: 1_200, ..Scenario::default() };
        let mut input = simulate(&scenario, 9);
        for (bucket, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells) {
            let renamed = bucket.0 >= START + 30;
            let (operation, times) = if renamed { ("POST /v2/hold", calls) } else { ("POST /hold", 1) };
            let time = CalleeTime { calls: times * cell.requests, critical_ns: 1_000 };
            cell.callees.insert(bank(operation), time);
        }
        let told = looked_at(&mut input, 6);
        assert_eq!(told[told.len() - 1].verdict, verdict, "{calls}: {}", told[told.len() - 1].summary);
    }
}

#[test]
fn requests_that_versions_without_a_part_take_over_are_not_lost() {
    let scenario = Scenario { share: 1.0, before_s: 1_800, after_s: 900, ..Scenario::default() };
    let mut input = simulate(&scenario, 61);
    // Every pod tells a version of its own: the deploy names none of them, and one of them ran before it.
    let half = |series: &OperationSeries, version: &str| {
        let mut half = series.clone();
        half.key.version = version.to_owned();
        for (_, cell) in &mut half.cells {
            (cell.requests, cell.errors, cell.weighted_requests) = (cell.requests / 2, cell.errors / 2, 0);
        }
        half
    };
    let all = std::mem::take(&mut input.series);
    for series in &all {
        let pods = if series.key.version == "1" { ["1+a", "1+b"] } else { ["2+c", "2+d"] };
        input.series.extend(pods.map(|pod| half(series, pod)));
    }
    input.deploy.previous_version = Some("1+a".to_owned());
    let verdict = judge(&input);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    // Where nobody takes them over they are.
    input.series.retain(|series| series.key.version.starts_with('1'));
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
}

#[test]
fn looking_often_and_looking_once_say_the_same() {
    for seed in 0..6 {
        let scenario = Scenario {
            operations: 4,
            share: [0.05, 0.5, 1.0][seed as usize % 3],
            error_effect: if seed < 3 { 4.0 } else { 1.0 },
            before_s: 900,
            after_s: 400,
            ..Scenario::default()
        };
        let mut input = simulate(&scenario, 40 + seed);
        let end = input.now;
        let once = judge(&input);
        for bucket in START..=end.bucket().0 {
            input.now = Bucket(bucket).start();
            input.previous = Some(judge(&input));
        }
        let often = input.previous.expect("was judged");
        assert_eq!((once.verdict, once.phase), (often.verdict, often.phase), "seed {seed}");
        if once.verdict == VerdictKind::Regressed {
            assert_eq!((once.decided_at, &once.findings), (often.decided_at, &often.findings), "seed {seed}");
        }
    }
}

#[test]
fn the_bucket_that_is_still_filling_counts_nowhere() {
    let scenario = Scenario { share: 0.5, error_effect: 6.0, before_s: 900, after_s: 300, ..Scenario::default() };
    let mut input = simulate(&scenario, 2);
    input.now = Bucket(START + 20).start();
    let whole = judge(&input);
    for series in &mut input.series {
        series.cells.retain(|(bucket, _)| bucket.0 < START + 20);
    }
    assert_eq!(whole, judge(&input));
    let until = format!("bucket_start < TIMESTAMP '{}'", Bucket(START + 20).start());
    assert!(whole.findings[0].sql.contains(&until), "{}", whole.findings[0].sql);
}

#[test]
fn the_kind_of_an_operation_keeps_it_apart() {
    let scenario = Scenario { share: 0.5, operations: 1, after_s: 300, ..Scenario::default() };
    let mut input = simulate(&scenario, 9);
    let mut consumers = input.series.clone();
    for series in &mut consumers {
        series.key.kind = OperationKind::Consumer;
        series.cells.iter_mut().for_each(|(_, cell)| {
            if series.key.version == "2" {
                cell.errors = cell.requests / 3;
            }
        });
    }
    input.series.extend(consumers);
    let verdict = judge(&input);
    let found = finding(&verdict, SignalKind::ErrorRate);
    assert!(found.sql.contains("kind = 'consumer'"), "{}", found.sql);
}

#[test]
fn a_version_that_ended_before_the_start_is_no_control_while_another_serves_whatever_the_marker_says() {
    let scenario = Scenario { share: 0.5, error_effect: 6.0, before_s: 900, after_s: 400, ..Scenario::default() };
    let mut input = simulate(&scenario, 77);
    // A canary that was taken back a minute and a half ago.
    let canary: Vec<_> = input.series.iter().filter(|series| series.key.version == "1").cloned().collect();
    input.series.extend(canary.into_iter().map(|mut series| {
        series.key.version = "0".to_owned();
        series.cells.retain(|(bucket, _)| (START - 60..START - 9).contains(&bucket.0));
        series
    }));
    input.deploy.previous_version = Some("0".to_owned());
    let verdict = judge(&input);
    assert_eq!(verdict.comparison.versions, ["1"], "{}", verdict.summary);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    // Where nothing else serves, it is what there is.
    input.series.retain(|series| series.key.version != "1");
    assert_eq!(judge(&input).comparison.versions, ["0"]);
}
