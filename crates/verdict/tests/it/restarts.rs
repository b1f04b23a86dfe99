//! Instances that start again and again.

use plimsoll_model::presence::{Distinct, PresenceCell, PresenceSeries};
use plimsoll_model::{Bucket, SignalKind, VerdictKind};
use plimsoll_verdict::judge;

use crate::simulation::{START, Scenario, simulate};

/// Two instances from `from` to `to`, whose starts lie in the buckets that `starts` says, two each.
fn presence(version: &str, from: u64, to: u64, starts: impl Fn(u64) -> bool) -> PresenceSeries {
    let mut hash = 7_u64;
    let mut next = || {
        hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        hash
    };
    let instances = {
        let mut instances = Distinct::default();
        (0..2).for_each(|_| instances.offer(next()));
        instances
    };
    let cells = (from..to).map(|bucket| {
        let mut cell = PresenceCell { spans: 100, instances: instances.clone(), ..PresenceCell::default() };
        if starts(bucket) {
            (0..2).for_each(|_| cell.starts.offer(next()));
        }
        (Bucket(bucket), cell)
    });
    PresenceSeries { version: version.to_owned(), cells: cells.collect() }
}

#[test]
fn a_crash_loop_is_a_regression_though_what_is_answered_is_answered_well() {
    let mut input =
        simulate(&Scenario { share: 0.5, errors: 0.002, before_s: 1_200, after_s: 600, ..Scenario::default() }, 11);
    let old = || presence("1", START - 120, START + 60, |_| false);
    let looping = presence("2", START, START + 60, |bucket| bucket % 4 == 0);
    input.aggregates.presence = vec![old(), looping.clone()];
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let finding = &verdict.findings[0];
    assert_eq!((finding.signal, finding.unit.as_str()), (SignalKind::Silence, "restarts/h"));
    assert!(finding.summary.contains("starts again and again"), "{}", finding.summary);
    assert!(finding.sql.contains("kind = 'presence'"), "{}", finding.sql);

    // A rollout, and one restart of everything on top of it.
    let once = presence("2", START, START + 60, |bucket| bucket == START || bucket == START + 20);
    input.aggregates.presence = vec![old(), once];
    assert_ne!(judge(&input).verdict, VerdictKind::Regressed);

    // Where instances always come and go nothing is new about it.
    input.aggregates.presence = vec![presence("1", START - 120, START + 60, |bucket| bucket % 4 == 0), looping];
    assert_ne!(judge(&input).verdict, VerdictKind::Regressed);
}
