//! Arrow Flight SQL, beside `plimsoll.v1` on the listener `--grpc-api`.
//!
//! | file | owns |
//! |---|---|
//! | `schema.rs` | the calls of Flight |
//! | `service.rs` | those of them that are Flight SQL's |
//! | `face.rs` | what they share |
//! | `handles.rs` | tickets, prepared statements, answers under way |
//! | `parameters.rs` | parameters out of batches |
//! | `metadata.rs` | what the server says of itself |
//! | `auth.rs`, `status.rs` | who may ask, and errors |
//!
//! *Invariants.* Every query goes through the engine's port, with its slots, memory, rows and time. Batches leave as fast as the
//! client takes them; a client that goes away ends its query.

mod auth;
mod face;
mod handles;
mod metadata;
mod parameters;
mod schema;
mod service;
mod status;

pub(crate) use auth::Auth;
pub use face::FlightFace;
pub(crate) use schema::FlightCalls;
