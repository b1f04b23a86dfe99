//! What a judgement is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plimsoll_model::aggregates::{ServedSeries, VitalsSeries};
use plimsoll_model::signal::{Fingerprint, OperationSeries};
use plimsoll_model::{Bucket, Deploy, Interval, ServiceAggregates, Suppressed, UnixNanos, Verdict};

use crate::measured::Measured;
use crate::overlap::Overlapping;
use crate::tolerances::Tolerances;

/// Everything that bears on one deploy at one moment. The same input always gives the same verdict.
#[derive(Debug, Clone)]
pub struct JudgeInput {
    /// The deploy.
    pub deploy: Deploy,
    /// The present, in event time.
    pub now: UnixNanos,
    /// How far what the service sends is behind the present, by its clocks or by who hands it on: nothing later is known yet.
    pub behind: Duration,
    /// Stretches in which nothing at all came, of whichever service, though it was to: of those nothing is concluded from what is
    /// missing.
    pub gaps: Vec<Interval>,
    /// End of the time in which the candidate is judged, where a later deploy of the same service cut it short.
    pub superseded_at: Option<UnixNanos>,
    /// Other deploys of the service that are judged at the same time: later ones that keep the version, and earlier ones where this
    /// deploy does. Over the same requests only one of them is to blame.
    pub overlapping: Vec<Overlapping>,
    /// The service's own operations, all versions, from the lookback before the start until now.
    pub series: Vec<OperationSeries>,
    /// What else is known of the service over the same time: presence, logs, metrics, flag arms, actions, version paths.
    pub aggregates: ServiceAggregates,
    /// Operations of services that call it or that it calls.
    pub related: Vec<OperationSeries>,
    /// Services that were neither deployed lately nor are connected with it by calls, over the same time.
    pub untouched: Vec<VitalsSeries>,
    /// How calls of others to whom the service calls fared, over the same time; empty where all of its own were answered.
    pub witnesses: Vec<ServedSeries>,
    /// Exceptions of the service that were seen before the start, as far back as is known, in versions that were not taken back.
    pub known_fingerprints: BTreeSet<Fingerprint>,
    /// Versions that were tried and taken back ([`crate::taken_back`]); neither exceptions nor when messages were first seen are
    /// known by them.
    pub taken_back: BTreeSet<String>,
    /// Versions of the service that were seen before the start.
    pub known_versions: BTreeSet<String>,
    /// When the service was changed before, as far back as is known: a version first seen, another deploy begun.
    pub changed_at: BTreeSet<UnixNanos>,
    /// How long deploys of the service took at most from their start to the first request of their version, of those known;
    /// `None` where none is.
    pub first_request: Option<Duration>,
    /// True where another deploy of the same version started before.
    pub shipped_before: bool,
    /// The feature flag whose variants stand for versions, where the series are those of its arms.
    pub flag: Option<String>,
    /// Where the series were read from request metrics: from which. Left empty by whoever gathers the input.
    pub measured: Option<Measured>,
    /// True where requests were counted by the weights of sampled spans. Left false by whoever gathers the input.
    pub weighted: bool,
    /// True where log records are counted in place of requests. Left false by whoever gathers the input.
    pub by_records: bool,
    /// From each bucket on, for how many times its requests the time before the start counts, where it was not known until
    /// then how its spans were sampled. Left empty by whoever gathers the input.
    pub past_weights: BTreeMap<Bucket, f64>,
    /// What humans called wrong or known of late: it is shown no more and decides nothing.
    pub suppressed: BTreeSet<Suppressed>,
    /// Words that whoever gathered the series has to say about them, for instance `late_spans`.
    pub data_quality: Vec<String>,
    /// The deploy's verdict so far.
    pub previous: Option<Verdict>,
    /// The settings.
    pub tolerances: Tolerances,
}

impl JudgeInput {
    /// Makes the input of a deploy of which nothing but the series is known.
    pub fn new(deploy: Deploy, now: UnixNanos, series: Vec<OperationSeries>) -> Self {
        Self {
            deploy,
            now,
            behind: Duration::ZERO,
            gaps: Vec::new(),
            superseded_at: None,
            overlapping: Vec::new(),
            series,
            aggregates: ServiceAggregates::default(),
            related: Vec::new(),
            untouched: Vec::new(),
            witnesses: Vec::new(),
            known_fingerprints: BTreeSet::new(),
            taken_back: BTreeSet::new(),
            known_versions: BTreeSet::new(),
            changed_at: BTreeSet::new(),
            first_request: None,
            shipped_before: false,
            flag: None,
            measured: None,
            weighted: false,
            by_records: false,
            past_weights: BTreeMap::new(),
            suppressed: BTreeSet::new(),
            data_quality: Vec::new(),
            previous: None,
            tolerances: Tolerances::default(),
        }
    }

    /// Says whether `bucket` is one in which nothing at all came.
    pub(crate) fn is_gap(&self, bucket: Bucket) -> bool {
        self.gaps.iter().any(|gap| gap.contains(bucket.start()))
    }

    /// Returns up to when anything is known of the service.
    pub(crate) fn known_until(&self) -> UnixNanos {
        self.now - self.behind
    }
}
