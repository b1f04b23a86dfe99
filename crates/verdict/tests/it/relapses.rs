//! What had recovered and comes again: told anew once as much of it comes as it took at first, and not before.

use plimsoll_model::log::Level;
use plimsoll_model::signal::{ExceptionCount, Fingerprint};
use plimsoll_model::verdict::Phase;
use plimsoll_verdict::JudgeInput;

use crate::aggregates::{gauge, logs};
use crate::simulation::{START, Scenario, looked_at, simulate};

/// A canary of half of ten requests a second, well by its requests for twenty-eight minutes.
fn harmless() -> JudgeInput {
    let scenario = Scenario { rate: 10.0, share: 0.5, errors: 0.002, instances: false, ..Scenario::default() };
    simulate(&Scenario { before_s: 1_500, after_s: 1_700, ..scenario }, 17)
}

/// How often it was confirmed, looked at every ten seconds, and how it stands in the end.
fn told(input: &mut JudgeInput) -> (usize, Phase) {
    let phases: Vec<Phase> = looked_at(input, 1).iter().map(|verdict| verdict.phase).collect();
    let confirmed = |pair: &[Phase]| pair[0] != Phase::Confirmed && pair[1] == Phase::Confirmed;
    let last = phases.last().copied().expect("it was looked at");
    (phases.windows(2).filter(|pair| confirmed(pair)).count(), last)
}

/// As many new exceptions as said of each bucket since the start.
fn throwing(thrown: impl Fn(u64) -> u64) -> JudgeInput {
    let mut input = harmless();
    for series in input.series.iter_mut().filter(|series| series.key.version == "2") {
        for (bucket, cell) in &mut series.cells {
            let count = thrown(bucket.0 - START);
            if count > 0 {
                let exception = ExceptionCount {
                    exception_type: "java.lang.NullPointerException".to_owned(),
                    message: "cart is null".to_owned(),
                    count,
                };
                cell.exceptions.insert(Fingerprint(7), exception);
            }
        }
    }
    input
}

#[test]
fn a_new_exception_that_was_mended_is_not_told_of_once_more_at_every_one_that_strays() {
    let once = |bucket: u64| match bucket {
        6..24 => 2,
        70 | 100 | 130 | 160 => 1,
        _ => 0,
    };
    assert_eq!(told(&mut throwing(once)), (1, Phase::Recovered));
    let again = |bucket: u64| if (120..150).contains(&bucket) { 2 } else { once(bucket) };
    assert_eq!(told(&mut throwing(again)).0, 2, "what is thrown as often as at first is");
}

#[test]
fn a_new_error_message_that_was_mended_is_not_told_of_once_more_at_every_one_that_strays() {
    let judged = |level: Level, later: &[u64]| {
        let mut input = harmless();
        let mut log = logs("2", "could not reserve seat <*>", level, START + 6..START + 24, 3);
        for bucket in later {
            log.cells.extend(logs("2", "", level, START + bucket..START + bucket + 1, 1).cells);
        }
        input.aggregates.logs = vec![log];
        told(&mut input)
    };
    assert_eq!(judged(Level::Error, &[70, 100, 130, 160]), (1, Phase::Recovered));
    assert_eq!(judged(Level::Error, &[120, 122, 124, 126, 128, 130]).0, 2);
    // Of what is fatal one does not show that it goes on, and another soon after does.
    assert_eq!(judged(Level::Fatal, &[70, 100, 130, 160]), (1, Phase::Recovered));
    assert_eq!(judged(Level::Fatal, &[120, 126]).0, 2);
}

#[test]
fn a_metric_that_recovered_is_told_of_once_more_when_it_is_as_bad_as_at_first() {
    let minutes = START / 6..START / 6 + 28;
    let judged = |again: f64| {
        let mut input = harmless();
        let level = |minute: u64| match minute - START / 6 {
            1..12 => 3.0,
            20.. => again,
            _ => 1.0,
        };
        let wobble = |minute: u64| 1.0 + 0.02 * (minute % 3) as f64;
        let before = gauge("1", "queue.depth", wobble, START / 6 - 25..minutes.end);
        let since = gauge("2", "queue.depth", |minute| level(minute) * wobble(minute), minutes.clone());
        input.aggregates.metrics = vec![before, since];
        told(&mut input)
    };
    // Half as much more is tolerated, and at half of that it is over.
    assert_eq!(judged(1.35), (1, Phase::Recovered));
    assert_eq!(judged(3.0), (2, Phase::Confirmed));
}
