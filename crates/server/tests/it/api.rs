//! REST: markers, verdicts, decisions, the gate, SQL, health, metrics, errors.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::server::Running;

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_is_recorded_once_listed_finished_and_decided_on() {
    let server = Running::start().await;
    let body = json!({
        "service": "checkout", "environment": "prod", "version": "1.4.2", "kind": "release", "namespace": "shop",
        "commit": "4bf92f3", "actor": "ci", "attributes": { "team": "pay" },
    });
    let create = || server.request(Method::POST, "/api/v1/deploys").header("idempotency-key", "run-17").json(&body);
    let first = create().send().await.expect("answers");
    assert_eq!(first.status(), StatusCode::CREATED);
    let first: Value = first.json().await.expect("JSON");
    let again = create().send().await.expect("answers");
    assert_eq!(again.status(), StatusCode::OK, "the same key again is the same deploy");
    let again: Value = again.json().await.expect("JSON");
    assert_eq!(first, again);
    let id = first["id"].as_str().expect("an id");
    assert!(id.starts_with("dep_"), "{id}");

    let (_, listed) = server.get("/api/v1/deploys?service=checkout&environment=prod&limit=5").await;
    assert_eq!(listed, json!([first]));
    let (_, none) = server.get("/api/v1/deploys?service=cart").await;
    assert_eq!(none, json!([]));

    let (status, finished) =
        server.post(&format!("/api/v1/deploys/{id}/finish"), &json!({ "status": "succeeded" })).await;
    assert_eq!((status, &finished["status"]), (StatusCode::OK, &json!("succeeded")));
    assert!(finished["finished_at"].is_string());

    let decision = json!({ "decision": "accept_risk", "actor": "on-call", "reason": "known" });
    let (status, kept) = server.post(&format!("/api/v1/deploys/{id}/decisions"), &decision).await;
    assert_eq!(status, StatusCode::CREATED, "{kept}");
    let (_, decisions) = server.get(&format!("/api/v1/deploys/{id}/decisions")).await;
    assert_eq!(decisions, json!([kept]));
    assert_eq!(server.value("SELECT decision FROM decisions").await, json!("accept_risk"));

    let said = json!({ "answer": "wrong", "actor": "on-call", "reason": "a test ran" });
    let (status, kept) = server.post(&format!("/api/v1/deploys/{id}/feedback"), &said).await;
    assert_eq!(
        (status, &kept["answer"], &kept["regressed"]),
        (StatusCode::CREATED, &json!("wrong"), &json!(false)),
        "{kept}"
    );
    assert!(kept["expires_at"].is_string(), "{kept}");
    let (_, precision) = server.get("/api/v1/precision").await;
    assert_eq!(
        precision,
        json!({ "right": 0, "wrong": 0, "known": 0, "precision": null }),
        "nothing was called regressed"
    );

    let (_, verdict) = server.get(&format!("/api/v1/deploys/{id}/verdict?wait=10ms")).await;
    assert_eq!((&verdict["verdict"], &verdict["recommendation"]), (&json!("inconclusive"), &json!("hold")));
    let (_, gate) = server.get("/api/v1/gate?service=checkout&environment=prod&version=1.4.2").await;
    assert_eq!(gate["data"]["verdict"], json!("inconclusive"));
    let (_, open) = server.get("/api/v1/regressions?state=open").await;
    assert_eq!(open, json!([]));

    // All of it is still there after a restart.
    let directory = server.stop().await;
    let server = Running::start_with(directory, |_| {}).await;
    let (_, kept) = server.get(&format!("/api/v1/deploys/{id}")).await;
    assert_eq!(kept, finished);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_a_problem_document_that_says_what_to_change() {
    let server = Running::start().await;
    let cases = [
        ("/api/v1/deploys", json!({ "service": "", "kind": "party" }), 400, "`environment` is required"),
        ("/api/v1/deploys", json!({ "servise": "x" }), 422, "unknown field `servise`"),
        ("/api/v1/deploys/dep_none/finish", json!({ "status": "succeeded" }), 404, "there is no deploy `dep_none`"),
        ("/api/v1/deploys/dep_none/decisions", json!({ "decision": "hold", "actor": "me" }), 404, "there is no deploy"),
        ("/api/v1/sql", json!({ "query": "DELETE FROM spans" }), 403, ""),
        ("/api/v1/sql", json!({ "query": "SELECT nme FROM spans" }), 400, "name"),
        ("/api/v1/sql", json!({ "sql": "SELECT 1" }), 422, "unknown field `sql`"),
    ];
    for (path, body, status, expected) in cases {
        let response = server.request(Method::POST, path).json(&body).send().await.expect("answers");
        assert_eq!(response.status().as_u16(), status, "{path} {body}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path} {body}");
        let problem: Value = response.json().await.expect("JSON");
        assert!(problem["detail"].as_str().expect("a detail").contains(expected), "{expected}: {problem}");
    }
    for (path, status, expected) in [
        ("/api/v1/deploys?limit=0", 400, "`limit` is `0`"),
        ("/api/v1/deploys?since=monday", 400, "RFC 3339"),
        ("/api/v1/deploys/dep_none", 404, "there is no deploy `dep_none`"),
        ("/api/v1/deploys/dep_none/verdict", 404, "there is no deploy `dep_none`"),
        ("/api/v1/deploys/dep_none/verdict?wait=forever", 400, "`wait` is `forever`"),
        ("/api/v1/gate?service=x", 400, "`environment` is required"),
        ("/api/v1/gate?service=x&environment=y", 404, "announce it"),
        ("/api/v1/regressions?state=shut", 400, "`state` is `shut`"),
        ("/api/v2/anything", 404, "nothing is served at `/api/v2/anything`"),
    ] {
        let (code, problem) = server.get(path).await;
        assert_eq!(code.as_u16(), status, "{path}: {problem}");
        assert!(problem["detail"].as_str().expect("a detail").contains(expected), "{path}: {problem}");
    }
    let (status, problem) = server.post("/api/v1/gate", &json!({})).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{problem}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_deploy_that_makes_no_sense_is_refused_before_anything_is_judged() {
    let server = Running::start().await;
    let deploy = |service: &str| {
        let at = "2026-01-31T12:00:00Z";
        json!({ "service": service, "environment": "prod", "version": "2", "started_at": at })
    };
    let (status, answer) = server.post("/api/v1/backtest", &json!({ "deploys": [deploy("cart"), deploy("")] })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer.to_string().contains("`deploys[1]`: `service` is required"), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acked_is_in_every_format_of_sql_at_once() {
    let server = Running::start().await;
    server.send_spans("1.0.0", 0, 40).await;
    assert_eq!(server.value("SELECT count(*) FROM spans").await, json!(40), "acked is visible");
    let ask = |accept: &'static str| {
        let body = json!({ "query": "SELECT name, service_version FROM spans WHERE span_id = $1", "params": ["0000000000000001"] });
        server.request(Method::POST, "/api/v1/sql").header("accept", accept).json(&body).send()
    };
    let json_answer: Value = ask("application/json").await.expect("answers").json().await.expect("JSON");
    assert_eq!(json_answer["columns"][0]["name"], json!("name"));
    assert_eq!(json_answer["rows"], json!([["POST /charge", "1.0.0"]]));
    let lines = ask("application/x-ndjson").await.expect("answers").text().await.expect("text");
    assert_eq!(lines.trim(), r#"{"name":"POST /charge","service_version":"1.0.0"}"#);
    let csv = ask("text/csv").await.expect("answers").text().await.expect("text");
    assert_eq!(csv, "name,service_version\nPOST /charge,1.0.0\n");
    let arrow = ask("application/vnd.apache.arrow.stream").await.expect("answers");
    assert_eq!(arrow.headers()["content-type"], "application/vnd.apache.arrow.stream");
    assert!(arrow.bytes().await.expect("bytes").starts_with(&[0xff; 4]), "a stream begins with a continuation marker");
    let parquet = ask("application/vnd.apache.parquet").await.expect("answers").bytes().await.expect("bytes");
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    assert_eq!(ask("image/png").await.expect("answers").status(), StatusCode::NOT_ACCEPTABLE);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_aggregates_survive_a_restart_without_gap_or_duplicate() {
    let mut server = Running::start().await;
    for round in 0..3_u64 {
        server.send_spans("1.0.0", round * 100, 100).await;
        let directory = server.stop().await;
        server = Running::start_with(directory, |_| {}).await;
        let seen = server.value("SELECT count(DISTINCT span_id) = count(*) AND count(*) > 0 FROM spans").await;
        assert_eq!(seen, json!(true));
        assert_eq!(server.value("SELECT count(*) FROM spans").await, json!((round + 1) * 100));
        assert_eq!(server.value("SELECT sum(requests) FROM operations").await, json!((round + 1) * 100));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_can_have_the_directory_at_once_whoever_still_holds_something_of_the_one_before() {
    let server = Running::start().await;
    server.send_spans("1.0.0", 0, 7).await;
    let running = server.server.as_ref().expect("runs");
    // A task that was not waited for holds them, a client of each listener holds a connection that it never asked anything on.
    let held = running.stages().clone();
    let addresses = running.addresses();
    let mut silent = Vec::new();
    for address in [addresses.api, addresses.grpc_api, addresses.postgres.expect("is on")] {
        silent.push(tokio::net::TcpStream::connect(address).await.expect("connects"));
    }
    let directory = server.stop().await;
    let server = Running::start_with(directory, |_| {}).await;
    assert_eq!(server.value("SELECT count(*) FROM spans").await, json!(7));
    server.send_spans("1.0.0", 7, 7).await;
    drop((held, silent));
    let directory = server.stop().await;
    let server = Running::start_with(directory, |_| {}).await;
    assert_eq!(server.value("SELECT count(*) FROM spans").await, json!(14));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_tell_what_goes_on() {
    let server = Running::start().await;
    assert_eq!(server.get("/livez").await.0, StatusCode::OK);
    let (status, ready) = server.get("/readyz").await;
    assert_eq!((status, ready), (StatusCode::OK, json!({ "ready": true, "reasons": [], "degraded": [] })));
    server.send_spans("1.0.0", 0, 7).await;
    server.deploy("2.0.0").await;
    let (_, text) = server.get("/metrics").await;
    let text = text.as_str().expect("text");
    for line in [
        "plimsoll_ready 1",
        r#"plimsoll_records_accepted_total{signal="traces",protocol="http_protobuf"} 7"#,
        "plimsoll_deploys_announced_total 1",
        "plimsoll_journal_poisoned 0",
        r#"plimsoll_aggregates_limit{sort="log_templates_of_one_service"} 1000"#,
    ] {
        assert!(text.lines().any(|found| found == line), "missing `{line}` in:\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends with a mark");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_counts_as_full_is_not_ready_and_refuses_retryably_while_queries_go_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Running::start_with(directory, |config| {
        config.store.disk_reserve = u64::MAX / 2;
        config.ingest.park = std::time::Duration::from_millis(50);
    })
    .await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    let reasons = loop {
        let (status, body) = server.get("/readyz").await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            break body["reasons"].to_string();
        }
        assert!(tokio::time::Instant::now() < deadline, "never said that the disk is full");
    };
    assert!(reasons.contains("the disk is full"), "{reasons}");
    let http = server.server.as_ref().expect("runs").addresses().otlp_http;
    let refused = loop {
        let answer = server
            .client
            .post(format!("http://{http}/v1/logs"))
            .header("content-type", "application/json")
            .body("{}")
            .send()
            .await
            .expect("answers");
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            break answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "never refused: {}", answer.status());
    };
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(server.value("SELECT count(*) FROM spans").await, json!(0), "queries go on");
    server.stop().await;
}

/// An answer of three batches, of which two may leave.
pub(crate) const THREE_ROWS: &str = "SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_told_by_an_id_that_says_why() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Running::start_with(directory, |config| config.query.rows_max = 2).await;
    for format in ["application/json", "application/x-ndjson", "text/csv", "application/vnd.apache.arrow.stream"] {
        let asked = server.request(Method::POST, "/api/v1/sql").header("accept", format);
        let answer = asked.json(&json!({ "query": THREE_ROWS })).send().await.expect("begins to answer");
        assert_eq!(answer.status(), StatusCode::OK, "rows are on their way before they are counted");
        let id = answer.headers()["plimsoll-query-id"].to_str().expect("text").to_owned();
        assert!(answer.bytes().await.is_err(), "a part does not look like the whole");
        let (status, told) = server.get(&format!("/api/v1/sql/{id}")).await;
        assert_eq!(status, StatusCode::OK, "{told}");
        assert_eq!(told["id"].as_str(), Some(id.as_str()));
        assert!(told["error"].as_str().is_some_and(|error| error.contains("`query.rows_max`")), "{told}");
    }
    let asked = server.request(Method::POST, "/api/v1/sql").json(&json!({ "query": "SELECT 1" }));
    let whole = asked.send().await.expect("answers");
    let id = whole.headers()["plimsoll-query-id"].to_str().expect("text").to_owned();
    assert!(whole.bytes().await.is_ok());
    assert_eq!(server.get(&format!("/api/v1/sql/{id}")).await.0, StatusCode::NOT_FOUND, "nothing broke off");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_objects_and_a_deploy_does_not_end_before_it_starts() {
    let server = Running::start().await;
    for path in ["/api/v1/deploys", "/api/v1/sql", "/api/v1/backtest", "/api/v1/deploys/dep_x/finish"] {
        let (status, problem) = server.post(path, &json!(["seq", "prod", "1"])).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("must be an object")), "{problem}");
    }
    assert_eq!(server.get("/api/v1/deploys").await.1, json!([]));
    let (status, problem) = server.post("/api/v1/backtest", &json!({ "deploys": [["cart", "prod", "1"]] })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`deploys[0]`")), "{problem}");

    let body = json!({ "service": "cart", "environment": "prod", "version": "1", "attributes": null, "commit": null });
    let (status, deploy) = server.post("/api/v1/deploys", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{deploy}");
    assert!(deploy["attributes"].as_object().is_none_or(serde_json::Map::is_empty), "{deploy}");
    let finish = format!("/api/v1/deploys/{}/finish", deploy["id"].as_str().expect("an id"));
    let early = json!({ "status": "succeeded", "finished_at": "2020-01-01T00:00:00Z" });
    let (status, problem) = server.post(&finish, &early).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("`finished_at`") && detail.contains("`started_at`"), "{detail}");
    let same = json!({ "status": "succeeded", "finished_at": deploy["started_at"] });
    assert_eq!(server.post(&finish, &same).await.0, StatusCode::OK, "at once is soon enough");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_guards_everything_but_health_and_the_shell_of_the_page() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Running::start_with(directory, |config| config.api_token = Some("s3cret".to_owned())).await;
    for path in ["/api/v1/deploys", "/api/v1/regressions", "/metrics"] {
        let (status, problem) = server.get(path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}: {problem}");
        let wrong = server.request(Method::GET, path).bearer_auth("s3cres").send().await.expect("answers");
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
        let right = server.request(Method::GET, path).bearer_auth("s3cret").send().await.expect("answers");
        assert_eq!(right.status(), StatusCode::OK);
        for scheme in ["bearer", "BEARER"] {
            let header = format!("{scheme} s3cret");
            let right =
                server.request(Method::GET, path).header("authorization", header).send().await.expect("answers");
            assert_eq!(right.status(), StatusCode::OK, "{scheme}");
        }
        let other = server.request(Method::GET, path).header("authorization", "Digest s3cret");
        assert_eq!(other.send().await.expect("answers").status(), StatusCode::UNAUTHORIZED);
    }
    for path in ["/livez", "/readyz", "/", "/api/v1/openapi.json"] {
        assert_eq!(server.get(path).await.0, StatusCode::OK, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interface_description_and_the_server_agree_on_what_is_served() {
    let server = Running::start().await;
    let (_, document) = server.get("/api/v1/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 10);
    for (path, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let answer =
                server.request(method.clone(), &path.replace("{id}", "dep_none")).send().await.expect("answers");
            let text = answer.text().await.expect("a body");
            assert!(
                !text.contains("nothing is served") && !text.contains("is not served at"),
                "{method} {path}: {text}"
            );
        }
    }
    let router = include_str!("../../src/api/mod.rs");
    let routed = router.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    for path in routed.filter(|path| !matches!(*path, "/" | "/deploys/{id}")) {
        assert!(paths.contains_key(path), "`{path}` is served and not described");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_seen_for_the_first_time_becomes_an_inferred_deploy_and_one_that_returns_does_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server =
        Running::start_with(directory, |config| config.watch.interval = std::time::Duration::from_millis(100)).await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    // Versions that appear together at the first sight of a service are no deploys: the old one was there a minute before.
    server.send_spans_at("1.0.0", 0, 10, std::time::Duration::from_secs(60)).await;
    let mut sent = 0;
    loop {
        sent += 10;
        server.send_spans("1.1.0", sent, 10).await;
        let (_, deploys) = server.get("/api/v1/deploys?service=payment").await;
        if let Some(deploy) = deploys.as_array().and_then(|all| all.first()) {
            assert_eq!(deploy["inferred"], json!(true));
            assert_eq!((&deploy["version"], &deploy["previous_version"]), (&json!("1.1.0"), &json!("1.0.0")));
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "no deploy was inferred");
    }
    server.send_spans("1.0.0", 10_000, 10).await;
    let (_, deploys) = server.get("/api/v1/deploys?service=payment").await;
    assert_eq!(deploys.as_array().map(Vec::len), Some(1), "a known version that returns is no deploy");
    server.stop().await;
}
