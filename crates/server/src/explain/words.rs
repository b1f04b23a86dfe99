//! Evidence, interval, comparison and data quality in words that need no statistics.

use std::sync::LazyLock;

use plimsoll_model::sentence::{grouped, lasting, percent};
use plimsoll_model::{Deploy, DeployKind, Design, Finding, Verdict};
use plimsoll_verdict::quality;
use serde::{Deserialize, Serialize};

/// A word of `data_quality`, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meaning {
    pub(crate) word: String,
    /// Empty where the word is not documented.
    pub(crate) meaning: String,
}

/// The tables that document the words: what is printed is what is written there.
const DOCUMENTS: [&str; 2] = [include_str!("../../../../docs/verdict.md"), include_str!("../../../../docs/signals.md")];

/// Words with what they mean.
static MEANINGS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let mut found = Vec::new();
    for line in DOCUMENTS.iter().flat_map(|text| text.lines()) {
        let Some((words, meaning)) = line.strip_prefix("| `").and_then(|rest| rest.split_once(" | ")) else { continue };
        let meaning = meaning.trim_end_matches('|').trim().replace('`', "");
        for word in words.split(',').map(|word| word.trim().trim_matches('`')) {
            let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if is_word && found.iter().all(|(known, _): &(String, String)| known != word) {
                found.push((word.to_owned(), meaning.clone()));
            }
        }
    }
    found
});

/// Says what the verdict's words of data quality mean.
pub(super) fn data_quality(verdict: &Verdict) -> Vec<Meaning> {
    let meaning = |word: &String| {
        let known = MEANINGS.iter().find(|(known, _)| known == word);
        Meaning { word: word.clone(), meaning: known.map(|(_, meaning)| meaning.clone()).unwrap_or_default() }
    };
    verdict.data_quality.iter().map(meaning).collect()
}

/// Says which comparison was used, and why that one.
pub(super) fn comparison(deploy: &Deploy, verdict: &Verdict) -> String {
    let control: Vec<&str> = verdict.comparison.versions.iter().map(String::as_str).filter(|v| !v.is_empty()).collect();
    let control = if control.is_empty() { "what served before".to_owned() } else { control.join(", ") };
    let mut text = match verdict.design {
        Design::Concurrent if deploy.kind == DeployKind::Flag => format!(
            "concurrent: requests under the variant side by side with those under {control}, ten seconds by ten seconds, in the \
             same instances; the strongest comparison, used because both arms serve"
        ),
        Design::Concurrent => format!(
            "concurrent: {} side by side with {control}, ten seconds by ten seconds; the strongest comparison, used because \
             both serve at the same time, so time of day cannot mislead it",
            deploy.version
        ),
        Design::BeforeAfter => format!(
            "before/after: {} against {control} in the time before the deploy; used because nothing serves beside it. It is the \
             weaker comparison, so its evidence counts for less",
            deploy.version
        ),
        Design::Slo => format!(
            "objective: {} against the share of failed requests that is tolerated; used because there is no past to compare it \
             with",
            deploy.version
        ),
    };
    if !verdict.comparison.same_hours_days.is_empty() {
        let days: Vec<String> = verdict.comparison.same_hours_days.iter().map(u32::to_string).collect();
        text.push_str(&format!("; the same hours {} days before serve as reference", days.join(", ")));
    }
    if !verdict.comparison.untouched.is_empty() {
        text.push_str(&format!("; what all went through is told from {}", verdict.comparison.untouched.join(", ")));
    }
    text
}

/// Says when it was decided, or when it may be.
pub(super) fn timing(verdict: &Verdict) -> String {
    match (verdict.decided_at, verdict.time_to_decide_s) {
        (Some(at), _) if verdict.decided => {
            format!("decided {} s after the start", at.since(verdict.started_at).as_secs())
        }
        (_, Some(seconds)) => format!("it takes about {} more at the present traffic", lasting(seconds)),
        _ if verdict.data_quality.iter().any(|word| word == quality::NEW_FATAL) => {
            "not decided; a fatal error that was never logged before forbids a pass, whatever traffic comes".to_owned()
        }
        _ => "not decided; the present traffic allows no projection".to_owned(),
    }
}

/// Says what an e-value says.
pub(super) fn evidence(finding: &Finding) -> String {
    let value = finding.e_value;
    if value < 2.0 {
        return "none on its own: it is listed because it goes along with another finding".to_owned();
    }
    let odds = if value >= 1e6 { "a million".to_owned() } else { grouped(value as u64) };
    format!(
        "counts like these come up in less than 1 in {odds} deploys that are in truth no worse, however often one looks \
         (e-value {})",
        if value < 1e6 { format!("{value:.1}") } else { format!("{value:.1e}") }
    )
}

/// Says what the interval of the effect says.
pub(super) fn interval(finding: &Finding) -> String {
    let [low, high] = finding.interval;
    let times = |ratio: f64| if ratio >= 10.0 { format!("{ratio:.0}") } else { format!("{ratio:.2}") };
    if finding.signal == plimsoll_model::SignalKind::Silence && finding.unit == "requests/s" {
        return "nothing is emitted, so there is nothing to measure".to_owned();
    }
    let how_sure = if finding.holds_at_any_look() {
        "with 95 % confidence, however often one looks"
    } else {
        "as far as it moves by itself as it did before: a band of its noise, and no promise for every look"
    };
    if high >= 9_000.0 {
        return format!("the true value is at least {} times the control's, {how_sure}", times(low));
    }
    format!("the true value is between {} and {} times the control's, {how_sure}", times(low), times(high))
}

/// Says Kitagawa's split of the difference.
pub(super) fn split(finding: &Finding) -> Option<String> {
    let split = finding.explanation.split?;
    let points = |share: f64| format!("{:+.2} points", share * 100.0);
    Some(format!(
        "{} within operations and instances of equal age; {} because their weights changed, which never counts",
        points(split.within),
        points(split.mix)
    ))
}

/// Says what most of the excess has in common.
pub(super) fn common(finding: &Finding) -> Vec<String> {
    let explanation = &finding.explanation;
    let cause =
        explanation.cause.iter().map(|cause| format!("{} of the excess is {}", percent(cause.share), cause.name));
    let place = explanation
        .place
        .iter()
        .map(|place| format!("{} of the excess falls on {}", percent(place.share), place.conditions()));
    cause.chain(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_at_every_look_is_claimed_of_what_has_it() {
        let told = |unit: &str, interval: [f64; 2]| {
            let finding = serde_json::json!({
                "id": "fnd_a", "signal": if unit == "restarts/h" { "silence" } else { "metric" }, "service": "payment",
                "operation": "", "culprit": {"service": "payment", "version": "2.0.0", "operation": ""},
                "baseline": {"value": 1.0, "n": 5}, "candidate": {"value": 4.0, "n": 5}, "unit": unit, "effect": 4.0,
                "interval": interval, "e_value": 500.0, "p_value": 0.002, "exemplars": [], "sql": "", "summary": "",
                "symptom": false, "explanation": {}
            });
            super::interval(&serde_json::from_value(finding).expect("a finding"))
        };
        let level = told("level", [3.0, 5.0]);
        assert!(level.contains("between 3.00 and 5.00 times") && level.contains("a band of its noise"), "{level}");
        assert!(!level.contains("confidence"), "{level}");
        let share = told("ratio", [3.0, 5.0]);
        assert!(share.contains("95 % confidence, however often one looks"), "{share}");
        assert!(told("restarts/h", [3.0, 1e4]).contains("at least 3.00 times"));
    }

    #[test]
    fn every_word_that_a_verdict_may_say_is_documented() {
        use plimsoll_verdict::quality as q;
        let words = [
            q::NO_CANDIDATE_TRAFFIC,
            q::NO_BASELINE,
            q::LOW_TRAFFIC,
            q::VERSION_MISSING,
            q::UNASSEMBLED_TRACES,
            q::DRAWN_TRACES,
            q::INSTANCE_AGE_DIFFERS,
            q::THIN_OPERATIONS,
            q::SUPERSEDED,
            q::SHORT_BASELINE,
            q::CALLEE_FAILING,
            q::BURSTY,
            q::SUPPRESSED,
            q::RENAMED_OPERATION,
            q::NEW_OPERATION,
            q::NEW_FATAL,
            q::MARKED_LATE,
            q::MARKED_AHEAD,
            q::MARKED_EARLY,
            "version_churn",
            "announced_elsewhere",
            "late_spans",
            "clock_skew",
            "broken_parents",
            "misdated_spans",
            "duplicate_spans",
        ];
        for word in words {
            let known = MEANINGS.iter().find(|(known, _)| known == word);
            assert!(known.is_some_and(|(_, meaning)| meaning.len() > 10), "`{word}` has no line in docs");
        }
    }
}
