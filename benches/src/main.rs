//! `plimsoll-instructions`: instructions a record by stage, counted by callgrind, against the figures kept in the repository.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use plimsoll_benches::{callgrind, stages};

// The server's, so that allocations cost here what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Above this a stage counts as dearer where nothing else is said: below lie the seeds of hash maps.
const TOLERANCE_PERCENT: f64 = 3.0;

/// Runs of a stage whose time is taken, of which the shortest counts.
const TIMED_RUNS: usize = 15;

const USAGE: &str = "usage: plimsoll-instructions [--save | --time | --within PERCENT] [PART OF A STAGE'S NAME..]

Counts the instructions a record of every stage, or of those whose name holds one of the words, and compares with
benches/instructions.tsv (PLIMSOLL_INSTRUCTIONS names another file). --save keeps what was counted there.
--time tells nanoseconds of processor time a record instead, the least of fifteen runs.
Exit code 1: a stage has become dearer by more than 3 %, or --within, or could not be counted.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let told = match arguments.first().map(String::as_str) {
        Some("--run") => return run(arguments.get(1).map_or("", String::as_str)),
        Some("-h" | "--help") => {
            let _ = writeln!(std::io::stdout(), "{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some("--time") => time(&arguments[1..]).map(|()| false),
        _ => compare(&arguments),
    };
    match told {
        Ok(dearer) => ExitCode::from(u8::from(dearer)),
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "error: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What valgrind runs.
fn run(name: &str) -> ExitCode {
    let Some(mut stage) = stages::stage(name) else {
        let _ = writeln!(std::io::stderr(), "error: no stage `{name}`");
        return ExitCode::from(2);
    };
    stage.warm_up();
    callgrind::counted_by_callgrind(&mut || stage.run());
    ExitCode::SUCCESS
}

/// Returns the stages whose name holds one of the words.
fn wanted(words: &[&String]) -> Result<Vec<String>, String> {
    let wanted = |name: &String| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let names: Vec<String> = stages::names().into_iter().filter(wanted).collect();
    if names.is_empty() {
        return Err(format!("no stage's name holds any of {words:?}; the stages are {:?}", stages::names()));
    }
    Ok(names)
}

/// Processor time that this thread has used, in nanoseconds: what other processes do costs none of it.
fn used_ns() -> Result<u64, String> {
    const PATH: &str = "/proc/thread-self/schedstat";
    // The kernel adds up what a thread has run once it stops running.
    std::thread::sleep(std::time::Duration::from_millis(1));
    let text = std::fs::read_to_string(PATH).map_err(|problem| format!("`{PATH}`: {problem}"))?;
    let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
    first.ok_or_else(|| format!("`{PATH}` does not begin with a number"))
}

fn time(words: &[String]) -> Result<(), String> {
    let names = wanted(&words.iter().collect::<Vec<_>>())?;
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{:<42} {:>12}", "stage", "ns a record");
    for name in names {
        let mut least = u64::MAX;
        for _ in 0..TIMED_RUNS {
            let Some(mut stage) = stages::stage(&name) else { continue };
            stage.warm_up();
            let before = used_ns()?;
            stage.run();
            least = least.min(used_ns()?.saturating_sub(before));
        }
        let _ = writeln!(stdout, "{name:<42} {:>12.0}", least as f64 / stages::records(&name) as f64);
    }
    Ok(())
}

fn compare(arguments: &[String]) -> Result<bool, String> {
    let save = arguments.iter().any(|argument| argument == "--save");
    let (within, arguments) = match arguments {
        [option, percent, rest @ ..] if option == "--within" => {
            let told = percent.parse::<f64>().ok().filter(|percent| *percent >= 0.0);
            (told.ok_or_else(|| format!("`--within` takes a number of percent, not `{percent}`"))?, rest)
        }
        all => (TOLERANCE_PERCENT, all),
    };
    let words: Vec<&String> = arguments.iter().filter(|argument| *argument != "--save").collect();
    if let Some(unknown) = words.iter().find(|word| word.starts_with('-')) {
        return Err(format!("unknown option `{unknown}`\n{USAGE}"));
    }
    let names = wanted(&words)?;
    let path = std::env::var_os("PLIMSOLL_INSTRUCTIONS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.tsv"), PathBuf::from);
    let mut kept = callgrind::kept(&std::fs::read_to_string(&path).unwrap_or_default());
    let program = std::env::current_exe().map_err(|problem| format!("where is this program? {problem}"))?;
    let out = std::env::temp_dir().join(format!("plimsoll-callgrind.{}", std::process::id()));
    let mut stdout = std::io::stdout();
    let mut dearer = false;
    let _ = writeln!(stdout, "{:<42} {:>12} {:>12} {:>9}", "stage", "now", "kept", "change");
    for name in names {
        let counted = callgrind::count(&program, &name, &out);
        let _ = std::fs::remove_file(&out);
        let each = counted? as f64 / stages::records(&name) as f64;
        let change = callgrind::change_percent(&kept, &name, each);
        dearer |= change.is_some_and(|percent| percent > within);
        let before = kept.get(&name).map_or_else(|| "-".to_owned(), |before| format!("{before:.0}"));
        let change = change.map_or_else(|| "-".to_owned(), |percent| format!("{percent:+.1} %"));
        let _ = writeln!(stdout, "{name:<42} {each:>12.0} {before:>12} {change:>9}");
        if save {
            kept.insert(name, each);
            keep(&path, &kept)?;
        }
    }
    Ok(dearer && !save)
}

/// Writes what is kept, after each stage: counting all of them takes minutes on a busy machine.
fn keep(path: &Path, kept: &BTreeMap<String, f64>) -> Result<(), String> {
    let figures: Vec<(String, f64)> =
        stages::names().into_iter().filter_map(|name| kept.get(&name).map(|each| (name.clone(), *each))).collect();
    let comment =
        "Instructions a record by stage, counted by callgrind: `plimsoll-instructions --save` writes this file.";
    std::fs::write(path, callgrind::to_keep(comment, &figures))
        .map_err(|problem| format!("`{}`: {problem}", path.display()))
}
