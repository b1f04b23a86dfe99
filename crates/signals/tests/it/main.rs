//! The folded state through its public face, fed with decoded export requests.

mod assembly;
mod bounds;
mod build;
mod dialects;
mod draws;
mod exceptions;
mod golden;
mod lines;
mod memory;
mod merging;
mod metrics;
mod operations;
mod others;
mod quality;
mod survey;
mod unanswered;
