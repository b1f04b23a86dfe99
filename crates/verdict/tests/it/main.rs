//! The crate through its public face.

mod aggregates;
mod alone;
mod batches;
mod blame;
mod boots;
mod carried;
mod drift;
mod excuses;
mod failing;
mod incidents;
mod lasting;
mod measured;
mod outages;
mod paths;
mod recoveries;
mod reference;
mod relapses;
mod restarts;
mod rollouts;
mod signals;
mod simulation;
mod suspicion;
mod together;
mod traffic;
mod verdicts;
mod zones;
