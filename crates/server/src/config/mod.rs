//! Configuration of `plimsoll serve`: read, checked and turned into values before anything starts.
//!
//! Flags override `PLIMSOLL_*`, which override the file, which overrides the defaults. All problems are reported at once.

mod budget;
mod environment;
mod listen;
mod reader;
mod retention;
mod text;
mod tolerances;
mod units;

use std::path::{Path, PathBuf};
use std::time::Duration;

use plimsoll_alert::SinkConfig;
use plimsoll_otlp::REQUEST_BYTES_MAX;
use plimsoll_verdict::TolerancePolicy;
use serde_json::Value;
use tracing_subscriber::EnvFilter;

pub use budget::MemoryBudget;
pub(crate) use environment::Environment;
pub use listen::Listen;
use plimsoll_store::RetentionRule;
pub use reader::Env;
use reader::Section;
use units::{DURATION, SIZE};
pub use units::{format_size, parse_duration, parse_size};

/// Everything that `plimsoll serve` can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// Addresses to listen on.
    pub listen: Listen,
    /// How memory is divided.
    pub memory: MemoryBudget,
    /// Receivers.
    pub ingest: IngestConfig,
    /// Tail and segments.
    pub store: StoreConfig,
    /// SQL.
    pub query: QueryConfig,
    /// The Postgres protocol.
    pub postgres: PostgresConfig,
    /// Deploys and verdicts.
    pub watch: WatchConfig,
    /// Where regression events go.
    pub sinks: Vec<SinkConfig>,
    /// The bearer token that the API asks for, where one is set.
    pub api_token: Option<String>,
    /// Address of the API as others reach it, without a trailing slash; used in links.
    pub public_url: Option<String>,
    /// Plimsoll's own logs and spans.
    pub telemetry: TelemetryConfig,
}

/// Receivers.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// Largest export request, compressed and not.
    pub request_bytes_max: u64,
    /// How long a request waits for room before it is refused retryably.
    pub park: Duration,
    /// Queues between receivers and the committer; 0 is one a core.
    pub lanes: usize,
    /// Connections of both OTLP listeners together.
    pub connections_max: usize,
    /// How long a request is remembered, so that a byte-identical retry is not stored again; zero turns that off.
    pub retry_window: Duration,
}

/// Tail and segments.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Rows wait this long in memory before they become a segment.
    pub flush_interval: Duration,
    /// Rows older than this are removed.
    pub retention: Duration,
    /// Tables and environments whose rows are kept for another time.
    pub retention_rules: Vec<RetentionRule>,
    /// Bytes of segments, at most.
    pub disk_max: u64,
    /// Free bytes below which the disk counts as full.
    pub disk_reserve: u64,
    /// Size of one journal file.
    pub journal_file: u64,
    /// Columns of a flush that are encoded at a time; 0 is half of the cores.
    pub encoders: usize,
}

/// SQL.
#[derive(Debug, Clone)]
pub struct QueryConfig {
    /// Time of one query.
    pub timeout: Duration,
    /// Rows that one query may return.
    pub rows_max: u64,
    /// Bytes that all queries together may write of what does not fit into their memory; 0 for none.
    pub spill_max: u64,
    /// Queries at once.
    pub concurrency: usize,
    /// Threads that queries run on; 0 is one a core.
    pub threads: usize,
}

/// The Postgres protocol.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// Sessions at once.
    pub connections_max: usize,
    /// A session that asks nothing for this long is ended.
    pub idle_timeout: Duration,
}

/// Deploys and verdicts.
#[derive(Debug, Clone)]
pub struct WatchConfig {
    /// How often open deploys are judged.
    pub interval: Duration,
    /// Whether a first-seen `service.version` counts as a deploy.
    pub infer_deploys: bool,
    /// Names of span events and log events that are user actions.
    pub actions: Vec<String>,
    /// Attributes whose values are counted by outcome, beside those that always are.
    pub attributes: Vec<String>,
    /// What counts as worse, for all services and where it differs.
    pub tolerances: TolerancePolicy,
}

/// Plimsoll's own logs and spans.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// `text` or `json`.
    pub log_json: bool,
    /// A `tracing` filter, for instance `info` or `plimsoll_store=debug`.
    pub log_filter: String,
    /// Where its own spans go over OTLP/gRPC, for instance `http://127.0.0.1:4317`; nowhere if unset.
    pub otlp_endpoint: Option<String>,
}

/// What was said on the command line; it wins over everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--otlp-grpc`
    pub otlp_grpc: Option<String>,
    /// `--otlp-http`
    pub otlp_http: Option<String>,
    /// `--api`
    pub api: Option<String>,
    /// `--grpc-api`
    pub grpc_api: Option<String>,
    /// `--postgres`
    pub postgres: Option<String>,
}

/// A configuration that cannot be used, with every reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.listing())]
pub struct ConfigError {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    /// Everything that is wrong.
    pub problems: Vec<String>,
}

impl ConfigError {
    fn listing(&self) -> String {
        let source = match &self.file {
            Some(file) => format!("`{}`", file.display()),
            None => "the configuration".to_owned(),
        };
        let plural = if self.problems.len() == 1 { "problem" } else { "problems" };
        format!("{source} has {} {plural}:\n  - {}", self.problems.len(), self.problems.join("\n  - "))
    }
}

impl Config {
    /// Reads the file, the environment and the flags, and checks all of it.
    ///
    /// # Errors
    /// Every problem found, at once.
    pub fn load(file: Option<&Path>, overrides: &Overrides, env: Env<'_>) -> Result<Self, ConfigError> {
        let fail = |problems: Vec<String>| ConfigError { file: file.map(Path::to_owned), problems };
        let text = match file {
            Some(path) => {
                std::fs::read_to_string(path).map_err(|error| fail(vec![format!("cannot be read: {error}")]))?
            }
            None => String::new(),
        };
        let mut problems = Vec::new();
        let values = match text::parse(&text, env, &mut problems).map_err(fail)? {
            Value::Object(values) => values,
            other => {
                return Err(fail(vec![format!("must be a section of settings, found {}", reader::describe(&other))]));
            }
        };
        let config = Self::read(Section::root(values, env), overrides, &mut problems);
        if problems.is_empty() { Ok(config) } else { Err(fail(problems)) }
    }

    fn read(mut root: Section<'_>, overrides: &Overrides, problems: &mut Vec<String>) -> Self {
        let data_dir = root.path_buf("data_dir", "./plimsoll-data", problems);
        let mut ingest_section = root.section("ingest", problems);
        let connections_max = count(&mut ingest_section, "connections_max", 1_024, problems);
        let retry_window = duration(&mut ingest_section, "retry_window", Duration::from_secs(600), problems);
        let mut section = root.section("postgres", problems);
        let postgres = PostgresConfig {
            connections_max: count(&mut section, "connections_max", 100, problems),
            idle_timeout: duration(&mut section, "idle_timeout", Duration::from_secs(3_600), problems),
        };
        section.finish(problems);
        if !(1..=10_000).contains(&postgres.connections_max) {
            problems.push("`postgres.connections_max` must lie between 1 and 10000".to_owned());
        }
        if postgres.idle_timeout < Duration::from_secs(1) {
            problems.push("`postgres.idle_timeout` must be at least `1s`".to_owned());
        }
        let memory = budget::read(
            &mut root,
            connections_max.saturating_add(postgres.connections_max),
            !retry_window.is_zero(),
            problems,
        );

        let mut section = root.section("listen", problems);
        let listen = listen::read(&mut section, overrides, problems);
        section.finish(problems);

        let mut section = ingest_section;
        let ingest = IngestConfig {
            request_bytes_max: size(&mut section, "request_bytes_max", memory.requests().min(64 << 20), problems),
            park: duration(&mut section, "park", Duration::from_secs(2), problems),
            lanes: count(&mut section, "lanes", 0, problems),
            connections_max,
            retry_window,
        };
        section.finish(problems);
        if ingest.connections_max == 0 {
            problems.push("`ingest.connections_max` must be at least 1".to_owned());
        }
        if ingest.lanes > LANES_MAX {
            problems.push(format!("`ingest.lanes` must be at most {LANES_MAX}, and 0 for one a core"));
        }
        if ingest.request_bytes_max == 0 || ingest.request_bytes_max > REQUEST_BYTES_MAX as u64 {
            problems.push(format!(
                "`ingest.request_bytes_max` must lie between 1 byte and {}",
                format_size(REQUEST_BYTES_MAX as u64)
            ));
        } else if ingest.request_bytes_max > memory.requests() {
            problems.push(format!(
                "`ingest.request_bytes_max` ({}) must fit into three quarters of `memory.in_flight` ({}): lower the one or raise `memory_limit`",
                format_size(ingest.request_bytes_max),
                format_size(memory.requests()),
            ));
        }

        let mut section = root.section("store", problems);
        let store = StoreConfig {
            flush_interval: duration(&mut section, "flush_interval", Duration::from_secs(30), problems),
            retention: duration(&mut section, "retention", Duration::from_secs(7 * 86_400), problems),
            retention_rules: retention::read(section.take_raw("retention_rules"), problems),
            disk_max: match size(&mut section, "disk_max", 0, problems) {
                0 => u64::MAX,
                bytes => bytes,
            },
            disk_reserve: size(&mut section, "disk_reserve", 256 << 20, problems),
            journal_file: size(&mut section, "journal_file", 64 << 20, problems),
            encoders: count(&mut section, "encoders", 0, problems),
        };
        section.finish(problems);
        if store.encoders > ENCODERS_MAX {
            problems.push(format!("`store.encoders` must be at most {ENCODERS_MAX}, and 0 for half of the cores"));
        }
        for (name, value) in [("flush_interval", store.flush_interval), ("retention", store.retention)] {
            if value.is_zero() {
                problems.push(format!("`store.{name}` must be longer than zero"));
            }
        }
        if store.journal_file < 1 << 20 {
            problems.push("`store.journal_file` must be at least `1MiB`".to_owned());
        }

        let mut section = root.section("query", problems);
        let query = QueryConfig {
            timeout: duration(&mut section, "timeout", Duration::from_secs(30), problems),
            rows_max: count(&mut section, "rows_max", 1_000_000, problems) as u64,
            spill_max: size(&mut section, "spill_max", 1 << 30, problems),
            concurrency: count(&mut section, "concurrency", 4, problems).max(1),
            threads: count(&mut section, "threads", 0, problems),
        };
        section.finish(problems);
        if query.timeout.is_zero() {
            problems.push("`query.timeout` must be longer than zero".to_owned());
        }
        if query.rows_max == 0 {
            problems.push("`query.rows_max` must be at least 1".to_owned());
        }

        let mut section = root.section("watch", problems);
        let watch = WatchConfig {
            interval: duration(&mut section, "interval", Duration::from_secs(5), problems),
            infer_deploys: flag(&mut section, "infer_deploys", true, problems),
            actions: names("watch.actions", section.take_raw("actions"), problems),
            attributes: names("watch.attributes", section.take_raw("attributes"), problems),
            tolerances: tolerances::read(&mut section, problems),
        };
        section.finish(problems);
        if watch.interval.is_zero() || watch.interval > Duration::from_secs(10) {
            problems.push("`watch.interval` must be longer than zero and at most `10s`".to_owned());
        }

        let mut section = root.section("alerts", problems);
        let sinks = read_sinks(section.take_raw("sinks"), problems);
        section.finish(problems);

        let mut section = root.section("auth", problems);
        let api_token = section.text("token", problems).filter(|token| !token.is_empty());
        section.finish(problems);

        let public_url = root
            .take("public_url", WEB_ADDRESS, |text| is_web_address(text).then(|| text.to_owned()), problems)
            .map(|url| url.trim_end_matches('/').to_owned());

        let mut section = root.section("telemetry", problems);
        let telemetry = TelemetryConfig {
            log_json: section
                .take("log_format", "`text` or `json`", |t| ["text", "json"].iter().position(|f| *f == t), problems)
                .is_some_and(|position| position == 1),
            log_filter: section
                .take("log", LOG_FILTER, |text| is_log_filter(text).then(|| text.to_owned()), problems)
                .unwrap_or_else(|| "info".to_owned()),
            otlp_endpoint: section
                .take(
                    "otlp_endpoint",
                    WEB_ADDRESS,
                    |text| (text.is_empty() || is_web_address(text)).then(|| text.to_owned()),
                    problems,
                )
                .filter(|endpoint| !endpoint.is_empty()),
        };
        section.finish(problems);
        root.finish(problems);

        Self {
            data_dir: overrides.data_dir.clone().unwrap_or(data_dir),
            listen,
            memory,
            ingest,
            store,
            query,
            postgres,
            watch,
            sinks,
            api_token,
            public_url,
            telemetry,
        }
    }
}

/// More queues than this are a slip of the pen.
const LANES_MAX: usize = 256;
/// More of them wait for the longest column.
pub(crate) const ENCODERS_MAX: usize = 8;
const LOG_FILTER: &str =
    "a level (`error`, `warn`, `info`, `debug`, `trace` or `off`) or a filter such as `info,plimsoll_store=debug`";
const WEB_ADDRESS: &str = "an address with `http://` or `https://`";

/// A bare word that is no level names a part of the program, which would then be the only one that says anything: most
/// likely it was meant as a level, unless there is such a part.
fn is_log_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let meant = |word: &str| {
        LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
            || word.contains(['=', '['])
            || word.starts_with("plimsoll")
    };
    let words = |text: &str| text.split(',').all(|word| meant(word.trim()));
    // Commas also stand between the fields of a span.
    (text.contains('[') || words(text)) && EnvFilter::try_new(text).is_ok()
}

fn is_web_address(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Reads a short list of names.
fn names(path: &str, raw: Option<serde_json::Value>, problems: &mut Vec<String>) -> Vec<String> {
    const NAMES_MAX: usize = 32;
    let Some(raw) = raw else { return Vec::new() };
    match serde_json::from_value::<Vec<String>>(raw) {
        Ok(names) if names.len() <= NAMES_MAX && names.iter().all(|name| !name.is_empty() && name.len() < 64) => names,
        _ => {
            problems.push(format!("`{path}` must be a list of at most {NAMES_MAX} names of 1 to 63 bytes"));
            Vec::new()
        }
    }
}

fn size(section: &mut Section<'_>, key: &str, default: u64, problems: &mut Vec<String>) -> u64 {
    section.take(key, SIZE, parse_size, problems).unwrap_or(default)
}

fn duration(section: &mut Section<'_>, key: &str, default: Duration, problems: &mut Vec<String>) -> Duration {
    section.take(key, DURATION, parse_duration, problems).unwrap_or(default)
}

fn count(section: &mut Section<'_>, key: &str, default: usize, problems: &mut Vec<String>) -> usize {
    section.take(key, "a whole number", |text| text.replace('_', "").parse().ok(), problems).unwrap_or(default)
}

fn flag(section: &mut Section<'_>, key: &str, default: bool, problems: &mut Vec<String>) -> bool {
    let parse = |text: &str| match text {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    };
    section.take(key, "`true` or `false`", parse, problems).unwrap_or(default)
}

/// Says where a `*` stands that would be taken for itself.
fn misplaced_star(path: &str, written: &str) -> Option<String> {
    let beginning = written.strip_suffix('*').unwrap_or(written);
    beginning
        .contains('*')
        .then(|| format!("{path} is `{written}`: a `*` may stand at the end only, after the beginning of a name"))
}

fn read_sinks(raw: Option<Value>, problems: &mut Vec<String>) -> Vec<SinkConfig> {
    let items = match raw {
        None => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(other) => {
            problems.push(format!("`alerts.sinks` must be a list of sinks, found {}", reader::describe(&other)));
            return Vec::new();
        }
    };
    let mut sinks: Vec<SinkConfig> = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        sinks.extend(reader::whole(&format!("alerts.sinks[{i}]"), item, &SinkConfig::KEYS, problems));
    }
    for sink in &sinks {
        for (key, written) in [("environments", &sink.environments), ("services", &sink.services)] {
            let path = format!("`alerts.sinks`: `{key}` of `{}`", sink.name);
            problems.extend(written.iter().filter_map(|written| misplaced_star(&path, written)));
        }
    }
    if let Err(error) = plimsoll_alert::check_sinks(&sinks) {
        problems.extend(error);
    }
    sinks
}

#[cfg(test)]
mod tests;
