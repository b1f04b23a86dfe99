//! What a person is told of an event, in the words that every sink for people shares.

use plimsoll_model::{EventKind, Finding, Recommendation, RegressionEvent, UnixNanos};

/// Findings that are told in full; the rest is counted.
pub(crate) const FINDINGS_MAX: usize = 5;

/// Names what happened to what: `checkout 1.4.2 regressed in prod`.
pub(crate) fn title(event: &RegressionEvent) -> String {
    let deploy = &event.data.deploy;
    let happened = match event.kind {
        EventKind::Detected => "regressed",
        EventKind::Updated => "got worse still",
        EventKind::Resolved => "recovered",
    };
    let place = match deploy.service.environment.as_str() {
        "" => String::new(),
        environment => format!(" in {environment}"),
    };
    format!("{} {} {happened}{place}", deploy.service.service, deploy.version)
}

/// Says the same with the reason, in one line.
pub(crate) fn headline(event: &RegressionEvent) -> String {
    format!("{}: {}", title(event), reason(event))
}

/// Says why; that it is over stands in the title.
pub(crate) fn reason(event: &RegressionEvent) -> &str {
    let summary = event.data.verdict.summary.as_str();
    ["recovered: ", "recovered "].iter().find_map(|said| summary.strip_prefix(said)).unwrap_or(summary)
}

/// Says what to do.
pub(crate) fn advice(event: &RegressionEvent) -> &'static str {
    match (event.kind, event.data.verdict.recommendation) {
        (EventKind::Resolved, _) => "nothing is left to do",
        (_, Recommendation::Rollback) => "roll back",
        (_, Recommendation::Hold) => "hold",
        (_, Recommendation::Promote) => "promote",
    }
}

/// Returns the findings that are causes, worst first; symptoms of them only where there is nothing else.
pub(crate) fn causes(event: &RegressionEvent) -> Vec<&Finding> {
    let findings = &event.data.verdict.findings;
    let causes: Vec<_> = findings.iter().filter(|finding| !finding.symptom).collect();
    if causes.is_empty() { findings.iter().collect() } else { causes }
}

/// Returns the address if it is one that a person can open.
pub(crate) fn openable(address: &str) -> Option<&str> {
    let url = reqwest::Url::parse(address).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(address)
}

/// Writes a time to the millisecond, which is as fine as receivers read it.
pub(crate) fn to_the_millisecond(at: UnixNanos) -> String {
    UnixNanos::from_millis(at.0 / 1_000_000).to_rfc3339()
}

/// Cuts text to `most` characters, the last of them a sign that it was cut.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_characters_and_says_so() {
        assert_eq!(cut("über", 4), "über");
        assert_eq!(cut("überall", 4), "übe…");
        assert_eq!(cut("", 4), "");
    }

    #[test]
    fn only_web_addresses_can_be_opened() {
        assert_eq!(openable("https://ci.example/run/1"), Some("https://ci.example/run/1"));
        for address in ["", "run 1", "javascript:alert(1)", "file:///etc/passwd", "ci.example/run/1"] {
            assert_eq!(openable(address), None, "{address}");
        }
    }
}
