//! The proof harness: false alarms on harmless deploys, delay and power on bad ones, beside a reference.
//!
//! ```text
//! cargo run --release -p plimsoll-verdict --example proof -- null DEPLOYS [STATE-FILE]
//! cargo run --release -p plimsoll-verdict --example proof -- power DEPLOYS [ROW]
//! cargo run --release -p plimsoll-verdict --example proof -- passes DEPLOYS [ROW]
//! cargo run --release -p plimsoll-verdict --example proof -- warm-ups DEPLOYS
//! cargo run --release -p plimsoll-verdict --example proof -- reference DEPLOYS
//! cargo run --release -p plimsoll-verdict --example proof -- cost
//! ```
//!
//! `null` writes a line for each deploy to the state file and goes on from there when it is started again. Nothing a verdict
//! says at a moment depends on what came later, so one judgement at the end is a look every 10 s; a test holds that.

#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod cost;
mod fleet;
mod kayenta;
mod passes;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_model::Bucket;
use plimsoll_model::verdict::VerdictKind;
use plimsoll_verdict::{JudgeInput, Tolerances, judge};

use fleet::{Fleet, Latencies, START, simulate};

const THREADS: usize = 2;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = args.get(1).and_then(|arg| arg.parse().ok()).unwrap_or(60);
    match args.first().map(String::as_str) {
        Some("null") => null(number, args.get(2).map(String::as_str)),
        Some("power") => power(number, args.get(2).map_or("", String::as_str)),
        Some("passes") => passes::run(number, args.get(2).map_or("", String::as_str)),
        Some("warm-ups") => warm_ups(number),
        Some("reference") => reference(number),
        Some("cost") => cost::run(),
        _ => println!("say `null`, `power`, `passes`, `warm-ups`, `reference` or `cost`"),
    }
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

/// The harmless deploy of a seed: 200 operations, and everything that may mislead.
fn harmless(seed: u64) -> Fleet {
    let pick = |values: &[f64], stride: u64| values[(seed / stride) as usize % values.len()];
    Fleet {
        rate: pick(&[10.0, 50.0, 200.0], 9),
        operations: 200,
        share: pick(&[0.05, 0.5, 1.0], 1),
        dispersion: pick(&[1.0, 2.0, 4.0], 3),
        swing: 0.5,
        mix: 0.3,
        warm_up: 2.0,
        warm_up_s: 5.0 + (seed % 12) as f64 * 5.0,
        before_s: 1_800,
        ..Fleet::default()
    }
}

fn null(deploys: u64, state: Option<&str>) {
    let latencies = Latencies::new();
    let done = state.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let known: BTreeMap<u64, String> =
        done.lines().filter_map(|line| Some((line.split(' ').next()?.parse().ok()?, line.to_owned()))).collect();
    let file = state.map(|path| {
        Mutex::new(
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the state file is writable"),
        )
    });
    let results = Mutex::new(known);
    each(0..deploys, |seed| {
        if results.lock().expect("no thread panicked").contains_key(&seed) {
            return;
        }
        let verdict = judge(&simulate(&harmless(seed), &latencies, seed));
        let line = format!("{seed} {:?} {}", verdict.verdict, verdict.summary);
        if let Some(file) = &file {
            writeln!(file.lock().expect("no thread panicked"), "{line}").expect("the state file is writable");
        }
        results.lock().expect("no thread panicked").insert(seed, line);
    });
    let results = results.into_inner().expect("no thread panicked");
    let mut rows: BTreeMap<(u64, u64, u64), [u64; 3]> = BTreeMap::new();
    let mut all = [0_u64; 3];
    for (seed, line) in &results {
        let fleet = harmless(*seed);
        let row = (fleet.rate as u64, (fleet.share * 100.0) as u64, fleet.dispersion as u64);
        let kind = match line.split(' ').nth(1) {
            Some("Regressed") => 0,
            Some("Pass") => 1,
            _ => 2,
        };
        rows.entry(row).or_default()[kind] += 1;
        all[kind] += 1;
        if kind == 0 {
            println!("false alarm: {line}");
        }
    }
    println!("| requests/s | share | dispersion | deploys | regressed | passed | inconclusive |");
    println!("|---|---|---|---|---|---|---|");
    for ((rate, share, dispersion), counts) in rows {
        let n: u64 = counts.iter().sum();
        println!("| {rate} | {share} % | {dispersion} | {n} | {} | {} | {} |", counts[0], counts[1], counts[2]);
    }
    let n: u64 = all.iter().sum();
    println!("| all | | | {n} | {} | {} | {} |", all[0], all[1], all[2]);
}

/// Seconds from the start to the confirmed verdict.
fn delay(input: &JudgeInput) -> Option<u64> {
    let verdict = judge(input);
    let at = verdict.decided_at.filter(|_| verdict.verdict == VerdictKind::Regressed)?;
    Some(at.since(Bucket(START).start()).as_secs())
}

fn quantile(delays: &[Option<u64>], q: f64) -> String {
    let mut sorted: Vec<u64> = delays.iter().map(|delay| delay.unwrap_or(u64::MAX)).collect();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len() - 1);
    if sorted[at] == u64::MAX { "> end".to_owned() } else { sorted[at].to_string() }
}

/// An effect, with the information floors at 10 and 100 requests a second for shares of 5 % and 50 %.
struct Effect {
    name: &'static str,
    errors: f64,
    error_effect: f64,
    latency_effect: f64,
    floors: [Option<u64>; 4],
}

const EFFECTS: [Effect; 6] = [
    Effect {
        name: "errors 0.1 to 1 %",
        errors: 0.001,
        error_effect: 10.0,
        latency_effect: 1.0,
        floors: [Some(980), Some(110), Some(280), Some(30)],
    },
    Effect {
        name: "errors 1 to 2 %",
        errors: 0.01,
        error_effect: 2.0,
        latency_effect: 1.0,
        floors: [Some(3270), Some(330), Some(620), Some(80)],
    },
    Effect {
        name: "errors 1 to 5 %",
        errors: 0.01,
        error_effect: 5.0,
        latency_effect: 1.0,
        floors: [Some(290), Some(40), Some(80), Some(10)],
    },
    Effect {
        name: "latency +10 %",
        errors: 0.01,
        error_effect: 1.0,
        latency_effect: 1.1,
        floors: [Some(3070), Some(410), Some(740), Some(90)],
    },
    Effect {
        name: "latency +20 %",
        errors: 0.01,
        error_effect: 1.0,
        latency_effect: 1.2,
        floors: [Some(860), Some(100), Some(180), Some(20)],
    },
    Effect { name: "latency +50 %", errors: 0.01, error_effect: 1.0, latency_effect: 1.5, floors: [None; 4] },
];

/// Tolerances that leave next to nothing to tolerate: what the test itself can do.
fn fine() -> Tolerances {
    Tolerances {
        latency_ratio: 0.01,
        latency_floor_ms: 0.0,
        error_points: 0.0002,
        error_ratio: 1.02,
        error_floor: 0.0001,
        ..Tolerances::default()
    }
}

/// Prints all rows whose first three columns hold `wanted`.
fn power(deploys: u64, wanted: &str) {
    let latencies = Latencies::new();
    println!("| effect | requests/s | share | floor s | fine: caught, median, p90 | default: caught, median, p90 |");
    println!("|---|---|---|---|---|---|");
    for effect in &EFFECTS {
        for (r, rate) in [1.0, 10.0, 100.0, 1_000.0].into_iter().enumerate() {
            for (s, share) in [0.05, 0.5].into_iter().enumerate() {
                let fleet = Fleet {
                    rate,
                    share,
                    errors: effect.errors,
                    error_effect: effect.error_effect,
                    latency_effect: effect.latency_effect,
                    before_s: 1_800,
                    ..Fleet::default()
                };
                let row = format!("{} | {rate} | {} %", effect.name, share * 100.0);
                if !row.contains(wanted) {
                    continue;
                }
                let floor = (1..=2).contains(&r).then(|| effect.floors[(r - 1) + 2 * s]).flatten();
                let results = Mutex::new([Vec::new(), Vec::new()]);
                each(0..deploys, |seed| {
                    let mut input = simulate(&fleet, &latencies, 1_000_000 + seed);
                    let plain = delay(&input);
                    input.tolerances = fine();
                    let fine = delay(&input);
                    let mut results = results.lock().expect("no thread panicked");
                    results[0].push(fine);
                    results[1].push(plain);
                });
                let results = results.into_inner().expect("no thread panicked");
                let told = results.map(|delays| {
                    let caught = delays.iter().flatten().count();
                    format!("{caught}/{deploys}, {}, {}", quantile(&delays, 0.5), quantile(&delays, 0.9))
                });
                let floor = floor.map_or_else(|| "-".to_owned(), |floor| floor.to_string());
                println!("| {row} | {floor} | {} | {} |", told[0], told[1]);
            }
        }
    }
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

fn reference(deploys: u64) {
    let latencies = Latencies::new();
    println!("| deploys | share | ours: regressed, median s | Mann-Whitney: failed, median s |");
    println!("|---|---|---|---|");
    let base = Fleet { operations: 5, swing: 0.5, mix: 0.3, ..Fleet::default() };
    let cases = [
        ("harmless", base),
        ("harmless, dispersion 4", Fleet { dispersion: 4.0, ..base }),
        ("harmless, cold start (3x, 30 s)", Fleet { warm_up: 2.0, warm_up_s: 30.0, ..base }),
        ("errors 1 to 2 %", Fleet { error_effect: 2.0, ..base }),
        ("errors 1 to 5 %", Fleet { error_effect: 5.0, ..base }),
        ("latency +50 %", Fleet { latency_effect: 1.5, ..base }),
    ];
    for (name, case) in cases {
        for share in [0.05, 0.5] {
            let results = Mutex::new([Vec::new(), Vec::new()]);
            each(0..deploys, |seed| {
                let input = simulate(&Fleet { share, ..case }, &latencies, 2_000_000 + seed);
                let (ours, theirs) = (delay(&input), kayenta::detects(&input));
                let mut results = results.lock().expect("no thread panicked");
                results[0].push(ours);
                results[1].push(theirs);
            });
            let told = results
                .into_inner()
                .expect("no thread panicked")
                .map(|delays| format!("{}/{deploys}, {}", delays.iter().flatten().count(), quantile(&delays, 0.5)));
            println!("| {name} | {} % | {} | {} |", share * 100.0, told[0], told[1]);
        }
    }
}
