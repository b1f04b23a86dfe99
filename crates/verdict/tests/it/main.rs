//! The crate through its public face.

mod aggregates;
mod drift;
mod reference;
mod signals;
mod simulation;
mod verdicts;
