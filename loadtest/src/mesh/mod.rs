//! A generated mesh of services, deploys that break it or do not, and what a running server says of each.
//!
//! Every scenario is an environment of its own in one server: twelve services that call each other, their spans, messages
//! and metrics sent over OTLP, first as history, then as it happens. Deploys are marked over REST, events are taken by a
//! webhook that checks signatures, and verdicts are held against what the table of scenarios says is right.
//!
//! | file | owns |
//! |---|---|
//! | `topology` | the services and whom they call |
//! | `scenario`, `scenarios` | what a scenario declares, and the table of them |
//! | `world`, `request`, `instances` | the mesh as it runs |
//! | `wire` | OTLP messages |
//! | `drive` | one run: server, clock, telemetry, markers |
//! | `api`, `receiver` | REST client, webhook receiver |
//! | `score`, `tables` | what was right, and how it is printed |

mod api;
mod drive;
mod instances;
mod receiver;
mod request;
mod scenario;
mod scenarios;
mod score;
mod tables;
mod topology;
mod wire;
mod world;

pub(crate) use api::Api;
pub(crate) use drive::send_until_taken;
pub use drive::{Mesh, Time};
pub use score::{MeshReport, Outcome, Totals};

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
