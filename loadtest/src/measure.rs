//! The standard measurement: a server of our own on one core, the generator on the other, one row a case.
//!
//! Each case starts on an empty data directory: saturation in a closed loop for throughput and memory, then an open loop at
//! half of that rate for ack latency and freshness, then a graceful end, after which what is on disk is what is stored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng;

use crate::client::{Endpoint, Protocol};
use crate::compression::Compression;
use crate::generate::{Load, LoadReport, Mix, Pace, Until};
use crate::records::Shape;
use crate::{Addresses, Error, Server, ServerOptions};

/// How to measure.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// The `plimsoll` program.
    pub binary: PathBuf,
    /// Where data directories are made; each is removed after its case.
    pub work_dir: PathBuf,
    /// The processor of the server; `None` pins nothing.
    pub server_cpu: Option<usize>,
    /// Seconds of each of the two loads of a case.
    pub load_time: Duration,
    /// Records in a request.
    pub batch: usize,
    /// Connections.
    pub connections: usize,
    /// Requests in flight on each.
    pub in_flight: usize,
    /// More arguments of `plimsoll serve`.
    pub arguments: Vec<String>,
}

/// One row.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Case {
    /// What was sent.
    pub records: &'static str,
    /// How.
    pub protocol: Protocol,
    /// Compressed how.
    pub compression: Compression,
    /// In a closed loop.
    pub saturated: LoadReport,
    /// At half that rate.
    pub half_load: LoadReport,
    /// Bytes of Parquet segments a record.
    pub segment_bytes_per_record: f64,
    /// Bytes of the whole data directory a record.
    pub data_dir_bytes_per_record: f64,
}

/// All rows.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Measurements {
    /// The rows, in the order of the table.
    pub cases: Vec<Case>,
}

const KINDS: [(&str, Mix, bool); 4] = [
    ("spans, 440 B", Mix::Traces, false),
    ("logs, 360 B", Mix::Logs, false),
    ("points, 200 B", Mix::Metrics, false),
    ("small mixed, 137 B", Mix::Mixed, true),
];

impl Measurement {
    /// Runs every case, telling `progress` before each.
    ///
    /// # Errors
    /// The server does not start or end, or cannot be queried.
    pub async fn run(self, mut progress: impl FnMut(&str)) -> Result<Measurements, Error> {
        let mut cases = Vec::new();
        for (records, mix, small) in KINDS {
            for protocol in [Protocol::Grpc, Protocol::Http] {
                for compression in [Compression::None, Compression::Gzip] {
                    progress(&format!("{records}, {protocol}, {compression}"));
                    cases.push(self.case(records, mix, small, protocol, compression).await?);
                }
            }
        }
        Ok(Measurements { cases })
    }

    async fn case(
        &self,
        records: &'static str,
        mix: Mix,
        small: bool,
        protocol: Protocol,
        compression: Compression,
    ) -> Result<Case, Error> {
        let data_dir = self.work_dir.join(format!("measure-{:08x}", rand::rng().random::<u32>()));
        let options = ServerOptions {
            binary: self.binary.clone(),
            data_dir: data_dir.clone(),
            addresses: Addresses::free()?,
            cpu: self.server_cpu,
            arguments: self.arguments.clone(),
        };
        let mut server = Server::start(options, Duration::from_secs(60)).await?;
        let addresses = server.addresses();
        let load = |instance: &str, pace, probe_freshness| Load {
            endpoint: Endpoint {
                address: if protocol == Protocol::Grpc { addresses.otlp_grpc } else { addresses.otlp_http },
                protocol,
                compression,
                timeout: Duration::from_secs(30),
            },
            mix,
            shape: Shape { run: "measure".into(), instance: instance.into(), small, trace_len: 8 },
            batch: self.batch,
            connections: self.connections,
            in_flight: self.in_flight,
            pace,
            until: Until::Elapsed(self.load_time),
            respect_retry: true,
            server_pid: Some(server.pid()),
            sql: Some(server.sql()),
            probe_freshness,
        };
        let saturated = load("saturated", Pace::Closed, false).run().await?;
        let half = Pace::RecordsPerSecond((saturated.records_per_second / 2.0).max(1.0));
        let half_load = load("half-load", half, true).run().await?;
        server.stop(Duration::from_secs(60)).await?;
        let stored = (saturated.counts.acked_records + half_load.counts.acked_records).max(1) as f64;
        let segments = bytes_under(&data_dir, &|path| path.extension().is_some_and(|ending| ending == "parquet"));
        let all = bytes_under(&data_dir, &|_| true);
        std::fs::remove_dir_all(&data_dir).map_err(Error::file(&data_dir))?;
        let _ = std::fs::remove_file(server.log());
        Ok(Case {
            records,
            protocol,
            compression,
            saturated,
            half_load,
            segment_bytes_per_record: segments as f64 / stored,
            data_dir_bytes_per_record: all as f64 / stored,
        })
    }
}

/// Sums the lengths of the files under `dir` that `counts`; what vanishes meanwhile counts nothing.
fn bytes_under(dir: &Path, counts: &dyn Fn(&Path) -> bool) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| {
            let path = entry.path();
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => bytes_under(&path, counts),
                Ok(meta) if counts(&path) => meta.len(),
                _ => 0,
            }
        })
        .sum()
}
