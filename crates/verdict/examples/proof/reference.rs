//! The engine beside the reference ([`crate::kayenta`]), over the same deploys.

use std::sync::Mutex;

use crate::fleet::{Fleet, Latencies, simulate};
use crate::{delay, each, kayenta, quantile};

/// What each deploy of the table has: five operations, a daily swing, a changed mix.
pub(crate) fn base() -> Fleet {
    Fleet { operations: 5, swing: 0.5, mix: 0.3, ..Fleet::default() }
}

/// Prints the table.
pub(crate) fn run(deploys: u64) {
    let latencies = Latencies::new();
    println!("| deploys | share | ours: regressed, median s | Mann-Whitney: failed, median s |");
    println!("|---|---|---|---|");
    let cases = [
        ("harmless", base()),
        ("harmless, dispersion 4", Fleet { dispersion: 4.0, ..base() }),
        ("harmless, cold start (3x, 30 s)", Fleet { warm_up: 2.0, warm_up_s: 30.0, ..base() }),
        ("errors 1 to 2 %", Fleet { error_effect: 2.0, ..base() }),
        ("errors 1 to 5 %", Fleet { error_effect: 5.0, ..base() }),
        ("latency +50 %", Fleet { latency_effect: 1.5, ..base() }),
    ];
    for (name, case) in cases {
        for share in [0.05, 0.5] {
            let told = delays(&Fleet { share, ..case }, &latencies, deploys)
                .map(|delays| format!("{}/{deploys}, {}", delays.iter().flatten().count(), quantile(&delays, 0.5)));
            println!("| {name} | {} % | {} | {} |", share * 100.0, told[0], told[1]);
        }
    }
}

/// Returns when each of so many deploys was called bad: by the engine, and by the reference. Both are in the same order.
pub(crate) fn delays(fleet: &Fleet, latencies: &Latencies, deploys: u64) -> [Vec<Option<u64>>; 2] {
    let results = Mutex::new([Vec::new(), Vec::new()]);
    each(0..deploys, |seed| {
        let input = simulate(fleet, latencies, 2_000_000 + seed);
        let (ours, theirs) = (delay(&input), kayenta::detects(&input));
        let mut results = results.lock().expect("no thread panicked");
        results[0].push(ours);
        results[1].push(theirs);
    });
    results.into_inner().expect("no thread panicked")
}
