//! What excuses a deploy, and how far: no excuse is a ground to promote, and what never came can have none against it.

use plimsoll_model::aggregates::HistorySeries;
use plimsoll_model::signal::{CalleeTime, LOG_UNIT, WEIGHT_UNIT};
use plimsoll_model::{Bucket, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::quality;

use crate::drift::{replaced, same_hours, says, untouched};
use crate::simulation::{START, Scenario, gateway, looked_at, party, simulate};

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

#[test]
fn an_outage_that_all_share_and_that_begins_minutes_later_is_excused_from_its_first_bucket_on() {
    let outage = START + 30..START + 66;
    for share in [2, 1] {
        let judged = |others: bool| {
            let mut input = replaced(&Scenario { errors: 0.01, ..Scenario::default() }, 37);
            let cells = input.series.iter_mut().flat_map(|series| &mut series.cells);
            for (_, cell) in cells.filter(|(bucket, _)| outage.contains(&bucket.0)) {
                cell.errors = cell.requests / share;
                cell.error_origins = cell.errors;
            }
            input.untouched = untouched(4, (0.01, 50.0, 0.5), (0.01, 50.0, 0.5));
            let vitals = input.untouched.iter_mut().flat_map(|series| &mut series.cells);
            for (_, vitals) in vitals.filter(|(bucket, _)| others && outage.contains(&bucket.0)) {
                vitals.errors = vitals.requests / share;
            }
            looked_at(&mut input, 1)
        };
        let told = judged(true);
        let wrong = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
        assert!(wrong.is_none(), "{share}: {:?}", wrong.map(|verdict| &verdict.summary));
        assert!(says(&told[50], quality::SHARED_SHIFT), "{share}: {:?}", told[50].data_quality);
        assert!(judged(false).iter().any(|verdict| verdict.verdict == VerdictKind::Regressed), "{share}");
    }
}

#[test]
fn a_caller_that_fails_at_somebody_else_asks_less() {
    let outage = START + 12..START + 66;
    // By a callee that answers with failures, or by one that does not answer; or of itself, which is no excuse.
    for (by, lost_it) in [("auth", false), ("down", false), ("nobody", true)] {
        let scenario = Scenario { share: 1.0, before_s: 3_600, after_s: 900, ..Scenario::default() };
        let mut input = simulate(&scenario, 38);
        input.series.iter_mut().for_each(|series| {
            let rest = series.cells.iter_mut().filter(|(bucket, _)| outage.contains(&bucket.0));
            for (_, cell) in rest {
                (cell.requests, cell.errors) = (cell.requests / 8, cell.errors / 8);
                cell.weighted_requests = cell.requests * WEIGHT_UNIT;
            }
        });
        let mut caller = gateway(&input, START + 90);
        let usual = caller.cells[0].1.clone();
        caller.cells.splice(0..0, (START - 360..START - 180).map(|bucket| (Bucket(bucket), usual.clone())));
        for (bucket, cell) in &mut caller.cells {
            cell.callees.insert(party("auth", "1", "check"), CalleeTime { calls: cell.requests, critical_ns: 0 });
            if outage.contains(&bucket.0) {
                cell.errors = cell.requests / 8 * 7;
                cell.callees.retain(|party, _| party.service != "payment");
                let failed = CalleeTime { calls: cell.errors, critical_ns: 0 };
                match by {
                    "auth" => drop(cell.blame.insert(party("auth", "1", "check"), cell.errors)),
                    "down" => drop(cell.callees.insert(party("auth", "", ""), failed)),
                    _ => {}
                }
            }
        }
        input.related = vec![caller];
        let told = looked_at(&mut input, 6);
        assert_eq!(lost(&told), lost_it, "{by}: {}", told[told.len() - 1].summary);
    }
}
