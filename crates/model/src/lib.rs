//! The shared vocabulary of Plimsoll: what every other crate talks about.
//!
//! | file | owns |
//! |---|---|
//! | [`id`] | identifiers, and how the deterministic ones are derived |
//! | [`time`] | instants, durations' units and the 10 s bucket |
//! | [`service`] | who emits telemetry: environment, namespace, name, version |
//! | [`deploy`] | what was shipped, when and by whom |
//! | [`signal`] | mergeable aggregates of operations: what the verdict is computed from |
//! | [`aggregates`] | the others: presence, flag arms, actions, version paths, the weeks before |
//! | [`log`], [`metric`], [`presence`], [`drill`] | their cells |
//! | [`template`] | log templates: messages without what varies |
//! | [`verdict`] | what was concluded, with findings and evidence |
//! | [`sentence`] | a finding in words |
//! | [`decision`] | what a human or a pipeline did about it |
//! | [`event`] | the regression event that leaves the house |
//!
//! *Invariants.* No async, no I/O, no Arrow, no SQL, no clock and no randomness: both come in as values.
//! The JSON forms are the ones of the REST interface.

pub mod aggregates;
pub mod decision;
pub mod deploy;
pub mod drill;
pub mod event;
pub mod feedback;
pub mod id;
pub mod log;
pub mod logarithm;
pub mod metric;
pub mod presence;
pub mod sentence;
pub mod service;
pub mod signal;
pub mod template;
pub mod time;
pub mod verdict;

pub use aggregates::ServiceAggregates;
pub use decision::{Decision, DecisionKind};
pub use deploy::{Deploy, DeployKind, DeployStatus};
pub use event::{EventKind, RegressionEvent};
pub use feedback::{Answer, Feedback, Suppressed};
pub use id::{DeployId, EventId, FindingId, SegmentId, SequenceNumber};
pub use service::ServiceKey;
pub use time::{Bucket, Interval, UnixNanos};
pub use verdict::{
    Comparison, Culprit, Design, Explanation, Finding, Recommendation, Sample, SignalKind, Verdict, VerdictKind,
};
