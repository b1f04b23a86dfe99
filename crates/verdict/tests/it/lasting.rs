//! What goes on after it was first seen: a burst that ended is confirmed by no failure that strays after it.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Verdict, VerdictKind};

use crate::simulation::{START, Scenario, looked_at, simulate};

/// Looks every ten seconds at a canary of about ten requests a bucket, beside a control that fails once in six hundred. `failing` says
/// how many of the candidate's fail, by bucket since the start.
fn judged(failing: impl Fn(u64) -> u64) -> Vec<Verdict> {
    let scenario = Scenario { rate: 20.0, share: 0.05, errors: 0.0, instances: false, ..Scenario::default() };
    let mut input = simulate(&Scenario { after_s: 480, ..scenario }, 91);
    for series in &mut input.series {
        let candidate = series.key.version == "2";
        for (bucket, cell) in &mut series.cells {
            let failed = if candidate { failing(bucket.0 - START) } else { u64::from(bucket.0.is_multiple_of(3)) };
            cell.errors = failed.min(cell.requests);
        }
    }
    looked_at(&mut input, 1)
}

fn regressed_after_s(told: &[Verdict]) -> Option<usize> {
    told.iter().position(|verdict| verdict.verdict == VerdictKind::Regressed).map(|looks| 10 * (looks + 1))
}

#[test]
fn a_burst_that_ended_is_not_confirmed_by_one_failure_that_strays_after_it() {
    for burst in [&[10][..], &[2, 8], &[3, 2]] {
        for gap in [1, 2, 5] {
            let stray = 20 + burst.len() as u64 - 1 + gap;
            let failing = |bucket: u64| match bucket {
                20.. if bucket == stray => 1,
                20.. => burst.get(bucket as usize - 20).copied().unwrap_or(0),
                _ => 0,
            };
            let told = judged(failing);
            assert!(told.iter().any(|verdict| verdict.phase == Phase::Suspected), "{burst:?} is a suspicion");
            assert_eq!(regressed_after_s(&told), None, "{burst:?}, and one {gap} buckets later");
        }
    }
}

#[test]
fn what_goes_on_is_confirmed_in_a_small_bucket_too() {
    // A burst after which two in ten fail, and failures that come one at a time all the while.
    let after_a_burst = judged(|bucket| match bucket {
        20 => 10,
        21.. => 2,
        _ => 0,
    });
    assert!(regressed_after_s(&after_a_burst).is_some_and(|seconds| seconds <= 240), "{after_a_burst:?}");
    let one_at_a_time = judged(|bucket| u64::from(bucket.is_multiple_of(2)));
    let suspected = one_at_a_time.iter().position(|verdict| verdict.phase != Phase::Clear).expect("a suspicion");
    assert_eq!(one_at_a_time[suspected].phase, Phase::Confirmed, "{}", one_at_a_time[suspected].summary);
}
