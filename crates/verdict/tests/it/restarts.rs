//! Instances that start again and again.

use plimsoll_model::presence::{Distinct, PresenceCell, PresenceSeries};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, SignalKind, Suppressed, VerdictKind};
use plimsoll_verdict::judge;

use crate::simulation::{START, Scenario, looked_at, simulate};

/// Two instances from `from` to `to`, whose starts lie in the buckets that `starts` says, two each.
pub(crate) fn presence(version: &str, from: u64, to: u64, starts: impl Fn(u64) -> bool) -> PresenceSeries {
    grown(version, from, to, |_| 2, |bucket| if starts(bucket) { 2 } else { 0 })
}

/// So many instances, of which so many start.
fn grown(
    version: &str,
    from: u64,
    to: u64,
    there: impl Fn(u64) -> usize,
    starts: impl Fn(u64) -> usize,
) -> PresenceSeries {
    let mut hash = 7_u64;
    let mut next = || {
        hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        hash
    };
    let known: Vec<u64> =
        (from..to).map(&there).max().map_or_else(Vec::new, |most| (0..most).map(|_| next()).collect());
    let cells = (from..to).map(|bucket| {
        let mut instances = Distinct::default();
        known.iter().take(there(bucket)).for_each(|instance| instances.offer(*instance));
        let mut cell = PresenceCell { spans: 100, instances, ..PresenceCell::default() };
        (0..starts(bucket)).for_each(|_| cell.starts.offer(next()));
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

    // Who was called wrong about silence still hears of restarts, and not of what was called wrong itself.
    let silence = Suppressed { operation: String::new(), ..Suppressed::of(finding) };
    for (suppressed, expected) in [(silence, true), (Suppressed::of(finding), false)] {
        input.suppressed = [suppressed].into();
        assert_eq!(judge(&input).verdict == VerdictKind::Regressed, expected);
    }
    input.suppressed.clear();

    // A rollout, and one restart of everything on top of it.
    let once = presence("2", START, START + 60, |bucket| bucket == START || bucket == START + 20);
    input.aggregates.presence = vec![old(), once];
    assert_ne!(judge(&input).verdict, VerdictKind::Regressed);

    // Where instances always come and go nothing is new about it.
    input.aggregates.presence = vec![presence("1", START - 120, START + 60, |bucket| bucket % 4 == 0), looping];
    assert_ne!(judge(&input).verdict, VerdictKind::Regressed);
}

#[test]
fn a_canary_that_is_promoted_starts_instances_and_does_not_restart_them() {
    let mut input =
        simulate(&Scenario { share: 0.5, errors: 0.002, before_s: 1_200, after_s: 900, ..Scenario::default() }, 12);
    let old = || presence("1", START - 120, START + 90, |_| false);
    // One for ten minutes and then twenty, a few of them in each bucket.
    let there =
        |bucket: u64| if bucket < START + 60 { 1 } else { (5 * (bucket as usize - START as usize - 59)).min(20) };
    let begun = |bucket: u64| there(bucket) - if bucket == START { 0 } else { there(bucket - 1) };
    input.aggregates.presence = vec![old(), grown("2", START, START + 90, there, begun)];
    let verdict = judge(&input);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);

    // The same fleet, of which a third starts again every half minute.
    let looping = |bucket: u64| begun(bucket) + if bucket > START + 64 && bucket.is_multiple_of(3) { 7 } else { 0 };
    input.aggregates.presence = vec![old(), grown("2", START, START + 90, there, looping)];
    assert_eq!(judge(&input).verdict, VerdictKind::Regressed);
}

#[test]
fn the_first_version_of_what_starts_by_the_minute_is_not_taken_for_a_loop() {
    let mut input =
        simulate(&Scenario { share: 1.0, errors: 0.002, before_s: 1_200, after_s: 900, ..Scenario::default() }, 13);
    // One instance at a time, of a minute or two each.
    for buckets in [6, 12] {
        let started = |bucket: u64| usize::from(bucket.is_multiple_of(buckets));
        let first = grown("2", START, START + 90, |_| 1, started);
        input.aggregates.presence = vec![first.clone()];
        let verdict = judge(&input);
        let found = verdict.findings.iter().any(|finding| finding.unit == "restarts/h");
        assert!(!found && verdict.verdict != VerdictKind::Regressed, "{}", verdict.summary);
        if buckets == 6 {
            // After one that ran on it does say something.
            input.aggregates.presence = vec![grown("1", START - 120, START, |_| 1, |_| 0), first];
            let verdict = judge(&input);
            assert!(verdict.findings.iter().any(|finding| finding.unit == "restarts/h"), "{}", verdict.summary);
        }
    }
}

#[test]
fn a_crash_loop_that_waits_longer_and_longer_is_told_of_once_and_a_start_that_strays_is_none() {
    let judged = |starts: &dyn Fn(u64) -> bool| {
        let mut input = simulate(
            &Scenario { share: 0.5, errors: 0.002, before_s: 1_200, after_s: 1_780, ..Scenario::default() },
            14,
        );
        // Each lives for ten seconds or twenty.
        let there = |bucket: u64| starts(bucket - START) || (bucket > START && starts(bucket - START - 1));
        let begun = |bucket: u64| usize::from(starts(bucket - START));
        let mut looping = grown("2", START, START + 178, |bucket| usize::from(there(bucket)), begun);
        looping.cells.retain(|(bucket, _)| there(bucket.0));
        input.aggregates.presence = vec![presence("1", START - 120, START + 178, |_| false), looping];
        let told = looked_at(&mut input, 1).iter().map(|verdict| verdict.phase).collect::<Vec<_>>();
        let confirmed = |pair: &&[Phase]| pair[0] != Phase::Confirmed && pair[1] == Phase::Confirmed;
        (told.windows(2).filter(confirmed).count(), told[177 - 1])
    };
    // Who starts them anew doubles how long he waits, up to five minutes.
    let waiting = |bucket: u64| [1, 3, 7, 12, 22, 39, 71, 102, 134, 165].contains(&bucket);
    assert_eq!(judged(&waiting), (1, Phase::Confirmed));
    let early = |bucket: u64| bucket < 40 && bucket.is_multiple_of(4);
    assert_eq!(judged(&|bucket| early(bucket) || bucket == 130), (1, Phase::Recovered));
    assert_eq!(judged(&|bucket| early(bucket) || (120..140).contains(&bucket) && bucket.is_multiple_of(4)).0, 2);
}
