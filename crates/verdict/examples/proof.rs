//! The proof harness: false alarms on harmless deploys, and delay and power on bad ones, as one table.
//!
//! `cargo run --release -p plimsoll-verdict --example proof -- [null deploys] [power deploys]`

#![expect(clippy::print_stdout, reason = "a program that prints a table")]

#[path = "../tests/it/simulation.rs"]
mod simulation;

use plimsoll_model::Bucket;
use plimsoll_model::verdict::{Phase, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge};
use simulation::{START, Scenario, simulate};

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let (nulls, powers) = (numbers.first().copied().unwrap_or(200), numbers.get(1).copied().unwrap_or(40));
    println!("harmless deploys, looked at every 10 s, 30 min each\n");
    println!("| scenario | deploys | regressed | passed | inconclusive |");
    println!("|---|---|---|---|---|");
    for (name, scenario) in harmless() {
        let mut counts = [0_u64; 3];
        for seed in 0..nulls {
            let mut input = simulate(&scenario, seed);
            counts[final_verdict(&mut input)] += 1;
        }
        println!("| {name} | {nulls} | {} | {} | {} |", counts[0], counts[1], counts[2]);
    }
    if powers == 0 {
        return;
    }
    println!("\nbad deploys: seconds from the first bad request to the verdict\n");
    println!("| effect | requests/s | share | dispersion | regressed | median s | p90 s |");
    println!("|---|---|---|---|---|---|---|");
    for (name, scenario) in harmful() {
        let mut delays: Vec<Option<u64>> =
            (0..powers).map(|seed| delay(&mut simulate(&scenario, 1_000_000 + seed))).collect();
        delays.sort_by_key(|delay| delay.unwrap_or(u64::MAX));
        let at = |q: f64| {
            let index = ((delays.len() as f64 * q) as usize).min(delays.len() - 1);
            delays[index].map_or_else(|| "> 1800".to_owned(), |s| s.to_string())
        };
        let caught = delays.iter().flatten().count();
        println!(
            "| {name} | {} | {} | {} | {caught}/{powers} | {} | {} |",
            scenario.rate,
            scenario.share,
            scenario.dispersion,
            at(0.5),
            at(0.9)
        );
    }
}

/// Judges as the watcher would, but every five minutes only, keeping the former verdict; 0 regressed, 1 pass, 2 inconclusive.
///
/// The processes look at every bucket whatever the number of evaluations: their largest value counts.
fn final_verdict(input: &mut JudgeInput) -> usize {
    let end = input.now.bucket().0;
    for bucket in (START..=end).step_by(30).chain([end]) {
        input.now = Bucket(bucket).start();
        let verdict = judge(input);
        if verdict.phase == Phase::Confirmed {
            return 0;
        }
        input.previous = Some(verdict);
    }
    match input.previous.as_ref().map(|v| v.verdict) {
        Some(VerdictKind::Pass) => 1,
        _ => 2,
    }
}

fn delay(input: &mut JudgeInput) -> Option<u64> {
    let end = input.now.bucket().0;
    (START + 1..=end).find_map(|bucket| {
        input.now = Bucket(bucket).start();
        let verdict = judge(input);
        let found = verdict.verdict == VerdictKind::Regressed;
        input.previous = Some(verdict);
        found.then_some((bucket - START) * 10)
    })
}

fn harmless() -> Vec<(String, Scenario)> {
    let base = Scenario { operations: 5, before_s: 3_600, warm_up: 2.0, swing: 0.5, mix: 0.3, ..Scenario::default() };
    let mut list = Vec::new();
    for share in [0.05, 0.5, 1.0] {
        for dispersion in [1.0, 2.0, 4.0] {
            let name = format!("share {share}, dispersion {dispersion}, warm-up, swing, mix");
            list.push((name, Scenario { share, dispersion, ..base.clone() }));
        }
    }
    list.push(("share 0.5, no errors at all".to_owned(), Scenario { share: 0.5, errors: 0.0, ..base.clone() }));
    list.push((
        "share 0.5, 40 operations".to_owned(),
        Scenario { share: 0.5, operations: 40, dispersion: 2.0, ..base.clone() },
    ));
    list.push((
        "10 requests a minute, replaced at once".to_owned(),
        Scenario { share: 1.0, rate: 1.0 / 6.0, ..base.clone() },
    ));
    list
}

fn harmful() -> Vec<(String, Scenario)> {
    let base = Scenario { before_s: 1_800, ..Scenario::default() };
    let effects = [
        ("errors 0.1 to 1 %", 0.001, 10.0, 1.0),
        ("errors 1 to 2 %", 0.01, 2.0, 1.0),
        ("errors 1 to 5 %", 0.01, 5.0, 1.0),
        ("latency +20 %", 0.01, 1.0, 1.2),
        ("latency +50 %", 0.01, 1.0, 1.5),
    ];
    let mut list = Vec::new();
    for (name, errors, error_effect, latency_effect) in effects {
        for rate in [10.0, 100.0] {
            for share in [0.05, 0.5] {
                list.push((
                    name.to_owned(),
                    Scenario { rate, share, errors, error_effect, latency_effect, ..base.clone() },
                ));
            }
        }
    }
    list.push(("errors 1 to 5 %, replaced".to_owned(), Scenario { share: 1.0, error_effect: 5.0, ..base.clone() }));
    list.push(("latency +50 %, replaced".to_owned(), Scenario { share: 1.0, latency_effect: 1.5, ..base.clone() }));
    list.push(("errors 1 to 5 %, bursty".to_owned(), Scenario { dispersion: 2.0, error_effect: 5.0, ..base }));
    list
}
