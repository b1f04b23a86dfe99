//! Messages a request, template by template: what is no longer logged, or far more often.
//!
//! Where a change keeps the version, code that logged a message with every request and no longer does took another path: a
//! value that is wrong without an error, an exception that somebody caught. A new version may log what it likes, so this is
//! asked of changes of configuration, flags and platform only.
//!
//! The time before is the control, dealt out over the first minutes; both directions are tested against `calls_ratio` by the
//! process of calls. Messages come in clumps, which tempers the evidence.

use std::collections::BTreeMap;

use plimsoll_model::Bucket;
use plimsoll_model::log::{Level, LogSeries};

use crate::calls::{CallCounts, CallTests};
use crate::design::{Frame, Role};
use crate::input::JudgeInput;
use crate::tolerances::Tolerances;

/// Templates that are followed: those that are logged most.
const TEMPLATES_MAX: usize = 64;
/// Messages before the start without which a template is no habit.
const MESSAGES_MIN: u64 = 20;
/// Buckets over which the time before is dealt out.
const DEALT_OVER: f64 = 30.0;

/// All templates of one service.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogFlow {
    pub(crate) tests: CallTests,
    since: BTreeMap<Bucket, BTreeMap<(String, String), f64>>,
    dealt: f64,
}

impl LogFlow {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.tests.bytes() + self.since.values().map(|told| 48 + 128 * told.len()).sum::<usize>()
    }

    /// Starts from the messages before and the `requests` that they came with; empty where a new version was deployed.
    pub(crate) fn new(input: &JudgeInput, frame: &Frame, requests: f64) -> Self {
        if !frame.same || requests <= 0.0 {
            return Self::default();
        }
        let role = |series: &LogSeries, bucket: Bucket| frame.role(&series.version, bucket);
        let mut habits: BTreeMap<(String, String), u64> = BTreeMap::new();
        for series in &input.aggregates.logs {
            let before = series.cells.iter().filter(|(bucket, _)| role(series, *bucket) == Some(Role::Before));
            *habits.entry(key(series)).or_default() += before.map(|(_, cell)| cell.count).sum::<u64>();
        }
        let mut most: Vec<_> = habits.into_iter().filter(|(_, count)| *count >= MESSAGES_MIN).collect();
        most.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        most.truncate(TEMPLATES_MAX);
        let calls: BTreeMap<_, _> = most.into_iter().map(|(key, count)| (key, count as f64)).collect();
        let mut since: BTreeMap<Bucket, BTreeMap<(String, String), f64>> = BTreeMap::new();
        for series in input.aggregates.logs.iter().filter(|series| calls.contains_key(&key(series))) {
            for (bucket, cell) in &series.cells {
                if role(series, *bucket) == Some(Role::Candidate) {
                    *since.entry(*bucket).or_default().entry(key(series)).or_default() += cell.count as f64;
                }
            }
        }
        Self { tests: CallTests::new(CallCounts { requests, calls }), since, dealt: 0.0 }
    }

    /// Takes one bucket in which the candidate served `requests`.
    pub(crate) fn push(&mut self, bucket: Bucket, requests: f64, tolerances: &Tolerances) {
        if self.tests.is_empty() {
            return;
        }
        let calls = self.since.remove(&bucket).unwrap_or_default();
        if self.dealt >= DEALT_OVER {
            self.tests.note(bucket, &CallCounts { requests, calls });
        } else if requests > 0.0 {
            self.dealt += 1.0;
            let candidate = CallCounts { requests, calls };
            self.tests.push(bucket, &candidate, &CallCounts::default(), 1.0 / DEALT_OVER, tolerances);
        }
    }
}

fn key(series: &LogSeries) -> (String, String) {
    let level = if series.level == Level::Unset { "unset" } else { series.level.as_str() };
    (level.to_owned(), series.template.clone())
}
