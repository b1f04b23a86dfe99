//! Telemetry of a deploy that comes after its verdict was closed: the verdict stays as it is, and says so.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use plimsoll_catalog::{Catalog, SqliteCatalog};
use plimsoll_model::{Deploy, Verdict, VerdictKind};
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_watch::{Evidence, NewDeploy, WatchOptions, Watcher};

use crate::telemetry::{START, fold, options, watcher};

/// Seconds from the start of the deploy until nothing more is expected of it, and a little more.
const CLOSED: i64 = 1_830;

fn at(second: i64) -> u64 {
    START.checked_add_signed(second).expect("in range")
}

/// Two requests of a version in each of `seconds` since the start, received in the second `received`.
fn send(state: &Mutex<SignalState>, version: &str, seconds: Range<i64>, received: i64, failed: bool) {
    let spans: Vec<String> = seconds
        .flat_map(|second| [(second, 0), (second, 1)])
        .map(|(second, n)| {
            let trace = at(second) * 10 + n * 2 + u64::from(version == "2") + u64::from(failed) * 5;
            let start = at(second) * 1_000_000_000 + n * 400_000_000;
            format!(
                r#"{{"traceId":"{trace:032x}","spanId":"{trace:016x}","name":"GET /","kind":2,"startTimeUnixNano":"{start}",
                "endTimeUnixNano":"{}","status":{{"code":{}}}}}"#,
                start + 20_000_000 + trace % 50 * 1_000_000,
                if failed { 2 } else { 1 }
            )
        })
        .collect();
    fold(state, "payment", version, &spans, at(received));
}

/// What is sent in time: version 2 beside version 1 from the start on.
fn in_time(state: &Mutex<SignalState>, until: i64, received: i64) {
    send(state, "1", until - 5..until, received, false);
    if until > 0 {
        send(state, "2", until - 5..until, received, false);
    }
}

/// A good deploy whose watch is over.
struct Closed {
    watcher: Watcher,
    catalog: Arc<dyn Catalog>,
    state: Arc<Mutex<SignalState>>,
    clock: Arc<AtomicU64>,
    deploy: Deploy,
    _directory: tempfile::TempDir,
}

fn watched() -> WatchOptions {
    WatchOptions {
        keep_evidence: Some(Duration::from_secs(86_400)),
        audience: Some(Arc::new(|_| vec!["oncall".to_owned()])),
        ..options()
    }
}

impl Closed {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("catalog.db");
        let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(path).await.expect("opens"));
        let state = Arc::new(Mutex::new(SignalState::new(SignalLimits::default())));
        let clock = Arc::new(AtomicU64::new(START));
        (-1_195..=0).step_by(5).for_each(|until| in_time(&state, until, until));
        let watcher = watcher(watched(), catalog.clone(), &state, &clock).await;
        let marker = NewDeploy {
            service: "payment".to_owned(),
            environment: "prod".to_owned(),
            version: "2".to_owned(),
            ..NewDeploy::default()
        };
        let (deploy, _) = watcher.register(marker, None).await.expect("valid");
        let closed = Self { watcher, catalog, state, clock, deploy, _directory: directory };
        for until in (5..=CLOSED).step_by(5) {
            in_time(&closed.state, until, until);
            closed.look(until).await;
        }
        let verdict = closed.verdict().await;
        assert_eq!((verdict.verdict, verdict.decided), (VerdictKind::Pass, true), "{}", verdict.summary);
        assert_eq!(closed.watcher.counters().open, 0, "nothing more is expected of it");
        closed
    }

    async fn look(&self, second: i64) {
        self.clock.store(at(second), Ordering::SeqCst);
        self.watcher.tick().await;
    }

    async fn verdict(&self) -> Verdict {
        let shown = self.watcher.verdict(&self.deploy.id).await.expect("readable").expect("it exists");
        let stored = self.catalog.verdict(&self.deploy.id).await.expect("readable").expect("it is stored");
        assert_eq!(shown, stored, "what is shown is what is stored");
        shown
    }
}

/// The verdict as it is with the word.
fn said(verdict: &Verdict) -> Verdict {
    let mut said = Verdict { revision: verdict.revision + 1, ..verdict.clone() };
    said.data_quality.push("late_spans".to_owned());
    said.data_quality.sort();
    said
}

#[tokio::test]
async fn failures_of_the_candidate_that_come_an_hour_late_leave_a_closed_verdict_and_are_said_of_it_once() {
    let closed = Closed::new().await;
    let before = closed.verdict().await;
    assert!(!before.data_quality.contains(&"late_spans".to_owned()), "{:?}", before.data_quality);
    send(&closed.state, "2", 600..900, 4_800, true);
    closed.look(4_805).await;
    assert_eq!(closed.verdict().await, said(&before), "it keeps its answer, evidence and numbers");
    assert!(closed.catalog.deliveries(None, 10).await.expect("readable").is_empty(), "nobody is paged");
    send(&closed.state, "2", 900..905, 4_900, true);
    closed.look(4_905).await;
    assert_eq!(closed.verdict().await, said(&before), "it is said once");
    // From the rows that there were it is judged again alike, the word included.
    let bytes = closed.catalog.evidence(&closed.deploy.id).await.expect("readable").expect("it was kept");
    let evidence = Evidence::from_bytes(&bytes).expect("is read");
    let settled = Mutex::new(SignalState::new(SignalLimits::default()));
    let until = i64::try_from(evidence.needs().to.0 / 1_000_000_000 - START).expect("in range");
    (-1_195..=until).step_by(5).for_each(|until| in_time(&settled, until, until));
    settled.lock().close_traces();
    let again = evidence.judge(&mut settled.lock()).expect("is judged");
    assert_eq!(again, said(&before));
}

#[tokio::test]
async fn what_comes_in_time_or_bears_on_nothing_that_was_judged_is_not_said() {
    let closed = Closed::new().await;
    let before = closed.verdict().await;
    let look = async |second: i64| {
        closed.look(second).await;
        assert_eq!(closed.verdict().await, before, "after {second} s");
    };
    look(CLOSED + 5).await;
    // Two minutes late is no more than some exporters are.
    send(&closed.state, "2", 1_780..1_790, 1_900, true);
    look(1_905).await;
    // Of the time before the start, of that after the watch, and of a version that was not compared.
    send(&closed.state, "1", -600..-590, 4_800, true);
    send(&closed.state, "2", 1_900..1_910, 4_800, true);
    send(&closed.state, "0", 600..610, 4_800, true);
    fold(&closed.state, "other", "2", &[], at(4_800));
    look(4_805).await;
    // Of the control it is.
    send(&closed.state, "1", 600..610, 4_810, true);
    closed.look(4_815).await;
    assert_eq!(closed.verdict().await, said(&before));
}

#[tokio::test]
async fn a_verdict_that_was_closed_before_a_restart_says_so_as_well() {
    let mut closed = Closed::new().await;
    // It was stored half a minute before the end: whoever takes it up closes it.
    closed.watcher = watcher(watched(), closed.catalog.clone(), &closed.state, &closed.clock).await;
    closed.look(CLOSED + 60).await;
    let before = closed.verdict().await;
    assert_eq!(closed.watcher.counters().open, 0);
    send(&closed.state, "2", 600..900, 2_400, true);
    closed.watcher = watcher(watched(), closed.catalog.clone(), &closed.state, &closed.clock).await;
    closed.look(2_405).await;
    assert_eq!(closed.verdict().await, said(&before));
}
