//! A callee that goes down while its caller's deploy is watched: failures are counted as their spans come, and where they began is
//! known once their traces are closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use plimsoll_catalog::{Catalog, DeployFilter, SqliteCatalog};
use plimsoll_model::{UnixNanos, Verdict, VerdictKind};
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_watch::WatchOptions;

use crate::telemetry::{fold, options, watcher};

/// The second at which the shop's version 2 takes over.
const DEPLOY: u64 = 1_800_002_400;
/// Orders a second.
const ORDERS: u64 = 12;

/// Whose fault it is that orders fail.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The callee fails each of them.
    Callee,
    /// The shop fails one in so many by itself.
    Own(u64),
    /// The callee takes four seconds for each, and the shop waits for one.
    Slow,
    /// The shop waits for less than the callee takes at any time.
    Impatient,
}

impl Fault {
    /// Milliseconds that the shop waits for the callee in vain, and that the callee takes.
    fn waits_and_takes(self) -> Option<[u64; 2]> {
        match self {
            Self::Callee | Self::Own(_) => None,
            Self::Slow => Some([1_000, 4_000]),
            Self::Impatient => Some([10, 14]),
        }
    }
}

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

/// The orders of the seconds `from..to`, received at its end; from the second `down` on the fault shows.
fn send(state: &Mutex<SignalState>, from: u64, to: u64, down: u64, fault: Fault) {
    let mut services: [(&str, &str, Vec<String>); 3] =
        [("shop", "1", vec![]), ("shop", "2", vec![]), ("pay", "7", vec![])];
    for (second, n) in (from..to).flat_map(|second| (0..ORDERS).map(move |n| (second, n))) {
        let number = second * ORDERS + n;
        let broken = second >= down;
        let called = broken && fault == Fault::Callee;
        let own = broken && matches!(fault, Fault::Own(every) if number.is_multiple_of(every));
        // A few fail by themselves at any time.
        let given_up = fault.waits_and_takes().filter(|_| broken);
        let failed = called || own || given_up.is_some() || number.wrapping_mul(2_654_435_761) % 500 == 7;
        let end = second * 1_000_000_000 + n * 80_000_000 + 40_000_000;
        let span = |number: u64, id: u64, parent: u64, name: &str, kind: u64, [start, end]: [u64; 2], failed: bool| {
            let parent = if parent == 0 { String::new() } else { format!(r#""parentSpanId":"{parent:016x}","#) };
            let code = if failed { 2 } else { 1 };
            let meant = if kind == 3 { r#"{"key":"server.address","value":{"stringValue":"pay"}}"# } else { "" };
            format!(
                r#"{{"traceId":"{number:032x}","spanId":"{id:016x}",{parent}"name":"{name}","kind":{kind},"startTimeUnixNano":"{start}",
                "endTimeUnixNano":"{end}","attributes":[{meant}],"status":{{"code":{code}}}}}"#
            )
        };
        let ids = |number: u64| [1, 2, 3].map(|part| number * 4 + part);
        let [root, call, charge] = ids(number);
        let shop = &mut services[usize::from(second >= DEPLOY)].2;
        let waits = given_up.map_or(20, |[waits, _]| waits) * MS;
        let started = end - 10 * MS - waits - number % 9 * MS;
        shop.push(span(number, root, 0, "POST /order", 2, [started, end], failed));
        shop.push(span(
            number,
            call,
            root,
            "POST",
            3,
            [end - 5 * MS - waits, end - 5 * MS],
            called || given_up.is_some(),
        ));
        // Spans are sent once they have ended.
        let takes = fault.waits_and_takes().map_or(14, |[_, takes]| takes);
        let late = takes / 1_000;
        if late == 0 || !broken {
            let from = end - 3 * MS - waits;
            services[2].2.push(span(number, charge, call, "POST /charge", 2, [from, from + 14 * MS], called));
        }
        if late > 0 && second >= down + late {
            let (earlier, waits) = (number - late * ORDERS, 1_000 * MS);
            let [_, call, charge] = ids(earlier);
            let from = end - late * 1_000 * MS - 3 * MS - waits;
            let spans = &mut services[2].2;
            spans.push(span(earlier, charge, call, "POST /charge", 2, [from, from + takes * MS], false));
        }
    }
    for (service, version, spans) in services.iter().filter(|(.., spans)| !spans.is_empty()) {
        fold(state, service, version, spans, to);
    }
}

/// Looks every five seconds for a minute after the fault, which shows so long after the deploy; returns what was said.
async fn judged(after: u64, fault: Fault) -> Vec<Verdict> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("catalog.db");
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(path).await.expect("opens"));
    let state = Arc::new(Mutex::new(SignalState::new(SignalLimits::default())));
    let options = WatchOptions { infer_deploys: true, ..options() };
    let clock = Arc::new(AtomicU64::new(0));
    let watcher = watcher(options, catalog.clone(), &state, &clock).await;
    let down = DEPLOY + after;
    let mut told = Vec::new();
    for at in (DEPLOY - 2_400..down + 60).step_by(5) {
        send(&state, at, at + 5, down, fault);
        clock.store(at + 5, Ordering::SeqCst);
        watcher.tick().await;
        for deploy in catalog.deploys(&DeployFilter::default()).await.expect("readable") {
            if deploy.service.service == "shop" && deploy.version == "2" {
                told.extend(watcher.verdict(&deploy.id).await.expect("readable"));
            }
        }
    }
    told
}

#[tokio::test]
async fn an_outage_of_a_callee_rolls_back_nobody_who_calls_it() {
    for after in [180, 184, 188] {
        is_the_callees(after, Fault::Callee).await;
    }
}

#[tokio::test]
async fn a_callee_that_is_too_slow_rolls_back_nobody_who_calls_it() {
    for after in [180, 186] {
        is_the_callees(after, Fault::Slow).await;
    }
}

async fn is_the_callees(after: u64, fault: Fault) {
    let told = judged(after, fault).await;
    for verdict in &told {
        let at = verdict.evaluated_at.since(UnixNanos::from_secs(DEPLOY + after)).as_secs();
        assert_ne!(verdict.verdict, VerdictKind::Regressed, "{at} s after {after}: {}", verdict.summary);
    }
    let last = &told[told.len() - 1];
    assert!(last.findings.iter().any(|f| f.symptom && f.culprit.service == "pay"), "{}", last.summary);
}

#[tokio::test]
async fn a_timeout_that_is_too_short_for_a_callee_that_is_well_is_the_callers() {
    let told = judged(180, Fault::Impatient).await;
    let bad = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed).expect("it fails by itself");
    assert_eq!(bad.findings[0].culprit.service, "shop", "{}", bad.summary);
}

#[tokio::test]
async fn what_the_caller_fails_by_itself_waits_for_its_traces_and_no_longer() {
    for (every, within) in [(1, 40), (4, 50)] {
        let told = judged(180, Fault::Own(every)).await;
        let bad = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed).expect("it fails by itself");
        let after = bad.evaluated_at.since(UnixNanos::from_secs(DEPLOY + 180)).as_secs();
        assert!(after <= within, "{after} s, one in {every}: {}", bad.summary);
        assert_eq!(bad.findings[0].culprit.service, "shop", "{}", bad.summary);
    }
}
