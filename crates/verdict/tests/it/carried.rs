//! A judgement that is carried on from look to look, against one that is made afresh from all that is known.

use plimsoll_model::aggregates::{Participant, PathCell, PathSeries};
use plimsoll_model::log::{Level, LogCell, LogSeries};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, ServiceKey, SignalKind, Verdict, VerdictKind};
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
        // What is logged or goes another way is known once it was.
        input.aggregates.logs.iter_mut().for_each(|log| log.cells.retain(|(b, _)| b.0 < bucket));
        input.aggregates.logs.retain(|log| !log.cells.is_empty());
        input.aggregates.paths.iter_mut().for_each(|path| path.cells.retain(|(b, _)| b.0 < bucket));
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

#[test]
fn what_only_logs_or_paths_tell_is_found_within_a_minute_however_old_the_deploy() {
    /// The bucket since the start in which it begins: between two looks at the whole, where those are five minutes apart.
    const BEGINS: u64 = 34;
    let scenario =
        Scenario { share: 0.5, rate: 20.0, errors: 0.001, before_s: 900, after_s: 900, ..Scenario::default() };
    let log = |version: &str, template: &str, level: Level, buckets: std::ops::Range<u64>, count: u64| LogSeries {
        version: version.to_owned(),
        template: template.to_owned(),
        level,
        first_seen: Bucket(buckets.start).start(),
        cells: buckets.map(|bucket| (Bucket(bucket), LogCell { count, ..LogCell::default() })).collect(),
    };
    let path = |version: &str, buckets: std::ops::Range<u64>, failing: u64| PathSeries {
        entry: ServiceKey::new("prod", "gateway"),
        operation: "GET /".to_owned(),
        path: [("gateway", "1"), ("payment", version)]
            .map(|(service, version)| Participant {
                namespace: String::new(),
                service: service.to_owned(),
                version: version.to_owned(),
            })
            .to_vec(),
        cells: buckets
            .map(|bucket| {
                let failed = if bucket >= START + BEGINS { failing } else { 0 };
                (Bucket(bucket), PathCell { traces: 100, failed, ..PathCell::default() })
            })
            .collect(),
    };
    let found_after = |logs: Vec<LogSeries>, paths: Vec<PathSeries>| {
        let mut input = simulate(&scenario, 43);
        (input.aggregates.logs, input.aggregates.paths) = (logs, paths);
        let (told, looks) = carried(&mut input, |_, _| true);
        assert!(looks > 20, "carried on {looks} times");
        let found = told.iter().position(|verdict| verdict.verdict == VerdictKind::Regressed);
        found.map(|at| 10 * (at as u64).saturating_sub(BEGINS)).expect("it is found")
    };
    let tick = log("1", "tick done", Level::Info, START - 90..START + 90, 10);
    let error = log("2", "price table is inconsistent", Level::Error, START + BEGINS..START + 90, 10);
    let logged = found_after(vec![tick, error], Vec::new());
    assert!(logged <= 130, "{logged} s");
    let paths = vec![path("1", START - 90..START + 90, 0), path("2", START..START + 90, 30)];
    let told = found_after(Vec::new(), paths);
    assert!(told <= 130, "{told} s");
}
