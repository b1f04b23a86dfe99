//! The measurement itself, short: what it reports of a server is what happened, and what cannot be measured is named.

use std::time::Duration;

use plimsoll_loadtest::{AckClass, Comparison, Kind, Measurement, Part, Protocol};

use crate::stage::binary;

fn measurement(work_dir: &std::path::Path, kinds: Vec<Kind>, parts: Vec<Part>) -> Measurement {
    Measurement {
        binary: binary(),
        work_dir: work_dir.to_owned(),
        peer_scripts: work_dir.join("no-scripts"),
        server_cpu: None,
        comparison: Comparison {
            kinds,
            streams: vec!["small".into(), "zstd".into()],
            rounds: 1,
            load_time: Duration::from_millis(300),
            connections: 2,
            in_flight: 2,
            loadgen_records: 1,
        },
        parts,
        overload_time: Duration::from_millis(300),
        recording: None,
        arguments: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_measured_to_the_end_of_the_server_and_a_missing_system_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut kept = 0;
    let measured = measurement(dir.path(), vec![Kind::Plimsoll, Kind::Rotel], vec![Part::Compare])
        .run(|_| {}, |_| kept += 1)
        .await;
    assert_eq!(measured.runs.len(), 2, "{measured:?}");
    assert_eq!(kept, 2, "what there is is told after each step");
    for run in &measured.runs {
        assert_eq!((run.system, run.ack_class), (Kind::Plimsoll, AckClass::Synced));
        assert_eq!(run.verified, Some(true), "{run:?}");
        assert!(run.acked_records > 0 && run.unacked_requests == 0, "{run:?}");
        assert!(run.whole_cpu_seconds >= run.load_cpu_seconds && run.load_cpu_seconds > 0.0, "{run:?}");
        assert!(run.stored_bytes_per_record.is_some_and(|bytes| bytes > 0.0), "{run:?}");
    }
    let [failure] = &measured.failures[..] else {
        panic!("{:?}", measured.failures);
    };
    assert_eq!(failure.what, "rotel-blackhole");
    assert!(std::fs::read_dir(dir.path()).expect("is there").next().is_none(), "data directories are removed");
}

/// So long four times too much is sent that every queue of the server fills: much less shows nothing of what memory is held by.
const OVERLOAD: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn overload_and_analysts_leave_every_acked_row_in_its_place_and_overload_keeps_to_the_memory_limit() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let parts = vec![Part::Overload, Part::Isolation, Part::Day];
    let mut measurement = measurement(dir.path(), vec![Kind::Plimsoll], parts);
    measurement.overload_time = OVERLOAD;
    let measured = measurement.run(|_| {}, |_| {}).await;
    let protocols: Vec<Protocol> = measured.overload.iter().map(|over| over.protocol).collect();
    assert_eq!(protocols, [Protocol::Grpc, Protocol::Http], "{measured:?}");
    for over in &measured.overload {
        assert_eq!(over.verified, Some(true), "{over:?}");
        assert!(over.rss_max_bytes > 0 && over.failed == 0, "{over:?}");
        // What is promised: a tenth beyond it at most.
        assert!(over.rss_max_bytes <= over.memory_limit_bytes / 10 * 11, "{over:?}");
    }
    let isolation = measured.isolation.as_ref().expect("was measured");
    assert!(isolation.asked.answered > 0, "{isolation:?}");
    assert_eq!(isolation.asked.failed, 0, "{isolation:?}");
    // No recording was named.
    assert_eq!(measured.failures.len(), 1, "{:?}", measured.failures);
}
