//! Traces of which only a share is whole, as where there is no room for all: what they tell holds for the others.

use std::collections::BTreeMap;

use plimsoll_model::signal::{CalleeTime, ExceptionCount, Fingerprint, OperationCell, Party};
use plimsoll_model::{Bucket, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution};

use crate::simulation::{START, Scenario, looked_at, of_bank, party, simulate};

/// Traces of which one is whole.
const EACH: f64 = 8.0;

/// Leaves one in [`EACH`] of the traces whole.
fn thin(cell: &mut OperationCell, rng: &mut ChaCha8Rng) {
    let mut draw = |n: u64| Binomial::new(n, 1.0 / EACH).expect("a share").sample(rng);
    let blamed: u64 = cell.blame.values().sum();
    let well = draw(cell.assembled - blamed);
    cell.blame.values_mut().for_each(|count| *count = draw(*count));
    cell.blame.retain(|_, count| *count > 0);
    cell.assembled = well + cell.blame.values().sum::<u64>();
    cell.self_time_ns = (cell.self_time_ns as f64 / EACH) as u64;
    for time in cell.callees.values_mut() {
        let calls = if time.calls == cell.requests { cell.assembled } else { draw(time.calls).min(cell.assembled) };
        *time = CalleeTime { calls, critical_ns: (time.critical_ns / time.calls.max(1)) * calls };
    }
    cell.callees.retain(|_, time| time.calls > 0);
}

/// What becomes of a service's calls to a bank for three minutes, for three in ten requests.
#[derive(Clone, Copy, PartialEq)]
enum Bank {
    /// They fail, and the requests with them, from soon after the start on.
    Fails,
    /// Nobody answers, and the service throws, catches and does without, from the third minute on.
    IsDown,
}

/// A service that calls a bank once a request, others but a few times in a bucket; all of it is replaced at once.
/// All its traces are whole before a bucket.
fn input(bank: Bank, [rate, others]: [u64; 2], whole_until: u64, seed: u64) -> JudgeInput {
    let rate = rate as f64;
    let scenario = Scenario { share: 1.0, rate, errors: 0.004, before_s: 3_600, after_s: 480, ..Scenario::default() };
    let mut input = simulate(&scenario, seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut served: BTreeMap<Bucket, [u64; 2]> = BTreeMap::new();
    for series in &mut input.series {
        let own = party("payment", &series.key.version, &series.key.operation);
        for (bucket, cell) in &mut series.cells {
            let from = START + if bank == Bank::Fails { 2 } else { 18 };
            let wrong = (from..from + 18).contains(&bucket.0);
            let bad = if wrong { cell.requests * 3 / 10 } else { 0 };
            cell.assembled = cell.requests;
            cell.self_time_ns = cell.requests * 30_000_000;
            cell.blame = [(own.clone(), cell.errors)].into();
            let [reached, failed] = match bank {
                Bank::Fails => [cell.requests, bad],
                Bank::IsDown => [cell.requests - bad, 0],
            };
            let time = |calls: u64| CalleeTime { calls, critical_ns: calls * 10_000_000 };
            cell.callees = [(party("bank", "7", "POST /charge"), time(reached))].into();
            cell.errors += failed;
            cell.blame.insert(party("bank", "7", "POST /charge"), failed);
            if bank == Bank::IsDown && bad > 0 {
                cell.callees.insert(party("bank", "", Party::OVERCOME), time(bad));
                let exception_type = "java.net.ConnectException".to_owned();
                let message = "Connection refused: bank".to_owned();
                cell.exceptions.insert(Fingerprint(79), ExceptionCount { exception_type, message, count: bad });
            }
            if bucket.0 >= whole_until {
                thin(cell, &mut rng);
            }
            let others = match (bank, wrong) {
                (_, false) => [others, 0],
                (Bank::Fails, true) => [others, others * 3 / 10],
                (Bank::IsDown, true) => [others - others * 3 / 10, 0],
            };
            let sum = served.entry(*bucket).or_insert(others);
            *sum = [sum[0] + reached, sum[1] + failed];
        }
    }
    let cells = served.into_iter().map(|(bucket, [requests, errors])| {
        let mut cell = OperationCell { requests, errors, assembled: requests, ..OperationCell::default() };
        (0..requests).for_each(|_| cell.latency.record(15_000_000));
        (bucket, cell)
    });
    input.related = vec![of_bank(cells)];
    input.data_quality = vec![quality::DRAWN_TRACES.to_owned()];
    input
}

/// The look that calls it regressed, of those at every bucket.
fn regressed(mut input: JudgeInput) -> Option<Verdict> {
    looked_at(&mut input, 1).into_iter().find(|verdict| verdict.verdict == VerdictKind::Regressed)
}

#[test]
fn an_outage_of_a_callee_is_its_own_where_few_traces_tell() {
    let few = [20, 0];
    for (bank, what, rates) in [
        (Bank::Fails, "it fails", few),
        (Bank::IsDown, "it is done without", few),
        (Bank::Fails, "it fails others too", [200, 50]),
    ] {
        for seed in 0..8 {
            // Room runs short when something fails.
            let whole_until = if seed % 2 == 0 { 0 } else { START + 18 };
            let told = regressed(input(bank, rates, whole_until, seed)).map(|verdict| verdict.summary);
            assert_eq!(told, None, "{what}, seed {seed}");
        }
    }
}

#[test]
fn failures_of_its_own_are_told_where_few_traces_tell() {
    for (whole_until, seed) in [(0, 0), (0, 1), (START, 2), (START, 3)] {
        let mut input = input(Bank::IsDown, [20, 0], whole_until, seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for series in input.series.iter_mut().filter(|series| series.key.version == "2") {
            let own = party("payment", "2", &series.key.operation);
            for (bucket, cell) in series.cells.iter_mut().filter(|(bucket, _)| bucket.0 >= START + 6) {
                let failed = cell.requests / 10;
                cell.errors += failed;
                let known = Binomial::new(failed, 1.0 / EACH).expect("a share").sample(&mut rng);
                *cell.blame.entry(own.clone()).or_default() += known;
                assert!(cell.blame.values().sum::<u64>() <= cell.requests, "{bucket:?}");
            }
        }
        let early = JudgeInput { now: Bucket(START + 20).start(), ..input };
        let verdict = judge(&early);
        assert_eq!(verdict.verdict, VerdictKind::Regressed, "seed {seed}: {}", verdict.summary);
        assert_eq!(verdict.findings[0].culprit.service, "payment", "seed {seed}: {}", verdict.summary);
    }
}

#[test]
fn traces_that_are_not_whole_for_what_they_are_are_not_waited_for() {
    // Half of the requests last for longer than a trace is kept open, and those are the ones that fail.
    let scenario =
        Scenario { share: 1.0, rate: 20.0, errors: 0.0, before_s: 3_600, after_s: 300, ..Scenario::default() };
    let mut input = simulate(&scenario, 5);
    for series in &mut input.series {
        for (bucket, cell) in &mut series.cells {
            cell.assembled = cell.requests / 2;
            let time = CalleeTime { calls: cell.assembled, critical_ns: cell.assembled * 10_000_000 };
            cell.callees = [(party("bank", "7", "POST /charge"), time)].into();
            if bucket.0 >= START + 6 {
                cell.errors = cell.requests / 5;
            }
        }
    }
    let now = Bucket(START + 12).start();
    let whole = judge(&JudgeInput { now, ..input.clone() });
    assert_eq!(whole.verdict, VerdictKind::Regressed, "{}", whole.summary);
    // Where they were drawn some are waited for as long as they may yet come.
    for (buckets, verdict) in [(9, false), (14, true)] {
        let data_quality = vec![quality::DRAWN_TRACES.to_owned()];
        let drawn = judge(&JudgeInput { now: Bucket(START + buckets).start(), data_quality, ..input.clone() });
        assert_eq!(drawn.verdict == VerdictKind::Regressed, verdict, "{buckets}: {}", drawn.summary);
    }
}
