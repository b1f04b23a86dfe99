//! Segments as another engine reads them, without a word from Plimsoll: DuckDB over the files of a server that has stopped.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll_loadtest::{Compression, Connection, Dataset, Endpoint, Protocol, Reply, Server, ServerOptions};
use serde_json::{Value, json};

use crate::peers;
use crate::stage::{PATIENCE, options};

const TENANT: &str = "attributes['shop.tenant']";

/// Answers of DuckDB, each the text of its first row.
fn duckdb(python: &Path, segments: &Path, questions: &[(&str, &str)]) -> Vec<String> {
    let view = |table: &str| {
        let files = segments.join(table).join("*/*.parquet");
        format!("CREATE VIEW {table} AS SELECT * FROM read_parquet('{}', union_by_name = true)", files.display())
    };
    let asked: Vec<Value> = questions.iter().map(|(name, sql)| json!({"name": name, "sql": sql})).collect();
    let order = json!({"engine": "duckdb", "state": "", "threads": 1, "rounds": 0,
        "setup": [view("spans"), view("logs")], "questions": asked});
    let mut child = Command::new(python)
        .arg(peers::repository().join("loadtest/peers/questions.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the interpreter starts");
    let mut input = child.stdin.take().expect("standard input was piped");
    input.write_all(order.to_string().as_bytes()).expect("the order is read");
    drop(input);
    let output = child.wait_with_output().expect("the script ends");
    assert!(output.status.success(), "{}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    let answers = report["answers"].as_array().expect("there are answers").iter();
    answers.map(|answer| answer["first"].as_str().expect("rows are text").to_owned()).collect()
}

#[tokio::test]
async fn duckdb_reads_counts_attributes_and_times_as_they_are() {
    let Some(python) = peers::duckdb() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let config = dir.path().join("plimsoll.yaml");
    std::fs::write(&config, "store:\n  flush_interval: 100ms\n").expect("writable");
    let arguments = vec!["--config".to_owned(), config.display().to_string()];
    let options = ServerOptions { arguments, ..options(dir.path()) };
    let mut server = Server::start(options, PATIENCE).await.unwrap_or_else(|problem| panic!("{problem}"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let set = Dataset {
        spans: 30_000,
        logs: 10_000,
        seconds: 3_600,
        ends_at: u64::try_from(now).expect("before 2554"),
        seed: 11,
    };
    let endpoint = Endpoint {
        address: server.addresses().otlp_grpc,
        protocol: Protocol::Grpc,
        compression: Compression::None,
        timeout: PATIENCE,
    };
    let mut connection = Connection::open(endpoint).await.expect("connects");
    let sql = server.sql();
    let files = |table: &str| -> BTreeSet<PathBuf> {
        let days = std::fs::read_dir(dir.path().join("data/segments").join(table)).into_iter().flatten().flatten();
        days.flat_map(|day| std::fs::read_dir(day.path()).into_iter().flatten().flatten()).map(|f| f.path()).collect()
    };
    // Each request becomes a segment or two; eight of them are merged into one, so sooner or later there are fewer files.
    let (mut most, mut merged) = (0, false);
    for number in 0..set.requests() {
        let (signal, body) = set.request(number);
        let reply = connection.send_message(signal, &body).await.expect("answered");
        assert_eq!(reply, Reply::Accepted { rejected: 0 });
        let table = signal.table();
        let before = files(table);
        let changed = async {
            while files(table).is_subset(&before) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, changed).await.expect("rows become segments");
        merged |= files("spans").len() < most;
        most = most.max(files("spans").len());
    }
    assert!(merged, "segments were merged on the way");
    let number = async |query: &str| sql.number(query).await.unwrap_or_else(|problem| panic!("{problem}"));
    let one_tenant = format!("SELECT count(*) FROM spans WHERE {TENANT} = 'tenant-007'");
    let expected = [
        number("SELECT count(*) FROM spans").await,
        number("SELECT count(*) FROM logs").await,
        number(&one_tenant).await,
        number("SELECT CAST(min(start_time) AS BIGINT) FROM spans").await,
        number("SELECT count(*) FROM spans WHERE attributes['shop.items'] > 20").await,
    ];
    assert_eq!(expected[..2], [set.spans, set.logs]);
    server.stop(PATIENCE).await.unwrap_or_else(|problem| panic!("{problem}"));

    let copies = "SELECT count(*) FROM spans WHERE \"attributes.shop.tenant\" IS NOT NULL";
    let unlike = "SELECT count(*) FROM spans WHERE \"attributes.shop.tenant\" <> attributes['shop.tenant'] \
        OR \"attributes.shop.items\"::VARCHAR <> attributes['shop.items']";
    let answers = duckdb(
        &python,
        &dir.path().join("data/segments"),
        &[
            ("spans", "SELECT count(*) FROM spans"),
            ("logs", "SELECT count(*) FROM logs"),
            ("attribute", &one_tenant),
            ("time", "SELECT epoch_ns(min(start_time)) FROM spans"),
            ("number", "SELECT count(*) FROM spans WHERE attributes['shop.items']::BIGINT > 20"),
            ("columns unlike the map", unlike),
            ("columns", copies),
        ],
    );
    let same: Vec<String> = expected.iter().map(|number| format!("[({number},)]")).collect();
    assert_eq!(answers[..5], same);
    assert_eq!(answers[5], "[(0,)]", "columns are copies");
    assert_ne!(answers[6], "[(0,)]", "there are columns");
}
