//! Findings and verdicts as sentences.

use std::collections::BTreeSet;

use plimsoll_model::{Culprit, Design, Finding, SignalKind};

/// Says what a finding found.
pub(crate) fn finding(finding: &Finding, version: &str, against: &str, subject: &str) -> String {
    let Finding { service, operation, baseline, candidate, interval, .. } = finding;
    let calls = grouped(candidate.n);
    let who = if version.is_empty() { service.clone() } else { format!("{service} {version}") };
    let range = format!("{}-{}", times(interval[0]), times(interval[1]));
    let because = if subject.is_empty() { String::new() } else { format!(", {subject}") };
    let mut text = match finding.signal {
        SignalKind::ErrorRate if baseline.n == 0 => format!(
            "{who} `{operation}` fails {} of {calls} calls, nothing was there to compare it with and {} are tolerated{because}",
            percent(candidate.value),
            percent(baseline.value)
        ),
        SignalKind::ErrorRate => format!(
            "{who} `{operation}` fails {} of calls against {} {against} ({range}, {calls} calls){because}",
            percent(candidate.value),
            percent(baseline.value)
        ),
        SignalKind::Latency => format!(
            "{who} `{operation}` takes {} ms at p95 against {} ms {against} ({range}, {calls} calls)",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::Throughput if finding.unit == "calls/request" => format!(
            "{who} `{operation}` calls {subject} {} times a request against {} {against} ({calls} requests)",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::Throughput => format!(
            "{who} gets {} requests a second against {} before the deploy",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::NewLog if finding.unit == "ratio" => {
            format!("{who} logs the error {subject}, never seen before ({} of {calls} calls)", percent(candidate.value))
        }
        SignalKind::NewLog => format!(
            "{who} logs {} errors a request against {} {against} ({range}, {calls} calls)",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::Metric => format!(
            "{who} has {subject} at {} against {} {against} ({range})",
            number(candidate.value),
            number(baseline.value)
        ),
        SignalKind::Silence if subject.is_empty() => {
            format!("{who} has not served a single request since it was deployed")
        }
        SignalKind::Silence => format!("{who} has served nothing since {subject}"),
        _ => format!(
            "{who} `{operation}` throws {subject}, never seen before ({} of {calls} calls)",
            percent(candidate.value)
        ),
    };
    if finding.symptom {
        text.push_str(&format!("; the cause lies in {}", party(&finding.culprit)));
    }
    text
}

/// Names the control.
pub(crate) fn against(design: Design, versions: &BTreeSet<String>) -> String {
    match (design, versions.first()) {
        (Design::Concurrent, Some(version)) if versions.len() == 1 && !version.is_empty() => format!("on {version}"),
        (Design::Concurrent, _) => "on the other versions".to_owned(),
        (Design::Slo, _) => "that are tolerated".to_owned(),
        _ => "before the deploy".to_owned(),
    }
}

/// Names a party.
pub(crate) fn party(culprit: &Culprit) -> String {
    let mut text = culprit.service.clone();
    if !culprit.version.is_empty() {
        text.push_str(&format!(" {}", culprit.version));
    }
    if !culprit.operation.is_empty() {
        text.push_str(&format!(" `{}`", culprit.operation));
    }
    text
}

/// Writes a share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value == 0.0 || value >= 0.1 { format!("{value:.1} %") } else { format!("{value:.3} %") }
}

fn times(ratio: f64) -> String {
    if ratio >= 9_000.0 { "no upper bound".to_owned() } else { format!("{}x", number(ratio)) }
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Writes a count in groups of three.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(3_412), "3,412");
        assert_eq!(grouped(12), "12");
        assert_eq!(percent(0.051), "5.1 %");
        assert_eq!(percent(0.0002), "0.020 %");
        assert_eq!(times(4.1), "4.10x");
    }
}
