//! Whether a version came when its marker says that it did.
//!
//! A start that somebody wrote down by hand, or that a file of deploys states, may be minutes off. The version's own telemetry tells:
//!
//! - *Late*: it had served for more than a minute by then, and went on as it did, with about as many requests after the start as in as
//!   long a time before it. A canary that is promoted, and a stack that waited to be switched to, get more from their start on.
//! - *Early*: for two minutes after it nothing of the version came, and for longer than deploys before took, while the control served
//!   as ever; what came then comes so steadily that hardly any traffic is no reason.
//!
//! Where clocks differ the version's times say nothing of a start that another clock told.
//!
//! *Invariants.* Events count by when they happened, so that who hands them on late changes nothing. It depends on versions, times and
//! numbers of requests only. Nothing is judged otherwise for it: it is said.
//!
//! *Cost.* A few numbers; one walk over the series where the whole is judged.

use plimsoll_model::signal::OperationSeries;
use plimsoll_model::{Bucket, DeployKind, DeployStatus};

use crate::design::Frame;
use crate::input::JudgeInput;

/// What is said where clocks differ.
const CLOCKS_DIFFER: &str = "clock_skew";
/// Buckets of service before the start within which it is the start all the same.
const WITH_IT: u64 = 6;
/// What had come longer ago than so many buckets was there already.
const LONG_AGO: u64 = 180;
/// Buckets that are looked at on either side at most.
const ASIDE_MAX: u64 = 30;
/// Buckets after which what belongs into the time after the start has come.
const COME: u64 = 6;
/// Requests without which nothing is told.
const REQUESTS_MIN: u64 = 20;
/// As many requests as before, or as few.
const ALIKE: f64 = 0.7;
/// Buckets without anything of the version that are none of a start's own.
const WAITED: u64 = 12;
/// Of so many buckets from the version's first on that many have requests, where it would have been met before.
const STEADY: [u64; 2] = [12, 8];

/// What is known of the version's coming.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dating {
    /// False where no version is to come.
    asked: bool,
    start: Bucket,
    /// Buckets for which the version had served before the start, and its requests in them; zero where that is not asked.
    served: (u64, u64),
    /// Its requests in as many buckets after the start.
    serves: u64,
    /// Buckets of the control before the start, and its requests in them.
    control: (u64, u64),
    /// Requests of the control from the start on until the version's first.
    alone: u64,
    /// The first bucket since the start with requests of the version, and with anything of it where that is earlier.
    first: Option<Bucket>,
    heard: Option<Bucket>,
    /// Buckets with requests, of the first ones.
    steady: u64,
    /// Buckets that deploys before took.
    took: u64,
    next: Bucket,
}

impl Dating {
    /// Looks at what was before the start.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        let deploy = &input.deploy;
        let brings = matches!(deploy.kind, DeployKind::Release | DeployKind::Rollback);
        let known = !frame.same && !frame.version_missing && !input.by_records && input.flag.is_none();
        let clocks_differ = input.data_quality.iter().any(|word| word == CLOCKS_DIFFER);
        let asked = brings && known && !clocks_differ && !deploy.inferred && deploy.status != DeployStatus::Failed;
        if !asked {
            return Self::default();
        }
        let own = || input.series.iter().filter(|series| series.key.service == frame.service);
        let start = frame.start;
        let appeared = frame.appeared();
        let ago = start.0.saturating_sub(appeared.0);
        // Where nobody served before it, it is not known since when it does.
        let others = own().filter(|series| series.key.version != frame.version);
        let former = others.filter_map(first_request).min().is_some_and(|first| first.0 + WITH_IT <= appeared.0);
        let before = |buckets: u64, version: &dyn Fn(&str) -> bool| -> u64 {
            let from = Bucket(start.0.saturating_sub(buckets));
            let those = own().filter(|series| version(&series.key.version)).flat_map(|series| &series.cells);
            those.filter(|(bucket, _)| (from..start).contains(bucket)).map(|(_, cell)| cell.requests).sum()
        };
        let is_control = |version: &str| frame.control_versions.contains(version);
        let controls = own().filter(|series| is_control(&series.key.version));
        let since = controls.filter_map(first_request).min();
        let watched = since.map_or(0, |first| start.0.saturating_sub(first.0)).min(ASIDE_MAX);
        let late = former && !input.shipped_before && (WITH_IT + 1..=LONG_AGO).contains(&ago);
        let aside = if late { ago.min(ASIDE_MAX) } else { 0 };
        let presence = input.aggregates.presence.iter().filter(|series| series.version == frame.version);
        let heard = presence.flat_map(|series| &series.cells).map(|(bucket, _)| *bucket);
        Self {
            asked,
            start,
            served: (aside, before(aside, &|version| version == frame.version)),
            control: (watched, before(watched, &is_control)),
            heard: heard.filter(|bucket| bucket.0 + WITH_IT >= start.0).min(),
            took: input.first_request.map_or(0, |took| took.as_secs() / 10),
            next: start,
            ..Self::default()
        }
    }

    /// Takes the requests of the candidate and of the control in a bucket since the start.
    pub(crate) fn push(&mut self, bucket: Bucket, candidate: u64, control: u64) {
        if !self.asked {
            return;
        }
        self.next = Bucket(bucket.0 + 1);
        if (self.start.0 + 1..=self.start.0 + self.served.0).contains(&bucket.0) {
            self.serves += candidate;
        }
        if self.first.is_none() && candidate > 0 {
            self.first = Some(bucket);
        }
        match self.first {
            None => self.alone += control,
            Some(first) if bucket.0 < first.0 + STEADY[0] => self.steady += u64::from(candidate > 0),
            Some(_) => {}
        }
    }

    /// Says whether the version had come before the start.
    pub(crate) fn is_late(&self) -> bool {
        let (buckets, served) = self.served;
        let alike = |one: u64, other: u64| one as f64 >= ALIKE * other as f64;
        served >= REQUESTS_MIN
            && self.next.0 > self.start.0 + buckets + COME
            && alike(served, self.serves)
            && alike(self.serves, served)
    }

    /// Says whether the version came well after the start.
    pub(crate) fn is_early(&self) -> bool {
        let Some(first) = self.first else { return false };
        let came = self.heard.map_or(first, |heard| heard.min(first));
        let waited = came.0.saturating_sub(self.start.0);
        let (buckets, before) = self.control;
        let until = first.0.saturating_sub(self.start.0);
        waited >= WAITED
            && waited > self.took
            && self.steady >= STEADY[1]
            && self.alone >= REQUESTS_MIN
            && buckets >= WITH_IT
            && self.alone as f64 * buckets as f64 >= ALIKE * before as f64 * until as f64
    }
}

/// The first bucket of a series with requests.
fn first_request(series: &OperationSeries) -> Option<Bucket> {
    series.cells.iter().find(|(_, cell)| cell.requests > 0).map(|(bucket, _)| *bucket)
}
