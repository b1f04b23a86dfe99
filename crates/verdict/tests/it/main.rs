//! The crate through its public face.

mod reference;
mod signals;
mod simulation;
mod verdicts;
