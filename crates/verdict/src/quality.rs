//! The words that say what limits the trust to be put in a verdict. They are stable: programs may rely on them.

use std::time::Duration;

use plimsoll_model::signal::WEIGHT_UNIT;
use plimsoll_model::{Bucket, Design};

use crate::findings::Test;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::subject::Subject;

/// No request has reached the candidate.
pub const NO_CANDIDATE_TRAFFIC: &str = "no_candidate_traffic";
/// Nothing exists to compare the candidate with.
pub const NO_BASELINE: &str = "no_baseline";
/// Too few requests for an answer.
pub const LOW_TRAFFIC: &str = "low_traffic";
/// Telemetry carries no `service.version`: everything since the start counts as the candidate.
pub const VERSION_MISSING: &str = "version_missing";
/// Traces were not whole enough to say where a failure or delay began.
pub const UNASSEMBLED_TRACES: &str = "unassembled_traces";
/// There was no room for all traces: who called whom, and where failures began, is known of a share of them.
pub const DRAWN_TRACES: &str = "drawn_traces";
/// Candidate and control instances are of different age.
pub const INSTANCE_AGE_DIFFERS: &str = "instance_age_differs";
/// Operations with little traffic were not shown to be well one by one.
pub const THIN_OPERATIONS: &str = "thin_operations";
/// A later deploy of the service ended the time in which this one could be judged.
pub const SUPERSEDED: &str = "superseded";
/// The history before the deploy is much shorter than wanted.
pub const SHORT_BASELINE: &str = "short_baseline";
/// A service that this one calls is failing or slow, and may be the cause.
pub const CALLEE_FAILING: &str = "callee_failing";
/// What got worse began with another deploy of the service that is judged at the same time, and is held against that.
pub const OTHER_DEPLOY: &str = "other_deploy";
/// What was known of the time before the start had to go in part or as a whole, for lack of room: what is left is compared with,
/// and where that is little nothing is held against an objective.
pub const BASELINE_EVICTED: &str = "baseline_evicted";
/// Counts come in bursts; evidence was tempered accordingly and takes longer.
pub const BURSTY: &str = "bursty";

/// An outage, or a time in which all was slow, within the time before the start was left out of what is compared with.
pub const INCIDENT_BEFORE: &str = "incident_before";

/// Something got worse that humans called wrong or known before; it decides nothing until that expires.
pub const SUPPRESSED: &str = "suppressed";
/// The marker came more than a minute after the start that it tells, or the start that it tells more than a minute after its version
/// came: what that did by then does not count, and what it threw and logged is known.
pub const MARKED_LATE: &str = "marked_late";
/// The marker came before the start that it tells: nothing is judged until then.
pub const MARKED_AHEAD: &str = "marked_ahead";
/// The version came well after the start that the marker tells, while the control served as ever: until then there was nothing to judge.
pub const MARKED_EARLY: &str = "marked_early";
/// So many deploys are open at once that each is looked at less than once a minute.
pub const MANY_DEPLOYS: &str = "many_deploys";
/// An operation was renamed with the candidate; it is compared under both names.
pub const RENAMED_OPERATION: &str = "renamed_operation";
/// An operation that only the candidate has was held against an objective.
pub const NEW_OPERATION: &str = "new_operation";

/// No telemetry names the service as its marker does, but some names it with another environment or namespace.
pub const SEEN_ELSEWHERE: &str = "seen_elsewhere";

/// Services that were not touched failed more at the same time; what they went through was not held against the deploy.
pub const SHARED_SHIFT: &str = "shared_shift";
/// For a while nothing came from anybody, or from most of the services that were not touched: nothing is concluded from what was
/// missing then.
pub const TELEMETRY_GAP: &str = "telemetry_gap";
/// The service changed likewise at the same hours before; that much was not held against the deploy.
pub const SEASONAL_SHIFT: &str = "seasonal_shift";
/// The service was changed at the same hours of a day before: that day excuses nothing.
pub const SEASON_CHANGED: &str = "season_changed";

/// Requests, failures and latency were read from the service's request metrics, not from spans.
pub const RATES_FROM_METRICS: &str = "rates_from_metrics";
/// What had piled up before it was sent is being delivered: the judgement goes as far as that has come.
pub const CATCHING_UP: &str = "catching_up";
/// The candidate was served from other zones than the control; what those alone explain was not held against it.
pub const ZONE_SHIFT: &str = "zone_shift";
/// The candidate logged a fatal error that was never logged before: nothing is promoted on that.
pub const NEW_FATAL: &str = "new_fatal";
/// The candidate gets another share of the traffic than its marker says: nothing is promoted on that.
pub const SAMPLE_RATIO: &str = "sample_ratio";
/// Spans were sampled and failures kept more often than the rest: shares are those of the weights.
pub const WEIGHTED_SPANS: &str = "weighted_spans";
/// Spans were sampled: each stands for several requests.
pub const SAMPLED_SPANS: &str = "sampled_spans";
/// No requests of the service are known: levels of its metrics show whether it is well.
pub const METRICS_ONLY: &str = "metrics_only";
/// No requests of the service are known: log records are counted in their place.
pub const LOGS_ONLY: &str = "logs_only";

/// Telemetry that is further behind than this had piled up.
const PILED_UP: Duration = Duration::from_secs(900);

/// A marker that comes so soon after the start comes with it.
const MARKED_WITHIN: Duration = Duration::from_secs(60);

/// Lists the words that apply, in alphabetical order.
pub(crate) fn words(input: &JudgeInput, fold: &Fold, tests: &[Test]) -> Vec<String> {
    let mut words = input.data_quality.clone();
    let mut say = |word: &str, applies: bool| {
        if applies {
            words.push(word.to_owned());
        }
    };
    let requests = fold.requests();
    let seen = requests > 0;
    let levels = fold.only_metrics();
    say(METRICS_ONLY, fold.by_levels());
    say(LOGS_ONLY, input.by_records);
    say(SAMPLED_SPANS, input.measured.is_none() && sampled(input));
    say(NO_CANDIDATE_TRAFFIC, !seen && !levels);
    say(NO_BASELINE, fold.control_requests() == 0 && !levels);
    say(LOW_TRAFFIC, seen && requests < 20 * input.tolerances.requests_min && slow(input, fold));
    say(VERSION_MISSING, fold.frame.version_missing);
    say(UNASSEMBLED_TRACES, !tests.iter().all(|test| test.traced));
    say(INSTANCE_AGE_DIFFERS, fold.operations.iter().any(|op| op.ages_differ));
    let thin = fold.operations.iter().filter(|op| op.candidate > 0 && (op.candidate as f64) < 0.1 * requests as f64);
    let unshown = |op: &crate::operation::Operation| {
        !op.errors.shown_well(&input.tolerances)
            || !op.latency.as_ref().is_some_and(|test| test.shown_well(&input.tolerances))
    };
    say(THIN_OPERATIONS, thin.into_iter().any(unshown));
    say(CATCHING_UP, input.behind > PILED_UP);
    say(ZONE_SHIFT, fold.operations.iter().any(|op| op.zones.told));
    say(SAMPLE_RATIO, fold.share.mismatch(&input.tolerances).is_some());
    say(SUPERSEDED, input.superseded_at.is_some());
    let short = fold
        .past_from
        .is_none_or(|first| (fold.frame.start.0.saturating_sub(first.0)) * 10 * 2 < input.tolerances.watch_max_s);
    let before_after = fold.design() == Design::BeforeAfter;
    say(SHORT_BASELINE, before_after && fold.control_requests() > 0 && short);
    say(SHARED_SHIFT, before_after && fold.drift.shared());
    let unheard = input.gaps.iter().any(|gap| gap.to > input.deploy.started_at);
    say(TELEMETRY_GAP, unheard || fold.drift.dark());
    let levels = fold.metrics.iter().any(|test| test.seasonal);
    say(SEASONAL_SHIFT, before_after && (fold.drift.seasonal || levels));
    say(SEASON_CHANGED, before_after && fold.drift.left_out);
    let own = &input.deploy.service.service;
    let left = |test: &&Test| test.standing.elsewhere;
    let blamed = |test: &Test| test.culprit.as_ref().map_or("", |culprit| culprit.service.as_str()) == own;
    say(CALLEE_FAILING, tests.iter().filter(left).any(|test| !blamed(test)));
    say(OTHER_DEPLOY, tests.iter().filter(left).any(blamed));
    let bursty = |op: &crate::operation::Operation| {
        op.candidate as f64 >= 0.1 * requests as f64 && op.errors.standing.dispersion >= 2.0
    };
    let left_out =
        |op: &crate::operation::Operation| op.candidate as f64 >= 0.1 * requests as f64 && op.incidents.any();
    say(INCIDENT_BEFORE, seen && fold.operations.iter().any(left_out));
    say(BURSTY, seen && fold.operations.iter().any(bursty));
    let (started, marked) = (input.deploy.started_at, input.deploy.created_at);
    let came_late = marked.since(started) > MARKED_WITHIN;
    say(MARKED_LATE, !input.deploy.inferred && (came_late || fold.dating.is_late()));
    say(MARKED_EARLY, fold.dating.is_early());
    say(MARKED_AHEAD, !input.deploy.inferred && started.since(marked) > Bucket::WIDTH);
    say(RENAMED_OPERATION, !fold.frame.renamed.is_empty());
    let fresh = |subject: &Subject| match subject {
        Subject::Alone(index) => {
            let op = &fold.operations[*index];
            op.before + op.control < input.tolerances.requests_min
        }
        _ => false,
    };
    let fresh = fold.control_requests() > 0 && fold.subjects().iter().any(|(subject, _)| fresh(subject));
    say(NEW_OPERATION, fresh);
    say(NEW_FATAL, !fold.new_fatals().is_empty());
    let silenced = |test: &&Test| test.standing.exceeded_at.is_some() && fold.is_suppressed(test.subject);
    say(SUPPRESSED, tests.iter().any(|test| silenced(&test)));
    words.sort();
    words.dedup();
    words
}

/// Spans that stand for more than themselves.
fn sampled(input: &JudgeInput) -> bool {
    let own = input.series.iter().filter(|s| s.key.service == input.deploy.service).flat_map(|s| &s.cells);
    let (n, weighted) = own.fold((0_u64, 0_u64), |sum, (_, c)| {
        (sum.0.saturating_add(c.requests), sum.1.saturating_add(c.weighted_requests / WEIGHT_UNIT))
    });
    weighted as f64 > 1.05 * n as f64
}

/// Fewer than one candidate request in two seconds.
fn slow(input: &JudgeInput, fold: &Fold) -> bool {
    let watched = fold.first.map_or(0, |first| input.known_until().since(first.start()).as_secs());
    fold.requests() * 2 < watched
}
