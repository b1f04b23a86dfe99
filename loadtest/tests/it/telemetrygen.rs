//! telemetrygen, the generator of the OpenTelemetry project, for every signal over both protocols.

use std::process::Command;

use crate::peers;
use crate::stage::{Stage, run_name};

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_of_telemetrygen_arrives_whole_over_grpc_and_http() {
    let Some(program) = peers::telemetrygen() else {
        return;
    };
    let stage = Stage::start().await;
    let at = stage.server.addresses();
    for http in [false, true] {
        let endpoint = if http { at.otlp_http } else { at.otlp_grpc }.to_string();
        let workers = 3;
        // Each trace is a root and its children; each metric is one point.
        for (signal, flags, table, wanted) in [
            ("traces", &["--traces=40", "--child-spans=4", "--span-links=2"][..], "spans", workers * 40 * 5),
            ("logs", &["--logs=150", "--trace-id=4bf92f3577b34da6a3ce929d0e0e4736"], "logs", workers * 150),
            ("metrics", &["--metrics=60", "--metric-type=Gauge"], "metrics", workers * 60),
            ("metrics", &["--metrics=60", "--metric-type=Sum", "--unique-timeseries"], "metrics", workers * 60),
            ("metrics", &["--metrics=60", "--metric-type=Histogram"], "metrics", workers * 60),
            ("metrics", &["--metrics=60", "--metric-type=ExponentialHistogram"], "metrics", workers * 60),
        ] {
            let run = run_name("telemetrygen");
            let mut command = Command::new(&program);
            command
                .arg(signal)
                .args(["--otlp-insecure", "--otlp-endpoint", &endpoint, "--rate=0"])
                .arg(format!("--workers={workers}"))
                .arg(format!("--otlp-attributes=service.namespace=\"{run}\""))
                .args(flags);
            if http {
                command.arg("--otlp-http");
            }
            let output = tokio::task::spawn_blocking(move || command.output())
                .await
                .expect("waiting does not panic")
                .expect("telemetrygen can be started");
            assert!(output.status.success(), "telemetrygen {signal} {flags:?}: {output:?}");
            assert_eq!(stage.count(table, &run, wanted).await, wanted, "{signal} {flags:?} http={http}");
        }
    }
}
