//! The table of ARCHITECTURE.md, held against the manifests; and what every source file must have.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_server::config::{Config, Overrides};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads `| [`name`](..) | job | uses | never |` rows.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let mut table = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| [`")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (Some(name), Some(uses)) = (cells.get(1).and_then(|cell| cell.split('`').nth(1)), cells.get(3)) else {
            continue;
        };
        if cells.len() < 6 || !root().join("crates").join(name).is_dir() {
            continue;
        }
        let names =
            |text: &str| text.split(',').map(|u| u.trim().split(' ').next().unwrap_or_default().to_owned()).collect();
        table.insert(name.to_owned(), if *uses == "-" { BTreeSet::new() } else { names(uses) });
    }
    table
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let allowed = allowed();
    let crates: BTreeSet<String> = fs::read_dir(root().join("crates"))
        .expect("crates")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    assert_eq!(allowed.keys().cloned().collect::<BTreeSet<_>>(), crates, "the table names every crate and no other");
    for name in &crates {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).expect("a manifest");
        let dependencies =
            manifest.split("[dependencies]").nth(1).expect("dependencies").split("\n[").next().expect("a part");
        let used: BTreeSet<String> = dependencies
            .lines()
            .filter_map(|line| line.strip_prefix("plimsoll-")?.split('.').next())
            .map(str::to_owned)
            .collect();
        let may = &allowed[name];
        if !may.contains("all") {
            assert!(used.is_subset(may), "`{name}` uses {used:?}, the architecture allows {may:?}");
        }
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if entry.is_dir() && !matches!(name, "target" | "fuzz") {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

#[test]
fn every_source_file_says_what_it_owns_and_has_a_telling_name() {
    let mut files = Vec::new();
    for folder in ["crates", "loadtest", "benches"] {
        sources(&root().join(folder), &mut files);
    }
    assert!(files.len() > 100, "found {} files", files.len());
    for file in &files {
        let text = fs::read_to_string(file).expect("is text");
        assert!(text.starts_with("//!"), "`{}` does not open with `//!`", file.display());
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let vague = ["util", "utils", "common", "helper", "helpers", "manager", "types", "misc"];
        assert!(!vague.contains(&stem), "`{}` says nothing of what it owns", file.display());
    }
}

#[test]
fn pure_crates_read_no_clock_and_touch_no_file() {
    let banned = ["SystemTime::now", "Instant::now", "std::fs", "use tokio", "std::net", "thread::sleep"];
    for name in ["model", "otlp", "signals", "verdict"] {
        let mut files = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).expect("is text");
            for word in banned {
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                assert!(!code.into_iter().any(|line| line.contains(word)), "`{}` uses `{word}`", file.display());
            }
        }
    }
}

/// Returns what stands in backticks behind `set`, `raise` or `lower`, or before `higher` or `lower`, up to a colon.
fn told_to_change(line: &str) -> BTreeSet<&str> {
    let quoted: Vec<&str> = line.split('`').collect();
    let changes = |at: usize| {
        let (before, after) = (quoted[at - 1], quoted.get(at + 1).copied().unwrap_or_default());
        ["set ", "raise ", "lower "].iter().any(|verb| before.ends_with(verb))
            || [" higher", " lower"].iter().any(|word| after.starts_with(word))
    };
    let is_key = |name: &&str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c))
    };
    let named = (1..quoted.len()).step_by(2).filter(|at| changes(*at)).filter_map(|at| quoted[at].split(':').next());
    named.filter(is_key).collect()
}

#[test]
fn every_setting_that_a_message_says_to_change_is_one() {
    let asked = RefCell::new(BTreeSet::new());
    let env = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        None
    };
    Config::load(None, &Overrides::default(), &env).expect("the defaults are valid");
    let variable = |key: &str| format!("PLIMSOLL_{}", key.replace('.', "_").to_uppercase());
    // Of a query, of a Postgres session, of a sink.
    let elsewhere = ["allow_missing_segments", "client_encoding", "statement_timeout", "allow_private"];
    let mut files = Vec::new();
    for name in ["alert", "catalog", "ingest", "journal", "query", "server", "signals", "store"] {
        sources(&root().join("crates").join(name).join("src"), &mut files);
    }
    let mut seen = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("is text");
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for key in told_to_change(line).into_iter().filter(|key| !elsewhere.contains(key)) {
                assert!(asked.borrow().contains(&variable(key)), "`{}` says to change `{key}`: {line}", file.display());
                seen.insert(key.to_owned());
            }
        }
    }
    for key in ["memory.in_flight", "store.retention", "ingest.request_bytes_max", "query.rows_max"] {
        assert!(seen.contains(key), "no message speaks of `{key}`: {seen:?}");
    }
}
