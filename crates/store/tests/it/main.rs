//! The store through its public face, on real files and a real catalog.

mod crash;
mod durable;
mod format;
mod handoff;
mod hard;
mod merge;
mod retention;
mod rows;
mod world;
