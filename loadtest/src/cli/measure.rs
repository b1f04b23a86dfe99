//! `measure` and `soak`: their options, and where their results go.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use plimsoll_loadtest::{
    Comparison, Error, Format, Kind, Measurement, Measurements, Part, Printable, STREAMS, Soak, peer_scripts,
};

use super::duration;

/// Options of `measure`.
#[derive(Args)]
pub(super) struct Arguments {
    /// The `plimsoll` program.
    #[arg(long, env = "PLIMSOLL_BIN", default_value = "target/release/plimsoll")]
    server: PathBuf,
    /// Where data directories are made; a disk, not memory, for honest syncs.
    #[arg(long, default_value = ".")]
    work_dir: PathBuf,
    /// The processor that systems are pinned to, one after another; give `none` to pin nothing.
    #[arg(long, default_value = "0")]
    server_cpu: String,
    /// The processor that this program pins itself to, and with it Mira's load generator; `none` to pin nothing.
    #[arg(long, default_value = "1")]
    generator_cpu: String,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Only these systems.
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<Kind>,
    /// Only streams whose name holds one of these.
    #[arg(long, value_delimiter = ';')]
    streams: Vec<String>,
    /// How often each stream is run at each system, in turn; the best counts, the spread is shown.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// How long each load lasts.
    #[arg(long, default_value = "5s", value_parser = duration)]
    load_time: Duration,
    /// How long each of the two overloads lasts.
    #[arg(long, default_value = "60s", value_parser = duration)]
    overload_time: Duration,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// Records that Mira's load generator sends.
    #[arg(long, default_value_t = 4_000_000)]
    loadgen_records: u64,
    /// A directory of OTLP/JSON lines to send as fast as it goes.
    #[arg(long, env = "PLIMSOLL_TRAINTICKET")]
    recording: Option<PathBuf>,
    /// Writes everything measured as JSON here, after each step.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the tables as Markdown here, after each step.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// More arguments of `plimsoll serve`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Arguments {
    pub(super) async fn run(self, format: Format) -> Result<(String, bool), Error> {
        if let Some(unknown) =
            self.streams.iter().find(|part| !STREAMS.iter().any(|stream| stream.name.contains(part.as_str())))
        {
            let names: Vec<&str> = STREAMS.iter().map(|stream| stream.name).collect();
            return Err(Error::Usage(format!("no stream's name holds `{unknown}`; the streams are {names:?}")));
        }
        let server_cpu = processor("--server-cpu", &self.server_cpu)?;
        pin(processor("--generator-cpu", &self.generator_cpu)?)?;
        let all = |given: Vec<Kind>| if given.is_empty() { Kind::ALL.to_vec() } else { given };
        let measurement = Measurement {
            binary: self.server,
            work_dir: absolute(&self.work_dir)?,
            peer_scripts: peer_scripts(),
            server_cpu,
            comparison: Comparison {
                kinds: all(self.systems),
                streams: self.streams,
                rounds: self.rounds,
                load_time: self.load_time,
                connections: self.connections.max(1),
                in_flight: self.in_flight.max(1),
                loadgen_records: self.loadgen_records,
            },
            parts: if self.parts.is_empty() { Part::ALL.to_vec() } else { self.parts },
            overload_time: self.overload_time,
            recording: self.recording,
            arguments: self.arguments,
        };
        let began = std::time::Instant::now();
        let progress = |what: &str| {
            let _ = writeln!(std::io::stderr(), "{:>5.0} s  {what}", began.elapsed().as_secs_f64());
        };
        let (json, markdown) = (self.json, self.markdown);
        let keep = |measured: &Measurements| {
            for (path, text) in [(&json, measured.print(Format::Json)), (&markdown, measured.markdown())] {
                let written = path.as_ref().map(|path| (path, std::fs::write(path, text)));
                if let Some((path, Err(problem))) = written {
                    let _ = writeln!(std::io::stderr(), "`{}`: {problem}", path.display());
                }
            }
        };
        let measured = measurement.run(progress, keep).await;
        let right = measured.is_right();
        Ok((measured.print(format), right))
    }
}

/// Options of `soak`.
#[derive(Args)]
pub(super) struct SoakArguments {
    /// The `plimsoll` program.
    #[arg(long, env = "PLIMSOLL_BIN", default_value = "target/release/plimsoll")]
    server: PathBuf,
    /// Where the data directory is made.
    #[arg(long, default_value = ".")]
    work_dir: PathBuf,
    /// The processor of the server; `none` to pin nothing.
    #[arg(long, default_value = "0")]
    server_cpu: String,
    /// The processor of this program; `none` to pin nothing.
    #[arg(long, default_value = "1")]
    generator_cpu: String,
    /// How long.
    #[arg(long, default_value = "10m", value_parser = duration)]
    duration: Duration,
    /// The load, as a part of what the server takes at saturation.
    #[arg(long, default_value_t = 0.6)]
    share: f64,
    /// More arguments of `plimsoll serve`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl SoakArguments {
    pub(super) async fn run(self, format: Format) -> Result<(String, bool), Error> {
        let server_cpu = processor("--server-cpu", &self.server_cpu)?;
        pin(processor("--generator-cpu", &self.generator_cpu)?)?;
        let soak = Soak {
            binary: self.server,
            work_dir: absolute(&self.work_dir)?,
            server_cpu,
            duration: self.duration,
            share: self.share,
            arguments: self.arguments,
        };
        let report = soak.run().await?;
        Ok((report.print(format), report.flat && report.verified != Some(false)))
    }
}

fn absolute(path: &std::path::Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|problem| Error::Usage(format!("`{}`: {problem}", path.display())))
}

fn processor(option: &str, text: &str) -> Result<Option<usize>, Error> {
    match text {
        "none" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| Error::Usage(format!("`{option} {number}` is neither the number of a processor nor `none`"))),
    }
}

/// Pins every thread of this program, and with them the programs it starts that are not pinned otherwise.
fn pin(cpu: Option<usize>) -> Result<(), Error> {
    let Some(cpu) = cpu else {
        return Ok(());
    };
    let own = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", &cpu.to_string(), &own]).output();
    match pinned {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Error::Usage(format!(
            "cannot pin to processor {cpu}: {} (give another `--generator-cpu`, or `none`)",
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
        Err(problem) => {
            Err(Error::Usage(format!("`taskset` cannot be started ({problem}): give `none` to pin nothing")))
        }
    }
}
