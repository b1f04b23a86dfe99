//! Programs that query, as people run them: psql, psycopg, JDBC, the Flight SQL drivers of ADBC and JDBC, pyarrow, DuckDB, curl.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use plimsoll_loadtest::{Compression, Endpoint, Load, Mix, Pace, Protocol, Shape, Until};

use crate::peers;
use crate::stage::{Stage, run_name};

const SPANS: u64 = 12 * 250;

/// A server with spans, logs and metrics in it.
async fn filled(arguments: &[&str]) -> Stage {
    let stage = Stage::start_with(|options| options.arguments.extend(arguments.iter().map(|a| (*a).to_owned()))).await;
    for mix in [Mix::Traces, Mix::Logs, Mix::Metrics] {
        let load = Load {
            endpoint: Endpoint {
                address: stage.server.addresses().otlp_grpc,
                protocol: Protocol::Grpc,
                compression: Compression::None,
                timeout: Duration::from_secs(30),
            },
            mix,
            shape: Shape { run: run_name("clients"), instance: "a".into(), small: false, trace_len: 8 },
            batch: 250,
            connections: 1,
            in_flight: 2,
            age: Duration::ZERO,
            pace: Pace::Closed,
            until: Until::Requests(12),
            respect_retry: true,
            server_pid: None,
            sql: None,
            probe_freshness: false,
        };
        load.run().await.unwrap_or_else(|problem| panic!("{problem}"));
    }
    stage
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("waiting does not panic")
        .expect("the program can be started")
}

/// Runs one of the scripts beside this test; it checks what it sees itself.
async fn script(python: &Path, name: &str, stage: &Stage, password: &str) {
    checks_itself(Command::new(python), name, stage, password).await;
}

async fn checks_itself(mut command: Command, name: &str, stage: &Stage, password: &str) {
    let at = stage.server.addresses();
    command
        .arg(peers::repository().join("loadtest/tests/clients").join(name))
        .env("PLIMSOLL_POSTGRES_PORT", at.postgres.port().to_string())
        .env("PLIMSOLL_FLIGHT", at.grpc_api.to_string())
        .env("PLIMSOLL_API", at.api_url())
        .env("PLIMSOLL_DATA", stage.dir().join("data"))
        .env("PLIMSOLL_PASSWORD", password)
        .env("PLIMSOLL_SPANS", SPANS.to_string());
    let output = run(command).await;
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}:\n{told}");
    // The script says what it has got through, so that one that stops early is noticed.
    assert!(told.contains("all is well"), "{name}:\n{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_finds_its_way_around() {
    let Some(psql) = peers::psql() else {
        return;
    };
    let stage = filled(&[]).await;
    let port = stage.server.addresses().postgres.port().to_string();
    let ask = |sql: &str| {
        let mut command = Command::new(&psql);
        // Quiet, without a start-up file, and an error ends it.
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port, "-U", "me"]);
        command.args(["-d", "plimsoll", "-c", sql]);
        async move {
            let output = run(command).await;
            let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            (output.status.success(), told.into_owned(), errors.into_owned())
        }
    };
    for (command, wanted) in [
        (r"\dt", "public|spans|table|plimsoll"),
        (r"\d", "public|logs|table|plimsoll"),
        (r"\d spans", "trace_id|text|"),
        (r"\d spans", "start_time|timestamp with time zone|"),
        (r"\d spans", "attributes|jsonb|"),
        (r"\d+ logs", "severity_text|text|"),
        (r"\dt plimsoll.*", "plimsoll|segments|table|plimsoll"),
        (r"\dn", "public|plimsoll"),
        (r"\l", "plimsoll|plimsoll|UTF8"),
        (r"\df", ""),
        (r"\dv", ""),
        (r"\di", ""),
        (r"\du", "plimsoll|"),
        (r"\dT", ""),
        (r"\dT+", ""),
        (r"\dp", "spans"),
        (r"\conninfo", "port"),
        ("SHOW server_version", "15.0"),
        ("SELECT count(*) FROM spans", "3000"),
        ("BEGIN; SELECT 1 AS one; ROLLBACK", "1"),
        ("SELECT version()", "PostgreSQL 15.0 (Plimsoll"),
        ("SELECT current_user, current_database(), current_schema()", "plimsoll|plimsoll|public"),
    ] {
        let (success, told, errors) = ask(command).await;
        assert!(success && errors.is_empty(), "{command}: {errors}{told}");
        assert!(told.contains(wanted), "{command} should tell `{wanted}`:\n{told}");
    }
    for (command, wanted) in [
        ("INSERT INTO spans VALUES (1)", "SQL only reads here"),
        ("SELECT nme FROM spans", "unknown column `nme`"),
        ("SELEC 1", "LINE 1: SELEC 1"),
        ("SELECT * FROM generate_series(1, 1000000000000)", "not allowed"),
    ] {
        let (success, told, errors) = ask(command).await;
        assert!(!success && errors.contains(wanted), "{command} should be refused with `{wanted}`: {errors}{told}");
    }
    let (_, _, errors) = ask("SELECT nme FROM spans").await;
    assert!(errors.contains("HINT:") && errors.contains("LINE 1: SELECT nme FROM spans"), "{errors}");
    let (success, told, _) = ask(r"\copy (SELECT 1 AS a, 'x,y' AS b) TO STDOUT WITH (FORMAT csv, HEADER)").await;
    assert!(success && told.contains("a,b\n1,\"x,y\""), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_gets_every_type_back_and_transactions_cursors_and_cancelling_work() {
    let Some(python) = peers::clients() else {
        return;
    };
    let stage = filled(&[]).await;
    script(&python, "psycopg_client.py", &stage, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_find_tables_and_columns_and_draw_time_series() {
    let Some(python) = peers::clients() else {
        return;
    };
    let stage = filled(&[]).await;
    script(&python, "dashboards.py", &stage, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flight_sql_serves_adbc_and_what_reads_arrow() {
    let Some(python) = peers::clients() else {
        return;
    };
    let stage = filled(&[]).await;
    script(&python, "flight_client.py", &stage, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_in_the_same_sentence_over_every_face_and_do_no_harm() {
    let Some(python) = peers::clients() else {
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("plimsoll.yaml");
    let settings = "query:\n  timeout: 2s\n  concurrency: 2\nstore:\n  flush_interval: 1s\n";
    std::fs::write(&file, settings).expect("the directory is writable");
    let stage = filled(&["--config", &file.display().to_string()]).await;
    script(&python, "mistakes.py", &stage, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flight_sql_serves_jdbc() {
    let Some(driver) = peers::jdbc() else {
        return;
    };
    let stage = filled(&[]).await;
    let mut command = Command::new("java");
    // Arrow's memory reaches into the JDK's.
    command.args(["--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp"]).arg(&driver);
    checks_itself(command, "Jdbc.java", &stage, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jdbc_driver_of_postgres_gets_parameters_pieces_and_the_catalogue_and_cancels() {
    let Some(driver) = peers::pgjdbc() else {
        return;
    };
    let stage = filled(&[]).await;
    let mut command = Command::new("java");
    command.arg("-cp").arg(&driver);
    checks_itself(command, "Pgjdbc.java", &stage, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_the_password_of_any_user_and_no_other_gets_in() {
    let Some(python) = peers::clients() else {
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("plimsoll.yaml");
    std::fs::write(&file, "auth:\n  token: let-me-in\n").expect("the directory is writable");
    let stage = Stage::start_with(|options| {
        options.arguments.extend(["--config".to_owned(), file.display().to_string()]);
    })
    .await;
    script(&python, "passwords.py", &stage, "let-me-in").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_rows_in_every_format() {
    let stage = filled(&[]).await;
    let url = format!("{}/api/v1/sql", stage.server.addresses().api_url());
    for (accept, wanted) in [
        ("application/json", "\"rows\":[[3000]]"),
        ("application/x-ndjson", "{\"n\":3000}"),
        ("text/csv", "n\n3000\n"),
        // Arrow's stream has no marker but its own: the name of the column is in its schema.
        ("application/vnd.apache.arrow.stream", "n"),
        ("application/vnd.apache.parquet", "PAR1"),
    ] {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "-H", &format!("accept: {accept}"), "-H"]);
        command.args(["content-type: application/json", "-d", r#"{"query":"SELECT count(*) AS n FROM spans"}"#, &url]);
        let output = run(command).await;
        assert!(output.status.success(), "{accept}: {output:?}");
        // Rows of JSON stand on lines of their own.
        let told = String::from_utf8_lossy(&output.stdout).replace("[\n", "[");
        assert!(told.contains(wanted), "{accept}: {told}");
    }
}
