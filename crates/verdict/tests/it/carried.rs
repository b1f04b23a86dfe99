//! A judgement that is carried on from look to look, against one that is made afresh from all that is known.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, Session, judge};

use crate::drift::untouched;
use crate::simulation::{START, Scenario, gateway, simulate};

/// Looks every bucket as the watcher does: at the service alone where that suffices, and else at everything. Returns the
/// verdicts, and how many were carried on; what is carried on says what `alike` holds to be the same as afresh.
fn carried(input: &mut JudgeInput, alike: fn(&Verdict, &Verdict) -> bool) -> (Vec<Verdict>, u64) {
    let (all, end) = (input.clone(), input.now.bucket().0);
    let mut session = Session::default();
    let (mut told, mut carried) = (Vec::new(), 0);
    for bucket in START..end {
        let now = Bucket(bucket).start();
        let previous = input.previous.take();
        let latest = session.since().and_then(|since| {
            let mut series = all.series.clone();
            for series in &mut series {
                series.cells.retain(|(b, _)| *b >= since.bucket() && b.0 <= bucket);
            }
            let latest = JudgeInput {
                previous: previous.clone(),
                tolerances: all.tolerances.clone(),
                ..JudgeInput::new(all.deploy.clone(), now, series)
            };
            session.judge_latest(&latest)
        });
        *input = JudgeInput { now, previous, ..all.clone() };
        for series in input.related.iter_mut() {
            series.cells.retain(|(b, _)| b.0 <= bucket);
        }
        let afresh = judge(input);
        carried += u64::from(latest.is_some());
        let verdict = latest.unwrap_or_else(|| session.judge_all(input));
        assert!(
            alike(&verdict, &afresh),
            "bucket {}: `{}` {:?}, afresh `{}` {:?}",
            bucket - START,
            verdict.summary,
            verdict.phase,
            afresh.summary,
            afresh.phase
        );
        input.previous = Some(verdict.clone());
        told.push(verdict);
    }
    (told, carried)
}

/// Words about the data may wait for the next full look; what is found may not.
fn says_the_same(one: &Verdict, other: &Verdict) -> bool {
    let found = |verdict: &Verdict| verdict.findings.iter().map(|found| found.id.clone()).collect::<Vec<_>>();
    (one.verdict, one.decided, one.phase) == (other.verdict, other.decided, other.phase) && found(one) == found(other)
}

#[test]
fn carried_on_it_says_what_it_says_afresh() {
    for seed in 0..4 {
        let scenario = Scenario {
            operations: 2,
            share: [0.05, 0.5, 1.0][seed as usize % 3],
            error_effect: if seed < 1 { 6.0 } else { 1.0 },
            rate: 30.0,
            before_s: 600,
            after_s: 700,
            ..Scenario::default()
        };
        let mut input = simulate(&scenario, 70 + seed);
        let (_, carried) = carried(&mut input, |one, other| one == other);
        assert!(seed < 1 || carried > 20, "seed {seed}: carried on {carried} times");
    }
}

#[test]
fn traffic_that_is_lost_between_two_full_looks_is_missed_though_only_the_service_was_looked_at() {
    // Six minutes in, where the whole is looked at every five, the service is lost while it is called.
    let scenario = Scenario { share: 1.0, errors: 0.001, after_s: 1_700, ..Scenario::default() };
    let judged = |called_until: u64, thinned: u64| {
        let mut input = simulate(&scenario, 41);
        for series in input.series.iter_mut() {
            series.cells.retain(|(bucket, _)| thinned > 0 || bucket.0 < START + 36);
            for (_, cell) in series.cells.iter_mut().filter(|(bucket, _)| bucket.0 >= START + 36) {
                (cell.requests, cell.errors) = (cell.requests / thinned.max(1), 0);
                cell.latency.0.values_mut().for_each(|n| *n /= thinned.max(1));
            }
        }
        input.related = vec![gateway(&input, called_until)];
        carried(&mut input, says_the_same)
    };
    for thinned in [0, 8] {
        let (told, looks) = judged(START + 300, thinned);
        let lost = |verdict: &&Verdict| verdict.verdict == VerdictKind::Regressed;
        let bad = told.iter().find(lost).expect("it is called and does not answer");
        let gone = |signal| matches!(signal, SignalKind::Throughput | SignalKind::Silence);
        assert!(gone(bad.findings[0].signal), "{}", bad.summary);
        assert!(looks > 40, "carried on {looks} times");
    }
    let (told, _) = judged(START + 36, 0);
    assert!(told.iter().all(|verdict| verdict.verdict != VerdictKind::Regressed), "nobody calls it");
}

#[test]
fn what_was_excused_at_the_last_full_look_excuses_nothing_that_comes_later() {
    // What all share is over after six minutes; from then on it is the candidate's own.
    let scenario = Scenario { share: 1.0, errors: 0.001, error_effect: 400.0, after_s: 1_700, ..Scenario::default() };
    let mut input = simulate(&scenario, 42);
    for series in &mut input.series {
        for (_, cell) in series.cells.iter_mut().filter(|(bucket, _)| (START..START + 34).contains(&bucket.0)) {
            cell.errors = cell.requests / 30;
        }
    }
    input.untouched = untouched(4, (0.001, 50.0, 1.0), (0.04, 50.0, 1.0));
    for series in &mut input.untouched {
        let usual = series.cells[0].1;
        series.cells.extend((START + 90..START + 170).map(|bucket| (Bucket(bucket), usual)));
        for (bucket, vitals) in &mut series.cells {
            vitals.errors = if (START..START + 34).contains(&bucket.0) { 4 } else { 0 };
        }
    }
    let (told, _) = carried(&mut input, says_the_same);
    assert!(told[..30].iter().all(|verdict| verdict.phase == Phase::Clear), "shared by all");
    assert!(
        told.iter().any(|verdict| verdict.verdict == VerdictKind::Regressed),
        "its own: {}",
        told[told.len() - 1].summary
    );
}
