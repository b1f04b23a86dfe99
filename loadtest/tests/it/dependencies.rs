//! What the project depends on, held against `deny.toml` with nothing but cargo: licences, sources, and crates that must not
//! be there or not in that version. `cargo deny` says more where it is installed. And that the largest of them is built once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::process::Command;

use serde_json::Value;

use crate::peers::repository;

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(repository())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn policy() -> String {
    std::fs::read_to_string(repository().join("deny.toml")).expect("deny.toml is at the top of the repository")
}

/// The quoted texts of the array `key` in `[section]`.
fn array(policy: &str, section: &str, key: &str) -> Vec<String> {
    let section = policy.split_once(&format!("[{section}]")).expect("the section is there").1;
    let section = section.split("\n[").next().unwrap_or(section);
    let array = section.split_once(&format!("\n{key} = [")).expect("the key is there").1;
    let array = array.split_once("\n]").map_or(array, |(array, _)| array);
    array
        .lines()
        .map(|line| line.split('#').next().unwrap_or(line))
        .filter_map(|line| line.split('"').nth(1))
        .map(str::to_owned)
        .collect()
}

/// Says whether an SPDX expression can be satisfied with the allowed licences alone.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    // The old form: `MIT/Apache-2.0`.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens: Vec<&str> = spaced.split_whitespace().rev().collect();
    let verdict = any_of(&mut tokens, allowed);
    verdict && tokens.is_empty()
}

fn any_of(tokens: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut verdict = all_of(tokens, allowed);
    while tokens.last() == Some(&"OR") {
        tokens.pop();
        verdict |= all_of(tokens, allowed);
    }
    verdict
}

fn all_of(tokens: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut verdict = one(tokens, allowed);
    while tokens.last() == Some(&"AND") {
        tokens.pop();
        verdict &= one(tokens, allowed);
    }
    verdict
}

fn one(tokens: &mut Vec<&str>, allowed: &[String]) -> bool {
    let Some(token) = tokens.pop() else {
        return false;
    };
    if token == "(" {
        let verdict = any_of(tokens, allowed);
        return tokens.pop() == Some(")") && verdict;
    }
    let mut licence = token.to_owned();
    if tokens.last() == Some(&"WITH") {
        tokens.pop();
        licence = format!("{licence} WITH {}", tokens.pop().unwrap_or_default());
    }
    allowed.contains(&licence)
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

/// Says whether a ban such as `arrow@<59`, `arrow@>=60` or `openssl-sys` is of this crate.
fn banned(ban: &str, name: &str, version: &str) -> bool {
    let (of, range) = ban.split_once('@').unwrap_or((ban, ""));
    if of != name {
        return false;
    }
    let version = numbers(version);
    match (range.strip_prefix("<"), range.strip_prefix(">=")) {
        (Some(below), _) => version < numbers(below),
        (_, Some(from)) => version >= numbers(from),
        _ if range.is_empty() => true,
        _ => panic!("`{ban}`: this test knows `<` and `>=` only"),
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_source_and_none_is_banned() {
    let policy = policy();
    let allowed = array(&policy, "licenses", "allow");
    let bans = array(&policy, "bans", "deny");
    let mut problems = Vec::new();
    let metadata = metadata();
    // What is in the graph on this platform: packages of others are listed without being used.
    let used: HashSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("cargo resolved the graph")
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let packages = metadata["packages"].as_array().expect("cargo lists packages");
    assert!(used.len() > 300 && allowed.len() > 5 && bans.len() > 5, "the policy and the graph were read");
    for package in packages.iter().filter(|package| package["id"].as_str().is_some_and(|id| used.contains(id))) {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        if !satisfied(text("license"), &allowed) {
            problems.push(format!("{name} {version}: licence `{}`", text("license")));
        }
        // Ours have no source; all others come from the registry.
        let source = package["source"].as_str();
        if !source.is_none_or(|source| source.starts_with("registry+")) {
            problems.push(format!("{name} {version}: source `{}`", source.unwrap_or_default()));
        }
        if let Some(ban) = bans.iter().find(|ban| banned(ban, name, version)) {
            problems.push(format!("{name} {version}: banned as `{ban}`"));
        }
    }
    assert!(problems.is_empty(), "against deny.toml:\n{}", problems.join("\n"));
}

/// Every package of a build as `name version`, with the sets of features that it is built with.
fn features(selection: &[&str]) -> HashMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix=none", "--format={p}|{f}"])
        .args(selection)
        .current_dir(repository())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: HashMap<_, BTreeSet<_>> = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else {
            continue;
        };
        let package = package.trim_end_matches(" (proc-macro)").replace(" v", " ");
        found.entry(package).or_default().insert(features.to_owned());
    }
    found
}

/// DataFusion and everything below it, as `name version`.
fn engine() -> HashSet<String> {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().expect("cargo resolved the graph");
    let below: HashMap<&str, Vec<&str>> = nodes
        .iter()
        .filter_map(|node| {
            let dependencies = node["dependencies"].as_array()?.iter().filter_map(Value::as_str).collect();
            Some((node["id"].as_str()?, dependencies))
        })
        .collect();
    let top = below.keys().find(|id| id.contains("#datafusion@")).expect("the engine is DataFusion");
    let mut found = HashSet::from([*top]);
    let mut open = vec![*top];
    while let Some(id) = open.pop() {
        open.extend(below[id].iter().copied().filter(|next| found.insert(next)));
    }
    found.iter().filter_map(|id| Some(id.rsplit_once('#')?.1.replace('@', " "))).collect()
}

#[test]
fn the_query_engine_is_built_once_for_the_program_and_for_the_tests() {
    // It takes most of a build; a feature that only one of the two turns on below it doubles that.
    let program = features(&["--package=plimsoll-server", "--edges=normal"]);
    let tests = features(&["--workspace"]);
    let engine = engine();
    assert!(engine.len() > 100, "{engine:?}");
    for (package, sets) in program.iter().filter(|(package, _)| engine.contains(*package)) {
        assert!(
            sets.is_subset(&tests[package]),
            "`{package}` has features {sets:?} in the program and {:?} in the tests: name the wider set in the workspace's Cargo.toml",
            tests[package]
        );
    }
}

#[test]
fn licence_expressions_are_judged_as_spdx_means_them() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(str::to_owned);
    for (expression, verdict) in [
        ("MIT", true),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0", false),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("GPL-3.0 OR MIT AND Apache-2.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0 WITH other", false),
        ("MIT/Apache-2.0", true),
        ("", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), verdict, "{expression}");
    }
}

#[test]
fn bans_are_of_a_crate_and_a_range() {
    assert!(banned("arrow@>=60", "arrow", "60.0.1"));
    assert!(!banned("arrow@>=60", "arrow", "59.3.2"));
    assert!(banned("object_store@<0.13", "object_store", "0.12.9"));
    assert!(!banned("object_store@<0.13", "object_store", "0.13.0"));
    assert!(banned("openssl-sys", "openssl-sys", "0.9.1"));
    assert!(!banned("openssl-sys", "openssl-probe", "0.1.1"));
}
