//! Telemetry that had piled up before it was sent, and comes in order while deploys of that time are judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use plimsoll_catalog::{Catalog, DeployFilter, SqliteCatalog};
use plimsoll_model::{UnixNanos, Verdict, VerdictKind};
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_verdict::quality;
use plimsoll_watch::WatchOptions;

use crate::telemetry::{fold, options, watcher};

/// The second at which nothing is sent any more.
const OUTAGE: u64 = 1_800_000_000;
/// Seconds of it, and the second in it at which version 2 takes over.
const LASTS: u64 = 1_500;
const REPLACED: u64 = 120;

/// Four requests a second of the seconds `from..to`, as they are received in the second `received`; of version 2's every
/// `failing`-th fails.
fn send(state: &Mutex<SignalState>, from: u64, to: u64, received: u64, failing: u64) {
    for version in ["1", "2"] {
        let own = |second: &u64| (*second >= OUTAGE + REPLACED) == (version == "2");
        let spans: Vec<String> = (from..to)
            .filter(own)
            .flat_map(|second| (0..4).map(move |n| (second, n)))
            .map(|(second, n)| {
                let number = second * 4 + n;
                let failed = version == "2" && failing > 0 && number.is_multiple_of(failing);
                let (start, code) = (second * 1_000_000_000 + n * 200_000_000, if failed { 2 } else { 1 });
                format!(
                    r#"{{"traceId":"{number:032x}","spanId":"{number:016x}","name":"GET /","kind":2,"startTimeUnixNano":"{start}",
                    "endTimeUnixNano":"{}","status":{{"code":{code}}}}}"#,
                    start + 20_000_000 + number % 50 * 1_000_000
                )
            })
            .collect();
        if spans.is_empty() {
            continue;
        }
        fold(state, "payment", version, &spans, received);
    }
}

/// Looks every five seconds and returns what was said of the one deploy, which nobody announced.
async fn judged(failing: u64) -> Vec<Verdict> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("catalog.db");
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(path).await.expect("opens"));
    let state = Arc::new(Mutex::new(SignalState::new(SignalLimits::default())));
    let options = WatchOptions { infer_deploys: true, ..options() };
    let clock = Arc::new(AtomicU64::new(0));
    let watcher = watcher(options, catalog.clone(), &state, &clock).await;
    let mut told = Vec::new();
    let (mut sent, mut at) = (OUTAGE - 2_400, OUTAGE - 2_395);
    while at < OUTAGE + LASTS + 1_200 {
        clock.store(at, Ordering::SeqCst);
        let resumed = at.saturating_sub(OUTAGE + LASTS);
        // Twenty-five times as fast as it came about, until it is at the present.
        let until = if at < OUTAGE { at } else { (OUTAGE + 25 * resumed).min(at) };
        if until > sent {
            send(&state, sent, until, at, failing);
            sent = until;
        }
        if at < OUTAGE || resumed > 0 {
            watcher.tick().await;
            let deploys = catalog.deploys(&DeployFilter::default()).await.expect("readable");
            if let Some(deploy) = deploys.first() {
                assert_eq!((deploy.version.as_str(), deploys.len()), ("2", 1));
                told.extend(watcher.verdict(&deploy.id).await.expect("readable"));
            }
        }
        at += 5;
    }
    told
}

#[tokio::test]
async fn a_good_deploy_is_not_called_silent_while_what_had_piled_up_still_comes() {
    let told = judged(0).await;
    let last = &told[told.len() - 1];
    for verdict in &told {
        let at = verdict.evaluated_at.since(UnixNanos::from_secs(OUTAGE + LASTS)).as_secs();
        assert_ne!(verdict.verdict, VerdictKind::Regressed, "after {at} s: {}", verdict.summary);
    }
    assert_eq!(last.verdict, VerdictKind::Pass, "{}", last.summary);
    let says = |verdict: &Verdict| verdict.data_quality.iter().any(|word| word == quality::CATCHING_UP);
    assert!(told.iter().any(says) && !says(last));
}

#[tokio::test]
async fn a_bad_deploy_in_what_had_piled_up_is_found_as_it_comes() {
    let told = judged(5).await;
    let bad = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed).expect("a fifth fails");
    let after = bad.evaluated_at.since(UnixNanos::from_secs(OUTAGE + LASTS)).as_secs();
    assert!(after <= 40, "after {after} s: {}", bad.summary);
}
