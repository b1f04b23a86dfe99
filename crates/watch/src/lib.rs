//! Deploys in, due evaluations, verdict rows and events out.
//!
//! | file | owns |
//! |---|---|
//! | `register` | what a marker must say, and every complaint about one that does not |
//! | `infer` | which first-seen version is a deploy that nobody announced |
//! | `arrivals` | versions as they arrive |
//! | `serving` | which version serves as another one comes |
//! | `source` | the aggregates that verdicts are computed from, as a port |
//! | `state` | the fold's own state as that port |
//! | `hearing` | up to when anything was heard |
//! | `rollouts` | how long deploys took to their first request |
//! | `succession` | whether a later deploy took over |
//! | `overlap` | which of two deploys at once is told of |
//! | `open` | the deploys that are still being judged |
//! | `placeholder` | the verdict that stands where another deploy is judged instead |
//! | `announce` | which change of a verdict is an event |
//! | `markers` | deploys as they are announced, ended and decided upon |
//! | `gathered`, `gather` | what bears on a deploy, read from the aggregates |
//! | `evidence` | what is kept of that to judge again |
//! | `judging` | one deploy judged, stored and told of |
//! | `belated` | what is said of a verdict once it is closed |
//! | `closing` | what is worth storing, and when nothing more is expected |
//! | `answers` | what is asked of the watcher |
//! | `watcher` | the loop that ties them together |
//!
//! *Invariants.* A verdict and the event that announces it are stored in one transaction; the event's id follows from deploy, kind and
//! revision, so that a crash between two evaluations neither repeats nor loses one. The verdict that readers see is never ahead of
//! the stored one by more than numbers: its answer, findings and phase are stored before they are shown.

mod announce;
mod answers;
mod arrivals;
mod belated;
mod closing;
mod evidence;
mod feedback;
mod gather;
mod gathered;
mod hearing;
mod infer;
mod judging;
mod markers;
mod open;
mod overlap;
mod placeholder;
mod register;
mod rollouts;
mod serving;
mod sessions;
mod source;
mod state;
mod succession;
mod watcher;

pub use evidence::{Evidence, EvidenceError};
pub use feedback::Precision;
pub use gather::{Beside, gather};
pub use gathered::{Gathered, Question};
pub use register::{FinishError, NewDeploy, RegisterError};
pub use source::{SignalSource, VersionObservation};
pub use watcher::{Audience, Clock, Entropy, WatchCounters, WatchOptions, Watcher};
