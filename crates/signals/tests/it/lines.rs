//! Log lines counted by template, version and severity, and bounded.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use plimsoll_model::UnixNanos;
use plimsoll_model::log::Level;
use plimsoll_otlp::{Signal, Table, decode};
use plimsoll_signals::{OTHER, SignalLimits, SignalState};
use prost::Message;

use crate::build::{MS, T0, always, key, resource, state};

fn send(state: &mut SignalState, version: &str, received: u64, lines: &[(i32, String)]) {
    let record = |(severity, line): &(i32, String)| LogRecord {
        time_unix_nano: T0 + received * MS,
        severity_number: *severity,
        body: Some(AnyValue { value: Some(Value::StringValue(line.clone())) }),
        ..LogRecord::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource("a", version, ""),
            scope_logs: vec![ScopeLogs { log_records: lines.iter().map(record).collect(), ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec();
    let decoded = decode(Signal::Logs, &request, UnixNanos(T0 + received * MS)).expect("well-formed");
    state.fold(Table::Logs, &decoded.batch).expect("the stored schema");
}

#[test]
fn templates_are_counted_by_version_and_severity_with_their_first_sight() {
    let mut state = state();
    let lines = |n: u64| (0..n).map(|i| (17, format!("order {i} failed: out of stock"))).collect::<Vec<_>>();
    send(&mut state, "1", 0, &lines(5));
    send(&mut state, "2", 60_000, &lines(7));
    send(&mut state, "2", 60_000, &[(9, "ready".to_owned())]);
    let logs = state.aggregates(&key("a"), always()).logs;
    let told: Vec<_> = logs
        .iter()
        .map(|s| (s.version.as_str(), s.template.as_str(), s.level, s.cells[0].1.count, s.first_seen.0 - T0))
        .collect();
    let failed = "order <*> failed: out of stock";
    assert_eq!(
        told,
        [
            ("1", failed, Level::Error, 5, 0),
            ("2", "ready", Level::Info, 1, 60_000 * MS),
            ("2", failed, Level::Error, 7, 0),
        ]
    );
}

#[test]
fn what_versions_logged_that_were_taken_back_does_not_tell_when_a_template_was_first_seen() {
    let mut state = state();
    let lines = |text: &str| vec![(17, format!("order 7 failed: {text}"))];
    send(&mut state, "2", 10_000, &lines("no price"));
    send(&mut state, "1", 20_000, &lines("out of stock"));
    send(&mut state, "2", 30_000, &lines("out of stock"));
    send(&mut state, "3", 90_000, &lines("no price"));
    let first = |state: &SignalState, taken_back: &[&str]| -> Vec<u64> {
        let taken_back = taken_back.iter().map(|version| (*version).to_owned()).collect();
        let logs = state.aggregates_without(&key("a"), always(), &taken_back).logs;
        ["no price", "out of stock"]
            .map(|text| {
                let of = logs.iter().filter(|log| log.template.ends_with(text));
                of.map(|log| log.first_seen.0.saturating_sub(T0) / MS).min().expect("it was logged")
            })
            .to_vec()
    };
    let mut restarted = SignalState::new(SignalLimits::default());
    for (table, rows) in state.pending_rows() {
        restarted.load(table, &rows).expect("own rows");
    }
    for state in [&state, &restarted] {
        assert_eq!(first(state, &[]), [10_000, 20_000]);
        assert_eq!(first(state, &["2"]), [90_000, 20_000]);
        assert!(first(state, &["2", "3"])[0] > 90_000, "nobody else did");
    }
}

#[test]
fn a_bomb_of_messages_is_bounded_and_what_is_new_is_still_told_where_only_words_vary() {
    let limits = SignalLimits { templates_per_service_max: 50, ..SignalLimits::default() };
    let mut state = SignalState::new(limits.clone());
    let word = |mut i: u64| {
        let mut word = String::new();
        loop {
            word.push(char::from(b'a' + (i % 26) as u8));
            i /= 26;
            if i == 0 {
                return word;
            }
        }
    };
    for second in 0..20_u64 {
        let lines: Vec<_> =
            (0..100).map(|i| (9, format!("session of {} ended by timeout rule", word(second * 100 + i)))).collect();
        send(&mut state, "1", second * 10_000, &lines);
    }
    send(&mut state, "1", 200_000, &[(17, "the disk is full".to_owned())]);
    let logs = state.aggregates(&key("a"), always()).logs;
    let count = |template: &str| {
        logs.iter().filter(|s| s.template == template).flat_map(|s| &s.cells).map(|(_, c)| c.count).sum::<u64>()
    };
    assert_eq!(count("session of <*> ended by timeout rule") + count(OTHER), 2_000);
    assert!(count(OTHER) < 700, "{}", count(OTHER));
    assert_eq!(count("the disk is full"), 1);

    // Nothing alike: what does not fit is `{other}`, and that is said.
    let mut state = SignalState::new(limits);
    let lines: Vec<_> =
        (0..500).map(|i| (9, format!("{} {} {}", word(i), word(i * 31 + 7), word(i * 17 + 3)))).collect();
    send(&mut state, "1", 0, &lines);
    let logs = state.aggregates(&key("a"), always()).logs;
    assert!(logs.len() <= 51 && logs.iter().any(|s| s.template == OTHER), "{}", logs.len());
    assert!(state.data_quality(&key("a")).contains(&"collapsed_logs".to_owned()));
}
