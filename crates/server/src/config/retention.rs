//! `store.retention_rules`: what is kept for another time than `store.retention`.

use plimsoll_otlp::Table;
use plimsoll_store::RetentionRule;
use serde::Deserialize;
use serde_json::Value;

use super::reader::{describe, whole};
use super::units::{DURATION, parse_duration};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    table: Option<String>,
    environment: Option<String>,
    keep: String,
}

/// Reads the list; what is wrong with it is added to `problems`.
pub(super) fn read(raw: Option<Value>, problems: &mut Vec<String>) -> Vec<RetentionRule> {
    let rules = match raw {
        None => return Vec::new(),
        Some(Value::Array(rules)) => rules,
        Some(other) => {
            problems.push(format!("`store.retention_rules` must be a list of rules, found {}", describe(&other)));
            return Vec::new();
        }
    };
    let mut read = Vec::new();
    for (at, rule) in rules.into_iter().enumerate() {
        let path = format!("store.retention_rules[{at}]");
        match whole(&path, rule, &["table", "environment", "keep"], problems).map(rule_of) {
            Some(Ok(rule)) => read.push(rule),
            Some(Err(problem)) => problems.push(format!("`{path}`: {problem}")),
            None => {}
        }
    }
    read
}

fn rule_of(written: Written) -> Result<RetentionRule, String> {
    let table = written.table.map(|name| {
        let names = || Table::ALL.map(|table| format!("`{}`", table.name())).join(", ");
        Table::parse(&name).ok_or_else(|| format!("`table` must be one of {}, found `{name}`", names()))
    });
    let table = table.transpose()?;
    if table.is_none() && written.environment.is_none() {
        return Err("name a `table` or an `environment`; for all of both there is `store.retention`".to_owned());
    }
    let keep = parse_duration(&written.keep).filter(|keep| !keep.is_zero());
    let keep = keep.ok_or_else(|| format!("`keep` must be {DURATION}, found `{}`", written.keep))?;
    Ok(RetentionRule { table, environment: written.environment, keep })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_read_and_every_wrong_one_is_named() {
        let mut problems = Vec::new();
        let rules = read(
            Some(json!([
                {"table": "logs", "environment": "staging", "keep": "2d"},
                {"table": "lugs", "keep": "2d"},
                {"keep": "2d"},
                {"table": "logs", "keep": "soon"},
                {"table": "logs", "keep": "2d", "envirnment": "x"},
            ])),
            &mut problems,
        );
        assert_eq!(rules.len(), 1);
        assert_eq!((rules[0].table, rules[0].keep.as_secs()), (Some(Table::Logs), 2 * 86_400));
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems.iter().zip(1..).all(|(problem, at)| problem.contains(&format!("retention_rules[{at}]"))));
    }
}
