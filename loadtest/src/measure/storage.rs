//! What a record takes on disk once a system has done with it: Mira compresses blocks whose records are older than an hour when it
//! starts and every minute, Plimsoll merges small segments; so records that say they are two hours old are sent, the system is
//! started anew, and what is on disk is read when it no longer changes.

use std::time::Duration;

use tokio::time::Instant;

use crate::Error;
use crate::client::Protocol;
use crate::compression::Compression;
use crate::generate::{Load, Mix, Pace, Until};
use crate::records::Shape;
use crate::system::{Kind, Place, Programs, Running};

/// Bytes a record takes.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Storage {
    /// What was sent.
    pub stream: &'static str,
    /// To whom.
    pub system: Kind,
    /// Records acked.
    pub records: u64,
    /// Bytes a record on the wire.
    pub wire_bytes_per_record: f64,
    /// Bytes a record of the files that hold records, when the load had ended and the system had been ended once.
    pub ended_bytes_per_record: f64,
    /// The same when it had done with compacting.
    pub settled_bytes_per_record: f64,
}

/// A stream to store.
pub(super) struct Stream {
    pub(super) name: &'static str,
    mix: Mix,
    small: bool,
    batch: usize,
    requests: u64,
}

pub(super) const STREAMS: [Stream; 2] = [
    Stream { name: "small mixed 137 B", mix: Mix::Mixed, small: true, batch: 2_000, requests: 600 },
    Stream { name: "spans 440 B", mix: Mix::Traces, small: false, batch: 1_000, requests: 500 },
];

/// Older than what Mira keeps uncompressed.
const AGE: Duration = Duration::from_secs(2 * 3_600);
/// What did not change for this long has settled.
const QUIET: Duration = Duration::from_secs(4);
/// The longest wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn run(kind: Kind, stream: &Stream, programs: &Programs, place: &Place) -> Result<Storage, Error> {
    let running = Running::start(kind, programs, place).await?;
    let load = Load {
        endpoint: running.endpoint(Protocol::Http, Compression::None),
        mix: stream.mix,
        shape: Shape { run: "storage".into(), instance: "generator".into(), small: stream.small, trace_len: 8 },
        batch: stream.batch,
        connections: 4,
        in_flight: 2,
        pace: Pace::Closed,
        until: Until::Requests(stream.requests),
        age: AGE,
        respect_retry: true,
        server_pid: None,
        sql: running.sql(),
        probe_freshness: false,
    };
    let report = load.run().await?;
    if report.verified == Some(false) {
        return Err(Error::Usage(format!(
            "{} records were acked, {:?} found",
            report.counts.acked_records, report.stored_records
        )));
    }
    let running = running.restart(programs, place).await?;
    let ended = running.disk().record_bytes;
    let deadline = Instant::now() + PATIENCE;
    let (mut settled, mut since) = (ended, Instant::now());
    while since.elapsed() < QUIET && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = running.disk().record_bytes;
        if now != settled {
            (settled, since) = (now, Instant::now());
        }
    }
    let (_, disk) = running.end().await?;
    let records = report.counts.acked_records.max(1) as f64;
    Ok(Storage {
        stream: stream.name,
        system: kind,
        records: report.counts.acked_records,
        wire_bytes_per_record: report.body_bytes_per_record,
        ended_bytes_per_record: ended as f64 / records,
        settled_bytes_per_record: disk.record_bytes as f64 / records,
    })
}
