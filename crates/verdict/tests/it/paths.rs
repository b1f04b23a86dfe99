//! Versions of all who took part: callees that answer wrongly and say nothing, and two deploys at once.

use plimsoll_model::aggregates::{Participant, PathCell, PathSeries};
use plimsoll_model::{Bucket, Design, ServiceKey, SignalKind, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge};

use crate::simulation::{START, Scenario, simulate};

fn participant(service: &str, version: &str) -> Participant {
    Participant { namespace: String::new(), service: service.to_owned(), version: version.to_owned() }
}

/// Traces of `gateway GET /checkout` through payment and cart in the given versions: per bucket, and how many fail.
fn path(payment: &str, cart: &str, buckets: std::ops::Range<u64>, traces: u64, failed: u64) -> PathSeries {
    PathSeries {
        entry: ServiceKey::new("prod", "gateway"),
        operation: "GET /checkout".to_owned(),
        path: vec![participant("cart", cart), participant("gateway", "1"), participant("payment", payment)],
        cells: buckets.map(|b| (Bucket(b), PathCell { traces, failed, ..PathCell::default() })).collect(),
    }
}

fn harmless(share: f64) -> JudgeInput {
    simulate(&Scenario { share, errors: 0.002, before_s: 1_200, after_s: 600, ..Scenario::default() }, 31)
}

#[test]
fn a_callee_that_answers_wrongly_and_says_nothing_is_found_through_its_callers() {
    for (share, design) in [(0.5, Design::Concurrent), (1.0, Design::BeforeAfter)] {
        let mut input = harmless(share);
        let traces = |failed| {
            let mut all =
                vec![path("1", "1", START - 120..START, 200, 2), path("2", "1", START..START + 60, 100, failed)];
            if share < 1.0 {
                all.push(path("1", "1", START..START + 60, 100, 1));
            }
            all
        };
        input.aggregates.paths = traces(1);
        let verdict = judge(&input);
        assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
        input.aggregates.paths = traces(15);
        let verdict = judge(&input);
        assert_eq!((verdict.verdict, verdict.design), (VerdictKind::Regressed, design), "{}", verdict.summary);
        let found = &verdict.findings[0];
        assert_eq!((found.signal, found.service.as_str()), (SignalKind::ErrorRate, "gateway"));
        assert_eq!((found.culprit.service.as_str(), found.culprit.version.as_str()), ("payment", "2"));
        assert!(
            found.summary.starts_with("gateway `GET /checkout` fails 15.0 % of calls with payment 2 against 1.0 % ")
        );
        assert!(
            found.sql.contains("kind = 'path'") && found.sql.contains("party['version'] IN ('2')"),
            "{}",
            found.sql
        );
    }
}

/// Of 100 traces in ten seconds those that meet both new versions are many: the rollouts go hand in hand.
fn hand_in_hand(fails: impl Fn(&str, &str) -> bool) -> Vec<PathSeries> {
    let mut all = vec![path("1", "1", START - 120..START, 100, 1)];
    for (payment, cart, traces) in [("1", "1", 40), ("2", "2", 40), ("1", "2", 10), ("2", "1", 10)] {
        let failed = if fails(payment, cart) { traces / 5 } else { 0 };
        all.push(path(payment, cart, START..START + 60, traces, failed));
    }
    all
}

#[test]
fn of_two_deploys_at_once_the_innocent_one_is_not_blamed() {
    let mut input =
        simulate(&Scenario { share: 0.5, error_effect: 5.0, before_s: 1_200, after_s: 600, ..Scenario::default() }, 32);
    // The deploy's own numbers are bad: most of its requests meet the bad cart.
    input.aggregates.paths = hand_in_hand(|_, cart| cart == "2");
    let innocent = judge(&input);
    assert_ne!(innocent.verdict, VerdictKind::Regressed, "{}", innocent.summary);
    let found = &innocent.findings[0];
    assert!(found.symptom, "{}", found.summary);
    assert_eq!((found.culprit.service.as_str(), found.culprit.version.as_str()), ("cart", "2"));

    input.aggregates.paths = hand_in_hand(|payment, _| payment == "2");
    let guilty = judge(&input);
    assert_eq!(guilty.verdict, VerdictKind::Regressed, "{}", guilty.summary);
    assert_eq!(guilty.findings[0].culprit.service, "payment");
}
