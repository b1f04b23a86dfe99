//! What it costs a running server to watch deploys: many services with many operations each, all deployed at once.
//!
//! A history is sent as fast as it is taken, then the present as it happens: first without a deploy, which is what everything else
//! costs, then with one of each service. What the server says of itself in between, and what the system says of its process, is the
//! report.
//!
//! *Invariants.* The stream is the same before and after the deploys but for who answers. Every request is sent until it is taken.

mod traffic;

use std::path::PathBuf;
use std::time::Duration;

use comfy_table::Table;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::time::Instant;

use crate::mesh::{Api, now, send_until_taken};
use crate::process::{self, Usage, Watch};
use crate::report::{Printable, mib, pairs, whole};
use crate::{Addresses, Compression, Connection, Endpoint, Error, Protocol, Server, ServerOptions, Signal};

use traffic::{ENVIRONMENT, Traffic, VERSIONS};

/// Requests of the history that are on the way at once.
const IN_FLIGHT: usize = 4;
/// How often the present is sent, and how old it is then.
const EVERY: Duration = Duration::from_millis(500);
/// Where the history is so close to the present, it has caught up.
const CAUGHT_UP: Duration = Duration::from_secs(2);
/// Time to start and to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room for a bucket of a version of an operation: two fifths of what signals may hold are for these, at 320 bytes each.
const CELL_BYTES: u64 = 800;
/// Room for what is kept between looks of an operation.
const SESSION_BYTES: u64 = 24 << 10;
const MIB: u64 = 1 << 20;

/// How to measure it.
#[derive(Debug, Clone)]
pub struct Watching {
    /// The `plimsoll` program.
    pub binary: PathBuf,
    /// Where the data directory is made; removed afterwards.
    pub work_dir: PathBuf,
    /// Services, each of which is deployed once.
    pub services: usize,
    /// Operations of each.
    pub operations: usize,
    /// Spans a second, of all services together.
    pub rate: u64,
    /// How far back the history reaches. What is older than an hour when it comes is not counted in its time.
    pub history: Duration,
    /// How long the present is sent without a deploy; what the server takes is read over the last two thirds.
    pub settle: Duration,
    /// How long deploys are watched.
    pub duration: Duration,
    /// Time between two looks; `None` for the server's default.
    pub interval: Option<Duration>,
    /// The processor of the server; `None` pins nothing.
    pub server_cpu: Option<usize>,
    /// More arguments of `plimsoll serve`.
    pub arguments: Vec<String>,
}

/// What it took.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Watched {
    /// Deploys, one of each service.
    pub deploys: u64,
    /// Operations that were asked for since the deploys.
    pub operations_live: u64,
    /// Spans a second that were acked while deploys were watched.
    pub spans_per_second: f64,
    /// Spans acked in all.
    pub acked_spans: u64,
    /// Whether SQL finds so many.
    pub verified: bool,
    /// Seconds that deploys were watched.
    pub seconds: f64,
    /// Looks at a deploy.
    pub looks: u64,
    /// Seconds from one look at a deploy to the next.
    pub look_every_seconds: f64,
    /// Time that looks took, gathering and waiting for the processor included, over the time that passed.
    pub judging_share: f64,
    /// The same time a look, as a share of the time that passes where every deploy is looked at every ten seconds.
    pub judging_share_every_ten_seconds: f64,
    /// Processor time of the server in the time that passed, without deploys.
    pub calm_cpu_share: f64,
    /// The same while deploys are watched.
    pub watched_cpu_share: f64,
    /// What is more while they are watched, a look, as a share of the time that passes where every deploy is looked at every ten
    /// seconds.
    pub watching_cpu_share_every_ten_seconds: f64,
    /// Regression events: no deploy changes anything but the version.
    pub events: u64,
    /// Memory kept between looks at the end.
    pub sessions_bytes: u64,
    /// The same an operation.
    pub sessions_bytes_per_operation: f64,
    /// Looks after which nothing was kept for lack of room.
    pub sessions_without_room: u64,
    /// What the aggregates left out, gave up before its time or counted as another operation's for lack of room.
    pub not_counted: u64,
    /// Resident memory before the deploys.
    pub calm_rss_bytes: u64,
    /// The most while they were watched.
    pub rss_max_bytes: u64,
    /// Programs that wanted to run, over the last minute.
    pub load_average: f64,
}

/// What was there at one moment.
struct Reading {
    at: Instant,
    usage: Usage,
    counted: Counted,
    made: u64,
}

impl Reading {
    async fn of(server: &Server, api: &Api, traffic: &Traffic) -> Result<Self, Error> {
        let counted = Counted(api.metrics().await?);
        let usage = process::usage(server.pid()).unwrap_or_default();
        Ok(Self { at: Instant::now(), usage, counted, made: traffic.made() })
    }

    /// Processor time since `before` in the time that passed.
    fn cpu_share(&self, before: &Self) -> f64 {
        self.usage.cpu.saturating_sub(before.usage.cpu).as_secs_f64() / self.seconds(before)
    }

    fn seconds(&self, before: &Self) -> f64 {
        self.at.duration_since(before.at).as_secs_f64().max(1e-9)
    }
}

/// What a server counts, as OpenMetrics text.
struct Counted(String);

impl Counted {
    /// Reads one number; zero where there is none of this name.
    fn of(&self, name: &str) -> u64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }
}

/// Acks are waited for, so what is made is acked.
struct Stream {
    traffic: Traffic,
    connection: Connection,
}

impl Stream {
    /// Sends everything up to `until`, several requests at once.
    async fn catch_up(&mut self, until: u64) -> Result<(), Error> {
        let Self { traffic, connection } = self;
        let connection = &*connection;
        let exports = stream::iter(std::iter::from_fn(|| traffic.export(until)));
        let sending = exports.map(|export| async move {
            let mut connection = connection
                .another()
                .await
                .map_err(|problem| Error::Refused { signal: Signal::Traces, problem: problem.to_string() })?;
            send_until_taken(&mut connection, vec![(Signal::Traces, export)]).await
        });
        sending.buffer_unordered(IN_FLIGHT).try_collect().await
    }

    /// Sends the present as it happens for `time`.
    async fn keep_up(&mut self, time: Duration) -> Result<(), Error> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.catch_up(now() - nanos(EVERY)).await?;
            tokio::time::sleep_until(end.min(Instant::now() + EVERY)).await;
        }
        Ok(())
    }
}

impl Watching {
    /// Runs it.
    ///
    /// # Errors
    /// The server cannot be started or reached, or refuses a request.
    pub async fn run(&self, mut progress: impl FnMut(&str)) -> Result<Watched, Error> {
        if self.services == 0 || self.operations == 0 || self.rate == 0 {
            return Err(Error::Usage("`--services`, `--operations` and `--rate` are at least 1".into()));
        }
        let dir = self.work_dir.join(format!("watching-{:08x}", rand::random::<u32>()));
        let run = self.run_in(&dir, &mut progress).await;
        // Nothing but room is lost where it stays.
        let _ = std::fs::remove_dir_all(&dir);
        run
    }

    async fn run_in(&self, dir: &std::path::Path, progress: &mut impl FnMut(&str)) -> Result<Watched, Error> {
        let mut server = self.server(dir).await?;
        let api = Api::new(server.addresses().api_url());
        let traffic = Traffic::new(self.services, self.operations, self.rate, now() - nanos(self.history));
        let mut sent = Stream { traffic, connection: connect(server.addresses()).await? };
        let began = Instant::now();
        while sent.traffic.now() + nanos(CAUGHT_UP) < now() {
            sent.catch_up(now() - nanos(EVERY)).await?;
        }
        progress(&format!(
            "caught up with the present: {} spans, {:.0} s",
            whole(sent.traffic.made() as f64),
            began.elapsed().as_secs_f64()
        ));
        sent.keep_up(self.settle / 3).await?;
        let calm = Reading::of(&server, &api, &sent.traffic).await?;
        sent.keep_up(self.settle / 3 * 2).await?;
        progress("deploys");
        let start = Reading::of(&server, &api, &sent.traffic).await?;
        sent.traffic.deploy();
        self.announce(&api, sent.traffic.now()).await?;
        let watch = Watch::start(server.pid());
        sent.keep_up(self.duration).await?;
        let end = Reading::of(&server, &api, &sent.traffic).await?;
        let track = watch.end().await;
        let stored = server.sql().number("SELECT count(*) FROM spans").await?;
        // How it ends is no part of this.
        server.kill();
        Ok(self.report([&calm, &start, &end], &sent.traffic, stored, track.rss_max_bytes))
    }

    async fn announce(&self, api: &Api, at: u64) -> Result<(), Error> {
        let at = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default().to_string();
        for service in (0..self.services).map(Traffic::service) {
            let [_, version] = VERSIONS;
            let marker = json!({
                "service": service,
                "environment": ENVIRONMENT,
                "version": version,
                "kind": "release",
                "started_at": at,
            });
            api.announce(&marker).await?;
        }
        Ok(())
    }

    fn report(&self, [calm, start, end]: [&Reading; 3], traffic: &Traffic, stored: u64, rss_max_bytes: u64) -> Watched {
        let since = |name: &str| end.counted.of(name).saturating_sub(start.counted.of(name));
        let seconds = end.seconds(start);
        let looks = since("plimsoll_evaluations_total");
        let judging_seconds = since("plimsoll_evaluation_nanoseconds_total") as f64 / 1e9;
        let (deploys, operations_live) = (self.services as u64, traffic.operations_live());
        let sessions_bytes = end.counted.of("plimsoll_sessions_bytes");
        let (calm_cpu_share, watched_cpu_share) = (start.cpu_share(calm), end.cpu_share(start));
        // Of what all looks took.
        let every_ten_seconds = |all: f64| all / (looks as f64).max(1.0) * deploys as f64 / 10.0;
        let lost = ["folded_as_other", "aggregates_dropped", "aggregates_evicted"];
        Watched {
            deploys,
            operations_live,
            spans_per_second: (end.made - start.made) as f64 / seconds,
            acked_spans: traffic.made(),
            verified: stored == traffic.made(),
            seconds,
            looks,
            look_every_seconds: seconds * deploys as f64 / (looks as f64).max(1.0),
            judging_share: judging_seconds / seconds,
            judging_share_every_ten_seconds: every_ten_seconds(judging_seconds),
            calm_cpu_share,
            watched_cpu_share,
            watching_cpu_share_every_ten_seconds: every_ten_seconds((watched_cpu_share - calm_cpu_share) * seconds),
            events: since("plimsoll_regression_events_total"),
            sessions_bytes,
            sessions_bytes_per_operation: sessions_bytes as f64 / (operations_live as f64).max(1.0),
            sessions_without_room: since("plimsoll_sessions_without_room_total"),
            not_counted: lost.map(|name| end.counted.of(&format!("plimsoll_{name}_total"))).iter().sum(),
            calm_rss_bytes: start.usage.rss_bytes,
            rss_max_bytes,
            load_average: load_average(),
        }
    }

    async fn server(&self, dir: &std::path::Path) -> Result<Server, Error> {
        std::fs::create_dir_all(dir).map_err(Error::file(dir))?;
        let config = dir.join("plimsoll.yaml");
        let (signals, verdicts) = self.memory_mib();
        let interval = self.interval.map(|every| format!("  interval: {}ms\n", every.as_millis())).unwrap_or_default();
        let text = format!(
            "memory_limit: {}MiB\nmemory:\n  signals: {signals}MiB\n  verdicts: {verdicts}MiB\n\
             watch:\n  infer_deploys: false\n{interval}",
            signals + verdicts + 1024,
        );
        std::fs::write(&config, text).map_err(Error::file(&config))?;
        let mut arguments = vec!["--config".to_owned(), config.display().to_string()];
        arguments.extend(self.arguments.iter().cloned());
        let options = ServerOptions {
            binary: self.binary.clone(),
            data_dir: dir.join("data"),
            addresses: Addresses::free()?,
            cpu: self.server_cpu,
            arguments,
        };
        Server::start(options, PATIENCE).await
    }

    /// Returns the room that signals and verdicts need at most: a bucket every ten seconds of each operation, of both versions
    /// once there are two.
    fn memory_mib(&self) -> (u64, u64) {
        let operations = (self.services * self.operations) as u64;
        let buckets = (self.history + self.settle + self.duration * 2).as_secs() / 10 + 10;
        let signals = 256 + operations * buckets * CELL_BYTES / MIB;
        (signals, 32 + operations * SESSION_BYTES / MIB)
    }
}

impl Watched {
    /// Says whether it shows what it is to show: everything acked is there, deploys were looked at, and there was room for all.
    pub fn is_right(&self) -> bool {
        self.verified && self.looks > 0 && self.sessions_without_room == 0 && self.not_counted == 0
    }
}

impl Printable for Watched {
    fn table(&self) -> Table {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        pairs(vec![
            ("deploys", whole(self.deploys as f64)),
            ("operations live", whole(self.operations_live as f64)),
            ("spans/s", whole(self.spans_per_second)),
            ("spans acked", whole(self.acked_spans as f64)),
            ("acked and stored agree", if self.verified { "yes" } else { "NO" }.into()),
            ("seconds watched", format!("{:.0}", self.seconds)),
            ("looks", whole(self.looks as f64)),
            ("seconds from look to look of a deploy", format!("{:.1}", self.look_every_seconds)),
            ("looks by the clock, gathering included: share of a core", percent(self.judging_share)),
            ("the same, were each looked at every 10 s", percent(self.judging_share_every_ten_seconds)),
            ("server's processor time before the deploys", percent(self.calm_cpu_share)),
            ("the same while they are watched", percent(self.watched_cpu_share)),
            ("what is more", percent(self.watched_cpu_share - self.calm_cpu_share)),
            ("the same, were each looked at every 10 s", percent(self.watching_cpu_share_every_ten_seconds)),
            ("regression events", whole(self.events as f64)),
            ("kept between looks", mib(self.sessions_bytes)),
            ("bytes of it an operation", whole(self.sessions_bytes_per_operation)),
            ("looks after which there was no room to keep it", whole(self.sessions_without_room as f64)),
            ("left out of aggregates for lack of room", whole(self.not_counted as f64)),
            ("resident before the deploys", mib(self.calm_rss_bytes)),
            ("RSS max while they are watched", mib(self.rss_max_bytes)),
            ("load average", format!("{:.1}", self.load_average)),
        ])
    }
}

async fn connect(addresses: Addresses) -> Result<Connection, Error> {
    let endpoint = Endpoint {
        address: addresses.otlp_grpc,
        protocol: Protocol::Grpc,
        compression: Compression::None,
        timeout: PATIENCE,
    };
    Connection::open(endpoint)
        .await
        .map_err(|problem| Error::Unreachable { address: endpoint.address.to_string(), problem: problem.to_string() })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_by_its_whole_name() {
        let text = "# TYPE plimsoll_evaluations counter\nplimsoll_evaluations_total 12\nplimsoll_sessions_bytes 7\n";
        let counted = Counted(text.to_owned());
        assert_eq!(counted.of("plimsoll_evaluations_total"), 12);
        assert_eq!(counted.of("plimsoll_sessions_bytes"), 7);
        assert_eq!(counted.of("plimsoll_sessions"), 0);
    }
}
