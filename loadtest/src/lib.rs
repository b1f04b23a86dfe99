//! Load generator, replay of recordings, and the torture and measurement runs built on them.
//!
//! Telemetry is made with the upstream `opentelemetry-proto` types and sent by clients written here, never by Plimsoll's
//! own codec, so that a fault in that codec cannot hide. Requests are encoded once; before each send only ids and times
//! are patched, so that the generator costs little beside the server it drives.

mod asking;
mod bodies;
mod client;
mod compression;
mod dataset;
mod device;
mod error;
mod freshness;
mod generate;
mod joining;
mod kill;
mod measure;
mod mesh;
mod mira;
mod otlp_json;
mod process;
mod questions;
mod recording;
mod records;
mod repeat;
mod replay;
mod report;
mod server;
pub mod shop;
mod sql;
mod stats;
mod system;
mod template;
mod watching;

pub use asking::{Answer, Answers, Asking, Times};
pub use client::{Connection, Endpoint, Protocol, Reply, SendError};
pub use compression::Compression;
pub use dataset::Dataset;
pub use error::Error;
pub use generate::{Load, LoadReport, Mix, Pace, Until};
pub use kill::{KillReport, Torture};
pub use measure::{
    Asked, Comparison, Cores, Day, Failure, Isolation, Latency, Machine, Measurement, Measurements, Memory, Overload,
    Part, Run, STREAMS, Soak, SoakReport, Storage, Stream, Synced, peer_scripts,
};
pub use mesh::{Mesh, MeshReport, Outcome, Time, Totals};
pub use otlp_json::{OtlpJsonError, to_protobuf};
pub use process::{Moment, Track};
pub use questions::{QUESTIONS, Question};
pub use recording::{Line, Recording};
pub use records::{Shape, Signal};
pub use replay::{Replay, ReplayReport, ReplayTarget, Shift, Speed};
pub use report::{Format, Printable};
pub use server::{Addresses, Server, ServerOptions};
pub use sql::{Rows, Sql};
pub use stats::{Counts, Quantiles};
pub use system::{AckClass, Kind, Programs};
pub use template::Samples;
pub use watching::{Watched, Watching};
