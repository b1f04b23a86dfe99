//! Our own generator at the server: every signal, protocol and compression, and its answers.

use std::time::Duration;

use plimsoll_loadtest::{Compression, Endpoint, Load, LoadReport, Mix, Pace, Protocol, Shape, Until};

use crate::stage::{Stage, run_name};

async fn generate(stage: &Stage, mix: Mix, protocol: Protocol, compression: Compression) -> LoadReport {
    let at = stage.server.addresses();
    let load = Load {
        endpoint: Endpoint {
            address: if protocol == Protocol::Grpc { at.otlp_grpc } else { at.otlp_http },
            protocol,
            compression,
            timeout: Duration::from_secs(30),
        },
        mix,
        shape: Shape { run: run_name("generator"), instance: "a".into(), small: false, trace_len: 8 },
        batch: 250,
        connections: 2,
        in_flight: 2,
        pace: Pace::Closed,
        until: Until::Requests(36),
        age: Duration::ZERO,
        respect_retry: true,
        server_pid: Some(stage.server.pid()),
        sql: Some(stage.sql.clone()),
        probe_freshness: false,
    };
    load.run().await.unwrap_or_else(|problem| panic!("{problem}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acked_is_what_is_stored_for_every_signal_protocol_and_compression() {
    let stage = Stage::start().await;
    for mix in [Mix::Traces, Mix::Logs, Mix::Metrics, Mix::All] {
        for protocol in [Protocol::Grpc, Protocol::Http] {
            for compression in Compression::ALL {
                let report = generate(&stage, mix, protocol, compression).await;
                let what = format!("{mix:?} {protocol} {compression}: {report:?}");
                assert_eq!(report.counts.acked_records, 36 * 250, "{what}");
                assert_eq!(report.stored_records, Some(36 * 250), "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acked_span_is_in_sql_within_a_second_while_a_load_runs() {
    let stage = Stage::start().await;
    let at = stage.server.addresses();
    let load = Load {
        endpoint: Endpoint {
            address: at.otlp_grpc,
            protocol: Protocol::Grpc,
            compression: Compression::None,
            timeout: Duration::from_secs(30),
        },
        mix: Mix::All,
        shape: Shape { run: run_name("freshness"), instance: "a".into(), small: true, trace_len: 8 },
        batch: 100,
        connections: 1,
        in_flight: 4,
        pace: Pace::RecordsPerSecond(5_000.0),
        until: Until::Elapsed(Duration::from_secs(4)),
        age: Duration::ZERO,
        respect_retry: true,
        server_pid: None,
        sql: Some(stage.sql.clone()),
        probe_freshness: true,
    };
    let report = load.run().await.unwrap_or_else(|problem| panic!("{problem}"));
    let freshness = report.freshness.expect("spans were acked and found");
    assert!(freshness.count >= 5, "{report:?}");
    // The promise is 250 ms at p99 on a quiet machine; tests run on busy ones.
    assert!(freshness.p50_ms < 1_000.0, "{report:?}");
    assert_eq!(report.verified, Some(true), "{report:?}");
}
