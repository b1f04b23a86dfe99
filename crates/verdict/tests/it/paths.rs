//! Versions of all who took part: callees that answer wrongly and say nothing, and two deploys at once.

use plimsoll_model::aggregates::{Participant, PathCell, PathSeries};
use plimsoll_model::signal::{CalleeTime, Party};
use plimsoll_model::{Bucket, Design, ServiceKey, SignalKind, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge};

use crate::simulation::{START, Scenario, gateway, party, simulate};

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
        assert!(found.sql.contains("kind = 'path'") && found.sql.contains("version IN ('2')"), "{}", found.sql);
    }
}

#[test]
fn what_fails_at_another_callee_of_the_same_requests_is_not_the_deploys() {
    // The cart fails, with spans or without; or nobody but the gateway itself, whatever it was told.
    for (blamed, unanswered, verdict) in [
        (party("cart", "1", "POST /cart"), None, VerdictKind::Inconclusive),
        (party("gateway", "1", "GET /checkout"), Some(party("cart", "", "")), VerdictKind::Inconclusive),
        (party("gateway", "1", "GET /checkout"), None, VerdictKind::Regressed),
    ] {
        let mut input = harmless(1.0);
        let outage = START + 12..START + 36;
        let failed = |bucket: &u64| if outage.contains(bucket) { 30 } else { 1 };
        input.aggregates.paths = vec![path("1", "1", START - 120..START, 100, 1)];
        for bucket in START..START + 60 {
            input.aggregates.paths.push(path("2", "1", bucket..bucket + 1, 100, failed(&bucket)));
        }
        let mut caller = gateway(&input, START + 60);
        for (bucket, cell) in &mut caller.cells {
            cell.callees.insert(party("cart", "1", "POST /cart"), CalleeTime { calls: 99, critical_ns: 1 });
            if outage.contains(&bucket.0) {
                cell.errors = 29;
                cell.blame.insert(blamed.clone(), 29);
                if let Some(down) = &unanswered {
                    cell.callees.insert(down.clone(), CalleeTime { calls: 29, critical_ns: 1 });
                }
            }
        }
        input.related = vec![caller];
        let told = judge(&input);
        assert_eq!(told.verdict, verdict, "{blamed:?} {unanswered:?}: {}", told.summary);
        if verdict == VerdictKind::Inconclusive {
            let found = told.findings.iter().find(|finding| finding.symptom).expect("it is shown");
            assert_eq!(found.culprit.service, "cart");
        }
    }
}

/// Of 500 traces in ten seconds those that meet both new versions are many: the rollouts go hand in hand. Of some the top
/// fails, of some payment.
fn hand_in_hand(top: impl Fn(&str, &str) -> bool, own: impl Fn(&str, &str) -> bool) -> Vec<PathSeries> {
    let mut all = vec![path("1", "1", START - 120..START, 500, 5)];
    for (payment, cart, traces) in [("1", "1", 200), ("2", "2", 200), ("1", "2", 50), ("2", "1", 50)] {
        let failed = |fails: bool| if fails { traces / 5 } else { 0 };
        let mut series = path(payment, cart, START..START + 60, traces, failed(top(payment, cart)));
        for (_, cell) in &mut series.cells {
            cell.failed_within.insert("payment".to_owned(), failed(own(payment, cart)));
        }
        all.push(series);
    }
    all
}

#[test]
fn of_two_deploys_at_once_the_innocent_one_is_not_blamed() {
    let mut input =
        simulate(&Scenario { share: 0.5, error_effect: 5.0, before_s: 1_200, after_s: 600, ..Scenario::default() }, 32);
    // The deploy's own numbers are bad: most of its requests meet the bad cart.
    let (by_cart, by_payment) = (|_: &str, cart: &str| cart == "2", |payment: &str, _: &str| payment == "2");
    input.aggregates.paths = hand_in_hand(by_cart, by_cart);
    let innocent = judge(&input);
    assert_ne!(innocent.verdict, VerdictKind::Regressed, "{}", innocent.summary);
    let found = &innocent.findings[0];
    assert!(found.symptom, "{}", found.summary);
    assert_eq!((found.culprit.service.as_str(), found.culprit.version.as_str()), ("cart", "2"));

    input.aggregates.paths = hand_in_hand(by_payment, by_payment);
    let guilty = judge(&input);
    assert_eq!(guilty.verdict, VerdictKind::Regressed, "{}", guilty.summary);
    assert_eq!(guilty.findings[0].culprit.service, "payment");
}

#[test]
fn failures_that_a_caller_swallows_are_not_excused_by_what_fails_at_the_top() {
    let mut input =
        simulate(&Scenario { share: 0.5, error_effect: 5.0, before_s: 1_200, after_s: 600, ..Scenario::default() }, 32);
    let (by_cart, by_payment) = (|_: &str, cart: &str| cart == "2", |payment: &str, _: &str| payment == "2");
    // At the top everything goes with the cart; what payment fails at itself goes with payment.
    input.aggregates.paths = hand_in_hand(by_cart, by_payment);
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert_eq!(verdict.findings[0].culprit.service, "payment");
    // Nor where most of what fails is in no path at all, or paths do not say which services failed.
    input.aggregates.paths = hand_in_hand(by_cart, by_cart);
    for series in &mut input.aggregates.paths {
        series.cells.retain(|(bucket, _)| bucket.0 % 5 == 0);
    }
    assert_eq!(judge(&input).verdict, VerdictKind::Regressed);
    input.aggregates.paths = hand_in_hand(by_cart, by_cart);
    for (_, cell) in input.aggregates.paths.iter_mut().flat_map(|series| &mut series.cells) {
        cell.failed_within.clear();
    }
    assert_eq!(judge(&input).verdict, VerdictKind::Regressed);
}

#[test]
fn what_a_callee_breaks_is_not_held_against_the_deploy_between_it_and_the_top() {
    let after = Scenario { share: 1.0, error_effect: 15.0, before_s: 1_200, after_s: 600, ..Scenario::default() };
    let mut input = simulate(&after, 33);
    // Before and since, what fails in payment fails because of the bank, which breaks as payment is deployed.
    let bank = Party {
        namespace: String::new(),
        service: "bank".to_owned(),
        version: "7".to_owned(),
        operation: "POST /transfers".to_owned(),
    };
    for (_, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells).filter(|(_, cell)| cell.errors > 0) {
        cell.blame.insert(bank.clone(), cell.errors);
    }
    // Of the traces whose top fails, in how many hundredths payment does, too.
    let top = |failed: u64, with_payment: u64| {
        let mut all =
            vec![path("1", "1", START - 120..START, 1_000, 10), path("2", "1", START..START + 60, 1_000, failed)];
        for (_, cell) in all.iter_mut().flat_map(|series| &mut series.cells) {
            // Whatever its callers make of it, payment itself fails as often.
            cell.failed_within.insert("payment".to_owned(), cell.failed);
            cell.failed_both.insert("payment".to_owned(), cell.failed * with_payment / 100);
        }
        all
    };
    input.aggregates.paths = top(150, 100);
    let verdict = judge(&input);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let culprits: Vec<&str> = verdict.findings.iter().map(|finding| finding.culprit.service.as_str()).collect();
    assert!(!culprits.is_empty() && culprits.iter().all(|culprit| *culprit == "bank"), "{culprits:?}");
    // What the bank does not account for is the deploy's own.
    let guilty = |input: &JudgeInput| {
        let verdict = judge(input);
        assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
        assert_eq!(verdict.findings[0].culprit.service, "payment");
    };
    input.aggregates.paths = top(600, 100);
    guilty(&input);
    // Nor do failures that callers swallowed excuse others, although there are as many of them; nor those of which nobody
    // counted whether they were.
    input.aggregates.paths = top(150, 30);
    guilty(&input);
    input.aggregates.paths = top(150, 100);
    for (_, cell) in input.aggregates.paths.iter_mut().flat_map(|series| &mut series.cells) {
        cell.failed_both.clear();
    }
    guilty(&input);
}
