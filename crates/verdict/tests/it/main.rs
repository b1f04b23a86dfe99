//! The crate through its public face.

mod aggregates;
mod drift;
mod measured;
mod paths;
mod reference;
mod restarts;
mod signals;
mod simulation;
mod suspicion;
mod verdicts;
