//! The folded state through its public face, fed with decoded export requests.

mod assembly;
mod bounds;
mod build;
mod exceptions;
mod lines;
mod merging;
mod metrics;
mod operations;
mod others;
mod quality;
