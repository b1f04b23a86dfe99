//! What each system is, what its ack means, and how it is configured: as its makers ship it, but for addresses and directory.

use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use super::Ports;
use crate::Error;

/// A system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// This one.
    Plimsoll,
    /// Mira with its log, as it comes.
    Mira,
    /// rotel with its `blackhole` exporter.
    Rotel,
    /// The Collector with its `nop` exporter.
    CollectorNop,
    /// The Collector with a queue in `file_storage`, as it comes.
    CollectorQueue,
    /// The same with `fsync: true`.
    CollectorQueueSynced,
}

/// What has happened to a request when it is acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckClass {
    /// Nothing: it is dropped.
    Dropped,
    /// It is in the memory of the process: a kill loses it.
    InMemory,
    /// It is written and not synced: a loss of power loses it.
    Written,
    /// It is written and synced.
    Synced,
}

impl std::fmt::Display for AckClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dropped => "dropped",
            Self::InMemory => "in memory",
            Self::Written => "written",
            Self::Synced => "fdatasync",
        })
    }
}

impl Kind {
    /// Every system, in the order of the table.
    pub const ALL: [Self; 6] =
        [Self::Plimsoll, Self::Mira, Self::Rotel, Self::CollectorNop, Self::CollectorQueue, Self::CollectorQueueSynced];

    /// Its name in tables and directories.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plimsoll => "plimsoll",
            Self::Mira => "mira",
            Self::Rotel => "rotel-blackhole",
            Self::CollectorNop => "collector-nop",
            Self::CollectorQueue => "collector-queue",
            Self::CollectorQueueSynced => "collector-queue-synced",
        }
    }

    /// When it acks.
    pub fn ack(self) -> AckClass {
        match self {
            Self::Plimsoll | Self::CollectorQueueSynced => AckClass::Synced,
            Self::Mira | Self::CollectorQueue => AckClass::Written,
            Self::Rotel => AckClass::InMemory,
            Self::CollectorNop => AckClass::Dropped,
        }
    }

    /// Says whether the records can be queried afterwards.
    pub fn answers_queries(self) -> bool {
        matches!(self, Self::Plimsoll | Self::Mira)
    }

    /// Says whether `path`, in its directory, holds records for good.
    pub(super) fn holds_records(self, path: &Path) -> bool {
        match self {
            Self::Plimsoll => path.extension().is_some_and(|ending| ending == "parquet"),
            Self::Mira => !path.components().any(|part| part.as_os_str() == ".wal") && !path.ends_with("log"),
            Self::CollectorQueue | Self::CollectorQueueSynced => {
                path.components().any(|part| part.as_os_str() == "queue")
            }
            Self::Rotel | Self::CollectorNop => false,
        }
    }

    /// Adds what the command line needs, and writes files where a system is configured by them.
    pub(super) fn arguments(self, command: &mut Command, dir: &Path, ports: &Ports) -> Result<(), Error> {
        match self {
            Self::Plimsoll => {
                command.arg("serve").arg("--data-dir").arg(dir.join("data"));
                for (flag, address) in [
                    ("--otlp-grpc", ports.grpc),
                    ("--otlp-http", ports.http),
                    ("--api", ports.api),
                    ("--grpc-api", ports.others[0]),
                ] {
                    command.arg(flag).arg(address.to_string());
                }
                command.env("PLIMSOLL_LISTEN_POSTGRES", ports.others[1].to_string());
            }
            Self::Mira => {
                command.arg("--data-dir").arg(dir.join("data"));
                command.arg("--grpc").arg(ports.grpc.to_string()).arg("--http").arg(ports.http.to_string());
            }
            Self::Rotel => {
                command.args(["start", "--exporter", "blackhole"]);
                command.arg("--otlp-grpc-endpoint").arg(ports.grpc.to_string());
                command.arg("--otlp-http-endpoint").arg(ports.http.to_string());
                command.arg("--pid-file").arg(dir.join("pid")).arg("--log-file").arg(dir.join("log"));
            }
            Self::CollectorNop => {
                let config = collector(ports, "{}", "nop: {}", "nop");
                command.arg("--config").arg(written(dir, &config)?);
            }
            Self::CollectorQueue | Self::CollectorQueueSynced => {
                let queue = dir.join("queue");
                std::fs::create_dir_all(&queue).map_err(Error::file(&queue))?;
                let fsync = self == Self::CollectorQueueSynced;
                let storage = format!("{{file_storage: {{directory: '{}', fsync: {fsync}}}}}", queue.display());
                // Nobody listens at the other end: what is measured is taking and keeping, at no cost of sending on.
                let exporter = format!(
                    "otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}, sending_queue: {{storage: file_storage, \
                     sizer: bytes, queue_size: 68719476736}}, retry_on_failure: {{max_elapsed_time: 0}}}}",
                    ports.others[0]
                );
                let config = collector(ports, &storage, &exporter, "otlp_grpc");
                command.arg("--config").arg(written(dir, &config)?);
            }
        }
        Ok(())
    }
}

fn collector(ports: &Ports, extensions: &str, exporter: &str, name: &str) -> String {
    let named = if extensions == "{}" { "[]" } else { "[file_storage]" };
    format!(
        "receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '{}'}}, http: {{endpoint: '{}'}}}}}}
extensions: {extensions}
exporters:
  {exporter}
service:
  extensions: {named}
  pipelines:
    traces: {{receivers: [otlp], exporters: [{name}]}}
    logs: {{receivers: [otlp], exporters: [{name}]}}
    metrics: {{receivers: [otlp], exporters: [{name}]}}
  telemetry:
    metrics: {{level: none}}
    logs: {{level: error}}
",
        ports.grpc, ports.http
    )
}

fn written(dir: &Path, config: &str) -> Result<std::path::PathBuf, Error> {
    let path = dir.join("collector.yaml");
    std::fs::write(&path, config).map_err(Error::file(&path))?;
    Ok(path)
}
