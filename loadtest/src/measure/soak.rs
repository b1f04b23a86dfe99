//! A steady load for long, and whether memory and file descriptors stay where they are.

use std::time::Duration;

use crate::Error;
use crate::client::Protocol;
use crate::compression::Compression;
use crate::generate::{Load, Mix, Pace, Until};
use crate::process::{Moment, Track};
use crate::records::Shape;
use crate::stats::Quantiles;
use crate::system::{Kind, Place, Programs, Running};

/// A soak.
#[derive(Debug, Clone)]
pub struct Soak {
    /// The `plimsoll` program.
    pub binary: std::path::PathBuf,
    /// Where the data directory is made; removed afterwards.
    pub work_dir: std::path::PathBuf,
    /// The processor of the server; `None` pins nothing.
    pub server_cpu: Option<usize>,
    /// How long.
    pub duration: Duration,
    /// The load, as a part of what is taken at saturation.
    pub share: f64,
    /// More arguments of `plimsoll serve`.
    pub arguments: Vec<String>,
}

/// What a soak showed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SoakReport {
    /// Records a second offered.
    pub offered_records_per_second: f64,
    /// Records acked.
    pub acked_records: u64,
    /// Requests without an ack.
    pub unacked_requests: u64,
    /// Time to the ack.
    pub ack: Quantiles,
    /// Whether SQL finds what was acked.
    pub verified: Option<bool>,
    /// Memory and files by third of the time, the first ten seconds left out: median and most.
    pub thirds: Vec<Third>,
    /// True where neither grew from the second third to the last.
    pub flat: bool,
    /// Second by second.
    pub track: Track,
}

/// A third of a soak.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Third {
    /// Half of the moments had less.
    pub rss_median_bytes: u64,
    /// The most.
    pub rss_max_bytes: u64,
    /// The most descriptors.
    pub descriptors_max: u64,
}

/// The start is no part of the steady state.
const START_SECONDS: f64 = 10.0;
/// Growth that counts as none: the tail is between empty and full at any moment.
const GROWTH: f64 = 1.10;

impl Soak {
    /// Runs it.
    ///
    /// # Errors
    /// The server cannot be started, reached or ended.
    pub async fn run(&self) -> Result<SoakReport, Error> {
        let programs = Programs::prepare(self.binary.clone(), &self.work_dir, &[Kind::Plimsoll]);
        let place = Place {
            work_dir: self.work_dir.clone(),
            cpus: self.server_cpu.map(|cpu| cpu.to_string()),
            environment: Vec::new(),
            arguments: self.arguments.clone(),
        };
        let server = Running::start(Kind::Plimsoll, &programs, &place).await?;
        let load = |instance: &str, pace, time| Load {
            endpoint: server.endpoint(Protocol::Grpc, Compression::None),
            mix: Mix::All,
            shape: Shape { run: "soak".into(), instance: instance.into(), small: false, trace_len: 8 },
            batch: 1000,
            connections: 4,
            in_flight: 4,
            pace,
            until: Until::Elapsed(time),
            age: Duration::ZERO,
            respect_retry: true,
            server_pid: Some(server.pid()),
            sql: server.sql(),
            probe_freshness: false,
        };
        let saturated = load("saturated", Pace::Closed, Duration::from_secs(5)).run().await?;
        let offered = (saturated.records_per_second * self.share).max(1.0);
        let steady = load("steady", Pace::RecordsPerSecond(offered), self.duration).run().await?;
        server.end().await?;
        let track = steady.server_track.unwrap_or_default();
        let thirds = thirds(&track.moments);
        Ok(SoakReport {
            offered_records_per_second: offered,
            acked_records: steady.counts.acked_records,
            unacked_requests: steady.counts.refused_retryable + steady.counts.refused_for_good + steady.counts.failed,
            ack: steady.ack,
            verified: steady.verified,
            flat: is_flat(&thirds),
            thirds,
            track,
        })
    }
}

fn thirds(moments: &[Moment]) -> Vec<Third> {
    let steady: Vec<&Moment> = moments.iter().filter(|moment| moment.seconds >= START_SECONDS).collect();
    let third = steady.len() / 3;
    if third == 0 {
        return Vec::new();
    }
    let of = |moments: &[&Moment]| {
        let mut rss: Vec<u64> = moments.iter().map(|moment| moment.rss_bytes).collect();
        rss.sort_unstable();
        Third {
            rss_median_bytes: rss[rss.len() / 2],
            rss_max_bytes: rss[rss.len() - 1],
            descriptors_max: moments.iter().map(|moment| moment.descriptors).max().unwrap_or(0),
        }
    };
    vec![of(&steady[..third]), of(&steady[third..2 * third]), of(&steady[2 * third..])]
}

fn is_flat(thirds: &[Third]) -> bool {
    let [_, second, last] = thirds else {
        return false;
    };
    let grew = |before: u64, after: u64| after as f64 > before as f64 * GROWTH;
    !grew(second.rss_median_bytes, last.rss_median_bytes) && !grew(second.descriptors_max, last.descriptors_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(rss: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64) -> Vec<Moment> {
        let moment =
            |second| Moment { seconds: second as f64, rss_bytes: rss(second), descriptors: descriptors(second) };
        (0..100).map(moment).collect()
    }

    #[test]
    fn a_saw_tooth_is_flat_and_a_slope_of_memory_or_files_is_not() {
        let saw = |second: u64| 300 + second % 10 * 20;
        assert!(is_flat(&thirds(&moments(saw, |_| 40))));
        assert!(!is_flat(&thirds(&moments(|second| 300 + second * 4, |_| 40))));
        assert!(!is_flat(&thirds(&moments(saw, |second| 40 + second))));
    }

    #[test]
    fn the_start_does_not_count_and_too_short_a_time_shows_nothing() {
        let start = |second: u64| if second < 10 { 9_000 } else { 300 };
        let thirds = thirds(&moments(start, |_| 40));
        assert_eq!(thirds[0].rss_max_bytes, 300);
        assert!(!is_flat(&super::thirds(&[])));
    }
}
