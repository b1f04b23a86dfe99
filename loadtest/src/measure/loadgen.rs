//! Mira's own load generator, run as its authors describe it, at any receiver of OTLP/HTTP.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::Error;
use crate::measure::compare::{self, Sent};
use crate::process::Watch;
use crate::stats::Quantiles;
use crate::system::Running;

/// Records of each signal in a request, as published with Mira's figures.
const BATCH: &str = "2000";

/// It sends what was asked for or does not end, where a receiver stays away.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn send(program: &Path, to: &Running, connections: usize, records: u64) -> Result<Sent, Error> {
    let watch = Watch::start(to.pid());
    let before = to.usage().cpu;
    let began = Instant::now();
    let child = tokio::process::Command::new(program)
        .arg("--addr")
        .arg(to.ports.http.to_string())
        .args(["--records", &records.to_string(), "--conns", &connections.to_string(), "--batch", BATCH])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::file(program))?;
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let seconds = began.elapsed().as_secs_f64();
    let load_cpu = to.usage().cpu.saturating_sub(before);
    let track = watch.end().await;
    let failed = |problem: String, log: String| Error::Server { binary: program.to_owned(), problem, log };
    let output = ended
        .map_err(|_| failed(format!("did not end within {PATIENCE:?}"), String::new()))?
        .map_err(Error::file(program))?;
    let told = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(failed(format!("ended with {}", output.status), log));
    }
    let read = Told::read(&told).ok_or_else(|| failed("said what is not understood".into(), told.to_string()))?;
    let verified = match to.sql() {
        Some(sql) => Some(compare::rows_of(&sql).await? == read.records),
        None => None,
    };
    Ok(Sent {
        seconds: read.seconds.unwrap_or(seconds),
        acked_records: read.records,
        unacked_requests: read.shed,
        ack: Quantiles { p50_ms: read.p50_ms, p99_ms: read.p99_ms, max_ms: read.max_ms, count: 0 },
        load_cpu,
        rss_max_bytes: track.rss_max_bytes,
        verified,
        last_problem: None,
    })
}

/// What it prints of a run.
#[derive(Debug, Default, PartialEq)]
struct Told {
    records: u64,
    seconds: Option<f64>,
    shed: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Told {
    fn read(text: &str) -> Option<Self> {
        let mut told = Self::default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let before = |word: &str| -> Option<u64> {
            let at = words.iter().position(|it| *it == word)?;
            words.get(at.checked_sub(1)?)?.parse().ok()
        };
        let ms = |word: &str| -> Option<f64> {
            let at = words.iter().position(|it| *it == word)?;
            words.get(at + 1)?.trim_end_matches("ms").parse().ok()
        };
        told.records = before("logs")? + before("spans")? + before("points")?;
        told.shed = before("shed")?;
        // `.. points in 5.9s, 4 conns ..`
        let at = words.windows(2).position(|pair| pair == ["points", "in"])?;
        told.seconds = words.get(at + 2)?.trim_end_matches(',').trim_end_matches('s').parse().ok();
        (told.p50_ms, told.p99_ms, told.max_ms) = (ms("p50")?, ms("p99")?, ms("max")?);
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_read() {
        let text = "ingest   671234 records/s   88.1 MiB/s wire   3 shed   0 resets\n         1996000 logs + 1996000 spans \
                    + 11976 points in 5.9s, 4 conns x 2000 records\n         ack p50 4.1ms  p99 21.5ms  max 60.0ms\n";
        let told = Told {
            records: 1_996_000 * 2 + 11_976,
            seconds: Some(5.9),
            shed: 3,
            p50_ms: 4.1,
            p99_ms: 21.5,
            max_ms: 60.0,
        };
        assert_eq!(Told::read(text), Some(told));
        assert_eq!(Told::read("usage: loadgen"), None);
    }
}
