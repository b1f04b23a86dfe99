//! What only Plimsoll promises, measured on it alone: latency beside the disk's own, freshness, memory under overload, ingest
//! beside queries, more than one core, and a recorded day.

use std::time::Duration;

use crate::client::Protocol;
use crate::compression::Compression;
use crate::generate::{Load, LoadReport, Mix, Pace, Until};
use crate::measure::analysts::{Analysts, Asked};
use crate::process::Track;
use crate::records::Shape;
use crate::stats::Quantiles;
use crate::system::{Kind, Place, Programs, Running};
use crate::{Error, device};

/// Time to the ack and to visible, at saturation and at half of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Latency {
    /// What was sent.
    pub stream: &'static str,
    /// Acked records a second in a closed loop.
    pub saturated_records_per_second: f64,
    /// Time to the ack there.
    pub saturated_ack: Quantiles,
    /// Time from due to acked at half that rate, in an open loop.
    pub half_load_ack: Quantiles,
    /// Time to the ack of requests of ten records, one after the other and a hundred a second.
    pub small_ack: Quantiles,
    /// Time from the ack to the first query that finds the row, at half that rate.
    pub freshness: Option<Quantiles>,
    /// A write and `fdatasync` of 16 KiB on the same disk before and after, nothing else running.
    pub device: Synced,
    /// The same of as much as a request weighs.
    pub device_request: Synced,
    /// Whether SQL finds what was acked.
    pub verified: Option<bool>,
}

/// What the disk itself takes.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Synced {
    /// One after the other, without a pause.
    pub busy: Quantiles,
    /// As many a second as there were requests.
    pub paced: Quantiles,
}

/// Several times the load that is taken.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Overload {
    /// How requests travelled.
    pub protocol: Protocol,
    /// `memory_limit` in bytes.
    pub memory_limit_bytes: u64,
    /// Records a second offered.
    pub offered_records_per_second: f64,
    /// Records a second acked.
    pub acked_records_per_second: f64,
    /// Requests refused with leave to come again.
    pub refused_retryable: u64,
    /// Requests refused for good or without an answer.
    pub failed: u64,
    /// The most resident memory.
    pub rss_max_bytes: u64,
    /// Memory over time.
    pub track: Option<Track>,
    /// Whether SQL finds what was acked.
    pub verified: Option<bool>,
}

/// What a smaller `memory_limit` costs.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Memory {
    /// Which pair of runs it belongs to, counted from one: a machine may change its pace from one to the next.
    pub pair: u32,
    /// `memory_limit` in bytes.
    pub memory_limit_bytes: u64,
    /// Resident after the start, with nothing sent.
    pub idle_rss_bytes: u64,
    /// The most resident at saturation.
    pub rss_max_bytes: u64,
    /// Acked records per second of processor time.
    pub records_per_cpu_second: f64,
    /// Acked records a second.
    pub records_per_second: f64,
}

/// Ingest alone and beside analysts.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Isolation {
    /// Records a second in a closed loop, alone, before and after: a machine may change its pace meanwhile.
    pub alone_records_per_second: [f64; 2],
    /// The same beside analysts.
    pub beside_records_per_second: f64,
    /// Time to the ack at half load, alone, before and after.
    pub alone_ack: [Quantiles; 2],
    /// The same beside analysts.
    pub beside_ack: Quantiles,
    /// What they asked and got.
    pub asked: Asked,
}

/// The same load at a number of cores.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Cores {
    /// The processors the server may use.
    pub cpus: String,
    /// Acked records a second.
    pub records_per_second: f64,
    /// Acked records per second of processor time.
    pub records_per_cpu_second: f64,
    /// Processors kept busy by the server, on average.
    pub busy: f64,
}

/// Plimsoll alone, at streams of its own.
pub(crate) struct Own<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) place: &'a Place,
    pub(crate) load_time: Duration,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
}

/// Requests in flight on a server that is offered too much: more than any queue of it holds.
const OVERLOAD_CONNECTIONS: usize = 32;
const OVERLOAD_IN_FLIGHT: usize = 8;

/// The default of `memory_limit`.
const MEMORY_LIMIT: u64 = 512 << 20;

/// What is measured in turn, in MiB: the default and half of it.
pub(crate) const MEMORY_LIMITS_MIB: [u64; 2] = [512, 256];
/// How often.
pub(crate) const MEMORY_PAIRS: u32 = 3;

/// Returns the rate with half of the memory as a part of that with the default, pair by pair.
pub(crate) fn memory_ratios(runs: &[Memory]) -> Vec<(u32, f64)> {
    let rate = |pair: u32, mib: u64| {
        let of = runs.iter().find(|run| run.pair == pair && run.memory_limit_bytes == mib << 20);
        of.map(|run| run.records_per_second).filter(|rate| *rate > 0.0)
    };
    let [whole, half] = MEMORY_LIMITS_MIB;
    let ratio = |pair| Some((pair, rate(pair, half)? / rate(pair, whole)?));
    (1..=MEMORY_PAIRS).filter_map(ratio).collect()
}

impl Own<'_> {
    async fn start(&self, environment: &[(&str, &str)], cpus: Option<&str>) -> Result<Running, Error> {
        let mut place = self.place.clone();
        place.environment.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        if let Some(cpus) = cpus {
            place.cpus = Some(cpus.to_owned());
        }
        Running::start(Kind::Plimsoll, self.programs, &place).await
    }

    fn load(&self, at: &Running, protocol: Protocol, small: bool, instance: &str) -> Load {
        Load {
            endpoint: at.endpoint(protocol, Compression::None),
            mix: if small { Mix::Mixed } else { Mix::Traces },
            shape: Shape { run: "own".into(), instance: instance.into(), small, trace_len: 8 },
            batch: if small { 2000 } else { 1000 },
            connections: self.connections,
            in_flight: self.in_flight,
            pace: Pace::Closed,
            until: Until::Elapsed(self.load_time),
            age: Duration::ZERO,
            respect_retry: true,
            server_pid: Some(at.pid()),
            sql: at.sql(),
            probe_freshness: false,
        }
    }

    pub(crate) async fn latency(
        &self,
        stream: &'static str,
        protocol: Protocol,
        small: bool,
    ) -> Result<Latency, Error> {
        let probe = |block: usize, every: Option<Duration>| {
            device::probe(&self.place.work_dir, Duration::from_secs(1), block, every)
        };
        let small_every = Some(Duration::from_millis(10));
        let mut busy = probe(device::BLOCK_BYTES, None)?;
        let mut paced = probe(device::BLOCK_BYTES, small_every)?;
        let server = self.start(&[], None).await?;
        let mut few = self.load(&server, protocol, small, "few");
        (few.batch, few.connections, few.in_flight) = (10, 1, 1);
        few.pace = Pace::RecordsPerSecond(1000.0);
        let few = few.run().await?;
        let saturated = self.load(&server, protocol, small, "saturated").run().await?;
        let mut half = self.load(&server, protocol, small, "half");
        half.pace = Pace::RecordsPerSecond((saturated.records_per_second / 2.0).max(1.0));
        half.until = Until::Elapsed(self.load_time * 2);
        half.probe_freshness = true;
        let half = half.run().await?;
        server.end().await?;
        busy.add(&probe(device::BLOCK_BYTES, None)?).expect("both have the same bounds");
        paced.add(&probe(device::BLOCK_BYTES, small_every)?).expect("both have the same bounds");
        let records = if small { 2000.0 } else { 1000.0 };
        let weight = ((saturated.body_bytes_per_record * records) as usize).next_multiple_of(4 << 10);
        let every = Duration::from_secs_f64(records / (saturated.records_per_second / 2.0).max(1.0));
        let device_request =
            Synced { busy: Quantiles::of(&probe(weight, None)?), paced: Quantiles::of(&probe(weight, Some(every))?) };
        Ok(Latency {
            stream,
            saturated_records_per_second: saturated.records_per_second,
            saturated_ack: saturated.ack,
            half_load_ack: half.ack,
            small_ack: few.ack,
            freshness: half.freshness,
            device: Synced { busy: Quantiles::of(&busy), paced: Quantiles::of(&paced) },
            device_request,
            verified: both(&saturated, &half),
        })
    }

    pub(crate) async fn overload(&self, protocol: Protocol, time: Duration, times: f64) -> Result<Overload, Error> {
        let server = self.start(&[], None).await?;
        let saturated = self.load(&server, protocol, false, "saturated").run().await?;
        let offered = (saturated.records_per_second * times).max(1.0);
        let mut over = self.load(&server, protocol, false, "over");
        over.pace = Pace::RecordsPerSecond(offered);
        over.until = Until::Elapsed(time);
        over.connections = OVERLOAD_CONNECTIONS;
        over.in_flight = OVERLOAD_IN_FLIGHT;
        // Those who come again at once, as badly behaved clients do.
        over.respect_retry = false;
        let over = over.run().await?;
        server.end().await?;
        Ok(Overload {
            protocol,
            memory_limit_bytes: MEMORY_LIMIT,
            offered_records_per_second: offered,
            acked_records_per_second: over.records_per_second,
            refused_retryable: over.counts.refused_retryable,
            failed: over.counts.refused_for_good + over.counts.failed,
            rss_max_bytes: over.server_rss_max_bytes.unwrap_or(0),
            verified: both(&saturated, &over),
            track: over.server_track,
        })
    }

    pub(crate) async fn memory(&self, pair: u32, limit_mib: u64) -> Result<Memory, Error> {
        let limit = format!("{limit_mib}MiB");
        let server = self.start(&[("PLIMSOLL_MEMORY_LIMIT", &limit)], None).await?;
        // What starting left to do is done soon; idle is what is left then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let idle = server.usage().rss_bytes;
        let load = self.load(&server, Protocol::Grpc, false, "memory").run().await?;
        server.end().await?;
        Ok(Memory {
            pair,
            memory_limit_bytes: limit_mib << 20,
            idle_rss_bytes: idle,
            rss_max_bytes: load.server_rss_max_bytes.unwrap_or(0),
            records_per_cpu_second: load.records_per_cpu_second.unwrap_or(0.0),
            records_per_second: load.records_per_second,
        })
    }

    pub(crate) async fn isolation(&self, analysts: usize) -> Result<Isolation, Error> {
        let server = self.start(&[], None).await?;
        let sql = server.sql().expect("Plimsoll answers SQL");
        let load = |instance: &str, pace| {
            let mut load = self.load(&server, Protocol::Grpc, false, instance);
            load.pace = pace;
            // The count would be one more analyst.
            load.sql = None;
            load
        };
        let alone = load("alone", Pace::Closed).run().await?;
        let half = Pace::RecordsPerSecond((alone.records_per_second / 2.0).max(1.0));
        let alone_half = load("alone-half", half).run().await?;
        let at_work = Analysts::start(&sql, analysts);
        let beside = load("beside", Pace::Closed).run().await;
        let beside_half = load("beside-half", half).run().await;
        let asked = at_work.end().await;
        let (beside, beside_half) = (beside?, beside_half?);
        let again = load("again", Pace::Closed).run().await?;
        let again_half = load("again-half", half).run().await?;
        server.end().await?;
        Ok(Isolation {
            alone_records_per_second: [alone.records_per_second, again.records_per_second],
            beside_records_per_second: beside.records_per_second,
            alone_ack: [alone_half.ack, again_half.ack],
            beside_ack: beside_half.ack,
            asked,
        })
    }

    pub(crate) async fn cores(&self, cpus: &str) -> Result<Cores, Error> {
        let server = self.start(&[], Some(cpus)).await?;
        let report = self.load(&server, Protocol::Grpc, false, "cores").run().await?;
        server.end().await?;
        Ok(Cores {
            cpus: cpus.to_owned(),
            records_per_second: report.records_per_second,
            records_per_cpu_second: report.records_per_cpu_second.unwrap_or(0.0),
            busy: report.server_cpu_seconds.unwrap_or(0.0) / report.seconds.max(1e-9),
        })
    }
}

fn both(one: &LoadReport, other: &LoadReport) -> Option<bool> {
    Some(one.verified? && other.verified?)
}
