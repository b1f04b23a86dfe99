//! A recorded day with known faults: what would have been said, who would have been ranked first, what was missing.
//!
//! ```text
//! cargo run --release -p plimsoll-watch --example recorded -- DIRECTORY [plain|clean|levels] [SECONDS]
//! ```
//!
//! The directory holds OTLP as JSON lines (`*.jsonl`, `*.jsonl.zst`) and `faults.json`, a list of `time`, `service` and
//! `kind`. Each fault is posed as a change of configuration of its service at its time, and judged after so many seconds, or when the next begins; so
//! is each of the same services at the time of another's fault, where it is innocent. At the time of each fault all services
//! are asked, and ranked by how unusual they are since.
//!
//! `plain` takes the past as it was, earlier faults of the same service included; `clean` leaves out four minutes of each
//! earlier fault, as somebody would who knows of them; `levels` looks at nothing but the levels of metrics.

#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod recording;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, Deploy, DeployId, DeployKind, DeployStatus, ServiceKey, UnixNanos, Verdict, VerdictKind};
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_verdict::{JudgeInput, judge, suspicion};
use plimsoll_watch::gather;
use serde::Deserialize;

use recording::Recordings;

/// How long after its beginning a fault is left out of the past.
const ILL: Duration = Duration::from_secs(240);

/// What was emitted until a moment is asked for so much later: by then it has come in, and its traces are closed.
const SETTLED: Duration = Duration::from_secs(60);

/// An innocent service had no fault of its own for so long.
const QUIET: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Deserialize)]
struct Fault {
    time: String,
    service: String,
    kind: String,
    #[serde(skip)]
    at: UnixNanos,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Clean,
    Levels,
}

/// Leaves out what is not to be looked at.
fn restrict(input: &mut JudgeInput, mode: Mode, earlier: &[UnixNanos]) {
    let ill = |bucket: Bucket| earlier.iter().any(|at| bucket.start() >= *at && bucket.start() < *at + ILL);
    match mode {
        Mode::Plain => {}
        Mode::Clean => {
            for series in input.series.iter_mut().chain(&mut input.related) {
                series.cells.retain(|(bucket, _)| !ill(*bucket));
            }
            for series in &mut input.aggregates.logs {
                series.cells.retain(|(bucket, _)| !ill(*bucket));
                // Known is what was logged while nothing was wrong.
                series.first_seen = series.cells.first().map_or(UnixNanos::MAX, |(bucket, _)| bucket.start());
            }
            input.aggregates.metrics.iter_mut().for_each(|series| series.cells.retain(|(bucket, _)| !ill(*bucket)));
        }
        Mode::Levels => {
            input.series.clear();
            input.related.clear();
            input.untouched.clear();
            input.aggregates.logs.clear();
        }
    }
}

/// What was said of one service at one fault.
struct Said {
    verdict: Verdict,
    suspicion: f64,
    about: String,
    requests: [u64; 2],
    errors_logged: [u64; 2],
    minutes: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(directory) = args.first().map(Path::new) else {
        println!("say which directory holds the recording");
        return;
    };
    let mode = match args.get(1).map(String::as_str) {
        Some("clean") => Mode::Clean,
        Some("levels") => Mode::Levels,
        _ => Mode::Plain,
    };
    let seconds: u64 = args.get(2).and_then(|arg| arg.parse().ok()).unwrap_or(180);
    let text = std::fs::read_to_string(directory.join("faults.json")).expect("`faults.json` is readable");
    let mut faults: Vec<Fault> = serde_json::from_str(&text).expect("`faults.json` lists faults");
    for fault in &mut faults {
        fault.at = UnixNanos::parse_rfc3339(&fault.time).expect("`time` is RFC 3339");
    }
    faults.sort_by_key(|fault| fault.at);
    let state = Mutex::new(SignalState::new(SignalLimits::default()));
    let mut recordings = Recordings::open(directory);
    let mut asked = 0;
    let mut all: Vec<BTreeMap<String, Said>> = Vec::new();
    loop {
        let rows = recordings.next();
        let now = rows.as_ref().map_or(UnixNanos::MAX, |rows| rows.at);
        while let Some(fault) = faults.get(asked) {
            // What the next fault does is not held against this one.
            let next = faults.get(asked + 1).map_or(UnixNanos::MAX, |next| next.at);
            let until = (fault.at + Duration::from_secs(seconds)).min(next);
            if until + SETTLED > now {
                break;
            }
            let earlier: Vec<UnixNanos> = faults[..asked].iter().map(|fault| fault.at).collect();
            all.push(ask(&state, fault.at, until, mode, &earlier));
            asked += 1;
        }
        let Some(rows) = rows else { break };
        let mut state = state.lock();
        state.fold(rows.table, &rows.batch).expect("rows are as the decoder made them");
        // What live traffic would write to segments is not needed here.
        drop(state.take_rows());
    }
    print(&faults, &all);
}

/// Asks of every service whether it got worse at `at`.
fn ask(
    state: &Mutex<SignalState>,
    at: UnixNanos,
    now: UnixNanos,
    mode: Mode,
    earlier: &[UnixNanos],
) -> BTreeMap<String, Said> {
    let services = state.lock().services();
    let said = services.into_iter().map(|service| {
        let mut input = JudgeInput::new(deploy(&service, at), now, Vec::new());
        gather(state, &|other| (*other == service).then_some(UnixNanos(0)), &BTreeMap::new(), &mut input, None);
        restrict(&mut input, mode, earlier);
        let count = |before: bool| -> [u64; 2] {
            let inside = |bucket: Bucket| (bucket.start() < at) == before;
            let requests = input.series.iter().flat_map(|s| &s.cells).filter(|(b, _)| inside(*b));
            let errors = input
                .aggregates
                .logs
                .iter()
                .filter(|s| s.level >= plimsoll_model::log::Level::Error)
                .flat_map(|s| &s.cells)
                .filter(|(b, _)| inside(*b));
            [requests.map(|(_, c)| c.requests).sum(), errors.map(|(_, c)| c.count).sum()]
        };
        let ([before, errors_before], [after, errors_after]) = (count(true), count(false));
        let (suspicion, about) = suspicion(&input);
        let minutes: BTreeSet<u64> =
            input.aggregates.metrics.iter().flat_map(|s| &s.cells).map(|(bucket, _)| bucket.0 / 6).collect();
        let said = Said {
            verdict: judge(&input),
            suspicion,
            about,
            requests: [before, after],
            errors_logged: [errors_before, errors_after],
            minutes: minutes.len(),
        };
        (service.service, said)
    });
    said.collect()
}

fn print(faults: &[Fault], all: &[BTreeMap<String, Said>]) {
    println!(
        "| fault | kind | said | rank | requests before, after | errors logged before, after | minutes of metrics | what is most unusual about it |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut kinds: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    for (fault, said) in faults.iter().zip(all) {
        let counts = kinds.entry(&fault.kind).or_default();
        counts[0] += 1;
        let Some(own) = said.get(&fault.service) else {
            println!(
                "| {} {} | {} | nothing was recorded of it | - | - | - | - | - |",
                fault.time, fault.service, fault.kind
            );
            continue;
        };
        let rank = 1 + said.values().filter(|other| other.suspicion > own.suspicion).count();
        let regressed = own.verdict.verdict == VerdictKind::Regressed;
        counts[1] += usize::from(regressed);
        counts[5] += usize::from(own.verdict.phase == Phase::Suspected);
        counts[2] += usize::from(rank == 1 && own.suspicion > 0.0);
        counts[3] += usize::from(rank <= 3 && own.suspicion > 0.0);
        counts[4] += said
            .iter()
            .filter(|(name, other)| **name != fault.service && other.verdict.verdict == VerdictKind::Regressed)
            .count();
        println!(
            "| {} {} | {} | {:?}, {:?} | {rank} | {}, {} | {}, {} | {} | {} ({:.1}) |",
            fault.time,
            fault.service,
            fault.kind,
            own.verdict.verdict,
            own.verdict.phase,
            own.requests[0],
            own.requests[1],
            own.errors_logged[0],
            own.errors_logged[1],
            own.minutes,
            own.about,
            own.suspicion
        );
    }
    println!(
        "\n| kind | faults | called regressed | suspected | ranked first | among the first three | other services called regressed |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut total = [0; 6];
    for (kind, counts) in &kinds {
        let [all, regressed, first, three, others, suspected] = *counts;
        println!("| {kind} | {all} | {regressed} | {suspected} | {first} | {three} | {others} |");
        total.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }
    let [n, regressed, first, three, others, suspected] = total;
    println!("| all | {n} | {regressed} | {suspected} | {first} | {three} | {others} |");
    innocent(faults, all);
}

/// The same services at times of others' faults: each once, at the first time that it was quiet around.
fn innocent(faults: &[Fault], all: &[BTreeMap<String, Said>]) {
    let (mut posed, mut regressed, mut served) = (0, 0, 0);
    for (index, fault) in faults.iter().enumerate() {
        let quiet = |other: &&(&Fault, &BTreeMap<String, Said>)| {
            faults
                .iter()
                .filter(|f| f.service == fault.service)
                .all(|own| own.at.since(other.0.at).max(other.0.at.since(own.at)) >= QUIET)
        };
        let times: Vec<_> = faults.iter().zip(all).filter(|pair| quiet(&pair)).collect();
        let Some((at, said)) = times.get(index % times.len().max(1)) else { continue };
        let Some(own) = said.get(&fault.service) else { continue };
        posed += 1;
        served += usize::from(own.requests[1] > 0);
        if own.verdict.verdict == VerdictKind::Regressed {
            regressed += 1;
            println!("false alarm: {} at {}: {}", fault.service, at.time, own.verdict.summary);
        }
    }
    println!("\ninnocent times: {posed}, with requests {served}, called regressed {regressed}");
}

fn deploy(service: &ServiceKey, at: UnixNanos) -> Deploy {
    Deploy {
        id: DeployId::from_text("dep_recorded"),
        service: service.clone(),
        version: String::new(),
        kind: DeployKind::Config,
        previous_version: None,
        commit: None,
        repository: None,
        run_url: None,
        actor: None,
        strategy: None,
        artifact: None,
        attributes: Default::default(),
        started_at: at,
        finished_at: None,
        status: DeployStatus::Running,
        inferred: false,
        created_at: at,
    }
}
