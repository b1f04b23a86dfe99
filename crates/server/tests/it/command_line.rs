//! The binary: exit codes, messages, what it refuses to start with, and how it stops.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::server::Running;

const PLIMSOLL: &str = env!("CARGO_BIN_EXE_plimsoll");

fn plimsoll(arguments: &[&str]) -> Output {
    Command::new(PLIMSOLL)
        .args(arguments)
        .env_remove("PLIMSOLL_API")
        .env_remove("PLIMSOLL_TOKEN")
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn client_commands_do_what_rest_does_and_exit_as_documented() {
    let server = Running::start().await;
    server.send_spans("1.0.0", 0, 3).await;
    let api = server.api.clone();
    tokio::task::spawn_blocking(move || {
        let deploy = plimsoll(&[
            "deploy",
            "--api",
            &api,
            "--service",
            "payment",
            "--environment",
            "prod",
            "--version",
            "2.0.0",
            "--attribute",
            "team=pay",
            "--idempotency-key",
            "k1",
        ]);
        assert_eq!(deploy.status.code(), Some(0), "{}", text(&deploy.stderr));
        let id = text(&deploy.stdout).trim().to_owned();
        assert!(id.starts_with("dep_"), "{id}");

        let verdict = plimsoll(&["verdict", &id, "--api", &api, "-o", "json"]);
        assert_eq!(verdict.status.code(), Some(3), "inconclusive: {}", text(&verdict.stderr));
        let verdict: Value = serde_json::from_slice(&verdict.stdout).expect("JSON");
        assert_eq!(verdict["deploy_id"].as_str(), Some(id.as_str()));
        let waited = plimsoll(&["verdict", &id, "--api", &api, "--wait", "300ms"]);
        assert_eq!(waited.status.code(), Some(4), "no decision in time");
        assert!(text(&waited.stdout).contains("inconclusive"), "{}", text(&waited.stdout));

        let unknown = plimsoll(&["verdict", "dep_none", "--api", &api]);
        assert_eq!(unknown.status.code(), Some(2), "1 would say regressed");
        assert!(text(&unknown.stderr).contains("there is no deploy `dep_none`"), "{}", text(&unknown.stderr));
        assert!(text(&unknown.stderr).contains("FROM deploys ORDER BY started_at"), "{}", text(&unknown.stderr));

        let rows = plimsoll(&[
            "sql",
            "SELECT count(*) AS n FROM spans WHERE name = $1",
            "--param",
            "POST /charge",
            "--api",
            &api,
            "-o",
            "csv",
        ]);
        assert_eq!(text(&rows.stdout), "n\n3\n", "{}", text(&rows.stderr));
        let table = plimsoll(&["sql", "SELECT 1 AS one", "--api", &api]);
        assert!(text(&table.stdout).contains("one") && !text(&table.stdout).contains('\u{1b}'), "no colour in a pipe");
        let refused = plimsoll(&["sql", "DROP TABLE spans", "--api", &api]);
        assert_eq!(refused.status.code(), Some(1));
    })
    .await
    .expect("the commands were run");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_says_how_it_ended_and_what_was_decided() {
    let server = Running::start().await;
    let deploy = server.deploy("1").await;
    let (api, id) = (server.api.clone(), deploy["id"].as_str().expect("an id").to_owned());
    let said = tokio::task::spawn_blocking(move || {
        let run = |arguments: &[&str]| {
            let mut command = Command::new(PLIMSOLL);
            // An empty variable is none.
            command.args(arguments).env("PLIMSOLL_TOKEN", "").env("PLIMSOLL_API", &api).env("USER", "");
            command.output().expect("the binary runs")
        };
        let decided = run(&["decide", &id, "accept-risk", "--actor", "kim", "--reason", "known"]);
        assert_eq!(decided.status.code(), Some(0), "{}", text(&decided.stderr));
        assert_eq!(text(&decided.stdout), format!("{id}: accept_risk, decided by kim\n"));
        for nameless in [&["decide", &id, "hold"][..], &["feedback", &id, "right"]] {
            let nameless = run(nameless);
            assert_eq!(nameless.status.code(), Some(2));
            assert!(text(&nameless.stderr).contains("`--actor NAME`"), "{}", text(&nameless.stderr));
        }
        let ended = run(&["finish", &id, "succeeded", "-o", "json"]);
        assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
        let ended: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
        assert_eq!(ended["status"], "succeeded");
        let wrong = run(&["finish", &id, "failed", "--finished-at", "soon"]);
        assert_eq!(wrong.status.code(), Some(1));
        let usage = text(&run(&["finish"]).stderr);
        assert!(usage.contains("<DEPLOY>") && !usage.contains("--api <URL>"), "{usage}");
        id
    });
    let id = said.await.expect("the commands were run");
    let (_, decisions) = server.get(&format!("/api/v1/deploys/{id}/decisions")).await;
    assert_eq!((&decisions[0]["decision"], &decisions[0]["reason"]), (&"accept_risk".into(), &"known".into()));
    server.stop().await;
}

#[test]
fn what_a_backtest_has_no_use_for_is_refused() {
    let neither = text(&plimsoll(&["backtest"]).stderr);
    assert!(neither.contains("--otlp PATH.. --deploys FILE") && neither.contains("`--from-store`"), "{neither}");
    let since = plimsoll(&["backtest", "--otlp", "x", "--deploys", "y", "--since", "3d"]);
    assert_eq!(since.status.code(), Some(2));
    assert!(text(&since.stderr).contains("'--since <TIME>'"), "{}", text(&since.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_says_which_setting_to_change() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Running::start_with(directory, |config| config.query.rows_max = 2).await;
    let api = server.api.clone();
    let asked = tokio::task::spawn_blocking(move || {
        for format in ["table", "json", "jsonl", "csv"] {
            let broken = plimsoll(&["sql", crate::api::THREE_ROWS, "--api", &api, "-o", format]);
            assert_eq!(broken.status.code(), Some(1), "{format}");
            let said = text(&broken.stderr);
            assert!(said.contains("the answer broke off: the answer has more than 2 rows"), "{format}: {said}");
            assert!(said.contains("`query.rows_max`"), "{format}: {said}");
        }
    });
    asked.await.expect("the commands were run");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_waits_on_while_the_server_restarts() {
    let server = Running::start().await;
    let deploy = server.deploy("1").await;
    let (_, mut verdict) =
        server.get(&format!("/api/v1/deploys/{}/verdict", deploy["id"].as_str().expect("an id"))).await;
    server.stop().await;
    let (undecided, decided) = (verdict.to_string(), {
        verdict["decided"] = true.into();
        verdict.to_string()
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let api = format!("http://{}", listener.local_addr().expect("an address"));
    let gate = tokio::task::spawn_blocking(move || plimsoll(&["verdict", "dep_x", "--api", &api, "--wait", "25s"]));
    std::thread::spawn(move || {
        // It goes away, then answers early because it stops, and is there again.
        for answer in ["", &undecided, &decided] {
            let (mut client, _) = listener.accept().expect("the command asks again");
            let mut asked = BufReader::new(client.try_clone().expect("a handle"));
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                assert_ne!(asked.read_line(&mut line).expect("a request"), 0);
            }
            if !answer.is_empty() {
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
                write!(client, "{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).expect("is read");
            }
        }
    });
    let gate = gate.await.expect("the command ran");
    assert_eq!(gate.status.code(), Some(3), "{}", text(&gate.stderr));
}

#[test]
fn usage_and_unreachable_have_their_own_exit_codes() {
    assert_eq!(plimsoll(&["verdict"]).status.code(), Some(2));
    assert_eq!(
        plimsoll(&["sql", "SELECT 1", "--api", "127.0.0.1:1"]).status.code(),
        Some(2),
        "an address without http://"
    );
    // Nor is the time given waited out where nobody has ever answered.
    let unreachable = plimsoll(&["verdict", "dep_x", "--api", "http://127.0.0.1:1", "--wait", "1h"]);
    assert_eq!(unreachable.status.code(), Some(4));
    assert!(text(&unreachable.stderr).contains("asked for 10 s, no answer yet"), "{}", text(&unreachable.stderr));
    let unreachable = plimsoll(&["verdict", "dep_x", "--api", "http://127.0.0.1:1"]);
    assert_eq!(unreachable.status.code(), Some(4));
    assert!(text(&unreachable.stderr).contains("is `plimsoll serve` running"), "{}", text(&unreachable.stderr));
}

#[test]
fn a_configuration_is_checked_whole_and_completions_are_printed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("plimsoll.yaml");
    std::fs::write(&file, "retention: 7d\nquery:\n  timeout: never\n").expect("is writable");
    let path = file.to_str().expect("is text");
    let wrong = plimsoll(&["check-config", path]);
    assert_eq!(wrong.status.code(), Some(1));
    let message = text(&wrong.stderr);
    assert!(
        message.contains("2 problems") && message.contains("`retention`") && message.contains("`query.timeout`"),
        "{message}"
    );
    assert_eq!(plimsoll(&["serve", "--config", path]).status.code(), Some(2), "and the server does not start with it");
    std::fs::write(&file, "query:\n  timeout: 1s\nquery:\n  threads: 1\n").expect("is writable");
    let twice = text(&plimsoll(&["check-config", path]).stderr);
    assert!(twice.contains("`query` stands twice in one section, again on line 3"), "{twice}");
    assert!(!twice.contains("Policy") && !twice.contains("Options"), "{twice}");
    std::fs::write(&file, "store:\n  retention: 7d\n").expect("is writable");
    assert_eq!(plimsoll(&["check-config", path]).status.code(), Some(0));
    assert_eq!(plimsoll(&["check-config", "/nowhere/at/all.yaml"]).status.code(), Some(1));
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&plimsoll(&["completions", shell]).stdout).contains("plimsoll"), "{shell}");
    }
}

#[test]
fn every_example_in_the_documentation_is_a_valid_configuration() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md"))
        .expect("the page");
    let examples: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3, "{examples:?}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("plimsoll.yaml");
    for example in examples {
        std::fs::write(&file, example).expect("is writable");
        let checked = Command::new(PLIMSOLL)
            .arg("check-config")
            .arg(&file)
            .env("OPS_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .env("PAGERDUTY_KEY", "0123456789abcdef0123456789abcdef")
            .env("SLACK_WEBHOOK", "https://hooks.slack.com/services/T0/B0/x")
            .output()
            .expect("the binary runs");
        assert_eq!(checked.status.code(), Some(0), "{example}\n{}", text(&checked.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_spans_go_where_they_are_told_to() {
    let observer = Running::start().await;
    let endpoint = format!("http://{}", observer.server.as_ref().expect("runs").addresses().otlp_grpc);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data_dir = directory.path().to_owned();
    let observed = tokio::task::spawn_blocking(move || {
        let mut observed = Serving::start_with(&data_dir, &[("PLIMSOLL_TELEMETRY_OTLP_ENDPOINT", &endpoint)]);
        let log = observed.until("replayed_frames");
        let api =
            log.split("api=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address").to_owned();
        let answer = plimsoll(&["sql", "SELECT 42", "--api", &format!("http://{api}")]);
        assert_eq!(answer.status.code(), Some(0), "{}", text(&answer.stderr));
        observed.terminate();
        observed.until("stopped");
        assert_eq!(observed.0.wait().expect("ends").code(), Some(0));
    });
    observed.await.expect("it ran");
    let spans = observer
        .value("SELECT count(*) FROM spans WHERE service_name = 'plimsoll' AND name = 'sql' AND attributes['query'] = 'SELECT 42'")
        .await;
    assert_eq!(spans, serde_json::json!(1), "spans leave before the process ends");
    observer.stop().await;
}

struct Serving(Child);

impl Serving {
    fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    fn start_with(data_dir: &Path, environment: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(PLIMSOLL).envs(environment.iter().copied()), data_dir)
    }

    /// Starts it with no more than so many open files, however it asks.
    fn start_within(open_files: u32, data_dir: &Path) -> Self {
        let script = format!("ulimit -n {open_files} && exec \"$0\" \"$@\"");
        Self::spawn(Command::new("sh").args(["-c", &script, PLIMSOLL]), data_dir)
    }

    fn spawn(command: &mut Command, data_dir: &Path) -> Self {
        let any = "127.0.0.1:0";
        let child = command
            .args([
                "serve",
                "--otlp-grpc",
                any,
                "--otlp-http",
                any,
                "--api",
                any,
                "--grpc-api",
                any,
                "--postgres",
                any,
                "--data-dir",
            ])
            .arg(data_dir)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        Self(child)
    }

    /// Reads the log until a line holds `word`; the lines so far where the process ends first.
    fn until(&mut self, word: &str) -> String {
        let log = self.0.stderr.as_mut().expect("is piped");
        let mut seen = String::new();
        // Unbuffered beyond a line would lose what comes after: one reader for the life of the call, a byte at a time.
        for line in BufReader::with_capacity(1, log).lines().map_while(Result::ok) {
            seen.push_str(&line);
            seen.push('\n');
            if line.contains(word) {
                break;
            }
        }
        seen
    }

    fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_data_directory_in_use_or_not_usable_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let environment = [("PLIMSOLL_STORE_RETENTON", "1d"), ("PLIMSOLL_SERVICE_HOST", "10.0.0.1")];
    let mut first = Serving::start_with(directory.path(), &environment);
    let log = first.until("replayed_frames");
    assert!(log.contains("replayed_frames"), "{log}");
    assert!(log.contains("`PLIMSOLL_STORE_RETENTON` sets nothing; did you mean `PLIMSOLL_STORE_RETENTION`?"), "{log}");
    assert!(!log.contains("PLIMSOLL_SERVICE_HOST"), "{log}");
    let mut second = Serving::start(directory.path());
    let log = second.until("in use");
    assert!(log.contains("in use by another process") && log.contains("`data_dir`"), "{log}");
    assert_eq!(second.0.wait().expect("ends").code(), Some(1));

    let file = directory.path().join("a-file");
    std::fs::write(&file, "not a directory").expect("is writable");
    let mut third = Serving::start(&file);
    let log = third.until("--data-dir");
    assert!(log.contains("a-file") && log.contains("--data-dir"), "{log}");

    first.terminate();
    let log = first.until("stopped");
    assert!(log.contains("draining") && log.contains("stopped"), "{log}");
    assert_eq!(first.0.wait().expect("ends").code(), Some(0), "told to stop is no failure");
}

#[test]
fn with_few_descriptors_fewer_connections_are_let_in_and_idle_ones_take_the_last_from_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Serving::start_within(900, directory.path());
    let log = server.until("replayed_frames");
    assert!(log.contains("lowered_to=96") && log.contains("`ulimit -n` to 1828"), "{log}");
    let address = log.split("otlp_http=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
    let idle: Vec<_> = (0..500).filter_map(|_| std::net::TcpStream::connect(address).ok()).collect();
    assert!(idle.len() > 96);
    let mut client = std::net::TcpStream::connect(address).expect("connects");
    let body = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"one"}}]}]}]}"#;
    write!(
        client,
        "POST /v1/logs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("writes");
    let mut answer = String::new();
    BufReader::new(client).read_line(&mut answer).expect("answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(idle);
    server.terminate();
    server.until("stopped");
    assert_eq!(server.0.wait().expect("ends").code(), Some(0));

    let mut refused = Serving::start_within(400, directory.path());
    let log = refused.until("ulimit -n");
    assert!(log.contains("400 files") && log.contains("`postgres.connections_max`"), "{log}");
    assert_eq!(refused.0.wait().expect("ends").code(), Some(1));
}

#[test]
fn a_port_in_use_is_refused_with_the_flag_to_change() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    for flag in ["--api", "--grpc-api", "--otlp-grpc", "--otlp-http", "--postgres"] {
        let mut arguments = vec!["serve", "--data-dir", directory.path().to_str().expect("is text")];
        for other in ["--api", "--grpc-api", "--otlp-grpc", "--otlp-http", "--postgres"] {
            arguments.extend([other, if other == flag { &address } else { "127.0.0.1:0" }]);
        }
        let refused = plimsoll(&arguments);
        let message = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{message}");
        assert!(
            message.contains(&format!("cannot listen on `{address}`")) && message.contains(&format!("`{flag}`")),
            "{message}"
        );
    }
}
