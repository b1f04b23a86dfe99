//! Receivers, admission, lock-free lanes, commit and replay.
//!
//! | file | owns |
//! |---|---|
//! | `options` | what may be taken, held and waited for; the memory bound |
//! | `ingest` | start, status, drain |
//! | `listener`, `seat`, `connection` | accepting; who makes room; a connection's share of memory |
//! | `share` | who floods, and who is quiet |
//! | `grpc`, `http` | the two protocols, from headers to answers |
//! | `health`, `descriptors` | `grpc.health.v1`, reflection |
//! | `refusal`, `status` | why not, and how that is said on the wire |
//! | `gate`, `budget`, `turns`, `expansion` | admission: whether at all, how many bytes, whose turn, how many to expect |
//! | `body`, `haste`, `inflate` | bodies under limits, of size and of time |
//! | `pipeline`, `take_alone`, `take_joined` | from a body to an ack |
//! | `turnstile` | whose turn it is to compute |
//! | `joined`, `bundle` | small requests that share columns; requests whose rows are one batch |
//! | [`fingerprints`] | which requests are stored already |
//! | [`lanes`] | bounded queues to the committer |
//! | `doorbell`, `sync` | how the committer sleeps and is woken; held by a model |
//! | `committer`, `answers` | group commit, publication, ack |
//! | [`frame`], `stretch`, `replay` | what is kept in the journal, and its return |
//! | `sink` | the store, as seen from here |
//! | `counters` | what is counted |
//!
//! *Invariants.* An ack means durable and visible (P1, P2). A repeat is stored once (P5). Bytes held are reserved first, and their sum is declared (P3). Whatever is
//! refused is counted with its reason (P9).
//!
//! *Never knows.* SQL, verdicts, or what is in a record.

mod admission;
mod answers;
mod body;
mod budget;
mod bundle;
mod committer;
mod connection;
mod counters;
mod descriptors;
mod doorbell;
mod expansion;
pub mod fingerprints;
pub mod frame;
mod gate;
mod grpc;
mod haste;
mod health;
mod http;
mod inflate;
mod ingest;
mod joined;
pub mod lanes;
mod listener;
mod options;
mod pipeline;
mod refusal;
mod replay;
mod seat;
mod share;
mod sink;
mod status;
mod stretch;
mod sync;
mod take_alone;
mod take_joined;
mod turns;
mod turnstile;

pub use committer::OnFatal;
pub use connection::STREAMS_MIN;
pub use counters::{Counter, Counters, Histogram, Protocol, RequestCounters};
pub use fingerprints::{FingerprintOptions, Fingerprints};
pub use gate::Readiness;
pub use ingest::{Ingest, IngestError, IngestStatus, LocalAddrs};
pub use options::{Http2Options, IngestOptions};
pub use refusal::Reason;
pub use replay::ReplaySummary;
pub use sink::{Sink, SinkLoad};
