//! The words that say what limits the trust to be put in a verdict. They are stable: programs may rely on them.

use plimsoll_model::Design;

use crate::design::Comparison;
use crate::gate::Test;
use crate::input::JudgeInput;
use crate::judge;

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
/// Counts come in bursts; evidence was tempered accordingly and takes longer.
pub const BURSTY: &str = "bursty";

/// Lists the words that apply, in alphabetical order.
pub(crate) fn words(input: &JudgeInput, comparison: &Comparison<'_>, tests: &[Test<'_>]) -> Vec<String> {
    let mut words = input.data_quality.clone();
    let mut say = |word: &str, applies: bool| {
        if applies {
            words.push(word.to_owned());
        }
    };
    let seen = comparison.requests > 0;
    say(NO_CANDIDATE_TRAFFIC, !seen);
    say(NO_BASELINE, comparison.control_requests == 0);
    say(LOW_TRAFFIC, seen && comparison.requests < 20 * input.tolerances.requests_min && slow(input, comparison));
    say(VERSION_MISSING, comparison.version_missing);
    say(UNASSEMBLED_TRACES, !judge::traced(tests));
    let pairs = || comparison.operations.iter().flat_map(|op| &op.pairs);
    say(INSTANCE_AGE_DIFFERS, pairs().any(|pair| !pair.same_age));
    say(THIN_OPERATIONS, tests.iter().any(|t| t.share < 0.1 && !t.assessment().shown_well));
    say(SUPERSEDED, input.superseded_at.is_some());
    let first = comparison.operations.iter().filter_map(|op| op.before.first().map(|c| c.0)).min();
    let start = input.deploy.started_at.bucket();
    let short = first.is_none_or(|first| (start.0.saturating_sub(first.0)) * 10 * 2 < input.tolerances.watch_max_s);
    say(SHORT_BASELINE, comparison.design == Design::BeforeAfter && comparison.control_requests > 0 && short);
    say(CALLEE_FAILING, tests.iter().any(Test::elsewhere));
    say(BURSTY, tests.iter().any(|t| t.share >= 0.1 && t.assessment().dispersion >= 2.0));
    words.sort();
    words.dedup();
    words
}

/// Fewer than one candidate request in two seconds.
fn slow(input: &JudgeInput, comparison: &Comparison<'_>) -> bool {
    let watched = comparison.first.map_or(0, |first| input.now.since(first.start()).as_secs());
    comparison.requests * 2 < watched
}
