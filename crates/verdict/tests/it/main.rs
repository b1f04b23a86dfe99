//! The crate through its public face.

mod aggregates;
mod reference;
mod signals;
mod simulation;
mod verdicts;
