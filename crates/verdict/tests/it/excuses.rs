//! What excuses a deploy, and how far: no excuse is a ground to promote, and what never came can have none against it.

use plimsoll_model::aggregates::HistorySeries;
use plimsoll_model::signal::LOG_UNIT;
use plimsoll_model::{SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::quality;

use crate::drift::{replaced, same_hours, says, untouched};
use crate::simulation::{START, Scenario, gateway, looked_at};

fn lost(verdicts: &[Verdict]) -> bool {
    verdicts.iter().any(|verdict| {
        let gone = |signal| matches!(signal, SignalKind::Throughput | SignalKind::Silence);
        verdict.verdict == VerdictKind::Regressed && verdict.findings.iter().any(|f| gone(f.signal))
    })
}

/// Another day that went as `errors` and `slower` say after this hour.
fn day(day: u32, errors: f64, slower: f64) -> HistorySeries {
    let width = if day == 1 { 60 } else { 600 };
    let mut series = same_hours(u64::from(day), width, (0.001, 1.0), (errors, 1.0));
    let start = START * 10 - u64::from(day) * 86_400;
    for (at, cell) in &mut series.cells {
        let ms = if at.0 / 1_000_000_000 < start { 50.0 } else { 50.0 * slower };
        cell.log_latency_sum = ((ms * 1e6_f64).ln() * cell.requests as f64 * LOG_UNIT) as i64;
    }
    series
}

#[test]
fn an_incident_of_yesterday_lets_no_bad_deploy_pass() {
    let scenario = Scenario { errors: 0.001, error_effect: 40.0, ..Scenario::default() };
    // Where nobody knows better than yesterday it is held; where a week ago nothing was, it was no season.
    let calm = day(7, 0.001, 1.0);
    for (history, shown) in [(vec![day(1, 0.10, 1.0)], false), (vec![day(1, 0.10, 1.0), calm], true)] {
        let mut input = replaced(&scenario, 31);
        input.aggregates.history = history;
        let told = looked_at(&mut input, 6);
        let last = &told[told.len() - 1];
        assert!(told.iter().all(|verdict| verdict.verdict != VerdictKind::Pass), "{}", last.summary);
        assert!(!shown || last.verdict == VerdictKind::Regressed, "{}", last.summary);
    }
}

#[test]
fn an_hour_that_was_slow_yesterday_lets_no_slow_deploy_pass() {
    let mut input = replaced(&Scenario { errors: 0.001, latency_effect: 1.45, ..Scenario::default() }, 32);
    input.aggregates.history = vec![day(1, 0.001, 3.0)];
    for verdict in looked_at(&mut input, 6) {
        assert_ne!(verdict.verdict, VerdictKind::Pass, "{}", verdict.summary);
    }
}

#[test]
fn what_both_days_did_is_excused_in_full() {
    let mut input = replaced(&Scenario { errors: 0.001, error_effect: 80.0, ..Scenario::default() }, 33);
    input.aggregates.history = vec![day(1, 0.08, 1.0), day(7, 0.08, 1.0)];
    let told = looked_at(&mut input, 6);
    let last = &told[told.len() - 1];
    assert_eq!(last.verdict, VerdictKind::Inconclusive, "{}", last.summary);
    assert!(says(last, quality::SEASONAL_SHIFT), "{:?}", last.data_quality);
}

#[test]
fn a_gap_of_all_telemetry_is_no_loss_of_traffic() {
    let judged = |others: bool| {
        let mut input = replaced(&Scenario::default(), 34);
        let gap = START + 6..START + 33;
        input.series.iter_mut().for_each(|series| series.cells.retain(|(bucket, _)| !gap.contains(&bucket.0)));
        input.untouched = untouched(4, (0.01, 50.0, 1.0), (0.01, 50.0, 1.0));
        if others {
            for series in &mut input.untouched {
                series.cells.retain(|(bucket, _)| !gap.contains(&bucket.0));
            }
        }
        looked_at(&mut input, 6)
    };
    let gap = judged(true);
    assert!(!lost(&gap), "{}", gap[gap.len() - 1].summary);
    assert!(says(&gap[gap.len() - 1], quality::TELEMETRY_GAP));
    let outage = judged(false);
    assert!(lost(&outage) && !says(&outage[outage.len() - 1], quality::TELEMETRY_GAP));
}

#[test]
fn traffic_that_ends_at_this_hour_every_day_is_no_loss() {
    let closed = START + 30;
    let judged = |yesterday: bool, others: bool| {
        let mut input = replaced(&Scenario::default(), 35);
        input.series.iter_mut().for_each(|series| series.cells.retain(|(bucket, _)| bucket.0 < closed));
        let mut history = same_hours(1, 60, (0.01, 1.0), (0.01, 1.0));
        if yesterday {
            history.cells.retain(|(at, _)| at.0 / 1_000_000_000 + 86_400 < closed * 10);
        }
        input.aggregates.history = vec![history];
        input.untouched = untouched(3, (0.01, 50.0, 1.0), (0.01, 50.0, 1.0));
        if others {
            for series in &mut input.untouched {
                series.cells.retain(|(bucket, _)| bucket.0 < closed);
            }
        }
        looked_at(&mut input, 6)
    };
    assert!(!lost(&judged(true, false)), "as yesterday");
    assert!(!lost(&judged(false, true)), "as all others");
    assert!(lost(&judged(false, false)));
}

#[test]
fn what_nobody_calls_any_more_has_lost_nothing() {
    let judged = |until: u64| {
        let mut input = replaced(&Scenario::default(), 36);
        input.series.iter_mut().for_each(|series| series.cells.retain(|(bucket, _)| bucket.0 < START + 9));
        input.related = vec![gateway(&input, until)];
        looked_at(&mut input, 6)
    };
    let uncalled = judged(START + 9);
    assert!(!lost(&uncalled), "{}", uncalled[uncalled.len() - 1].summary);
    assert!(lost(&judged(START + 90)), "it is called and does not answer");
}
