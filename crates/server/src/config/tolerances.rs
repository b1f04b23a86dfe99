//! `watch.tolerances` and `watch.services`: what counts as worse, for all and where it differs.

use plimsoll_verdict::{TolerancePolicy, ToleranceRule, Tolerances};
use serde_json::Value;

use super::misplaced_star;
use super::reader::{Section, describe};

/// Reads both; what is wrong with them is added to `problems`.
pub(super) fn read(watch: &mut Section<'_>, problems: &mut Vec<String>) -> TolerancePolicy {
    let mut section = watch.section("tolerances", problems);
    let mut usual = Tolerances::default();
    for (key, value) in settings(&mut section, problems) {
        problems.extend(usual.set(&key, value).err().map(|problem| format!("`watch.tolerances`: {problem}")));
    }
    section.finish(problems);
    let rules = match watch.take_raw("services") {
        None => Vec::new(),
        Some(Value::Array(rules)) => {
            rules.into_iter().enumerate().filter_map(|(at, rule)| rule_of(at, rule, problems)).collect()
        }
        Some(other) => {
            problems.push(format!("`watch.services` must be a list of rules, found {}", describe(&other)));
            Vec::new()
        }
    };
    let policy = TolerancePolicy { usual, rules };
    problems.extend(policy.problems("watch"));
    policy
}

fn rule_of(at: usize, rule: Value, problems: &mut Vec<String>) -> Option<ToleranceRule> {
    let path = format!("watch.services[{at}]");
    let Value::Object(values) = rule else {
        problems.push(format!("`{path}` must be a section of settings, found {}", describe(&rule)));
        return None;
    };
    // What stands in a list has no name that an environment variable could have.
    let mut section = Section::item(path.clone(), values, &|_| None);
    let [service, namespace, environment] =
        ["service", "namespace", "environment"].map(|key| section.text(key, problems));
    for (key, written) in [("service", &service), ("namespace", &namespace), ("environment", &environment)] {
        let misplaced = written.as_deref().and_then(|written| misplaced_star(&format!("`{path}.{key}`"), written));
        problems.extend(misplaced);
    }
    let mut inner = section.section("tolerances", problems);
    let settings = settings(&mut inner, problems);
    inner.finish(problems);
    section.finish(problems);
    if service.is_none() && namespace.is_none() && environment.is_none() {
        problems.push(format!(
            "`{path}`: name a `service`, a `namespace` or an `environment`; for all services there is `watch.tolerances`"
        ));
        return None;
    }
    if settings.is_empty() {
        problems.push(format!("`{path}` changes nothing: set something under `tolerances`"));
    }
    Some(ToleranceRule { service, namespace, environment, settings })
}

fn settings(section: &mut Section<'_>, problems: &mut Vec<String>) -> Vec<(String, f64)> {
    let read = |key: &str| {
        let value = section.take(key, "a number", |text| text.replace('_', "").parse().ok(), problems);
        value.map(|value: f64| (key.to_owned(), value))
    };
    Tolerances::KEYS.into_iter().filter_map(read).collect()
}
