//! What the benches and the instruction counts share: the records, the stages, and the naive way beside each.
//!
//! *Invariants.* The records are those that the load generator sends, so that figures of one stage and of the whole speak of
//! the same telemetry. Every fixture is the same in every run.

pub mod callgrind;
pub mod naive;
pub mod records;
mod rows;
pub mod stages;
pub mod walk;

pub use rows::{START, rows};
