//! The examples in `deploy/`, as far as they can be held without the systems that they are for.

use std::process::Command;

use serde_json::{Value, json};

use crate::peers::repository;
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
