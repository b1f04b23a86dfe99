//! Statistics, decision and pinpointing: pure functions over aggregates.
//!
//! [`judge`] takes a deploy and the mergeable aggregates around it and returns a verdict with its evidence. No clock, no
//! I/O, no randomness: the same input gives the same bytes.
//!
//! | file | owns |
//! |---|---|
//! | `design` | who is compared with whom |
//! | [`e_process`] | the sequential test |
//! | [`rate`] | confidence bounds |
//! | [`dispersion`] | how bursty the counts are |
//! | `errors`, `latency`, `novelty` | the three signals |
//! | `gate`, `decision` | many tests, one answer |
//! | `culprit`, `symptoms` | where the cause lies and where else it shows |
//! | `findings`, `evidence`, `summary`, [`quality`] | what a reader gets to see |

mod culprit;
mod decision;
mod design;
pub mod dispersion;
pub mod e_process;
mod errors;
mod evidence;
mod findings;
mod gate;
mod input;
mod judge;
mod latency;
mod novelty;
pub mod quality;
pub mod rate;
mod summary;
mod symptoms;
mod tolerances;

pub use decision::{LARGE_ERRORS, LARGE_RATIO};
pub use input::JudgeInput;
pub use judge::{judge, same_answer, unseen};
pub use tolerances::Tolerances;
