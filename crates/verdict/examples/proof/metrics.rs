//! Harmless deploys of services that emit metrics, looked at every minute, and the same with one metric made worse.
//!
//! Metrics are judged by whole minutes and all else by what came before, so that looks in between would say the same.

use std::collections::BTreeMap;
use std::sync::Mutex;

use plimsoll_model::{Bucket, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fleet::{Fleet, Latencies, START};
use crate::metered::{KINDS, Metered, metered, name};
use crate::{each, law};

/// How many times worse the one metric is.
const WORSE: f64 = 3.0;
const SEEDS: u64 = 5_000_000;
/// Buckets between two looks.
const LOOK: u64 = 6;

/// The harmless deploy of a seed.
fn harmless(seed: u64) -> Metered {
    let pick = |values: &[f64], stride: u64| values[(seed / stride) as usize % values.len()];
    let mut rng = ChaCha8Rng::seed_from_u64(SEEDS + seed);
    let step = if seed / 6 % 2 == 1 { rng.random_range(-0.5_f64..0.5).exp() } else { 1.0 };
    let fleet = Fleet {
        rate: 50.0,
        errors: 0.002,
        share: pick(&[0.05, 0.5, 1.0], 1),
        swing: 0.5,
        mix: 0.3,
        step,
        step_at: rng.random_range(-180..180),
        before_s: 3_600,
        ..Fleet::default()
    };
    Metered {
        fleet,
        traced: (seed / 3).is_multiple_of(2),
        wander: pick(&[0.03, 0.1, 0.3], 12),
        forgets_s: pick(&[60.0, 600.0, 3_600.0], 36),
        common: pick(&[0.1, 0.5, 0.9], 108),
        rounds: rng.random_range(0.0..2.0),
        grows_up_s: rng.random_range(15.0..300.0),
        worse: None,
    }
}

/// What became of a number of deploys.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    regressed: u64,
    passed: u64,
    open: u64,
    /// Found of those with one metric made worse.
    found: u64,
}

/// Judges so many and prints what became of them.
pub(crate) fn run(deploys: u64) {
    let latencies = Latencies::new();
    let rows: Mutex<BTreeMap<(u8, String), Counts>> = Mutex::default();
    let alarms: Mutex<BTreeMap<u64, String>> = Mutex::default();
    each(0..deploys, |seed| {
        let calm = harmless(seed);
        let verdict = looked_at(metered(&calm, &latencies, SEEDS + seed));
        let worse = Metered { worse: Some((kind(seed), WORSE)), ..calm };
        let found = looked_at(metered(&worse, &latencies, SEEDS + seed)).verdict == VerdictKind::Regressed;
        let mut rows = rows.lock().expect("no thread panicked");
        for row in told(seed, &calm) {
            let counts = rows.entry(row).or_default();
            counts.found += u64::from(found);
            match verdict.verdict {
                VerdictKind::Regressed => counts.regressed += 1,
                VerdictKind::Pass => counts.passed += 1,
                VerdictKind::Inconclusive => counts.open += 1,
            }
        }
        if verdict.verdict == VerdictKind::Regressed {
            alarms.lock().expect("no thread panicked").insert(seed, format!("{} ({calm:?})", verdict.summary));
        }
    });
    for (seed, words) in alarms.into_inner().expect("no thread panicked") {
        println!("false alarm: {seed} {words}");
    }
    println!(
        "| harmless | deploys | regressed | at most | passed | inconclusive | one metric {WORSE} times worse: found |"
    );
    println!("|---|---|---|---|---|---|---|");
    for ((_, row), counts) in rows.into_inner().expect("no thread panicked") {
        let all = counts.regressed + counts.passed + counts.open;
        let at_most = law::at_most(counts.regressed, all);
        let Counts { regressed, passed, open, found } = counts;
        println!("| {row} | {all} | {regressed} | {at_most:.2} % | {passed} | {open} | {found} |");
    }
}

/// Which metric is made worse: each for all sorts of deploys.
fn kind(seed: u64) -> usize {
    (seed / 12) as usize % KINDS
}

/// Returns the rows of a deploy, each with its table's number.
fn told(seed: u64, what: &Metered) -> [(u8, String); 5] {
    let traffic = if what.fleet.step == 1.0 { "a day's swing" } else { "and a step" };
    let knows = if what.traced { "requests and metrics" } else { "metrics alone" };
    [
        (0, format!("{knows}, {} %, {traffic}", what.fleet.share * 100.0)),
        (1, format!("levels wander by {} % within {} min", what.wander * 100.0, what.forgets_s / 60.0)),
        (2, format!("instances share {} % of that", what.common * 100.0)),
        (3, format!("made worse: `{}`", name(kind(seed)))),
        (4, "all".to_owned()),
    ]
}

/// Looks once every minute is over; the first verdict that calls it regressed, or else the last.
fn looked_at(mut input: JudgeInput) -> Verdict {
    let end = input.now.bucket().0;
    for bucket in (START + LOOK..end).step_by(LOOK as usize) {
        input.now = Bucket(bucket).start();
        let verdict = judge(&input);
        if verdict.verdict == VerdictKind::Regressed {
            return verdict;
        }
        input.previous = Some(verdict);
    }
    input.now = Bucket(end).start();
    judge(&input)
}
