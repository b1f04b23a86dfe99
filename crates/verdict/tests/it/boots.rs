//! What instances say while they start, outside of every request.

use plimsoll_model::log::Level;
use plimsoll_model::presence::{Distinct, PresenceCell, PresenceSeries};
use plimsoll_model::signal::{ExceptionCount, Exemplars, Fingerprint, OperationCell, OperationSeries};
use plimsoll_model::{Bucket, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge};

use crate::aggregates::logs;
use crate::simulation::{START, Scenario, simulate};

const PODS: u64 = 16;

/// One pod after another, each twenty seconds after the one before, beside those of the control; of which each started in the bucket
/// that `began` says.
fn rollout(began: impl Fn(u64) -> u64) -> JudgeInput {
    let scenario = Scenario { share: 0.5, rate: 30.0, errors: 0.002, before_s: 1_800, ..Scenario::default() };
    let mut input = simulate(&Scenario { after_s: 900, ..scenario }, 23);
    let instance = |version: u64, pod: u64| (1_000 * version + pod).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let presence = |version: u64, from: u64, start: &dyn Fn(u64) -> u64| {
        let cells = (from..START + 90).map(|bucket| {
            let mut cell = PresenceCell { spans: 100, instances: Distinct::default(), ..PresenceCell::default() };
            for pod in 0..PODS {
                if start(pod) <= bucket {
                    cell.instances.offer(instance(version, pod));
                }
                if start(pod) == bucket {
                    cell.starts.offer(instance(version, pod));
                }
            }
            (Bucket(bucket), cell)
        });
        PresenceSeries { version: version.to_string(), cells: cells.collect() }
    };
    input.aggregates.presence = vec![presence(1, START - 180, &began), presence(2, START, &|pod| START + 2 * pod)];
    input
}

/// Those in whose bucket a pod of the candidate starts.
fn boots() -> impl Iterator<Item = u64> {
    (0..PODS).map(|pod| START + 2 * pod)
}

/// Throws an exception three times in each of the buckets, within no request.
fn thrown(input: &mut JudgeInput, buckets: impl Iterator<Item = u64>) -> Verdict {
    let exception = ExceptionCount {
        exception_type: "java.net.ConnectException".to_owned(),
        message: "Connection refused".to_owned(),
        count: 3,
    };
    let mut key = input.series[0].key.clone();
    (key.version, key.operation) = ("2".to_owned(), String::new());
    let cells = buckets.map(|bucket| {
        let exceptions = [(Fingerprint(5), exception.clone())].into();
        (Bucket(bucket), OperationCell { exceptions, ..OperationCell::default() })
    });
    input.series.push(OperationSeries { key, cells: cells.collect() });
    told(input)
}

/// Logs an error three times in each of the buckets, in the course of a request where it is `traced`.
fn logged(input: &mut JudgeInput, level: Level, traced: bool, buckets: impl Iterator<Item = u64>) -> Verdict {
    let mut log = logs("2", "cache not reachable yet, trying again", level, START..START, 3);
    log.first_seen = Bucket(START).start();
    log.cells = buckets.flat_map(|bucket| logs("2", "", level, bucket..bucket + 1, 3).cells).collect();
    for (_, cell) in log.cells.iter_mut().filter(|_| traced) {
        cell.exemplars = Exemplars(vec![[7; 16]]);
    }
    input.aggregates.logs = vec![log];
    told(input)
}

/// The first verdict that decides something, looked at every minute, else the last.
fn told(input: &mut JudgeInput) -> Verdict {
    let looks = (START + 6..=START + 90).step_by(6).map(|bucket| {
        input.now = Bucket(bucket).start();
        judge(input)
    });
    let told: Vec<Verdict> = looks.collect();
    let regressed = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
    regressed.or(told.last()).cloned().expect("it was looked at")
}

#[test]
fn what_instances_say_as_they_start_is_no_news_of_the_deploy() {
    let old = |_: u64| START - 400;
    let verdict = thrown(&mut rollout(old), boots());
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let verdict = logged(&mut rollout(old), Level::Error, false, boots());
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
}

#[test]
fn what_goes_on_after_they_started_is_found_and_so_is_what_comes_with_requests() {
    let old = |_: u64| START - 400;
    let regressed = |verdict: Verdict, signal: SignalKind| {
        assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
        assert_eq!(verdict.findings[0].signal, signal);
    };
    regressed(thrown(&mut rollout(old), START..START + 90), SignalKind::NewException);
    regressed(logged(&mut rollout(old), Level::Error, false, START..START + 90), SignalKind::NewLog);
    regressed(logged(&mut rollout(old), Level::Error, true, boots()), SignalKind::NewLog);
    // None is tolerated of what is fatal.
    regressed(logged(&mut rollout(old), Level::Fatal, false, boots()), SignalKind::NewLog);
    // Where those of the control started within the hour, and said nothing of the sort, it is news.
    regressed(thrown(&mut rollout(|pod| START - 120 + 2 * pod), boots()), SignalKind::NewException);
}
