//! The watcher through its public face, on a real catalog, with scripted aggregates and a clock of its own.

mod aftermath;
mod backlog;
mod belated;
mod evidence;
mod hearing;
mod keeping;
mod logged;
mod outage;
mod overlapping;
mod restarting;
mod rollouts;
mod scene;
mod sessions;
mod succession;
mod telemetry;
mod watching;
