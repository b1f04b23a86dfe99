//! Regressions of what is told beside failures and latency that are mended: over once what came of late is as before.

use plimsoll_model::aggregates::{ActionCell, ActionSeries};
use plimsoll_model::log::{Level, LogSeries};
use plimsoll_model::signal::{CalleeTime, OperationCell, Party};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, DeployKind};
use plimsoll_verdict::JudgeInput;

use crate::aggregates::logs;
use crate::simulation::{START, Scenario, looked_at, simulate};

/// Buckets since the start in which it is wrong, and those that it is looked at for.
const WRONG: std::ops::Range<u64> = 6..36;
const LOOKED: u64 = 90;

fn harmless(share: f64) -> JudgeInput {
    let scenario = Scenario { rate: 20.0, share, errors: 0.002, instances: false, ..Scenario::default() };
    simulate(&Scenario { before_s: 1_800, after_s: 10 * LOOKED + 10, ..scenario }, 29)
}

/// Says that it was confirmed while it was wrong, was over four minutes after that, and stayed so.
fn is_over(input: &mut JudgeInput) -> bool {
    let phases: Vec<Phase> = looked_at(input, 1).iter().map(|verdict| verdict.phase).collect();
    let at = |bucket: u64| phases[bucket as usize - 1];
    assert_eq!(at(WRONG.end), Phase::Confirmed, "{phases:?}");
    (WRONG.end + 24..LOOKED).all(|bucket| at(bucket) == Phase::Recovered)
}

/// Changes what each version did in each bucket.
fn each_cell(input: &mut JudgeInput, mut change: impl FnMut(bool, u64, &mut OperationCell)) {
    for series in &mut input.series {
        let candidate = series.key.version == "2";
        series.cells.iter_mut().for_each(|(bucket, cell)| change(candidate, bucket.0, cell));
    }
}

fn is_wrong(bucket: u64) -> bool {
    bucket >= START && WRONG.contains(&(bucket - START))
}

/// A template logged so often in each bucket.
fn said(version: &str, level: Level, from: u64, often: impl Fn(u64) -> u64) -> LogSeries {
    let mut log = logs(version, "recommendations timed out, default list used", level, START - 180..START - 180, 0);
    log.first_seen = Bucket(START - 180).start();
    log.cells = (from..START + LOOKED)
        .filter(|bucket| often(*bucket) > 0)
        .flat_map(|bucket| logs("", "", level, bucket..bucket + 1, often(bucket)).cells)
        .collect();
    log
}

#[test]
fn errors_that_are_logged_as_seldom_as_ever_are_over() {
    for share in [0.5, 1.0] {
        let judged = |mended: bool| {
            let mut input = harmless(share);
            let seldom = |bucket: u64| u64::from(bucket.is_multiple_of(3));
            let wrong = |bucket: u64| is_wrong(bucket) || (!mended && bucket >= START + WRONG.start);
            let since = said("2", Level::Error, START, |b| if wrong(b) { 30 } else { seldom(b) });
            let until = if share < 1.0 { START + LOOKED } else { START };
            let before = said("1", Level::Error, START - 180, |b| if b < until { seldom(b) } else { 0 });
            input.aggregates.logs = vec![before, since];
            is_over(&mut input)
        };
        assert!(judged(true), "{share}");
        assert!(!judged(false), "{share}");
    }
}

#[test]
fn a_message_that_is_logged_again_is_no_longer_missed() {
    let judged = |mended: bool| {
        let mut input = harmless(1.0);
        input.series.iter_mut().for_each(|series| series.key.version = "1".to_owned());
        (input.deploy.kind, input.deploy.version) = (DeployKind::Config, "1".to_owned());
        let gone = |bucket: u64| is_wrong(bucket) || (!mended && bucket >= START + WRONG.start);
        input.aggregates.logs = vec![said("1", Level::Info, START - 180, |b| if gone(b) { 0 } else { 200 })];
        is_over(&mut input)
    };
    assert!(judged(true));
    assert!(!judged(false));
}

#[test]
fn calls_that_are_made_as_often_as_ever_are_over() {
    let bank = Party {
        service: "bank".to_owned(),
        namespace: String::new(),
        version: "7".to_owned(),
        operation: "POST /hold".to_owned(),
    };
    for calls in [0, 4] {
        let judged = |mended: bool| {
            let mut input = harmless(0.5);
            each_cell(&mut input, |candidate, bucket, cell| {
                let wrong = is_wrong(bucket) || (!mended && bucket >= START + WRONG.start);
                let each = if candidate && wrong { calls } else { 1 };
                let time = CalleeTime { calls: each * cell.requests, critical_ns: 1_000 };
                cell.callees.insert(bank.clone(), time);
            });
            is_over(&mut input)
        };
        assert!(judged(true), "{calls}");
        assert!(!judged(false), "{calls}");
    }
}

#[test]
fn what_users_do_again_is_no_longer_missed() {
    let judged = |mended: bool| {
        let mut input = harmless(0.5);
        let placed = |version: &str| {
            let of = input.series.iter().filter(|series| series.key.version == version);
            let cells = of.flat_map(|series| &series.cells).map(|(bucket, cell)| {
                let wrong = is_wrong(bucket.0) || (!mended && bucket.0 >= START + WRONG.start);
                let count = if version == "2" && wrong { 0 } else { cell.requests / 4 };
                (*bucket, ActionCell { count, failed: 0 })
            });
            ActionSeries { version: version.to_owned(), action: "order.placed".to_owned(), cells: cells.collect() }
        };
        input.aggregates.actions = vec![placed("1"), placed("2")];
        is_over(&mut input)
    };
    assert!(judged(true));
    assert!(!judged(false));
}
