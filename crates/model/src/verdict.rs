//! What was concluded about a deploy, with the evidence.

use serde::{Deserialize, Serialize};

use crate::id::{DeployId, FindingId};
use crate::time::UnixNanos;

/// The three answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Demonstrated not to be worse than tolerated.
    Pass,
    /// Demonstrated to be worse than tolerated.
    Regressed,
    /// Neither is demonstrated.
    Inconclusive,
}

/// What a pipeline should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recommendation {
    /// Let the candidate take over.
    Promote,
    /// Wait for more evidence.
    Hold,
    /// Bring the previous version back.
    Rollback,
}

/// Which comparison the data allowed; the strongest is listed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Design {
    /// Candidate and control side by side, in the same buckets.
    Concurrent,
    /// The candidate against the time before it.
    BeforeAfter,
    /// Burn of a service level objective.
    Slo,
}

/// What got worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalKind {
    /// Share of failed requests.
    ErrorRate,
    /// Time a request takes.
    Latency,
    /// An exception never seen before.
    NewException,
    /// A log template never seen before.
    NewLog,
    /// Requests a second.
    Throughput,
    /// Nothing is emitted where something should be.
    Silence,
    /// A metric's level.
    Metric,
}

impl SignalKind {
    /// Returns the name used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::Latency => "latency",
            Self::NewException => "new_exception",
            Self::NewLog => "new_log",
            Self::Throughput => "throughput",
            Self::Silence => "silence",
            Self::Metric => "metric",
        }
    }
}

/// A measured value and the number of observations behind it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The value, in the finding's unit.
    pub value: f64,
    /// Observations.
    pub n: u64,
}

/// Where the cause lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Culprit {
    /// Service to blame.
    pub service: String,
    /// Its version; empty where unknown.
    pub version: String,
    /// Its operation; empty where unknown.
    pub operation: String,
}

/// What a part of an excess has in common.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Common {
    /// A class of errors, an exception, or an attribute with its value.
    pub name: String,
    /// A second attribute with its value, where only both together explain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub and: Option<String>,
    /// Share of the excess that has it.
    pub share: f64,
    /// Counts the requests that had it, of both arms; empty where there is no such query.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sql: String,
}

impl Common {
    /// Names an attribute with its value, or both where there are two.
    pub fn conditions(&self) -> String {
        let and = self.and.iter().map(|and| format!(" and `{and}`"));
        std::iter::once(format!("`{}`", self.name)).chain(and).collect()
    }
}

/// Kitagawa's split of a difference between two pooled rates.
///
/// *Source.* Kitagawa, "Components of a difference between two rates" (1955).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Split {
    /// What rates within the strata contribute: this alone can trigger anything.
    pub within: f64,
    /// What a change of their weights contributes.
    pub mix: f64,
}

/// What a finding's sentence says beside its numbers; see [`crate::sentence`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// The version that is worse; empty where telemetry names none.
    pub version: String,
    /// What it was held against, for instance `on 1.9.3` or `before the deploy`.
    pub against: String,
    /// What it is about beside the operation: a callee, an exception, a message, a metric.
    pub subject: String,
    /// The feature flag of which `version` is the variant, where a flag's arms are compared.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub flag: String,
    /// The class or exception that most of the excess has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Common>,
    /// The attribute value that most of the excess falls on, or two of them together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Common>,
    /// The difference of the two values split into what happened within strata and what a change of mix did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
}

/// What the candidate was held against, in detail.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    /// Versions that serve as control.
    pub versions: Vec<String>,
    /// Days before at which the same hours were held as reference: 1 is yesterday, 7 a week ago.
    pub same_hours_days: Vec<u32>,
    /// Services that did not change and served as control against what all of them went through.
    pub untouched: Vec<String>,
    /// How the share of failed requests of the whole service changed, split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Split>,
}

/// One thing that got worse, and how that is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Deterministic identifier.
    pub id: FindingId,
    /// What got worse.
    pub signal: SignalKind,
    /// The service where it shows.
    pub service: String,
    /// The operation where it shows.
    pub operation: String,
    /// Where the cause lies.
    pub culprit: Culprit,
    /// The control's value.
    pub baseline: Sample,
    /// The candidate's value.
    pub candidate: Sample,
    /// Unit of both values, for instance `ratio` or `ms`.
    pub unit: String,
    /// Candidate over baseline.
    pub effect: f64,
    /// Interval of the effect, at 95 %, from none to ten thousand times: of counts, shares and latency a confidence sequence, which holds
    /// at every look as far as counts come in no larger bursts than were measured; of a metric's level a band of measured noise,
    /// which no look is promised ([`Self::holds_at_any_look`]).
    pub interval: [f64; 2],
    /// Evidence against "no worse than tolerated": the value of the e-process.
    pub e_value: f64,
    /// Anytime-valid p-value, `min(1, 1 / sup e)`.
    pub p_value: f64,
    /// Trace ids, as hex, of requests that show it.
    pub exemplars: Vec<String>,
    /// A query that reproduces the numbers.
    pub sql: String,
    /// One sentence for a human.
    pub summary: String,
    /// True where the cause lies elsewhere: shown as evidence, never counted on its own.
    #[serde(default)]
    pub symptom: bool,
    /// What the sentence is made from beside the numbers.
    #[serde(default)]
    pub explanation: Explanation,
}

/// Unit of findings of a metric's level.
pub const LEVEL: &str = "level";

impl Finding {
    /// Returns the finding as one sentence; what `summary` holds.
    pub fn sentence(&self) -> String {
        crate::sentence::of(self)
    }

    /// Says whether the interval is a confidence sequence, rather than a band of measured noise.
    pub fn holds_at_any_look(&self) -> bool {
        self.unit != LEVEL
    }
}

/// Whether a regression has been seen long enough to wake somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No regression has been seen.
    Clear,
    /// Seen, and waiting for the next window to agree.
    Suspected,
    /// Seen twice, or too large to wait for: this is what pages.
    Confirmed,
    /// Was confirmed, and has gone away.
    Recovered,
}

/// The conclusion on one deploy at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The deploy judged.
    pub deploy_id: DeployId,
    /// The answer.
    pub verdict: VerdictKind,
    /// True once the answer will not change of itself.
    pub decided: bool,
    /// What to do.
    pub recommendation: Recommendation,
    /// The comparison used.
    pub design: Design,
    /// What served as control in it.
    #[serde(default)]
    pub comparison: Comparison,
    /// When the deploy started.
    pub started_at: UnixNanos,
    /// When the answer was reached.
    pub decided_at: Option<UnixNanos>,
    /// Seconds that the present traffic needs until an answer, where there is none yet and a projection is possible.
    pub time_to_decide_s: Option<u64>,
    /// What got worse, worst first.
    pub findings: Vec<Finding>,
    /// What limits the trust to be put in the answer, as stable snake_case words.
    pub data_quality: Vec<String>,
    /// Suspected, confirmed or recovered.
    pub phase: Phase,
    /// One sentence for a human.
    pub summary: String,
    /// When this evaluation ran, in event time.
    pub evaluated_at: UnixNanos,
    /// Grows by one each time the answer or its findings change.
    pub revision: u64,
}
