//! Instructions counted by callgrind, which a busy machine does not disturb; the kept figures, and what has changed since.
//!
//! *Layout of the kept file.* Lines of `stage<TAB>instructions a record`; `#` begins a comment.
//!
//! *Limits.* Counted is the thread that runs the stage. Instructions are not time: a cache miss or a slow instruction counts
//! as much as any other, so that a change of memory layout needs a bench beside this.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// What callgrind waits for: only inside of the function of this name are instructions counted.
const COUNTED: &str = "*counted_by_callgrind*";

/// Runs `work` where callgrind counts. Not to be inlined or renamed: callgrind finds it by its name.
#[inline(never)]
pub fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
    // Keeps the call above from becoming a jump, which would leave this function before the work begins.
    std::hint::black_box(());
}

/// Counts the instructions of `program --run STAGE`.
///
/// # Errors
/// `valgrind` is not there or fails; in words.
pub fn count(program: &Path, stage: &str, out: &Path) -> Result<u64, String> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--toggle-collect={COUNTED}")])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--run", stage])
        .output()
        .map_err(|problem| format!("`valgrind` cannot be started ({problem}): install it to count instructions"))?;
    if !run.status.success() {
        return Err(format!("`{stage}` failed under valgrind: {}", String::from_utf8_lossy(&run.stderr)));
    }
    let text = std::fs::read_to_string(out).map_err(|problem| format!("`{}`: {problem}", out.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")));
    match total.and_then(|total| total.split_whitespace().next()?.parse().ok()) {
        Some(0) => Err(format!("`{stage}` counted nothing: `{COUNTED}` was not found in the program")),
        Some(total) => Ok(total),
        None => Err(format!("`{}` has no total", out.display())),
    }
}

/// Reads the kept figures.
pub fn kept(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('\t')).filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?))).collect()
}

/// Writes figures in the form that is kept, in the order given.
pub fn to_keep(comment: &str, figures: &[(String, f64)]) -> String {
    let mut text = String::new();
    for line in comment.lines() {
        let _ = writeln!(text, "# {line}");
    }
    for (stage, each) in figures {
        let _ = writeln!(text, "{stage}\t{each:.0}");
    }
    text
}

/// By how much a stage has become dearer, in percent; `None` where nothing was kept of it.
pub fn change_percent(kept: &BTreeMap<String, f64>, stage: &str, each: f64) -> Option<f64> {
    let before = *kept.get(stage)?;
    (before > 0.0).then(|| (each / before - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_shows_what_became_dearer() {
        let figures = [("decode/spans".to_owned(), 1000.0), ("fold/logs".to_owned(), 50.0)];
        let kept = kept(&to_keep("machine\ncommand", &figures));
        assert_eq!(kept.len(), 2);
        assert_eq!(change_percent(&kept, "decode/spans", 1100.0).map(f64::round), Some(10.0));
        assert_eq!(change_percent(&kept, "fold/logs", 25.0).map(f64::round), Some(-50.0));
        assert_eq!(change_percent(&kept, "walk/spans", 1.0), None);
    }
}
