//! Receivers that are measured side by side, each started in the same way: on ports of its own, in an empty directory, pinned
//! to one processor, and ended by its process id.
//!
//! *Invariants.* What a system has used is read after it has ended and before it is waited for, so that nothing it did is
//! left out.

mod kind;
mod programs;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

pub use kind::{AckClass, Kind};
pub use programs::Programs;

use crate::client::{Connection, Endpoint, Protocol};
use crate::compression::Compression;
use crate::process::{self, Usage};
use crate::records::Signal;
use crate::{Error, Sql};

/// Ports that a system may listen on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) others: [SocketAddr; 2],
}

impl Ports {
    fn free() -> Result<Self, Error> {
        // All are held until all are chosen, so that they differ.
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::file("127.0.0.1:0"))?);
        }
        let address = |at: usize| held[at].local_addr().map_err(Error::file("127.0.0.1:0"));
        Ok(Self { grpc: address(0)?, http: address(1)?, api: address(2)?, others: [address(3)?, address(4)?] })
    }
}

/// Where and how a system is started.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// An empty directory of its own is made in here.
    pub(crate) work_dir: PathBuf,
    /// The processors it may use, as `taskset` takes them; `None` for all.
    pub(crate) cpus: Option<String>,
    /// Environment variables.
    pub(crate) environment: Vec<(String, String)>,
    /// More arguments, of Plimsoll only.
    pub(crate) arguments: Vec<String>,
}

/// A running system; killed, and its directory removed, when dropped.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) ports: Ports,
    dir: Directory,
    child: Child,
}

/// A directory that goes when it is let go of.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How long a system may take to take its first request, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

impl Running {
    pub(crate) async fn start(kind: Kind, programs: &Programs, place: &Place) -> Result<Self, Error> {
        let dir = place.work_dir.join(format!("{}-{:08x}", kind.name(), rand::random::<u32>()));
        std::fs::create_dir_all(&dir).map_err(Error::file(&dir))?;
        Self::start_in(Directory(dir), kind, programs, place).await
    }

    /// Ends it and starts it anew on what it left.
    pub(crate) async fn restart(mut self, programs: &Programs, place: &Place) -> Result<Self, Error> {
        self.end_process().await?;
        let dir = Directory(std::mem::take(&mut self.dir.0));
        Self::start_in(dir, self.kind, programs, place).await
    }

    async fn start_in(directory: Directory, kind: Kind, programs: &Programs, place: &Place) -> Result<Self, Error> {
        let program = programs.of(kind)?;
        let dir = &directory.0;
        let ports = Ports::free()?;
        let mut command = match &place.cpus {
            None => Command::new(&program),
            Some(cpus) => {
                // taskset replaces itself, so the process id is the system's.
                let mut command = Command::new("taskset");
                command.arg("-c").arg(cpus).arg(&program);
                command
            }
        };
        kind.arguments(&mut command, dir, &ports)?;
        if kind == Kind::Plimsoll {
            command.args(&place.arguments);
        }
        for (name, value) in &place.environment {
            command.env(name, value);
        }
        let log = File::create(dir.join("log")).map_err(Error::file(dir.join("log")))?;
        let errors = log.try_clone().map_err(Error::file(dir.join("log")))?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir(dir);
        let child = command.spawn().map_err(Error::file(&program))?;
        let running = Self { kind, ports, dir: directory, child };
        running.wait_for_first_ack(&program).await?;
        Ok(running)
    }

    async fn wait_for_first_ack(&self, program: &Path) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if process::has_ended(self.pid()) {
                return Err(self.failure(program, "ended before it took a request"));
            }
            if self.takes_a_request().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.failure(program, "took no request in a minute"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends an empty request of spans, which every receiver takes.
    async fn takes_a_request(&self) -> bool {
        let endpoint = self.endpoint(Protocol::Http, Compression::None);
        let Ok(mut connection) = Connection::open(endpoint).await else {
            return false;
        };
        matches!(connection.send_message(Signal::Traces, &[]).await, Ok(crate::Reply::Accepted { .. }))
    }

    fn failure(&self, program: &Path, problem: &str) -> Error {
        let log = std::fs::read_to_string(self.dir.0.join("log")).unwrap_or_default();
        let from = log.char_indices().rev().nth(2_000).map_or(0, |(at, _)| at);
        Error::Server { binary: program.to_owned(), problem: problem.to_owned(), log: log[from..].to_owned() }
    }

    pub(crate) fn endpoint(&self, protocol: Protocol, compression: Compression) -> Endpoint {
        let address = if protocol == Protocol::Grpc { self.ports.grpc } else { self.ports.http };
        Endpoint { address, protocol, compression, timeout: Duration::from_secs(30) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client for queries, where it answers SQL as Plimsoll does.
    pub(crate) fn sql(&self) -> Option<Sql> {
        (self.kind == Kind::Plimsoll).then(|| Sql::new(format!("http://{}", self.ports.api)))
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Usage {
        process::usage(self.pid()).unwrap_or_default()
    }

    /// Asks it to end (SIGTERM), waits until it has, and returns what it used in its whole life and what it left on disk.
    pub(crate) async fn end(mut self) -> Result<(Usage, Disk), Error> {
        let used = self.end_process().await?;
        Ok((used, self.disk()))
    }

    async fn end_process(&mut self) -> Result<Usage, Error> {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // An error means that it is gone already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while !process::has_ended(self.pid()) {
            if Instant::now() >= deadline {
                return Err(self.failure(Path::new(self.kind.name()), "did not end within a minute of SIGTERM"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let used = self.usage();
        let _ = self.child.wait();
        Ok(used)
    }

    /// What lies in its directory now.
    pub(crate) fn disk(&self) -> Disk {
        Disk {
            all_bytes: bytes_under(&self.dir.0, &|path| !path.ends_with("log")),
            record_bytes: bytes_under(&self.dir.0, &|path| self.kind.holds_records(path)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a system left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Everything in its directory but its output.
    pub(crate) all_bytes: u64,
    /// The files that hold records for good: no write-ahead log, which is allocated ahead, and no catalog.
    pub(crate) record_bytes: u64,
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
