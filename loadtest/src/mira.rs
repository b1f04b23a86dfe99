//! Mira with the same records, asked what its query API can express: filters that all hold, newest first, up to a limit.
//!
//! It answers over HTTP as Plimsoll does, the round trip and JSON included.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::Error;
use crate::client::{Connection, Endpoint, Protocol, Reply};
use crate::compression::Compression;
use crate::process;
use crate::records::Signal;
use crate::server::Addresses;

/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running Mira; killed when dropped.
pub(crate) struct Mira {
    program: PathBuf,
    addresses: Addresses,
    log: PathBuf,
    child: Child,
    client: reqwest::Client,
}

impl Mira {
    /// Starts `program` on the directory `dir`, as it comes, and waits until it takes requests.
    pub(crate) async fn start(program: &Path, dir: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(Error::file(dir))?;
        let (addresses, log) = (Addresses::free()?, dir.join("log"));
        let out = File::create(&log).map_err(Error::file(&log))?;
        let errors = out.try_clone().map_err(Error::file(&log))?;
        let child = Command::new(program)
            .arg("--data-dir")
            .arg(dir.join("data"))
            .arg("--grpc")
            .arg(addresses.otlp_grpc.to_string())
            .arg("--http")
            .arg(addresses.otlp_http.to_string())
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .map_err(Error::file(program))?;
        let started = Self { program: program.to_owned(), addresses, log, child, client: reqwest::Client::new() };
        let deadline = Instant::now() + PATIENCE;
        while !started.takes_a_request().await {
            if process::has_ended(started.pid()) || Instant::now() >= deadline {
                return Err(started.failure("takes no requests"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(started)
    }

    /// Where it takes records.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            address: self.addresses.otlp_grpc,
            protocol: Protocol::Grpc,
            compression: Compression::None,
            timeout: Duration::from_secs(60),
        }
    }

    async fn takes_a_request(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.endpoint()).await else { return false };
        matches!(connection.send_message(Signal::Traces, &[]).await, Ok(Reply::Accepted { .. }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks with a query document, and returns how many rows came.
    pub(crate) async fn ask(&self, document: String) -> Result<usize, Error> {
        let url = format!("http://{}/api/v1/query", self.addresses.otlp_http);
        let failed = |problem: String| Error::Unreachable { address: url.clone(), problem };
        let sent = self.client.post(&url).body(document).send().await.map_err(|problem| failed(problem.to_string()))?;
        let status = sent.status();
        let answer: Value = sent.json().await.map_err(|problem| failed(problem.to_string()))?;
        match answer["rows"].as_array() {
            Some(rows) if status.is_success() => Ok(rows.len()),
            _ => Err(failed(format!("{status}: {answer}"))),
        }
    }

    /// Ends it as its users would, so that what it holds in memory is written.
    pub(crate) async fn end(mut self) -> Result<(), Error> {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // An error means that it is gone already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while !process::has_ended(self.pid()) {
            if Instant::now() >= deadline {
                return Err(self.failure("did not end after SIGTERM"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = self.child.wait();
        Ok(())
    }

    fn failure(&self, problem: &str) -> Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let from = log.char_indices().rev().nth(2_000).map_or(0, |(at, _)| at);
        Error::Server { binary: self.program.clone(), problem: problem.to_owned(), log: log[from..].to_owned() }
    }
}

impl Drop for Mira {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
