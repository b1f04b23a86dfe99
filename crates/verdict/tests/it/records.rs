//! A service that only logs.

use plimsoll_model::log::{Level, LogSeries};
use plimsoll_model::presence::{PresenceCell, PresenceSeries};
use plimsoll_model::{Bucket, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::aggregates::{gauge, logs, wandering};
use crate::simulation::{START, Scenario, simulate};

/// A hundred records a bucket, of one version after the other, and what else is logged.
fn judged(said: Vec<LogSeries>, since: u64) -> Verdict {
    judge(&asked(said, since))
}

fn asked(said: Vec<LogSeries>, since: u64) -> JudgeInput {
    let mut input: JudgeInput = simulate(&Scenario { before_s: 10, after_s: 600, ..Scenario::default() }, 3);
    input.series.clear();
    let records = |version: &str, buckets: std::ops::Range<u64>, logs: u64| PresenceSeries {
        version: version.to_owned(),
        cells: buckets.map(|bucket| (Bucket(bucket), PresenceCell { logs, ..PresenceCell::default() })).collect(),
    };
    input.aggregates.presence = vec![records("1", START - 300..START, 100), records("2", START..START + 60, since)];
    let known = "cannot write order <*>: timed out";
    input.aggregates.logs = vec![logs("1", known, Level::Error, START - 300..START, 2)];
    input.aggregates.logs.push(logs("2", known, Level::Error, START..START + 60, 2));
    input.aggregates.logs.extend(said);
    input
}

#[test]
fn an_error_that_is_new_among_its_records_is_a_regression_of_a_service_that_only_logs() {
    let disk = logs("2", "cannot write order <*>: disk quota exceeded", Level::Error, START..START + 60, 30);
    let verdict = judged(vec![disk], 100);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let found = &verdict.findings[0];
    assert_eq!(found.signal, SignalKind::NewLog);
    assert!((found.candidate.value - 0.3).abs() < 0.02, "{found:?}");
    assert!(found.sql.contains("sum(logs)") && found.sql.contains("kind = 'presence'"), "{}", found.sql);
    // Of what is fatal a single one is told.
    let fatal = logs("2", "giving up: out of memory", Level::Fatal, START + 6..START + 7, 1);
    let verdict = judged(vec![fatal], 100);
    assert!(verdict.data_quality.contains(&quality::NEW_FATAL.to_owned()), "{:?}", verdict.data_quality);
    assert!(verdict.summary.contains("payment 2: it logged the fatal error"), "{}", verdict.summary);
}

#[test]
fn a_service_that_only_logs_and_says_nothing_new_is_no_worse_whatever_else_it_says_less_of() {
    for since in [100, 20, 400] {
        let verdict = judged(Vec::new(), since);
        assert_eq!(verdict.verdict, VerdictKind::Inconclusive, "{}", verdict.summary);
        assert!(verdict.data_quality.contains(&quality::LOGS_ONLY.to_owned()), "{:?}", verdict.data_quality);
        assert!(verdict.summary.contains("only its logs are known"), "{}", verdict.summary);
        assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    }
}

#[test]
fn levels_that_keep_show_nobody_to_be_well_who_logs_what_is_new() {
    let with_level = |said: Vec<LogSeries>| {
        let mut input = simulate(&Scenario { before_s: 10, after_s: 1_200, ..Scenario::default() }, 3);
        let records = asked(said, 100);
        input.series.clear();
        input.aggregates.presence = records.aggregates.presence;
        input.aggregates.presence[1].cells =
            (START..START + 120).map(|b| (Bucket(b), PresenceCell { logs: 100, ..PresenceCell::default() })).collect();
        input.aggregates.logs = records.aggregates.logs;
        let memory = "process.memory.usage";
        input.aggregates.metrics = vec![
            gauge("1", memory, wandering, START / 6 - 60..START / 6),
            gauge("2", memory, wandering, START / 6..START / 6 + 20),
        ];
        judge(&input)
    };
    let verdict = with_level(Vec::new());
    assert_eq!(verdict.verdict, VerdictKind::Pass, "{}", verdict.summary);
    assert!(
        verdict.summary.contains("by 1 of its metrics, and 12,000 records show nothing that is new"),
        "{}",
        verdict.summary
    );
    let words = [quality::METRICS_ONLY, quality::LOGS_ONLY].map(str::to_owned);
    assert!(words.iter().all(|word| verdict.data_quality.contains(word)), "{:?}", verdict.data_quality);

    let disk = logs("2", "cannot write order <*>: disk quota exceeded", Level::Error, START..START + 120, 30);
    let verdict = with_level(vec![disk]);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert_eq!(verdict.findings[0].signal, SignalKind::NewLog);

    let fatal = logs("2", "giving up: out of memory", Level::Fatal, START + 6..START + 7, 1);
    let verdict = with_level(vec![fatal]);
    assert_eq!(verdict.verdict, VerdictKind::Inconclusive, "{}", verdict.summary);
    assert!(verdict.summary.contains("payment 2: it logged the fatal error"), "{}", verdict.summary);
}
