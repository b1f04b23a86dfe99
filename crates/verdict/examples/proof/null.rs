//! Harmless deploys of services with 200 operations, and everything that may mislead.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;

use plimsoll_verdict::judge;

use crate::fleet::{Fleet, Latencies, simulate};
use crate::{each, law};

/// The harmless deploy of a seed.
pub(crate) fn harmless(seed: u64) -> Fleet {
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

/// Judges the first `deploys`, or of those the ones whose row holds `wanted`, and prints the table.
pub(crate) fn run(deploys: u64, state: Option<&str>, wanted: &str) {
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
        if !told(row(&harmless(seed))).contains(wanted)
            || results.lock().expect("no thread panicked").contains_key(&seed)
        {
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
    let mut rows: BTreeMap<[u64; 3], [u64; 3]> = BTreeMap::new();
    let mut all = [0_u64; 3];
    for (seed, line) in &results {
        let kind = match line.split(' ').nth(1) {
            Some("Regressed") => 0,
            Some("Pass") => 1,
            _ => 2,
        };
        rows.entry(row(&harmless(*seed))).or_default()[kind] += 1;
        all[kind] += 1;
        if kind == 0 {
            println!("false alarm: {line}");
        }
    }
    println!("| requests/s | share | dispersion | deploys | regressed | at most | passed | inconclusive |");
    println!("|---|---|---|---|---|---|---|---|");
    let print = |row: String, counts: [u64; 3]| {
        let n: u64 = counts.iter().sum();
        let [regressed, passed, open] = counts;
        println!("{row} {n} | {regressed} | {:.2} % | {passed} | {open} |", law::at_most(regressed, n));
    };
    rows.into_iter().for_each(|(row, counts)| print(told(row), counts));
    print("| all | | |".to_owned(), all);
}

/// Requests a second, the candidate's share in per cent, and dispersion.
fn row(fleet: &Fleet) -> [u64; 3] {
    [fleet.rate as u64, (fleet.share * 100.0) as u64, fleet.dispersion as u64]
}

fn told([rate, share, dispersion]: [u64; 3]) -> String {
    format!("| {rate} | {share} % | {dispersion} |")
}
