//! Deploys in, due evaluations, verdict rows and events out.
//!
//! | file | owns |
//! |---|---|
//! | `register` | what a marker must say, and every complaint about one that does not |
//! | `infer` | which first-seen version is a deploy that nobody announced |
//! | `arrivals` | versions as they arrive |
//! | `source` | the aggregates that verdicts are computed from, as a port |
//! | `state` | the fold's own state as that port |
//! | `open` | the deploys that are still being judged |
//! | `placeholder` | verdicts that stand where nothing is judged |
//! | `announce` | which change of a verdict is an event |
//! | `watcher` | the loop that ties them together |
//!
//! *Invariants.* A verdict and the event that announces it are stored in one transaction; the event's id follows from deploy, kind and
//! revision, so that a crash between two evaluations neither repeats nor loses one. The verdict that readers see is never ahead of
//! the stored one by more than numbers: its answer, findings and phase are stored before they are shown.

mod announce;
mod arrivals;
mod feedback;
mod infer;
mod open;
mod placeholder;
mod register;
mod source;
mod state;
mod watcher;

pub use feedback::Precision;
pub use register::{FinishError, NewDeploy, RegisterError};
pub use source::{SignalSource, VersionObservation};
pub use watcher::{Clock, Entropy, WatchCounters, WatchOptions, Watcher};
