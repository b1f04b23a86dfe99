//! The examples in `deploy/`, as far as they can be held without the systems that they are for.

use std::process::Command;

use serde_json::{Value, json};

use crate::peers::{helm, repository};
use crate::stage::{Stage, binary};

#[test]
fn the_configuration_of_the_container_is_valid() {
    let output = Command::new(binary())
        .arg("check-config")
        .arg(repository().join("deploy/container/plimsoll.yaml"))
        .env("PLIMSOLL_API_TOKEN", "a-token")
        .output()
        .expect("plimsoll can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The text behind `key: ` in the analysis template.
fn setting(template: &str, key: &str) -> String {
    let line = template.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
    let text = line.unwrap_or_else(|| panic!("the template has no `{key}`"));
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_answers_what_the_rollouts_template_reads() {
    let stage = Stage::start().await;
    let api = stage.server.addresses().api_url();
    let http = reqwest::Client::new();
    let deploy = json!({"service": "checkout", "environment": "prod", "version": "1.4.2"});
    let made = http.post(format!("{api}/api/v1/deploys")).json(&deploy).send().await.expect("the API answers");
    assert_eq!(made.status(), 201);

    let template = std::fs::read_to_string(repository().join("deploy/argo-rollouts/analysis-template.yaml"))
        .expect("the template is there");
    let url = setting(&template, "url")
        .replace("{{args.plimsoll}}", &api)
        .replace("{{args.service}}", "checkout")
        .replace("{{args.environment}}", "prod")
        .replace("{{args.version}}", "1.4.2");
    let answer = http.get(&url).send().await.expect("the API answers");
    assert_eq!(answer.status(), 200, "{url}");
    let answer: Value = answer.json().await.expect("the answer is JSON");
    let path = setting(&template, "jsonPath");
    let pointer = path.trim_matches(['{', '}', '$']).replace('.', "/");
    let result = answer.pointer(&pointer).and_then(Value::as_str);
    // Nothing was seen of it yet, which is neither of the template's two conditions.
    assert_eq!(result, Some("inconclusive"), "{answer}");
    assert_eq!(setting(&template, "successCondition"), "result == \"pass\"");
    assert_eq!(setting(&template, "failureCondition"), "result == \"fail\"");
}

/// The configuration in the values of the Helm chart, which its template copies as it is.
fn configuration_of_the_chart() -> String {
    let values =
        std::fs::read_to_string(repository().join("deploy/helm/plimsoll/values.yaml")).expect("values are there");
    let section = values.lines().skip_while(|line| *line != "config:").skip(1);
    let lines = section.take_while(|line| line.is_empty() || line.starts_with("  "));
    lines.map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or_default())).collect()
}

#[test]
fn the_configuration_of_the_chart_is_valid() {
    let text = configuration_of_the_chart();
    assert!(text.contains("otlp_grpc: 0.0.0.0:4317"), "{text}");
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), text).expect("is writable");
    let output = Command::new(binary()).arg("check-config").arg(file.path()).output().expect("plimsoll can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_chart_makes_manifests_that_helm_finds_no_fault_with() {
    let Some(helm) = helm() else { return };
    let chart = repository().join("deploy/helm/plimsoll");
    let more = "ingress.enabled=true,serviceMonitor.enabled=true,auth.existingSecret=api,config.listen.postgres=off";
    for arguments in [
        vec!["lint", "--strict"],
        vec!["template", "--kube-version", "1.30.0", "--set", more, "one"],
        vec![
            "template",
            "--kube-version",
            "1.30.0",
            "--set",
            "persistence.enabled=false,fullnameOverride=other",
            "two",
        ],
    ] {
        let output = Command::new(&helm).args(&arguments).arg(&chart).output().expect("Helm can be started");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(arguments[0] == "lint" || text.contains("kind: StatefulSet"), "{text}");
        assert!(
            !arguments.contains(&more) || !text.contains("name: postgres"),
            "a listener that is off has no port: {text}"
        );
    }
}

#[test]
fn the_chart_refuses_values_that_set_nothing() {
    let Some(helm) = helm() else { return };
    let chart = repository().join("deploy/helm/plimsoll");
    for (slip, named) in [
        ("perzistence.size=1Gi", "perzistence"),
        ("config.retention=1", "retention"),
        ("persistence.enabled=maybe", "enabled"),
    ] {
        let arguments = ["template", "--kube-version", "1.30.0", "--set", slip, "one"];
        let output = Command::new(&helm).args(arguments).arg(&chart).output().expect("Helm can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(named), "{slip}: {said}");
    }
}

fn dashboard(name: &str) -> Value {
    let text = std::fs::read_to_string(repository().join("deploy/grafana").join(name)).expect("the dashboard is there");
    serde_json::from_str(&text).expect("is JSON")
}

/// Every text under `key`, wherever it stands.
fn texts(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| texts(value, key, found));
        }
        Value::Array(items) => items.iter().for_each(|value| texts(value, key, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_on_the_dashboard_is_one_that_is_served() {
    let stage = Stage::start().await;
    let url = format!("{}/metrics", stage.server.addresses().api_url());
    let served = reqwest::get(url).await.expect("the API answers").text().await.expect("is text");
    let types: Vec<&str> = served.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut asked = Vec::new();
    texts(&dashboard("operations.json"), "expr", &mut asked);
    assert!(asked.len() > 20, "{asked:?}");
    for expression in asked {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("plimsoll_")) {
            // Counters and histograms are served under their name and what makes a sample of it.
            let family = ["_total", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(types.contains(&family), "`{name}` in `{expression}` is not served");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_on_the_dashboard_of_deploys_runs() {
    let stage = Stage::start().await;
    let board = dashboard("deploys.json");
    let mut asked = Vec::new();
    texts(&board, "rawSql", &mut asked);
    for variable in board["templating"]["list"].as_array().expect("a list") {
        asked.extend(variable["query"].as_str().filter(|query| query.starts_with("SELECT")).map(str::to_owned));
    }
    assert!(asked.len() > 9, "{asked:?}");
    for query in asked {
        // As Grafana fills its macros in.
        let mut filled = query.replace("$environment", "prod").replace("$service", "checkout");
        for (open, close) in [("$__timeFilter(", ")"), ("$__timeGroup(", ", '1m')")] {
            while let Some(at) = filled.find(open) {
                let rest = &filled[at + open.len()..];
                let end = rest.find(close).expect("the macro is closed");
                let column = &rest[..end];
                let expanded = match open {
                    "$__timeFilter(" => format!("{column} BETWEEN '2026-01-01T00:00:00Z' AND '2026-01-01T01:00:00Z'"),
                    _ => format!("floor(extract(epoch from {column})/60)*60"),
                };
                filled = format!("{}{expanded}{}", &filled[..at], &rest[end + close.len()..]);
            }
        }
        assert!(!filled.contains('$'), "{filled}");
        let answer = reqwest::Client::new()
            .post(format!("{}/api/v1/sql", stage.server.addresses().api_url()))
            .json(&json!({ "query": filled }))
            .send()
            .await
            .expect("the API answers");
        assert_eq!(answer.status(), 200, "{filled}: {}", answer.text().await.unwrap_or_default());
    }
}
