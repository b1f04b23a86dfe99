//! Which machine and which program a table is of.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a measurement was made.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Machine {
    /// The processor's name and how many there are.
    pub processor: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel.
    pub kernel: String,
    /// The file system of the data directories, and its device.
    pub disk: String,
    /// What `plimsoll --version` says.
    pub program: String,
    /// The commit of the source beside the load generator, with `+` where it is changed.
    pub commit: String,
    /// When, in UTC.
    pub date: String,
    /// How many programs wanted to run in the minute before: above zero others were at work.
    pub load_average: String,
    /// How it was asked for.
    pub command: String,
}

impl Machine {
    pub(crate) fn read(program: &Path, work_dir: &Path) -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let names = cpu.lines().filter(|line| line.starts_with("model name"));
        let name = cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(':').nth(1));
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        let source = source();
        let commit = said("git", &["-C", &source.to_string_lossy(), "rev-parse", "--short", "HEAD"]);
        let changed = said("git", &["-C", &source.to_string_lossy(), "status", "--porcelain", "--untracked-files=no"]);
        let disk = said("df", &["--output=source,fstype", &work_dir.to_string_lossy()]);
        Self {
            processor: format!("{} x {}", names.count(), name.unwrap_or("unknown processor").trim()),
            memory_mib: kib.unwrap_or(0) / 1024,
            kernel: said("uname", &["-sr"]),
            disk: disk.lines().last().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "),
            program: said(&program.to_string_lossy(), &["--version"]),
            commit: if changed.is_empty() { commit } else { format!("{commit}+") },
            load_average: {
                let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
                averages.split_whitespace().next().unwrap_or_default().to_owned()
            },
            command: std::env::args().map(|argument| last_part(&argument).to_owned()).collect::<Vec<_>>().join(" "),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M").to_string(),
        }
    }
}

/// Returns where this crate's source is: in the checkout that one stands in, or else where the program was built.
pub(crate) fn source() -> PathBuf {
    let here = PathBuf::from("loadtest");
    if here.join("peers").is_dir() { here } else { PathBuf::from(env!("CARGO_MANIFEST_DIR")) }
}

/// A path without the directories that it has on this machine only.
fn last_part(argument: &str) -> &str {
    let is_path = argument.starts_with(['/', '.']);
    if is_path { argument.rsplit('/').find(|part| !part.is_empty()).unwrap_or(argument) } else { argument }
}

/// What a program prints; nothing where it cannot be run.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_without_where_things_lie_on_this_machine() {
        let told = ["/opt/bin/plimsoll-loadtest", "measure", "--work-dir", "./data/", "a/b"].map(last_part);
        assert_eq!(told, ["plimsoll-loadtest", "measure", "--work-dir", "data", "a/b"]);
    }
}
