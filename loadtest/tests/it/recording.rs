//! A recorded day of a real system, replayed: as many rows as the source has, and a sample of them field by field.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use plimsoll_loadtest::{
    Compression, Endpoint, Protocol, Recording, Replay, ReplayReport, ReplayTarget, Shift, Signal, Speed, to_protobuf,
};
use serde_json::{Value, json};

use crate::peers;
use crate::stage::{PATIENCE, Stage, run_name};

/// Every so many-th record of the source is looked up.
const SAMPLE: u64 = 9_973;

/// One record of the source and the resource it came with.
struct Source {
    resource: HashMap<String, String>,
    record: Value,
}

/// What a file of the recording holds.
struct Contents {
    records: u64,
    /// Items, or points of metrics, in lines that are there already: the same request again, which is stored once.
    repeated: u64,
    sample: Vec<Source>,
}

/// Reads a file of the recording plainly, with none of the code under test.
fn source(path: &Path, outer: &str, inner: &str, records: &str) -> Contents {
    let file = std::fs::File::open(path).expect("the recording is there");
    let lines = BufReader::new(zstd::Decoder::new(file).expect("it is zstd"));
    let (mut count, mut repeated) = (0, 0);
    let mut sample = Vec::new();
    let mut seen = HashSet::new();
    for line in lines.lines() {
        let line = line.expect("it is text");
        let request: Value = serde_json::from_str(&line).expect("a line is JSON");
        let again = !seen.insert(line);
        for group in request[outer].as_array().expect("a request has groups") {
            for scoped in group[inner].as_array().expect("a group has scopes") {
                for record in scoped[records].as_array().expect("a scope has records") {
                    if count % SAMPLE == 0 {
                        sample
                            .push(Source { resource: texts(&group["resource"]["attributes"]), record: record.clone() });
                    }
                    count += 1;
                    let points = record["gauge"]["dataPoints"].as_array().map_or(1, Vec::len) as u64;
                    repeated += if again { points } else { 0 };
                }
            }
        }
    }
    Contents { records: count, repeated, sample }
}

fn texts(attributes: &Value) -> HashMap<String, String> {
    let pairs = attributes.as_array().expect("attributes are a list");
    pairs
        .iter()
        .map(|pair| {
            let text = |value: &Value| value.as_str().expect("the recording has text attributes only").to_owned();
            (text(&pair["key"]), text(&pair["value"]["stringValue"]))
        })
        .collect()
}

fn nanos(value: &Value) -> i64 {
    value.as_str().expect("the recording writes times as text").parse().expect("times are numbers")
}

/// An id of the source; an empty one is none.
fn id<'a>(record: &'a Value, key: &str) -> Option<&'a str> {
    record.get(key)?.as_str().filter(|id| !id.is_empty())
}

async fn replay(stage: &Stage, paths: &[&Path], protocol: Protocol, shift: Shift, speed: Speed) -> ReplayReport {
    let at = stage.server.addresses();
    let endpoint = Endpoint {
        address: if protocol == Protocol::Grpc { at.otlp_grpc } else { at.otlp_http },
        protocol,
        compression: Compression::Zstd,
        timeout: Duration::from_secs(60),
    };
    let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
    let recording = Recording::open(&paths).unwrap_or_else(|problem| panic!("{problem}"));
    let target = ReplayTarget { endpoint, in_flight: 8, retry_for: PATIENCE };
    let replay = Replay { recording, target, shift, speed, batch: None };
    replay.run().await.unwrap_or_else(|problem| panic!("{problem}"))
}

async fn rows(stage: &Stage, query: &str) -> Vec<Vec<Value>> {
    stage.sql.query(query).await.unwrap_or_else(|problem| panic!("{problem}")).rows
}

async fn number(stage: &Stage, query: &str) -> u64 {
    stage.sql.number(query).await.unwrap_or_else(|problem| panic!("{problem}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_day_becomes_the_rows_that_its_files_hold() {
    let Some(dir) = peers::trainticket() else {
        return;
    };
    let stage = Stage::start().await;
    let report = replay(&stage, &[&dir], Protocol::Grpc, Shift::Now, Speed::Max).await;
    let shifted = |value: &Value| nanos(value) + report.shifted_by_ns;

    let Contents { records: spans, repeated, sample } =
        source(&dir.join("traces.jsonl.zst"), "resourceSpans", "scopeSpans", "spans");
    assert_eq!(report.spans, spans, "{report:?}");
    assert_eq!(number(&stage, "SELECT count(*) FROM spans").await, spans - repeated);
    // Some records of the source are exact repetitions, of spans as of logs, so that the answer may be several equal rows.
    for Source { resource, record } in sample {
        let found = rows(
            &stage,
            &format!(
                "SELECT DISTINCT service_name, environment, service_instance_id, name, \
                 arrow_cast(start_time, 'Int64'), arrow_cast(end_time, 'Int64'), duration_ns, parent_span_id, scope_name \
                 FROM spans WHERE trace_id = '{}' AND span_id = '{}'",
                record["traceId"].as_str().expect("spans have ids"),
                record["spanId"].as_str().expect("spans have ids"),
            ),
        )
        .await;
        let (start, end) = (shifted(&record["startTimeUnixNano"]), shifted(&record["endTimeUnixNano"]));
        let wanted = json!([
            resource["service.name"],
            resource["deployment.environment.name"],
            resource["service.instance.id"],
            record["name"],
            start,
            end,
            end - start,
            id(&record, "parentSpanId"),
            "nezha",
        ]);
        assert_eq!(numbers_as_text(&json!(found)), numbers_as_text(&json!([wanted])), "{record}");
    }

    let Contents { records: logs, repeated, sample } =
        source(&dir.join("logs.jsonl.zst"), "resourceLogs", "scopeLogs", "logRecords");
    assert_eq!((report.logs, report.times_unset), (logs, 45), "{report:?}");
    assert_eq!(number(&stage, "SELECT count(*) FROM logs").await, logs - repeated);
    for Source { resource, record } in sample {
        // A few records of the source have no time; the row then has that of its arrival.
        let time = match nanos(&record["timeUnixNano"]) {
            ..=0 => "true".to_owned(),
            _ => format!("arrow_cast(time, 'Int64') = {}", shifted(&record["timeUnixNano"])),
        };
        let found = rows(
            &stage,
            &format!(
                "SELECT DISTINCT body, severity_number, severity_text, trace_id, span_id FROM logs \
                 WHERE service_instance_id = '{}' AND {time} AND body = '{}'",
                resource["service.instance.id"],
                record["body"]["stringValue"].as_str().expect("bodies are text").replace('\'', "''"),
            ),
        )
        .await;
        let wanted = json!([
            record["body"]["stringValue"],
            record["severityNumber"],
            record["severityText"],
            id(&record, "traceId"),
            id(&record, "spanId"),
        ]);
        assert_eq!(json!(found), json!([wanted]), "{record}");
    }

    let Contents { repeated, sample, .. } =
        source(&dir.join("metrics.jsonl.zst"), "resourceMetrics", "scopeMetrics", "metrics");
    let points = number(&stage, "SELECT count(*) FROM metrics").await;
    assert_eq!(points, report.points - repeated, "{report:?}");
    assert!(points > 100_000, "the recording has more points than {points}");
    for Source { resource, record } in sample {
        for point in record["gauge"]["dataPoints"].as_array().expect("the recording has gauges only") {
            let found = rows(
                &stage,
                &format!(
                    "SELECT metric_type, unit, value FROM metrics WHERE service_instance_id = '{}' \
                     AND metric_name = '{}' AND arrow_cast(time, 'Int64') = {}",
                    resource["service.instance.id"],
                    record["name"].as_str().expect("metrics have names"),
                    shifted(&point["timeUnixNano"]),
                ),
            )
            .await;
            let wanted = json!(["gauge", record["unit"], point["asDouble"]]);
            assert!(found.iter().any(|row| json!(row) == wanted), "{record}: {found:?}");
        }
    }
}

/// 64-bit integers come as numbers or, past what a JSON reader may hold exactly, as text: both are right.
fn numbers_as_text(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(numbers_as_text).collect(),
        Value::Number(number) => Value::String(number.to_string()),
        other => other.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_written_as_text_arrive_exactly_as_json_and_as_protobuf() {
    let stage = Stage::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    for protocol in [Protocol::Grpc, Protocol::Http, Protocol::HttpJson] {
        let run = run_name("integers");
        let exact = "9007199254740993";
        let attributes = json!([
            {"key": "service.name", "value": {"stringValue": "integers"}},
            {"key": "service.namespace", "value": {"stringValue": run}},
        ]);
        // Of today, so that it is not old enough to be removed.
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
        let time = format!("{}", since.as_nanos());
        let point = json!({"timeUnixNano": time, "asInt": exact,
            "attributes": [{"key": "exact", "value": {"intValue": exact}}]});
        let bars = json!({"timeUnixNano": time, "count": exact, "bucketCounts": ["1", exact], "explicitBounds": [1]});
        let metrics = json!([
            {"name": "points", "sum": {"isMonotonic": true, "aggregationTemporality": 2, "dataPoints": [point]}},
            {"name": "bars", "histogram": {"aggregationTemporality": 1, "dataPoints": [bars]}},
        ]);
        let line = json!({"resourceMetrics": [{"resource": {"attributes": attributes},
            "scopeMetrics": [{"metrics": metrics}]}]});
        let path = dir.path().join(format!("{run}.jsonl"));
        std::fs::write(&path, line.to_string()).expect("a line can be written");
        let report = replay(&stage, &[&path], protocol, Shift::None, Speed::Max).await;
        assert_eq!((report.points, report.rejected), (2, 0), "{protocol}");
        let found = rows(
            &stage,
            &format!(
                "SELECT CAST(value_int AS VARCHAR), attributes['exact'], CAST(count AS VARCHAR), \
                 CAST(bucket_counts[2] AS VARCHAR), CAST(arrow_cast(time, 'Int64') AS VARCHAR) \
                 FROM metrics WHERE service_namespace = '{run}' ORDER BY metric_name DESC"
            ),
        )
        .await;
        let wanted = json!([[exact, exact, null, null, time], [null, null, exact, exact, time]]);
        assert_eq!(json!(found), wanted, "{protocol}");
        assert!(to_protobuf(Signal::Metrics, &line).is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_played_as_many_times_faster_as_asked() {
    let stage = Stage::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let run = run_name("paced");
    let resource = json!({"attributes": [{"key": "service.namespace", "value": {"stringValue": run}}]});
    // A minute of one record each ten seconds.
    let lines: Vec<String> = (0..=6_u64)
        .map(|at| {
            let record =
                json!({"timeUnixNano": (1_700_000_000 + at * 10) * 1_000_000_000, "body": {"stringValue": "x"}});
            json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}).to_string()
        })
        .collect();
    let path = dir.path().join("minute.jsonl");
    std::fs::write(&path, lines.join("\n")).expect("lines can be written");
    let report = replay(&stage, &[&path], Protocol::Http, Shift::Now, Speed::Times(60.0)).await;
    assert_eq!(report.logs, 7);
    assert!((1.0..10.0).contains(&report.seconds), "a minute at sixty times is a second: {report:?}");
    assert_eq!(stage.count("logs", &run, 7).await, 7);
}
