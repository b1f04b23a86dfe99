//! What it costs to judge live operations every 10 s.

use plimsoll_model::Bucket;
use plimsoll_verdict::judge;

use super::fleet::{Fleet, Latencies, START, simulate};

/// Seconds of processor time that this thread has had.
fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps it");
    let nanos: f64 = text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("its first number is nanoseconds");
    nanos / 1e9
}

/// Judges 200 operations at 100 requests a second afresh at the end of their watch, and carried on by one bucket.
pub(crate) fn run() {
    let fleet = Fleet { operations: 200, share: 0.5, before_s: 3_600, ..Fleet::default() };
    let mut input = simulate(&fleet, &Latencies::new(), 1);
    let began = cpu_s();
    let runs = 10;
    for _ in 0..runs {
        std::hint::black_box(judge(&input));
    }
    let afresh = (cpu_s() - began) / f64::from(runs) / 200.0;
    println!("afresh: {:.1} us an operation", afresh * 1e6);
    let mut session = plimsoll_verdict::Session::default();
    let end = input.now;
    input.now = Bucket(START + 100).start();
    input.previous = Some(session.judge_all(&input));
    let whole = std::mem::take(&mut input.series);
    let mut seconds = 0.0;
    let mut looks = 0_u32;
    for bucket in START + 101..end.bucket().0 {
        input.now = Bucket(bucket).start();
        let since = session.since().map_or(Bucket(0), |at| at.bucket());
        // What a source that is asked for little returns; making it is not what is measured here.
        input.series = whole.clone();
        for series in &mut input.series {
            series.cells.retain(|(b, _)| *b >= since && b.0 < bucket);
        }
        let began = cpu_s();
        let verdict = session.judge_latest(&input);
        seconds += cpu_s() - began;
        looks += 1;
        if let Some(verdict) = verdict {
            input.previous = Some(verdict);
        } else {
            input.series.clone_from(&whole);
            input.previous = Some(session.judge_all(&input));
        }
    }
    let each = seconds / f64::from(looks) / 200.0;
    println!("carried on: {:.2} us an operation and look", each * 1e6);
    println!("10,000 operations every 10 s: {:.2} % of a core carried on, {:.1} % afresh", each * 1e5, afresh * 1e5);
    println!("memory: {} bytes an operation", session.bytes() / 200);
}
