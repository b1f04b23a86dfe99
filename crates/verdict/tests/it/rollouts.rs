//! Rollouts that take their time, end, come again or are cut short.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll_model::presence::{PresenceCell, PresenceSeries};
use plimsoll_model::signal::{CalleeTime, OperationKey, OperationSeries};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, DeployStatus, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::JudgeInput;

use crate::simulation::{START, Scenario, looked_at, party, simulate};

/// Says of every cell which version served it; `None` where nobody did.
pub(crate) fn served_by(input: &mut JudgeInput, by: impl Fn(&str, u64) -> Option<&'static str>) {
    let mut all: BTreeMap<OperationKey, OperationSeries> = BTreeMap::new();
    for series in std::mem::take(&mut input.series) {
        for (bucket, cell) in series.cells {
            let Some(version) = by(&series.key.version, bucket.0) else { continue };
            let key = OperationKey { version: version.to_owned(), ..series.key.clone() };
            let into = all.entry(key.clone()).or_insert(OperationSeries { key, cells: Vec::new() });
            match into.cells.iter_mut().find(|(at, _)| *at == bucket) {
                Some((_, sum)) => sum.merge(&cell),
                None => into.cells.push((bucket, cell)),
            }
        }
    }
    input.series = all.into_values().collect();
    input.series.iter_mut().for_each(|series| series.cells.sort_by_key(|(bucket, _)| *bucket));
}

fn regressed(told: &[Verdict]) -> bool {
    told.iter().any(|verdict| verdict.verdict == VerdictKind::Regressed)
}

#[test]
fn a_rollout_that_takes_eight_minutes_is_not_silent() {
    let scenario = Scenario { rate: 20.0, share: 1.0, errors: 0.002, after_s: 1_500, ..Scenario::default() };
    let mut input = simulate(&scenario, 1);
    served_by(&mut input, |version, bucket| Some(if version == "2" && bucket >= START + 48 { "2" } else { "1" }));
    let told = looked_at(&mut input, 3);
    assert!(!regressed(&told), "{}", told[told.len() - 1].summary);
}

#[test]
fn a_version_that_never_came_is_silent_once_its_deploy_succeeded_or_took_longer_than_others_and_serves_in_the_end() {
    let scenario = Scenario { rate: 20.0, share: 1.0, errors: 0.002, after_s: 1_500, ..Scenario::default() };
    let judged = |change: &dyn Fn(&mut JudgeInput)| {
        let mut input = simulate(&scenario, 2);
        served_by(&mut input, |version, bucket| Some(if version == "2" && bucket >= START + 90 { "2" } else { "1" }));
        change(&mut input);
        looked_at(&mut input, 3)
    };
    let done = |status: DeployStatus| {
        move |input: &mut JudgeInput| {
            (input.deploy.status, input.deploy.finished_at) = (status, Some(Bucket(START + 30).start()));
        }
    };
    let succeeded = judged(&done(DeployStatus::Succeeded));
    let bad = succeeded.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed).expect("silent");
    assert_eq!(bad.findings[0].signal, SignalKind::Silence, "{}", bad.summary);
    // What serves after all is silent no more; what was said stays said.
    let last = &succeeded[succeeded.len() - 1];
    assert_eq!((last.verdict, last.phase), (VerdictKind::Regressed, Phase::Recovered), "{}", last.summary);

    assert!(!regressed(&judged(&done(DeployStatus::Failed))), "nothing is owed by what was given up");
    let slow = |seconds: u64| move |input: &mut JudgeInput| input.first_request = Some(Duration::from_secs(seconds));
    assert!(regressed(&judged(&slow(40))));
    assert!(!regressed(&judged(&slow(600))));
    // What boots is on its way: how long those before took is the time to their first telemetry.
    let boots = |input: &mut JudgeInput| {
        let cell = PresenceCell { logs: 1, ..PresenceCell::default() };
        let cells = (START + 2..START + 90).map(|bucket| (Bucket(bucket), cell.clone())).collect();
        input.aggregates.presence = vec![PresenceSeries { version: "2".to_owned(), cells }];
        input.first_request = Some(Duration::from_secs(20));
    };
    let told = judged(&boots);
    assert!(!regressed(&told), "{}", told[told.len() - 1].summary);
}

#[test]
fn a_canary_that_ends_while_the_control_serves_all_is_no_loss_and_one_that_nobody_replaces_is() {
    let scenario = Scenario { rate: 20.0, share: 0.2, errors: 0.002, after_s: 1_700, ..Scenario::default() };
    let judged = |replaced: bool| {
        let mut input = simulate(&scenario, 3);
        served_by(&mut input, |version, bucket| match version {
            "2" if bucket >= START + 60 => replaced.then_some("1"),
            "2" => Some("2"),
            _ => Some("1"),
        });
        looked_at(&mut input, 3)
    };
    let ended = judged(true);
    assert!(!regressed(&ended), "{}", ended[ended.len() - 1].summary);
    let vanished = judged(false);
    let last = &vanished[vanished.len() - 1];
    assert_eq!(last.verdict, VerdictKind::Regressed, "{}", last.summary);
    assert_eq!(last.findings[0].signal, SignalKind::Silence);
}

#[test]
fn a_version_shipped_once_more_is_held_against_itself_where_the_other_ended_long_ago() {
    // Version 1 ended forty minutes before; version 2 served since, and is deployed again.
    let judged = |former: f64, usual: f64, now: f64| {
        let scenario =
            Scenario { rate: 50.0, share: 1.0, errors: 0.0, before_s: 3_600, after_s: 900, ..Scenario::default() };
        let mut input = simulate(&scenario, 4);
        served_by(&mut input, |_, bucket| Some(if bucket < START - 240 { "1" } else { "2" }));
        for series in &mut input.series {
            for (bucket, cell) in &mut series.cells {
                let share = match bucket.0 {
                    ..172_560 => former,
                    172_560..START => usual,
                    _ => now,
                };
                // Whole failures, spread as evenly as they go.
                let at = |n: f64| (n * cell.requests as f64 * share).floor() as u64;
                cell.errors = at(bucket.0 as f64 + 1.0) - at(bucket.0 as f64);
            }
        }
        input.known_versions = ["1".to_owned(), "2".to_owned()].into();
        let told = looked_at(&mut input, 3);
        assert_eq!(input.previous.as_ref().expect("judged").comparison.versions, ["2"]);
        (regressed(&told), told.iter().any(|verdict| verdict.verdict == VerdictKind::Pass))
    };
    assert_eq!(judged(0.05, 0.0005, 0.03), (true, false), "sixty times what it was");
    assert!(!judged(0.0005, 0.02, 0.02).0, "as it was all along");
}

#[test]
fn failures_right_after_the_cut_over_are_held_against_the_time_before() {
    let scenario = Scenario { share: 0.5, errors: 0.001, after_s: 300, ..Scenario::default() };
    let mut input = simulate(&scenario, 5);
    served_by(&mut input, |version, bucket| {
        Some(if version == "1" && bucket < START + 2 || bucket < START { "1" } else { "2" })
    });
    for series in input.series.iter_mut().filter(|series| series.key.version == "2") {
        for (bucket, cell) in &mut series.cells {
            cell.errors = if bucket.0 >= START + 2 { cell.requests / 2 } else { 0 };
        }
    }
    let bad =
        looked_at(&mut input, 3).into_iter().find(|verdict| verdict.verdict == VerdictKind::Regressed).expect("bad");
    let after = bad.decided_at.expect("decided").since(Bucket(START + 2).start()).as_secs();
    assert!(after <= 20, "{after} s after the first failure");
}

#[test]
fn what_a_callee_breaks_soon_after_a_rolling_update_is_not_the_deploys() {
    // Half of the traffic for eight minutes, then all of it; the bank fails for three minutes, a minute later; or for the candidate
    // alone, from its start on.
    for (outage, its_own) in [(54..72, false), (0..72, true)] {
        let scenario =
            Scenario { rate: 20.0, share: 0.5, errors: 0.002, before_s: 3_600, after_s: 900, ..Scenario::default() };
        let mut input = simulate(&scenario, 5);
        served_by(&mut input, |version, bucket| Some(if version == "2" || bucket >= START + 48 { "2" } else { "1" }));
        for series in &mut input.series {
            let (version, operation) = (series.key.version.clone(), series.key.operation.clone());
            for (bucket, cell) in &mut series.cells {
                let fails = version == "2" && outage.contains(&(bucket.0.saturating_sub(START)));
                let failed = if fails { cell.requests / 3 } else { 0 };
                cell.assembled = cell.requests;
                cell.blame = [(party("payment", &version, &operation), cell.errors)].into();
                cell.blame.insert(party("bank", "7", "POST /charge"), failed);
                cell.blame.retain(|_, count| *count > 0);
                cell.errors += failed;
                let time = CalleeTime { calls: cell.requests, critical_ns: 1_000 };
                cell.callees = [(party("bank", "7", "POST /charge"), time)].into();
            }
        }
        let told = looked_at(&mut input, 2);
        let bad = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
        let last = bad.unwrap_or(&told[told.len() - 1]);
        assert_eq!(bad.is_some(), its_own, "{outage:?}: {}", last.summary);
        if bad.is_none() {
            assert!(told[70 / 2].findings.iter().all(|finding| finding.symptom && finding.culprit.service == "bank"));
            assert!(!told[70 / 2].findings.is_empty());
        }
    }
}
