//! Failures whose origin is known later than they are counted.

use plimsoll_model::signal::{CalleeTime, Party};
use plimsoll_model::{Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge};

use crate::simulation::{START, Scenario, simulate};

fn party(service: &str, version: &str) -> Party {
    let (namespace, operation) = (String::new(), "POST /charge".to_owned());
    Party { namespace, service: service.to_owned(), version: version.to_owned(), operation }
}

/// A service that calls a bank and fails so much from the third minute of its deploy on, who is to blame for that, and after how
/// many buckets that is known. Looked at every bucket.
fn looked_at(failing: f64, of_callee: bool, known_after: u64) -> Vec<Verdict> {
    const BROKEN: u64 = START + 18;
    let scenario =
        Scenario { share: 1.0, rate: 20.0, errors: 0.004, before_s: 3_600, after_s: 300, ..Scenario::default() };
    let mut all = simulate(&scenario, 17);
    for series in &mut all.series {
        let own = party("payment", &series.key.version);
        for (bucket, cell) in &mut series.cells {
            cell.callees = [(party("bank", "7"), CalleeTime { calls: cell.requests, critical_ns: 1 })].into();
            cell.blame = [(own.clone(), cell.errors)].into();
            if bucket.0 >= BROKEN {
                let more = (failing * cell.requests as f64) as u64;
                cell.errors += more;
                *cell.blame.entry(if of_callee { party("bank", "7") } else { own.clone() }).or_default() += more;
            }
            cell.blame.retain(|_, count| *count > 0);
        }
    }
    let mut told = Vec::new();
    for bucket in BROKEN + 1..BROKEN + 12 {
        let mut series = all.series.clone();
        for (at, cell) in series.iter_mut().flat_map(|series| &mut series.cells) {
            if at.0 + known_after >= bucket {
                (cell.assembled, cell.blame, cell.callees) = (0, Default::default(), Default::default());
            }
        }
        let now = plimsoll_model::Bucket(bucket).start();
        told.push(judge(&JudgeInput { now, series, ..all.clone() }));
    }
    told
}

/// Buckets after which it was confirmed, from the first bad one on.
fn confirmed(told: &[Verdict]) -> Option<usize> {
    told.iter().position(|verdict| verdict.verdict == VerdictKind::Regressed)
}

#[test]
fn an_outage_of_a_callee_is_waited_out_until_its_traces_tell() {
    for known_after in [0, 1, 2] {
        let told = looked_at(1.0, true, known_after);
        assert_eq!(confirmed(&told), None, "known after {known_after}");
        let last = &told[told.len() - 1];
        assert!(last.findings.iter().any(|found| found.symptom && found.culprit.service == "bank"), "{}", last.summary);
    }
}

#[test]
fn what_is_the_deploys_own_waits_for_its_traces_no_longer_than_two_buckets() {
    for failing in [1.0, 0.3, 0.1] {
        let at_once = confirmed(&looked_at(failing, false, 0)).expect("it fails by itself");
        for known_after in [1, 12] {
            let told = looked_at(failing, false, known_after);
            let later = confirmed(&told).expect("it fails by itself");
            assert!(later <= at_once + 2, "{failing}, known after {known_after}: {later} for {at_once}");
            assert_eq!(told[later].findings[0].culprit.service, "payment");
        }
    }
    assert_eq!(confirmed(&looked_at(1.0, false, 0)), Some(0), "where it is known nothing is waited for");
}
