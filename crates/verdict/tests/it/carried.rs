//! A judgement that is carried on from look to look, against one that is made afresh from all that is known.

use std::ops::Range;

use plimsoll_model::aggregates::{Participant, PathCell, PathSeries};
use plimsoll_model::log::{Level, LogCell, LogSeries};
use plimsoll_model::presence::{PresenceCell, PresenceSeries};
use plimsoll_model::signal::{CalleeTime, OperationCell, Party, WEIGHT_UNIT};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, ServiceAggregates, ServiceKey, SignalKind, Verdict, VerdictKind};
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
            let beside = session.asks_beside(now).then(|| known_by(&all.aggregates, bucket));
            session.judge_latest(&latest, beside)
        });
        *input = JudgeInput { now, previous, aggregates: known_by(&all.aggregates, bucket), ..all.clone() };
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

/// What is logged, goes another way or starts is known once it did.
fn known_by(all: &ServiceAggregates, bucket: u64) -> ServiceAggregates {
    let mut known = all.clone();
    known.logs.iter_mut().for_each(|log| log.cells.retain(|(b, _)| b.0 < bucket));
    known.logs.retain(|log| !log.cells.is_empty());
    known.paths.iter_mut().for_each(|path| path.cells.retain(|(b, _)| b.0 < bucket));
    known.paths.retain(|path| !path.cells.is_empty());
    known.presence.iter_mut().for_each(|series| series.cells.retain(|(b, _)| b.0 < bucket));
    known.presence.retain(|series| !series.cells.is_empty());
    known
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
fn spans_that_are_delivered_late_are_folded_once_they_are_there() {
    let mut in_time = None;
    for late in [0, 1, 2] {
        let scenario = Scenario { share: 1.0, errors: 0.003, rate: 20.0, after_s: 900, ..Scenario::default() };
        let mut all = simulate(&scenario, 77);
        for (bucket, cell) in all.series.iter_mut().flat_map(|series| &mut series.cells) {
            if bucket.0 >= START + 33 {
                cell.errors = cell.requests * 3 / 20;
            }
        }
        // Half of a bucket's requests come when it is over, the rest `late` buckets later.
        let known = |from: Bucket, now: u64| {
            let mut series = all.series.clone();
            for series in &mut series {
                series.cells.retain(|(bucket, _)| *bucket >= from && bucket.0 < now);
                for (_, cell) in series.cells.iter_mut().filter(|(bucket, _)| bucket.0 + late >= now) {
                    let half = OperationCell { requests: cell.requests / 2, ..OperationCell::default() };
                    *cell = OperationCell { weighted_requests: half.requests * WEIGHT_UNIT, ..half };
                }
                series.cells.retain(|(_, cell)| cell.requests > 0);
            }
            series
        };
        let (mut session, mut previous, mut wholes) = (Session::default(), None, 0);
        let found = (START..START + 90).find(|bucket| {
            let now = Bucket(*bucket).start();
            let asked = |from: Bucket| JudgeInput {
                previous: previous.clone(),
                tolerances: all.tolerances.clone(),
                ..JudgeInput::new(all.deploy.clone(), now, known(from, *bucket))
            };
            let latest = session.since().and_then(|since| session.judge_latest(&asked(since.bucket()), None));
            wholes += u64::from(latest.is_none());
            let verdict = latest.unwrap_or_else(|| session.judge_all(&asked(Bucket(0))));
            let regressed = verdict.verdict == VerdictKind::Regressed;
            previous = Some(verdict);
            regressed
        });
        let after = found.expect("it fails") - START - 33;
        let in_time = *in_time.get_or_insert(after);
        assert!(after <= in_time + late + 2, "{late}: {after} for {in_time} buckets");
        assert!(wholes <= 25, "{late}: {wholes} looks at the whole");
    }
}

#[test]
fn a_storm_of_calls_that_is_known_once_traces_are_closed_is_found_between_two_full_looks() {
    let scenario = Scenario { share: 1.0, errors: 0.003, rate: 20.0, after_s: 1_200, ..Scenario::default() };
    let mut all = simulate(&scenario, 78);
    let bank = Party {
        namespace: String::new(),
        service: "bank".to_owned(),
        version: "7".to_owned(),
        operation: "POST /hold".to_owned(),
    };
    for (bucket, cell) in all.series.iter_mut().flat_map(|series| &mut series.cells) {
        let calls = if bucket.0 >= START + 33 { 4 } else { 1 } * cell.requests;
        cell.assembled = cell.requests;
        cell.callees.insert(bank.clone(), CalleeTime { calls, critical_ns: 1_000 });
    }
    let known = |from: Bucket, now: u64| {
        let mut series = all.series.clone();
        for series in &mut series {
            series.cells.retain(|(bucket, _)| *bucket >= from && bucket.0 < now);
            // Its traces are closed by the next look.
            for (_, cell) in series.cells.iter_mut().filter(|(bucket, _)| bucket.0 + 1 >= now) {
                cell.assembled = 0;
                cell.callees.clear();
            }
        }
        series
    };
    let (mut session, mut previous) = (Session::default(), None);
    let found = (START..START + 120).find(|bucket| {
        let now = Bucket(*bucket).start();
        let asked = |from: Bucket| JudgeInput {
            previous: previous.clone(),
            tolerances: all.tolerances.clone(),
            ..JudgeInput::new(all.deploy.clone(), now, known(from, *bucket))
        };
        let beside = session.asks_beside(now).then(ServiceAggregates::default);
        let latest = session.since().and_then(|since| session.judge_latest(&asked(since.bucket()), beside));
        let verdict = latest.unwrap_or_else(|| session.judge_all(&asked(Bucket(0))));
        let regressed = verdict.verdict == VerdictKind::Regressed;
        previous = Some(verdict);
        regressed
    });
    let after = found.expect("it calls four times as often") - START - 33;
    assert!(after <= 18, "{after} buckets");
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

fn logged(version: &str, template: &str, level: Level, buckets: Range<u64>, count: u64) -> LogSeries {
    LogSeries {
        version: version.to_owned(),
        template: template.to_owned(),
        level,
        first_seen: Bucket(buckets.start).start(),
        cells: buckets.map(|bucket| (Bucket(bucket), LogCell { count, ..LogCell::default() })).collect(),
    }
}

/// A hundred traces a bucket, of which so many fail from a bucket on.
fn path(version: &str, buckets: Range<u64>, begins: u64, failing: u64) -> PathSeries {
    let party = |(service, version): (&str, &str)| Participant {
        namespace: String::new(),
        service: service.to_owned(),
        version: version.to_owned(),
    };
    let failed = |bucket| if bucket >= begins { failing } else { 0 };
    let cell = |bucket| PathCell { traces: 100, failed: failed(bucket), ..PathCell::default() };
    PathSeries {
        entry: ServiceKey::new("prod", "gateway"),
        operation: "GET /".to_owned(),
        path: [("gateway", "1"), ("payment", version)].map(party).to_vec(),
        cells: buckets.map(|bucket| (Bucket(bucket), cell(bucket))).collect(),
    }
}

/// One instance, which starts again in every so many buckets from a bucket on.
fn presence(version: &str, buckets: Range<u64>, begins: u64, every: u64) -> PresenceSeries {
    let cell = |bucket: u64| {
        let mut cell = PresenceCell { spans: 10, ..PresenceCell::default() };
        cell.instances.offer(7);
        if bucket == buckets.start || (bucket >= begins && (bucket - begins).is_multiple_of(every)) {
            cell.starts.offer(bucket);
        }
        cell
    };
    PresenceSeries {
        version: version.to_owned(),
        cells: buckets.clone().map(|bucket| (Bucket(bucket), cell(bucket))).collect(),
    }
}

#[test]
fn what_only_logs_paths_or_starts_tell_is_found_within_a_minute_however_old_the_deploy() {
    // Where it begins: between two looks at the whole, where those are five minutes apart.
    let begins = START + 34;
    let scenario =
        Scenario { share: 0.5, rate: 20.0, errors: 0.001, before_s: 900, after_s: 900, ..Scenario::default() };
    let found_after = |aggregates: ServiceAggregates| {
        let mut input = simulate(&scenario, 43);
        input.aggregates = aggregates;
        let (told, looks) = carried(&mut input, |_, _| true);
        assert!(looks > 20, "carried on {looks} times");
        let found = told.iter().position(|verdict| verdict.verdict == VerdictKind::Regressed);
        found.map(|at| 10 * (START + at as u64).saturating_sub(begins)).expect("it is found")
    };
    let tick = logged("1", "tick done", Level::Info, START - 90..START + 90, 10);
    let error = logged("2", "price table is inconsistent", Level::Error, begins..START + 90, 10);
    for logs in [vec![tick, error.clone()], vec![error]] {
        let found = found_after(ServiceAggregates { logs, ..ServiceAggregates::default() });
        assert!(found <= 130, "logs: {found} s");
    }
    let paths = vec![path("1", START - 90..START + 90, begins, 0), path("2", START..START + 90, begins, 30)];
    let found = found_after(ServiceAggregates { paths, ..ServiceAggregates::default() });
    assert!(found <= 130, "paths: {found} s");
    let presence =
        vec![presence("1", START - 90..START + 90, u64::MAX, 1), presence("2", START..START + 90, begins, 2)];
    let afresh = {
        let mut input = simulate(&scenario, 43);
        input.aggregates.presence.clone_from(&presence);
        let verdict = judge(&input);
        assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
        verdict.decided_at.expect("it is decided").bucket().0 - begins
    };
    let found = found_after(ServiceAggregates { presence, ..ServiceAggregates::default() });
    assert!(found <= 10 * afresh + 90, "starts: {found} s, afresh {} s", 10 * afresh);
}

#[test]
fn a_service_that_logs_and_stands_in_paths_is_looked_at_as_a_whole_no_more_often_than_others() {
    let scenario = Scenario { share: 0.5, rate: 20.0, errors: 0.001, after_s: 1_700, ..Scenario::default() };
    let (from, to) = (START - 90, START + 180);
    let aggregates = ServiceAggregates {
        logs: vec![
            logged("1", "tick done", Level::Info, from..to, 10),
            logged("2", "tick done", Level::Info, START..to, 10),
        ],
        paths: vec![path("1", from..to, 0, 1), path("2", START..to, 0, 1)],
        presence: vec![presence("1", from..to, u64::MAX, 1), presence("2", START..to, u64::MAX, 1)],
        ..ServiceAggregates::default()
    };
    let looks = [ServiceAggregates::default(), aggregates].map(|aggregates| {
        let mut input = simulate(&scenario, 44);
        input.aggregates = aggregates;
        carried(&mut input, says_the_same).1
    });
    assert!(looks[0] > 130 && looks[1] + 3 >= looks[0], "carried on {looks:?} of 170 times");
}
