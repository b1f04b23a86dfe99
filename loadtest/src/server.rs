//! A Plimsoll server started for a test or a measurement, on ports of its own, and ended by its process id.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use crate::{Error, Sql};

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// OTLP/gRPC.
    pub otlp_grpc: SocketAddr,
    /// OTLP/HTTP.
    pub otlp_http: SocketAddr,
    /// REST and SQL.
    pub api: SocketAddr,
    /// Plimsoll's own gRPC.
    pub grpc_api: SocketAddr,
    /// The Postgres protocol.
    pub postgres: SocketAddr,
}

impl Addresses {
    /// Picks loopback ports that are free right now.
    ///
    /// # Errors
    /// The system has none.
    pub fn free() -> Result<Self, Error> {
        // All are held until all are chosen, so that they differ.
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(free_port()?);
        }
        let address = |at: usize| held[at].local_addr().map_err(Error::file("127.0.0.1:0"));
        Ok(Self {
            otlp_grpc: address(0)?,
            otlp_http: address(1)?,
            api: address(2)?,
            grpc_api: address(3)?,
            postgres: address(4)?,
        })
    }

    /// Returns the base of the REST API.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }
}

/// Ports that no system gives to outgoing connections by itself: of those, one may be taken between the choice and the start.
const CHOSEN: std::ops::Range<u16> = 10_000..32_768;

/// Holds a port that nobody listens on; another one each time, from anywhere on, so that programs side by side seldom meet.
fn free_port() -> Result<TcpListener, Error> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::rng().random_range(CHOSEN)));
    let bind = |_| {
        // Relaxed: the number is all that is shared.
        let port = CHOSEN.start + NEXT.fetch_add(1, Ordering::Relaxed) % (CHOSEN.end - CHOSEN.start);
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
    };
    let none = || std::io::Error::from(std::io::ErrorKind::AddrInUse);
    CHOSEN.into_iter().find_map(bind).ok_or_else(none).map_err(Error::file("ports of 127.0.0.1"))
}

/// How to start a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The `plimsoll` program.
    pub binary: PathBuf,
    /// Its data directory; made where there is none.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub addresses: Addresses,
    /// The processor it is pinned to with `taskset`, where wanted.
    pub cpu: Option<usize>,
    /// More arguments of `plimsoll serve`.
    pub arguments: Vec<String>,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until it says that it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends, or is not ready in time; the error holds the end of its log.
    pub async fn start(options: ServerOptions, within: Duration) -> Result<Self, Error> {
        std::fs::create_dir_all(&options.data_dir).map_err(Error::file(&options.data_dir))?;
        // Beside the data directory, which is the server's alone.
        let log = options.data_dir.with_extension("log");
        let file = File::options().create(true).append(true).open(&log).map_err(Error::file(&log))?;
        let errors = file.try_clone().map_err(Error::file(&log))?;
        let mut command = match options.cpu {
            None => Command::new(&options.binary),
            Some(cpu) => {
                // taskset replaces itself, so the process id is the server's.
                let mut command = Command::new("taskset");
                command.arg("-c").arg(cpu.to_string()).arg(&options.binary);
                command
            }
        };
        let at = &options.addresses;
        command.arg("serve").arg("--data-dir").arg(&options.data_dir);
        for (flag, address) in [
            ("--otlp-grpc", at.otlp_grpc),
            ("--otlp-http", at.otlp_http),
            ("--api", at.api),
            ("--grpc-api", at.grpc_api),
            ("--postgres", at.postgres),
        ] {
            command.arg(flag).arg(address.to_string());
        }
        command.args(&options.arguments).stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().map_err(Error::file(&options.binary))?;
        let mut server = Self { options, child, log };
        server.wait_ready(within).await?;
        Ok(server)
    }

    async fn wait_ready(&mut self, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        let http = reqwest::Client::new();
        let url = format!("{}/readyz", self.options.addresses.api_url());
        loop {
            if let Some(status) = self.child.try_wait().map_err(Error::file(&self.options.binary))? {
                return Err(self.failure(format!("ended with {status} before it was ready")));
            }
            let answer = http.get(&url).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.failure(format!("was not ready at `{url}` within {within:?}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn failure(&self, problem: String) -> Error {
        Error::Server { binary: self.options.binary.clone(), problem, log: tail(&self.log) }
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.options.addresses
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// How it was started, to start another on the same data.
    pub fn options(&self) -> ServerOptions {
        self.options.clone()
    }

    /// The file its output goes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// A client for queries.
    pub fn sql(&self) -> Sql {
        Sql::new(self.options.addresses.api_url())
    }

    /// Ends it as a power cut would: SIGKILL, with nothing said before.
    pub fn kill(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// It has not ended in time.
    pub async fn stop(&mut self, within: Duration) -> Result<ExitStatus, Error> {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // An error means that it is gone already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().map_err(Error::file(&self.options.binary))? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.failure(format!("did not end within {within:?} of SIGTERM")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    const BYTES: u64 = 4000;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|problem| format!("(unreadable: {problem})"))
}
