//! The proof harness: false alarms on harmless deploys, delay and power on bad ones, beside a reference.
//!
//! ```text
//! cargo run --release -p plimsoll-verdict --example proof -- check
//! cargo run --release -p plimsoll-verdict --example proof -- null DEPLOYS [STATE-FILE [ROW]]
//! cargo run --release -p plimsoll-verdict --example proof -- metrics DEPLOYS
//! cargo run --release -p plimsoll-verdict --example proof -- power DEPLOYS [ROW [SECONDS]]
//! cargo run --release -p plimsoll-verdict --example proof -- passes DEPLOYS [ROW]
//! cargo run --release -p plimsoll-verdict --example proof -- warm-ups DEPLOYS
//! cargo run --release -p plimsoll-verdict --example proof -- reference DEPLOYS
//! cargo run --release -p plimsoll-verdict --example proof -- cost
//! ```
//!
//! `check` is the short form: it exits with 1 where an aim is missed, and runs with `./check`.
//!
//! `null` writes a line for each deploy to the state file, or to none for `-`, and goes on from there when it is started again. `power` watches
//! each deploy for so many seconds. Nothing a verdict says at a moment depends on what came later, so one judgement at the end is a
//! look every 10 s; a test holds that. Of metrics no test does, and `metrics` looks every
//! minute.

#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod check;
mod cost;
mod fleet;
mod kayenta;
mod law;
mod metered;
mod metrics;
mod null;
mod passes;
mod power;
mod reference;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_model::Bucket;
use plimsoll_model::verdict::VerdictKind;
use plimsoll_verdict::{JudgeInput, judge};

use fleet::{Fleet, Latencies, START, simulate};

const THREADS: usize = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = |at: usize| args.get(at).map_or("", String::as_str);
    let number = text(1).parse().unwrap_or(60);
    match text(0) {
        "check" => return check::run(),
        "null" => null::run(number, args.get(2).map(String::as_str).filter(|path| *path != "-"), text(3)),
        "metrics" => metrics::run(number),
        "power" => power::run(number, text(2), text(3).parse().ok()),
        "passes" => passes::run(number, text(2)),
        "warm-ups" => warm_ups(number),
        "reference" => reference::run(number),
        "cost" => cost::run(),
        _ => {
            println!("say `check`, `null`, `metrics`, `power`, `passes`, `warm-ups`, `reference` or `cost`");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs `work` for each of `seeds` on [`THREADS`] threads.
fn each(seeds: std::ops::Range<u64>, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    // Relaxed: a counter; results are handed over under a lock.
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    work(seed);
                }
            });
        }
    });
}

/// Seconds from the start to the confirmed verdict.
fn delay(input: &JudgeInput) -> Option<u64> {
    let verdict = judge(input);
    let at = verdict.decided_at.filter(|_| verdict.verdict == VerdictKind::Regressed)?;
    Some(at.since(Bucket(START).start()).as_secs())
}

/// The delay that a share of all deploys has at most; `None` where it is beyond the watch.
fn rank(delays: &[Option<u64>], q: f64) -> Option<u64> {
    let mut sorted: Vec<u64> = delays.iter().map(|delay| delay.unwrap_or(u64::MAX)).collect();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len() - 1);
    Some(sorted[at]).filter(|delay| *delay < u64::MAX)
}

fn quantile(delays: &[Option<u64>], q: f64) -> String {
    rank(delays, q).map_or_else(|| "> end".to_owned(), |delay| delay.to_string())
}

/// Harmless deploys whose instances are three times slower at first, with no control as young.
fn warm_ups(deploys: u64) {
    let latencies = Latencies::new();
    println!("| time constant s | share | called regressed |");
    println!("|---|---|---|");
    for warm_up_s in [20.0, 45.0, 60.0, 90.0] {
        for share in [0.05, 0.5] {
            let fleet = Fleet { share, warm_up: 2.0, warm_up_s, ..Fleet::default() };
            let called = AtomicU64::new(0);
            each(0..deploys, |seed| {
                let regressed = delay(&simulate(&fleet, &latencies, 3_000_000 + seed)).is_some();
                // Relaxed: a counter, read once all threads are done.
                called.fetch_add(u64::from(regressed), Ordering::Relaxed);
            });
            println!("| {warm_up_s} | {} % | {}/{deploys} |", share * 100.0, called.load(Ordering::Relaxed));
        }
    }
}
