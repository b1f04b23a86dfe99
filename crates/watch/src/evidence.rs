//! What a stored verdict was judged from, kept so that it can be judged again from stored rows.
//!
//! Rows of `operations` and `signals` are most of it and are stored anyway. Kept beside the verdict is what they do not say:
//! the deploy and the settings as they were, the verdict before, what was known of old, and those rows of the last
//! [`UNSETTLED`] that may still change, because traces close late and requests come late.
//!
//! *Layout.* zstd of: length of the JSON (u64, little endian), the JSON, an [`Excerpt`]. Where nothing is kept, the JSON says
//! why not, and no excerpt follows.
//!
//! *Cost.* A few dozen kilobytes a deploy; what would take more than [`BYTES_MAX`] is not kept, and a replay says so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::Duration;

use plimsoll_model::aggregates::{MetricHistoryKey, MetricHistorySeries, ServedSeries, VitalsSeries};
use plimsoll_model::log::Level;
use plimsoll_model::signal::{Fingerprint, OperationKind};
use plimsoll_model::{Bucket, Deploy, Interval, ServiceAggregates, ServiceKey, Suppressed, UnixNanos, Verdict};
use plimsoll_signals::{Excerpt, SignalState};
use plimsoll_verdict::{JudgeInput, Overlapping, Tolerances, judge};
use serde::{Deserialize, Serialize};

use crate::belated::with_words;
use crate::gathered::Gathered;

/// Rows of buckets so long ago are taken not to change any more: a trace is closed after two minutes at the latest.
pub(crate) const UNSETTLED: Duration = Duration::from_secs(180);
/// What is kept of one verdict at most.
pub(crate) const BYTES_MAX: usize = 4 << 20;
/// How hard zstd tries.
const LEVEL: i32 = 3;
/// What is read of one at most, once it is inflated.
const INFLATED_MAX: u64 = 256 << 20;
/// The form that is written.
const FORMAT: u32 = 1;

/// What a verdict was judged from, beside the rows that do not change any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evidence {
    format: u32,
    deploy: Deploy,
    now: UnixNanos,
    /// How far the service's telemetry was behind, in nanoseconds.
    #[serde(default)]
    behind_ns: u64,
    /// When nothing at all came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<Interval>,
    superseded_at: Option<UnixNanos>,
    /// Other deploys of the service that were judged at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    overlapping: Vec<Overlapping>,
    /// How long deploys before needed to their first request at most, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_request_ns: Option<u64>,
    /// Whether another deploy of the version started before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shipped_before: bool,
    untouched: Vec<VitalsSeries>,
    /// How others reached whom the service calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    witnesses: Vec<ServedSeries>,
    known_fingerprints: BTreeSet<Fingerprint>,
    known_versions: BTreeSet<String>,
    changed_at: BTreeSet<UnixNanos>,
    suppressed: BTreeSet<Suppressed>,
    data_quality: Vec<String>,
    /// Words that were said of the verdict after it was closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    said_since: Vec<String>,
    previous: Option<Verdict>,
    tolerances: Tolerances,
    neighbours: Vec<ServiceKey>,
    keep_from: Bucket,
    reach: Reach,
    /// When each template of the service's logs was first seen, however long ago.
    templates: Vec<(Level, String, UnixNanos)>,
    #[serde(skip)]
    excerpt: Excerpt,
}

/// How far back each sort of aggregate reached: what was forgotten to stay within bounds was not judged either.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Reach {
    operations: Option<Bucket>,
    presence: Option<Bucket>,
    logs: Option<Bucket>,
    metrics: Option<Bucket>,
    arms: Option<Bucket>,
    actions: Option<Bucket>,
    paths: Option<Bucket>,
    history: Vec<(String, OperationKind, u32, UnixNanos)>,
    #[serde(default)]
    metric_history: Vec<(MetricHistoryKey, UnixNanos)>,
}

/// Bytes that are no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// It was left out when the verdict was stored, for this reason.
    #[error("what the verdict was judged from was not kept: {0}")]
    NotKept(String),
    /// They cannot be read, or what was judged from cannot be written.
    #[error("what the verdict was judged from cannot be read: {0}")]
    Unreadable(String),
}

/// What is read first: which form it has, and whether there is more.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_kept: Option<String>,
}

fn unreadable(problem: impl ToString) -> EvidenceError {
    EvidenceError::Unreadable(problem.to_string())
}

/// Says in place of evidence why there is none.
///
/// # Errors
/// It cannot be written, which only a mistake here causes.
pub(crate) fn not_kept(why: &str) -> Result<Vec<u8>, EvidenceError> {
    let json = serde_json::to_vec(&Head { format: FORMAT, not_kept: Some(why.to_owned()) }).map_err(unreadable)?;
    pack(&json, &[])
}

/// Adds words to what was kept of a verdict that they are said of after it was closed; what cannot be read stays as it is.
pub(crate) fn amended(bytes: Vec<u8>, words: &[String]) -> Vec<u8> {
    let Ok(mut evidence) = Evidence::from_bytes(&bytes) else { return bytes };
    evidence.said_since.extend_from_slice(words);
    // It was kept: a word more is no reason to let it go.
    evidence.to_bytes(usize::MAX).unwrap_or(bytes)
}

fn pack(json: &[u8], rows: &[u8]) -> Result<Vec<u8>, EvidenceError> {
    let mut plain = Vec::with_capacity(8 + json.len() + rows.len());
    plain.extend_from_slice(&(json.len() as u64).to_le_bytes());
    plain.extend_from_slice(json);
    plain.extend_from_slice(rows);
    zstd::bulk::compress(&plain, LEVEL).map_err(unreadable)
}

fn first<'a, C: 'a>(cells: impl Iterator<Item = &'a Vec<(Bucket, C)>>) -> Option<Bucket> {
    cells.filter_map(|cells| cells.first().map(|(bucket, _)| *bucket)).min()
}

impl Reach {
    fn of(input: &JudgeInput) -> Self {
        let all = &input.aggregates;
        let operations = input.series.iter().chain(&input.related);
        let history = all.history.iter().filter_map(|series| {
            let (from, _) = series.cells.first()?;
            Some((series.operation.clone(), series.kind, series.width_s, *from))
        });
        let of_metric = |series: &MetricHistorySeries| Some((series.metric.clone(), series.cells.first()?.0));
        Self {
            operations: first(operations.map(|series| &series.cells)),
            presence: first(all.presence.iter().map(|series| &series.cells)),
            logs: first(all.logs.iter().map(|series| &series.cells)),
            metrics: first(all.metrics.iter().map(|series| &series.cells)),
            arms: first(all.arms.iter().map(|arm| &arm.series.cells)),
            actions: first(all.actions.iter().map(|series| &series.cells)),
            paths: first(all.paths.iter().map(|series| &series.cells)),
            history: history.collect(),
            metric_history: all.metric_history.iter().filter_map(of_metric).collect(),
        }
    }
}

impl Evidence {
    /// Keeps what a judgement was made from.
    pub(crate) fn of(input: &JudgeInput, neighbours: Vec<ServiceKey>, keep_from: Bucket, excerpt: Excerpt) -> Self {
        // Of all that was ever known only what was seen again bears on the verdict.
        let seen: BTreeSet<Fingerprint> = input
            .series
            .iter()
            .flat_map(|series| &series.cells)
            .flat_map(|(_, cell)| cell.exceptions.keys().copied())
            .collect();
        let templates = input.aggregates.logs.iter().map(|log| (log.level, log.template.clone(), log.first_seen));
        Self {
            format: FORMAT,
            deploy: input.deploy.clone(),
            now: input.now,
            behind_ns: u64::try_from(input.behind.as_nanos()).unwrap_or(u64::MAX),
            gaps: input.gaps.clone(),
            superseded_at: input.superseded_at,
            overlapping: input.overlapping.clone(),
            first_request_ns: input.first_request.map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
            shipped_before: input.shipped_before,
            untouched: input.untouched.clone(),
            witnesses: input.witnesses.clone(),
            known_fingerprints: input.known_fingerprints.intersection(&seen).copied().collect(),
            known_versions: input.known_versions.clone(),
            changed_at: input.changed_at.clone(),
            suppressed: input.suppressed.clone(),
            data_quality: input.data_quality.clone(),
            said_since: Vec::new(),
            previous: input.previous.clone(),
            tolerances: input.tolerances.clone(),
            neighbours,
            keep_from,
            reach: Reach::of(input),
            templates: templates.collect(),
            excerpt,
        }
    }

    /// Writes it, or why it is not kept where that takes more than `bytes_max`.
    pub(crate) fn to_bytes(&self, bytes_max: usize) -> Result<Vec<u8>, EvidenceError> {
        let json = serde_json::to_vec(self).map_err(unreadable)?;
        let rows = self.excerpt.to_bytes().map_err(unreadable)?;
        let bytes = pack(&json, &rows)?;
        if bytes.len() <= bytes_max {
            return Ok(bytes);
        }
        not_kept(&format!(
            "it takes {} bytes and {bytes_max} are kept of one verdict, for {} rows of the last minutes, of {} and the {} services \
             that it calls or that call it",
            bytes.len(),
            self.rows(),
            self.deploy.service.service,
            self.neighbours.len()
        ))
    }

    /// Reads it.
    ///
    /// # Errors
    /// Nothing was kept; or the bytes are none that were written as evidence, or a later release wrote them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let cut = || unreadable("it is cut off");
        let mut plain = Vec::new();
        let inflated = zstd::stream::Decoder::new(bytes).map_err(unreadable)?;
        inflated.take(INFLATED_MAX + 1).read_to_end(&mut plain).map_err(unreadable)?;
        if plain.len() as u64 > INFLATED_MAX {
            return Err(unreadable(format!("it takes more than {INFLATED_MAX} bytes")));
        }
        let (length, rest) = plain.split_first_chunk().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (json, rows) = rest.split_at_checked(length).ok_or_else(cut)?;
        let head: Head = serde_json::from_slice(json).map_err(unreadable)?;
        if head.format != FORMAT {
            return Err(unreadable(format!("it is of format {}, known is {FORMAT}", head.format)));
        }
        if let Some(why) = head.not_kept {
            return Err(EvidenceError::NotKept(why));
        }
        let mut evidence: Self = serde_json::from_slice(json).map_err(unreadable)?;
        evidence.excerpt = Excerpt::from_bytes(rows).map_err(unreadable)?;
        Ok(evidence)
    }

    /// Returns which stored rows of `operations` and `signals` it needs: by when the bucket starts, later ones being kept here.
    pub fn needs(&self) -> Interval {
        let from = self.deploy.started_at - self.tolerances.lookback();
        Interval { from, to: self.keep_from.start() }
    }

    /// Returns which stored rows about the weeks before it needs.
    pub fn needs_history(&self) -> Interval {
        let operations = self.reach.history.iter().map(|(.., from)| *from);
        let metrics = self.reach.metric_history.iter().map(|(_, from)| *from);
        let from = operations.chain(metrics).min();
        let to = SignalState::history_from(self.keep_from);
        Interval { from: from.unwrap_or(to), to }
    }

    /// Returns the service deployed, and those whose rows bear on it.
    pub fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        std::iter::once(&self.deploy.service).chain(&self.neighbours)
    }

    /// Returns how many rows are kept.
    pub fn rows(&self) -> usize {
        self.excerpt.rows()
    }

    /// Judges again from a state that [`Self::needs`] was loaded into, and nothing else.
    ///
    /// # Errors
    /// The kept rows are in another schema than this release's.
    pub fn judge(&self, state: &mut SignalState) -> Result<Verdict, EvidenceError> {
        state.load_excerpt(&self.excerpt).map_err(unreadable)?;
        let service = &self.deploy.service;
        let until = self.now.bucket().end();
        let within = |from: Option<Bucket>| Interval { from: from.map_or(until, Bucket::start), to: until };
        let operations = within(self.reach.operations);
        let gathered = Gathered {
            series: state.series(service, operations),
            aggregates: self.aggregates(state, &within),
            related: self.neighbours.iter().flat_map(|other| state.series(other, operations)).collect(),
            ..Gathered::default()
        };
        let verdict = judge(&JudgeInput {
            behind: Duration::from_nanos(self.behind_ns),
            gaps: self.gaps.clone(),
            superseded_at: self.superseded_at,
            overlapping: self.overlapping.clone(),
            first_request: self.first_request_ns.map(Duration::from_nanos),
            shipped_before: self.shipped_before,
            aggregates: gathered.aggregates,
            related: gathered.related,
            untouched: self.untouched.clone(),
            witnesses: self.witnesses.clone(),
            known_fingerprints: self.known_fingerprints.clone(),
            known_versions: self.known_versions.clone(),
            changed_at: self.changed_at.clone(),
            suppressed: self.suppressed.clone(),
            data_quality: self.data_quality.clone(),
            previous: self.previous.clone(),
            tolerances: self.tolerances.clone(),
            ..JudgeInput::new(self.deploy.clone(), self.now, gathered.series)
        });
        Ok(with_words(verdict, &self.said_since))
    }

    /// Reads each sort as far back as it reached.
    fn aggregates(&self, state: &SignalState, within: &dyn Fn(Option<Bucket>) -> Interval) -> ServiceAggregates {
        let service = &self.deploy.service;
        let read = |from: Option<Bucket>| state.aggregates(service, within(from));
        let reach = &self.reach;
        let known: BTreeMap<(Level, &str), UnixNanos> =
            self.templates.iter().map(|(level, template, first)| ((*level, template.as_str()), *first)).collect();
        let mut logs = read(reach.logs).logs;
        for log in &mut logs {
            if let Some(first) = known.get(&(log.level, log.template.as_str())) {
                log.first_seen = *first;
            }
        }
        let ServiceAggregates { mut history, mut metric_history, .. } = read(Some(self.now.bucket()));
        history.retain_mut(|series| {
            let key = (&series.operation, series.kind, series.width_s);
            let known = reach.history.iter().find(|(operation, kind, width, _)| key == (operation, *kind, *width));
            let Some((.., from)) = known else { return false };
            series.cells.retain(|(start, _)| start >= from);
            !series.cells.is_empty()
        });
        metric_history.retain_mut(|series| {
            let known = reach.metric_history.iter().find(|(metric, _)| *metric == series.metric);
            let Some((_, from)) = known else { return false };
            series.cells.retain(|(start, _)| start >= from);
            !series.cells.is_empty()
        });
        ServiceAggregates {
            presence: read(reach.presence).presence,
            metrics: read(reach.metrics).metrics,
            arms: read(reach.arms).arms,
            actions: read(reach.actions).actions,
            paths: read(reach.paths).paths,
            logs,
            history,
            metric_history,
        }
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_catalog::conformance::sample_deploy;

    use super::*;

    fn evidence() -> Evidence {
        let deploy = sample_deploy(1);
        let now = deploy.started_at + Duration::from_secs(90);
        let input =
            JudgeInput { data_quality: vec!["late_spans".to_owned()], ..JudgeInput::new(deploy, now, Vec::new()) };
        Evidence::of(&input, Vec::new(), now.bucket(), Excerpt::default())
    }

    #[test]
    fn what_is_read_back_judges_as_what_was_kept() {
        let kept = evidence();
        let bytes = kept.to_bytes(BYTES_MAX).expect("is written");
        let read = Evidence::from_bytes(&bytes).expect("is read");
        let limits = plimsoll_signals::SignalLimits::default();
        let [one, other] = [&kept, &read].map(|evidence| {
            let mut state = SignalState::new(limits.clone());
            evidence.judge(&mut state).expect("is judged")
        });
        assert_eq!(one, other);
        assert_eq!(other.data_quality.iter().filter(|word| *word == "late_spans").count(), 1);
    }

    #[test]
    fn bytes_that_were_cut_off_or_are_of_a_later_format_are_errors() {
        let bytes = evidence().to_bytes(BYTES_MAX).expect("is written");
        for length in 0..bytes.len() {
            assert!(Evidence::from_bytes(&bytes[..length]).is_err(), "of {length} bytes");
        }
        let later = Evidence { format: FORMAT + 1, ..evidence() }.to_bytes(BYTES_MAX).expect("is written");
        let refused = Evidence::from_bytes(&later).expect_err("is of a later format").to_string();
        assert!(refused.ends_with("it is of format 2, known is 1"), "{refused}");
    }

    #[test]
    fn what_is_too_large_is_left_out_and_says_so() {
        let bytes = evidence().to_bytes(100).expect("is written");
        let refused = Evidence::from_bytes(&bytes).expect_err("nothing was kept");
        assert!(matches!(refused, EvidenceError::NotKept(_)), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains("was not kept: it takes ") && text.contains("100 are kept of one verdict"), "{text}");
        let other = not_kept("another deploy is judged").expect("is written");
        let refused = Evidence::from_bytes(&other).expect_err("nothing was kept").to_string();
        assert_eq!(refused, "what the verdict was judged from was not kept: another deploy is judged");
    }
}
