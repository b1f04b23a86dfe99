//! While nothing comes from anybody it is not the deploy that is silent.

use plimsoll_model::{SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::quality;

use crate::telemetry::{START, World, regressed};

/// Seconds in which nothing comes.
const AWAY: std::ops::Range<u64> = 70..310;

/// What is said every ten seconds of a deploy that replaces version 1. Nothing of it comes in [`AWAY`]; from the second after it on
/// what was kept comes at twenty times the pace, if it was `kept`. `beside`, another service never stops; `failing` says from when
/// on a fifth of the requests fails.
async fn told(kept: bool, beside: bool, failing: i64) -> Vec<Verdict> {
    let world = World::new().await;
    let send = |second: i64, received: i64| {
        let fails = second >= failing;
        world.send("edge", if second < 0 { "1" } else { "2" }, second, received, 8, |n| fails && n % 5 == 0);
    };
    let other = |second: i64| {
        if beside {
            world.send("other", "5", second, second, 1, |_| false);
        }
    };
    for second in -2_400..0 {
        send(second, second);
        other(second);
    }
    let deploy = world.deploy("edge", "2").await;
    let (mut sent, mut told) = (0, Vec::new());
    for second in 0..1_900_u64 {
        other(second as i64);
        if !AWAY.contains(&second) {
            let since = second.saturating_sub(AWAY.end);
            let until = if kept { (AWAY.start + 20 * since).max(sent).min(second) } else { second };
            if second >= AWAY.end && !kept {
                sent = sent.max(AWAY.end);
            }
            let until = if second < AWAY.start { second } else { until };
            (sent..until).for_each(|at| send(at as i64, second as i64));
            sent = sent.max(until);
        }
        if second % 10 == 5 {
            told.push(world.look(second, &deploy).await);
        }
    }
    told
}

#[tokio::test]
async fn a_good_deploy_is_neither_silent_nor_starved_while_nothing_comes_from_anybody() {
    for kept in [true, false] {
        let told = told(kept, false, i64::MAX).await;
        if let Some(bad) = regressed(&told) {
            let at = bad.evaluated_at.0 / 1_000_000_000 - START;
            panic!("kept: {kept}, after {at} s: {}", bad.summary);
        }
        let last = &told[told.len() - 1];
        assert_eq!(last.verdict, VerdictKind::Pass, "kept: {kept}: {}", last.summary);
        let says = |verdict: &Verdict| verdict.data_quality.iter().any(|word| word == quality::TELEMETRY_GAP);
        assert!(told.iter().any(says), "kept: {kept}");
        assert_eq!(says(last), !kept, "what came after all is no gap");
    }
}

#[tokio::test]
async fn what_goes_wrong_after_a_gap_or_while_others_are_heard_is_found() {
    for kept in [true, false] {
        let told = told(kept, false, 500).await;
        let bad = regressed(&told).expect("a fifth fails");
        let after = bad.evaluated_at.0 / 1_000_000_000 - START - 500;
        assert!(after <= 60, "kept: {kept}, after {after} s: {}", bad.summary);
        assert_eq!(bad.findings[0].signal, SignalKind::ErrorRate, "{}", bad.summary);
    }
    let told = told(false, true, i64::MAX).await;
    let bad = regressed(&told).expect("its traffic is gone for four minutes, and its neighbour is heard");
    assert_eq!(bad.findings[0].signal, SignalKind::Throughput, "{}", bad.summary);
}

#[tokio::test]
async fn what_ended_the_watch_unheard_is_judged_once_it_came() {
    // Nothing comes from the twentieth minute to the fortieth; what was kept tells of failures all along.
    let world = World::new().await;
    let send = |second: i64, received: i64| {
        let fails = second >= 1_300;
        world.send("edge", if second < 0 { "1" } else { "2" }, second, received, 4, |n| fails && n % 5 == 0);
    };
    (-2_400..0).for_each(|second| send(second, second));
    let deploy = world.deploy("edge", "2").await;
    let (mut sent, mut told) = (0, Vec::new());
    for second in 0..2_700_u64 {
        let until = if second < 1_200 { second } else { (1_200 + 20 * second.saturating_sub(2_400)).min(second) };
        (sent..until).for_each(|at| send(at as i64, second as i64));
        sent = sent.max(until);
        if second % 10 == 5 {
            told.push(world.look(second, &deploy).await);
        }
    }
    let bad = regressed(&told).expect("a fifth fails");
    assert_eq!(bad.findings[0].signal, SignalKind::ErrorRate, "{}", bad.summary);
}
