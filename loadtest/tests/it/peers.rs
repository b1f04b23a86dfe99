//! The programs of others that tests run against. Each is prepared by a script that keeps it for later runs; where a tool for
//! that is missing, the test says so and ends, but on CI (`CI=true`) it fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The exit code of a script that lacks a tool.
const SKIPPED: i32 = 77;

pub(crate) fn collector() -> Option<PathBuf> {
    static COLLECTOR: OnceLock<Option<PathBuf>> = OnceLock::new();
    COLLECTOR.get_or_init(|| prepare("collector.sh")).clone()
}

pub(crate) fn telemetrygen() -> Option<PathBuf> {
    static TELEMETRYGEN: OnceLock<Option<PathBuf>> = OnceLock::new();
    TELEMETRYGEN.get_or_init(|| prepare("telemetrygen.sh")).clone()
}

pub(crate) fn helm() -> Option<PathBuf> {
    static HELM: OnceLock<Option<PathBuf>> = OnceLock::new();
    HELM.get_or_init(|| prepare("helm.sh")).clone()
}

pub(crate) fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON.get_or_init(|| prepare("python.sh")).clone()
}

pub(crate) fn duckdb() -> Option<PathBuf> {
    static DUCKDB: OnceLock<Option<PathBuf>> = OnceLock::new();
    DUCKDB.get_or_init(|| prepare("duckdb.sh")).clone()
}

/// A Python interpreter with psycopg, ADBC's Flight SQL driver, pyarrow and DuckDB.
pub(crate) fn clients() -> Option<PathBuf> {
    static CLIENTS: OnceLock<Option<PathBuf>> = OnceLock::new();
    CLIENTS.get_or_init(|| prepare("clients.sh")).clone()
}

pub(crate) fn psql() -> Option<PathBuf> {
    static PSQL: OnceLock<Option<PathBuf>> = OnceLock::new();
    PSQL.get_or_init(|| prepare("psql.sh")).clone()
}

/// Arrow's JDBC driver for Flight SQL, which `java` runs.
pub(crate) fn jdbc() -> Option<PathBuf> {
    static JDBC: OnceLock<Option<PathBuf>> = OnceLock::new();
    JDBC.get_or_init(|| prepare("jdbc.sh")).clone()
}

/// Postgres' JDBC driver.
pub(crate) fn pgjdbc() -> Option<PathBuf> {
    static PGJDBC: OnceLock<Option<PathBuf>> = OnceLock::new();
    PGJDBC.get_or_init(|| prepare("pgjdbc.sh")).clone()
}

/// The recorded day of real telemetry: `PLIMSOLL_TRAINTICKET`, else `shared/data/trainticket` beside the repository.
pub(crate) fn trainticket() -> Option<PathBuf> {
    let dir = std::env::var_os("PLIMSOLL_TRAINTICKET")
        .map_or_else(|| repository().join("../shared/data/trainticket"), PathBuf::from);
    if dir.join("traces.jsonl.zst").is_file() {
        return Some(dir);
    }
    skip(&format!("no recording in `{}`: set PLIMSOLL_TRAINTICKET to the directory that holds it", dir.display()));
    None
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("loadtest is a directory of the repository")
}

fn prepare(script: &str) -> Option<PathBuf> {
    let script = repository().join("loadtest/peers").join(script);
    let output = Command::new(&script).output().unwrap_or_else(|problem| panic!("`{}`: {problem}", script.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {
            let path = String::from_utf8_lossy(&output.stdout);
            Some(PathBuf::from(path.trim().lines().last().expect("the script prints the path of what it made")))
        }
        Some(SKIPPED) => {
            skip(errors.trim());
            None
        }
        _ => panic!("`{}` failed: {errors}", script.display()),
    }
}

fn skip(why: &str) {
    use std::io::Write;
    assert!(std::env::var("CI").as_deref() != Ok("true"), "nothing is skipped on CI: {why}");
    // Past the capture of the test harness, so that it is seen without `--nocapture`.
    let _ = writeln!(std::io::stderr(), "{why}");
}
