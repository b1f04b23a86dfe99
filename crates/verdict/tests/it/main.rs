//! The crate through its public face.

mod reference;
mod simulation;
mod verdicts;
