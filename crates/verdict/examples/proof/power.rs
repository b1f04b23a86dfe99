//! How soon deploys that are worse are found, beside what information theory leaves.

use std::sync::Mutex;

use plimsoll_verdict::Tolerances;

use crate::fleet::{Fleet, Latencies, simulate};
use crate::{delay, each, quantile, rank};

/// Seconds for which a deploy is watched unless told otherwise.
const WATCH_S: u64 = 1_800;

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

/// Prints all rows whose first three columns hold `wanted`, watched for so many seconds.
pub(crate) fn run(deploys: u64, wanted: &str, watch_s: Option<u64>) {
    let latencies = Latencies::new();
    let watch_s = watch_s.unwrap_or(WATCH_S);
    println!(
        "| effect | requests/s | share | floor s | fine: caught, median, p90 | of the floor | default: caught, median, p90 | of the floor |"
    );
    println!("|---|---|---|---|---|---|---|---|");
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
                    after_s: watch_s,
                    ..Fleet::default()
                };
                let row = format!("{} | {rate} | {} %", effect.name, share * 100.0);
                if !row.contains(wanted) {
                    continue;
                }
                let floor = (1..=2).contains(&r).then(|| effect.floors[(r - 1) + 2 * s]).flatten();
                let all = [fine(), Tolerances::default()].map(|all| Tolerances { watch_max_s: watch_s, ..all });
                let told = delays(&fleet, &latencies, deploys, &all).map(|delays| {
                    let caught = delays.iter().flatten().count();
                    let ratio = of_the_floor(&delays, floor, watch_s);
                    format!("{caught}/{deploys}, {}, {} | {ratio}", quantile(&delays, 0.5), quantile(&delays, 0.9))
                });
                let floor = floor.map_or_else(|| "-".to_owned(), |floor| floor.to_string());
                println!("| {row} | {floor} | {} | {} |", told[0], told[1]);
            }
        }
    }
}

/// Returns when each of so many deploys was confirmed, by each of the tolerances.
pub(crate) fn delays<const N: usize>(
    fleet: &Fleet,
    latencies: &Latencies,
    deploys: u64,
    all: &[Tolerances; N],
) -> [Vec<Option<u64>>; N] {
    let delays: Mutex<[Vec<Option<u64>>; N]> = Mutex::new(std::array::from_fn(|_| Vec::new()));
    each(0..deploys, |seed| {
        let mut input = simulate(fleet, latencies, 1_000_000 + seed);
        let told: [Option<u64>; N] = std::array::from_fn(|of| {
            input.tolerances = all[of].clone();
            delay(&input)
        });
        let mut delays = delays.lock().expect("no thread panicked");
        delays.iter_mut().zip(told).for_each(|(all, one)| all.push(one));
    });
    delays.into_inner().expect("no thread panicked")
}

/// Says how many times the floor the median is, or more than how many where it was not watched for long enough.
fn of_the_floor(delays: &[Option<u64>], floor: Option<u64>, watch_s: u64) -> String {
    let Some(floor) = floor else { return "-".to_owned() };
    match rank(delays, 0.5) {
        Some(median) => format!("{:.1}", median as f64 / floor as f64),
        None => format!("> {:.1}", watch_s as f64 / floor as f64),
    }
}
