//! A callee that fails and is done without, or called again: nothing that its caller is rolled back for.

use plimsoll_model::log::{Level, LogCell, LogSeries};
use plimsoll_model::signal::{CalleeTime, ExceptionCount, Fingerprint, LOG_UNIT, OperationCell, Party};
use plimsoll_model::{Bucket, DeployKind, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::restarts::presence;
use crate::simulation::{START, Scenario, looked_at, of_bank, party, simulate};

/// What the caller makes of calls in the buckets in which something is wrong.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    /// It throws and catches an exception, and answers well.
    Without,
    /// It calls twice more.
    Again,
}

/// A service that calls a bank once a request. From three to six minutes after the start `failing` of the bank's requests fail, and
/// the service makes of that share of its calls what it does.
fn judged(does: Does, wrong: f64, failing: f64, share: f64) -> Verdict {
    let scenario = Scenario { share, rate: 20.0, errors: 0.002, before_s: 3_600, after_s: 600, ..Scenario::default() };
    let mut input = simulate(&scenario, 19);
    let is_wrong = |bucket: Bucket| (START + 18..START + 36).contains(&bucket.0);
    let mut served: std::collections::BTreeMap<Bucket, u64> = Default::default();
    for series in &mut input.series {
        for (bucket, cell) in &mut series.cells {
            let bad = if is_wrong(*bucket) && (series.key.version == "2" || does == Does::Again) {
                (wrong * cell.requests as f64).round() as u64
            } else {
                0
            };
            let calls = cell.requests + if does == Does::Again { 2 * bad } else { 0 };
            let bank = Party {
                namespace: String::new(),
                service: "bank".to_owned(),
                version: "7".to_owned(),
                operation: "POST /charge".to_owned(),
            };
            cell.assembled = cell.requests;
            cell.self_time_ns = cell.requests * 30_000_000;
            cell.callees = [(bank, CalleeTime { calls, critical_ns: calls * 20_000_000 })].into();
            if does == Does::Without && bad > 0 {
                let thrown = ExceptionCount {
                    exception_type: "com.shop.BankException".to_owned(),
                    message: "503 from the bank".to_owned(),
                    count: bad,
                };
                cell.exceptions.insert(Fingerprint(77), thrown);
            }
            if does == Does::Again && bad > 0 {
                let all = cell.latency.count();
                cell.latency = Default::default();
                (0..all).for_each(|n| cell.latency.record(if n < bad { 90 } else { 40 + n % 30 } * 1_000_000));
            }
            *served.entry(*bucket).or_default() += calls;
        }
    }
    let cells = served.into_iter().map(|(bucket, requests)| {
        let errors = if is_wrong(bucket) { (failing * requests as f64).round() as u64 } else { 0 };
        (bucket, OperationCell { requests, errors, assembled: requests, ..OperationCell::default() })
    });
    input.related = vec![of_bank(cells)];
    judge(&input)
}

#[test]
fn what_a_caller_throws_and_catches_while_its_callee_fails_is_the_callees() {
    for wrong in [1.0, 0.2] {
        let verdict = judged(Does::Without, wrong, wrong, 1.0);
        assert_ne!(verdict.verdict, VerdictKind::Regressed, "{wrong}: {}", verdict.summary);
        let own = judged(Does::Without, wrong, 0.0, 1.0);
        assert_eq!(own.verdict, VerdictKind::Regressed, "the bank is well: {}", own.summary);
        assert!(own.summary.contains("BankException"), "{}", own.summary);
    }
    let canary = judged(Does::Without, 0.2, 0.2, 0.5);
    assert_eq!(canary.verdict, VerdictKind::Regressed, "the control throws nothing meanwhile: {}", canary.summary);
    let more = judged(Does::Without, 0.8, 0.05, 1.0);
    assert_eq!(more.verdict, VerdictKind::Regressed, "far more than fails there: {}", more.summary);
}

#[test]
fn calls_that_are_made_again_and_the_time_they_take_are_the_callees() {
    // Of three calls of a request all failed but the last, or that one as well.
    let verdict = judged(Does::Again, 1.0, 0.8, 1.0);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let words = &verdict.data_quality;
    assert!(words.iter().any(|word| word == quality::CALLEE_FAILING), "{words:?} {}", verdict.summary);
    let own = judged(Does::Again, 1.0, 0.0, 1.0);
    assert_eq!(own.verdict, VerdictKind::Regressed, "the bank is well: {}", own.summary);
    let some = judged(Does::Again, 0.5, 0.4, 1.0);
    assert_ne!(some.verdict, VerdictKind::Regressed, "{}", some.summary);
}

/// A service that throws and catches what it never threw in a share of its requests, while a share of the requests of a bank that it calls
/// fails: both by bucket since the start. Looks at it in the buckets given; returns the first look that calls it regressed, else the last.
fn watched(thrown: impl Fn(u64) -> f64, failing: impl Fn(Option<u64>) -> f64, looks: &[u64]) -> Verdict {
    let after_s = 10 * looks[looks.len() - 1] + 10;
    let scenario = Scenario { share: 1.0, rate: 20.0, errors: 0.0, before_s: 3_600, after_s, ..Scenario::default() };
    let mut input = simulate(&scenario, 29);
    let bank = Party {
        namespace: String::new(),
        service: "bank".to_owned(),
        version: "7".to_owned(),
        operation: "POST /charge".to_owned(),
    };
    let mut cells = Vec::new();
    for (bucket, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells) {
        let (since, requests) = (bucket.0.checked_sub(START), cell.requests);
        cell.assembled = requests;
        cell.callees = [(bank.clone(), CalleeTime { calls: requests, critical_ns: requests * 20_000_000 })].into();
        let count = since.map_or(0, |since| (thrown(since) * requests as f64).round() as u64);
        if count > 0 {
            let exception_type = "com.shop.BankException".to_owned();
            cell.exceptions.insert(
                Fingerprint(77),
                ExceptionCount { exception_type, message: "503 from the bank".to_owned(), count },
            );
        }
        // Failures come in clumps that add up to the share.
        let share = failing(since);
        let so_far = |n: u64| (share * (n * requests) as f64).floor() as u64;
        let errors = so_far(bucket.0 % 10 + 1) - so_far(bucket.0 % 10);
        cells.push((*bucket, OperationCell { requests, errors, assembled: requests, ..OperationCell::default() }));
    }
    cells.sort_by_key(|(bucket, _)| *bucket);
    input.related = vec![of_bank(cells.into_iter())];
    let mut last = None;
    for look in looks {
        let verdict = judge(&JudgeInput { now: Bucket(START + look + 1).start(), ..input.clone() });
        let regressed = verdict.verdict == VerdictKind::Regressed;
        last = Some(verdict);
        if regressed {
            break;
        }
    }
    last.expect("looked at")
}

#[test]
fn what_is_thrown_once_the_callee_is_well_again_is_the_callers_own() {
    let outage = |since: Option<u64>| if since.is_some_and(|since| (2..20).contains(&since)) { 1.0 } else { 0.0 };
    for bug in [0.02, 0.05] {
        let verdict = watched(|_| bug, outage, &[10, 20, 30, 40, 60]);
        assert_eq!(verdict.verdict, VerdictKind::Regressed, "{bug}: {}", verdict.summary);
    }
    let meanwhile = |since: u64| if (2..20).contains(&since) { 1.0 } else { 0.0 };
    let verdict = watched(meanwhile, outage, &[4, 10, 20, 30, 60]);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
}

#[test]
fn an_outage_that_was_the_callees_stays_the_callees_however_long_all_is_well() {
    // Two in a hundred fail at any time, and some more for a while.
    let blip = |since: u64| (30..34).contains(&since);
    let failing = |since: Option<u64>| if since.is_some_and(blip) { 0.1 } else { 0.02 };
    let verdict = watched(|since| if blip(since) { 0.08 } else { 0.0 }, failing, &[32, 36, 60, 90, 120, 150, 178]);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
}

#[test]
fn what_the_candidate_fails_by_itself_is_found_after_an_outage_of_its_callee() {
    for (defect, found_by) in [(0, None), (20, Some(40))] {
        let mut input = with_outage(2..20, 900);
        for series in input.series.iter_mut().filter(|series| series.key.version == "2" && defect > 0) {
            let own = party("payment", "2", &series.key.operation);
            for (bucket, cell) in &mut series.cells {
                // One request in twenty.
                let failed = (cell.requests + bucket.0 % 20) / defect;
                cell.errors += failed;
                *cell.blame.entry(own.clone()).or_default() += failed;
            }
        }
        let told = looked_at(&mut input, 2);
        let found = told.iter().position(|verdict| verdict.verdict == VerdictKind::Regressed);
        match found_by {
            None => assert_eq!(found, None, "{}", told[found.unwrap_or(0)].summary),
            Some(by) => {
                assert!(found.is_some_and(|looks| 2 * looks < by), "{found:?}: {}", told[told.len() - 1].summary)
            }
        }
    }
}

/// A service all of which was replaced at once, whose bank fails half of its calls in a stretch of buckets since the start; and the bank.
fn with_outage(outage: std::ops::Range<u64>, after_s: u64) -> JudgeInput {
    let scenario = Scenario { share: 1.0, rate: 20.0, errors: 0.003, before_s: 3_600, after_s, ..Scenario::default() };
    let mut input = simulate(&scenario, 23);
    let is_ill = |bucket: Bucket| bucket.0.checked_sub(START).is_some_and(|since| outage.contains(&since));
    let mut bank: std::collections::BTreeMap<Bucket, OperationCell> = Default::default();
    for series in &mut input.series {
        let own = party("payment", &series.key.version, &series.key.operation);
        for (bucket, cell) in &mut series.cells {
            let passed_on = if is_ill(*bucket) { cell.requests / 2 } else { 0 };
            cell.assembled = cell.requests;
            cell.blame = [(own.clone(), cell.errors), (party("bank", "7", "POST /charge"), passed_on)].into();
            cell.blame.retain(|_, count| *count > 0);
            cell.errors += passed_on;
            let time = CalleeTime { calls: cell.requests, critical_ns: 1_000 };
            cell.callees = [(party("bank", "7", "POST /charge"), time)].into();
            let served = bank.entry(*bucket).or_default();
            (served.requests, served.errors) = (served.requests + cell.requests, served.errors + passed_on);
        }
    }
    input.related = vec![of_bank(bank.into_iter())];
    input
}

#[test]
fn who_fails_before_it_calls_is_found_as_soon_however_many_requests_that_are() {
    for share in [0.1, 0.4, 0.9] {
        let mut input = with_outage(2..20, 900);
        for (bucket, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells) {
            if bucket.0 < START + 40 {
                continue;
            }
            let failed = (share * cell.requests as f64) as u64;
            cell.errors += failed;
            *cell.blame.entry(party("payment", "2", "GET /0")).or_default() += failed;
            cell.callees.values_mut().for_each(|time| time.calls -= failed);
        }
        let told = looked_at(&mut input, 1);
        let found = told.iter().position(|verdict| verdict.verdict == VerdictKind::Regressed);
        let last = &told[told.len() - 1].summary;
        assert!(found.is_some_and(|bucket| (40..52).contains(&bucket)), "{share}: {found:?} {last}");
    }
}

#[test]
fn what_a_change_of_configuration_logs_of_its_callees_outage_is_the_callees() {
    for (outage, regressed) in [(12..36, false), (0..0, true)] {
        let mut input = with_outage(outage.clone(), 600);
        input.deploy.kind = DeployKind::Config;
        input.deploy.version = "1".to_owned();
        input.series.iter_mut().for_each(|series| series.key.version = "1".to_owned());
        let mut logged: std::collections::BTreeMap<Bucket, LogCell> = Default::default();
        for (bucket, cell) in input.series.iter().flat_map(|series| &series.cells) {
            // One in fifty fails at any time, and in the second case more of them for no reason.
            let more = outage.is_empty() && bucket.0 >= START + 12;
            let count = if more { cell.requests / 2 } else { cell.requests / 50 + cell.errors };
            logged.entry(*bucket).or_default().count += count;
        }
        input.aggregates.logs = vec![LogSeries {
            version: "1".to_owned(),
            template: "payment failed, answered <*>".to_owned(),
            level: Level::Warn,
            first_seen: Bucket(0).start(),
            cells: logged.into_iter().collect(),
        }];
        let told = looked_at(&mut input, 3);
        let found = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
        assert_eq!(found.is_some(), regressed, "{outage:?}: {:?}", found.map(|verdict| &verdict.summary));
    }
}

#[test]
fn instances_that_are_killed_while_a_callee_fails_are_its_symptom() {
    for (outage, regressed) in [(12..60, false), (0..0, true)] {
        let mut input = with_outage(outage.clone(), 900);
        let killed = |bucket: u64| (START + 15..START + 58).contains(&bucket) && bucket.is_multiple_of(6);
        let old = presence("1", START - 360, START, |_| false);
        input.aggregates.presence =
            vec![old, presence("2", START, START + 90, |bucket| bucket == START || killed(bucket))];
        let told = looked_at(&mut input, 3);
        let found = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
        assert_eq!(found.is_some(), regressed, "{outage:?}: {:?}", found.map(|verdict| &verdict.summary));
    }
}

/// Adds requests of others to the bank, so many a bucket, of which a share fails in some buckets since the start.
fn with_others(input: &mut JudgeInput, calls: impl Fn(u64) -> u64, failing: f64, when: std::ops::Range<u64>) {
    for (bucket, cell) in &mut input.related[0].cells {
        let since = bucket.0.checked_sub(START);
        let ill = since.is_some_and(|since| when.contains(&since));
        let more = calls(since.unwrap_or(0));
        cell.requests += more;
        cell.assembled += more;
        cell.errors += if ill { (more as f64 * failing).round() as u64 } else { 0 };
    }
}

#[test]
fn a_callee_that_fails_while_it_serves_others_well_fails_because_of_the_deploy() {
    let told = |outage: std::ops::Range<u64>, change: &dyn Fn(&mut JudgeInput)| {
        let mut input = with_outage(outage, 900);
        change(&mut input);
        let told = looked_at(&mut input, 3);
        let found = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
        found.map(|verdict| verdict.findings[0].culprit.service.clone())
    };
    let own = Some("payment".to_owned());
    let always = 0..90;
    assert_eq!(told(always.clone(), &|input| with_others(input, |_| 40, 0.0, 0..0)), own, "others are served well");
    assert_eq!(told(always.clone(), &|input| with_others(input, |_| 40, 0.1, 0..90)), own, "a tenth, and half here");
    assert_eq!(
        told(always.clone(), &|input| with_others(input, |_| 40, 0.5, 0..90)),
        None,
        "it fails for them as well"
    );
    assert_eq!(told(12..30, &|input| with_others(input, |_| 40, 0.5, 12..30)), None, "it does so for a while");
    assert_eq!(told(always.clone(), &|_| ()), None, "nobody else calls it");
    // What begins minutes later has another cause, though others are served well: one bad instance, or a version of the bank's.
    assert_eq!(
        told(24..90, &|input| with_others(input, |_| 40, 0.0, 0..0)),
        None,
        "it served the candidate well at first"
    );
    // They hardly call it meanwhile, or call it in batches afterwards.
    let breaker = |since: u64| if (12..36).contains(&since) { 2 } else { 40 };
    assert_eq!(told(12..36, &|input| with_others(input, breaker, 0.5, 12..36)), None, "a breaker of theirs is open");
    let batch = |since: u64| if since >= 30 { 400 } else { 10 };
    assert_eq!(told(12..24, &|input| with_others(input, batch, 0.5, 12..24)), None, "a batch comes once it is well");
    // The bank is reached through another callee as well.
    let nested = |input: &mut JudgeInput| {
        with_others(input, |_| 40, 0.0, 0..0);
        let mut vault = input.related[0].clone();
        vault.key.service.service = "vault".to_owned();
        for (_, cell) in &mut vault.cells {
            cell.callees.insert(party("bank", "7", "POST /charge"), CalleeTime { calls: 1, critical_ns: 1 });
        }
        input.related.push(vault);
    };
    assert_eq!(told(always, &nested), None, "whose calls these are is not known");
}

#[test]
fn who_is_filled_up_by_a_slow_callee_turns_requests_away_and_lets_them_wait_for_nothing_of_its_own() {
    let each = [
        // From which bucket on; milliseconds that a call takes, and those of others; requests turned away, milliseconds that requests wait; whether it is the deploy's.
        (18, 242, 242, 0.3, 0, false),
        (18, 242, 242, 0.05, 0, false),
        (18, 242, 242, 0.0, 400, false),
        (18, 242, 12, 0.3, 0, false),
        (0, 242, 242, 0.3, 0, false),
        (0, 242, 12, 0.3, 0, true),
        (0, 242, 12, 0.0, 400, true),
        (18, 12, 12, 0.3, 0, true),
        (18, 12, 12, 0.0, 400, true),
    ];
    for (from, slow, others, turned_away, waits_ms, own) in each {
        let mut input = with_outage(0..0, 900);
        for (bucket, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells) {
            let ill = (START + from..START + 42).contains(&bucket.0);
            let gone = if ill { (turned_away * cell.requests as f64).round() as u64 } else { 0 };
            let waits = if ill { waits_ms } else { 0 };
            cell.errors += gone;
            *cell.blame.entry(party("payment", "2", "GET /0")).or_default() += gone;
            cell.blame.retain(|_, count| *count > 0);
            cell.self_time_ns = cell.requests * (30 + waits) * 1_000_000;
            let ms = if ill { slow } else { 12 };
            for time in cell.callees.values_mut() {
                time.calls -= gone;
                time.critical_ns = time.calls * ms * 1_000_000;
            }
            if waits > 0 {
                let all = cell.latency.count();
                cell.latency = Default::default();
                (0..all).for_each(|n| cell.latency.record((30 + ms + waits + n % 30) * 1_000_000));
                cell.log_latency_sum += all as i64 * ((((30 + ms + waits) as f64 / 50.0).ln()) * LOG_UNIT) as i64;
            }
        }
        for (bucket, cell) in &mut input.related[0].cells {
            let ill = (START + from..START + 42).contains(&bucket.0);
            let [own, theirs] = if ill { [slow, others] } else { [12; 2] };
            cell.requests -= if ill { (turned_away * cell.requests as f64).round() as u64 } else { 0 };
            (0..cell.requests).for_each(|_| cell.latency.record(own * 1_000_000));
            (0..40).for_each(|_| cell.latency.record(theirs * 1_000_000));
            (cell.requests, cell.assembled) = (cell.requests + 40, cell.assembled + 40);
        }
        let told = looked_at(&mut input, 2);
        let found = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
        let what = (from, slow, others, turned_away, waits_ms);
        assert_eq!(found.is_some(), own, "{what:?}: {:?}", found.map(|verdict| &verdict.summary));
    }
}

#[test]
fn what_fails_minutes_after_a_callee_became_slow_for_good_is_the_deploys_own() {
    for (turned_away_from, found) in [(18, false), (60, true)] {
        let mut input = with_outage(0..0, 1_500);
        for (bucket, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells) {
            let since = bucket.0.saturating_sub(START);
            let slow = since >= 18;
            let gone = if since >= turned_away_from { cell.requests / 10 } else { 0 };
            cell.errors += gone;
            *cell.blame.entry(party("payment", "2", "GET /0")).or_default() += gone;
            cell.blame.retain(|_, count| *count > 0);
            for time in cell.callees.values_mut() {
                time.calls -= gone;
                time.critical_ns = time.calls * if slow { 242 } else { 12 } * 1_000_000;
            }
        }
        for (bucket, cell) in &mut input.related[0].cells {
            let ms = if bucket.0 >= START + 18 { 242 } else { 12 };
            (cell.requests, cell.assembled) = (cell.requests + 40, cell.assembled + 40);
            (0..cell.requests).for_each(|_| cell.latency.record(ms * 1_000_000));
        }
        let told = looked_at(&mut input, 6);
        let regressed = told.iter().any(|verdict| verdict.verdict == VerdictKind::Regressed);
        assert_eq!(regressed, found, "{turned_away_from}: {}", told[told.len() - 1].summary);
    }
}
