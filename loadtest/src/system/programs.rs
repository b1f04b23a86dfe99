//! The programs of the systems: ours by its path, those of others prepared by the scripts in `loadtest/peers`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Kind;
use crate::Error;

/// The exit code of a script that lacks a tool.
const SKIPPED: i32 = 77;

/// Which program each system is, and why one is missing.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    found: BTreeMap<Kind, PathBuf>,
    missing: BTreeMap<Kind, String>,
}

impl Programs {
    /// Finds the programs of `kinds`; what has to be built is built now, which takes minutes the first time.
    pub fn prepare(plimsoll: PathBuf, scripts: &Path, kinds: &[Kind]) -> Self {
        let mut programs = Self::default();
        for &kind in kinds {
            let script = match kind {
                Kind::Plimsoll => {
                    let there = std::path::absolute(&plimsoll).ok().filter(|path| path.is_file());
                    programs.note(kind, there.ok_or_else(|| format!("`{}` is not there", plimsoll.display())));
                    continue;
                }
                Kind::Mira => "mira.sh",
                Kind::Rotel => "rotel.sh",
                Kind::CollectorNop | Kind::CollectorQueue | Kind::CollectorQueueSynced => "collector.sh",
            };
            programs.note(kind, run(&scripts.join(script)));
        }
        programs
    }

    fn note(&mut self, kind: Kind, found: Result<PathBuf, String>) {
        match found {
            Ok(path) => {
                self.found.insert(kind, path);
            }
            Err(why) => {
                self.missing.insert(kind, why);
            }
        }
    }

    /// Returns the systems that cannot be started, and why.
    pub fn missing(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.missing.iter().map(|(kind, why)| (*kind, why.as_str()))
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.found.contains_key(&kind)
    }

    pub(crate) fn of(&self, kind: Kind) -> Result<PathBuf, Error> {
        self.found.get(&kind).cloned().ok_or_else(|| {
            let why = self.missing.get(&kind).map_or("was not prepared", String::as_str);
            Error::Usage(format!("{}: {why}", kind.name()))
        })
    }

    /// Mira's own load generator, where it was built.
    pub(crate) fn mira_loadgen(&self) -> Option<PathBuf> {
        let path = self.found.get(&Kind::Mira)?.with_file_name("loadgen");
        path.is_file().then_some(path)
    }
}

fn run(script: &Path) -> Result<PathBuf, String> {
    let output = Command::new(script).output().map_err(|problem| format!("`{}`: {problem}", script.display()))?;
    let last = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().lines().last().unwrap_or_default().to_owned();
    match output.status.code() {
        Some(0) => Ok(PathBuf::from(last(&output.stdout))),
        Some(SKIPPED) => Err(last(&output.stderr)),
        _ => Err(format!("`{}` failed: {}", script.display(), last(&output.stderr))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_that_cannot_be_had_is_named_with_its_reason_and_the_others_go_on() {
        let nowhere = Path::new("/nonexistent");
        let programs = Programs::prepare("/bin/sh".into(), nowhere, &[Kind::Plimsoll, Kind::Rotel]);
        assert!(programs.has(Kind::Plimsoll) && !programs.has(Kind::Rotel));
        let missing: Vec<_> = programs.missing().collect();
        assert_eq!(missing.len(), 1);
        assert!(missing[0].1.contains("/nonexistent/rotel.sh"), "{missing:?}");
        assert!(programs.of(Kind::Rotel).expect_err("not there").to_string().starts_with("rotel-blackhole: "));
        assert!(programs.mira_loadgen().is_none());
    }
}
