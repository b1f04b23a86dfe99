//! Error messages by template: new ones, and how many there are a request.
//!
//! None is tolerated of what is fatal: a template of that level counts from the first message on.
//!
//! What a service logs as an error counts though no span says so: an exception that is swallowed fails nobody's request at
//! first. A template never seen before is tested like a new exception; all error messages together like failed requests,
//! with tolerances of their own, because messages come more often and in clumps.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::Bucket;
use plimsoll_model::log::{Level, LogSeries};
use plimsoll_model::signal::{ExceptionCount, Fingerprint};

use crate::boots::Boots;
use crate::counts::Counts;
use crate::dealing::Dealing;
use crate::design::{Frame, Role};
use crate::dispersion::Measure;
use crate::errors::ErrorTest;
use crate::gate::Told;
use crate::input::JudgeInput;
use crate::lately::Lately;
use crate::slot::{ByAge, Look, Past, Slots};
use crate::tolerances::Tolerances;
use plimsoll_model::signal::AgeClass;

/// Messages a request by which errors logged may grow.
const POINTS: f64 = 0.02;

/// One template at the level of an error.
pub(crate) struct ErrorLog<'a> {
    pub(crate) series: &'a LogSeries,
    pub(crate) fingerprint: Fingerprint,
}

impl ErrorLog<'_> {
    /// Writes occurrences as those of an exception.
    pub(crate) fn count(&self, count: u64) -> ExceptionCount {
        ExceptionCount { exception_type: String::new(), message: self.series.template.clone(), count }
    }
}

/// Lists templates at the level of an error or worse, whatever their version.
pub(crate) fn errors(input: &JudgeInput) -> impl Iterator<Item = ErrorLog<'_>> {
    let severe = input.aggregates.logs.iter().filter(|s| matches!(s.level, Level::Error | Level::Fatal));
    severe.map(|series| ErrorLog { series, fingerprint: fingerprint(&series.template) })
}

/// What one arm logged of one template in one bucket.
pub(crate) struct Logged {
    pub(crate) candidate: bool,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) count: ExceptionCount,
    /// True where no request of the candidate brought it, and its instances are just starting.
    pub(crate) at_boot: bool,
}

/// Sorts what was logged as an error from bucket `next` on.
pub(crate) fn since(input: &JudgeInput, frame: &Frame, boots: &Boots, next: Bucket) -> BTreeMap<Bucket, Vec<Logged>> {
    let mut logged: BTreeMap<Bucket, Vec<Logged>> = BTreeMap::new();
    for log in errors(input) {
        for (bucket, cell) in log.series.cells.iter().filter(|(bucket, _)| *bucket >= next) {
            let role = frame.role(&log.series.version, *bucket);
            if let Some(role @ (Role::Candidate | Role::Control)) = role {
                let candidate = role == Role::Candidate;
                // A message of a request knows its trace; none is tolerated of what is fatal, whenever it comes.
                let outside = cell.exemplars.0.is_empty() && log.series.level != Level::Fatal;
                logged.entry(*bucket).or_default().push(Logged {
                    candidate,
                    fingerprint: log.fingerprint,
                    count: log.count(cell.count),
                    at_boot: candidate && outside && boots.are_in(*bucket),
                });
            }
        }
    }
    logged
}

/// Those at the level of a fatal error.
pub(crate) fn fatal(input: &JudgeInput) -> impl Iterator<Item = Fingerprint> {
    errors(input).filter(|log| log.series.level == Level::Fatal).map(|log| log.fingerprint)
}

/// Templates that were logged before the start, as far back as is known; of the bucket of the start it is told by their version.
pub(crate) fn known(input: &JudgeInput) -> BTreeSet<Fingerprint> {
    // When one was first seen is known no closer than by its bucket.
    let start = input.deploy.started_at.bucket();
    let before = errors(input).filter(|log| log.series.first_seen.bucket() < start);
    before.map(|log| log.fingerprint).collect()
}

/// FNV-1a over the template: an identity within one judgement.
fn fingerprint(template: &str) -> Fingerprint {
    let hash = template
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Fingerprint(hash)
}

/// Error messages a request, of the whole service.
#[derive(Debug, Clone)]
pub(crate) struct LogErrors {
    pub(crate) test: ErrorTest,
    lately: Lately,
    slots: Slots,
    past: Past,
}

/// Messages come more often than failures do.
fn own(tolerances: &Tolerances) -> Tolerances {
    Tolerances {
        error_points: POINTS.max(tolerances.error_points),
        error_floor: POINTS.max(tolerances.error_floor),
        ..tolerances.clone()
    }
}

impl LogErrors {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.test.bytes() + self.lately.bytes() + self.past.bytes()
    }

    /// Starts from requests and messages before the start.
    pub(crate) fn new(requests: &BTreeMap<Bucket, f64>, messages: &BTreeMap<Bucket, f64>, dealing: Dealing) -> Self {
        let mut past = Past::new(dealing.after);
        let errors = |bucket: &Bucket| messages.get(bucket).copied().unwrap_or(0.0);
        for (bucket, n) in requests.iter().rev() {
            let Some(portion) = dealing.portion(*bucket) else { continue };
            let counts = Counts { requests: *n, errors: errors(bucket), ..Counts::default() };
            past.add(portion, AgeClass::Warm, &counts);
        }
        let counted = |counts: &dyn Fn(Bucket) -> bool| -> Vec<(f64, f64)> {
            let those = requests.iter().filter(|(bucket, _)| counts(**bucket));
            those.map(|(bucket, n)| (errors(bucket), *n)).collect()
        };
        let rest = counted(&|bucket| dealing.portion(bucket).is_some());
        let test = ErrorTest::outside(&rest, &counted(&|_| true));
        Self { test, lately: Lately::default(), slots: Slots::default(), past }
    }

    /// Takes one bucket: messages and requests of candidate and control.
    pub(crate) fn push(&mut self, look: Look, messages: [f64; 2], requests: [f64; 2], tolerances: &Tolerances) {
        let arms = [0, 1].map(|arm| {
            let mut ages = ByAge::default();
            ages[AgeClass::Warm as usize] =
                Counts { requests: requests[arm], errors: messages[arm], ..Counts::default() };
            ages
        });
        self.lately.push(look.bucket, messages[0], requests[0]);
        let own = own(tolerances);
        let mut pairs = Vec::new();
        self.slots.push(look, [&arms[0], &arms[1]], &mut self.past, &mut |pair| pairs.push(pair));
        for pair in &pairs {
            self.test.push(pair, Measure { phi: 4.0, pairs: 2.0 }, &own);
        }
    }

    /// Counts the candidate's messages in the buckets `within`.
    pub(crate) fn told(&self, within: [Bucket; 2], tolerances: &Tolerances) -> Told {
        self.lately.told(&self.test, within, &own(tolerances))
    }
}
