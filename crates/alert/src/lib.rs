//! Outbox delivery: sinks, signing, retry, egress guard.
//!
//! | file | owns |
//! |---|---|
//! | [`config`] | a sink as it is configured |
//! | `check` | what is wrong with it |
//! | [`secret`] | values that are never printed, and signing keys |
//! | [`signature`] | the `webhook-signature` header |
//! | [`egress`] | which addresses a sink may have |
//! | [`retry`] | when to try again, and when to give up |
//! | [`sink`] | the [`Sink`] trait: one attempt and its answer |
//! | [`post`] | one request and what its answer means, shared by all sinks |
//! | [`webhook`] | the generic signed webhook |
//! | `pagerduty`, `alertmanager`, `slack` | the event in the form that each of them takes |
//! | `words` | what people are told, the same everywhere |
//! | [`deliverer`] | from the catalog's outbox to the sinks |
//! | `worker` | one sink's deliveries, one after the other |
//! | [`counters`] | what became of the events of each sink |
//!
//! *Invariants.* Every attempt of an event is made from the same id and the same bytes. An event is settled only after its attempt has
//! ended, so a crash at any point leads to one more attempt and never to a lost event. No sink waits for another.

mod alertmanager;
mod check;
pub mod config;
pub mod counters;
pub mod deliverer;
pub mod egress;
mod pagerduty;
pub mod post;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod sink;
mod slack;
pub mod webhook;
mod words;
mod worker;

pub use check::check_sinks;
pub use config::{AlertError, AlertOptions, SinkConfig, SinkType};
pub use counters::SinkCounters;
pub use deliverer::{Clock, Deliverer, DelivererHandle};
pub use secret::{Secret, Secrets};
pub use sink::{Answer, Attempt, Sink};
