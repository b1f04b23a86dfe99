//! How soon harmless deploys pass, and how many pass that are exactly as much worse as is tolerated.

use std::sync::Mutex;

use plimsoll_model::Bucket;
use plimsoll_model::verdict::VerdictKind;
use plimsoll_verdict::{JudgeInput, judge};

use crate::fleet::{Fleet, Latencies, START, simulate};
use crate::{each, quantile};

/// Buckets between two looks at a single operation. At many one looks at the end: what was shown once stays shown.
const LOOK: u64 = 3;
/// Growth of the share of failures that is tolerated.
const TOLERATED: f64 = 0.005;

/// Prints the rows that hold `wanted`.
pub(crate) fn run(deploys: u64, wanted: &str) {
    let latencies = Latencies::new();
    println!(
        "| operations | errors | requests/s | share | dispersion | harmless: passed, median s, p90 \
         | as much worse as is tolerated: passed |"
    );
    println!("|---|---|---|---|---|---|---|");
    let traffic = [(10.0, 0.5, 1.0), (10.0, 1.0, 1.0), (100.0, 0.05, 1.0), (100.0, 0.5, 1.0), (100.0, 0.5, 4.0)];
    let one = [0.0001, 0.002, 0.01].into_iter().flat_map(|errors| traffic.map(|of| (1, errors, of)));
    let many = [(10.0, 0.5, 4.0), (50.0, 0.05, 4.0), (50.0, 0.5, 4.0)].map(|of| (200, 0.01, of));
    for (operations, errors, (rate, share, dispersion)) in one.chain(many) {
        let row = format!("| {operations} | {} % | {rate} | {} % | {dispersion} |", errors * 100.0, share * 100.0);
        if !row.contains(wanted) {
            continue;
        }
        let fleet = Fleet { operations, rate, share, errors, dispersion, ..Fleet::default() };
        let results = Mutex::new([Vec::new(), Vec::new()]);
        each(0..deploys, |seed| {
            let worse = Fleet { error_effect: (errors + TOLERATED) / errors, ..fleet };
            let told =
                [fleet, worse].map(|fleet| passed(&simulate(&fleet, &latencies, 4_000_000 + seed), operations == 1));
            let mut results = results.lock().expect("no thread panicked");
            results.iter_mut().zip(told).for_each(|(all, one)| all.push(one));
        });
        let [harmless, worse] = results.into_inner().expect("no thread panicked");
        let count = |delays: &[Option<u64>]| delays.iter().flatten().count();
        let when = |q: f64| if operations == 1 { quantile(&harmless, q) } else { "-".to_owned() };
        let told = format!("{}/{deploys}, {}, {}", count(&harmless), when(0.5), when(0.9));
        println!("{row} {told} | {}/{deploys} |", count(&worse));
    }
}

/// Seconds from the start to the first look that passes it.
fn passed(input: &JudgeInput, often: bool) -> Option<u64> {
    let end = input.now.bucket().0 + 1;
    let first = if often { START + LOOK } else { end };
    (first..=end).step_by(LOOK as usize).find_map(|bucket| {
        let mut at = input.clone();
        at.now = Bucket(bucket).start();
        at.series.iter_mut().for_each(|series| series.cells.retain(|(b, _)| b.0 < bucket));
        (judge(&at).verdict == VerdictKind::Pass).then_some((bucket - START) * 10)
    })
}
